//! Cross-origin requests: which pages of other origins may ask, and what browsers are told so that these may read the answers.
//!
//! Cost: none where no rules are declared. Else one look for `Origin` among the fields of a request, one pass over the names of its
//! answer's.
//! One voice: where rules are declared, what an upstream says of cross-origin requests goes. A preflight has no credential by
//! nature (Fetch standard, section 4.8), so it is answered before anybody asks for one, and tells of the rules only, not of routes.
//! Absent on purpose: requests of other origins are not refused. Browsers keep answers from pages that may not read them, everybody
//! else can send any `Origin`; what may be done is for permissions to say.

use super::head::{Head, Target};
use crate::fields::{Fields, Lines};
use bulkhead_config::snapshot::{Cors, KnownOrigin};
use http::{HeaderName, HeaderValue, Method, header};
use std::sync::Arc;

const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const ORIGIN: HeaderValue = HeaderValue::from_static("origin");
const PREFLIGHT_VARY: HeaderValue = HeaderValue::from_static(
    "origin, access-control-request-method, access-control-request-headers, access-control-request-private-network",
);
/// Of a name that a client wrote.
const NAME_BYTES_MAX: usize = 64;

/// The rules for a request, and whether they know where it comes from.
#[derive(Debug)]
pub struct Crossing {
    cors: Arc<Cors>,
    origin: Option<KnownOrigin>,
}

/// What a preflight asks for and does not get. The message is for a developer who looks at it in a browser.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// Another origin.
    #[error("pages of this origin may not ask")]
    Origin,
    /// Another method.
    #[error("pages of other origins may not use the method `{0}`")]
    Method(String),
    /// Another field.
    #[error("pages of other origins may not send the header `{0}`")]
    Header(String),
    /// From a less private network.
    #[error("pages of a less private network may not ask")]
    PrivateNetwork,
}

impl NotAllowed {
    /// The part of the request that is meant.
    #[must_use]
    pub fn place(&self) -> &'static str {
        match self {
            NotAllowed::Origin => "header Origin",
            NotAllowed::Method(_) => "header Access-Control-Request-Method",
            NotAllowed::Header(_) => "header Access-Control-Request-Headers",
            NotAllowed::PrivateNetwork => "header Access-Control-Request-Private-Network",
        }
    }
}

/// Whether it is a preflight, which gets what it asks for.
///
/// # Errors
/// It is one, and asks for more than is allowed.
pub fn preflight(cors: &Cors, head: &Head) -> Result<bool, NotAllowed> {
    let all = |name| named(&head.headers, name);
    if head.method != Method::OPTIONS || head.target == Target::Service || all("origin").next().is_none() {
        return Ok(false);
    }
    let mut methods = all("access-control-request-method");
    let Some(method) = methods.next() else { return Ok(false) };
    if cors.origin(all("origin")).is_none() {
        return Err(NotAllowed::Origin);
    }
    if !cors.allows_method(method) || methods.next().is_some() {
        return Err(NotAllowed::Method(shown(method)));
    }
    let names = all("access-control-request-headers").flat_map(|list| list.split(|byte| *byte == b','));
    let mut names = names.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty());
    if let Some(name) = names.find(|name| !cors.allows_header(name)) {
        return Err(NotAllowed::Header(shown(name)));
    }
    if all("access-control-request-private-network").next().is_some() && !cors.private_network {
        return Err(NotAllowed::PrivateNetwork);
    }
    Ok(true)
}

/// Every value of a field.
fn named<'a>(fields: &'a Fields, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.name == name.as_bytes()).map(|field| field.value)
}

fn shown(name: &[u8]) -> String {
    let name: String = String::from_utf8_lossy(name).chars().filter(|c| !c.is_control()).collect();
    name.chars().take(NAME_BYTES_MAX).collect()
}

impl Crossing {
    /// What holds for a request with these fields.
    #[must_use]
    pub fn of(cors: &Arc<Cors>, fields: &Fields) -> Self {
        Self { cors: Arc::clone(cors), origin: cors.origin(named(fields, "origin")) }
    }

    /// Says to a browser what its page may read, in place of what the upstream or a rule says of it.
    pub fn tell(&self, passed: &mut Fields, own: &mut Lines) {
        passed.drop_if(|field| field.name.starts_with(b"access-control-"));
        for name in [header::ACCESS_CONTROL_ALLOW_ORIGIN, header::ACCESS_CONTROL_ALLOW_CREDENTIALS, header::ACCESS_CONTROL_EXPOSE_HEADERS] {
            own.remove(&name);
        }
        // Also where no origin is named: whoever stores the answer must not give it to a page that names one.
        if self.cors.varies() && !varies_already(passed) {
            own.add(&header::VARY, &ORIGIN);
        }
        if self.admit(own)
            && let Some(exposed) = &self.cors.exposed_value
        {
            own.set(&header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    /// Tells a preflight that it gets what it asks for.
    pub fn answer_preflight(&self, own: &mut Lines) {
        self.admit(own);
        own.set(&header::VARY, &PREFLIGHT_VARY);
        own.set(&header::ACCESS_CONTROL_ALLOW_METHODS, &self.cors.methods_value);
        if let Some(headers) = &self.cors.headers_value {
            own.set(&header::ACCESS_CONTROL_ALLOW_HEADERS, headers);
        }
        if let Some(max_age) = &self.cors.max_age {
            own.set(&header::ACCESS_CONTROL_MAX_AGE, max_age);
        }
        if self.cors.private_network {
            own.set(&ALLOW_PRIVATE_NETWORK, &TRUE);
        }
    }

    /// Lets the page read the answer, if it may.
    fn admit(&self, own: &mut Lines) -> bool {
        let Some(origin) = self.origin.and_then(|origin| self.cors.told(origin)) else { return false };
        own.set(&header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.cors.credentials {
            own.set(&header::ACCESS_CONTROL_ALLOW_CREDENTIALS, &TRUE);
        }
        true
    }
}

/// Whether an upstream says itself that its answer depends on the origin.
fn varies_already(passed: &Fields) -> bool {
    let mut names = named(passed, "vary").flat_map(|value| value.split(|byte| *byte == b','));
    names.any(|name| matches!(name.trim_ascii(), b"*") || name.trim_ascii().eq_ignore_ascii_case(b"origin"))
}
