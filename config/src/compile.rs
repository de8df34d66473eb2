//! Declared documents into the snapshot: all mistakes of a part at once, all or nothing for each part.
//!
//! The same documents give the same snapshot: no clock, no chance, no order of arrival.

use crate::protocol::{Part, Quarantined};
use crate::snapshot::Snapshot;
use std::sync::Arc;

pub(crate) mod binding;

/// What a change made of the snapshot.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The snapshot to serve from now on.
    pub snapshot: Arc<Snapshot>,
    /// Parts whose compiled form changed.
    pub changed: Vec<Part>,
    /// Every part in quarantine, with what is served instead.
    pub quarantined: Vec<Quarantined>,
}
