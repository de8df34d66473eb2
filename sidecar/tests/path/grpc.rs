//! gRPC frame by frame: deadlines, refusals and endings in its own words.

use crate::support::{KEY, World, http2_client, http2_upstream, nobody, upstream, whole, within};
use bytes::Bytes;
use http::{HeaderMap, Request};
use std::net::SocketAddr;
use tokio::sync::mpsc;

fn call(path: &str) -> http::request::Builder {
    Request::post(format!("http://acme.test{path}")).header("content-type", "application/grpc").header("te", "trailers")
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// An upstream that begins each answer with `first`, if anything, and then says nothing; tells how its streams ended.
async fn silent(first: Option<&'static str>) -> (SocketAddr, mpsc::UnboundedReceiver<h2::Reason>) {
    let (tell, told) = mpsc::unbounded_channel();
    let address = http2_upstream(move |_, stream| {
        let tell = tell.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let reset = match first {
                        None => std::future::poll_fn(|cx| respond.poll_reset(cx)).await,
                        Some(first) => {
                            let answer = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                            let mut send = respond.send_response(answer, false).unwrap();
                            send.send_data(first.into(), false).unwrap();
                            std::future::poll_fn(|cx| send.poll_reset(cx)).await
                        }
                    };
                    tell.send(reset.unwrap()).unwrap();
                });
            }
        }
    })
    .await;
    (address, told)
}

#[tokio::test]
async fn what_we_refuse_is_an_outcome_with_what_and_fix_and_no_body() {
    let world = World::start(&[nobody().await], "", "").await;
    let mut client = http2_client(world.address()).await;
    for (path, key, status, words) in [
        ("/v1/call", None, "16", "missing_credential"),
        ("/v1/call", Some("bk1.acme.ci.BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA"), "16", "invalid_api_key"),
        ("/public/call", None, "14", "upstream_unreachable"),
    ] {
        let request = key.into_iter().fold(call(path), |call, key| call.header("x-api-key", key));
        let (answer, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        let answer = within(answer).await.unwrap();
        assert_eq!((answer.status().as_u16(), field(answer.headers(), "content-type")), (200, "application/grpc"));
        assert_eq!(field(answer.headers(), "grpc-status"), status, "{path}");
        let message = field(answer.headers(), "grpc-message");
        assert!(message.contains(words) && message.contains(". "), "what and how to fix it: {message}");
        assert!(field(answer.headers(), "x-bulkhead-decision-id").starts_with("d-"));
        assert!(answer.body().is_end_stream(), "trailers only");
    }
}

#[tokio::test]
async fn who_speaks_http1_is_refused_by_status_whatever_the_content_type() {
    let world = World::start(&[nobody().await], "", "").await;
    let answer = world.ask("GET /v1/call HTTP/1.1\nHost: acme.test\nContent-Type: application/grpc\n\n").await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "missing_credential"));
}

#[tokio::test]
async fn a_deadline_ends_a_call_whose_upstream_is_silent() {
    let (upstream, mut told) = silent(None).await;
    let world = World::start(&[upstream], "", "").await;
    let mut client = http2_client(world.address()).await;
    let request = call("/public/call").header("grpc-timeout", "100m").body(()).unwrap();
    let (answer, _body_to_come) = client.send_request(request, false).unwrap();
    let answer = within(answer).await.unwrap();
    assert_eq!((answer.status().as_u16(), field(answer.headers(), "grpc-status")), (200, "4"));
    assert_eq!(within(told.recv()).await, Some(h2::Reason::CANCEL), "the upstream is told to stop");
}

/// An upstream that tells the `grpc-timeout` of each call, and answers none.
async fn telling() -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let (tell, told) = mpsc::unbounded_channel();
    let address = http2_upstream(move |_, stream| {
        let tell = tell.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let mut held = Vec::new();
            while let Some(Ok((request, respond))) = connection.accept().await {
                let _ = tell.send(field(request.headers(), "grpc-timeout").to_owned());
                held.push(respond);
            }
        }
    })
    .await;
    (address, told)
}

#[tokio::test]
async fn a_service_is_told_what_is_left_of_a_deadline() {
    let (upstream, mut told) = telling().await;
    let world = World::start(&[upstream], "limits: { in_flight: 1, pending: 1 }\nconnect_timeout: 15s", "").await;
    let mut client = http2_client(world.address()).await;
    let mut ask = || client.send_request(call("/public/call").header("grpc-timeout", "1M").body(()).unwrap(), false).unwrap();
    let first = ask();
    assert_eq!(within(told.recv()).await.unwrap(), "1M", "nothing was spent: as it came");
    let (_second, third) = (ask(), ask());
    // Its turn came after the second's, which therefore waits.
    assert_eq!(field(within(third.0).await.unwrap().headers(), "grpc-status"), "14");
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    drop(first);
    let left = within(told.recv()).await.unwrap();
    let millis: u64 = left.strip_suffix('m').unwrap().parse().unwrap();
    assert!((30_000..60_000).contains(&millis), "{left}");
}

#[tokio::test]
async fn a_deadline_ends_a_call_that_finds_no_connection() {
    // Takes the connection and says nothing of its settings.
    let mute = upstream(|connection| async move {
        let _held = connection;
        std::future::pending::<()>().await;
    })
    .await;
    let world = World::start(&[mute], "connect_timeout: 15s", "").await;
    let mut client = http2_client(world.address()).await;
    let request = call("/public/call").header("grpc-timeout", "100m").body(()).unwrap();
    let (answer, _body_to_come) = client.send_request(request, false).unwrap();
    assert_eq!(field(within(answer).await.unwrap().headers(), "grpc-status"), "4");
}

#[tokio::test]
async fn a_deadline_ends_a_call_whose_answer_has_begun() {
    let (upstream, mut told) = silent(Some("first")).await;
    let world = World::start(&[upstream], "", "").await;
    let mut client = http2_client(world.address()).await;
    let request = call("/public/call").header("grpc-timeout", "300m").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let mut body = within(answer).await.unwrap().into_body();
    assert_eq!(whole(&mut body).await, b"first");
    let trailers = within(body.trailers()).await.unwrap().unwrap();
    assert_eq!(field(&trailers, "grpc-status"), "4");
    assert_eq!(within(told.recv()).await, Some(h2::Reason::CANCEL));
}

#[tokio::test]
async fn a_call_without_a_deadline_is_bounded_by_the_upstreams_time_outs() {
    let (upstream, _told) = silent(Some("first")).await;
    let world = World::start(&[upstream], "stream_idle_timeout: 200ms", "").await;
    let mut client = http2_client(world.address()).await;
    let (answer, _) = client.send_request(call("/public/call").body(()).unwrap(), true).unwrap();
    let mut body = within(answer).await.unwrap().into_body();
    assert_eq!(whole(&mut body).await, b"first");
    assert_eq!(field(&within(body.trailers()).await.unwrap().unwrap(), "grpc-status"), "14");
}

#[tokio::test]
async fn an_answer_that_its_upstream_breaks_off_ends_with_an_outcome() {
    let upstream = http2_upstream(|_, stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                let answer = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                let mut send = respond.send_response(answer, false).unwrap();
                // Whoever has the head says that it has said all.
                whole(&mut request.into_body()).await;
                send.send_reset(h2::Reason::INTERNAL_ERROR);
            });
        }
    })
    .await;
    let world = World::start(&[upstream], "", "").await;
    let mut client = http2_client(world.address()).await;
    let (answer, mut send) = client.send_request(call("/public/call").body(()).unwrap(), false).unwrap();
    let mut body = within(answer).await.unwrap().into_body();
    send.send_data(Bytes::new(), true).unwrap();
    assert_eq!(whole(&mut body).await, b"");
    assert_eq!(field(&within(body.trailers()).await.unwrap().unwrap(), "grpc-status"), "14");
}

#[tokio::test]
async fn a_client_that_cancels_cancels_at_the_upstream() {
    let (upstream, mut told) = silent(Some("first")).await;
    let world = World::start(&[upstream], "", "").await;
    let mut client = http2_client(world.address()).await;
    let (answer, mut send) = client.send_request(call("/public/call").body(()).unwrap(), false).unwrap();
    let mut body = within(answer).await.unwrap().into_body();
    assert_eq!(within(body.data()).await.unwrap().unwrap(), "first");
    send.send_reset(h2::Reason::CANCEL);
    assert_eq!(within(told.recv()).await, Some(h2::Reason::CANCEL));
    world.log_with("access.jsonl", &["/public/call"]).await;
}

#[tokio::test]
async fn the_bound_on_bodies_cuts_no_call() {
    let policy = "---\nkind: SecurityPolicy\nname: small\nrequest: { body_bytes_max: 1KiB }\n";
    // It answers when it has read all, so that an answer that has begun is never cut.
    let upstream = http2_upstream(|_, stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut length = 0;
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                    length += data.len();
                }
                // Who was cut off gets none.
                if let Ok(mut send) = respond.send_response(http::Response::new(()), false) {
                    let _ = send.send_data(length.to_string().into(), true);
                }
            });
        }
    })
    .await;
    let world = World::start(&[upstream], "protocol: http2", policy).await;
    for (content_type, status, read) in [("application/grpc", 200, Some("200000")), ("application/octet-stream", 413, None)] {
        let mut client = http2_client(world.address()).await;
        let request = Request::post("http://acme.test/v1/call").header("content-type", content_type).header("x-api-key", KEY);
        let (answer, mut send) = client.send_request(request.body(()).unwrap(), false).unwrap();
        for n in 0..200_u32 {
            // What was refused is not asked for more.
            let _ = send.send_data(Bytes::from(vec![b'a'; 1_000]), n == 199);
        }
        let answer = within(answer).await.unwrap();
        assert_eq!(answer.status(), status, "{content_type}");
        if let Some(read) = read {
            assert_eq!(whole(&mut answer.into_body()).await, read.as_bytes());
        }
    }
}
