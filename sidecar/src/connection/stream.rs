//! One stream of a client's HTTP/2 connection: let go when its client takes nothing of the answer for too long.
//!
//! Cost: per stream; one small allocation, and a deadline that is moved while the answer waits for its client.
//! The socket's deadline cannot see this: a client may read its connection and yet grant a stream no window (RFC 9113 section
//! 10.5). Its answer would wait for ever, and with it a connection to the upstream and a place among the requests in flight, of
//! which a tenant has few.

use super::limits::WRITE_TIMEOUT;
use crate::deadline::{Deadline, Wheel};
use crate::worker::Stream;
use std::cell::{Cell, OnceCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

/// Where an answer leaves: what its body tells the task that sends it.
#[derive(Debug, Default)]
pub struct Outlet {
    /// Pieces given so far, the head being the first.
    given: Cell<u64>,
    /// The last piece is out, and the next is not there yet.
    wants_more: Cell<bool>,
    /// What is being answered, if it lasts.
    stream: OnceCell<Rc<Stream>>,
}

impl Outlet {
    /// A piece of the answer is there; whoever does not ask for the next one waits for the client.
    pub fn give(&self) {
        self.given.set(self.given.get() + 1);
        self.wants_more.set(false);
    }

    /// The client took all there is.
    pub fn want_more(&self) {
        self.wants_more.set(true);
    }

    /// The answer lasts; it is given up when it may not go on.
    pub fn heed(&self, stream: &Rc<Stream>) {
        // The first stays: it is the same one.
        let _ = self.stream.set(Rc::clone(stream));
    }

    fn is_ended(&self) -> bool {
        self.stream.get().is_some_and(|stream| stream.is_ended())
    }

    fn waits_for_client(&self) -> bool {
        self.given.get() > 0 && !self.wants_more.get()
    }
}

/// Runs the streams of one connection as tasks of its worker.
#[derive(Clone)]
pub struct Streams {
    wheel: Rc<Wheel>,
    /// Of the request that the engine was just given. It spawns the stream right after that, so there is never a second one.
    next: Rc<Cell<Option<Rc<Outlet>>>>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

impl Streams {
    /// None yet.
    #[must_use]
    pub fn new(wheel: Rc<Wheel>) -> Self {
        Self { wheel, next: Rc::default() }
    }

    /// The outlet of the stream that the engine spawns next.
    #[must_use]
    pub fn open(&self) -> Rc<Outlet> {
        let outlet = Rc::new(Outlet::default());
        self.next.set(Some(Rc::clone(&outlet)));
        outlet
    }
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        match self.next.take() {
            Some(outlet) => drop(tokio::task::spawn_local(run(stream, outlet, self.wheel.take()))),
            None => drop(tokio::task::spawn_local(stream)),
        }
    }
}

/// Runs a stream to its end, or until its client has taken nothing for too long, or it may not go on: dropping it resets it
/// (CANCEL).
async fn run(stream: impl Future, outlet: Rc<Outlet>, deadline: Deadline) {
    let (mut stream, mut seen) = (pin!(stream), 0);
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() || outlet.is_ended() {
            return Poll::Ready(());
        }
        if !outlet.waits_for_client() {
            deadline.disarm();
            return Poll::Pending;
        }
        if outlet.given.get() != seen {
            seen = outlet.given.get();
            deadline.arm(WRITE_TIMEOUT);
        }
        deadline.poll(cx).map(|_| ())
    })
    .await;
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::connection::framed::{Framed, drive};
    use crate::request::body::{Content, Reply};
    use bytes::Bytes;
    use http::{Request, Response};
    use hyper::server::conn::http2;
    use hyper::service::service_fn;
    use std::convert::Infallible;
    use std::time::Duration;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::LocalSet;

    /// A client that grants each stream a window of `window` bytes asks once, and meets `then` with the answer's body.
    async fn answered<F: Future<Output = ()>>(window: u32, then: impl FnOnce(Rc<Wheel>, h2::RecvStream) -> F) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wheel = Wheel::new();
        let streams = Streams::new(Rc::clone(&wheel));
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn({
            let streams = streams.clone();
            move |_| {
                let outlet = streams.open();
                let reply = Reply::unrecorded(Content::Own(Bytes::from_static(b"hello"))).through(outlet);
                async { Ok::<_, Infallible>(Response::new(reply)) }
            }
        });
        let framed = Framed::trusted(stream.into());
        let engine = http2::Builder::new(streams).serve_connection(framed.clone(), service);
        tokio::task::spawn_local(drive(engine, framed));
        let (sender, connection) = h2::client::Builder::new().initial_window_size(window).handshake::<_, Bytes>(client).await.unwrap();
        tokio::task::spawn_local(async move { drop(connection.await) });
        let request = Request::get("http://acme.test/").body(()).unwrap();
        let (answer, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
        then(wheel, answer.await.unwrap().into_body()).await;
    }

    #[tokio::test]
    async fn a_stream_whose_client_takes_nothing_is_reset_after_a_while_and_not_before() {
        LocalSet::new()
            .run_until(answered(0, async |wheel, mut body| {
                wheel.turn_to(WRITE_TIMEOUT - Duration::from_secs(1));
                body.flow_control().release_capacity(0).unwrap();
                let early = poll_fn(|cx| Poll::Ready(body.poll_data(cx).is_pending())).await;
                assert!(early);
                wheel.turn_to(WRITE_TIMEOUT + Duration::from_secs(1));
                let end = tokio::time::timeout(Duration::from_secs(20), body.data()).await.unwrap().unwrap().unwrap_err();
                assert_eq!(end.reason(), Some(h2::Reason::CANCEL));
            }))
            .await;
    }

    #[tokio::test]
    async fn a_stream_whose_client_takes_all_is_never_late() {
        LocalSet::new()
            .run_until(answered(1_024, async |wheel, mut body| {
                wheel.turn_to(2 * WRITE_TIMEOUT);
                assert_eq!(body.data().await.unwrap().unwrap(), "hello");
            }))
            .await;
    }

    #[test]
    fn waiting_for_the_upstream_is_not_waiting_for_the_client() {
        let outlet = Outlet::default();
        assert!(!outlet.waits_for_client(), "no answer yet");
        outlet.give();
        assert!(outlet.waits_for_client());
        outlet.want_more();
        assert!(!outlet.waits_for_client());
        outlet.give();
        assert!(outlet.waits_for_client());
    }
}
