//! Limits on what an endpoint is asked for at once: who waits, who is refused, and when a place is free again.

use crate::support::{Answer, Client, World, http2_client, http2_upstream, upstream, within};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

const ASK: &str = "GET /public/x HTTP/1.1\nHost: acme.test\n\n";

/// An upstream that answers a request each time that it is told to.
pub(crate) struct Told {
    pub(crate) address: SocketAddr,
    pub(crate) go: Arc<Semaphore>,
    pub(crate) asked: Arc<AtomicUsize>,
}

impl Told {
    pub(crate) async fn new() -> Self {
        let (go, asked) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (go_on, count) = (Arc::clone(&go), Arc::clone(&asked));
        let address = upstream(move |connection| answers(connection, Arc::clone(&go_on), Arc::clone(&count))).await;
        Self { address, go, asked }
    }

    /// So many requests have reached it.
    pub(crate) async fn until_asked(&self, count: usize) {
        within(async {
            while self.asked.load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

async fn answers(mut connection: Client, go: Arc<Semaphore>, asked: Arc<AtomicUsize>) {
    while connection.head().await.is_some() {
        asked.fetch_add(1, Ordering::Relaxed);
        go.acquire().await.unwrap().forget();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    }
}

/// A request on a connection of its own, on its way.
pub(crate) fn asking(world: &World) -> tokio::task::JoinHandle<Answer> {
    let address = world.address();
    tokio::spawn(async move {
        let mut client = Client::to(address).await;
        client.send(ASK).await;
        client.answer().await
    })
}

pub(crate) fn is_refused(answer: &Answer) -> bool {
    let tells = |what: &str| answer.head.contains(what);
    answer.status == 503 && answer.code() == "upstream_overloaded" && tells("error=connection_limit_reached") && tells("retry-after: 1\r\n")
}

#[tokio::test]
async fn what_no_endpoint_has_a_place_for_is_refused_at_once() {
    let told = Told::new().await;
    let world = World::with_workers(2, &[told.address], "limits: { in_flight: 2 }", "").await;
    let on_their_way = [asking(&world), asking(&world)];
    told.until_asked(2).await;
    for _ in 0..3 {
        assert!(is_refused(&world.ask(ASK).await));
    }
    told.go.add_permits(3);
    for answer in on_their_way {
        assert_eq!(within(answer).await.unwrap().status, 200);
    }
    within(async { while world.ask(ASK).await.status != 200 {} }).await;
    let text = world.metrics().await;
    assert!(!text.contains("bulkhead_upstream_failures_total{step=\"overloaded\"} 0"), "{text}");
}

#[tokio::test]
async fn a_full_endpoint_is_passed_over_for_one_that_has_a_place() {
    let (full, other) = (Told::new().await, Told::new().await);
    other.go.add_permits(1_000);
    let world = World::start(&[full.address, other.address], "limits: { in_flight: 1 }", "").await;
    let mut held = Vec::new();
    within(async {
        while full.asked.load(Ordering::Relaxed) == 0 {
            held.push(asking(&world));
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
async fn as_many_as_declared_wait_for_a_place_and_get_it() {
    let told = Told::new().await;
    let world = World::with_workers(2, &[told.address], "limits: { in_flight: 1, pending: 3 }\nconnect_timeout: 15s", "").await;
    let first = asking(&world);
    told.until_asked(1).await;
    let mut waiting: Vec<_> = (0..4).map(|_| asking(&world)).collect();
    within(async {
        while !waiting.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let refused = waiting.iter().position(tokio::task::JoinHandle::is_finished).unwrap();
    assert!(is_refused(&waiting.swap_remove(refused).await.unwrap()));
    told.go.add_permits(4);
    for answer in waiting.into_iter().chain([first]) {
        assert_eq!(within(answer).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn who_waits_for_too_long_is_refused_and_leaves_the_line() {
    let told = Told::new().await;
    let world = World::start(&[told.address], "limits: { in_flight: 1, pending: 1 }\nconnect_timeout: 100ms", "").await;
    let first = asking(&world);
    told.until_asked(1).await;
    for _ in 0..2 {
        assert!(is_refused(&world.ask(ASK).await));
    }
    told.go.add_permits(2);
    assert_eq!(within(first).await.unwrap().status, 200);
    within(async { while world.ask(ASK).await.status != 200 {} }).await;
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_back() {
    let told = Told::new().await;
    let world = World::start(&[told.address], "limits: { in_flight: 1 }", "").await;
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
async fn streams_of_http2_are_counted_one_by_one() {
    let (go, asked) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (go_on, count) = (Arc::clone(&go), Arc::clone(&asked));
    let address = http2_upstream(move |_, stream| {
        let (go, asked) = (Arc::clone(&go_on), Arc::clone(&count));
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                asked.fetch_add(1, Ordering::Relaxed);
                let go = Arc::clone(&go);
                tokio::spawn(async move {
                    go.acquire().await.unwrap().forget();
                    respond.send_response(http::Response::new(()), true).unwrap();
                });
            }
        }
    })
    .await;
    let world = World::start(&[address], "protocol: http2\nlimits: { in_flight: 3 }", "").await;
    let mut client = http2_client(world.address()).await;
    let mut ask = || {
        let request = http::Request::get("http://acme.test/public/x").body(()).unwrap();
        client.send_request(request, true).unwrap().0
    };
    let on_their_way = [ask(), ask(), ask()];
    within(async {
        while asked.load(Ordering::Relaxed) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(within(ask()).await.unwrap().status(), 503);
    go.add_permits(3);
    for answer in on_their_way {
        assert_eq!(within(answer).await.unwrap().status(), 200);
    }
}
