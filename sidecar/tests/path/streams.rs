//! What lasts: tunnels and long answers, and their end once they would be refused.

use crate::support::{Client, KEY, World, upstream, within};
use bytes::Bytes;
use std::net::SocketAddr;

/// An upstream that begins an answer of events, sends the first and then says nothing more until its client leaves.
async fn events() -> SocketAddr {
    upstream(|mut connection| async move {
        while connection.head().await.is_some() {
            connection.send_raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            connection.send_raw(b"7\r\ndata: 1\r\n").await;
        }
    })
    .await
}

/// An upstream that switches to a protocol of bytes and returns what it is sent.
async fn echoing_tunnel() -> SocketAddr {
    upstream(|mut connection| async move {
        if connection.head().await.is_some() {
            connection.send_raw(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await;
            let (mut reads, mut writes) = connection.stream.split();
            let _ = tokio::io::copy(&mut reads, &mut writes).await;
        }
    })
    .await
}

/// A second tenant, whose streams nothing happens to.
const OTHER: &str = "---\ntenant_id: other\nname: Other\nemail: o@other.test\nhosts: [other.test]\n";

/// Writes the documents anew, with one text in place of another.
fn edit(world: &World, origin: SocketAddr, from: &str, to: &str) {
    let text = World::text(&[origin], "", OTHER);
    assert!(text.contains(from), "{from} is not in\n{text}");
    std::fs::write(world.documents.path().join("all.yaml"), text.replace(from, to)).unwrap();
}

/// Changes after which a stream of tenant `acme` with its key would be refused, with what.
const REVOCATIONS: [(&str, &str, &str); 6] = [
    ("hosts: [acme.test]\n", "hosts: [acme.test]\nstate: suspended\n", "tenant_suspended"),
    ("hosts: [acme.test]\n", "hosts: [elsewhere.test]\n", "unknown_tenant"),
    ("{ id: ci, sha256: ", "{ id: ci, expires: 2020-01-01T00:00:00Z, sha256: ", "invalid_api_key"),
    ("{ id: ci, sha256: ", "{ id: cd, sha256: ", "invalid_api_key"),
    ("allow: [\"GET,POST /**\"]", "allow: [\"POST /**\"]", "not_permitted"),
    ("allow: [\"GET,POST /**\"]", "allow: [\"GET,POST /**\"]\ndeny: [\"GET /events\"]", "denied_by_rule"),
];

async fn begin(world: &World, host: &str, path: &str) -> Client {
    let mut client = world.client().await;
    client.send(&format!("GET {path} HTTP/1.1\nHost: {host}\nX-Api-Key: {KEY}\n\n")).await;
    let head = client.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(client.bytes(12).await, b"7\r\ndata: 1\r\n");
    client
}

#[tokio::test]
async fn an_answer_that_would_be_refused_by_now_breaks_off_and_says_why_where_it_is_asked() {
    for (from, to, code) in REVOCATIONS {
        let origin = events().await;
        let world = World::start(&[origin], "", OTHER).await;
        let mut revoked = begin(&world, "acme.test", "/events").await;
        let kept = begin(&world, "other.test", "/public/events").await;
        edit(&world, origin, from, to);
        let rest = revoked.bytes(5).await;
        assert_eq!(rest, b"", "{code}: half an answer must not look whole");
        let line = world.log_with("access.jsonl", &["/events", "stream revoked"]).await;
        assert!(line.contains("\"status\":200") && line.contains(&format!("\"code\":\"{code}\"")), "{code}: {line}");
        let end = kept.stream.try_read(&mut [0]).unwrap_err();
        assert_eq!(end.kind(), std::io::ErrorKind::WouldBlock, "{code}: the other tenant's goes on");
    }
}

#[tokio::test]
async fn a_tunnel_that_would_be_refused_by_now_is_cut_on_both_sides() {
    for (from, to, code) in REVOCATIONS {
        let origin = echoing_tunnel().await;
        let world = World::start(&[origin], "", OTHER).await;
        let mut client = world.client().await;
        client.send(&format!("GET /events HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\nConnection: upgrade\nUpgrade: echo\n\n")).await;
        assert!(client.head().await.unwrap().starts_with("HTTP/1.1 101"));
        client.send_raw(b"hello").await;
        assert_eq!(client.bytes(5).await, b"hello");
        edit(&world, origin, from, to);
        assert!(client.ends().await, "{code}");
        let line = world.log_with("access.jsonl", &["/events", "stream revoked"]).await;
        assert!(line.contains(&format!("\"code\":\"{code}\"")) && line.contains("\"bytes_in\":5"), "{code}: {line}");
    }
}

#[tokio::test]
async fn a_word_of_ours_never_stands_in_the_middle_of_a_frame() {
    // A text frame of four bytes, of which the service sends some; the rest comes when its client's side ends, or never.
    for (begun, rest, expected) in [
        (&b"\x81\x04ab"[..], &b"cd"[..], &b"cd\x88\x12\x03\xf0tenant_suspended"[..]),
        (b"\x81", b"\x04abcd", b"\x04abcd\x88\x12\x03\xf0tenant_suspended"),
        (b"\x81\x04ab", b"", b""),
    ] {
        let origin = upstream(move |mut connection| async move {
            if connection.head().await.is_some() {
                connection.send_raw(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n").await;
                connection.send_raw(begun).await;
                let mut all = connection.bytes(usize::MAX).await;
                assert_eq!(all.split_off(2), b"", "the close frame of ours begins where the client's last frame ended");
                connection.send_raw(rest).await;
                std::future::pending::<()>().await;
            }
        })
        .await;
        let world = World::start(&[origin], "", OTHER).await;
        let mut client = world.client().await;
        client.send(&format!("GET /events HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\nConnection: upgrade\nUpgrade: websocket\n\n")).await;
        assert!(client.head().await.unwrap().starts_with("HTTP/1.1 101"));
        assert_eq!(client.bytes(begun.len()).await, begun);
        // The client is in the middle of a frame as well, so nothing of ours can follow there.
        client.send_raw(b"\x81\x84").await;
        edit(&world, origin, REVOCATIONS[0].0, REVOCATIONS[0].1);
        let got = client.bytes(usize::MAX).await;
        // The rest of a frame is waited for half a second only, which a busy machine may take.
        assert!(got == expected || got.is_empty(), "{:?}", String::from_utf8_lossy(&got));
    }
}

#[tokio::test]
async fn what_waits_long_for_its_upstream_is_refused_once_it_would_be() {
    let (silent, mut heads) = {
        let (sender, heads) = tokio::sync::mpsc::unbounded_channel();
        let address = upstream(move |mut connection| {
            let sender = sender.clone();
            async move {
                while let Some(head) = connection.head().await {
                    sender.send(head).unwrap();
                }
            }
        });
        (address.await, heads)
    };
    let world = World::start(&[silent], "", OTHER).await;
    let mut client = world.client().await;
    // A body that goes on for ever is waited for as well.
    for request in ["GET /long HTTP/1.1\nHost: acme.test\n", "POST /long HTTP/1.1\nHost: acme.test\nContent-Length: 100\n"] {
        std::fs::write(world.documents.path().join("all.yaml"), World::text(&[silent], "", OTHER)).unwrap();
        let mut probe = world.ask(&format!("OPTIONS * HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\n\n")).await;
        while probe.status != 204 {
            probe = world.ask(&format!("OPTIONS * HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\n\n")).await;
        }
        client.send(&format!("{request}X-Api-Key: {KEY}\n\n")).await;
        within(heads.recv()).await.unwrap();
        edit(&world, silent, "hosts: [acme.test]\n", "hosts: [acme.test]\nstate: suspended\n");
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "tenant_suspended"), "{request}");
        client = world.client().await;
    }
}

/// The head and first piece of an answer over HTTP/2.
async fn over_http2(world: &World, content_type: &str) -> h2::RecvStream {
    let stream = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let request =
        http::Request::get("http://acme.test/events").header("x-api-key", KEY).header("content-type", content_type).body(()).unwrap();
    let (answer, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
    let mut body = within(answer).await.unwrap().into_body();
    assert_eq!(within(body.data()).await.unwrap().unwrap(), "data: 1");
    body
}

#[tokio::test]
async fn over_http2_the_stream_alone_is_reset() {
    let origin = events().await;
    let world = World::start(&[origin], "", OTHER).await;
    let mut body = over_http2(&world, "text/plain").await;
    edit(&world, origin, REVOCATIONS[0].0, REVOCATIONS[0].1);
    let end = within(body.data()).await.unwrap().unwrap_err();
    assert_eq!(end.reason(), Some(h2::Reason::CANCEL));
}

#[tokio::test]
async fn grpc_is_told_that_its_permission_is_gone() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut open = Vec::new();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let head = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut body = respond.send_response(head, false).unwrap();
            body.send_data(Bytes::from_static(b"data: 1"), false).unwrap();
            open.push(body);
        }
    });
    let world = World::start(&[origin], "", OTHER).await;
    let mut body = over_http2(&world, "application/grpc").await;
    edit(&world, origin, REVOCATIONS[0].0, REVOCATIONS[0].1);
    assert!(within(body.data()).await.is_none());
    let trailers = within(body.trailers()).await.unwrap().unwrap();
    for (name, value) in [("grpc-status", "7"), ("grpc-message", "tenant_suspended")] {
        assert_eq!(trailers.get(name).unwrap(), value);
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go_when_its_answer_would_be_refused() {
    let flood = upstream(|mut connection| async move {
        while connection.head().await.is_some() {
            connection.send_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
            while connection.send_raw(&[b'x'; 64 << 10]).await {}
        }
    })
    .await;
    let world = World::start(&[flood], "", OTHER).await;
    let mut client = world.client().await;
    client.send(&format!("GET /events HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\n\n")).await;
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200"));
    edit(&world, flood, REVOCATIONS[0].0, REVOCATIONS[0].1);
    world.log_with("access.jsonl", &["/events", "stream revoked", "tenant_suspended"]).await;
}

#[tokio::test]
async fn what_is_silent_by_nature_has_more_patience_than_an_answer_that_stands_still() {
    let silent = upstream(|mut connection| async move {
        while let Some(head) = connection.head().await {
            let kind = if head.contains("/events") { "Text/Event-Stream; charset=utf-8" } else { "text/plain" };
            let begun = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ndata: 1\r\n");
            connection.send_raw(begun.as_bytes()).await;
        }
    })
    .await;
    for (settings, outlasts) in [("idle_timeout: 200ms", true), ("idle_timeout: 200ms\nstream_idle_timeout: 100ms", false)] {
        let world = World::start(&[silent], settings, OTHER).await;
        let mut events = begin(&world, "acme.test", "/events").await;
        let mut plain = begin(&world, "acme.test", "/plain").await;
        assert!(plain.ends().await, "it stands still");
        if outlasts {
            // It began earlier: what did not end it by now does not.
            let end = events.stream.try_read(&mut [0]).unwrap_err();
            assert_eq!(end.kind(), std::io::ErrorKind::WouldBlock);
        } else {
            assert!(events.ends().await);
        }
    }
}

#[tokio::test]
async fn grpc_may_wait_for_its_first_message() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = listener.local_addr().unwrap();
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
        gone.await.unwrap();
        let head = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        respond.send_response(head, false).unwrap().send_data(Bytes::from_static(b"data: 1"), true).unwrap();
        std::future::pending::<()>().await;
    });
    let silent = upstream(|mut connection| async move { while connection.head().await.is_some() {} }).await;
    let world = World::start(&[origin], "response_timeout: 100ms", OTHER).await;
    let other = World::start(&[silent], "response_timeout: 200ms", OTHER).await;
    let waiting = tokio::spawn(async move {
        let body = over_http2(&world, "application/grpc").await;
        (world, body)
    });
    let answer = other.ask(&format!("GET /events HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\n\n")).await;
    assert_eq!(answer.code(), "upstream_timeout");
    go.send(()).unwrap();
    drop(within(waiting).await.unwrap());
}
