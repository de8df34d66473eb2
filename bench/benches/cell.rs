//! One request taken out of one limit, by each kind of cell, and by governor for comparison.

use bulkhead_config::unit::PerPeriod;
use bulkhead_sidecar::clock::Now;
use bulkhead_sidecar::request::quota::cell::Cell;
use bulkhead_sidecar::request::quota::clock_hour::{ClockHour, PerHour};
use bulkhead_sidecar::request::quota::in_flight::{InFlight, Places};
use bulkhead_sidecar::request::quota::rate::{Gcra, Rate};
use bulkhead_sidecar::request::quota::sliding::{Sliding, Window};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

const MANY: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();

/// A moment, that many nanoseconds after the first.
fn moment(mono_ns: u64) -> Now {
    Now { mono_ns, unix_ms: 1_800_000_000_000 + mono_ns / 1_000_000 }
}

/// `take`, at a pace that the allowance bears for ever.
fn admits<C: Cell>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, allowance: C::Allowance, apart: Duration) {
    group.bench_function(format!("{name}/admits"), |b| {
        let cell = C::unused(&allowance);
        let apart_ns = u64::try_from(apart.as_nanos()).unwrap_or(u64::MAX);
        let mut mono_ns = 0;
        b.iter(|| {
            mono_ns += apart_ns;
            assert!(black_box(cell.take(moment(mono_ns), black_box(&allowance))).is_ok());
        });
    });
}

/// `take`, when nothing is left and the clock stands still.
fn refuses<C: Cell>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, allowance: C::Allowance) {
    group.bench_function(format!("{name}/refuses"), |b| {
        let now = moment(1_000_000_000);
        let Some(cell) = C::drained(now, &allowance) else { return };
        b.iter(|| assert!(black_box(cell.take(now, black_box(&allowance))).is_err()));
    });
}

fn cells(c: &mut Criterion) {
    let mut group = c.benchmark_group("cell");
    let rate = |count| Rate::new(PerPeriod { count, period: Duration::from_secs(1) }, count.get());
    let often = Duration::from_micros(2);
    let few = Window::new(5, Duration::from_secs(1));
    let many = Window::new(MANY.get(), Duration::from_secs(1));
    admits::<Gcra>(&mut group, "rate and burst", rate(MANY), often);
    refuses::<Gcra>(&mut group, "rate and burst", rate(MANY));
    admits::<Sliding>(&mut group, "5 a second", few, Duration::from_millis(250));
    refuses::<Sliding>(&mut group, "5 a second", few);
    admits::<Sliding>(&mut group, "1,000,000 a second", many, often);
    refuses::<Sliding>(&mut group, "1,000,000 a second", many);
    admits::<ClockHour>(&mut group, "clock hour", PerHour(u32::MAX), often);
    refuses::<ClockHour>(&mut group, "clock hour", PerHour(MANY.get()));
    group.bench_function("in flight/taken and given back", |b| {
        let places = Places(64);
        let cell = InFlight::unused(&places);
        b.iter(|| {
            let receipt = cell.take(moment(1_000_000_000), black_box(&places));
            assert!(receipt.is_ok());
            receipt.map(|receipt| cell.give_back(receipt, &places))
        });
    });
    group.bench_function("governor, for comparison/admits", |b| {
        let clock = FakeRelativeClock::default();
        let limiter = RateLimiter::direct_with_clock(Quota::per_second(MANY), clock.clone());
        b.iter(|| {
            clock.advance(often);
            assert!(black_box(limiter.check()).is_ok());
        });
    });
    group.finish();
}

criterion_group!(benches, cells);
criterion_main!(benches);
