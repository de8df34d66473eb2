//! Leak: an answer that names another tenant than its request's is not delivered.
//!
//! Cost: none for routes that do not ask for it. Else a look at a field, or the body held until it was looked through: a copy of
//! handles, one pass over its bytes, within a bound.
//! What comes first may be innocent and what comes last another's, so nothing of a body goes out before all of it was seen; what is
//! too long for that follows the operator's choice, and then streams as any other.

pub mod json;

use super::Refusal;
use super::upstream::{Arrived, Download, Failed, Rest};
use crate::fields::{Fields, Name};
use bulkhead_config::snapshot::{JsonPointer, ResponseTenant, SaidIn, Unseen};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, StatusCode};
use http_body::{Frame, SizeHint};
use json::Says;
use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

/// Why an answer was not delivered. The message is for the operator: it may name the other tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    place: Box<str>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// It names another tenant.
    Other(Box<str>),
    /// It names none.
    Nobody,
    /// It cannot be looked into.
    Unseen(&'static str),
}

/// Bytes of a name that is told.
const TOLD_BYTES_MAX: usize = 80;

impl Leak {
    fn new(said_in: &SaidIn, kind: Kind) -> Self {
        let place = match said_in {
            SaidIn::Header(name) => format!("header `{name}`"),
            SaidIn::Body(pointer) => format!("`{}` of its body", pointer.as_str()),
        };
        Self { place: place.into(), kind }
    }

    /// Whether it names another tenant, and not only nobody.
    #[must_use]
    pub fn is_of_another(&self) -> bool {
        matches!(self.kind, Kind::Other(_))
    }

    /// Where it should have named its tenant.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, kind } = self;
        match kind {
            Kind::Other(name) => {
                let told = name.get(..name.floor_char_boundary(TOLD_BYTES_MAX)).unwrap_or_default();
                write!(f, "the answer names tenant {told:?} in {place}")
            }
            Kind::Nobody => write!(f, "the answer names no tenant in {place}"),
            Kind::Unseen(why) => write!(f, "whose the answer is cannot be seen in {place}: it {why}"),
        }
    }
}

/// Makes sure that an answer is `tenant`'s, as far as `asked` tells where that is said.
///
/// # Errors
/// It is another's, or nobody can tell and the operator wants to know; or its body broke off while it was looked into.
pub async fn stop(asked: &ResponseTenant, tenant: &str, has_body: bool, mut arrived: Arrived) -> Result<Arrived, Refusal> {
    let said = match &asked.said_in {
        SaidIn::Header(name) => in_header(&arrived.headers, name, tenant),
        // What has no body tells nothing of anybody.
        SaidIn::Body(_) if !has_body || is_empty(&arrived) => return Ok(arrived),
        SaidIn::Body(pointer) => in_body(asked, pointer, tenant, &mut arrived).await.map_err(Refusal::Upstream)?,
    };
    match said {
        Ok(()) => Ok(arrived),
        Err(Kind::Nobody | Kind::Unseen(_)) if asked.unseen == Unseen::Pass => Ok(arrived),
        Err(kind) => Err(Refusal::Leak(Box::new(Leak::new(&asked.said_in, kind)))),
    }
}

fn is_empty(arrived: &Arrived) -> bool {
    matches!(&arrived.rest, Rest::Body(download) if download.size_hint().exact() == Some(0))
}

/// Every field of that name counts: readers disagree which one does.
fn in_header(fields: &Fields, name: &HeaderName, tenant: &str) -> Result<(), Kind> {
    let mut named = false;
    for value in fields.get_named(name) {
        if value != tenant.as_bytes() {
            return Err(Kind::Other(String::from_utf8_lossy(value).into()));
        }
        named = true;
    }
    if named { Ok(()) } else { Err(Kind::Nobody) }
}

async fn in_body(asked: &ResponseTenant, pointer: &JsonPointer, tenant: &str, arrived: &mut Arrived) -> Result<Result<(), Kind>, Failed> {
    let headers = &arrived.headers;
    let Rest::Body(download) = &mut arrived.rest else { return Ok(Err(Kind::Unseen("changes to another protocol"))) };
    if arrived.status == StatusCode::PARTIAL_CONTENT {
        return Ok(Err(Kind::Unseen("is a part of a whole")));
    }
    if !is_json(headers) {
        return Ok(Err(Kind::Unseen("is no JSON")));
    }
    if headers.get_named(&http::header::CONTENT_ENCODING).any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        return Ok(Err(Kind::Unseen("is compressed")));
    }
    let most = usize::try_from(asked.body_bytes_max).unwrap_or(usize::MAX);
    if download.size_hint().lower() > asked.body_bytes_max {
        return Ok(Err(Kind::Unseen("is longer than what is looked into")));
    }
    let (held, is_whole) = hold(download, most).await?;
    let said = if !is_whole {
        Err(Kind::Unseen("is longer than what is looked into"))
    } else {
        match json::says(&held.data, pointer.steps(), tenant) {
            Says::Ours => Ok(()),
            Says::Other(name) => Err(Kind::Other(name.into())),
            Says::Nobody => Err(Kind::Nobody),
            Says::NoJson => Err(Kind::Unseen("is no JSON")),
        }
    };
    held.put_before(download);
    Ok(said)
}

/// `application/json`, and what is JSON by its suffix (RFC 6839 section 3.1).
fn is_json(headers: &Fields) -> bool {
    let mut types = headers.texts(Name::ContentType);
    let (Some(only), None) = (types.next(), types.next()) else { return false };
    let essence = only.split(';').next().unwrap_or_default().trim();
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    let suffix = subtype.rsplit_once('+').map_or(subtype, |(_, suffix)| suffix);
    kind.eq_ignore_ascii_case("application") && suffix.eq_ignore_ascii_case("json")
}

/// Reads a body until its end, or until more of it is there than is looked into. Whether that was its end.
async fn hold(download: &mut Download, most: usize) -> Result<(Held, bool), Failed> {
    let mut gathered = Gathered::default();
    loop {
        if download.is_end_stream() {
            return Ok((gathered.done(), true));
        }
        match poll_fn(|cx| download.poll_frame(cx)).await.transpose()? {
            None => return Ok((gathered.done(), true)),
            Some(frame) => gathered.take(frame),
        }
        if gathered.len() > most {
            return Ok((gathered.done(), false));
        }
    }
}

/// What was read so far. A body that came in one piece stays where it is; more pieces than one are copied together, so that what
/// is held is bounded by its bytes, however small the pieces are that an upstream sends.
#[derive(Debug, Default)]
struct Gathered {
    only: Bytes,
    together: BytesMut,
    trailers: Option<Frame<Bytes>>,
}

impl Gathered {
    fn len(&self) -> usize {
        self.only.len() + self.together.len()
    }

    fn take(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) if self.len() == 0 => self.only = data,
            Ok(data) => {
                self.together.extend_from_slice(&std::mem::take(&mut self.only));
                self.together.extend_from_slice(&data);
            }
            Err(trailers) => self.trailers = Some(trailers),
        }
    }

    fn done(self) -> Held {
        let data = if self.together.is_empty() { self.only } else { self.together.freeze() };
        Held { data, trailers: self.trailers, rest: None }
    }
}

/// What was read of a body and is still to go out, before the rest.
#[derive(Debug, Default)]
pub struct Held {
    data: Bytes,
    trailers: Option<Frame<Bytes>>,
    rest: Option<Box<Download>>,
}

impl Held {
    fn put_before(mut self, download: &mut Download) {
        if self.data.is_empty() && self.trailers.is_none() {
            return;
        }
        let rest = std::mem::replace(download, Download::Held(Box::default()));
        self.rest = Some(Box::new(rest));
        *download = Download::Held(Box::new(self));
    }

    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        if !self.data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.data)))));
        }
        match (self.trailers.take(), &mut self.rest) {
            (Some(trailers), _) => Poll::Ready(Some(Ok(trailers))),
            (None, Some(rest)) if !rest.is_end_stream() => rest.poll_frame(cx),
            (None, _) => Poll::Ready(None),
        }
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none() && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    /// How much comes.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        let held = self.data.len() as u64;
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), |rest| rest.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(held.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper() {
            hint.set_upper(held.saturating_add(upper));
        }
        // Behind the last chunk trailers may come, and a length cannot be followed by any.
        if self.trailers.is_some() { SizeHint::default() } else { hint }
    }

    /// Moves the rest of the request's body on.
    pub fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let Some(rest) = &mut self.rest {
            rest.poll_upload(cx);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn piece(text: &'static [u8]) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text))
    }

    #[test]
    fn pieces_however_small_are_held_as_their_bytes() {
        let mut gathered = Gathered::default();
        for _ in 0..10_000 {
            gathered.take(piece(b"x"));
        }
        assert_eq!(gathered.len(), 10_000);
        assert!(gathered.together.capacity() <= 20_000, "{}", gathered.together.capacity());
        assert_eq!(gathered.done().data, "x".repeat(10_000));
    }

    #[test]
    fn a_body_in_one_piece_stays_where_it_is() {
        let text = Bytes::from_static(b"{\"tenant_id\":\"acme\"}");
        let mut gathered = Gathered::default();
        gathered.take(Frame::data(text.clone()));
        assert_eq!(gathered.done().data.as_ptr(), text.as_ptr());
    }

    #[test]
    fn trailers_go_out_behind_what_was_held() {
        let mut gathered = Gathered::default();
        gathered.take(piece(b"a"));
        gathered.take(piece(b"b"));
        gathered.take(Frame::trailers(HeaderMap::new()));
        let mut held = gathered.done();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut next = || match held.poll_frame(&mut cx) {
            Poll::Ready(frame) => Some(frame.transpose().unwrap()),
            Poll::Pending => None,
        };
        assert_eq!(next().unwrap().unwrap().into_data().unwrap(), "ab");
        assert!(next().unwrap().unwrap().is_trailers());
        assert!(next().unwrap().is_none());
    }
}
