//! Agreed: a request to an endpoint that picks in the handshake what it is spoken to (`protocol: auto` over TLS, RFC 7301).
//!
//! Cost: per request; that of the protocol it goes out with, and a box. A kept connection of HTTP/1.1 is used without coming here.
//! What an endpoint picked is remembered, so that a request goes to the connections there are; whenever a connection is opened both
//! are offered again, and what is picked then counts from then on.

use super::endpoint::InUse;
use super::http1::Link;
use super::http2::{Connection, Stream};
use super::replay::{self, Lent};
use super::send::{Attempt, Call, Forward, Use};
use super::{Arrived, Failed, Wire};
use crate::deadline::Deadline;
use crate::request::Refusal;
use crate::request::body::Upload;
use crate::request::outgoing::Outgoing;
use crate::socket::Socket;
use bulkhead_config::snapshot::Alpn;
use http::Request;
use std::cell::Cell;
use std::rc::Rc;

/// A connection whose protocol is settled, with room for one request.
enum Agreed {
    Http1(Box<Link>),
    Http2(Stream),
}

/// A request that can still go out over either protocol.
struct Open {
    request: Box<Outgoing>,
    /// It went out over HTTP/2 before, and this is left of it.
    lent: Option<(Request<Lent>, Call)>,
}

impl Forward<'_> {
    /// Sends a request over what its endpoint picks.
    pub(super) async fn as_agreed(&self, endpoint: InUse, request: Box<Outgoing>) -> Result<Arrived, Refusal> {
        self.until_agreed(endpoint, Use::Kept, Open { request, lent: None }).await
    }

    /// Sends a request that a kept connection of HTTP/1.1 did not take.
    pub(super) async fn again_as_agreed(&self, request: Box<Outgoing>, next: InUse) -> Result<Arrived, Refusal> {
        self.until_agreed(next, Use::Fresh, Open { request, lent: None }).await
    }

    async fn until_agreed(&self, mut next: InUse, mut which: Use, mut open: Open) -> Result<Arrived, Refusal> {
        loop {
            match self.once_as_agreed(next, which, open).await {
                Attempt::Again(again, failed, at) => {
                    next = self.elsewhere(failed, at)?;
                    (which, open) = (Use::Fresh, again);
                }
                other => return other.last(),
            }
        }
    }

    async fn once_as_agreed(&self, endpoint: InUse, which: Use, mut open: Open) -> Attempt<Open> {
        let deadline = self.worker.deadline();
        let failed = open.lent.as_ref().and_then(|(_, call)| call.failed.clone());
        match self.agree(&endpoint, which, &deadline, failed.as_ref()).await {
            Err(failed) => Attempt::Again(open, failed, endpoint),
            Ok(Agreed::Http1(link)) => {
                if !open.reclaim() {
                    let why = "it picks HTTP/1.1 now, and a part of the request's body went out over HTTP/2";
                    return Attempt::Over(Refusal::Upstream(Failed::because(super::Step::Closed, why)));
                }
                match self.over_http1(endpoint, Some(link), open.request).await {
                    Attempt::Again(request, failed, endpoint) => Attempt::Again(Open { request, lent: None }, failed, endpoint),
                    Attempt::Arrived(arrived) => Attempt::Arrived(arrived),
                    Attempt::Over(refusal) => Attempt::Over(refusal),
                }
            }
            Ok(Agreed::Http2(stream)) => {
                let (lent, mut call) = open.lend();
                match self.over_stream(stream, endpoint, deadline, lent, &mut call).await {
                    Attempt::Again(lent, failed, endpoint) => {
                        Attempt::Again(Open { request: open.request, lent: Some((lent, call)) }, failed, endpoint)
                    }
                    Attempt::Arrived(arrived) => {
                        self.worker.buffers().give_back_request(open.request);
                        Attempt::Arrived(arrived)
                    }
                    Attempt::Over(refusal) => Attempt::Over(refusal),
                }
            }
        }
    }

    /// A connection as the endpoint is known to pick it, else as it picks now; none of HTTP/2 that is `not`.
    async fn agree(&self, endpoint: &InUse, which: Use, deadline: &Deadline, not: Option<&Rc<Connection>>) -> Result<Agreed, Failed> {
        if endpoint.picks() == Wire::Http2 {
            let other = Cell::new(None);
            let open = async || match self.open(endpoint, deadline).await? {
                Opened::Http1(link) => {
                    other.set(Some(link));
                    Ok(None)
                }
                Opened::Http2(connection) => Ok(Some(connection)),
            };
            if let Some(stream) = endpoint.stream(not, open).await? {
                return Ok(Agreed::Http2(stream));
            }
            if let Some(link) = other.take() {
                return Ok(Agreed::Http1(link));
            }
            // Another request found out that it is HTTP/1.1, whose connections are not shared.
        }
        if which == Use::Kept
            && let Some(link) = endpoint.take_idle()
        {
            return Ok(Agreed::Http1(link));
        }
        Ok(match self.open(endpoint, deadline).await? {
            Opened::Http1(link) => Agreed::Http1(link),
            Opened::Http2(connection) => Agreed::Http2(endpoint.share(connection)),
        })
    }

    async fn open(&self, endpoint: &InUse, deadline: &Deadline) -> Result<Opened, Failed> {
        let socket = self.connect(endpoint, Wire::Auto, deadline).await?;
        let wire = picked(&socket);
        endpoint.picked(wire);
        match wire {
            Wire::Http2 => {
                let within = self.target.upstream.connect_timeout;
                Connection::begin(socket, deadline, within).await.map(Opened::Http2)
            }
            Wire::Http1 | Wire::Auto => Ok(Opened::Http1(Link::new(socket))),
        }
    }
}

/// A connection as it was picked.
enum Opened {
    Http1(Box<Link>),
    Http2(Rc<Connection>),
}

/// Who picks nothing speaks HTTP/1.1.
pub(super) fn picked(socket: &Socket) -> Wire {
    if socket.alpn() == Some(Alpn::H2.as_str().as_bytes()) { Wire::Http2 } else { Wire::Http1 }
}

impl Open {
    /// As HTTP/2 takes it, for the first time or once more.
    fn lend(&mut self) -> (Request<Lent>, Call) {
        self.lent.take().unwrap_or_else(|| {
            let (lent, kept) = replay::lend(self.request.to_http2());
            (lent, Call { kept, deadline: None, time: None, failed: None, accept: None })
        })
    }

    /// Makes it whole again for HTTP/1.1; `false` if a part of its body is gone.
    fn reclaim(&mut self) -> bool {
        let Some((_, call)) = self.lent.take() else { return true };
        let upload = call.kept.reclaim();
        let is_whole = upload.is_some();
        self.request.upload = upload.unwrap_or(Upload::Nothing);
        is_whole
    }
}
