//! A client of HTTP/2 that sends whatever it is told: fields are written as literals, so that no library tidies them.

use bulkhead_tests::Raw;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Statuses that stand in the static table (RFC 7541 appendix A), from index 8 on.
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
/// Names of errors (RFC 9113 section 7), by their number.
const ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// What became of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    Answered(u16, Vec<u8>),
    Reset(String),
}

/// Sends one request on a fresh connection and waits for what becomes of it.
pub(super) fn request(client: &mut Raw, fields: &[(Vec<u8>, Vec<u8>)], body: &[u8]) -> Result<Outcome, String> {
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    let end = if body.is_empty() { END_STREAM } else { 0 };
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, b""), &frame(HEADERS, END_HEADERS | end, 1, &block)].concat();
    if !body.is_empty() {
        bytes.extend(frame(DATA, END_STREAM, 1, body));
    }
    client.send(&bytes);
    let (mut status, mut text) = (0, Vec::new());
    loop {
        let head = client.exactly(9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = client.exactly(length)?;
        let is_ours = head[5..] == [0, 0, 0, 1];
        match head[3] {
            HEADERS if is_ours && status == 0 => status = self::status(&payload)?,
            DATA if is_ours => text.extend(payload),
            RST_STREAM if is_ours => return Ok(Outcome::Reset(error(&payload[..4]))),
            GOAWAY if status == 0 => return Ok(Outcome::Reset(error(&payload[4..8]))),
            _ => continue,
        }
        if head[4] & END_STREAM != 0 {
            return Ok(Outcome::Answered(status, text));
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A field without indexing, name and value as they are (RFC 7541 section 6.2.2).
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0], &length(name.len())[..], name, &length(value.len()), value].concat()
}

/// A length in seven bits and what follows them (RFC 7541 section 5.1).
fn length(length: usize) -> Vec<u8> {
    let Some(mut rest) = length.checked_sub(127) else { return vec![u8::try_from(length).unwrap()] };
    let mut bytes = vec![127];
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

/// The status, which is the first field of an answer.
fn status(block: &[u8]) -> Result<u16, String> {
    let fields = match block {
        [0x20..=0x3f, rest @ ..] => rest, // a new size of the table goes before
        all => all,
    };
    match fields {
        [indexed @ 0x88..=0x8e, ..] => Ok(STATUSES[usize::from(indexed - 0x88)]),
        [0x08 | 0x18 | 0x48, 3, digits @ ..] => number(&digits[..3]),
        [0x08 | 0x18 | 0x48, length, digits @ ..] if *length >= 0x80 => number(&huffman(&digits[..usize::from(length & 0x7f)])),
        _ => Err(format!("no status: {}", block.escape_ascii())),
    }
}

fn number(digits: &[u8]) -> Result<u16, String> {
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or_else(|| digits.escape_ascii().to_string())
}

/// Three digits in the code of RFC 7541 appendix B: 0, 1 and 2 have five bits, the others six.
fn huffman(bytes: &[u8]) -> Vec<u8> {
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut take = |count: usize, first: u8| bits.by_ref().take(count).fold(first, |number, bit| number << 1 | bit);
    (0..3)
        .map(|_| match take(5, 0) {
            small @ 0..=2 => b'0' + small,
            large => b'0' + take(1, large) - 0x19 + 3,
        })
        .collect()
}

fn error(bytes: &[u8]) -> String {
    let number = bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    ERRORS.get(number).map_or_else(|| number.to_string(), |name| (*name).to_owned())
}
