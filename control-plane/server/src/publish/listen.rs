//! Where sidecars connect: gRPC over HTTP/2, connections bounded in count.

use super::{Boxed, Publisher};
use bulkhead_config::wire::message::{FromControlPlane, FromSidecar};
use bulkhead_config::wire::{FOLLOW, MESSAGE_BYTES_MAX};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, StreamingService};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

/// Connections open at the same time.
const CONNECTIONS_MAX: usize = 12_000;
/// How often a silent connection is asked whether it lives, and how long it may take to answer.
const ALIVE: Duration = Duration::from_secs(15);

/// Serves sidecars until `stop`; their streams end with it, and they come back to whoever is there then.
pub async fn serve(listener: TcpListener, publisher: Arc<Publisher>, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accept = async {
            // The semaphore is never closed; were it, nobody would be served.
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accept => match accepted {
                Some((Ok((stream, _)), place)) => {
                    // A change is a small message that somebody waits for; where it cannot be said, it is only slower.
                    let _ = stream.set_nodelay(true);
                    let publisher = Arc::clone(&publisher);
                    connections.spawn(async move {
                        let _place = place;
                        let service = service_fn(move |request: Request<Incoming>| {
                            let publisher = Arc::clone(&publisher);
                            async move { Ok::<_, Infallible>(answer(publisher, None, request).await) }
                        });
                        let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        server.timer(TokioTimer::new()).keep_alive_interval(ALIVE).keep_alive_timeout(ALIVE).max_concurrent_streams(4);
                        // How it ended is the sidecar's to tell.
                        let _ = server.serve_connection(TokioIo::new(stream), service).await;
                    });
                }
                // Out of descriptors, or the peer is gone already: neither is ours to mend, and the next may be taken.
                Some((Err(_), _)) => tokio::time::sleep(Duration::from_millis(20)).await,
                None => break,
            },
        }
    }
    connections.shutdown().await;
}

/// One call.
async fn answer(publisher: Arc<Publisher>, certified: Option<String>, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() != FOLLOW {
        return Status::unimplemented("there is no such call").into_http();
    }
    let codec: ProstCodec<FromControlPlane, FromSidecar> = ProstCodec::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(MESSAGE_BYTES_MAX);
    grpc.streaming(Follow { publisher, certified }, request).await
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
