//! Every command as a user runs it: the real binary, its streams and its exit code.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;
mod api_key;
mod backup;
mod completion;
mod context;
mod explain;
mod help;
mod schema;
mod token;
mod up;
mod validate;
