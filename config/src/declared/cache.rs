//! Kind `CachePolicy`: read and checked from the start; it takes effect with the cache.

use super::{AppliesTo, Enforce};
use std::time::Duration;

/// What may be kept and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct CachePolicy {
    /// Whether it acts.
    pub enforce: Enforce,
    /// Which requests it is about.
    pub applies_to: AppliesTo,
    /// Freshness where the response names none; absent: `core.cache.default_ttl`.
    pub ttl: Option<Duration>,
    /// Who may be answered from one stored response.
    pub share: Share,
    /// Query parameters in the key; absent: all.
    pub key_query: Option<Vec<String>>,
    /// Request headers in the key, lower case.
    pub key_headers: Vec<String>,
    /// Serves stale while it is refreshed (RFC 5861).
    pub stale_while_revalidate: Duration,
    /// Serves stale when the upstream fails (RFC 5861).
    pub stale_if_error: Duration,
    /// Larger responses are not kept.
    pub object_bytes_max: u64,
    /// For purges.
    pub tags: Vec<String>,
}

/// Who may be answered from one stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Share {
    /// The principals of one tenant.
    #[default]
    Tenant,
    /// One principal.
    User,
    /// Everybody; platform-wide only.
    Public,
}
