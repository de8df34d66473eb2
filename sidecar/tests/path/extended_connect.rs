//! WebSockets on streams of HTTP/2 (RFC 8441), to a service that speaks HTTP/1.1.

use crate::support::{Client, KEY, World, http2_client, upstream, whole, within};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use std::net::SocketAddr;

/// A frame of a server: text, unmasked.
const HELLO: &[u8] = b"\x81\x05hello";
/// A frame of a client: a masked close without a status.
const MASKED_CLOSE: &[u8] = b"\x88\x80\x01\x02\x03\x04";

fn field(head: &str, name: &str) -> String {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or(String::new(), |(_, value)| value.to_owned())
}

fn accepted(head: &str) -> String {
    let key = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", field(head, "sec-websocket-key"));
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes()))
}

/// A service that opens a WebSocket, says hello and returns what it is sent.
async fn websocket() -> SocketAddr {
    upstream(|mut connection| async move {
        let Some(head) = connection.head().await else { return };
        if field(&head, "upgrade") != "websocket" {
            return connection.send("HTTP/1.1 200 OK\nContent-Length: 4\n\npage").await;
        }
        assert!(head.starts_with("GET /") && field(&head, "connection") == "upgrade", "{head}");
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\
             Sec-WebSocket-Protocol: {}\r\n\r\n",
            accepted(&head),
            field(&head, "sec-websocket-protocol"),
        );
        connection.send_raw(&[answer.as_bytes(), HELLO].concat()).await;
        let (mut reads, mut writes) = connection.stream.split();
        let _ = tokio::io::copy(&mut reads, &mut writes).await;
    })
    .await
}

fn connect(path: &str) -> http::request::Builder {
    let request = Request::builder().method(Method::CONNECT).uri(format!("http://acme.test{path}")).header("sec-websocket-version", "13");
    request.extension(h2::ext::Protocol::from("websocket"))
}

/// A client of one connection, once it knows that it may ask.
async fn client(world: &World) -> h2::client::SendRequest<Bytes> {
    let client = http2_client(world.address()).await;
    within(async {
        while !client.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    client
}

/// As many bytes as `length` of what comes.
async fn read(body: &mut h2::RecvStream, length: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < length {
        let data = within(body.data()).await.unwrap().unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        read.extend_from_slice(&data);
    }
    read
}

#[tokio::test]
async fn bytes_flow_both_ways_beside_other_streams() {
    let world = World::start(&[websocket().await], "", "").await;
    let mut client = client(&world).await;
    let mut open = Vec::new();
    for protocol in ["chat", "news"] {
        let request = connect("/v1/socket").header("x-api-key", KEY).header("sec-websocket-protocol", protocol).body(()).unwrap();
        let (answer, send) = client.send_request(request, false).unwrap();
        let answer = within(answer).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().get("sec-websocket-protocol").unwrap().to_str().unwrap()), (200, protocol));
        for gone in ["sec-websocket-accept", "connection", "upgrade"] {
            assert!(!answer.headers().contains_key(gone), "{gone}");
        }
        open.push((answer.into_body(), send));
    }
    let (page, _) = client.send_request(Request::get("http://acme.test/public/x").body(()).unwrap(), true).unwrap();
    assert_eq!(whole(&mut within(page).await.unwrap().into_body()).await, b"page");
    for (number, (body, send)) in open.iter_mut().enumerate() {
        assert_eq!(read(body, HELLO.len()).await, HELLO);
        // A masked binary frame of 100,000 bytes; the windows on the way are smaller.
        let mut frame = b"\x82\xff\0\0\0\0\0\x01\x86\xa0\0\0\0\0".to_vec();
        frame.resize(frame.len() + 100_000, u8::try_from(number).unwrap());
        send.send_data(frame.clone().into(), false).unwrap();
        assert!(read(body, frame.len()).await == frame);
    }
    // The end of one is no end of the other.
    let (mut first, mut send) = open.remove(0);
    send.send_data(MASKED_CLOSE.into(), true).unwrap();
    assert_eq!(whole(&mut first).await, MASKED_CLOSE);
    let (second, send) = open.first_mut().unwrap();
    send.send_data(MASKED_CLOSE.into(), false).unwrap();
    assert_eq!(read(second, MASKED_CLOSE.len()).await, MASKED_CLOSE);
}

#[tokio::test]
async fn who_may_not_is_refused_as_everybody() {
    let world = World::start(&[websocket().await], "", "").await;
    let (answer, _send) = client(&world).await.send_request(connect("/v1/socket").body(()).unwrap(), false).unwrap();
    let answer = within(answer).await.unwrap();
    assert_eq!(answer.status(), 401);
    let problem: serde_json::Value = serde_json::from_slice(&whole(&mut answer.into_body()).await).unwrap();
    assert_eq!(problem.get("code").unwrap(), "missing_credential");
}

#[tokio::test]
async fn a_service_that_opens_none_is_no_success() {
    for answer in [
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: websocket\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n",
    ] {
        let service = upstream(move |mut connection: Client| async move {
            while connection.head().await.is_some() {
                connection.send(answer).await;
            }
        })
        .await;
        let world = World::start(&[service], "", "").await;
        let (got, _send) = client(&world).await.send_request(connect("/public/socket").body(()).unwrap(), false).unwrap();
        assert_eq!(within(got).await.unwrap().status(), 502, "{answer}");
    }
}

#[tokio::test]
async fn other_protocols_and_plain_connect_are_refused() {
    let world = World::start(&[websocket().await], "", "").await;
    let mut client = client(&world).await;
    let mut request = connect("/public/socket").body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from("connect-udp"));
    let plain = Request::builder().method(Method::CONNECT).uri("acme.test:80").body(()).unwrap();
    for request in [request, plain] {
        let (answer, _send) = client.send_request(request, false).unwrap();
        assert_eq!(within(answer).await.unwrap().status(), 400);
    }
}

#[tokio::test]
async fn one_that_would_be_refused_by_now_is_closed_with_a_reason() {
    let service = websocket().await;
    let world = World::start(&[service], "", "").await;
    let request = connect("/v1/socket").header("x-api-key", KEY).body(()).unwrap();
    let (answer, _send) = client(&world).await.send_request(request, false).unwrap();
    let mut body = within(answer).await.unwrap().into_body();
    assert_eq!(read(&mut body, HELLO.len()).await, HELLO);
    let text = World::text(&[service], "", "").replace("hosts: [acme.test]\n", "hosts: [acme.test]\nstate: suspended\n");
    std::fs::write(world.documents.path().join("all.yaml"), text).unwrap();
    let close = whole(&mut body).await;
    // A close frame with status 1008.
    assert_eq!((close.first(), close.get(2..4)), (Some(&0x88), Some(&1008_u16.to_be_bytes()[..])), "{close:?}");
}

#[tokio::test]
async fn a_drain_says_goodbye() {
    let world = World::start(&[websocket().await], "", "").await;
    let request = connect("/public/socket").body(()).unwrap();
    let (answer, mut send) = client(&world).await.send_request(request, false).unwrap();
    let mut body = within(answer).await.unwrap().into_body();
    assert_eq!(read(&mut body, HELLO.len()).await, HELLO);
    let World { sidecar, documents: _documents, data: _data } = world;
    let drained = tokio::spawn(sidecar.drain(std::time::Duration::from_secs(10)));
    let goodbye = read(&mut body, 4).await;
    assert_eq!((goodbye.first(), goodbye.get(2..4)), (Some(&0x88), Some(&1001_u16.to_be_bytes()[..])), "{goodbye:?}");
    send.send_data(MASKED_CLOSE.into(), true).unwrap();
    assert_eq!(within(drained).await.unwrap().cut, 0);
}
