//! Answers of upstreams, byte by byte: where they end, and what is none.

use crate::support::{Client, World, upstream, within};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An upstream that answers every request of a connection with these bytes, in pieces, and counts its connections.
async fn answers(pieces: &[&'static str], then_closes: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let (pieces, connections) = (pieces.to_vec(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&connections);
    let address = upstream(move |mut connection: Client| {
        let pieces = pieces.clone();
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            while connection.head().await.is_some() {
                for piece in &pieces {
                    connection.send_raw(piece.as_bytes()).await;
                    tokio::task::yield_now().await;
                }
                if then_closes {
                    return;
                }
            }
        }
    })
    .await;
    (address, connections)
}

#[tokio::test]
async fn an_answer_ends_where_it_says_and_its_connection_is_used_again_where_it_may() {
    for (pieces, then_closes, body, kept) in [
        (&["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"][..], false, "hello", true),
        (&["HTTP/1.1 200 OK\r\nContent-Le", "ngth: 5\r\n\r", "\nhe", "llo"], false, "hello", true),
        (&["HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"], false, "hello", true),
        (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r", "\nhel\r\n2;x=y\r\nlo\r\n0\r\n", "\r\n"], false, "hello", true),
        (&["HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"], false, "hello", false),
        (&["HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"], false, "hello", false),
        (&["HTTP/1.1 200 OK\r\n\r\nhel", "lo"], true, "hello", false),
        (&["HTTP/1.0 200 OK\r\n\r\nhello"], true, "hello", false),
        (&["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more"], false, "hello", false),
    ] {
        let (address, connections) = answers(pieces, then_closes).await;
        let world = World::start(&[address], "", "").await;
        let mut client = world.client().await;
        for _ in 0..3 {
            client.send("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await;
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.body.as_str()), (200, body), "{pieces:?}");
        }
        assert_eq!(connections.load(Ordering::Relaxed), if kept { 1 } else { 3 }, "{pieces:?}");
    }
}

#[tokio::test]
async fn an_answer_with_two_readings_is_no_answer() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
    ] {
        let (address, _) = answers(&[text], false).await;
        let world = World::start(&[address], "", "").await;
        let answer = world.ask("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await;
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_protocol"), "{text}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_cut_and_never_completed() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n",
    ] {
        let (address, _) = answers(&[text], true).await;
        let world = World::start(&[address], "", "").await;
        let mut client = world.client().await;
        client.send("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await;
        // What broke before anything went out may be no answer at all.
        let _ = client.head().await;
        let body = client.bytes(1_000).await;
        assert!(!body.ends_with(b"0\r\n\r\n") && body.len() < 50, "{}", String::from_utf8_lossy(&body));
        let line = world.log_with("log.jsonl", &["an upstream failed"]).await;
        assert!(line.contains("\"step\":\"body_closed\""), "{line}");
    }
}

#[tokio::test]
async fn heads_and_answers_without_a_body_keep_the_connection() {
    for (method, text) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n"),
    ] {
        let (address, connections) = answers(&[text], false).await;
        let world = World::start(&[address], "", "").await;
        let mut client = world.client().await;
        for _ in 0..3 {
            client.send(&format!("{method} /public/x HTTP/1.1\nHost: acme.test\n\n")).await;
            let head = client.head().await.unwrap();
            assert!(head.starts_with(text.get(..12).unwrap()), "{head}");
        }
        assert_eq!(connections.load(Ordering::Relaxed), 1, "{method} {text}");
    }
}

#[tokio::test]
async fn an_upstream_that_answers_and_hangs_up_amid_an_upload_is_heard() {
    let hasty = upstream(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.1 413 Payload Too Large\nContent-Length: 2\nConnection: close\n\nno").await;
    })
    .await;
    let world = World::start(&[hasty], "", "").await;
    let mut client = world.client().await;
    let body = "x".repeat(3_000_000);
    client.stream.set_nodelay(true).unwrap();
    let head = format!("POST /public/x HTTP/1.1\r\nHost: acme.test\r\nContent-Length: {}\r\n\r\n", body.len());
    client.send_raw(head.as_bytes()).await;
    let answer = within(client.answer()).await;
    assert_eq!((answer.status, answer.body.as_str()), (413, "no"));
}
