//! Calls to the control plane: one TLS connection with HTTP/2, messages on its streams.
//!
//! Cost: beside the path. On `h2` itself, which is under hyper already: a gRPC library would add a megabyte for five bytes a message.

use super::course::OffCourse;
use super::identity::IdentityError;
use bulkhead_config::wire::{WireError, frame};
use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Method, Request};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time to connect, and for either handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes that may be on their way: one piece of an offer.
const WINDOW: u32 = 1 << 20;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("`{0}` is no HOST:PORT of a control plane")]
    Address(String),
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    #[error("it did not answer in time")]
    Silent,
    #[error("the stream broke: {0}")]
    Http2(#[from] h2::Error),
    #[error("what it said cannot be meant: {0}")]
    Wire(#[from] WireError),
    #[error("the offer is signed by no key that this sidecar trusts; enrol again if the control plane's keys were made anew")]
    Forged,
    #[error(transparent)]
    OffCourse(#[from] OffCourse),
    #[error("it refused: {0}")]
    Refused(String),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("it ended the stream")]
    Over,
    /// Nobody takes offers any more: the sidecar ends.
    #[error("the sidecar ends")]
    Unwanted,
}

pub(super) type Socket = TlsStream<TcpStream>;

/// Connects. The connection has to be polled for anything to happen.
pub(super) async fn connect(address: &str, tls: Arc<ClientConfig>) -> Result<(SendRequest<Bytes>, Connection<Socket, Bytes>), Ended> {
    let bad = || Ended::Address(address.to_owned());
    let host = address.rsplit_once(':').ok_or_else(bad)?.0.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| bad())?;
    let handshakes = async {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let socket = TlsConnector::from(tls).connect(name, socket).await?;
        let mut builder = Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
        Ok(builder.handshake(socket).await?)
    };
    timeout(CONNECT, handshakes).await.map_err(|_| Ended::Silent)?
}

/// Begins a call.
pub(super) async fn begin(requests: &SendRequest<Bytes>, path: &str, address: &str) -> Result<(SendStream<Bytes>, Answer), Ended> {
    let uri = http::Uri::builder().scheme("https").authority(address).path_and_query(path).build();
    let uri = uri.map_err(|_| Ended::Address(address.to_owned()))?;
    let request = Request::builder().method(Method::POST).uri(uri).header("te", "trailers").header("content-type", "application/grpc");
    let request = request.body(()).map_err(|_| Ended::Address(address.to_owned()))?;
    let (response, outgoing) = requests.clone().ready().await?.send_request(request, false)?;
    Ok((outgoing, Answer { response: Some(response), stream: None, deframer: frame::Deframer::default() }))
}

/// Sends one message, as the peer takes it.
pub(super) async fn send(stream: &mut SendStream<Bytes>, message: Vec<u8>) -> Result<(), Ended> {
    let message = Bytes::from(message);
    for mut bytes in [frame::prefix(&message)?, message] {
        while !bytes.is_empty() {
            stream.reserve_capacity(bytes.len());
            let window = poll_fn(|context| stream.poll_capacity(context)).await.ok_or(Ended::Over)??;
            stream.send_data(bytes.split_to(window.min(bytes.len())), false)?;
        }
    }
    Ok(())
}

/// What the control plane says on a call.
pub(super) struct Answer {
    response: Option<h2::client::ResponseFuture>,
    stream: Option<RecvStream>,
    deframer: frame::Deframer,
}

impl Answer {
    /// The next message. Cancel-safe.
    ///
    /// # Errors
    /// The stream ended, by whatever; with what gRPC's status said, if it did.
    pub(super) async fn next(&mut self) -> Result<Bytes, Ended> {
        loop {
            if let Some(message) = self.deframer.message()? {
                return Ok(message);
            }
            if let Some(response) = &mut self.response {
                let head = response.await?;
                self.response = None;
                if head.status() != http::StatusCode::OK {
                    return Err(Ended::Refused(head.status().to_string()));
                }
                // A refusal of the whole call says why here, and has no body.
                if let Some(why) = said_why(head.headers()) {
                    return Err(why);
                }
                self.stream = Some(head.into_body());
            }
            let stream = self.stream.as_mut().ok_or(Ended::Over)?;
            let Some(bytes) = stream.data().await.transpose()? else {
                let trailers = stream.trailers().await?.unwrap_or_default();
                return Err(said_why(&trailers).unwrap_or(Ended::Over));
            };
            stream.flow_control().release_capacity(bytes.len())?;
            self.deframer.push(&bytes);
        }
    }
}

/// What gRPC's status says went wrong, if it does; escaped as it came.
fn said_why(fields: &http::HeaderMap) -> Option<Ended> {
    let why = fields.get("grpc-message")?.to_str().ok().filter(|why| !why.is_empty())?;
    Some(Ended::Refused(why.to_owned()))
}
