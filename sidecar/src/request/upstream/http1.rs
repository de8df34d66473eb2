//! HTTP/1.1 to the upstream: one request on one connection, whose engine runs inside the request's own task.
//!
//! Cost: per request on a kept connection; no task is spawned, none is woken, and a connection's own waker is the request's.
//! Nobody watches a connection that is not in use: whether it still stands is asked when it is taken.

use super::target::InUse;
use super::{Failed, Step};
use crate::connection::io::{Io, Task};
use crate::deadline::Deadline;
use crate::request::body::{Progress, Stage, Upload};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::net::TcpStream;

/// Bytes that may wait in a connection's buffers.
const BUFFER_BYTES_MAX: usize = 128 << 10;

/// A connection to an endpoint.
///
/// Its engine hands pieces over to itself (a request in, an answer out, a body through a channel) and wakes its poller each time.
/// That poller is the one who just took the piece, so every request would be polled once more for nothing. So the engine is
/// given a bell instead of the task, and only the socket wakes the task itself; the bell counts while the engine runs, which
/// is how it says that it wants to go on later.
pub struct Link {
    sender: http1::SendRequest<Upload>,
    /// Gone once it has ended and nobody asked for its socket.
    connection: Option<http1::Connection<Io<Task>, Upload>>,
    task: Task,
    bell: Arc<Bell>,
    bell_waker: Waker,
    has_ended: bool,
    /// It served a request before.
    pub is_used: bool,
    /// Turn of the wheel it was put aside at.
    pub idle_since: u64,
}

/// Whether the engine rang.
#[derive(Debug, Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whom an engine wakes when it hands pieces over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ring {
    /// The bell.
    Bell,
    /// The task: the body of a request may come from another one, over HTTP/2.
    Task,
}

impl Ring {
    fn with_upload(has_upload: bool) -> Self {
        if has_upload { Ring::Task } else { Ring::Bell }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("has_ended", &self.has_ended).field("is_used", &self.is_used).finish_non_exhaustive()
    }
}

impl Link {
    /// A connection over a fresh socket.
    ///
    /// # Errors
    /// When the engine refuses to begin.
    pub async fn begin(stream: TcpStream) -> Result<Box<Self>, Failed> {
        let mut builder = http1::Builder::new();
        // The limit on an answer's fields stays at the engine's 100: any other costs two allocations of 4 KiB per answer.
        builder.max_buf_size(BUFFER_BYTES_MAX).writev(false);
        let (task, bell) = (Task::nobodys(), Arc::<Bell>::default());
        let io = Io::new(stream, Bytes::new(), task.clone());
        let (sender, connection) = builder.handshake(io).await.map_err(|error| Failed::because(Step::Protocol, error))?;
        let bell_waker = Waker::from(Arc::clone(&bell));
        let connection = Some(connection);
        Ok(Box::new(Self { sender, connection, task, bell, bell_waker, has_ended: false, is_used: false, idle_since: 0 }))
    }

    /// Drives the engine. A request that came too late for it is still in its queue when it has ended, and is given back only
    /// when the engine is dropped: at the next poll, so that an answer which came with the end is taken first.
    fn poll(&mut self, cx: &mut Context<'_>, ring: Ring) {
        if self.has_ended {
            self.connection = None;
        } else if let Some(connection) = &mut self.connection {
            self.task.is_now(cx.waker());
            self.bell.0.store(false, Ordering::Relaxed);
            let waker = if ring == Ring::Bell { &self.bell_waker } else { cx.waker() };
            self.has_ended = connection.poll_without_shutdown(&mut Context::from_waker(waker)).is_ready();
            if self.has_ended || self.bell.0.load(Ordering::Relaxed) {
                cx.waker().wake_by_ref();
            }
        }
    }

    /// Whether it can take a request. What the upstream said or did meanwhile is found when the engine runs: then the request
    /// comes back whole, because an engine that has ended sends nothing.
    pub fn is_ready(&mut self) -> bool {
        self.sender.is_ready() || self.is_idle()
    }

    /// Whether it stands, says nothing and waits for a request.
    pub fn is_idle(&mut self) -> bool {
        self.poll(&mut Context::from_waker(Waker::noop()), Ring::Bell);
        !self.has_ended && self.sender.is_ready()
    }

    /// The socket, and what was read beyond the answer's head, after a change of protocols.
    fn into_socket(self) -> Option<(TcpStream, Bytes)> {
        let parts = self.connection?.into_parts();
        let (stream, _) = parts.io.into_parts();
        Some((stream, parts.read_buf))
    }
}

/// What an exchange waits for, and how long.
#[derive(Debug)]
pub(super) struct Waits<'a> {
    /// The deadline it moves.
    pub deadline: &'a Deadline,
    /// The body on its way, if there is one.
    pub upload: Option<Rc<Progress>>,
    /// The client may pause for so long.
    pub client: Duration,
    /// The upstream may take nothing for so long.
    pub upstream: Duration,
    /// From the last byte of the request to the head of the answer.
    pub response: Duration,
}

impl Waits<'_> {
    /// Where the request stands: how much of it came, and who owes what.
    fn standing(&self) -> (u64, Stage) {
        self.upload.as_ref().map_or((0, Stage::Complete), |upload| (upload.bytes(), upload.stage()))
    }

    /// Waits anew for whoever owes the next step.
    fn arm(&self, stage: Stage) {
        self.deadline.arm(match stage {
            Stage::OwedByClient => self.client,
            Stage::OwedByUpstream => self.upstream,
            Stage::Complete | Stage::TooLarge | Stage::BrokenOff | Stage::Malformed => self.response,
        });
    }

    /// Waits for `answer` while `drive` runs whatever it depends on.
    ///
    /// # Errors
    /// The stage at which time ran out.
    pub(super) async fn until<F: Future>(
        &self,
        mut answer: Pin<&mut F>,
        mut drive: impl FnMut(&mut Context<'_>),
        waker: Whose,
    ) -> Result<F::Output, Stage> {
        let mut seen = self.standing();
        self.arm(seen.1);
        let outcome = poll_fn(|cx| {
            drive(cx);
            let polled = match waker {
                Whose::Drive => answer.as_mut().poll(&mut Context::from_waker(Waker::noop())),
                Whose::Answer => answer.as_mut().poll(cx),
            };
            if let Poll::Ready(output) = polled {
                return Poll::Ready(Ok(output));
            }
            let standing = self.standing();
            if standing != seen {
                seen = standing;
                self.arm(seen.1);
            }
            self.deadline.poll(cx).map(|_| Err(seen.1))
        })
        .await;
        self.deadline.disarm();
        outcome
    }
}

/// Who wakes the task while it waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// What is driven: the answer comes out of it, within the same poll.
    Drive,
    /// The answer: another task drives.
    Answer,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// Nothing was sent: the request is whole.
    Unsent(Box<Request<Upload>>, hyper::Error),
    /// It was sent, or part of it, and nothing came back.
    Silent(hyper::Error),
    /// Something came back that is no answer, or the request broke off.
    Failed(hyper::Error),
    /// Time ran out.
    Late(Stage),
}

impl Broken {
    /// Sorts an engine's error by what may be done about it.
    pub(super) fn of(error: hyper::Error, request: Option<Request<Upload>>) -> Self {
        match request {
            Some(request) => Broken::Unsent(Box::new(request), error),
            None if error.is_parse() || error.is_user() => Broken::Failed(error),
            None => Broken::Silent(error),
        }
    }
}

/// Sends `request` and waits for the head of its answer.
///
/// # Errors
/// Why there is none.
pub(super) async fn exchange(link: &mut Link, request: Box<Request<Upload>>, waits: &Waits<'_>) -> Result<Response<Incoming>, Broken> {
    let answer = pin!(link.sender.try_send_request(*request));
    let ring = Ring::with_upload(waits.upload.is_some());
    match waits.until(answer, |cx| link.poll(cx, ring), Whose::Drive).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(mut error)) => {
            let request = error.take_message();
            Err(Broken::of(error.into_error(), request))
        }
        Err(stage) => Err(Broken::Late(stage)),
    }
}

/// After an answer of 101: runs the engine to its end and gives back the socket.
///
/// # Errors
/// When the engine does not let go of it.
pub(super) async fn take_over(mut link: Box<Link>, deadline: &Deadline, within: Duration) -> Result<(TcpStream, Bytes), Failed> {
    let ended = poll_fn(|cx| {
        if !link.has_ended {
            link.poll(cx, Ring::Task);
        }
        if link.has_ended { Poll::Ready(()) } else { Poll::Pending }
    });
    deadline.limit(within, ended).await.map_err(|_| Failed::at(Step::Protocol))?;
    link.into_socket().ok_or_else(|| Failed::at(Step::Protocol))
}

/// The rest of an answer.
#[derive(Debug)]
pub struct Download {
    incoming: Incoming,
    link: Option<Box<Link>>,
    ring: Ring,
    endpoint: InUse,
    deadline: Deadline,
    idle_timeout: Duration,
    is_waiting: bool,
}

impl Download {
    /// What comes after the head. A connection that has nothing left to say is put aside at once.
    pub fn new(incoming: Incoming, link: Box<Link>, has_upload: bool, endpoint: InUse, deadline: Deadline, idle_timeout: Duration) -> Self {
        let ring = Ring::with_upload(has_upload);
        let mut download = Self { incoming, link: Some(link), ring, endpoint, deadline, idle_timeout, is_waiting: false };
        if download.incoming.is_end_stream() {
            download.put_aside();
        }
        download
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        let mut polled = self.poll_incoming();
        if polled.is_pending()
            && let Some(link) = &mut self.link
        {
            link.poll(cx, self.ring);
            polled = self.poll_incoming();
        }
        match polled {
            Poll::Pending => self.wait(cx),
            Poll::Ready(frame) => {
                self.is_waiting = false;
                if frame.is_none() || self.incoming.is_end_stream() {
                    self.put_aside();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(|error| Failed::because(Step::BodyClosed, error))))
            }
        }
    }

    /// Everything that moves the body happens in the link's poll, so nobody needs to be woken by the body itself.
    fn poll_incoming(&mut self) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.incoming).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        if !self.is_waiting {
            self.is_waiting = true;
            self.deadline.arm(self.idle_timeout);
        }
        self.deadline.poll(cx).map(|_| Some(Err(Failed::at(Step::BodyTimeout))))
    }

    /// Whether it can be used again is asked when it is taken: now the engine would read into a new buffer, because the last
    /// piece of the body still lies in the old one.
    fn put_aside(&mut self) {
        self.deadline.disarm();
        if let Some(link) = self.link.take() {
            self.endpoint.put_aside(link);
        }
    }

    pub fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
