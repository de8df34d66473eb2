//! Endpoints that are not well: who notices, who is left alone and for how long, and what remains when nobody is well.

use crate::support::{Client, World, upstream, within};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const ASK: &str = "GET /public/x HTTP/1.1\nHost: acme.test\n\n";

/// An upstream that is well or not, and counts what it is asked.
#[derive(Clone)]
struct Patient {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_ill: AtomicBool,
    requests: AtomicUsize,
    checks: AtomicUsize,
}

impl Patient {
    async fn new(is_ill: bool) -> Self {
        let state = Arc::new(State { is_ill: AtomicBool::new(is_ill), ..State::default() });
        let shared = Arc::clone(&state);
        let address = upstream(move |connection| answers(connection, Arc::clone(&shared))).await;
        Self { address, state }
    }

    fn is(&self, is_ill: bool) {
        self.state.is_ill.store(is_ill, Ordering::Relaxed);
    }

    fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }

    fn checks(&self) -> usize {
        self.state.checks.load(Ordering::Relaxed)
    }
}

async fn answers(mut connection: Client, state: Arc<State>) {
    while let Some(head) = connection.head().await {
        let counter = if head.starts_with("GET /healthz ") { &state.checks } else { &state.requests };
        counter.fetch_add(1, Ordering::Relaxed);
        let status = if state.is_ill.load(Ordering::Relaxed) { "500 No" } else { "200 OK" };
        connection.send(&format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await;
    }
}

/// Asks until it is so.
async fn until(world: &World, mut is_so: impl FnMut() -> bool) {
    within(async {
        while !is_so() {
            world.ask(ASK).await;
        }
    })
    .await;
}

/// Waits until `/metrics` shows this line.
async fn until_counted(world: &World, line: &str) {
    within(async {
        while !world.metrics().await.lines().any(|shown| shown == line) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

fn endpoints(state: &str, count: usize) -> String {
    format!("bulkhead_upstream_endpoints{{service=\"demo\",upstream=\"app\",state=\"{state}\"}} {count}")
}

#[tokio::test]
async fn who_fails_again_and_again_is_left_alone_for_a_while() {
    let (ill, well) = (Patient::new(true).await, Patient::new(false).await);
    let world = World::start(&[ill.address, well.address], "outlier: { failures: 3, ejection_time: 1s }", "").await;
    until(&world, || ill.requests() >= 3).await;
    let line = world.log_with("log.jsonl", &["is left alone for a while", &ill.address.to_string()]).await;
    assert!(line.contains("\"ejected_ms\":1000"), "{line}");
    until_counted(&world, &endpoints("ejected", 1)).await;
    // Nobody fails any more: whatever is asked until its time is over goes to the other one.
    let before = ill.requests();
    until(&world, || ill.requests() > before).await;
    world.log_with("log.jsonl", &["is given another chance", &ill.address.to_string()]).await;
    // It fails on, and is out for longer.
    until(&world, || ill.requests() >= before + 3).await;
    world.log_with("log.jsonl", &["is left alone for a while", "\"ejected_ms\":2000"]).await;
    assert!(world.metrics().await.contains("bulkhead_upstream_ejections_total{service=\"demo\",upstream=\"app\"} 2"));
}

#[tokio::test]
async fn an_ejected_endpoint_gets_no_request() {
    let (ill, well) = (Patient::new(true).await, Patient::new(false).await);
    let world = World::start(&[ill.address, well.address], "outlier: { failures: 1, ejection_time: 10m }", "").await;
    until(&world, || ill.requests() >= 1).await;
    until_counted(&world, &endpoints("ejected", 1)).await;
    let before = ill.requests();
    for _ in 0..20 {
        assert_eq!(world.ask(ASK).await.status, 200);
    }
    assert_eq!(ill.requests(), before);
}

#[tokio::test]
async fn a_success_between_failures_ends_the_row_and_the_only_endpoint_is_never_ejected() {
    let (only, other) = (Patient::new(true).await, Patient::new(false).await);
    let world = World::start(&[only.address], "outlier: { failures: 1, ejected_max: 100% }", "").await;
    for _ in 0..5 {
        assert_eq!(world.ask(ASK).await.status, 500);
    }
    // One of one is all of them: everybody is used.
    assert_eq!(only.requests(), 5);
    let world = World::start(&[other.address, only.address], "outlier: { failures: 2 }", "").await;
    for round in 0..20 {
        only.is(round % 2 == 0);
        let before = only.requests();
        until(&world, || only.requests() > before).await;
    }
    assert!(world.metrics().await.contains("bulkhead_upstream_ejections_total{service=\"demo\",upstream=\"app\"} 0"));
}

const CHECK: &str = "health_check: { path: /healthz, interval: 100ms, healthy: 2, unhealthy: 2 }";

#[tokio::test]
async fn who_says_that_it_is_not_well_gets_no_request_until_it_is() {
    let (fickle, well) = (Patient::new(false).await, Patient::new(false).await);
    let world = World::with_workers(2, &[fickle.address, well.address], CHECK, "").await;
    until(&world, || fickle.requests() > 0).await;
    fickle.is(true);
    until_counted(&world, &endpoints("unhealthy", 1)).await;
    world.log_with("log.jsonl", &["an endpoint is not well", "the status is 500"]).await;
    let before = fickle.requests();
    for _ in 0..20 {
        assert_eq!(world.ask(ASK).await.status, 200);
    }
    assert_eq!(fickle.requests(), before);
    fickle.is(false);
    until(&world, || fickle.requests() > before).await;
    world.log_with("log.jsonl", &["an endpoint is well again"]).await;
}

#[tokio::test]
async fn where_nobody_is_well_everybody_is_asked() {
    let patients = [Patient::new(true).await, Patient::new(true).await];
    let world = World::start(&[patients[0].address, patients[1].address], CHECK, "").await;
    until_counted(&world, &endpoints("unhealthy", 2)).await;
    until_counted(&world, &endpoints("usable", 2)).await;
    until(&world, || patients.iter().all(|patient| patient.requests() > 0)).await;
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_is_found_out_without_a_request() {
    let well = Patient::new(false).await;
    let dead = crate::support::nobody().await;
    let world = World::start(&[dead, well.address], CHECK, "").await;
    until_counted(&world, &endpoints("unhealthy", 1)).await;
    world.log_with("log.jsonl", &["an endpoint is not well", "refused"]).await;
    assert!(well.requests() == 0 && well.checks() > 0);
}
