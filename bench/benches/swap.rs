//! One tenant's document changes: from the parsed document to the snapshot that requests are served from.
//!
//! Must not grow with the number of tenants: at most 1 ms, and at 100,000 tenants at most 1.5 times what it takes at 1,000.

#[path = "support/documents.rs"]
mod documents;

use arc_swap::ArcSwap;
use bulkhead_config::compile::Catalogue;
use bulkhead_config::protocol::Offer;
use bulkhead_config::snapshot::Snapshot;
use criterion::{Criterion, criterion_group, criterion_main};
use documents::offer;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

const PLATFORM: &str = "
kind: Plan
name: free
default: true
api_quota_per_hour: 1000
storage_quota_gb: 1
---
kind: Service
name: bench
listeners:
  - { name: http, address: '127.0.0.1:0' }
upstreams:
  - { name: app, endpoints: ['http://127.0.0.1:20900'] }
routes:
  - { name: items, path: /v1/items }
  - { name: item, path: '/v1/items/{id}' }
---
kind: Role
name: reader
allow: ['GET /v1/items', 'GET /v1/items/{id}']
---
kind: QuotaPolicy
name: fair_use
limits:
  - { name: burst, per: tenant, rate: 200/s, burst: 400 }
";

const SIZES: [usize; 2] = [1_000, 100_000];

/// A fleet of tenants, one of which changes.
struct Fleet {
    catalogue: Catalogue,
    live: ArcSwap<Snapshot>,
    /// Two versions of one tenant's document, put in turn, so that each put is a change.
    versions: [Offer; 2],
    turn: usize,
}

impl Fleet {
    fn of(tenants: usize) -> Self {
        let mut catalogue = Catalogue::new();
        let mut snapshot = catalogue.apply(&offer(PLATFORM)).snapshot;
        let all: Vec<usize> = (0..tenants).collect();
        // In portions: a file of documents has a bound.
        for some in all.chunks(10_000) {
            let mut text = String::new();
            for at in some {
                let _ = write!(text, "---\n{}", tenant(*at, 1_000));
            }
            snapshot = catalogue.apply(&offer(&text)).snapshot;
        }
        assert_eq!(snapshot.tenant_count(), tenants);
        let versions = [1_001, 1_002].map(|quota| offer(&tenant(tenants / 2, quota)));
        let mut fleet = Self { catalogue, live: ArcSwap::new(snapshot), versions, turn: 0 };
        let before = fleet.live.load().epoch();
        fleet.swap();
        assert!(fleet.live.load().epoch() > before, "a swap that serves nothing new measures nothing");
        fleet
    }

    /// Compiles the next version and serves it. The snapshot before is dropped here, as the control side does.
    fn swap(&mut self) {
        self.turn = (self.turn + 1) % self.versions.len();
        let Some(version) = self.versions.get(self.turn) else { return };
        let outcome = self.catalogue.apply(version);
        self.live.store(outcome.snapshot);
    }
}

fn tenant(at: usize, quota: u32) -> String {
    format!(
        "kind: Tenant\ntenant_id: tenant-{at}\nname: Tenant {at}\nemail: ops@tenant-{at}.example\n\
         hosts: [tenant-{at}.example]\napi_quota_per_hour: {quota}\n"
    )
}

fn swap(c: &mut Criterion) {
    let mut group = c.benchmark_group("swap");
    for tenants in SIZES {
        let mut fleet = None;
        group.bench_function(format!("one of {tenants} tenants"), |b| {
            let fleet = fleet.get_or_insert_with(|| Fleet::of(tenants));
            b.iter(|| black_box(&mut *fleet).swap());
        });
    }
    group.finish();
}

/// The promise itself, both sizes in turn: criterion measures one after the other, and a ratio wants neighbours.
fn ratio(_: &mut Criterion) {
    let mut fleets = SIZES.map(Fleet::of);
    let mut taken = SIZES.map(|_| Vec::new());
    for _ in 0..1_001 {
        for (fleet, taken) in fleets.iter_mut().zip(&mut taken) {
            let began = Instant::now();
            fleet.swap();
            taken.push(began.elapsed());
        }
    }
    let [few, many] = taken.map(median);
    let times = many.as_secs_f64() / few.as_secs_f64();
    let met = if many <= Duration::from_millis(1) && times <= 1.5 { "met" } else { "NOT MET" };
    println!("swap: {few:?} at {} tenants, {many:?} at {}: {times:.2}x (at most 1 ms and 1.5x: {met})", SIZES[0], SIZES[1]);
}

fn median(mut taken: Vec<Duration>) -> Duration {
    taken.sort_unstable();
    taken.get(taken.len() / 2).copied().unwrap_or_default()
}

criterion_group!(benches, swap, ratio);
criterion_main!(benches);
