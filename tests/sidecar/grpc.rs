//! gRPC through the sidecar, by two implementations on either side: every kind of call, outcomes, cancellation, refusals.

use bulkhead_tests::{GrpcClient, GrpcService, Origin, World, eventually, python};
use bytes::Bytes;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use tokio_stream::StreamExt as _;
use tonic::{Code, Streaming};

/// The demo with routes for calls: `/calls/…`, of which `/rare/…` takes one an hour and `/small/…` messages of 1 KiB, and `/open/…` for
/// everybody.
fn world(service: SocketAddr) -> World {
    World::with(Origin::start(), |folder| {
        let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        let at = text.find("endpoints: [\"http://").unwrap();
        let end = at + text[at..].find(']').unwrap();
        let text = format!("{}endpoints: [\"http://{service}\"{}", &text[..at], &text[end..]);
        let routes = "routes:\n  - { name: open, path: \"/open/{method}\", access: public }\n  \
                      - { name: calls, path: \"/calls/{method}\" }\n  - { name: rare, path: \"/rare/{method}\" }\n  \
                      - { name: small, path: \"/small/{method}\", grpc_message_bytes_max: 1KiB }\n";
        let (before, after) = text.split_once("routes:").unwrap();
        let after = &after[after.find('\n').unwrap() + 1..];
        let more = "---\nkind: Role\nname: caller\nallow: [\"POST /calls/{method}\", \"POST /rare/{method}\", \"POST /small/{method}\"]\n\
                    ---\nkind: RoleBinding\nname: callers\nrole: caller\nsubjects: [{ claim: { roles: caller } }]\n\
                    ---\nkind: QuotaPolicy\nname: rare_calls\napplies_to: { routes: [rare] }\n\
                    limits: [{ name: rare, per: tenant, requests: 1, window: 1h }]\n";
        std::fs::write(folder.join("platform.yaml"), format!("{before}{routes}{after}\n{more}")).unwrap();
    })
}

fn stream(messages: &[&'static str]) -> impl tokio_stream::Stream<Item = Bytes> + Send + 'static {
    tokio_stream::iter(messages.iter().map(|message| Bytes::from_static(message.as_bytes())).collect::<Vec<_>>())
}

async fn all(mut messages: Streaming<Bytes>) -> Vec<Bytes> {
    let mut all = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        all.push(message);
    }
    all
}

async fn caller(world: &World) -> GrpcClient {
    let token = world.issuer.token("acme_corp", &["caller"]);
    GrpcClient::connect(world.address(), "acme.localhost").await.bearer(&token)
}

#[tokio::test]
async fn calls_of_every_kind_go_through_with_their_metadata() {
    let service = GrpcService::start();
    let world = world(service.address());
    let mut client = caller(&world).await;
    let answer = client.call("/calls/echo", stream(&["hello"])).await.unwrap();
    assert_eq!(answer.metadata().get("tenant-seen").unwrap(), "acme_corp", "the service sees what is proven");
    assert_eq!(all(answer.into_inner()).await, ["hello"]);
    let answer = client.call("/calls/sum", stream(&["1", "22", "333"])).await.unwrap();
    assert_eq!(all(answer.into_inner()).await, ["6"]);
    let answer = client.call("/calls/count", stream(&["5"])).await.unwrap();
    assert_eq!(all(answer.into_inner()).await, ["1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn messages_go_both_ways_one_by_one() {
    let service = GrpcService::start();
    let world = world(service.address());
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let messages = tokio_stream::wrappers::ReceiverStream::new(receive);
    let mut client = caller(&world).await;
    let mut answers = client.call("/calls/echo", messages).await.unwrap().into_inner();
    for message in ["ask", "ask again", "and again"] {
        send.send(Bytes::from_static(message.as_bytes())).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap(), message);
    }
    drop(send);
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test]
async fn a_call_may_be_longer_than_a_body() {
    let service = GrpcService::start();
    let world = world(service.address());
    // The demo's bound on bodies is 10 MiB.
    let messages = tokio_stream::iter(0..16).map(|_| Bytes::from(vec![b'a'; 1 << 20]));
    let answer = caller(&world).await.call("/calls/sum", messages).await.unwrap();
    assert_eq!(all(answer.into_inner()).await, [(16 << 20).to_string()]);
}

/// As many messages as come, and how the call ends.
async fn until_outcome(answer: Result<tonic::Response<Streaming<Bytes>>, tonic::Status>) -> (Vec<usize>, Result<(), tonic::Status>) {
    let mut messages = match answer {
        Ok(answer) => answer.into_inner(),
        Err(outcome) => return (Vec::new(), Err(outcome)),
    };
    let mut sizes = Vec::new();
    loop {
        match messages.message().await {
            Ok(Some(message)) => sizes.push(message.len()),
            Ok(None) => return (sizes, Ok(())),
            Err(outcome) => return (sizes, Err(outcome)),
        }
    }
}

fn is_too_large(outcome: Result<(), tonic::Status>) -> bool {
    outcome.is_err_and(|outcome| outcome.code() == Code::ResourceExhausted && outcome.message().contains("larger than the service"))
}

#[tokio::test]
async fn a_message_is_as_large_as_it_likes_unless_its_route_says_otherwise() {
    let service = GrpcService::start();
    let world = world(service.address());
    let mut client = caller(&world).await;
    let messages = |sizes: &[usize]| tokio_stream::iter(sizes.iter().map(|size| Bytes::from(vec![b'a'; *size])).collect::<Vec<_>>());
    assert_eq!(until_outcome(client.call("/calls/echo", messages(&[3 << 20])).await).await.0, [3 << 20]);
    let (sizes, outcome) = until_outcome(client.call("/small/echo", messages(&[0, 1_024, 5, 1_024])).await).await;
    assert_eq!(sizes, [0, 1_024, 5, 1_024]);
    outcome.unwrap();
    for sizes in [&[1_025][..], &[3 << 20], &[5, 1_025]] {
        let (_, outcome) = until_outcome(client.call("/small/sum", messages(sizes)).await).await;
        assert!(is_too_large(outcome.clone()), "{sizes:?}: {outcome:?}");
    }
    assert!(world.probe("/metrics").text().contains("code=\"message_too_large\""));
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_a_call_that_is_under_way() {
    let service = GrpcService::start();
    let world = world(service.address());
    let mut client = caller(&world).await;
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let mut answers = client.call("/small/echo", tokio_stream::wrappers::ReceiverStream::new(receive)).await.unwrap().into_inner();
    send.send(Bytes::from_static(b"small")).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap(), "small");
    send.send(Bytes::from(vec![b'a'; 1_025])).await.unwrap();
    let outcome = answers.message().await.map(|_| ());
    assert!(is_too_large(outcome.clone()), "{outcome:?}");
}

#[tokio::test]
async fn a_message_of_the_service_is_bounded_as_well_and_those_before_it_arrive() {
    let service = GrpcService::start();
    let world = world(service.address());
    let mut client = caller(&world).await;
    for big in ["1025", "3000000"] {
        let (send, receive) = tokio::sync::mpsc::channel(1);
        let mut answers = client.call("/small/sized", tokio_stream::wrappers::ReceiverStream::new(receive)).await.unwrap().into_inner();
        for small in ["0", "1024"] {
            send.send(Bytes::from_static(small.as_bytes())).await.unwrap();
            assert_eq!(answers.message().await.unwrap().unwrap().len().to_string(), small);
        }
        send.send(Bytes::from_static(big.as_bytes())).await.unwrap();
        let outcome = answers.message().await.map(|_| ());
        assert!(is_too_large(outcome.clone()), "{big}: {outcome:?}");
    }
    let cancelled = tokio::task::spawn_blocking(move || eventually("the service notices", || (service.cancelled() > 1).then_some(())));
    cancelled.await.unwrap();
    // In one piece or in many: what lies before it arrives.
    let messages = stream(&["7", "9", "1025", "3"]);
    let service = GrpcService::start();
    let world = self::world(service.address());
    let (sizes, outcome) = until_outcome(caller(&world).await.call("/small/sized", messages).await).await;
    assert_eq!(sizes, [7, 9]);
    assert!(is_too_large(outcome.clone()), "{outcome:?}");
}

#[tokio::test]
async fn the_services_own_outcome_comes_back_word_for_word() {
    let service = GrpcService::start();
    let world = world(service.address());
    let outcome = caller(&world).await.call("/calls/fail", stream(&[])).await.unwrap_err();
    assert_eq!((outcome.code(), outcome.message()), (Code::FailedPrecondition, "not now: é, 100 %"));
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_by_the_service() {
    let service = GrpcService::start();
    let world = world(service.address());
    let mut client = caller(&world).await;
    let answer = client.call("/calls/wait", stream(&["x"])).await.unwrap();
    drop(answer);
    let cancelled = tokio::task::spawn_blocking(move || eventually("the service notices", || (service.cancelled() > 0).then_some(())));
    cancelled.await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_a_status_that_says_why() {
    let service = GrpcService::start();
    let world = world(service.address());
    let connect = || GrpcClient::connect(world.address(), "acme.localhost");
    let reader = world.issuer.token("acme_corp", &["reader"]);
    let other = world.issuer.token("globex", &["caller"]);
    for (mut client, path, code, words) in [
        (connect().await, "/calls/echo", Code::Unauthenticated, "(missing_credential)"),
        (connect().await.bearer("a.b.c"), "/calls/echo", Code::Unauthenticated, "(invalid_token)"),
        (connect().await.bearer(&reader), "/calls/echo", Code::PermissionDenied, "(not_permitted)"),
        (connect().await.bearer(&other), "/calls/echo", Code::PermissionDenied, "(other_tenant)"),
        (caller(&world).await, "/nowhere/echo", Code::Unimplemented, "(no_route)"),
        (GrpcClient::connect(world.address(), "nobody.localhost").await, "/open/echo", Code::Unimplemented, "(unknown_tenant)"),
    ] {
        let outcome = client.call(path, stream(&["x"])).await.unwrap_err();
        assert_eq!(outcome.code(), code, "{outcome:?}");
        assert!(outcome.message().contains(words), "{outcome:?}");
        assert!(outcome.metadata().get("x-bulkhead-decision-id").is_some(), "{outcome:?}");
    }
    let mut client = caller(&world).await;
    assert_eq!(all(client.call("/rare/echo", stream(&["x"])).await.unwrap().into_inner()).await, ["x"]);
    let outcome = client.call("/rare/echo", stream(&["x"])).await.unwrap_err();
    assert_eq!(outcome.code(), Code::ResourceExhausted, "{outcome:?}");
}

#[tokio::test]
async fn a_service_that_is_not_there_is_unavailable() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = world(unused);
    let outcome = caller(&world).await.call("/calls/echo", stream(&["x"])).await.unwrap_err();
    assert_eq!(outcome.code(), Code::Unavailable, "{outcome:?}");
}

/// The other implementation, as a service; ends with its input.
struct Peer {
    child: Child,
    address: SocketAddr,
}

impl Peer {
    fn start() -> Self {
        let mut child = peer().arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python starts");
        let mut port = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut port).expect("its port");
        let address = format!("127.0.0.1:{}", port.trim()).parse().expect("a port");
        Self { child, address }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn peer() -> Command {
    let mut command = Command::new(python("grpcio"));
    command.arg(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("support/grpc_peer.py"));
    command
}

/// What grpcio makes of calls through the sidecar to a service.
fn asked(service: SocketAddr) -> serde_json::Value {
    let world = world(service);
    let token = world.issuer.token("acme_corp", &["caller"]);
    let output = peer().args(["ask", &world.address().to_string(), "acme.localhost", &token, "/calls/"]).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&output.stdout)))
}

/// Results that must be the same whatever implementation serves.
fn agree(results: &serde_json::Value) {
    assert_eq!(results["unary"], "hello", "{results}");
    assert_eq!(results["client stream"], "12000000", "{results}");
    assert_eq!(results["server stream"], serde_json::json!(["1", "2", "3"]), "{results}");
    assert_eq!(results["both"], serde_json::json!(["one", "two", "three"]), "{results}");
    assert_eq!(results["status"], serde_json::json!({"code": "FAILED_PRECONDITION", "details": "not now: é, 100 %"}), "{results}");
    assert_eq!(results["deadline"]["code"], "DEADLINE_EXCEEDED", "{results}");
    assert_eq!(results["cancelled"]["code"], "CANCELLED", "{results}");
    assert_eq!(results["no token"]["code"], "UNAUTHENTICATED", "{results}");
    assert_eq!(results["no route"]["code"], "UNIMPLEMENTED", "{results}");
}

#[test]
fn grpcio_calls_grpcio() {
    let service = Peer::start();
    agree(&asked(service.address));
}

#[test]
fn grpcio_calls_tonic() {
    let service = GrpcService::start();
    agree(&asked(service.address()));
    eventually("deadline and cancellation arrive", || (service.cancelled() >= 2).then_some(()));
}

#[tokio::test]
async fn tonic_calls_grpcio() {
    let service = Peer::start();
    let world = world(service.address);
    let mut client = caller(&world).await;
    assert_eq!(all(client.call("/calls/echo", stream(&["a", "b"])).await.unwrap().into_inner()).await, ["a", "b"]);
    assert_eq!(all(client.call("/calls/sum", stream(&["a", "b"])).await.unwrap().into_inner()).await, ["2"]);
    let outcome = all_or_outcome(client.call("/calls/fail", stream(&[])).await).await.unwrap_err();
    assert_eq!((outcome.code(), outcome.message()), (Code::FailedPrecondition, "not now: é, 100 %"));
}

/// The messages of an answer, or the outcome, wherever it stands: some services send an empty head first.
async fn all_or_outcome(answer: Result<tonic::Response<Streaming<Bytes>>, tonic::Status>) -> Result<(), tonic::Status> {
    let mut messages = answer?.into_inner();
    while messages.message().await?.is_some() {}
    Ok(())
}
