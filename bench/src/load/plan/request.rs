//! One request, whole: made before the run, so that it only has to be written.

use super::Protocol;
use super::target::Target;
use crate::load::answer::{Names, Status};
use crate::versus::step::Error;
use bytes::Bytes;
use std::fmt::Write as _;
use std::rc::Rc;
use std::str::FromStr;

/// A request of one tenant, and what its answer has to be.
#[derive(Default)]
pub(crate) struct Request {
    /// The tenant's place in the plan.
    pub(crate) tenant: usize,
    /// The tenant's name.
    pub(crate) asked_for: String,
    /// Its head in HTTP/1.1, or empty.
    pub(crate) head: Vec<u8>,
    /// Its head in HTTP/2.
    pub(crate) parts: http::Request<()>,
    pub(crate) body: Bytes,
    /// Answers to HEAD have no body.
    pub(crate) to_head: bool,
    /// Its answer ends with a `grpc-status`.
    pub(crate) grpc: bool,
    pub(crate) names: Option<Names>,
    pub(crate) expected: Rc<[u16]>,
}

impl Request {
    /// Without a list, every success is as expected. A call that HTTP refused never is.
    pub(crate) fn expects(&self, status: Status) -> bool {
        match status {
            Status::Http(_) if self.grpc => false,
            status if self.expected.is_empty() => status.is_success(),
            status => self.expected.contains(&status.code()),
        }
    }
}

/// A request of any tenant: `{tenant}` in its texts is the tenant's name.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) weight: f64,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Bytes,
    pub(crate) grpc: bool,
    pub(crate) expected: Rc<[u16]>,
}

/// Whose request it is to be.
pub(super) struct Asker<'a> {
    pub(super) tenant: usize,
    pub(super) name: &'a str,
    pub(super) host: Option<&'a str>,
    pub(super) token: Option<&'a str>,
    /// Those of every request.
    pub(super) headers: &'a [Header],
}

impl Kind {
    pub(super) fn request(&self, target: &Target, protocol: Protocol, asker: &Asker<'_>, names: Option<&Names>) -> Result<Request, Error> {
        let body = filled_body(&self.body, asker.name);
        let host = asker.host.unwrap_or(&target.authority);
        let path = filled(&self.path, asker.name);
        let fields = self.fields(asker, &body);
        let mut request = Request {
            tenant: asker.tenant,
            asked_for: asker.name.to_owned(),
            to_head: self.method == "HEAD",
            grpc: self.grpc,
            names: names.cloned(),
            expected: Rc::clone(&self.expected),
            body,
            ..Request::default()
        };
        match protocol {
            Protocol::Http1 => request.head = head(&self.method, &path, host, &fields),
            Protocol::Http2 { .. } => request.parts = parts(&self.method, &path, target.scheme.text(), host, &fields)?,
        }
        Ok(request)
    }

    fn fields(&self, asker: &Asker<'_>, body: &Bytes) -> Vec<(String, String)> {
        let field = |name: &str, value: String| (name.to_owned(), value);
        let headers = self.headers.iter().chain(asker.headers);
        let mut fields: Vec<_> = headers.map(|header| field(&header.name, filled(&header.value, asker.name))).collect();
        fields.extend(asker.token.map(|token| field("authorization", format!("Bearer {token}"))));
        if self.grpc {
            fields.extend([field("content-type", "application/grpc".to_owned()), field("te", "trailers".to_owned())]);
        } else if !body.is_empty() {
            fields.push(field("content-length", body.len().to_string()));
        }
        fields
    }
}

fn filled(text: &str, tenant: &str) -> String {
    text.replace("{tenant}", tenant)
}

/// Shared by all tenants, unless it names them.
fn filled_body(body: &Bytes, tenant: &str) -> Bytes {
    match std::str::from_utf8(body) {
        Ok(text) if text.contains("{tenant}") => filled(text, tenant).into(),
        _ => body.clone(),
    }
}

fn head(method: &str, path: &str, host: &str, fields: &[(String, String)]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
    for (name, value) in fields {
        // Writing to a String does not fail.
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Fields of one connection of HTTP/1.1, which HTTP/2 does not have (RFC 9113 §8.2.2).
const OF_HTTP1: [&str; 4] = ["connection", "keep-alive", "proxy-connection", "upgrade"];

fn parts(method: &str, path: &str, scheme: &str, host: &str, fields: &[(String, String)]) -> Result<http::Request<()>, Error> {
    let mut builder = http::Request::builder().method(method).uri(format!("{scheme}://{host}{path}")).version(http::Version::HTTP_2);
    for (name, value) in fields {
        if OF_HTTP1.iter().any(|of_http1| name.eq_ignore_ascii_case(of_http1)) {
            return Err(Error::Usage(format!("HTTP/2 has no header `{name}`: leave it out, or leave out --http2")));
        }
        builder = builder.header(name, value);
    }
    builder.body(()).map_err(|cause| Error::Usage(format!("`{method} {path}` at `{host}` cannot be a request of HTTP/2: {cause}")))
}

/// A header to add, `NAME: VALUE`.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    name: String,
    value: String,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("it is not `NAME: VALUE`")?;
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            || value.contains(['\r', '\n'])
        {
            return Err("its name has other bytes than letters, digits, - and _, or its value has a line break".to_owned());
        }
        // The framing is ours: a second length would make requests of our own into others.
        match name.to_ascii_lowercase().as_str() {
            "host" => Err("the host of a tenant is written with it: NAME@HOST".to_owned()),
            "content-length" | "transfer-encoding" => Err("bodies are given with --body or --body-size, and framed by that".to_owned()),
            _ => Ok(Self { name: name.to_owned(), value: value.trim().to_owned() }),
        }
    }
}

/// The message of a gRPC call, in its encoding: `FILE`, or `hex:BYTES`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message(Bytes);

impl Message {
    /// With the prefix that says that it is not compressed, and how long it is.
    pub(crate) fn framed(&self) -> Bytes {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        [&[0][..], &length.to_be_bytes(), &self.0].concat().into()
    }
}

impl FromStr for Message {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("hex:") {
            Some(digits) => hex(digits).ok_or_else(|| "what follows hex: is not pairs of the digits 0-9 and a-f".to_owned()),
            None => std::fs::read(text).map_err(|cause| format!("{cause}; give a file, or hex:BYTES")),
        }
        .map(|bytes| Self(bytes.into()))
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = digits.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let (pairs, []) = digits.as_deref()?.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_would_not_be_one_request_is_refused() {
        for bad in ["Host: a", "content-length: 1", "Transfer-Encoding: chunked", "a b: c", "a: b\r\nc: d", "none"] {
            assert!(bad.parse::<Header>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_message_is_framed_as_grpc_frames_it() {
        assert_eq!("hex:".parse::<Message>().unwrap().framed(), [0; 5][..]);
        assert_eq!("hex:0a03FF".parse::<Message>().unwrap().framed(), [0, 0, 0, 0, 3, 10, 3, 255][..]);
        for bad in ["hex:0", "hex:xy", "hex:0 ", "/no/such/file"] {
            assert!(bad.parse::<Message>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_call_is_judged_by_its_own_status_and_not_by_that_of_http() {
        let of = |grpc, expected: &[u16]| Request { grpc, expected: expected.into(), ..Request::default() };
        for (request, status, expected) in [
            (of(false, &[]), Status::Http(204), true),
            (of(false, &[]), Status::Http(404), false),
            (of(false, &[404]), Status::Http(404), true),
            (of(false, &[404]), Status::Http(200), false),
            (of(true, &[]), Status::Grpc(0), true),
            (of(true, &[]), Status::Grpc(5), false),
            (of(true, &[5]), Status::Grpc(5), true),
            (of(true, &[503]), Status::Http(503), false),
        ] {
            assert_eq!(request.expects(status), expected, "{status} of {:?}", request.expected);
        }
    }
}
