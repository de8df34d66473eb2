//! Retries: what is sent again, what never is, and how often all of it together.

use crate::support::{Client, World, echo, nobody, upstream};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const ASK: &str = "GET /public/x HTTP/1.1\nHost: acme.test\n\n";
const ON_ALL: &str = "retry: { on: [connect_failure, reset, 502, 503, 504] }";

/// How often an upstream was asked.
#[derive(Clone, Default)]
struct Asked(Arc<AtomicUsize>);

impl Asked {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// An upstream that answers its first requests with each of these in turn, and the last of them from then on; `""` closes.
async fn saying(answers: &'static [&'static str]) -> (SocketAddr, Asked) {
    let asked = Asked::default();
    let counted = asked.clone();
    let address = upstream(move |connection| says(connection, answers, counted.clone())).await;
    (address, asked)
}

async fn says(mut connection: Client, answers: &'static [&'static str], asked: Asked) {
    while let Some(head) = connection.head().await {
        connection.body_of(&head).await;
        let number = asked.0.fetch_add(1, Ordering::Relaxed);
        match *answers.get(number).or(answers.last()).unwrap() {
            "" => return,
            answer => connection.send(&format!("HTTP/1.1 {answer}")).await,
        }
    }
}

const BUSY: &str = "503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";
const FINE: &str = "200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_declared_status_is_tried_elsewhere_and_the_last_one_passed_on() {
    let (busy, asked) = saying(&[BUSY]).await;
    let (fine, _) = saying(&[FINE]).await;
    let world = World::start(&[busy, fine], ON_ALL, "").await;
    for _ in 0..6 {
        assert_eq!(world.ask(ASK).await.body, "ok");
    }
    assert!(asked.count() >= 3, "{}", asked.count());

    let (busy, asked) = saying(&[BUSY]).await;
    let world = World::start(&[busy], "retry: { attempts: 2, on: [503] }", "").await;
    let answer = world.ask(ASK).await;
    assert_eq!((answer.status, answer.body.as_str(), asked.count()), (503, "busy", 3));
}

#[tokio::test]
async fn a_status_that_is_not_declared_is_the_answer() {
    let (busy, asked) = saying(&[BUSY]).await;
    for settings in ["", "retry: {}", "retry: { on: [502] }"] {
        let before = asked.count();
        assert_eq!(World::start(&[busy], settings, "").await.ask(ASK).await.status, 503);
        assert_eq!(asked.count() - before, 1, "{settings}");
    }
}

#[tokio::test]
async fn an_upstream_that_closes_is_asked_again_only_where_that_is_declared_and_means_the_same_twice() {
    for (method, settings, status, times) in [
        ("GET", ON_ALL, 200, 2),
        ("DELETE", ON_ALL, 200, 2),
        ("POST", ON_ALL, 502, 1),
        ("PATCH", ON_ALL, 502, 1),
        ("GET", "", 502, 1),
        ("GET", "retry: { on: [503] }", 502, 1),
    ] {
        let (fickle, asked) = saying(&["", FINE]).await;
        let world = World::start(&[fickle], settings, "").await;
        let answer = world.ask(&format!("{method} /public/x HTTP/1.1\nHost: acme.test\n\n")).await;
        assert_eq!((answer.status, asked.count()), (status, times), "{method} with `{settings}`");
    }
}

#[tokio::test]
async fn a_body_that_is_still_here_goes_out_again_from_its_beginning() {
    for (bytes, chunked, status) in [(10, false, 200), (10, true, 200), (1_000, false, 200), (1_001, false, 502), (1_001, true, 502)] {
        let asked = Asked::default();
        let counted = asked.clone();
        let fickle = upstream(move |mut connection| {
            let asked = counted.clone();
            async move {
                let head = connection.head().await.unwrap();
                let body = connection.body_of(&head).await;
                if asked.0.fetch_add(1, Ordering::Relaxed) > 0 {
                    connection.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
                }
            }
        })
        .await;
        let world = World::start(&[fickle], "retry: { body_bytes_max: 1000B }", "").await;
        let body = "x".repeat(bytes);
        let answer = if chunked {
            let request =
                format!("transfer-encoding: chunked\n\n{bytes:x}\r\n{body}\r\n0\r\n\r\n").replace("\r\n", "\n").replace('\n', "\r\n");
            world.ask(&format!("PUT /public/x HTTP/1.1\r\nHost: acme.test\r\n{request}")).await
        } else {
            world.ask(&format!("PUT /public/x HTTP/1.1\nHost: acme.test\nContent-Length: {bytes}\n\n{body}")).await
        };
        assert_eq!(answer.status, status, "{bytes} bytes, chunked: {chunked}");
        assert_eq!(asked.count(), if status == 200 { 2 } else { 1 });
        assert!(status != 200 || answer.body == body, "{bytes} bytes, chunked: {chunked}: {}", answer.body);
    }
}

#[tokio::test]
async fn retry_after_is_waited_for_and_not_beyond_the_time_for_an_answer() {
    const AT_ONCE: &str = "503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";
    const LATE: &str = "503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n";
    const DATE: &str = "503 Service Unavailable\r\nretry-after: Fri, 31 Dec 2999 23:59:59 GMT\r\ncontent-length: 0\r\n\r\n";
    let table: [(&'static [&'static str], u16); 3] = [(&[AT_ONCE, FINE], 200), (&[LATE, FINE], 503), (&[DATE, FINE], 503)];
    for (answers, status) in table {
        let (upstream, _) = saying(answers).await;
        let world = World::start(&[upstream], &format!("response_timeout: 2s\n{ON_ALL}"), "").await;
        assert_eq!(world.ask(ASK).await.status, status, "{answers:?}");
    }
}

#[tokio::test]
async fn nothing_is_sent_again_once_an_answer_began() {
    let (half, asked) = saying(&["200 OK\r\ncontent-length: 100\r\n\r\nhalf", ""]).await;
    let world = World::start(&[half], &format!("idle_timeout: 100ms\n{ON_ALL}"), "").await;
    let mut client = world.client().await;
    client.send(ASK).await;
    let head = client.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && client.bytes(100).await == b"half" && asked.count() == 1, "{head}");
}

#[tokio::test]
async fn a_dead_upstream_gets_a_share_more_and_not_a_multiple() {
    let (dead, asked) = saying(&[""]).await;
    let world = World::start(&[dead], "retry: { attempts: 5, budget: 20% }", "").await;
    for _ in 0..100 {
        assert_eq!(world.ask(ASK).await.status, 502);
    }
    // A hundred requests, a fifth of them once more, and ten for every ten seconds that it takes; without the budget six hundred.
    assert!((110..200).contains(&asked.count()), "{}", asked.count());
    let text = world.metrics().await;
    let count = |name: &str| -> usize {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(count("bulkhead_upstream_retries_total{service=\"demo\",upstream=\"app\",reason=\"reset\"}"), asked.count() - 100);
    assert!(count("bulkhead_upstream_retries_withheld_total{service=\"demo\",upstream=\"app\"}") > 0);
}

#[tokio::test]
async fn who_cannot_be_reached_is_not_asked_elsewhere_where_that_is_not_declared() {
    let world = World::start(&[nobody().await, echo().await], "retry: { on: [503] }", "").await;
    let mut statuses = [world.ask(ASK).await.status, world.ask(ASK).await.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502]);
    assert_eq!(world.ask(ASK).await.status, 200, "and it is tried last from then on");
}
