//! Upstreams that fail, each in its own way: every failure names its step, and what can be repaired is.

use crate::support::{World, echo, nobody, upstream};

async fn outcome(world: &World) -> (u16, String, String) {
    let answer = world.ask("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await;
    let status = answer.head.lines().find_map(|line| line.strip_prefix("proxy-status: ")).unwrap_or_default().to_owned();
    let error = status.split("error=").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_default().to_owned();
    (answer.status, answer.code(), error)
}

fn said(status: u16, code: &str, error: &str) -> (u16, String, String) {
    (status, code.to_owned(), error.to_owned())
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_502() {
    let world = World::start(&[nobody().await], "", "").await;
    assert_eq!(outcome(&world).await, said(502, "upstream_unreachable", "connection_refused"));
    let line = world.log_with("log.jsonl", &["an upstream failed"]).await;
    assert!(line.contains("\"step\":\"refused\"") && line.contains("\"tenant_id\":\"acme\""), "{line}");
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_in_time_is_504() {
    let silent = upstream(|mut connection| async move { while connection.head().await.is_some() {} }).await;
    let world = World::start(&[silent], "response_timeout: 100ms", "").await;
    assert_eq!(outcome(&world).await, said(504, "upstream_timeout", "http_response_timeout"));
}

#[tokio::test]
async fn an_upstream_that_breaks_off_or_speaks_nonsense_is_502() {
    let closes = upstream(|mut connection| async move { drop(connection.head().await) }).await;
    let world = World::start(&[closes], "", "").await;
    assert_eq!(outcome(&world).await, said(502, "upstream_protocol", "connection_terminated"));
    let nonsense = upstream(|mut connection| async move {
        connection.head().await;
        connection.send("SMTP/1.0 hello\n\n").await;
    })
    .await;
    let world = World::start(&[nonsense], "", "").await;
    assert_eq!(outcome(&world).await, said(502, "upstream_protocol", "http_protocol_error"));
    let unasked = upstream(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: x\n\n").await;
    })
    .await;
    let world = World::start(&[unasked], "", "").await;
    assert_eq!(outcome(&world).await, said(502, "upstream_protocol", "http_protocol_error"));
}

#[tokio::test]
async fn an_answer_that_stands_still_is_cut_and_never_completed() {
    let stalls = upstream(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.1 200 OK\nContent-Length: 100\n\nonly this").await;
        connection.head().await;
    })
    .await;
    let world = World::start(&[stalls], "idle_timeout: 100ms", "").await;
    let mut client = world.client().await;
    client.send("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await;
    let head = client.head().await.unwrap();
    assert!(head.contains("content-length: 100"), "{head}");
    assert_eq!(client.bytes(100).await, b"only this");
    let line = world.log_with("log.jsonl", &["an upstream failed"]).await;
    assert!(line.contains("\"step\":\"body_timeout\""), "{line}");
}

#[tokio::test]
async fn a_request_goes_to_the_endpoint_that_can_be_reached() {
    let world = World::start(&[nobody().await, echo().await, nobody().await], "", "").await;
    for _ in 0..9 {
        assert_eq!(world.ask("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await.status, 200);
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_upstream_closes_loses_no_request() {
    // Answers once as if it would go on, and ends when the next request is there: the worst moment.
    let fickle = upstream(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.1 200 OK\nContent-Length: 2\n\nok").await;
        connection.head().await;
    })
    .await;
    let world = World::start(&[fickle], "", "").await;
    let mut client = world.client().await;
    for _ in 0..5 {
        client.send("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn a_request_that_may_not_be_repeated_is_not() {
    let fickle = upstream(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.1 200 OK\nContent-Length: 2\n\nok").await;
        connection.head().await;
    })
    .await;
    let world = World::start(&[fickle], "", "").await;
    let mut client = world.client().await;
    client.send("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await;
    assert_eq!(client.answer().await.status, 200);
    client.send("POST /public/x HTTP/1.1\nHost: acme.test\n\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_protocol"));
}

#[tokio::test]
async fn bytes_that_come_after_an_answer_never_reach_the_next_request() {
    let chatty = upstream(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").await;
        while connection.head().await.is_some() {}
    })
    .await;
    let world = World::start(&[chatty], "", "").await;
    let mut client = world.client().await;
    for _ in 0..3 {
        client.send("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await;
        assert_eq!(client.answer().await.body, "ok");
    }
}
