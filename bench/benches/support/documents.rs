//! What the micro-benchmarks stand on: documents taken from text to a snapshot, as a sidecar takes them.

use bulkhead_config::declared::read_file;
use bulkhead_config::protocol::{Offer, Put};

/// A change that puts the documents of `text`.
///
/// # Panics
/// On a mistake in them.
pub(crate) fn offer(text: &str) -> Offer {
    let file = read_file("bench.yaml", text);
    assert!(file.diagnostics.is_empty(), "{}", file.diagnostics);
    let put = file.documents.into_iter().map(|document| Put { document, text: "".into() }).collect();
    Offer { put, ..Offer::default() }
}
