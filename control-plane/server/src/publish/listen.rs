//! Where sidecars connect: gRPC over HTTP/2, connections bounded in count.

use super::{Boxed, Publisher};
use crate::accept;
use crate::change::Changer;
use crate::identity::Identity;
use bulkhead_config::wire::message::{EnrolRequest, EnrolResponse, FromControlPlane, FromSidecar};
use bulkhead_config::wire::{ENROL, FOLLOW, MESSAGE_BYTES_MAX};
use bulkhead_keyring::ca::{Peer, Role};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

/// Connections open at the same time.
const CONNECTIONS_MAX: usize = 12_000;
/// From the first byte of a TLS handshake to its last.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Bytes of a request for a certificate, with its token.
const ENROL_BYTES_MAX: usize = 32 << 10;
/// How often a silent connection is asked whether it lives, and how long it may take to answer.
const ALIVE: Duration = Duration::from_secs(15);

/// Serves sidecars until `stop`; their streams end with it, and they come back to whoever is there then.
pub async fn serve(listener: TcpListener, door: Arc<Door>, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accept::next(&listener, &places) => {
                let Some((stream, _, place)) = accepted else { break };
                // A change is a small message that somebody waits for; where it cannot be said, it is only slower.
                let _ = stream.set_nodelay(true);
                let door = Arc::clone(&door);
                connections.spawn(async move {
                    let _place = place;
                    door.meet(stream).await;
                });
            }
        }
    }
    connections.shutdown().await;
}

/// What stands behind the listener.
pub struct Door {
    /// Tells what is declared.
    pub publisher: Arc<Publisher>,
    /// Takes what enrolment writes down.
    pub changer: Arc<Changer>,
    /// With whom sidecars have TLS; without it the stream is plain, for loopback.
    pub identity: Option<Arc<Identity>>,
}

impl Door {
    /// One connection, to its end.
    async fn meet(self: Arc<Self>, stream: TcpStream) {
        // Whoever says nothing holds no place.
        if !matches!(tokio::time::timeout(HANDSHAKE_MAX, stream.readable()).await, Ok(Ok(()))) {
            return;
        }
        let Some(identity) = &self.identity else { return self.converse(stream, None).await };
        let handshake = TlsAcceptor::from(identity.tls()).accept(stream);
        // Whoever fails it hears so in TLS's own words; nobody else needs to.
        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_MAX, handshake).await else { return };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = certificate.and_then(|certificate| identity.peer(certificate));
        self.converse(stream, peer).await;
    }

    async fn converse(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Option<Peer>) {
        let peer = Arc::new(peer);
        let service = service_fn(move |request: Request<Incoming>| {
            let (door, peer) = (Arc::clone(&self), Arc::clone(&peer));
            async move { Ok::<_, Infallible>(door.answer(peer, request).await) }
        });
        let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        server.timer(TokioTimer::new()).keep_alive_interval(ALIVE).keep_alive_timeout(ALIVE).max_concurrent_streams(4);
        // How it ended is the sidecar's to tell.
        let _ = server.serve_connection(TokioIo::new(stream), service).await;
    }

    /// One call.
    async fn answer(self: Arc<Self>, peer: Arc<Option<Peer>>, request: Request<Incoming>) -> Response<Body> {
        match request.uri().path() {
            FOLLOW => {
                let certified = match (&self.identity, &*peer) {
                    (None, _) => None,
                    (Some(_), Some(Peer { role: Role::Sidecar(name), .. })) => Some(name.to_string()),
                    (Some(_), _) => {
                        return Status::unauthenticated("the stream is for sidecars, with their certificate: enrol with a join token")
                            .into_http();
                    }
                };
                let codec: ProstCodec<FromControlPlane, FromSidecar> = ProstCodec::default();
                let follow = Follow { publisher: Arc::clone(&self.publisher), certified };
                Grpc::new(codec).max_decoding_message_size(MESSAGE_BYTES_MAX).streaming(follow, request).await
            }
            ENROL if self.identity.is_some() => {
                let codec: ProstCodec<EnrolResponse, EnrolRequest> = ProstCodec::default();
                Grpc::new(codec).max_decoding_message_size(ENROL_BYTES_MAX).unary(Enrol { door: self, peer }, request).await
            }
            _ => Status::unimplemented("there is no such call").into_http(),
        }
    }
}

struct Enrol {
    door: Arc<Door>,
    peer: Arc<Option<Peer>>,
}

impl UnaryService<EnrolRequest> for Enrol {
    type Response = EnrolResponse;
    type Future = Boxed<Result<tonic::Response<EnrolResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<EnrolRequest>) -> Self::Future {
        let (door, peer) = (Arc::clone(&self.door), Arc::clone(&self.peer));
        Box::pin(async move {
            let identity = door.identity.as_ref().ok_or_else(|| Status::unimplemented("nobody is certified here"))?;
            let enrolled = identity.enrol((*peer).as_ref(), request.into_inner(), &door.changer).await?;
            Ok(tonic::Response::new(enrolled))
        })
    }
}

struct Follow {
    publisher: Arc<Publisher>,
    certified: Option<String>,
}

impl StreamingService<FromSidecar> for Follow {
    type Response = FromControlPlane;
    type ResponseStream = ReceiverStream<Result<FromControlPlane, Status>>;
    type Future = Boxed<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<FromSidecar>>) -> Self::Future {
        let (publisher, certified) = (Arc::clone(&self.publisher), self.certified.clone());
        Box::pin(async move {
            let told = publisher.follow(certified, request.into_inner()).await?;
            Ok(tonic::Response::new(ReceiverStream::new(told)))
        })
    }
}
