//! A request of HTTP/2 that an upstream gets in HTTP/1.1.

use super::upward;
use crate::http1::write::Framing;
use crate::request::head::Received;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};

/// Whether the bytes are a request that goes up: its method, path and authority in the first line, a space between them, and a
/// field in each other line. What no engine of HTTP/2 hands on, as a line break in a value, is left out.
///
/// # Panics
/// What goes up for it is not that one request.
pub fn check(data: &[u8]) -> bool {
    let Some(request) = request(data) else { return false };
    let framing = match request.headers().len() % 3 {
        0 => Framing::Nothing,
        1 => Framing::Chunked,
        _ => Framing::Length(data.len() as u64),
    };
    upward::check(Received::from(request.into_parts().0), framing)
}

fn request(data: &[u8]) -> Option<Request<()>> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut start = lines.next()?.splitn(3, |byte| *byte == b' ');
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = Method::from_bytes(start.next()?).ok()?;
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(PathAndQuery::try_from(start.next()?).ok()?);
    uri.authority = Some(Authority::try_from(start.next()?).ok()?);
    uri.scheme = Some(Scheme::HTTP);
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (line.get(..colon)?, line.get(colon + 1..).unwrap_or_default());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            request.headers_mut().append(name, value);
        }
    }
    Some(request)
}
