//! One answer of HTTP/1.1 as it arrives: its status, its end, and whose it says it is.
//!
//! Cost: per answer; one pass over the head, the body is skipped in place unless a field of it is to be read.

use crate::load::answer::{Answer, Names, Status, Whose};
use crate::load::plan::Request;
use std::borrow::Cow;

/// Headers of one answer.
const HEADERS_MAX: usize = 64;

/// A whole answer and what follows for its connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) answer: Answer,
    /// The connection can be used again.
    pub(super) stays: bool,
    /// Bytes of it, from its first to its last.
    pub(super) bytes: usize,
}

/// What cannot be an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The answer to `request` at the start of `read`, once all of it is there. `closed`: nothing more will come.
pub(super) fn parse(read: &[u8], closed: bool, request: &Request) -> Result<Option<Whole>, Malformed> {
    let mut skipped = 0;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        let rest = read.get(skipped..).unwrap_or_default();
        let httparse::Status::Complete(length) = head.parse(rest).map_err(|_| Malformed)? else { return Ok(None) };
        let status = head.code.ok_or(Malformed)?;
        // Interim answers (RFC 9110 §15.2) come before the one that counts.
        if (100..200).contains(&status) {
            skipped += length;
            continue;
        }
        let framing = Framing::of(status, request.to_head, head.headers)?;
        let body = rest.get(length..).unwrap_or_default();
        let Some((content, body_bytes)) = framing.take(body, closed)? else { return Ok(None) };
        let whose = request.names.as_ref().map_or(Whose::Unsaid, |names| whose(names, &request.asked_for, head.headers, &content));
        let stays = !closed && framing != Framing::UntilClosed && !says_close(head.headers) && head.version == Some(1);
        let answer = Answer { status: Status::Http(status), whose };
        return Ok(Some(Whole { answer, stays, bytes: skipped + length + body_bytes }));
    }
}

fn whose(names: &Names, asked_for: &str, headers: &[httparse::Header<'_>], content: &[u8]) -> Whose {
    match names {
        Names::Header(_) => names.in_headers(asked_for, headers.iter().map(|header| (header.name, header.value))),
        Names::Pointer(_) => names.in_body(asked_for, content),
    }
}

fn header<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

fn says_close(headers: &[httparse::Header<'_>]) -> bool {
    header(headers, "connection").is_some_and(|value| value.to_ascii_lowercase().windows(5).any(|word| word == b"close"))
}

/// What a body holds, and how many bytes of the connection it took.
type Content<'a> = (Cow<'a, [u8]>, usize);

/// How the end of a body is known (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClosed,
}

impl Framing {
    fn of(status: u16, to_head: bool, headers: &[httparse::Header<'_>]) -> Result<Self, Malformed> {
        if to_head || status == 204 || status == 304 {
            return Ok(Self::Length(0));
        }
        if let Some(coding) = header(headers, "transfer-encoding") {
            return if coding.eq_ignore_ascii_case(b"chunked") { Ok(Self::Chunked) } else { Err(Malformed) };
        }
        let Some(length) = header(headers, "content-length") else { return Ok(Self::UntilClosed) };
        let length = std::str::from_utf8(length).ok().and_then(|text| text.trim().parse().ok());
        length.map(Self::Length).ok_or(Malformed)
    }

    /// The content, once it is whole.
    fn take(self, body: &[u8], closed: bool) -> Result<Option<Content<'_>>, Malformed> {
        match self {
            Self::Length(length) => Ok(body.get(..length).map(|content| (content.into(), length))),
            Self::UntilClosed => Ok(closed.then(|| (body.into(), body.len()))),
            Self::Chunked => chunks(body).map(|whole| whole.map(|(content, bytes)| (content.into(), bytes))),
        }
    }
}

fn chunks(body: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
    let (mut content, mut at) = (Vec::new(), 0);
    loop {
        let rest = body.get(at..).unwrap_or_default();
        let (line, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Malformed),
        };
        let size = usize::try_from(size).map_err(|_| Malformed)?;
        at += line;
        if size == 0 {
            return trailers(body, at).map(|end| end.map(|end| (content, end)));
        }
        let end = at.checked_add(size).ok_or(Malformed)?;
        let Some(chunk) = body.get(at..end) else { return Ok(None) };
        content.extend_from_slice(chunk);
        at = end + 2;
    }
}

/// Where the trailer section that begins at `at` ends.
fn trailers(body: &[u8], at: usize) -> Result<Option<usize>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    match httparse::parse_headers(body.get(at..).unwrap_or_default(), &mut fields) {
        Ok(httparse::Status::Complete((length, _))) => Ok(Some(at + length)),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(Malformed),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn request(names: Option<Names>) -> Request {
        Request { names, asked_for: "acme".to_owned(), ..Request::default() }
    }

    fn whole(text: &str, closed: bool, names: Option<Names>) -> Whole {
        parse(text.as_bytes(), closed, &request(names)).unwrap().unwrap()
    }

    #[test]
    fn an_answer_ends_where_its_framing_says_and_not_a_byte_before() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nsum: 1\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        ] {
            for end in 0..text.len() {
                assert_eq!(parse(&text.as_bytes()[..end], false, &request(None)), Ok(None), "{end} of {text}");
            }
            let answer = whole(&format!("{text}HTTP"), false, None);
            assert_eq!((answer.bytes, answer.stays), (text.len(), true), "{text}");
        }
    }

    #[test]
    fn a_body_without_length_ends_with_its_connection() {
        let text = "HTTP/1.1 200 OK\r\n\r\nabc";
        assert_eq!(parse(text.as_bytes(), false, &request(None)), Ok(None));
        assert!(!whole(text, true, None).stays);
    }

    #[test]
    fn the_tenant_is_read_from_header_or_body() {
        let text = "HTTP/1.1 200 OK\r\nX-Tenant: acme\r\ncontent-length: 29\r\n\r\n{\"told\":{\"tenant\":\"globex\"}}\n";
        let globex = || Whose::Other("globex".to_owned());
        for (names, whose) in
            [("x-tenant", Whose::AsAsked), ("/told/tenant", globex()), ("/told", Whose::Unsaid), ("x-none", Whose::Unsaid)]
        {
            assert_eq!(whole(text, false, Some(names.parse().unwrap())).answer.whose, whose, "{names}");
        }
    }

    #[test]
    fn what_is_no_answer_is_malformed() {
        for text in [
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ] {
            assert_eq!(parse(text.as_bytes(), false, &request(None)), Err(Malformed), "{text}");
        }
    }
}
