//! Scan: a head in its plainest form, read in one pass.
//!
//! Cost: per head; each byte of a name looked at once, those of a value sixteen at a time. No allocation.
//! Nearly every head is plain. One that is not, or not whole, is none of this file's: it says so, and a reader that knows why
//! ([`super::request`], [`super::answer`]) has its turn. So whatever is accepted here must be what that one would accept as the
//! same; `fuzzed/` and the tests below compare the two. It costs a third of what the parser and the look at what it found do.

use crate::fields::Fields;
use std::ops::Range;

/// Eight bytes of one, and of the high bit.
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// A request line and where its head ends; the fields are noted.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Range<usize>,
    /// The target.
    pub target: Range<usize>,
    /// HTTP/1.1, not 1.0.
    pub is_11: bool,
    /// Bytes of the whole head.
    pub length: usize,
}

/// A status line and where its head ends; the fields are noted.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status: three digits.
    pub code: u16,
    /// HTTP/1.1, not 1.0.
    pub is_11: bool,
    /// Bytes of the whole head.
    pub length: usize,
}

/// A request's head at the beginning of `input`, whose names are written in lower case; nothing if it is not whole or not plain.
pub fn request(input: &mut [u8], fields: &mut Fields, fields_max: usize) -> Option<Request> {
    let method = input.iter().position(|byte| !is_token(*byte)).filter(|end| *end > 0)?;
    let start = method + 1;
    let visible = input.get(start..)?.iter().position(|byte| !byte.is_ascii_graphic())?;
    let end = start + visible;
    if visible == 0 || input.get(method) != Some(&b' ') {
        return None;
    }
    let version: &[u8; 11] = input.get(end..)?.first_chunk()?;
    let is_11 = match version {
        b" HTTP/1.1\r\n" => true,
        b" HTTP/1.0\r\n" => false,
        _ => return None,
    };
    let length = section(input, end + version.len(), fields, fields_max)?;
    Some(Request { method: 0..method, target: start..end, is_11, length })
}

/// An answer's head at the beginning of `input`, whose names are written in lower case; nothing if it is not whole or not plain.
pub fn answer(input: &mut [u8], fields: &mut Fields, fields_max: usize) -> Option<Answer> {
    let (line, rest) = input.split_first_chunk::<13>()?;
    let is_11 = match line.first_chunk()? {
        b"HTTP/1.1 " => true,
        b"HTTP/1.0 " => false,
        _ => return None,
    };
    let [hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b' '] = line.last_chunk()? else { return None };
    let digit = |byte: &u8| u16::from(byte - b'0');
    let code = 100 * digit(hundreds) + 10 * digit(tens) + digit(ones);
    let reason = rest.iter().position(|byte| !matches!(byte, b' '..=b'~'))?;
    let end = line.len() + reason;
    if input.get(end..end + 2) != Some(b"\r\n") {
        return None;
    }
    let length = section(input, end + 2, fields, fields_max)?;
    Some(Answer { code, is_11, length })
}

/// The lines of fields from `at` to the empty one; where that ends.
fn section(input: &mut [u8], mut at: usize, fields: &mut Fields, fields_max: usize) -> Option<usize> {
    for _ in 0..=fields_max {
        if input.get(at) == Some(&b'\r') {
            return (input.get(at + 1) == Some(&b'\n')).then_some(at + 2);
        }
        let name = at..lower_name(input, at)?;
        let start = skip_blank(input, name.end + 1);
        let end = start + value(input.get(start..)?)?;
        if input.get(end..end + 2) != Some(b"\r\n") {
            return None;
        }
        let length = input.get(start..end)?.trim_ascii_end().len();
        fields.note_lower(input, name, start..start + length).ok()?;
        at = end + 2;
    }
    None
}

/// Writes the name at `at` in lower case; where its colon stands.
fn lower_name(input: &mut [u8], at: usize) -> Option<usize> {
    let text = input.get_mut(at..)?;
    let (mut length, (eights, _)) = (0, text.as_chunks_mut::<8>());
    for eight in eights {
        let (lower, plain) = lower_plain(u64::from_le_bytes(*eight));
        *eight = lower.to_le_bytes();
        length += plain;
        if plain < 8 {
            break;
        }
    }
    // It is the end of the name, or what names seldom have.
    for byte in text.get_mut(length..)? {
        match TOKEN.get(usize::from(*byte)) {
            Some(0) | None => return (length > 0 && *byte == b':').then_some(at + length),
            Some(lower) => *byte = *lower,
        }
        length += 1;
    }
    None
}

/// How many of eight bytes are letters, digits or hyphens before the first that is neither, and the eight with those in lower case.
fn lower_plain(eight: u64) -> (u64, usize) {
    // The high bit of each byte tells; what is added to seven bits carries into it and no further.
    let from = |seven: u64, first: u8| (seven & !HIGH) + ONES * u64::from(0x80 - first);
    // 0x20 is what small letters have and capitals have not; digits and the hyphen have it too.
    let lower = eight | (ONES * 0x20);
    let letters = from(lower, b'a') & !from(lower, b'z' + 1);
    let digits = from(eight, b'0') & !from(eight, b'9' + 1);
    let hyphens = from(eight, b'-') & !from(eight, b'-' + 1);
    let plain = (letters | digits | hyphens) & !eight & HIGH;
    let others = plain ^ HIGH;
    // Of what comes behind, nothing is touched: it may be a value. A bit of 0x80 moved by two is 0x20.
    let changed = (plain >> 2) & others.wrapping_sub(1) & !others;
    (eight | changed, usize::try_from(others.trailing_zeros() / 8).unwrap_or(8))
}

/// Bytes that may stand in a value; nothing if all may, because then it does not end.
fn value(input: &[u8]) -> Option<usize> {
    let (sixteens, _) = input.as_chunks::<16>();
    let mut at = 16 * sixteens.iter().take_while(|sixteen| !has_control(sixteen)).count();
    let (eights, _) = input.get(at..)?.as_chunks::<8>();
    for eight in eights {
        let controls = controls(u64::from_le_bytes(*eight));
        if controls != 0 {
            at += usize::try_from(controls.trailing_zeros() / 8).unwrap_or(0);
            break;
        }
        at += 8;
    }
    // It is the end of the value, or a tab, which may stand there.
    loop {
        match input.get(at)? {
            b'\t' | b' '..=b'~' | 0x80.. => at += 1,
            _ => return Some(at),
        }
    }
}

/// Whether any of sixteen bytes is below blank, or delete. Without a way out in between, so that the compiler looks at all at once:
/// the end of a token is far.
fn has_control(sixteen: &[u8; 16]) -> bool {
    sixteen.iter().fold(false, |has, byte| has | byte.is_ascii_control())
}

/// The high bit of the first of eight bytes that is below blank, or delete. Bytes behind it may be named wrongly, as a borrow does.
fn controls(eight: u64) -> u64 {
    let below = eight.wrapping_sub(ONES * 0x20) & !eight;
    let delete = eight ^ (ONES * 0x7f);
    (below | (delete.wrapping_sub(ONES) & !delete)) & HIGH
}

fn skip_blank(input: &[u8], mut at: usize) -> usize {
    while matches!(input.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    at
}

fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).is_some_and(|lower| *lower != 0)
}

/// The characters of a token (RFC 9110 section 5.6.2) in lower case; 0 is none.
const TOKEN: [u8; 256] = {
    let mut token = [0; 256];
    let mut byte = 0;
    while byte < token.len() {
        #[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "byte < 256; made by the compiler")]
        {
            token[byte] = match byte as u8 {
                letter @ (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9') => letter.to_ascii_lowercase(),
                mark @ (b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~') => mark,
                _ => 0,
            };
        }
        byte += 1;
    }
    token
};

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    /// What is written in most heads, and what is written to deceive.
    const PARTS: &[&str] = &[
        "GET",
        "get",
        " ",
        "/",
        "/a?b=c",
        "*",
        "HTTP/1.1",
        "HTTP/1.0",
        "HTTP/1.2",
        "\r\n",
        "\r",
        "\n",
        "\t",
        ":",
        ": ",
        "Host",
        "a.test",
        "X-Mine",
        "200",
        "99",
        "404 ",
        "OK",
        "value with blanks",
        "\u{e9}",
        "\0",
        "\u{7f}",
        "Content-Length: 5\r\n",
        "Host: a\r\n",
        "x:\r\n",
        "x: \t \r\n",
        "long-enough-to-fill-eight: a value that goes on\tand on, and on\r\n",
        "\r\n\r\n",
    ];

    fn near(begins: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
        let parts = proptest::collection::vec(proptest::sample::select(PARTS), 0..9);
        (proptest::sample::select(begins), parts, any::<bool>()).prop_map(|(begin, parts, ends)| {
            let end = if ends { "\r\n" } else { "" };
            [begin, &*parts.concat(), end].concat().into_bytes()
        })
    }

    /// Names and values of both must be the same.
    fn agree(head: &[u8], fields: &mut Fields, parsed: &[httparse::Header<'_>]) {
        fields.over(Bytes::copy_from_slice(head));
        let ours: Vec<_> = fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect();
        let theirs: Vec<_> = parsed.iter().map(|field| (field.name.to_lowercase().into_bytes(), field.value.to_vec())).collect();
        assert_eq!(ours, theirs);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn a_plain_request_is_what_another_parser_reads(bytes in near(&["GET / HTTP/1.1\r\n", "POST /a?b HTTP/1.0\r\n", "G\tT / HTTP/1.1\r\n", ""])) {
            let (mut lower, mut fields) = (bytes.clone(), Fields::default());
            let mut space = [httparse::EMPTY_HEADER; 16];
            let mut parsed = httparse::Request::new(&mut space);
            let theirs = parsed.parse(&bytes);
            if let Some(ours) = request(&mut lower, &mut fields, 16) {
                prop_assert_eq!(theirs, Ok(httparse::Status::Complete(ours.length)));
                prop_assert_eq!(parsed.method.unwrap().as_bytes(), &bytes[ours.method]);
                prop_assert_eq!(parsed.path.unwrap().as_bytes(), &bytes[ours.target]);
                prop_assert_eq!(parsed.version.unwrap() == 1, ours.is_11);
                agree(&lower, &mut fields, parsed.headers);
            }
        }

        #[test]
        fn a_plain_answer_is_what_another_parser_reads(bytes in near(&["HTTP/1.1 200 OK\r\n", "HTTP/1.0 404 \r\n", "HTTP/1.1 099 x\r\n", ""])) {
            let (mut lower, mut fields) = (bytes.clone(), Fields::default());
            let mut space = [httparse::EMPTY_HEADER; 16];
            let mut parsed = httparse::Response::new(&mut space);
            let theirs = parsed.parse(&bytes);
            if let Some(ours) = answer(&mut lower, &mut fields, 16) {
                prop_assert_eq!(theirs, Ok(httparse::Status::Complete(ours.length)));
                prop_assert_eq!((parsed.code, parsed.version), (Some(ours.code), Some(u8::from(ours.is_11))));
                agree(&lower, &mut fields, parsed.headers);
            }
        }

        #[test]
        fn the_first_control_of_eight_bytes_is_found(eight in proptest::array::uniform8(prop_oneof![any::<u8>(), b' '..=b'~'])) {
            let first = eight.iter().position(|byte| *byte < b' ' || *byte == 0x7f).unwrap_or(8);
            prop_assert_eq!(usize::try_from(controls(u64::from_le_bytes(eight)).trailing_zeros() / 8).unwrap(), first);
        }
    }

    proptest! {
        #[test]
        fn the_plain_ones_of_eight_bytes_are_found_and_nothing_behind_them_is_touched(
            eight in proptest::array::uniform8(prop_oneof![any::<u8>(), b'-'..=b':', b'A'..=b'Z', b'a'..=b'z', b'0'..=b'9']),
        ) {
            let plain = eight.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-').unwrap_or(8);
            let mut lower = eight;
            lower[..plain].make_ascii_lowercase();
            prop_assert_eq!(lower_plain(u64::from_le_bytes(eight)), (u64::from_le_bytes(lower), plain));
        }
    }

    #[test]
    fn heads_as_clients_and_servers_write_them_are_plain() {
        let mut head = *b"GET /v1/items?page=2 HTTP/1.1\r\nHost: acme.localhost\r\nAccept:*/*\r\nX-Empty:\r\n\r\nrest";
        let mut fields = Fields::default();
        let found = request(&mut head, &mut fields, 3).unwrap();
        assert_eq!((found.is_11, found.length, &head[found.target]), (true, head.len() - 4, &b"/v1/items?page=2"[..]));
        assert_eq!(request(&mut head, &mut Fields::default(), 2), None, "more fields than there may be");
        let mut head = *b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n";
        let found = answer(&mut head, &mut Fields::default(), 3).unwrap();
        assert_eq!((found.code, found.length), (204, head.len()));
    }
}
