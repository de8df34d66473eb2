//! One request in HTTP/2, whatever its fields hold: they are written as literals, so that no library tidies them.

use bulkhead_tests::{Frame, Http2, block, flag, kind};
use std::net::SocketAddr;

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
pub(super) fn request(to: SocketAddr, fields: &[(Vec<u8>, Vec<u8>)], body: &[u8]) -> Result<Outcome, String> {
    let mut client = Http2::connect(to, "");
    let end = if body.is_empty() { flag::END_STREAM } else { 0 };
    let mut frames = vec![Frame::new(kind::HEADERS, flag::END_HEADERS | end, 1, block(fields))];
    if !body.is_empty() {
        frames.push(Frame::new(kind::DATA, flag::END_STREAM, 1, body));
    }
    client.write(&frames).map_err(|why| why.to_string())?;
    let (mut status, mut text) = (0, Vec::new());
    while let Some(frame) = client.read() {
        let is_ours = frame.stream == 1;
        match frame.kind {
            kind::HEADERS if is_ours && status == 0 => status = self::status(&frame.payload)?,
            kind::DATA if is_ours => text.extend_from_slice(&frame.payload),
            kind::RST_STREAM if is_ours => return Ok(Outcome::Reset(error(frame.code()))),
            kind::GOAWAY if status == 0 => return Ok(Outcome::Reset(error(frame.code()))),
            _ => continue,
        }
        if frame.flags & flag::END_STREAM != 0 {
            return Ok(Outcome::Answered(status, text));
        }
    }
    Err("the connection ended without an answer".to_owned())
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

fn error(code: u32) -> String {
    let name = usize::try_from(code).ok().and_then(|code| ERRORS.get(code));
    name.map_or_else(|| code.to_string(), |name| (*name).to_owned())
}
