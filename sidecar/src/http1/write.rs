//! Write: the bytes of a request and of an answer.
//!
//! Cost: per message; appended to the connection's buffer, no allocation once that has grown.
//! Names, values, methods and targets are types that hold no line break, so nothing a peer sends can end a line here.

use crate::fields::{Fields, Lines, Name};
use http::{HeaderMap, Method, StatusCode};

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Nothing,
    /// By its length.
    Length(u64),
    /// By a last chunk.
    Chunked,
}

/// The head of a request, as its parts.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Path and query.
    pub target: &'a str,
    /// The value of its Host field.
    pub host: &'a [u8],
    /// The other fields that came with it. Those that tell its framing are passed over.
    pub fields: &'a Fields,
    /// Lines that come behind them.
    pub added: &'a [u8],
}

/// Appends the head of a request. Its framing is written here and nowhere else, whatever the fields say.
pub fn head(out: &mut Vec<u8>, head: &Head<'_>, framing: Framing) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(head.host);
    out.extend_from_slice(b"\r\n");
    head.fields.write(out, |name| !matches!(name, Name::Host | Name::ContentLength | Name::TransferEncoding));
    out.extend_from_slice(head.added);
    match framing {
        Framing::Nothing if head.fields.get(Name::ContentLength).is_some() => field(out, b"content-length", b"0"),
        Framing::Nothing => {}
        Framing::Length(length) => length_field(out, length),
        Framing::Chunked => field(out, b"transfer-encoding", b"chunked"),
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of an answer without the empty line that ends it. Its framing is written here and nowhere else; `None` leaves
/// the length that the fields name, of a body that is not sent. What is said of our own names a length in that case only.
pub fn answer(out: &mut Vec<u8>, status: StatusCode, passed: &Fields, own: Option<&Lines>, framing: Option<Framing>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    passed.write(out, |name| !(name == Name::TransferEncoding || (framing.is_some() && name == Name::ContentLength)));
    if let Some(own) = own {
        out.extend_from_slice(own.as_bytes());
    }
    match framing {
        Some(Framing::Length(length)) => length_field(out, length),
        Some(Framing::Chunked) => field(out, b"transfer-encoding", b"chunked"),
        Some(Framing::Nothing) | None => {}
    }
}

/// Appends an informational answer (RFC 9110 section 15.2). It has no body, whatever its fields say.
pub fn informational(out: &mut Vec<u8>, status: StatusCode, passed: &Fields) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    passed.write(out, |name| !matches!(name, Name::TransferEncoding | Name::ContentLength));
    out.extend_from_slice(b"\r\n");
}

/// Appends one field. Inlined, so that a name that is written in the source is no text to copy but a number to store.
#[inline]
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn length_field(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    digits(out, length, 10);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in base 10 or 16. The formatter of the standard library takes ten times as long.
fn digits(out: &mut Vec<u8>, mut number: u64, base: u32) {
    let mut text = [b'0'; 20];
    let mut used = 0;
    for place in text.iter_mut().rev() {
        let digit = u32::try_from(number % u64::from(base)).unwrap_or(0);
        *place = char::from_digit(digit, base).map_or(b'0', |digit| digit as u8);
        number /= u64::from(base);
        used += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(text.get(text.len() - used..).unwrap_or_default());
}

/// Appends one chunk; its bytes are not empty, or it would be the last.
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        chunk_size(out, data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the line that a chunk of this size, which is not 0, begins with.
pub fn chunk_size(out: &mut Vec<u8>, size: usize) {
    digits(out, size as u64, 16);
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk with its trailers.
pub fn last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn written(framing: Framing, fields: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let mut out = Vec::new();
        let fields = Fields::from(&headers);
        let parts = Head { method: &Method::POST, target: "/a?b", host: b"a", fields: &fields, added: b"y: 3\r\n" };
        head(&mut out, &parts, framing);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_says_once_where_its_body_ends() {
        for (framing, fields, expected) in [
            (Framing::Nothing, &[("host", "b")][..], "POST /a?b HTTP/1.1\r\nhost: a\r\ny: 3\r\n\r\n"),
            (Framing::Nothing, &[("content-length", "0")], "POST /a?b HTTP/1.1\r\nhost: a\r\ny: 3\r\ncontent-length: 0\r\n\r\n"),
            (Framing::Length(7), &[("content-length", "9")], "POST /a?b HTTP/1.1\r\nhost: a\r\ny: 3\r\ncontent-length: 7\r\n\r\n"),
            (
                Framing::Chunked,
                &[("content-length", "9"), ("transfer-encoding", "gzip"), ("x", "1"), ("x", "2")],
                "POST /a?b HTTP/1.1\r\nhost: a\r\nx: 1\r\nx: 2\r\ny: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            ),
        ] {
            assert_eq!(written(framing, fields), expected);
        }
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for number in [0, 7, 9, 10, 15, 16, 255, 1_024, 65_536, u64::MAX] {
            let (mut decimal, mut hexadecimal) = (Vec::new(), Vec::new());
            digits(&mut decimal, number, 10);
            digits(&mut hexadecimal, number, 16);
            assert_eq!([decimal, hexadecimal].map(|text| String::from_utf8(text).unwrap()), [format!("{number}"), format!("{number:x}")]);
        }
    }

    #[test]
    fn chunks_carry_their_size_and_only_the_last_is_empty() {
        let mut out = Vec::new();
        chunk(&mut out, b"0123456789abcdef!");
        chunk(&mut out, b"");
        last_chunk(&mut out, Some(&HeaderMap::from_iter([(http::header::ETAG, "\"1\"".parse().unwrap())])));
        assert_eq!(out, b"11\r\n0123456789abcdef!\r\n0\r\netag: \"1\"\r\n\r\n");
    }
}
