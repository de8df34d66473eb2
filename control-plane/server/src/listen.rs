//! Where the API is served: HTTP/1.1 and HTTP/2 on one port, connections bounded in count and in what a head may take.

use crate::accept;
use crate::api::{Api, Peer};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Connections open at the same time.
const CONNECTIONS_MAX: usize = 1_024;
/// From the first byte of a head to its last.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// Bytes of a head.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// What a connection is given to end once nothing new is taken.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves until `stop`, then lets what is being answered be answered.
pub async fn serve(listener: TcpListener, api: Arc<Api>, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (ending, ended) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accept::next(&listener, &places) => {
                let Some((stream, address, place)) = accepted else { break };
                let (api, ended) = (Arc::clone(&api), ended.clone());
                connections.spawn(async move {
                    let _place = place;
                    converse(stream, Peer { address, certified: None }, api, ended).await;
                });
            }
        }
    }
    drop(listener);
    drop(ending);
    while connections.join_next().await.is_some() {}
}

/// One connection, to its end.
async fn converse(stream: TcpStream, peer: Peer, api: Arc<Api>, mut ended: watch::Receiver<()>) {
    // Whoever says nothing holds no place.
    if !matches!(tokio::time::timeout(HEAD_MAX, stream.readable()).await, Ok(Ok(()))) {
        return;
    }
    let peer = Arc::new(peer);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (api, peer) = (Arc::clone(&api), Arc::clone(&peer));
        async move { Ok::<http::Response<Full<bytes::Bytes>>, Infallible>(api.answer(&peer, request).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(HEAD_BYTES_MAX);
    let mut http2 = server.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(HEAD_MAX).keep_alive_timeout(HEAD_MAX);
    http2.max_concurrent_streams(64).max_header_list_size(16 << 10);
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ended.changed() => connection.as_mut().graceful_shutdown(),
    }
    // Whoever takes longer than its farewell is cut.
    let _ = tokio::time::timeout(FAREWELL, connection).await;
}
