//! The live policy: offers of one source compiled, kept and swapped in.

use bulkhead_config::protocol::{Offer, Report};
use std::future::Future;

/// Where policy comes from: a folder, the control plane, or the process that embeds this one. A sidecar has exactly one.
pub trait PolicySource: Send + 'static {
    /// The next change; `None` when no more will come. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Option<Offer>> + Send;
    /// What became of the last one.
    fn report(&mut self, report: &Report);
}
