//! What is matched is what is forwarded, and nothing a client made up goes along.

use bulkhead_tests::{Origin, Reply, World};

#[test]
fn what_is_matched_is_what_is_forwarded() {
    let world = World::start();
    let client = world.user("acme_corp", &["reader"]);
    for (sent, forwarded) in [
        ("/v1/items/%37", "/v1/items/7"),
        ("/v1/items/a%2eb", "/v1/items/a.b"),
        ("/v1/items/%c3%a4?q=%2F..%2f&a=b", "/v1/items/%C3%A4?q=%2F..%2f&a=b"),
        ("/v1/items?", "/v1/items?"),
    ] {
        assert_eq!(client.get(sent).verdict(), "200", "{sent}");
        assert_eq!(world.origin.last().target(), forwarded, "{sent}");
    }
}

#[test]
fn headers_that_speak_for_us_are_ours_alone() {
    let world = World::start();
    let client = world
        .user("acme_corp", &["reader"])
        .with("x-bulkhead-tenant", "globex")
        .with("X-Bulkhead-Roles", "admin")
        .with("x-bulkhead-anything", "1")
        .with("x-forwarded-for", "8.8.8.8")
        .with("x-forwarded-host", "globex.localhost")
        .with("forwarded", "for=8.8.8.8")
        .with("x-real-header", "kept");
    assert_eq!(client.get("/v1/items").verdict(), "200");
    let seen = world.origin.last();
    assert_eq!(seen.headers("x-bulkhead-tenant"), ["acme_corp"]);
    assert_eq!(seen.headers("x-bulkhead-roles"), ["reader"]);
    assert_eq!(seen.headers("x-bulkhead-user"), ["user-1"]);
    assert_eq!(seen.headers("x-bulkhead-decision-id").len(), 1);
    assert!(seen.headers("x-bulkhead-anything").is_empty());
    assert_eq!(seen.headers("x-real-header"), ["kept"]);
    assert_eq!(seen.headers("x-forwarded-for"), ["127.0.0.1"]);
    assert!(!seen.head.contains("8.8.8.8"), "{}", seen.head);
    assert!(!seen.head.contains("globex"), "{}", seen.head);
}

#[test]
fn underscores_do_not_smuggle_our_headers() {
    let world = World::start();
    let client = world.user("acme_corp", &["reader"]).with("x_bulkhead_tenant", "globex");
    let answer = client.get("/v1/items");
    let smuggled = world.origin.received().iter().any(|seen| seen.head.contains("globex"));
    assert!(!smuggled, "{} {}", answer.status, answer.text());
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    let world = World::start();
    let client = world
        .user("acme_corp", &["reader"])
        .with("connection", "keep-alive, x-private")
        .with("x-private", "1")
        .with("keep-alive", "timeout=5")
        .with("proxy-authorization", "Basic x")
        .with("te", "trailers");
    assert_eq!(client.get("/v1/items").verdict(), "200");
    let seen = world.origin.last();
    for name in ["x-private", "keep-alive", "proxy-authorization"] {
        assert!(seen.headers(name).is_empty(), "{name}: {}", seen.head);
    }
}

#[test]
fn connection_cannot_drop_what_protects() {
    let world = World::start();
    let answer = world.user("acme_corp", &["reader"]).with("connection", "close, x-bulkhead-tenant, authorization").get("/v1/items");
    if answer.status == 200 {
        assert_eq!(world.origin.last().headers("x-bulkhead-tenant"), ["acme_corp"]);
    } else {
        assert_eq!(answer.verdict(), "400 ambiguous_request");
    }
}

#[test]
fn a_trace_is_continued_and_otherwise_begun() {
    let world = World::start();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let client = world.user("acme_corp", &["reader"]);
    client.clone().with("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01")).get("/v1/items");
    let continued = world.origin.last().header("traceparent").expect("a trace");
    assert!(continued.contains(trace) && !continued.contains("00f067aa0ba902b7"), "{continued}");
    client.get("/v1/items");
    assert_eq!(world.origin.last().header("traceparent").expect("a trace").len(), 55);
}

#[test]
fn a_public_route_proves_nothing_to_the_service() {
    let world = World::start();
    let answer = world.user("acme_corp", &["admin"]).get("/healthz");
    assert_eq!(answer.verdict(), "200");
    let seen = world.origin.last();
    for name in ["x-bulkhead-user", "x-bulkhead-roles"] {
        assert!(seen.headers(name).is_empty(), "{name}: {}", seen.head);
    }
}

#[test]
fn bodies_go_both_ways_whole() {
    let world = World::with(Origin::with(|request| Reply::Ok(vec![], request.body.clone())), |_| {});
    let client = world.user("acme_corp", &["editor"]);
    for size in [0, 1, 1_000, 64 << 10, 3 << 20] {
        let body: Vec<u8> = (0..size).map(|n: usize| (n % 251) as u8).collect();
        let answer = client.send("POST", "/v1/items", &body);
        assert_eq!(answer.status, 200);
        assert!(answer.body == body, "{size} bytes came back as {}", answer.body.len());
    }
}

#[test]
fn a_chunked_body_is_forwarded_and_a_chunked_answer_comes_back() {
    let world = World::with(
        Origin::with(|request| {
            let mut bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            bytes.extend(format!("{:x}\r\n", request.body.len()).into_bytes());
            bytes.extend(&request.body);
            bytes.extend(b"\r\n0\r\n\r\n");
            Reply::Raw(bytes)
        }),
        |_| {},
    );
    let mut connection = world.client("acme.localhost").connect();
    let token = world.issuer.token("acme_corp", &["editor"]);
    let head =
        format!("POST /v1/items HTTP/1.1\r\nhost: acme.localhost\r\nauthorization: Bearer {token}\r\ntransfer-encoding: chunked\r\n\r\n");
    connection.write(head.as_bytes()).unwrap();
    connection.write(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n").unwrap();
    let answer = connection.read(false).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello world"));
}

#[test]
fn a_body_over_the_bound_is_refused_before_and_while_it_comes() {
    let world = World::with(Origin::start(), |folder| {
        let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        std::fs::write(folder.join("platform.yaml"), text.replace("body_bytes_max: 10MiB", "body_bytes_max: 64KiB")).unwrap();
    });
    let token = world.issuer.token("acme_corp", &["editor"]);
    let mut declared = world.client("acme.localhost").connect();
    let head =
        format!("POST /v1/items HTTP/1.1\r\nhost: acme.localhost\r\nauthorization: Bearer {token}\r\ncontent-length: 100000\r\n\r\n");
    declared.write(head.as_bytes()).unwrap();
    assert_eq!(declared.read(false).unwrap().verdict(), "413 body_too_large");
    let mut streamed = world.client("acme.localhost").connect();
    let head =
        format!("POST /v1/items HTTP/1.1\r\nhost: acme.localhost\r\nauthorization: Bearer {token}\r\ntransfer-encoding: chunked\r\n\r\n");
    streamed.write(head.as_bytes()).unwrap();
    let chunk = [b"4000\r\n".to_vec(), vec![b'x'; 0x4000], b"\r\n".to_vec()].concat();
    for _ in 0..8 {
        if streamed.write(&chunk).is_err() {
            break;
        }
    }
    assert_eq!(streamed.read(false).unwrap().verdict(), "413 body_too_large");
    assert!(world.origin.received().is_empty(), "no whole request arrived");
}

#[test]
fn connections_to_the_service_are_used_again() {
    let world = World::with_arguments(Origin::start(), &["--workers", "1"], |_| {});
    let mut connection = world.user("acme_corp", &["reader"]).connect();
    for _ in 0..50 {
        assert_eq!(connection.send("GET", "/v1/items", b"").status, 200);
    }
    assert!(world.origin.connections() <= 2, "{} connections for 50 requests", world.origin.connections());
}

#[test]
fn http2_without_tls_is_detected_on_the_same_port() {
    let world = World::start();
    let token = world.issuer.token("acme_corp", &["reader"]);
    let statuses = crate::forwarding::h2::get(world.address(), "acme.localhost", &token, "/v1/items", 20);
    assert_eq!(statuses, [200; 20]);
    let seen = world.origin.last();
    assert_eq!(seen.headers("x-bulkhead-tenant"), ["acme_corp"]);
    assert_eq!(seen.headers("host"), ["acme.localhost"]);
}

/// A client of HTTP/2 with prior knowledge.
mod h2 {
    use bytes::Bytes;
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    /// Statuses of `count` concurrent requests on one connection.
    pub(super) fn get(to: SocketAddr, host: &str, token: &str, path: &str, count: usize) -> Vec<u16> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let stream = tokio::net::TcpStream::connect(to).await.unwrap();
            let (sender, connection) = hyper::client::conn::http2::handshake(Spawn, Io(stream)).await.unwrap();
            tokio::task::spawn_local(connection);
            let requests: Vec<_> = (0..count)
                .map(|_| {
                    let request = http::Request::get(format!("http://{host}{path}"))
                        .header("authorization", format!("Bearer {token}"))
                        .body(Empty)
                        .unwrap();
                    let mut sender = sender.clone();
                    tokio::task::spawn_local(async move { sender.send_request(request).await.unwrap().status().as_u16() })
                })
                .collect();
            let mut statuses = Vec::new();
            for request in requests {
                statuses.push(request.await.unwrap());
            }
            statuses
        })
    }

    #[derive(Clone)]
    struct Spawn;
    impl<F: std::future::Future + 'static> hyper::rt::Executor<F> for Spawn {
        fn execute(&self, future: F) {
            tokio::task::spawn_local(async move {
                future.await;
            });
        }
    }

    struct Empty;
    impl http_body::Body for Empty {
        type Data = Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            Poll::Ready(None)
        }
        fn is_end_stream(&self) -> bool {
            true
        }
    }

    struct Io(tokio::net::TcpStream);
    impl hyper::rt::Read for Io {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            mut into: hyper::rt::ReadBufCursor<'_>,
        ) -> Poll<std::io::Result<()>> {
            let mut chunk = [0; 8 << 10];
            let room = into.remaining().min(chunk.len());
            let mut buffer = tokio::io::ReadBuf::new(&mut chunk[..room]);
            ready!(tokio::io::AsyncRead::poll_read(Pin::new(&mut self.0), context, &mut buffer))?;
            into.put_slice(buffer.filled());
            Poll::Ready(Ok(()))
        }
    }
    impl hyper::rt::Write for Io {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
            tokio::io::AsyncWrite::poll_write(Pin::new(&mut self.0), context, bytes)
        }
        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            tokio::io::AsyncWrite::poll_flush(Pin::new(&mut self.0), context)
        }
        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            tokio::io::AsyncWrite::poll_shutdown(Pin::new(&mut self.0), context)
        }
    }
}
