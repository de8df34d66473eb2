//! What tenancy costs a request whose token was seen before: token, decision and three limits.
//!
//! Must stay under 500 ns together; `tests/allocations.rs` shows that it allocates nothing.
#![expect(clippy::unwrap_used, reason = "a bench ends at the first surprise")]

#[path = "support/admission.rs"]
mod admission;
#[path = "support/documents.rs"]
mod documents;
#[path = "support/issuer.rs"]
mod issuer;

use admission::{Admission, moments};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

fn admit(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide");
    let mut now = moments();
    let mut admission = Admission::new(None);
    let verified = admission.verify(now());
    let permit = admission.decide(&verified, now());

    group.bench_function("token, decision and three limits", |b| b.iter(|| black_box(&mut admission).admit(now())));
    group.bench_function("token", |b| b.iter(|| black_box(&mut admission).verify(now())));
    group.bench_function("decision", |b| b.iter(|| black_box(&admission).decide(&verified, now())));
    group.bench_function("three limits", |b| b.iter(|| black_box(&admission).take(&verified, &permit, now())));
    group.finish();
}

criterion_group!(benches, admit);
criterion_main!(benches);
