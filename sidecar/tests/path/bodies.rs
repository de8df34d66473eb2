//! Bodies: streamed both ways, bounded, and holding their places until their last byte.

use crate::support::{KEY, World, echo, upstream, within};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

const SMALL_BODIES: &str = "---\nkind: SecurityPolicy\nname: small\nrequest: { body_bytes_max: 1KiB, body_idle_timeout: 200ms }\n";

#[tokio::test]
async fn a_body_of_any_size_passes_both_ways() {
    let world = World::start(&[echo().await], "", "").await;
    let mut client = world.client().await;
    for length in [0, 1, 5_000, 70_000, 3_000_000] {
        let body = "x".repeat(length);
        client.send(&format!("POST /public/x HTTP/1.1\nHost: acme.test\nContent-Length: {length}\n\n{body}")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body.split_once("\r\n\r\n").unwrap().1.len(), length);
    }
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_refused_before_it_is_sent() {
    let world = World::start(&[echo().await], "", SMALL_BODIES).await;
    let answer = world.ask("POST /public/x HTTP/1.1\nHost: acme.test\nContent-Length: 1025\nExpect: 100-continue\n\n").await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_refused_and_the_answer_arrives() {
    let world = World::start(&[echo().await], "", SMALL_BODIES).await;
    let mut client = world.client().await;
    client.send("POST /public/x HTTP/1.1\nHost: acme.test\nTransfer-Encoding: chunked\n\n").await;
    for _ in 0..64 {
        client.send_raw(format!("400\r\n{}\r\n", "x".repeat(1_024)).as_bytes()).await;
    }
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    assert!(client.ends().await);
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let world = World::start(&[echo().await], "", SMALL_BODIES).await;
    let mut client = world.client().await;
    client.send("POST /public/x HTTP/1.1\nHost: acme.test\nContent-Length: 10\n\nabc").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "body_timeout"));
}

#[tokio::test]
async fn a_body_whose_chunks_are_none_is_the_clients_fault_and_not_a_client_that_left() {
    let world = World::start(&[echo().await], "", "").await;
    for chunks in ["3\nabc\nzz\n\n", "ffffffffffffffffff\n", "3\nabcd\n0\n\n"] {
        let answer = world.ask(&format!("POST /public/x HTTP/1.1\nHost: acme.test\nTransfer-Encoding: chunked\n\n{chunks}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "ambiguous_request"), "{chunks:?}");
    }
    world.log_with("access.jsonl", &["ambiguous_request", "\"status\":400"]).await;
}

#[tokio::test]
async fn an_answer_that_comes_before_the_bodys_end_arrives() {
    let hasty = upstream(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.1 403 Forbidden\nContent-Length: 2\n\nno").await;
        // Reads on, so that nothing is reset.
        connection.bytes(usize::MAX).await;
    })
    .await;
    let world = World::start(&[hasty], "", "").await;
    let mut client = world.client().await;
    client.send("POST /public/x HTTP/1.1\nHost: acme.test\nContent-Length: 9000000\n\nthe beginning").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (403, "no"));
}

#[tokio::test]
async fn a_refused_upload_is_answered_although_nobody_reads_it() {
    let world = World::start(&[echo().await], "", "").await;
    let mut client = world.client().await;
    let body = "x".repeat(200_000);
    client.send(&format!("POST /v1/items HTTP/1.1\nHost: acme.test\nContent-Length: 200000\n\n{body}")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "missing_credential"));
}

#[tokio::test]
async fn a_slow_download_holds_its_place_until_its_last_byte() {
    let large = upstream(|mut connection| async move {
        while connection.head().await.is_some() {
            connection.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n{}", "x".repeat(20_000_000))).await;
        }
    })
    .await;
    let quota = "---\nkind: QuotaPolicy\nname: one\nlimits: [{ name: at_once, per: tenant, concurrent: 1 }]\n";
    let world = World::start(&[large], "", quota).await;
    let head = format!("GET /v1/items HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\n\n");
    let mut slow = world.client().await;
    slow.send(&head).await;
    slow.head().await.unwrap();
    let refused = world.ask(&head).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "too_many_requests_in_flight"));
    assert_eq!(slow.bytes(20_000_000).await.len(), 20_000_000);
    // The place is free once the last byte is handed to the system, which is at most a moment from here.
    let mut status = 429;
    for _ in 0..100 {
        let mut next = world.client().await;
        next.send(&head).await;
        status = next.head().await.unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        if status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place_and_is_written_down() {
    let silent = upstream(|mut connection| async move { while connection.head().await.is_some() {} }).await;
    let world = World::start(&[silent], "", "").await;
    let mut client = world.client().await;
    client.send("GET /public/left HTTP/1.1\nHost: acme.test\n\n").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(client);
    let line = world.log_with("access.jsonl", &["/public/left"]).await;
    assert!(line.contains("\"message\":\"client left\""), "{line}");
}

#[tokio::test]
async fn a_body_that_trickles_is_refused_although_no_pause_is_long() {
    let world = World::start(&[echo().await], "", SMALL_BODIES).await;
    let mut client = world.client().await;
    client.send("POST /public/x HTTP/1.1\nHost: acme.test\nContent-Length: 1000\n\n").await;
    let (reading, mut writing) = client.stream.into_split();
    let trickle = tokio::spawn(async move {
        // A tenth of a second's pause is half of what it may be; all of the body would take a hundred seconds.
        for _ in 0..1_000 {
            if writing.write_all(b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut answer = String::new();
    let mut reading = BufReader::new(reading);
    within(reading.read_line(&mut answer)).await.unwrap();
    assert_eq!(answer, "HTTP/1.1 408 Request Timeout\r\n");
    trickle.abort();
}
