//! Adaptive concurrency: an upstream that gets slower is asked for less, and for more when it is fast again.
#![expect(clippy::indexing_slicing, reason = "tests")]

use crate::support::{Client, World, http2_client, upstream, within};
use crate::upstream_limits::{Told, asking, is_refused};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const ASK: &str = "GET /public/x HTTP/1.1\nHost: acme.test\n\n";

/// Clients that ask again and again.
const CLIENTS: usize = 60;

/// Milliseconds: longer than a busy machine takes for all of them.
const FAST: u64 = 40;
const SLOW: u64 = 10 * FAST;

/// An upstream that works on some requests at once, each for so long, and lets the others wait.
#[derive(Clone)]
struct Works {
    places: Arc<Semaphore>,
    millis: Arc<AtomicU64>,
}

impl Works {
    async fn start(places: usize) -> (SocketAddr, Self) {
        let works = Self { places: Arc::new(Semaphore::new(places)), millis: Arc::new(AtomicU64::new(FAST)) };
        let working = works.clone();
        let address = upstream(move |mut connection: Client| {
            let working = working.clone();
            async move {
                while connection.head().await.is_some() {
                    let place = working.places.acquire().await.unwrap();
                    tokio::time::sleep(Duration::from_millis(working.millis.load(Ordering::Relaxed))).await;
                    drop(place);
                    connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                }
            }
        })
        .await;
        (address, works)
    }
}

/// What the clients were answered: served, and refused.
#[derive(Clone, Default)]
struct Answered(Arc<[AtomicUsize; 2]>);

impl Answered {
    /// Has so many clients ask until they are dropped. Who is refused waits for a moment, and not for as long as it is told.
    async fn to(&self, clients: usize, world: &World) -> JoinSet<()> {
        let mut asking = JoinSet::new();
        for _ in 0..clients {
            let (mut client, Answered(counts)) = (world.client().await, self.clone());
            asking.spawn(async move {
                loop {
                    client.send(ASK).await;
                    let answer = client.answer().await;
                    let is_served = answer.status == 200;
                    assert!(is_served || is_refused(&answer), "{answer:?}");
                    counts[usize::from(!is_served)].fetch_add(1, Ordering::Relaxed);
                    if !is_served {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            });
        }
        asking
    }

    fn counts(&self) -> [usize; 2] {
        self.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

/// The limit that metrics show; none where there is none.
async fn limit(world: &World) -> Option<u32> {
    let text = world.metrics().await;
    let line = text.lines().find(|line| line.starts_with("bulkhead_upstream_adaptive_limit{"))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Waits for a limit as it should be.
async fn until_limit(world: &World, is_right: impl Fn(u32) -> bool) {
    within(async { while !is_right(limit(world).await.unwrap()) {} }).await;
}

#[tokio::test]
async fn an_upstream_that_gets_slower_is_asked_for_less_until_it_recovers() {
    let (address, works) = Works::start(4).await;
    let world = World::start(&[address], "adaptive_concurrency: { min: 2, max: 400, tolerance: 100% }", "").await;
    let answered = Answered::default();
    let asking = answered.to(CLIENTS, &world).await;
    // Sixty at once would take fifteen times as long as one.
    until_limit(&world, |limit| (4..=40).contains(&limit)).await;
    let [served, refused] = answered.counts();
    within(async {
        while answered.counts()[0] < served + 100 || answered.counts()[1] < refused + 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // It can do more: now nobody waits, and in the end nobody is refused.
    works.places.add_permits(1_000);
    until_limit(&world, |limit| limit >= 60).await;
    works.millis.store(SLOW, Ordering::Relaxed);
    until_limit(&world, |limit| limit < 20).await;
    works.millis.store(FAST, Ordering::Relaxed);
    until_limit(&world, |limit| limit >= 60).await;
    drop(asking);
    let text = world.metrics().await;
    let count =
        text.lines().find_map(|line| line.strip_prefix("bulkhead_upstream_adaptive_refusals_total{service=\"demo\",upstream=\"app\"} "));
    assert!(count.unwrap().parse::<usize>().unwrap() >= answered.counts()[1], "{text}");
}

#[tokio::test]
async fn who_does_not_fit_is_refused_at_once_and_told_why() {
    let told = Told::new().await;
    for more in ["", "\nlimits: { in_flight: 100, pending: 100 }"] {
        // Whoever waited would wait for longer than this test does.
        let settings = format!("connect_timeout: 60s\nadaptive_concurrency: {{ min: 2, max: 2 }}{more}");
        let world = World::start(&[told.address], &settings, "").await;
        let before = told.asked.load(Ordering::Relaxed);
        let on_their_way = [asking(&world), asking(&world)];
        told.until_asked(before + 2).await;
        let answer = world.ask(ASK).await;
        assert!(is_refused(&answer) && answer.body.contains("adaptive limit"), "{answer:?}");
        let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let explained = world.admin(&format!("/explain?decision={}", problem["decision_id"].as_str().unwrap())).await;
        assert!(explained.to_string().contains("answering 2 requests of this worker, its adaptive limit now"), "{explained}");
        within(async {
            let told = told.address.to_string();
            let expected = serde_json::json!([{ "service": "demo", "upstream": "app", "endpoint": told, "limit": 2, "in_flight": 2 }]);
            while world.admin("/status").await["adaptive_concurrency"] != expected {}
        })
        .await;
        told.go.add_permits(2);
        for answer in on_their_way {
            assert_eq!(within(answer).await.unwrap().status, 200);
        }
    }
}

#[tokio::test]
async fn an_endpoint_at_its_limit_is_passed_over_for_another() {
    let (full, other) = (Told::new().await, Told::new().await);
    other.go.add_permits(1_000);
    let world = World::start(&[full.address, other.address], "adaptive_concurrency: { min: 1, max: 1 }", "").await;
    let mut held = Vec::new();
    within(async {
        while full.asked.load(Ordering::Relaxed) == 0 {
            held.push(asking(&world));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // Those that went to the other one are answered, and nobody is on its way there.
    let to_other = other.asked.load(Ordering::Relaxed);
    within(async {
        while held.iter().filter(|answer| answer.is_finished()).count() < to_other {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    for _ in 0..20 {
        assert_eq!(world.ask(ASK).await.status, 200);
    }
    assert_eq!(full.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_answer_that_has_begun_leaves_its_place_to_another() {
    let streams = upstream(|mut connection: Client| async move {
        while let Some(head) = connection.head().await {
            let is_upgrade = head.to_lowercase().contains("upgrade: echo");
            let answer = if is_upgrade {
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ndata: 1\r\n\r\n"
            };
            connection.send(answer).await;
        }
    })
    .await;
    let world = World::start(&[streams], "adaptive_concurrency: { min: 1, max: 1 }", "").await;
    let mut open = Vec::new();
    for head in [ASK, "GET /public/x HTTP/1.1\nHost: acme.test\nConnection: upgrade\nUpgrade: echo\n\n"].repeat(3) {
        let mut client = world.client().await;
        client.send(head).await;
        let head = client.head().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.1 101"), "{head}");
        open.push(client);
    }
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_back() {
    let told = Told::new().await;
    let world = World::start(&[told.address], "adaptive_concurrency: { min: 1, max: 1 }", "").await;
    let mut client = world.client().await;
    client.send(ASK).await;
    told.until_asked(1).await;
    assert!(is_refused(&world.ask(ASK).await));
    drop(client);
    // The first permit is for whoever has left.
    told.go.add_permits(1_000);
    within(async { while world.ask(ASK).await.status != 200 {} }).await;
}

#[tokio::test]
async fn streams_of_http2_and_bodies_on_their_way_count_too() {
    let told = Told::new().await;
    let world = World::start(&[told.address], "adaptive_concurrency: { min: 2, max: 2 }", "").await;
    let mut client = http2_client(world.address()).await;
    let request = || http::Request::post("http://acme.test/public/x").body(()).unwrap();
    // Half a request, and a whole one.
    let (half, mut body) = client.send_request(request(), false).unwrap();
    let (whole, _) = client.send_request(request(), true).unwrap();
    told.until_asked(2).await;
    assert_eq!(within(client.send_request(request(), true).unwrap().0).await.unwrap().status(), 503);
    body.send_data("end".into(), true).unwrap();
    told.go.add_permits(2);
    for answer in [half, whole] {
        assert_eq!(within(answer).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn left_out_it_bounds_nothing_and_shows_nothing() {
    let told = Told::new().await;
    let world = World::start(&[told.address], "", "").await;
    let on_their_way: Vec<_> = (0..CLIENTS).map(|_| asking(&world)).collect();
    told.until_asked(CLIENTS).await;
    assert_eq!(limit(&world).await, None);
    assert_eq!(world.admin("/status").await["adaptive_concurrency"], serde_json::json!([]));
    told.go.add_permits(CLIENTS);
    for answer in on_their_way {
        assert_eq!(within(answer).await.unwrap().status, 200);
    }
}
