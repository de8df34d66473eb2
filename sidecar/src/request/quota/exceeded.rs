//! What is told of a limit: that it is used up, and the fields `RateLimit`, `RateLimit-Policy` and `Retry-After`.
//!
//! Cost: per refusal; and per request that a window limit of named routes counted, whose clients want to pace themselves.
//! Fields: draft-ietf-httpapi-ratelimit-headers-10. Both are Structured Field lists (RFC 9651) of String items; names here are
//! of `a-z 0-9 _ - .`, so they need no escape.

use super::cell::Level;
use bulkhead_config::declared::Per;
use bulkhead_config::unit::show_duration;
use http::HeaderValue;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

/// What is told of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// `policy.limit`, or `api_quota_per_hour`.
    pub name: String,
    /// What has a budget of its own.
    pub per: Per,
    /// What it counts.
    pub kind: Kind,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A steady rate with a burst.
    Rate {
        /// How many may come at once.
        burst: u32,
        /// Time in which an exhausted burst is whole again.
        refill: Duration,
    },
    /// Requests in any span of this length.
    Window {
        /// How many.
        requests: u32,
        /// The span.
        window: Duration,
    },
    /// Requests in a clock hour of UTC.
    ClockHour {
        /// How many.
        requests: u32,
    },
    /// Requests at once.
    InFlight {
        /// How many.
        places: u32,
    },
}

/// A limit is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// Which one.
    pub about: Arc<About>,
    /// Time until a request could pass again, if nobody else takes its place.
    pub wait: Duration,
}

/// The fields that tell a client of its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// `RateLimit`: what is left.
    pub rate_limit: HeaderValue,
    /// `RateLimit-Policy`: what is declared.
    pub rate_limit_policy: HeaderValue,
}

impl Exceeded {
    /// Its problem's slug.
    #[must_use]
    pub fn problem_type(&self) -> &'static str {
        match self.about.kind {
            Kind::InFlight { .. } => "too_many_requests_in_flight",
            Kind::Rate { .. } | Kind::Window { .. } | Kind::ClockHour { .. } => "quota_exceeded",
        }
    }

    /// `Retry-After` in seconds: rounded up, at least one, and so never before `t` of `RateLimit`.
    #[must_use]
    pub fn retry_after(&self) -> u64 {
        seconds(self.wait).max(1)
    }

    /// Its fields.
    #[must_use]
    pub fn fields(&self) -> Option<Fields> {
        let level = Level { remaining: 0, reset: self.wait };
        fields([(&*self.about, level)])
    }

    /// What the caller can do.
    #[must_use]
    pub fn fix(&self) -> String {
        let name = &self.about.name;
        let wait = match self.about.kind {
            Kind::InFlight { .. } => "wait until earlier requests have ended".to_owned(),
            _ => format!("wait {} s", self.retry_after()),
        };
        match self.about.kind {
            Kind::ClockHour { .. } => format!("{wait}; or the operator raises `{name}` in the Tenant or its Plan"),
            _ => format!("{wait}; or the operator raises `{name}` (QuotaPolicy and limit, joined by a dot)"),
        }
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let About { name, per, kind } = &*self.about;
        let whose = match per {
            Per::Tenant => "this tenant",
            Per::User => "this user",
            Per::ApiKey => "this API key",
            Per::ClientAddress => "this client address",
        };
        match kind {
            Kind::Rate { burst, refill } => {
                write!(f, "the limit `{name}` of {whose} is used up: {burst} at once, whole again after {}", show_duration(*refill))
            }
            Kind::Window { requests, window } => {
                write!(f, "the limit `{name}` of {whose} is used up: {requests} in any {}", show_duration(*window))
            }
            Kind::ClockHour { requests } => write!(f, "`{name}` of {whose} is used up: {requests} in a clock hour (UTC)"),
            Kind::InFlight { places } => write!(f, "the limit `{name}` of {whose} is reached: {places} requests at once"),
        }
    }
}

impl std::error::Error for Exceeded {}

/// Both fields for some limits; `None` for none of them.
pub(super) fn fields<'a>(limits: impl IntoIterator<Item = (&'a About, Level)>) -> Option<Fields> {
    let (mut left, mut declared) = (String::new(), String::new());
    for (about, level) in limits {
        if !left.is_empty() {
            left.push_str(", ");
            declared.push_str(", ");
        }
        about.write_level(level, &mut left).ok()?;
        about.write_policy(&mut declared).ok()?;
    }
    if left.is_empty() {
        return None;
    }
    Some(Fields { rate_limit: left.try_into().ok()?, rate_limit_policy: declared.try_into().ok()? })
}

impl About {
    /// One item of `RateLimit`.
    fn write_level(&self, level: Level, field: &mut String) -> fmt::Result {
        write!(field, "\"{}\";r={}", self.name, level.remaining)?;
        match self.kind {
            // Nobody knows when a place becomes free.
            Kind::InFlight { .. } => Ok(()),
            _ => write!(field, ";t={}", seconds(level.reset)),
        }
    }

    /// One item of `RateLimit-Policy`.
    fn write_policy(&self, field: &mut String) -> fmt::Result {
        let name = &self.name;
        match self.kind {
            // A bucket has no window of its own: the nearest is the time in which it fills.
            Kind::Rate { burst, refill } => write!(field, "\"{name}\";q={burst};w={}", seconds(refill)),
            Kind::Window { requests, window } => write!(field, "\"{name}\";q={requests};w={}", seconds(window)),
            Kind::ClockHour { requests } => write!(field, "\"{name}\";q={requests};w=3600"),
            Kind::InFlight { places } => write!(field, "\"{name}\";q={places};qu=\"concurrent-requests\""),
        }
    }
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
