//! The stream to sidecars: what is declared comes at once, what became of it is told, and who lags gets what it lacks.

use crate::support::{ADMIN, Plane};
use bulkhead_config::protocol::Report;
use bulkhead_config::snapshot::Epoch;
use bulkhead_config::wire::message::from_control_plane::Said as Told;
use bulkhead_config::wire::message::from_sidecar::Said;
use bulkhead_config::wire::message::{FromControlPlane, FromSidecar, Hello};
use bulkhead_config::wire::{Assembled, Assembler, FOLLOW, PROTOCOL_VERSION, epoch_to, report_to};
use bytes::{Buf, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde_json::json;
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// A sidecar's side of the stream.
struct Follower {
    says: mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
    body: Incoming,
    read: BytesMut,
    assembler: Assembler,
}

impl Follower {
    async fn connect(plane: &Plane, hello: Hello) -> Self {
        let stream = TcpStream::connect(plane.push_address()).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let (says, said) = mpsc::channel(8);
        let request = Request::post(FOLLOW).header("content-type", "application/grpc").header("te", "trailers");
        says.send(Ok(framed(&FromSidecar { said: Some(Said::Hello(hello)) }))).await.unwrap();
        let answer = sender.send_request(request.body(StreamBody::new(ReceiverStream::new(said))).unwrap()).await.unwrap();
        Self { says, body: answer.into_body(), read: BytesMut::new(), assembler: Assembler::default() }
    }

    /// The next offer; `None` when the stream has ended.
    async fn offer(&mut self) -> Option<Assembled> {
        loop {
            while self.read.len() < 5 || self.read.len() < 5 + self.length() {
                let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame()).await.unwrap()?.ok()?;
                self.read.extend_from_slice(frame.data_ref()?);
            }
            let length = self.length();
            self.read.advance(5);
            let message = FromControlPlane::decode(self.read.split_to(length)).unwrap();
            if let Some(Told::Chunk(chunk)) = message.said
                && let Some(whole) = self.assembler.take(chunk).unwrap()
            {
                return Some(whole);
            }
        }
    }

    fn length(&self) -> usize {
        u32::from_be_bytes(self.read[1..5].try_into().unwrap()) as usize
    }

    async fn report(&self, epoch: Epoch) {
        let report = Report { epoch, accepted: Vec::new(), gone: Vec::new(), quarantined: Vec::new() };
        self.says.send(Ok(framed(&FromSidecar { said: Some(Said::Report(report_to(&report))) }))).await.unwrap();
    }
}

fn framed(message: &FromSidecar) -> Frame<Bytes> {
    let body = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&body);
    Frame::data(frame.into())
}

fn hello(name: &str, serving: Option<Epoch>) -> Hello {
    Hello { protocol_version: PROTOCOL_VERSION, name: name.into(), version: "1".into(), serving: serving.map(epoch_to) }
}

#[tokio::test]
async fn a_change_comes_at_once_and_its_state_says_where_it_is_served() {
    let plane = Plane::start().await.with_demo().await;
    let (mut a, mut b) = (Follower::connect(&plane, hello("a", None)).await, Follower::connect(&plane, hello("b", None)).await);
    let (first, same) = (a.offer().await.unwrap(), b.offer().await.unwrap());
    assert!(first.base.is_none() && first.offer.complete && first.offer.broken.is_empty());
    assert_eq!((first.epoch, first.offer.put.len()), (same.epoch, same.offer.put.len()));
    let made = plane.put("/v1/plans/gold", &json!({ "kind": "Plan", "name": "gold" })).await;
    let (new, _) = (a.offer().await.unwrap(), b.offer().await.unwrap());
    assert_eq!((new.base, new.offer.put.len()), (Some(first.epoch), 1), "only what is new");
    assert_eq!(made.body["revision"], new.epoch.revision);
    assert_eq!(plane.get("/v1/plans/gold/status").await.body["state"], "accepted");
    a.report(new.epoch).await;
    let programmed = |count: u64| {
        let plane = &plane;
        async move {
            for _ in 0..200 {
                let state = plane.get("/v1/plans/gold/status").await.body;
                if state["programmed"] == count {
                    return state;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("never programmed on {count}");
        }
    };
    assert_eq!(programmed(1).await["waiting"], json!(["b"]), "who lags is named");
    b.report(new.epoch).await;
    assert_eq!(programmed(2).await["state"], "programmed");
    let fleet = plane.get("/v1/fleet").await.body;
    assert_eq!((fleet["connected"].as_u64(), fleet["sidecars"][0]["behind"].as_u64()), (Some(2), Some(0)));
}

#[tokio::test]
async fn who_comes_back_gets_what_it_lacks_and_who_is_of_another_incarnation_everything() {
    let plane = Plane::start().await.with_demo().await;
    let mut sidecar = Follower::connect(&plane, hello("a", None)).await;
    let had = sidecar.offer().await.unwrap().epoch;
    drop(sidecar);
    plane.put("/v1/plans/gold", &json!({ "kind": "Plan", "name": "gold" })).await;
    plane.send(http::Method::DELETE, "/v1/plans/gold", ADMIN, &[], "").await;
    plane.put("/v1/plans/silver", &json!({ "kind": "Plan", "name": "silver" })).await;
    let back = Follower::connect(&plane, hello("a", Some(had))).await.offer().await.unwrap();
    assert_eq!((back.base, back.offer.put.len(), back.offer.remove.len()), (Some(had), 1, 1));
    for other in [Epoch { incarnation: 9, ..had }, Epoch { revision: 1_000, ..had }] {
        let all = Follower::connect(&plane, hello("a", Some(other))).await.offer().await.unwrap();
        assert_eq!((all.base, all.offer.complete), (None, true));
    }
    // One that has everything hears of the next change alone.
    let mut current = Follower::connect(&plane, hello("a", Some(back.epoch))).await;
    plane.put("/v1/plans/bronze", &json!({ "kind": "Plan", "name": "bronze" })).await;
    assert_eq!(current.offer().await.unwrap().base, Some(back.epoch));
}

#[tokio::test]
async fn a_sidecar_of_another_protocol_or_without_a_name_is_refused() {
    let plane = Plane::start().await;
    for wrong in [Hello { protocol_version: 99, ..hello("a", None) }, hello("", None), hello("a b", None), hello(&"x".repeat(300), None)] {
        assert!(Follower::connect(&plane, wrong).await.offer().await.is_none());
    }
    assert_eq!(plane.get("/v1/fleet").await.body["sidecars"], json!([]));
}
