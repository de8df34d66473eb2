//! The data plane: one sidecar in front of one service.
//!
//! `request.rs` tells the path of a request from top to bottom; everything else is a stage of it or stands beside it.

pub mod settings;
pub mod socket;
pub mod tls;
pub mod running;
pub mod clock;
pub mod deadline;
pub mod worker;
pub mod connection;
pub(crate) mod entropy;
pub mod fields;
pub mod http1;
pub mod request;
pub mod problem;
pub mod identity;
pub mod policy;
pub mod telemetry;
pub(crate) mod operator_http;
pub mod probes;
pub mod admin;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzed;

pub use running::{Addresses, Drained, Running, StartError, start};
pub use settings::Settings;
