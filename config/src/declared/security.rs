//! Kind `SecurityPolicy`: limits on requests, CORS, staleness.

use super::Enforce;
use std::time::Duration;

/// Bounds on what a request may look like. Platform-wide: for all; within a tenant: only tighter.
#[derive(Debug, Clone, PartialEq)]
pub struct SecurityPolicy {
    /// Whether it refuses.
    pub enforce: Enforce,
    /// Bounds on a request; absent keys keep the default.
    pub request: RequestBounds,
    /// Cross-origin rules; read and checked, answered later.
    pub cors: Option<Cors>,
    /// Longest time a cut-off sidecar serves this policy.
    pub max_staleness: Option<Duration>,
    /// Peers whose `X-Forwarded-For` and `Forwarded` are believed; platform-wide only.
    pub trusted_hops: Vec<ipnet::IpNet>,
}

/// Bounds on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestBounds {
    /// Bytes of request line and header section.
    pub header_bytes_max: Option<u64>,
    /// Number of header fields.
    pub headers_max: Option<u32>,
    /// Bytes of a body.
    pub body_bytes_max: Option<u64>,
    /// Time to the end of the head.
    pub head_timeout: Option<Duration>,
    /// Longest silence within a request's body.
    pub body_idle_timeout: Option<Duration>,
}

/// Cross-origin resource sharing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cors {
    /// Origins, exact.
    pub origins: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
    /// Request headers, lower case.
    pub headers: Vec<String>,
    /// How long a preflight may be remembered.
    pub max_age: Option<Duration>,
    /// Whether credentials may be sent.
    pub credentials: bool,
}
