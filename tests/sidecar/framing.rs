//! The framing table: every row of `tests/framing` over a real socket, in front of an origin that keeps the bytes it receives.
//! A row is refused, and then nothing of it went up, or it is forwarded, and then as exactly these bytes.

mod checklist;
mod http2;
mod lane;
mod row;

use lane::Lane;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Sidecars that share the table. A row has its sidecar and its origin for itself while it runs.
const LANES: usize = 4;

#[test]
fn what_leaves_two_readings_is_refused_and_the_rest_is_forwarded_in_bytes_of_our_own() {
    let rows = row::all();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                let lane = Lane::start();
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = lane.run(row) {
                        wrong.lock().unwrap().push(format!("{} {}\n    {why}", row.place, row.name));
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn every_requirement_of_rfc_9112_has_a_row_or_a_reason() {
    checklist::check(&row::all());
}
