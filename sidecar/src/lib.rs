//! The data plane: one sidecar in front of one service.
//!
//! `request.rs` tells the path of a request from top to bottom; everything else is a stage of it or stands beside it.

pub mod clock;
pub mod connection;
pub mod request;
pub mod problem;
pub mod policy;
pub mod telemetry;
pub(crate) mod operator_http;
pub mod probes;
pub mod admin;
