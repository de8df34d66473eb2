//! Request: the head of a client's request, and where its body ends.
//!
//! Cost: per request; its bytes looked at once, its values shared with the buffer they came in.
//! Stricter than RFC 9112 allows a server to be: what the standard lets one repair (section 2.2: LF alone, section 3: blanks in the
//! request line, section 5.2: folded lines) another repairs in another way, so it is refused, with its line.

use super::scan;
use super::section::{FIELDS_INLINE, Section, Untidy, end_of_line, place};
use crate::fields::{Fields, Name};
use crate::request::head::{Ambiguous, Received};
use bulkhead_config::path;
use bytes::{Bytes, BytesMut};
use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Uri, Version};
use httparse::{ParserConfig, Status};
use std::mem::MaybeUninit;

/// How the end of a request's body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Nothing,
    /// So many bytes are to come.
    Length(u64),
    /// By a last chunk.
    Chunked,
}

/// A head, read.
#[derive(Debug)]
pub struct Head {
    /// What it says.
    pub received: Received,
    /// Where its body ends; nowhere known, if that is why it is refused.
    pub framing: Framing,
    /// The client wants to go on with this connection.
    pub keeps: bool,
    /// The client sends its body once it is told to.
    pub expects_continue: bool,
}

/// Why bytes are no head. The message completes "the request cannot be read in one way only: …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A line ends in LF alone.
    #[error("line {0} does not end in CRLF")]
    LineEnd(usize),
    /// A CR that ends no line.
    #[error("line {0} has a CR in it")]
    BareCr(usize),
    /// The first line.
    #[error("the first line is not a method, a target and a version with one space between them")]
    RequestLine,
    /// Its target.
    #[error("the target is neither a path, nor an absolute URI, nor `*`")]
    Target,
    /// Empty lines before it.
    #[error("more than one empty line stands before it")]
    EmptyLines,
    /// A line that belongs to the one before.
    #[error("line {0} begins with a blank, as if it continued the line before")]
    Folded(usize),
    /// A blank where some ignore it and others do not.
    #[error("line {0} has a blank between the field's name and the colon")]
    BlankBeforeColon(usize),
    /// A name.
    #[error("line {0} does not begin with the name of a field and a colon")]
    Name(usize),
    /// A value.
    #[error("line {0} has a control character in its value")]
    Value(usize),
    /// The protocol of another port.
    #[error("it is a TLS handshake, and this port speaks HTTP without TLS")]
    Tls,
    /// Neither 1.0 nor 1.1.
    #[error("its version is neither HTTP/1.1 nor HTTP/1.0")]
    Version,
    /// Its first line alone.
    #[error("its target is longer than a head may be")]
    TargetTooLong,
    /// Bytes or fields.
    #[error("its head is larger than it may be")]
    TooLarge,
}

/// What a head may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes.
    pub bytes: usize,
    /// Fields.
    pub fields: usize,
}

/// Reads heads of one connection; keeps its memory between them.
#[derive(Debug, Default)]
pub struct Reader {
    section: Section,
    /// Bytes that were looked at and held no end.
    seen: usize,
}

/// Where the parts of a request line stand.
struct Line {
    method: Method,
    target: std::ops::Range<usize>,
    version: Version,
    /// Bytes of the whole head.
    length: usize,
}

impl Reader {
    /// Takes the head out of `input`, once all of it is there; `fields` is used for its fields.
    ///
    /// # Errors
    /// Why it is no head.
    pub fn head(&mut self, input: &mut BytesMut, fields: &mut Fields, bounds: Bounds) -> Result<Option<Head>, Unreadable> {
        // Without a new line end nothing is new to a parser, and who sends byte by byte is not read byte by byte.
        if self.seen > 0 && !input.get(self.seen..).unwrap_or_default().contains(&b'\n') && input.len() < bounds.bytes {
            self.seen = input.len();
            return Ok(None);
        }
        if begins_with_empty_lines(input) {
            return Err(diagnose(input, Unreadable::EmptyLines));
        }
        let plain = plain(input, fields, bounds);
        let is_plain = plain.is_some();
        let Some(line) = plain.map_or_else(|| self.parse(input, bounds), |line| Ok(Some(line)))? else {
            self.seen = input.len();
            return Ok(None);
        };
        self.seen = 0;
        let (mut headers, head) = (std::mem::take(fields), input.split_to(line.length));
        let head = if is_plain {
            let head = head.freeze();
            headers.over(head.clone());
            head
        } else {
            self.section.fill(&mut headers, head).map_err(|Untidy| Unreadable::TooLarge)?
        };
        let Line { method, target: at, version, .. } = line;
        let written = head.slice(at);
        // Where a path is read, a fragment is dropped: the path would be another one.
        let framing = if written.contains(&b'#') { Err(Ambiguous::Path(path::Ambiguous::Fragment)) } else { framing(version, &headers) };
        let (authority, path) = target(&method, written)?;
        let expects_continue =
            version == Version::HTTP_11 && headers.get(Name::Expect).is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
        // Who asks for a tunnel may be sending into it already.
        let keeps = keeps(version, &headers) && method != Method::CONNECT;
        let (framing, fault) = match framing {
            Ok(framing) => (framing, None),
            Err(fault) => (Framing::Nothing, Some(fault)),
        };
        let (keeps, expects_continue) = (keeps && fault.is_none(), expects_continue && framing != Framing::Nothing);
        let received = Received { method, authority, path, version, headers, fault };
        Ok(Some(Head { received, framing, keeps, expects_continue }))
    }

    fn parse(&mut self, input: &[u8], bounds: Bounds) -> Result<Option<Line>, Unreadable> {
        let mut inline = [const { MaybeUninit::uninit() }; FIELDS_INLINE];
        let mut more = Vec::new();
        let space = match inline.get_mut(..bounds.fields) {
            Some(space) => space,
            None => {
                more.resize_with(bounds.fields, MaybeUninit::uninit);
                &mut more
            }
        };
        let mut request = httparse::Request::new(&mut []);
        let length = match ParserConfig::default().parse_request_with_uninit_headers(&mut request, input, space) {
            Ok(Status::Complete(length)) if length <= bounds.bytes => length,
            Ok(Status::Partial) if input.len() < bounds.bytes => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(diagnose(input, too_large(input, bounds))),
            Err(httparse::Error::Version) => return Err(diagnose(input, Unreadable::Version)),
            Err(_) => return Err(diagnose(input, Unreadable::RequestLine)),
        };
        let head = input.get(..length).unwrap_or_default();
        let (Some(method), Some(path), Some(version)) = (request.method, request.path, request.version) else {
            return Err(Unreadable::RequestLine);
        };
        let start = place(head, method.as_bytes()).start;
        // At most one empty line before it (RFC 9112 section 2.2).
        if start != 0 && head.get(..start) != Some(b"\r\n") {
            return Err(diagnose(head, Unreadable::EmptyLines));
        }
        let target = place(head, path.as_bytes());
        let end = target.end + b" HTTP/1.1".len();
        let fields = (target.start == start + method.len() + 1).then(|| end_of_line(head, end)).flatten();
        let fields = fields.ok_or_else(|| diagnose(head, Unreadable::RequestLine))?;
        self.section.take(head, fields, request.headers).map_err(|Untidy| diagnose(head, Unreadable::RequestLine))?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| Unreadable::RequestLine)?;
        let version = if version == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
        Ok(Some(Line { method, target, version, length }))
    }
}

/// Whether more than one empty line stands before a request (RFC 9112 section 2.2). Looked at before the parser is asked, which
/// passes over any number of them, anew with each that comes.
fn begins_with_empty_lines(input: &[u8]) -> bool {
    matches!(input, [b'\n', ..] | [b'\r', b'\n', b'\r' | b'\n', ..])
}

/// A head that is as nearly all are; its fields are noted. Nothing of what is left in `fields` counts otherwise.
fn plain(input: &mut [u8], fields: &mut Fields, bounds: Bounds) -> Option<Line> {
    fields.clear();
    let found = scan::request(input, fields, bounds.fields).filter(|found| found.length <= bounds.bytes)?;
    let scan::Request { method, target, is_11, length } = found;
    let method = Method::from_bytes(input.get(method)?).ok()?;
    Some(Line { method, target, version: if is_11 { Version::HTTP_11 } else { Version::HTTP_10 }, length })
}

/// A head that is too large for its target alone is another's fault than one with too many fields (RFC 9112 section 3).
fn too_large(input: &[u8], bounds: Bounds) -> Unreadable {
    let head = input.get(..bounds.bytes).unwrap_or(input);
    let line = head.strip_prefix(b"\r\n").unwrap_or(head);
    let has_method = line.contains(&b' ');
    if has_method && !line.contains(&b'\n') { Unreadable::TargetTooLong } else { Unreadable::TooLarge }
}

/// The target's authority and path (RFC 9112 section 3.2).
fn target(method: &Method, target: Bytes) -> Result<(Option<Bytes>, Option<PathAndQuery>), Unreadable> {
    match target.first() {
        Some(b'/') => Ok((None, Some(PathAndQuery::from_maybe_shared(target).map_err(|_| Unreadable::Target)?))),
        Some(b'*') if target.len() == 1 => Ok((None, Some(PathAndQuery::from_static("*")))),
        _ => {
            let uri = Uri::from_maybe_shared(target.clone()).map_err(|_| Unreadable::Target)?;
            let is_absolute = matches!(uri.scheme_str(), Some("http" | "https"));
            if !is_absolute && method != Method::CONNECT {
                return Err(Unreadable::Target);
            }
            let authority = uri.authority().map(|authority| Bytes::copy_from_slice(authority.as_str().as_bytes()));
            // OPTIONS without a path means the server (RFC 9112 section 3.2.4); every other method `/`.
            let names_path = target
                .get(uri.scheme_str().map_or(0, str::len) + "://".len()..)
                .is_some_and(|rest| rest.iter().any(|byte| matches!(byte, b'/' | b'?')));
            let path = match uri.path_and_query().filter(|_| names_path) {
                // A query that follows the server's name at once belongs to the root; `Display` writes the slash, `as_str` does not.
                Some(query) if query.as_str().starts_with('?') => PathAndQuery::try_from(query.to_string()).ok(),
                path => path.cloned(),
            };
            let path = path.or_else(|| (method != Method::OPTIONS).then(|| PathAndQuery::from_static("/")));
            Ok((Some(authority.ok_or(Unreadable::Target)?), path))
        }
    }
}

/// Where the body ends (RFC 9112 section 6.3), stricter than that: what leaves two readings is refused.
fn framing(version: Version, headers: &Fields) -> Result<Framing, Ambiguous> {
    let mut codings = headers.get_all(Name::TransferEncoding);
    let mut lengths = headers.get_all(Name::ContentLength);
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(Framing::Nothing),
        (Some(_), Some(_)) => Err(Ambiguous::LengthAndEncoding),
        (Some(_), None) if version != Version::HTTP_11 => Err(Ambiguous::OldEncoding),
        (Some(coding), None) if codings.next().is_none() && coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (Some(_), None) => Err(Ambiguous::Encoding),
        (None, Some(_)) if lengths.next().is_some() => Err(Ambiguous::ManyLengths),
        (None, Some(length)) => match super::number(length) {
            Some(0) => Ok(Framing::Nothing),
            Some(length) => Ok(Framing::Length(length)),
            None => Err(Ambiguous::Length),
        },
    }
}

/// Whether the client wants to go on with the connection (RFC 9112 section 9.3).
fn keeps(version: Version, headers: &Fields) -> bool {
    if headers.get(Name::Connection).is_none() {
        return version == Version::HTTP_11;
    }
    let has = |wanted: &str| crate::request::head::connection_options(headers).any(|option| option.eq_ignore_ascii_case(wanted));
    !has("close") && (version == Version::HTTP_11 || has("keep-alive"))
}

/// Names what is wrong with a head, line by line; `otherwise`, if nothing is but what a parser saw.
fn diagnose(head: &[u8], otherwise: Unreadable) -> Unreadable {
    if head.starts_with(b"\x16\x03") {
        return Unreadable::Tls;
    }
    let mut number = 0;
    let mut is_first = true;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        number += 1;
        let Some(text) = line.strip_suffix(b"\n") else { return otherwise_in(line, number, is_first, otherwise) };
        let Some(text) = text.strip_suffix(b"\r") else { return Unreadable::LineEnd(number) };
        match text {
            [] if is_first => {}
            [] => return otherwise,
            _ => {
                if let Some(why) = wrong(text, number, is_first, otherwise) {
                    return why;
                }
                is_first = false;
            }
        }
    }
    otherwise
}

/// The last line, which is not whole.
fn otherwise_in(line: &[u8], number: usize, is_first: bool, otherwise: Unreadable) -> Unreadable {
    let is_whole_name = line.contains(&b':');
    if is_first || !is_whole_name { otherwise } else { wrong(line, number, false, otherwise).unwrap_or(otherwise) }
}

fn wrong(line: &[u8], number: usize, is_first: bool, otherwise: Unreadable) -> Option<Unreadable> {
    if line.contains(&b'\r') {
        return Some(Unreadable::BareCr(number));
    }
    if is_first {
        let is_fine =
            line.split(|byte| *byte == b' ').count() == 3 || matches!(otherwise, Unreadable::TooLarge | Unreadable::TargetTooLong);
        return (!is_fine).then_some(Unreadable::RequestLine);
    }
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Some(Unreadable::Folded(number));
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return Some(Unreadable::Name(number)) };
    let (name, value) = line.split_at_checked(colon)?;
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Some(Unreadable::BlankBeforeColon(number));
    }
    if HeaderName::from_bytes(name).is_err() {
        return Some(Unreadable::Name(number));
    }
    HeaderValue::from_bytes(value).is_err().then_some(Unreadable::Value(number))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { bytes: 1_024, fields: 20 };

    fn read(text: impl AsRef<[u8]>) -> Result<Option<Head>, Unreadable> {
        Reader::default().head(&mut BytesMut::from(text.as_ref()), &mut Fields::default(), BOUNDS)
    }

    #[test]
    fn the_end_of_a_body_is_told_in_one_way_or_the_request_is_refused() {
        for (fields, framing, fault) in [
            ("", Framing::Nothing, None),
            ("Content-Length: 0\r\n", Framing::Nothing, None),
            ("Content-Length: 17\r\n", Framing::Length(17), None),
            ("content-length:\t007 \r\n", Framing::Length(7), None),
            ("Transfer-Encoding: Chunked\r\n", Framing::Chunked, None),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Framing::Nothing, Some(Ambiguous::ManyLengths)),
            ("Content-Length: 5, 5\r\n", Framing::Nothing, Some(Ambiguous::Length)),
            ("Content-Length: +5\r\n", Framing::Nothing, Some(Ambiguous::Length)),
            ("Content-Length: \r\n", Framing::Nothing, Some(Ambiguous::Length)),
            ("Content-Length: 18446744073709551616\r\n", Framing::Nothing, Some(Ambiguous::Length)),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Framing::Nothing, Some(Ambiguous::LengthAndEncoding)),
            ("Transfer-Encoding: gzip, chunked\r\n", Framing::Nothing, Some(Ambiguous::Encoding)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Framing::Nothing, Some(Ambiguous::Encoding)),
            ("Transfer-Encoding: \x0bchunked\r\n", Framing::Nothing, None),
        ] {
            match read(format!("POST / HTTP/1.1\r\n{fields}\r\n")) {
                Ok(head) => {
                    let head = head.unwrap();
                    assert_eq!(head.keeps, fault.is_none(), "{fields}");
                    assert_eq!((head.framing, head.received.fault), (framing, fault), "{fields}");
                }
                Err(why) => assert_eq!(why, Unreadable::Value(2), "{fields}"),
            }
        }
        let fragment = read("GET /a#b HTTP/1.1\r\n\r\n").unwrap().unwrap();
        assert_eq!((fragment.keeps, fragment.received.fault), (false, Some(Ambiguous::Path(path::Ambiguous::Fragment))));
        let old = read("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap().unwrap();
        assert_eq!(old.received.fault, Some(Ambiguous::OldEncoding));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, why) in [
            ("GET / HTTP/1.1\nhost: a\r\n\r\n", Unreadable::LineEnd(1)),
            ("GET / HTTP/1.1\r\nhost: a\n\r\n", Unreadable::LineEnd(2)),
            ("GET / HTTP/1.1\r\nhost: a\r\n\n", Unreadable::LineEnd(3)),
            ("\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", Unreadable::LineEnd(1)),
            ("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", Unreadable::EmptyLines),
            ("GET / HTTP/1.1\r\nhost: a\rb: c\r\n\r\n", Unreadable::BareCr(2)),
            ("GET  / HTTP/1.1\r\n\r\n", Unreadable::RequestLine),
            ("GET /  HTTP/1.1\r\n\r\n", Unreadable::RequestLine),
            ("GET / HTTP/1.1 \r\n\r\n", Unreadable::RequestLine),
            (" GET / HTTP/1.1\r\n\r\n", Unreadable::RequestLine),
            ("GET\t/ HTTP/1.1\r\n\r\n", Unreadable::RequestLine),
            ("GET /\r\n\r\n", Unreadable::RequestLine),
            ("GET /a b HTTP/1.1\r\n\r\n", Unreadable::RequestLine),
            ("GET / HTTP/2.0\r\n\r\n", Unreadable::Version),
            ("GET / HTTP/1.2\r\n\r\n", Unreadable::Version),
            ("GET / http/1.1\r\n\r\n", Unreadable::Version),
            ("GET a HTTP/1.1\r\n\r\n", Unreadable::Target),
            ("GET ftp://a/ HTTP/1.1\r\n\r\n", Unreadable::Target),
            ("GET / HTTP/1.1\r\nhost: a\r\n b\r\n\r\n", Unreadable::Folded(3)),
            ("GET / HTTP/1.1\r\n host: a\r\n\r\n", Unreadable::Folded(2)),
            ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", Unreadable::BlankBeforeColon(2)),
            ("GET / HTTP/1.1\r\nhost\r\n\r\n", Unreadable::Name(2)),
            ("GET / HTTP/1.1\r\n: a\r\n\r\n", Unreadable::Name(2)),
            ("GET / HTTP/1.1\r\nh(st: a\r\n\r\n", Unreadable::Name(2)),
            ("GET / HTTP/1.1\r\nhost: a\x00\r\n\r\n", Unreadable::Value(2)),
            ("\x16\x03\x01\x02\x00\x01\x00", Unreadable::Tls),
        ] {
            assert_eq!(read(text).unwrap_err(), why, "{text:?}");
        }
    }

    #[test]
    fn a_head_has_bounds() {
        assert_eq!(read(format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(21))).unwrap_err(), Unreadable::TooLarge);
        assert_eq!(read(format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "a".repeat(1_024))).unwrap_err(), Unreadable::TooLarge);
        assert_eq!(read("A".repeat(1_024)).unwrap_err(), Unreadable::TooLarge);
        assert_eq!(read(format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1_024))).unwrap_err(), Unreadable::TargetTooLong);
        assert_eq!(read(format!("GET /{}", "a".repeat(1_024))).unwrap_err(), Unreadable::TargetTooLong);
    }

    #[test]
    fn targets_are_read_in_every_form_of_the_standard() {
        for (line, authority, path) in [
            ("GET /a?b", None, Some("/a?b")),
            ("OPTIONS *", None, Some("*")),
            ("GET http://a:80/b?c", Some("a:80"), Some("/b?c")),
            ("GET http://a", Some("a"), Some("/")),
            ("GET http://a?b", Some("a"), Some("/?b")),
            ("OPTIONS http://a", Some("a"), None),
            ("CONNECT a:80", Some("a:80"), Some("/")),
        ] {
            let head = read(format!("{line} HTTP/1.1\r\n\r\n")).unwrap().unwrap().received;
            assert_eq!(head.authority.as_ref().map(|it| std::str::from_utf8(it).unwrap()), authority, "{line}");
            assert_eq!(head.path.as_ref().map(PathAndQuery::as_str), path, "{line}");
        }
    }

    #[test]
    fn a_connection_goes_on_as_its_version_and_options_say() {
        for (version, connection, keeps) in [
            ("1.1", None, true),
            ("1.1", Some("close"), false),
            ("1.1", Some("x, Close"), false),
            ("1.1", Some("keep-alive"), true),
            ("1.0", None, false),
            ("1.0", Some("Keep-Alive"), true),
            ("1.0", Some("keep-alive, close"), false),
        ] {
            let field = connection.map_or(String::new(), |options| format!("connection: {options}\r\n"));
            let head = read(format!("GET / HTTP/{version}\r\n{field}\r\n")).unwrap().unwrap();
            assert_eq!(head.keeps, keeps, "{version} {connection:?}");
        }
    }

    proptest! {
        #[test]
        fn a_head_is_the_same_however_it_arrives(cuts in proptest::collection::vec(0_usize..120, 0..6)) {
            let text = "\r\nPOST /a?b HTTP/1.1\r\nHost: acme\r\nX-Empty:\r\nX-Blank: \t \r\nContent-Length:  3 \r\nexpect: 100-continue\r\n\r\nabc";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([text.len()]).collect();
            cuts.sort_unstable();
            let (mut reader, mut map, mut input, mut from, mut found) = (Reader::default(), Fields::default(), BytesMut::new(), 0, None);
            for to in cuts {
                input.extend_from_slice(&text.as_bytes()[from..to]);
                from = to;
                if found.is_none() {
                    found = reader.head(&mut input, &mut map, BOUNDS).unwrap();
                }
            }
            let head = found.unwrap();
            prop_assert_eq!((head.framing, head.expects_continue, head.keeps, &input[..]), (Framing::Length(3), true, true, &b"abc"[..]));
            prop_assert_eq!(head.received.headers.get_named(&"x-blank".parse().unwrap()).next().unwrap(), b"");
            prop_assert_eq!(head.received.headers.get(Name::Host).unwrap(), b"acme");
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), is_begun in any::<bool>()) {
            let mut input = BytesMut::from(if is_begun { "GET / HTTP/1.1\r\n" } else { "" });
            input.extend_from_slice(&bytes);
            let _ = Reader::default().head(&mut input, &mut Fields::default(), BOUNDS);
        }
    }
}
