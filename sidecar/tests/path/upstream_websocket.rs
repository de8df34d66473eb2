//! WebSockets to a service that takes them on streams of HTTP/2 (RFC 8441), from clients of either protocol.

use crate::support::{Client, KEY, World, http2_client, http2_upstream, whole, within};
use bytes::Bytes;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// A frame of a server: text, unmasked.
const HELLO: &[u8] = b"\x81\x05hello";
/// The key of RFC 6455 section 1.3, and what accepts it.
const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What the service saw.
#[derive(Debug)]
enum Seen {
    Connection,
    Asked(Method, Option<String>, String, HeaderMap),
    /// All that came on a stream, and how it ended.
    Ended(Vec<u8>, Option<Reason>),
}

/// A service that says hello on every WebSocket and returns what it is sent; to anything else it answers with `page`.
async fn service(takes_websockets: bool) -> (SocketAddr, Receiver<Seen>) {
    let (tell, seen) = channel(64);
    let address = http2_upstream(move |_, stream| serve(stream, takes_websockets, tell.clone())).await;
    (address, seen)
}

async fn serve(stream: TcpStream, takes_websockets: bool, tell: Sender<Seen>) {
    let mut builder = h2::server::Builder::new();
    if takes_websockets {
        builder.enable_connect_protocol();
    }
    let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
    tell.send(Seen::Connection).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (head, body) = request.into_parts();
        let protocol = head.extensions.get::<Protocol>().map(|protocol| protocol.as_str().to_owned());
        let is_websocket = head.method == Method::CONNECT && protocol.is_some();
        let path = head.uri.path().to_owned();
        let answer = Response::builder().status(if path.ends_with("forbidden") { 403 } else { 200 });
        let answer = match head.headers.get("sec-websocket-protocol") {
            Some(protocol) => answer.header("sec-websocket-protocol", protocol),
            None => answer,
        };
        tell.send(Seen::Asked(head.method, protocol, path.clone(), head.headers)).await.unwrap();
        let mut send = respond.send_response(answer.body(()).unwrap(), false).unwrap();
        if is_websocket && !path.ends_with("forbidden") {
            tokio::spawn(echo(body, send, tell.clone()));
        } else {
            send.send_data(Bytes::from_static(b"page"), true).unwrap();
        }
    }
}

async fn echo(mut body: RecvStream, mut send: SendStream<Bytes>, tell: Sender<Seen>) {
    send.send_data(Bytes::from_static(HELLO), false).unwrap();
    let mut all = Vec::new();
    let reason = loop {
        match body.data().await {
            Some(Ok(data)) => {
                body.flow_control().release_capacity(data.len()).unwrap();
                all.extend_from_slice(&data);
                // Its client may be gone.
                let _ = send.send_data(data, false);
            }
            Some(Err(error)) => break error.reason(),
            None => break None,
        }
    };
    let _ = send.send_data(Bytes::new(), true);
    tell.send(Seen::Ended(all, reason)).await.unwrap();
}

async fn next(seen: &mut Receiver<Seen>) -> Seen {
    within(seen.recv()).await.unwrap()
}

/// The next request it saw.
async fn asked(seen: &mut Receiver<Seen>) -> (Method, Option<String>, String, HeaderMap) {
    loop {
        if let Seen::Asked(method, protocol, path, headers) = next(seen).await {
            return (method, protocol, path, headers);
        }
    }
}

/// The next stream that ended.
async fn ended(seen: &mut Receiver<Seen>) -> (Vec<u8>, Option<Reason>) {
    loop {
        if let Seen::Ended(came, reason) = next(seen).await {
            return (came, reason);
        }
    }
}

/// A masked binary frame of that length.
fn frame(length: u32) -> Vec<u8> {
    let mut frame = [&b"\x82\xff\0\0\0\0"[..], &length.to_be_bytes(), &[0; 4]].concat();
    frame.resize(frame.len() + usize::try_from(length).unwrap(), 7);
    frame
}

/// A client of HTTP/1.1 that asked for a WebSocket, and what it was answered.
async fn upgrade(world: &World, path: &str, more: &str) -> (Client, String) {
    let mut client = world.client().await;
    let head = format!(
        "GET {path} HTTP/1.1\nHost: acme.test\nConnection: upgrade\nUpgrade: WebSocket\nSec-WebSocket-Key: {WEBSOCKET_KEY}\n\
         Sec-WebSocket-Version: 13\n{more}\n"
    );
    client.send(&head).await;
    let head = client.head().await.unwrap();
    (client, head)
}

/// A stream of HTTP/2 that asked for one.
async fn connect(world: &World, path: &str) -> (Response<RecvStream>, SendStream<Bytes>) {
    let mut client = http2_client(world.address()).await;
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let request = Request::builder().method(Method::CONNECT).uri(format!("http://acme.test{path}")).header("x-api-key", KEY);
    let request = request.header("sec-websocket-version", "13").extension(Protocol::from("websocket")).body(()).unwrap();
    let (answer, send) = client.send_request(request, false).unwrap();
    (within(answer).await.unwrap(), send)
}

async fn read(body: &mut RecvStream, length: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < length {
        let data = within(body.data()).await.unwrap().unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        read.extend_from_slice(&data);
    }
    read
}

#[tokio::test]
async fn an_upgrade_of_http1_becomes_a_stream_and_is_accepted_as_http1_has_it() {
    let (service, mut seen) = service(true).await;
    let world = World::start(&[service], "protocol: http2", "").await;
    let (mut client, head) = upgrade(&world, "/v1/socket", &format!("X-Api-Key: {KEY}\nSec-WebSocket-Protocol: chat\n")).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for field in ["upgrade: websocket", "connection: upgrade", "sec-websocket-protocol: chat", &format!("sec-websocket-accept: {ACCEPT}")] {
        assert!(head.to_ascii_lowercase().contains(&format!("{}\r\n", field.to_ascii_lowercase())), "{field}: {head}");
    }
    let (method, protocol, path, headers) = asked(&mut seen).await;
    assert_eq!((method, protocol.as_deref(), &*path), (Method::CONNECT, Some("websocket"), "/v1/socket"));
    assert_eq!(headers.get("x-bulkhead-tenant").unwrap(), "acme");
    assert_eq!(headers.get("sec-websocket-version").unwrap(), "13");
    for gone in ["sec-websocket-key", "connection", "upgrade", "host", "x-api-key"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    assert_eq!(client.bytes(HELLO.len()).await, HELLO);
    // Larger than the windows on the way.
    for length in [0, 5, 3 << 20] {
        let frame = frame(length);
        let (mut reads, mut writes) = client.stream.split();
        let mut returned = vec![0; frame.len()];
        let (sent, came) = within(async { tokio::join!(writes.write_all(&frame), reads.read_exact(&mut returned)) }).await;
        assert!(sent.is_ok() && came.is_ok() && returned == frame, "{length} bytes came back otherwise");
    }
}

#[tokio::test]
async fn a_stream_of_a_client_becomes_a_stream_to_the_service() {
    let (service, mut seen) = service(true).await;
    let world = World::start(&[service], "protocol: http2", "").await;
    let (answer, mut send) = connect(&world, "/v1/socket").await;
    assert_eq!(answer.status(), 200);
    for gone in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!answer.headers().contains_key(gone), "{gone}");
    }
    let mut body = answer.into_body();
    assert_eq!(read(&mut body, HELLO.len()).await, HELLO);
    let frame = frame(200_000);
    send.send_data(frame.clone().into(), true).unwrap();
    assert!(whole(&mut body).await == frame);
    let (came, reason) = ended(&mut seen).await;
    assert!(came == frame && reason.is_none(), "no end in good order: {reason:?}");
}

#[tokio::test]
async fn websockets_and_requests_share_a_connection_and_end_apart() {
    let (service, mut seen) = service(true).await;
    let world = World::start(&[service], "protocol: http2", "").await;
    let (mut first, _) = upgrade(&world, "/public/first", "").await;
    let (mut second, _) = upgrade(&world, "/public/second", "").await;
    assert_eq!(world.ask("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await.body, "page");
    for client in [&mut first, &mut second] {
        assert_eq!(client.bytes(HELLO.len()).await, HELLO);
    }
    drop(first);
    let mut connections = 0;
    loop {
        match next(&mut seen).await {
            Seen::Connection => connections += 1,
            Seen::Asked(..) => {}
            Seen::Ended(..) => break,
        }
    }
    assert_eq!(connections, 1);
    second.send_raw(&frame(5)).await;
    assert_eq!(second.bytes(frame(5).len()).await, frame(5), "the other goes on");
}

#[tokio::test]
async fn a_service_that_takes_none_is_named_as_the_reason() {
    let (service, _seen) = service(false).await;
    let world = World::start(&[service], "protocol: http2", "").await;
    assert_eq!(world.ask("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await.body, "page");
    let (mut client, head) = upgrade(&world, "/public/socket", "").await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    let problem = client.body_of(&head).await;
    assert!(problem.contains("RFC 8441") && problem.contains("protocol: auto") && problem.contains("\"upstream_protocol\""), "{problem}");
    world.log_with("log.jsonl", &["no_websocket"]).await;
    assert_eq!(connect(&world, "/v1/socket").await.0.status(), 502);
}

#[tokio::test]
async fn a_service_that_refuses_answers_itself() {
    let (service, _seen) = service(true).await;
    let world = World::start(&[service], "protocol: http2", "").await;
    let (mut client, head) = upgrade(&world, "/public/forbidden", "").await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(client.body_of(&head).await, "page");
    let (answer, _send) = connect(&world, "/v1/forbidden").await;
    assert_eq!((answer.status().as_u16(), whole(&mut answer.into_body()).await), (403, b"page".to_vec()));
}

#[tokio::test]
async fn what_is_no_websocket_goes_up_as_the_request_it_is() {
    let (service, mut seen) = service(true).await;
    let world = World::start(&[service], "protocol: http2", "").await;
    for fields in ["Upgrade: foo/2\nSec-WebSocket-Key: AAAA\n", "Upgrade: websocket\n"] {
        let head = format!("GET /public/x HTTP/1.1\nHost: acme.test\nConnection: upgrade\n{fields}\n");
        assert_eq!(world.ask(&head).await.body, "page", "{fields}");
    }
    for _ in 0..2 {
        let (method, protocol, ..) = asked(&mut seen).await;
        assert_eq!((method, protocol), (Method::GET, None));
    }
}

#[tokio::test]
async fn when_the_tenant_is_suspended_both_sides_get_a_close_frame_that_says_so() {
    let (service, mut seen) = service(true).await;
    let world = World::start(&[service], "protocol: http2", "").await;
    let (mut client, _) = upgrade(&world, "/v1/socket", &format!("X-Api-Key: {KEY}\n")).await;
    assert_eq!(client.bytes(HELLO.len()).await, HELLO);
    let text = World::text(&[service], "protocol: http2", "").replace("hosts: [acme.test]\n", "hosts: [acme.test]\nstate: suspended\n");
    std::fs::write(world.documents.path().join("all.yaml"), text).unwrap();
    let close = client.bytes(4).await;
    assert_eq!((close.first(), close.get(2..4)), (Some(&0x88), Some(&1008_u16.to_be_bytes()[..])), "{close:?}");
    let (came, _) = ended(&mut seen).await;
    // Masked, as all that a client sends: a length, four bytes of mask, and the status behind it.
    let (kind, mask, status) = (came.first().unwrap(), came.get(2..6).unwrap(), came.get(6..8).unwrap());
    let status: Vec<u8> = status.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
    assert_eq!((*kind, came.get(1).unwrap() & 0x80, status), (0x88, 0x80, 1008_u16.to_be_bytes().to_vec()));
}
