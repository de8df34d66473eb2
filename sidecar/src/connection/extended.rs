//! Extended CONNECT (RFC 8441): a WebSocket on one stream of HTTP/2.
//!
//! Cost: per request; one comparison. Per WebSocket; a key, a digest, and one task.
//! It is served as the request it stands for: a GET that asks to upgrade, so that routes, permissions and upstreams need not know
//! of it, and one tunnel moves the bytes of both. What HTTP/2 has instead of the key and of its acceptance ends here.

use super::Downstream;
use super::serve::caught;
use super::tunnel;
use crate::problem::{Code, Form, Problem};
use crate::request::respond::Response;
use crate::request::websocket::{PROTOCOL, acceptance};
use crate::socket::Socket;
use crate::worker::Worker;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, Method, Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use std::pin::pin;
use std::rc::Rc;

/// A WebSocket that was asked for.
pub(super) struct Asked {
    stream: OnUpgrade,
    key: String,
}

/// Makes a request for a WebSocket the GET that it stands for. Any other CONNECT stays what it is, and is refused.
pub(super) fn asked(request: &mut Request<Incoming>, worker: &Worker) -> Option<Asked> {
    let is_websocket = |protocol: &Protocol| protocol.as_str().eq_ignore_ascii_case(PROTOCOL);
    if request.method() != Method::CONNECT || !request.extensions().get().is_some_and(is_websocket) {
        return None;
    }
    let key = STANDARD.encode(worker.random().trace().to_be_bytes());
    let stream = hyper::upgrade::on(&mut *request);
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_11;
    // A GET of HTTP/1.1 names its host in a field.
    let authority = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let headers = request.headers_mut();
    if let (Some(authority), http::header::Entry::Vacant(host)) = (authority, headers.entry(HOST)) {
        host.insert(authority);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(&key).ok()?);
    Some(Asked { stream, key })
}

/// The answer as HTTP/2 has it. Where the service agreed, the tunnel begins once that is out.
pub(super) fn answer(asked: Asked, mut answer: Response, worker: &Rc<Worker>, from: &Rc<Downstream>) -> Response {
    if answer.status != StatusCode::SWITCHING_PROTOCOLS {
        // To CONNECT, any success means that a tunnel begins.
        return if answer.status.is_success() { no_websocket("it answered as if nothing but the page was asked for") } else { answer };
    }
    let tunnel = from.tunnel.take();
    let Some(tunnel) = tunnel.filter(|_| is_accepted(&asked.key, &answer)) else {
        return no_websocket("its answer does not belong to the key that it was sent");
    };
    answer.status = StatusCode::OK;
    answer.passed.drop_if(|field| field.name_str().eq_ignore_ascii_case(SEC_WEBSOCKET_ACCEPT.as_str()));
    if let Some(own) = &mut answer.own {
        own.remove(&CONNECTION);
        own.remove(&UPGRADE);
    }
    let (worker, from) = (Rc::clone(worker), Rc::clone(from));
    tokio::task::spawn_local(async move {
        // The client may have left meanwhile.
        let Ok(stream) = asked.stream.await else { return };
        if caught(pin!(tunnel::run(Socket::Stream(Box::new(stream)), Bytes::new(), tunnel))).await.is_err() {
            worker.panicked(&from.peer().to_string());
        }
    });
    answer
}

fn is_accepted(key: &str, answer: &Response) -> bool {
    let expected = acceptance(key.as_bytes());
    answer.passed.get_named(&SEC_WEBSOCKET_ACCEPT).any(|accepted| accepted == expected.as_bytes())
}

fn no_websocket(why: &'static str) -> Response {
    let problem = Problem::of(Code::UpstreamProtocol).detail(format!("The service behind this proxy opened no WebSocket: {why}."));
    Response::unrecorded(problem.answer(Form::Json))
}
