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
use std::collections::VecDeque;
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
fn in_header(fields: &Fields, name: &str, tenant: &str) -> Result<(), Kind> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Kind::Nobody)?;
    let mut named = false;
    for value in fields.get_named(&name) {
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
        match json::says(&held.text(), pointer.steps(), tenant) {
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
    let essence = only.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Reads a body until its end, or until more of it is there than is looked into. Whether that was its end.
async fn hold(download: &mut Download, most: usize) -> Result<(Held, bool), Failed> {
    let (mut held, mut length) = (Held::default(), 0);
    loop {
        if download.is_end_stream() {
            return Ok((held, true));
        }
        match poll_fn(|cx| download.poll_frame(cx)).await.transpose()? {
            None => return Ok((held, true)),
            Some(frame) => {
                length += frame.data_ref().map_or(0, Bytes::len);
                held.frames.push_back(frame);
            }
        }
        if length > most {
            return Ok((held, false));
        }
    }
}

/// What was read of a body and is still to go out, before the rest.
#[derive(Debug, Default)]
pub struct Held {
    frames: VecDeque<Frame<Bytes>>,
    rest: Option<Box<Download>>,
}

impl Held {
    /// All that is held, in one piece.
    fn text(&self) -> Bytes {
        let mut data = self.frames.iter().filter_map(Frame::data_ref);
        match (data.next(), data.next()) {
            (None, _) => Bytes::new(),
            (Some(only), None) => only.clone(),
            (Some(first), Some(second)) => {
                let mut all = BytesMut::from(&**first);
                all.extend_from_slice(second);
                data.for_each(|more| all.extend_from_slice(more));
                all.freeze()
            }
        }
    }

    fn put_before(mut self, download: &mut Download) {
        if self.frames.is_empty() {
            return;
        }
        let rest = std::mem::replace(download, Download::Held(Box::default()));
        self.rest = Some(Box::new(rest));
        *download = Download::Held(Box::new(self));
    }

    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        match (self.frames.pop_front(), &mut self.rest) {
            (Some(frame), _) => Poll::Ready(Some(Ok(frame))),
            (None, Some(rest)) if !rest.is_end_stream() => rest.poll_frame(cx),
            (None, _) => Poll::Ready(None),
        }
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    /// How much comes.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        let held: u64 = self.frames.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), |rest| rest.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(held.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper() {
            hint.set_upper(held.saturating_add(upper));
        }
        // Behind the last chunk trailers may come, and a length cannot be followed by any.
        if self.frames.iter().any(Frame::is_trailers) { SizeHint::default() } else { hint }
    }

    /// Moves the rest of the request's body on.
    pub fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let Some(rest) = &mut self.rest {
            rest.poll_upload(cx);
        }
    }
}
