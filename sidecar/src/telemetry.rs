//! Telemetry: what is told of the requests served. Bounded everywhere, and what is dropped is counted.
//!
//! Workers write into what is theirs (metric cells, a log buffer, a ring of decisions); everything else happens on threads that
//! serve no request. Absent on purpose: any knowledge of workers, policies or the engine; they hand over what shall be told.

pub mod metrics;
pub mod decisions;
pub mod access_log;
pub mod log;
pub mod spool;
pub mod system;
pub(crate) mod json;
pub(crate) mod stamp;
