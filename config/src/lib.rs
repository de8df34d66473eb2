//! What is declared and what it means: the reader, the compiler, the snapshot and the one decision function.
//!
//! No I/O, no async, no clock: callers bring the contents of files, secrets and `now`. Both planes stand on this crate, it
//! stands on neither.

pub mod name;
pub mod spiffe;
pub mod seal;
pub mod web_url;
pub mod diagnostic;
pub mod text;
pub mod unit;
pub mod condition;
pub mod declared;
pub mod settings;
pub mod path;
pub mod snapshot;
pub mod compile;
pub mod decide;
pub mod explain;
pub mod effective;
pub mod protocol;
pub mod wire;
