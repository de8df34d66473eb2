//! What documents mean once compiled: through the public face only, as the planes use it.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;
mod decisions;
mod explanations;
mod shadow;
mod mistakes;
mod bounds;
mod edges;
mod quarantine;
mod swaps;
mod world;
mod oracle;
mod properties;
