//! Handshake: from an accepted socket to one that requests can be read from.
//!
//! Cost: per connection; nothing where the listener speaks in the clear. The connection's deadline for a head bounds it, and it counts
//! as a head that is not finished: nobody gets more time or more places by never finishing a handshake.

use super::{Downstream, http1};
use crate::problem::{Code, Problem};
use crate::request::authn::Shown;
use crate::socket::Socket;
use crate::telemetry::log::Value;
use crate::tls::{self, Door, NotAccepted};
use crate::worker::Worker;
use std::rc::Rc;
use tokio::net::TcpStream;

/// Opens a connection as its listener is spoken to; nothing where that failed.
pub async fn run(worker: &Worker, from: &Rc<Downstream>, door: Door, stream: TcpStream) -> Option<Socket> {
    let shaking = async {
        match door {
            Door::Plain => Ok(stream.into()),
            Door::Tls(server) => tls::accept(stream, &server).await.map(Socket::from),
            Door::Shut => Err(tls::refuse(stream).await),
        }
    };
    match from.in_time(shaking).await? {
        Ok(socket) => {
            if let Some(shown) = socket.peer_certificate().and_then(Shown::of) {
                // It is shown once, in the handshake.
                let _ = from.shown.set(shown);
            }
            Some(socket)
        }
        Err(NotAccepted::Plain(stream)) => {
            worker.cells().refused(Code::PlainOnTlsPort.kind().slug);
            http1::say(from, stream.into(), &Problem::of(Code::PlainOnTlsPort)).await;
            None
        }
        Err(why) => {
            let more =
                [("listener", from.entrance.listener.as_str().into()), ("peer", Value::Shown(&from.peer())), ("cause", Value::Shown(&why))];
            worker.log().debug("core.sidecar", None, "a TLS handshake failed", &more);
            None
        }
    }
}
