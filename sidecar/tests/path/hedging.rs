//! Hedging: who is silent for too long does not keep a client waiting, where another may be asked the same.
#![expect(clippy::indexing_slicing, reason = "tests")]

use crate::support::{Client, World, http2_echo, http2_upstream, upstream};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const ASK: &str = "GET /public/x HTTP/1.1\nHost: acme.test\n\n";
/// Silence that no machine is busy enough for is answered with 504 only.
const HEDGED: &str = "response_timeout: 3s\nretry: { hedge_after: 20ms }";

/// Requests that came, and connections that ended before they were answered.
#[derive(Clone, Default)]
struct Silent(Arc<[AtomicUsize; 2]>);

impl Silent {
    fn counts(&self) -> [usize; 2] {
        self.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

/// An upstream that never answers.
async fn silent() -> (SocketAddr, Silent) {
    let silent = Silent::default();
    let counted = silent.clone();
    let address = upstream(move |mut connection: Client| {
        let Silent(counts) = counted.clone();
        async move {
            if let Some(head) = connection.head().await {
                connection.body_of(&head).await;
                counts[0].fetch_add(1, Ordering::Relaxed);
                if connection.ends().await {
                    counts[1].fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    })
    .await;
    (address, silent)
}

/// An upstream that answers with this.
async fn saying(answer: &'static str) -> SocketAddr {
    upstream(move |mut connection: Client| async move {
        while connection.head().await.is_some() {
            connection.send(&format!("HTTP/1.1 {answer}\r\ncontent-length: 2\r\n\r\nok")).await;
        }
    })
    .await
}

async fn hedges(world: &World) -> usize {
    let text = world.metrics().await;
    let line = text.lines().find(|line| line.starts_with("bulkhead_upstream_retries_total") && line.contains("reason=\"hedge\""));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap()
}

#[tokio::test]
async fn another_endpoint_answers_for_one_that_is_silent_which_is_then_given_up() {
    let (slow, silent) = silent().await;
    let world = World::start(&[slow, saying("200 OK").await], HEDGED, "").await;
    for _ in 0..8 {
        let answer = world.ask(ASK).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    }
    let [came, _] = silent.counts();
    assert!(came > 0, "some went to it first");
    assert_eq!(hedges(&world).await, came);
    // Whoever is given up is told so: its connection ends.
    while silent.counts()[1] < came {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_may_not_be_said_twice_waits_for_the_one_that_was_asked() {
    let (slow, silent) = silent().await;
    let world = World::start(&[slow], "response_timeout: 200ms\nretry: { hedge_after: 20ms }", "").await;
    assert_eq!(world.ask(ASK).await.status, 504, "there is nobody else to ask");
    let (other, second) = self::silent().await;
    let settings = "response_timeout: 200ms\nretry: { hedge_after: 20ms, body_bytes_max: 2B }";
    let world = World::start(&[slow, other], settings, "").await;
    let before = silent.counts()[0];
    assert_eq!(world.ask("POST /public/x HTTP/1.1\nHost: acme.test\n\n").await.status, 504);
    assert_eq!(world.ask("POST /public/x HTTP/1.1\nHost: acme.test\nContent-Length: 2\n\nab").await.status, 504);
    assert_eq!(world.ask("PUT /public/x HTTP/1.1\nHost: acme.test\nContent-Length: 3\n\nabc").await.status, 504);
    assert_eq!(world.ask(&chunked("abc")).await.status, 504);
    assert_eq!((silent.counts()[0] - before + second.counts()[0], hedges(&world).await), (4, 0), "one each");
}

/// A PUT of this body in one chunk.
fn chunked(body: &str) -> String {
    let length = body.len();
    format!("PUT /public/x HTTP/1.1\r\nHost: acme.test\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
}

/// An upstream that answers with the body it was sent.
async fn repeating() -> SocketAddr {
    upstream(|mut connection: Client| async move {
        while let Some(head) = connection.head().await {
            let body = connection.body_of(&head).await;
            connection.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_body_that_is_all_here_goes_to_another_endpoint_as_well() {
    let body = "x".repeat(50_000);
    let with_length = format!("PUT /public/x HTTP/1.1\r\nHost: acme.test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for (ask, sent) in [(with_length, &*body), (chunked(&body), &body)] {
        let (slow, silent) = silent().await;
        let world = World::start(&[slow, repeating().await], HEDGED, "").await;
        for _ in 0..6 {
            let answer = world.ask(&ask).await;
            assert!(answer.status == 200 && answer.body == sent, "{}: {} bytes", answer.status, answer.body.len());
        }
        let [came, _] = silent.counts();
        assert!(came > 0, "some went to it first, and it had all of them");
        assert_eq!(hedges(&world).await, came);
    }
}

#[tokio::test]
async fn a_body_that_is_still_coming_goes_to_one_endpoint_only() {
    let (slow, silent) = silent().await;
    let world = World::start(&[slow, repeating().await], HEDGED, "").await;
    for _ in 0..2 {
        let mut client = world.client().await;
        let before = hedges(&world).await;
        client.send("PUT /public/x HTTP/1.1\nHost: acme.test\nContent-Length: 4\n\nab").await;
        // As long as five times the silence after which another is asked.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert_eq!(hedges(&world).await, before);
        assert!(client.send_raw(b"cd").await);
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "abcd"));
    }
    let [came, _] = silent.counts();
    assert!(came > 0, "some went to it first, and it had all of them");
    assert_eq!(hedges(&world).await, came);
}

#[tokio::test]
async fn a_body_goes_twice_over_http2_too() {
    let came = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&came);
    let silent = http2_upstream(move |_, stream| {
        let came = Arc::clone(&counted);
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let mut held = Vec::new();
            while let Some(Ok(asked)) = connection.accept().await {
                came.fetch_add(1, Ordering::Relaxed);
                held.push(asked);
            }
        }
    })
    .await;
    let repeats = http2_upstream(|_, stream| http2_echo(stream)).await;
    let world = World::start(&[silent, repeats], &format!("protocol: http2\n{HEDGED}"), "").await;
    for _ in 0..6 {
        let answer = world.ask("PUT /public/x HTTP/1.1\nHost: acme.test\nContent-Length: 4\n\nabcd").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "abcd"));
    }
    let came = came.load(Ordering::Relaxed);
    assert!(came > 0 && hedges(&world).await == came, "{came} went to the silent one first");
}

#[tokio::test]
async fn an_answer_that_is_no_good_does_not_end_the_wait_for_another() {
    // Both endpoints are silent for a moment, so each request goes to both; one of them fails then.
    let late = |answer: &'static str, millis: u64| {
        upstream(move |mut connection: Client| async move {
            while connection.head().await.is_some() {
                tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
                connection.send(&format!("HTTP/1.1 {answer}\r\ncontent-length: 2\r\n\r\nok")).await;
            }
        })
    };
    let world = World::start(&[late("500 Oops", 100).await, late("200 OK", 400).await], HEDGED, "").await;
    for _ in 0..4 {
        assert_eq!(world.ask(ASK).await.status, 200);
    }
    assert!(hedges(&world).await >= 4);
}

#[tokio::test]
async fn hedges_come_out_of_the_budget_of_retries() {
    let (slow, _) = silent().await;
    let (other, _) = silent().await;
    let settings = "response_timeout: 200ms\nretry: { hedge_after: 1ms, budget: 1% }";
    let world = World::start(&[slow, other], settings, "").await;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let mut client = world.client().await;
        asked.spawn(async move {
            client.send(ASK).await;
            client.answer().await.status
        });
    }
    while let Some(status) = asked.join_next().await {
        assert_eq!(status.unwrap(), 504);
    }
    let text = world.metrics().await;
    assert!(hedges(&world).await <= 11, "ten, and one for a hundred requests");
    let withheld = text.lines().find(|line| line.starts_with("bulkhead_upstream_retries_withheld_total")).unwrap();
    assert!(!withheld.ends_with(" 0"), "{withheld}");
}
