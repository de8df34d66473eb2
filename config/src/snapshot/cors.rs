//! Cross-origin rules, as requests of browsers are answered by them (Fetch standard, section 3.2).
//!
//! Cost: per request where they are declared; one search in a sorted list, and values that are shared.

use crate::declared::cors::{self, Origins};
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use std::fmt::Display;

/// Who may ask from where, every value of it made.
#[derive(Debug, PartialEq)]
pub struct Cors {
    origins: Known,
    /// Never empty.
    methods: Vec<Method>,
    headers: Vec<HeaderName>,
    /// `Access-Control-Allow-Methods`.
    pub methods_value: HeaderValue,
    /// `Access-Control-Allow-Headers`.
    pub headers_value: Option<HeaderValue>,
    /// `Access-Control-Expose-Headers`.
    pub exposed_value: Option<HeaderValue>,
    /// `Access-Control-Max-Age`.
    pub max_age: Option<HeaderValue>,
    /// Whether the browser may send what it knows of its user.
    pub credentials: bool,
    /// Whether pages of a less private network may ask.
    pub private_network: bool,
}

#[derive(Debug, PartialEq)]
enum Known {
    Any(HeaderValue),
    /// Sorted.
    Listed(Vec<HeaderValue>),
}

/// An origin whose pages may read answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownOrigin(u32);

/// Methods that need no preflight.
const SIMPLE: [Method; 3] = [Method::GET, Method::HEAD, Method::POST];

impl Cors {
    pub(crate) fn of(declared: &cors::Cors) -> Self {
        let value = |text: &str| HeaderValue::from_str(text).ok();
        let methods = if declared.methods.is_empty() { SIMPLE.to_vec() } else { declared.methods.clone() };
        Self {
            origins: match &declared.origins {
                Origins::Any => Known::Any(HeaderValue::from_static("*")),
                Origins::Listed(list) => {
                    // What was read as an origin is visible ASCII.
                    let mut list: Vec<_> = list.iter().filter_map(|origin| value(origin)).collect();
                    list.sort_unstable();
                    Known::Listed(list)
                }
            },
            // So are names of methods and fields.
            methods_value: value(&joined(&methods)).unwrap_or(HeaderValue::from_static("GET, HEAD, POST")),
            headers_value: value(&joined(&declared.headers)).filter(|_| !declared.headers.is_empty()),
            exposed_value: value(&joined(&declared.exposed_headers)).filter(|_| !declared.exposed_headers.is_empty()),
            max_age: declared.max_age.map(|age| HeaderValue::from(age.as_secs())),
            credentials: declared.credentials,
            private_network: declared.private_network,
            headers: declared.headers.clone(),
            methods,
        }
    }

    /// The one origin that is named, if it may ask. Compared as it is written: browsers write it in one way only. Where every one
    /// may, that is said also to who names none: what they store serves those who do.
    #[must_use]
    pub fn origin<'a>(&self, written: impl IntoIterator<Item = &'a [u8]>) -> Option<KnownOrigin> {
        match &self.origins {
            Known::Any(_) => Some(KnownOrigin(0)),
            Known::Listed(list) => {
                let mut written = written.into_iter();
                let (Some(written), None) = (written.next(), written.next()) else { return None };
                let at = list.binary_search_by(|known| known.as_bytes().cmp(written)).ok()?;
                u32::try_from(at).ok().map(KnownOrigin)
            }
        }
    }

    /// `Access-Control-Allow-Origin` for it.
    #[must_use]
    pub fn told(&self, origin: KnownOrigin) -> Option<&HeaderValue> {
        match &self.origins {
            Known::Any(star) => Some(star),
            Known::Listed(list) => list.get(origin.0 as usize),
        }
    }

    /// Whether answers differ by who asks.
    #[must_use]
    pub fn varies(&self) -> bool {
        matches!(self.origins, Known::Listed(_))
    }

    /// Whether pages may use this method; GET brings HEAD.
    #[must_use]
    pub fn allows_method(&self, written: &[u8]) -> bool {
        let has = |method: &[u8]| self.methods.iter().any(|known| known.as_str().as_bytes() == method);
        has(written) || (written == b"HEAD" && has(b"GET"))
    }

    /// Whether pages may send this field.
    #[must_use]
    pub fn allows_header(&self, written: &[u8]) -> bool {
        self.headers.iter().any(|known| known.as_str().as_bytes().eq_ignore_ascii_case(written))
    }

    /// As an operator reads it.
    pub(crate) fn show(&self) -> Value {
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let origins: Vec<String> = match &self.origins {
            Known::Any(star) => vec![text(star)],
            Known::Listed(list) => list.iter().map(text).collect(),
        };
        json!({
            "origins": origins,
            "methods": text(&self.methods_value),
            "headers": self.headers_value.as_ref().map(text),
            "exposed_headers": self.exposed_value.as_ref().map(text),
            "max_age_seconds": self.max_age.as_ref().map(text),
            "credentials": self.credentials,
            "private_network": self.private_network,
        })
    }
}

fn joined(names: &[impl Display]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
