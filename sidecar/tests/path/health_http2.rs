//! Endpoints of HTTP/2 and gRPC that are asked whether they are well, as their requests are sent.

use crate::support::{World, http2_upstream, whole, within};
use bytes::Bytes;
use http::{HeaderMap, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What a service says of its health.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Says {
    /// 200 to GET, SERVING to a call.
    Well,
    /// 500, NOT_SERVING.
    NotWell,
    /// The gRPC status UNIMPLEMENTED, without a message.
    NoSuchCall,
    /// SERVING in a call that fails behind it.
    FailsAfterwards,
}

/// A service over HTTP/2 whose health can be told.
struct Patient {
    address: SocketAddr,
    says: Arc<AtomicU8>,
}

impl Patient {
    async fn new(says: Says) -> Self {
        let says = Arc::new(AtomicU8::new(says as u8));
        let shared = Arc::clone(&says);
        let address = http2_upstream(move |_, stream| {
            let says = Arc::clone(&shared);
            async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(answer(request, respond, Arc::clone(&says)));
                }
            }
        })
        .await;
        Self { address, says }
    }

    fn say(&self, says: Says) {
        self.says.store(says as u8, Ordering::Relaxed);
    }
}

async fn answer(request: http::Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>, says: Arc<AtomicU8>) {
    let (head, mut body) = request.into_parts();
    let says = says.load(Ordering::Relaxed);
    if head.uri.path() != "/grpc.health.v1.Health/Check" {
        let status = if says == Says::Well as u8 { 200 } else { 500 };
        respond.send_response(Response::builder().status(status).body(()).unwrap(), true).unwrap();
        return;
    }
    // `shop.Cart` as field 1 of a message.
    assert_eq!(whole(&mut body).await, [&[0, 0, 0, 0, 11, 0x0a, 9][..], b"shop.Cart"].concat());
    assert_eq!((&head.method, head.headers.get("te").unwrap().as_bytes()), (&http::Method::POST, &b"trailers"[..]));
    let answer = Response::builder().header("content-type", "application/grpc");
    if says == Says::NoSuchCall as u8 {
        respond.send_response(answer.header("grpc-status", "12").body(()).unwrap(), true).unwrap();
        return;
    }
    let mut send = respond.send_response(answer.body(()).unwrap(), false).unwrap();
    let health = if says == Says::NotWell as u8 { 2 } else { 1 };
    send.send_data(Bytes::from(vec![0, 0, 0, 0, 2, 8, health]), false).unwrap();
    let outcome = if says == Says::FailsAfterwards as u8 { "13" } else { "0" };
    send.send_trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), outcome.parse().unwrap())])).unwrap();
}

/// Waits until `/metrics` shows so many endpoints in this state.
async fn until_there_are(world: &World, state: &str, count: usize) {
    let line = format!("bulkhead_upstream_endpoints{{service=\"demo\",upstream=\"app\",state=\"{state}\"}} {count}");
    within(async {
        while !world.metrics().await.lines().any(|shown| shown == line) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

const PACE: &str = "interval: 100ms, healthy: 1, unhealthy: 1";

#[tokio::test]
async fn a_service_of_http2_is_asked_over_http2() {
    let (fickle, well) = (Patient::new(Says::Well).await, Patient::new(Says::Well).await);
    let check = format!("protocol: http2\nhealth_check: {{ path: /healthz, {PACE} }}");
    let world = World::start(&[fickle.address, well.address], &check, "").await;
    fickle.say(Says::NotWell);
    until_there_are(&world, "unhealthy", 1).await;
    world.log_with("log.jsonl", &["an endpoint is not well", "the status is 500", &fickle.address.to_string()]).await;
    fickle.say(Says::Well);
    until_there_are(&world, "unhealthy", 0).await;
}

#[tokio::test]
async fn a_call_is_asked_for_its_health_by_its_service() {
    for protocol in ["auto", "http2"] {
        let (fickle, well) = (Patient::new(Says::Well).await, Patient::new(Says::Well).await);
        let check = format!("protocol: {protocol}\nhealth_check: {{ grpc_service: shop.Cart, {PACE} }}");
        let world = World::start(&[fickle.address, well.address], &check, "").await;
        for (says, why) in [
            (Says::NotWell, "the health is NOT_SERVING"),
            (Says::NoSuchCall, "the gRPC status is 12"),
            (Says::FailsAfterwards, "the gRPC status is 13"),
        ] {
            fickle.say(says);
            until_there_are(&world, "unhealthy", 1).await;
            world.log_with("log.jsonl", &["an endpoint is not well", why]).await;
            fickle.say(Says::Well);
            until_there_are(&world, "unhealthy", 0).await;
        }
    }
}

#[tokio::test]
async fn who_speaks_no_http2_is_not_well_where_that_is_asked_for() {
    let (well, other) = (Patient::new(Says::Well).await, crate::support::echo().await);
    let world = World::start(&[well.address, other], &format!("health_check: {{ grpc_service: shop.Cart, {PACE} }}"), "").await;
    until_there_are(&world, "unhealthy", 1).await;
    world.log_with("log.jsonl", &["an endpoint is not well", &other.to_string()]).await;
}
