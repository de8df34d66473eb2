//! Documents from their text: samples, mistakes, schemas, and texts that nobody meant.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    reason = "tests: what cannot be unwrapped has failed"
)]

mod yaml;
mod json;
mod samples;
mod mistakes;
mod schemas;
mod mutations;
mod support;
