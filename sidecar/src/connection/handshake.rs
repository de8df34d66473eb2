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
    let shaken = from.in_time(shaking).await.unwrap_or(Err(NotAccepted::Late));
    if let Err(why) = &shaken {
        worker.cells().handshake_failed(why.label());
    }
    match shaken {
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
            tell(worker, from, &why);
            None
        }
    }
}

/// Once a second; who only came and went is for whoever looks closely.
fn tell(worker: &Worker, from: &Downstream, why: &NotAccepted) {
    let more = [
        ("listener", Value::from(from.entrance.listener.as_str())),
        ("peer", Value::Shown(&from.peer())),
        ("reason", why.label().into()),
        ("cause", Value::Shown(why)),
    ];
    if why.is_ordinary() {
        return worker.log().debug("core.sidecar", None, FAILED, &more);
    }
    if let Some(others) = worker.refused_handshakes().is_due(worker.wheel().turn()) {
        let [listener, peer, reason, cause] = more;
        let more = [listener, peer, reason, cause, ("others_since_the_last_line", others.into())];
        worker.log().warn("core.sidecar", None, FAILED, &more);
    }
}

const FAILED: &str = "a TLS handshake failed";
