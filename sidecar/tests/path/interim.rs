//! What is said before the answer: hints of the upstream, and whether a client is to send its body.

use crate::support::{Client, World, echo, http2_client, upstream, within};
use std::sync::Arc;
use tokio::sync::watch;

const HINTS: &str =
    "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-mine\r\nX-Mine: 1\r\nContent-Length: 9\r\n\r\n";

/// An upstream that says `first` at once and answers when it is told to.
async fn hesitant(first: &'static str) -> (std::net::SocketAddr, Arc<watch::Sender<u32>>) {
    let (go, gone) = watch::channel(0);
    let address = upstream(move |mut connection| {
        let mut gone = gone.clone();
        async move {
            let mut number = 0;
            while connection.head().await.is_some() {
                number += 1;
                connection.send_raw(first.as_bytes()).await;
                let _ = gone.wait_for(|answered| *answered >= number).await;
                connection.send("HTTP/1.1 200 OK\nContent-Length: 2\n\nok").await;
            }
        }
    })
    .await;
    (address, Arc::new(go))
}

#[tokio::test]
async fn a_hint_is_with_the_client_before_the_answer_exists() {
    let (address, go) = hesitant(HINTS).await;
    let world = World::start(&[address], "", "").await;
    let mut client = world.client().await;
    for number in 1..=2 {
        client.send("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await;
        let hint = client.head().await.unwrap();
        // Nothing of what is meant for the hop to the upstream, and no length: there is no body.
        assert_eq!(hint, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n");
        go.send(number).unwrap();
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    }
}

#[tokio::test]
async fn hints_of_requests_sent_ahead_stand_before_their_own_answers() {
    let (address, go) = hesitant(HINTS).await;
    go.send(2).unwrap();
    let world = World::start(&[address], "", "").await;
    let mut client = world.client().await;
    let one = "GET /public/x HTTP/1.1\r\nHost: acme.test\r\n\r\n";
    client.send_raw([one, one].concat().as_bytes()).await;
    for status in [103, 200, 103, 200] {
        assert_eq!(client.answer().await.status, status);
    }
}

#[tokio::test]
async fn only_who_may_be_told_is_told() {
    let both = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let (address, go) = hesitant(both).await;
    go.send(u32::MAX).unwrap();
    let world = World::start(&[address], "", "").await;
    let old = world.ask("GET /public/x HTTP/1.0\nHost: acme.test\n\n").await;
    assert_eq!(old.status, 200, "HTTP/1.0 knows no informational answers");
    let mut client = world.client().await;
    client.send("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await;
    assert_eq!((client.answer().await.status, client.answer().await.status), (103, 200), "100 belongs to who asked for it");
    let mut sender = http2_client(world.address()).await;
    let request = http::Request::get("http://acme.test/public/x").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    assert_eq!(within(response).await.unwrap().status(), 200);
}

/// What a client hears that asked to be told whether to send its body, before it sends any of it.
async fn told(client: &mut Client, head: &str) -> String {
    client.send(head).await;
    client.head().await.unwrap_or_default()
}

#[tokio::test]
async fn a_client_that_waits_is_told_to_send_its_body_or_that_it_is_refused() {
    let world = World::start(&[echo().await], "", "").await;
    let mut client = world.client().await;
    let asks = "POST /public/x HTTP/1.1\nHost: acme.test\nExpect: 100-continue\nContent-Length: 5\n\n";
    assert_eq!(told(&mut client, asks).await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send_raw(b"hello").await;
    let answer = client.answer().await;
    assert!(answer.status == 200 && answer.body.ends_with("hello") && !answer.body.contains("expect"), "{}", answer.body);
    // Who did not ask is told nothing but the answer, also on the same connection.
    let answer = told(&mut client, "POST /public/x HTTP/1.1\nHost: acme.test\nContent-Length: 5\n\nhello").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for (from, to, status) in [
        ("acme.test", "nobody.test", "404"),
        ("/public/x", "/private", "401"),
        ("Length: 5", "Length: 99999999", "413"),
        ("100-continue", "200-ok", "417"),
        ("100-continue", "100-continue\nExpect: wonders", "417"),
    ] {
        let mut client = world.client().await;
        let head = told(&mut client, &asks.replace(from, to)).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{to}: {head}");
        assert!(!client.body_of(&head).await.contains("100 Continue"), "not in the midst of the answer either");
    }
}

#[tokio::test]
async fn an_expectation_that_nobody_knows_is_refused_over_http2_too() {
    let world = World::start(&[echo().await], "", "").await;
    let mut sender = http2_client(world.address()).await;
    let request = http::Request::get("http://acme.test/public/x").header("expect", "wonders").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    assert_eq!(within(response).await.unwrap().status(), 417);
}

#[tokio::test]
async fn trailers_of_an_answer_say_nothing_that_belongs_into_its_head() {
    let address = upstream(|mut connection| async move {
        while connection.head().await.is_some() {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n";
            let trailers =
                "x-sum: 7\r\nSet-Cookie: a=b\r\nContent-Length: 5\r\nx_bulkhead_user: root\r\nTransfer-Encoding: chunked\r\n\r\n";
            connection.send_raw([head, trailers].concat().as_bytes()).await;
        }
    })
    .await;
    let world = World::start(&[address], "", "").await;
    let answer = world.ask("GET /public/x HTTP/1.1\nHost: acme.test\nTE: trailers\n\n").await;
    assert_eq!(answer.body, "okx-sum: 7\r\n");
}

#[tokio::test]
async fn a_client_that_goes_on_sending_behind_its_last_answer_or_resets_harms_nobody() {
    let world = World::start(&[echo().await], "", "").await;
    for resets in [false, true] {
        let mut client = world.client().await;
        client.send("GET /public/x HTTP/1.1\nHost: acme.test\nConnection: close\n\nGET /public/more HTTP/1.1\n").await;
        assert_eq!(client.answer().await.status, 200);
        if resets {
            socket2::SockRef::from(&client.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            drop(client);
        } else {
            while client.send_raw(&[b'x'; 64 << 10]).await {}
        }
        assert_eq!(world.ask("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await.status, 200);
    }
}
