//! The API over real sockets, on a store in a file.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

mod documents;
mod permissions;
mod refusals;
mod again;
mod fleet;
