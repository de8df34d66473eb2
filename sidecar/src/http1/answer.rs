//! Answer: the head of an upstream's answer, and where its body ends.
//!
//! Cost: per answer; its bytes looked at once, its fields noted where they stand in the buffer they came in, no allocation.

use super::scan;
use super::section::{FIELDS_INLINE, Section, Untidy, end_of_line};
use super::{Malformed, number};
use crate::fields::{Fields, Name};
use bytes::BytesMut;
use http::{Method, StatusCode};
use httparse::{ParserConfig, Status};
use std::mem::MaybeUninit;

/// Bytes of a head.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Informational answers (1xx) before the one that counts.
pub const INFORMATIONAL_MAX: u8 = 16;

/// How the end of an answer's body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Nothing,
    /// So many bytes are to come.
    Length(u64),
    /// By a last chunk.
    Chunked,
    /// By the end of the connection.
    UntilEnd,
}

/// A head, read.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: Fields,
    /// Where its body ends.
    pub framing: Framing,
    /// Whether the connection may be used again behind the body.
    pub keeps: bool,
}

/// Reads heads of one connection; keeps its memory between them.
#[derive(Debug, Default)]
pub struct Reader {
    section: Section,
    /// Fields of an answer that may not be whole; the request's are needed until it is.
    plain: Fields,
    informational: u8,
    /// Informational answers that nobody has taken yet.
    informed: Vec<(StatusCode, Fields)>,
    /// Bytes that were looked at and held no end.
    seen: usize,
}

impl Reader {
    /// Takes the head out of `input`, once all of it is there; `request` is what it answers, and `fields` is used for its fields
    /// when it is there. Informational answers before it are put aside; a change of protocols (101) is none of those.
    ///
    /// # Errors
    /// Why it is no head.
    pub fn head(&mut self, input: &mut BytesMut, request: &Method, fields: &mut Fields) -> Result<Option<Head>, Malformed> {
        // Without a new line end nothing is new to a parser.
        if self.seen > 0 && !input.get(self.seen..).unwrap_or_default().contains(&b'\n') && input.len() < HEAD_BYTES_MAX {
            self.seen = input.len();
            return Ok(None);
        }
        loop {
            // The parser passes over empty lines, anew with each that comes.
            if matches!(input.first(), Some(b'\r' | b'\n')) {
                return Err(Malformed::LineEnd);
            }
            let plain = self.plain(input);
            let is_plain = plain.is_some();
            let Some((bytes, code, is_11)) = plain.map_or_else(|| self.parse(input), |found| Ok(Some(found)))? else {
                self.seen = input.len();
                return Ok(None);
            };
            self.seen = 0;
            let head = input.split_to(bytes);
            if (100..200).contains(&code) && code != 101 {
                self.informational += 1;
                if self.informational > INFORMATIONAL_MAX {
                    return Err(Malformed::TooManyInformational);
                }
                let status = StatusCode::from_u16(code).map_err(|_| Malformed::Status)?;
                let mut informed = Fields::default();
                self.take(&mut informed, head, is_plain)?;
                self.informed.push((status, informed));
                continue;
            }
            self.informational = 0;
            let status = StatusCode::from_u16(code).map_err(|_| Malformed::Status)?;
            let mut headers = std::mem::take(fields);
            self.take(&mut headers, head, is_plain)?;
            let (framing, keeps) = (framing(request, status, is_11, &mut headers)?, keeps(is_11, &headers));
            return Ok(Some(Head { status, headers, framing, keeps: keeps && framing != Framing::UntilEnd }));
        }
    }

    /// Informational answers that came, in their order; to be asked after every look for a head.
    pub fn informed(&mut self) -> impl Iterator<Item = (StatusCode, Fields)> {
        self.informed.drain(..)
    }

    /// Makes `fields` those of a head just found.
    fn take(&mut self, fields: &mut Fields, head: BytesMut, is_plain: bool) -> Result<(), Malformed> {
        if is_plain {
            std::mem::swap(fields, &mut self.plain);
            fields.over(head.freeze());
            self.plain.clear();
        } else {
            self.section.fill(fields, head).map_err(|Untidy| Malformed::HeadTooLarge)?;
        }
        Ok(())
    }

    /// The same of a head that is as nearly all are.
    fn plain(&mut self, input: &mut [u8]) -> Option<(usize, u16, bool)> {
        self.plain.clear();
        let scan::Answer { code, is_11, length } = scan::answer(input, &mut self.plain, FIELDS_INLINE)?;
        (length <= HEAD_BYTES_MAX).then_some((length, code, is_11))
    }

    /// Length, status and version of a whole head; its fields are put aside.
    fn parse(&mut self, input: &[u8]) -> Result<Option<(usize, u16, bool)>, Malformed> {
        let mut space = [const { MaybeUninit::uninit() }; FIELDS_INLINE];
        let mut response = httparse::Response::new(&mut []);
        match ParserConfig::default().parse_response_with_uninit_headers(&mut response, input, &mut space) {
            Ok(Status::Complete(bytes)) if bytes <= HEAD_BYTES_MAX => {
                let head = input.get(..bytes).unwrap_or_default();
                let line = head.iter().position(|byte| *byte == b'\n').unwrap_or_default();
                let start = line.checked_sub(1).and_then(|at| end_of_line(head, at)).ok_or(Malformed::LineEnd)?;
                self.section.take(head, start, response.headers).map_err(|Untidy| Malformed::LineEnd)?;
                Ok(Some((bytes, response.code.unwrap_or(0), response.version == Some(1))))
            }
            Ok(Status::Partial) if input.len() < HEAD_BYTES_MAX => Ok(None),
            Ok(_) => Err(Malformed::HeadTooLarge),
            Err(error) => Err(Malformed::Head(error)),
        }
    }
}

/// Where the body ends (RFC 9112 section 6.3), stricter than that: what leaves two readings is refused.
fn framing(request: &Method, status: StatusCode, is_11: bool, headers: &mut Fields) -> Result<Framing, Malformed> {
    let is_encoded = is_chunked(headers)?;
    let length = length(headers)?;
    if is_encoded && (length.is_some() || !is_11) {
        return Err(Malformed::LengthAndEncoding);
    }
    let has_none =
        *request == Method::HEAD || status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    Ok(match length {
        _ if has_none => Framing::Nothing,
        _ if is_encoded => Framing::Chunked,
        Some(0) => Framing::Nothing,
        Some(length) => Framing::Length(length),
        None => Framing::UntilEnd,
    })
}

fn is_chunked(headers: &Fields) -> Result<bool, Malformed> {
    let mut codings = headers.get_all(Name::TransferEncoding);
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(Malformed::Encoding),
    }
}

/// The one length; the same length said several times is said once from here on.
fn length(headers: &mut Fields) -> Result<Option<u64>, Malformed> {
    let Some(first) = headers.get(Name::ContentLength) else { return Ok(None) };
    let length = number(first).ok_or(Malformed::Length)?;
    if headers.get_all(Name::ContentLength).any(|other| number(other) != Some(length)) {
        return Err(Malformed::Length);
    }
    headers.keep_first(Name::ContentLength);
    Ok(Some(length))
}

/// Whether the connection goes on (RFC 9112 section 9.3).
fn keeps(is_11: bool, headers: &Fields) -> bool {
    let mut options = headers.texts(Name::Connection).flat_map(|value| value.split(','));
    if is_11 {
        !options.any(|option| option.trim().eq_ignore_ascii_case("close"))
    } else {
        options.any(|option| option.trim().eq_ignore_ascii_case("keep-alive"))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(method: &Method, text: &str) -> Result<Option<Head>, Malformed> {
        Reader::default().head(&mut BytesMut::from(text), method, &mut Fields::default())
    }

    #[test]
    fn the_end_of_a_body_is_told_in_one_way_or_not_at_all() {
        let get = Method::GET;
        for (method, text, framing, keeps) in [
            (&get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Framing::Length(5), true),
            (&get, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Framing::Nothing, true),
            (&get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", Framing::Length(5), true),
            (&get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", Framing::Chunked, true),
            (&get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x, Close\r\n\r\n", Framing::Chunked, false),
            (&get, "HTTP/1.1 200 OK\r\n\r\n", Framing::UntilEnd, false),
            (&get, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Framing::Length(5), false),
            (&get, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", Framing::Length(5), true),
            (&get, "HTTP/1.1 204 No Content\r\n\r\n", Framing::Nothing, true),
            (&get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Framing::Nothing, true),
            (&get, "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", Framing::Nothing, true),
            (&Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Framing::Nothing, true),
            (&Method::HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Framing::Nothing, true),
        ] {
            let head = read(method, text).unwrap().unwrap();
            assert_eq!((head.framing, head.keeps), (framing, keeps), "{text}");
        }
    }

    #[test]
    fn what_leaves_two_readings_is_refused() {
        for (text, why) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Malformed::Length),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", Malformed::Length),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", Malformed::Length),
            ("HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", Malformed::Length),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", Malformed::Length),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed::LengthAndEncoding),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed::LengthAndEncoding),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Malformed::Encoding),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed::Encoding),
            ("HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n", Malformed::LineEnd),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\n", Malformed::LineEnd),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\n", Malformed::LineEnd),
            ("HTTP/1.1 042 OK\r\n\r\n", Malformed::Status),
            ("SMTP ready\r\n\r\n", Malformed::Head(httparse::Error::Version)),
            ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Malformed::Head(httparse::Error::HeaderName)),
        ] {
            assert_eq!(read(&Method::GET, text).unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn informational_answers_are_skipped_and_floods_of_them_refused() {
        let once = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX: y\r\n\r\n";
        let head = read(&Method::GET, &format!("{}{answer}", once.repeat(16))).unwrap().unwrap();
        assert_eq!(
            (head.status.as_u16(), head.headers.len(), head.headers.get_named(&"x".parse().unwrap()).next().unwrap()),
            (200, 2, &b"y"[..])
        );
        assert_eq!(read(&Method::GET, &once.repeat(17)).unwrap_err(), Malformed::TooManyInformational);
    }

    #[test]
    fn a_head_has_bounds() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_INLINE + 1));
        assert_eq!(read(&Method::GET, &many).unwrap_err(), Malformed::Head(httparse::Error::TooManyHeaders));
        let endless = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(HEAD_BYTES_MAX));
        assert_eq!(read(&Method::GET, &endless).unwrap_err(), Malformed::HeadTooLarge);
    }

    proptest! {
        #[test]
        fn a_head_is_the_same_however_it_arrives(cut in 0_usize..80) {
            let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: \r\nx-b: c\r\n\r\nok";
            let cut = cut.min(text.len());
            let (mut reader, mut map) = (Reader::default(), Fields::default());
            let mut input = BytesMut::from(&text.as_bytes()[..cut]);
            let early = reader.head(&mut input, &Method::GET, &mut map).unwrap();
            input.extend_from_slice(&text.as_bytes()[cut..]);
            let head = match early { Some(head) => head, None => reader.head(&mut input, &Method::GET, &mut map).unwrap().unwrap() };
            prop_assert_eq!((head.status.as_u16(), head.framing, &input[..]), (200, Framing::Length(2), &b"ok"[..]));
            prop_assert_eq!(head.headers.get_named(&"x-a".parse().unwrap()).next().unwrap(), b"");
            prop_assert_eq!(head.headers.get_named(&"x-b".parse().unwrap()).next().unwrap(), b"c");
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut input = BytesMut::from("HTTP/1.1 200 OK\r\n");
            input.extend_from_slice(&bytes);
            let _ = Reader::default().head(&mut input, &Method::GET, &mut Fields::default());
        }
    }
}
