//! Upstreams over HTTP/2: what is sent once more, and over which connection.

use crate::support::{Client, World, http2_client, http2_echo, http2_upstream, whole, within};
use bytes::Bytes;
use http::{Method, Request};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, mpsc};

/// One request to the sidecar, with `body` in two pieces: its status and the body of its answer.
async fn ask(world: &World, method: Method, body: &'static str) -> (u16, Vec<u8>) {
    let mut client = http2_client(world.address()).await;
    let request = Request::builder().method(method).uri("http://acme.test/public/x").body(()).unwrap();
    let (answer, mut send) = client.send_request(request, body.is_empty()).unwrap();
    if let Some((first, rest)) = body.split_at_checked(body.len() / 2).filter(|_| !body.is_empty()) {
        send.send_data(Bytes::from_static(first.as_bytes()), false).unwrap();
        tokio::task::yield_now().await;
        send.send_data(Bytes::from_static(rest.as_bytes()), true).unwrap();
    }
    let answer = within(answer).await.unwrap();
    (answer.status().as_u16(), whole(&mut answer.into_body()).await)
}

/// Reads what comes until a request is complete, then says these bytes and closes.
async fn say_after_a_request(mut stream: TcpStream, said: &[u8]) {
    let (mut seen, mut buffer) = (Vec::new(), [0; 4 << 10]);
    // The type of HEADERS behind a length; nothing before it looks so.
    while !seen.windows(5).any(|window| window == [1, 4, 0, 0, 0] || window == [1, 5, 0, 0, 0]) {
        let length = stream.read(&mut buffer).await.unwrap();
        assert!(length > 0, "no request came");
        seen.extend_from_slice(buffer.get(..length).unwrap());
    }
    stream.write_all(said).await.unwrap();
    // Read to the end: closing over unread bytes would reset what was said.
    stream.shutdown().await.unwrap();
    while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
}

const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// Of a server that looked at no stream.
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[tokio::test]
async fn a_refused_stream_is_sent_once_more_whatever_its_method_and_body() {
    for (method, body) in [(Method::GET, ""), (Method::POST, "hello"), (Method::DELETE, "")] {
        let refusing = http2_upstream(|number, stream| async move {
            if number > 0 {
                return http2_echo(stream).await;
            }
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
        })
        .await;
        let world = World::start(&[refusing], "protocol: http2", "").await;
        assert_eq!(ask(&world, method, body).await, (200, body.as_bytes().to_vec()));
    }
}

#[tokio::test]
async fn streams_that_a_server_going_away_has_not_looked_at_are_sent_once_more() {
    for (method, body) in [(Method::GET, ""), (Method::POST, "hello")] {
        let leaving = http2_upstream(|number, stream| async move {
            match number {
                0 => say_after_a_request(stream, &[&SETTINGS[..], &GOAWAY].concat()).await,
                _ => http2_echo(stream).await,
            }
        })
        .await;
        let world = World::start(&[leaving], "protocol: http2", "").await;
        assert_eq!(ask(&world, method, body).await, (200, body.as_bytes().to_vec()));
    }
}

/// An upstream that serves one request, then closes its connection when the next one comes.
async fn dying() -> std::net::SocketAddr {
    http2_upstream(|number, stream| async move {
        if number > 0 {
            return http2_echo(stream).await;
        }
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        respond.send_response(http::Response::new(()), true).unwrap();
        // Drives the connection until the next request is there, which nobody answers.
        drop(connection.accept().await);
    })
    .await
}

#[tokio::test]
async fn a_kept_connection_that_dies_costs_no_request_that_may_be_repeated() {
    let world = World::start(&[dying().await], "protocol: http2", "").await;
    assert_eq!(ask(&world, Method::GET, "").await.0, 200);
    assert_eq!(ask(&world, Method::GET, "").await.0, 200);
    let world = World::start(&[dying().await], "protocol: http2", "").await;
    assert_eq!(ask(&world, Method::GET, "").await.0, 200);
    assert_eq!(ask(&world, Method::POST, "").await.0, 502, "it may have acted");
}

#[tokio::test]
async fn more_streams_than_a_connection_takes_go_over_others() {
    let all_there = Arc::new(Barrier::new(5));
    let narrow = http2_upstream(move |_, stream| {
        let all_there = Arc::clone(&all_there);
        async move {
            let mut connection = h2::server::Builder::new().max_concurrent_streams(1).handshake::<_, Bytes>(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let all_there = Arc::clone(&all_there);
                tokio::spawn(async move {
                    all_there.wait().await;
                    respond.send_response(http::Response::new(()), true).unwrap();
                });
            }
        }
    })
    .await;
    let world = World::start(&[narrow], "protocol: http2", "").await;
    let (a, b, c, d, e) = tokio::join!(
        ask(&world, Method::GET, ""),
        ask(&world, Method::GET, ""),
        ask(&world, Method::GET, ""),
        ask(&world, Method::GET, ""),
        ask(&world, Method::GET, ""),
    );
    assert_eq!([a.0, b.0, c.0, d.0, e.0], [200; 5]);
}

#[tokio::test]
async fn requests_share_a_connection_that_takes_them() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let shared = http2_upstream(move |number, stream| {
        counted.store(number + 1, Ordering::Relaxed);
        http2_echo(stream)
    })
    .await;
    let world = World::start(&[shared], "protocol: http2", "").await;
    let mut client = http2_client(world.address()).await;
    let mut answers = Vec::new();
    for _ in 0..50 {
        let request = Request::get("http://acme.test/public/x").body(()).unwrap();
        answers.push(client.send_request(request, true).unwrap().0);
    }
    for answer in answers {
        assert_eq!(within(answer).await.unwrap().status(), 200);
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_connection_that_went_silent_gets_no_further_requests() {
    let deaf = http2_upstream(|number, mut stream| async move {
        if number > 0 {
            return http2_echo(stream).await;
        }
        stream.write_all(&SETTINGS).await.unwrap();
        let mut thrown_away = [0; 1 << 10];
        while stream.read(&mut thrown_away).await.is_ok_and(|length| length > 0) {}
    })
    .await;
    let world = World::start(&[deaf], "protocol: http2\nresponse_timeout: 200ms", "").await;
    assert_eq!(ask(&world, Method::GET, "").await.0, 504);
    assert_eq!(ask(&world, Method::GET, "").await.0, 200);
}

#[tokio::test]
async fn a_server_that_goes_away_in_good_order_loses_nothing() {
    let leaving = http2_upstream(|_, stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_response(http::Response::new(()), true).unwrap();
            connection.graceful_shutdown();
        }
    })
    .await;
    let world = World::start(&[leaving], "protocol: http2", "").await;
    for _ in 0..5 {
        assert_eq!(ask(&world, Method::POST, "hello").await.0, 200);
    }
}

#[tokio::test]
async fn how_a_service_gave_up_stands_in_the_log_by_its_code() {
    let resetting = http2_upstream(|_, stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_reset(h2::Reason::INADEQUATE_SECURITY);
        }
    })
    .await;
    let world = World::start(&[resetting], "protocol: http2", "").await;
    assert_eq!(ask(&world, Method::GET, "").await.0, 502);
    world.log_with("log.jsonl", &["an upstream failed", "\"step\":\"reset\"", "INADEQUATE_SECURITY"]).await;
}

#[tokio::test]
async fn a_stream_that_is_reset_costs_the_others_of_its_connection_nothing() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let choosy = http2_upstream(move |number, stream| {
        counted.store(number + 1, Ordering::Relaxed);
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                match request.method() {
                    &Method::DELETE => respond.send_reset(h2::Reason::INTERNAL_ERROR),
                    _ => drop(respond.send_response(http::Response::new(()), true).unwrap()),
                }
            }
        }
    })
    .await;
    let world = World::start(&[choosy], "protocol: http2", "").await;
    for _ in 0..3 {
        assert_eq!(ask(&world, Method::GET, "").await.0, 200);
        assert_eq!(ask(&world, Method::DELETE, "").await.0, 502);
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

/// A service that tells when a request came, answers it once it is told to, and tells when its caller gave it up before.
async fn waiting(told: mpsc::UnboundedSender<&'static str>, answer: Arc<tokio::sync::Notify>) -> std::net::SocketAddr {
    http2_upstream(move |_, stream| {
        let (told, answer) = (told.clone(), Arc::clone(&answer));
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let (told, answer) = (told.clone(), Arc::clone(&answer));
                tokio::spawn(async move {
                    told.send("asked").unwrap();
                    let given_up = std::future::poll_fn(|cx| respond.poll_reset(cx));
                    tokio::select! {
                        code = given_up => {
                            assert_eq!(code.unwrap(), h2::Reason::CANCEL);
                            told.send("given up").unwrap();
                        }
                        () = answer.notified() => drop(respond.send_response(http::Response::new(()), true).unwrap()),
                    }
                });
            }
        }
    })
    .await
}

const QUESTION: &str = "GET /public/x HTTP/1.1\nHost: acme.test\n\n";

#[tokio::test]
async fn a_client_of_http1_that_leaves_is_noticed_before_the_answer_begins() {
    let (told, mut tells) = mpsc::unbounded_channel();
    let world = World::start(&[waiting(told, Arc::default()).await], "protocol: http2", "").await;
    let mut client = world.client().await;
    client.send(QUESTION).await;
    assert_eq!(within(tells.recv()).await, Some("asked"));
    // Everything it was sent is read: its system says goodbye as any other would.
    drop(client);
    assert_eq!(within(tells.recv()).await, Some("given up"));
}

#[tokio::test]
async fn a_client_of_http1_that_only_says_no_more_is_asked_with_what_it_ignores_and_gets_its_answer() {
    let (told, mut tells) = mpsc::unbounded_channel();
    let answer = Arc::default();
    let world = World::start(&[waiting(told, Arc::clone(&answer)).await], "protocol: http2", "").await;
    let mut client = world.client().await;
    client.send(QUESTION).await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(within(tells.recv()).await, Some("asked"));
    for _ in 0..3 {
        assert_eq!(client.head().await.unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    }
    answer.notify_one();
    assert_eq!(answer_behind_informational(&mut client).await, 200);
    // One of HTTP/1.0 knows no such words.
    let mut client = world.client().await;
    client.send("GET /public/x HTTP/1.0\nHost: acme.test\n\n").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(within(tells.recv()).await, Some("asked"));
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    answer.notify_one();
    assert_eq!(client.answer().await.status, 200);
}

async fn answer_behind_informational(client: &mut Client) -> u16 {
    loop {
        let answer = client.answer().await;
        if answer.status >= 200 {
            return answer.status;
        }
    }
}
