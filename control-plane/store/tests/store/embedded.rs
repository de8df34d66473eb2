//! The embedded engine: all that every engine must do.

use crate::conformance::{World, suite};
use bulkhead_store::{Embedded, ManualClock, Options};
use std::sync::Arc;

fn start() -> World {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let options = Options { clock: Arc::clone(&clock) as _ };
    let store = Arc::new(Embedded::open(folder.path().join("store.redb"), options).unwrap());
    World { store, pass: Box::new(move |time| clock.pass(time)), _keep: Box::new(folder) }
}

suite!(crate::embedded::start);
