//! Write: the bytes of a request and of an answer.
//!
//! Cost: per message; appended to the connection's buffer, no allocation once that has grown.
//! Names, values, methods and targets are types that hold no line break, so nothing a peer sends can end a line here.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode};
use std::io::Write as _;

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

/// Appends the head of a request. Its framing is written here and nowhere else, whatever the fields say.
pub fn head(out: &mut Vec<u8>, method: &Method, target: &str, headers: &HeaderMap, framing: Framing) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let mut has_length = false;
    for (name, value) in headers {
        if name == CONTENT_LENGTH || name == TRANSFER_ENCODING {
            has_length |= name == CONTENT_LENGTH;
            continue;
        }
        field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    match framing {
        Framing::Nothing if has_length => field(out, b"content-length", b"0"),
        Framing::Nothing => {}
        Framing::Length(length) => length_field(out, length),
        Framing::Chunked => field(out, b"transfer-encoding", b"chunked"),
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of an answer without the empty line that ends it. Its framing is written here and nowhere else; `None` leaves
/// the length that the fields name, of a body that is not sent.
pub fn answer(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap, framing: Option<Framing>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        if name == TRANSFER_ENCODING || (framing.is_some() && name == CONTENT_LENGTH) {
            continue;
        }
        field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    match framing {
        Some(Framing::Length(length)) => length_field(out, length),
        Some(Framing::Chunked) => field(out, b"transfer-encoding", b"chunked"),
        Some(Framing::Nothing) | None => {}
    }
}

/// Appends one field.
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn length_field(out: &mut Vec<u8>, length: u64) {
    // A Vec takes everything.
    let _ = write!(out, "content-length: {length}\r\n");
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
    let _ = write!(out, "{size:x}\r\n");
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
        head(&mut out, &Method::POST, "/a?b", &headers, framing);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_says_once_where_its_body_ends() {
        for (framing, fields, expected) in [
            (Framing::Nothing, &[("host", "a")][..], "POST /a?b HTTP/1.1\r\nhost: a\r\n\r\n"),
            (Framing::Nothing, &[("content-length", "0"), ("host", "a")], "POST /a?b HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"),
            (Framing::Length(7), &[("content-length", "9"), ("host", "a")], "POST /a?b HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\n\r\n"),
            (
                Framing::Chunked,
                &[("content-length", "9"), ("transfer-encoding", "gzip"), ("x", "1"), ("x", "2")],
                "POST /a?b HTTP/1.1\r\nx: 1\r\nx: 2\r\ntransfer-encoding: chunked\r\n\r\n",
            ),
        ] {
            assert_eq!(written(framing, fields), expected);
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
