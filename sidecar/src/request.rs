//! The path of a request.

pub mod authn;
pub mod quota;
