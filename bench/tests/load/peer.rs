//! A server of HTTP/2, in the clear or over TLS, whose answers are a test's own.

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What came of a request, whole.
pub(super) struct Came {
    /// Its number among all.
    pub(super) number: u64,
    pub(super) head: http::request::Parts,
    pub(super) body: Vec<u8>,
}

impl Came {
    /// The tenant it is of, which header `x-for` names.
    pub(super) fn tenant(&self) -> &str {
        self.head.headers["x-for"].to_str().unwrap()
    }
}

/// What a server answers.
pub(super) enum Says {
    Whole(Response<Vec<u8>>),
    Trailed(Response<Vec<u8>>, HeaderMap),
    Reset(Reason),
    /// The server goes away after it, in peace.
    Last(Response<Vec<u8>>),
    Never,
}

pub(super) fn of_tenant(tenant: &str) -> Response<Vec<u8>> {
    Response::builder().header("x-tenant", tenant).body(format!("{{\"tenant\":\"{tenant}\"}}").into_bytes()).unwrap()
}

type Answers = dyn Fn(&Came) -> Says + Send + Sync;

#[derive(Default)]
pub(super) struct Seen {
    pub(super) connections: AtomicU64,
    pub(super) requests: AtomicU64,
    open: AtomicU64,
    /// Most requests that were open at once.
    pub(super) most: AtomicU64,
}

pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Seen>,
    /// Its certificate, for `--ca`.
    pub(super) authority: Option<NamedTempFile>,
}

/// Limit of streams that every server here sets.
pub(super) const STREAMS_MAX: u32 = 8;

pub(super) fn http2(answers: impl Fn(&Came) -> Says + Send + Sync + 'static) -> Peer {
    start(None, None, answers)
}

/// With a certificate for `localhost`.
pub(super) fn http2_tls(answers: impl Fn(&Came) -> Says + Send + Sync + 'static) -> Peer {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let versions = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider())).with_safe_default_protocol_versions();
    let mut config = versions.unwrap().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(cert.pem().as_bytes()).unwrap();
    start(Some(Arc::new(config).into()), Some(file), answers)
}

fn start(tls: Option<TlsAcceptor>, authority: Option<NamedTempFile>, answers: impl Fn(&Came) -> Says + Send + Sync + 'static) -> Peer {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let peer = Peer { address: listener.local_addr().unwrap(), seen: Arc::default(), authority };
    let (seen, answers): (_, Arc<Answers>) = (Arc::clone(&peer.seen), Arc::new(answers));
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                seen.connections.fetch_add(1, Ordering::SeqCst);
                let (tls, seen, answers) = (tls.clone(), Arc::clone(&seen), Arc::clone(&answers));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, seen, answers).await,
                        // A client that does not trust us has ended it.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, seen, answers).await;
                            }
                        }
                    }
                });
            }
        });
    });
    peer
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, seen: Arc<Seen>, answers: Arc<Answers>) {
    let Ok(mut connection) = h2::server::Builder::new().max_concurrent_streams(STREAMS_MAX).handshake(stream).await else { return };
    let (last, mut lasts) = tokio::sync::mpsc::unbounded_channel();
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                let (seen, answers, last) = (Arc::clone(&seen), Arc::clone(&answers), last.clone());
                tokio::spawn(async move {
                    seen.most.fetch_max(seen.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    answer(request, respond, &seen, &*answers, || last.send(()).unwrap()).await;
                    seen.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
            Some(()) = lasts.recv() => connection.graceful_shutdown(),
        }
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, seen: &Seen, answers: &Answers, last: impl Fn()) {
    let (head, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(Ok(chunk)) = stream.data().await {
        stream.flow_control().release_capacity(chunk.len()).unwrap();
        body.extend_from_slice(&chunk);
    }
    let number = seen.requests.fetch_add(1, Ordering::SeqCst);
    // All that have come are open at once, whatever their order.
    tokio::task::yield_now().await;
    let (answer, trailers) = match answers(&Came { number, head, body }) {
        Says::Whole(answer) => (answer, None),
        Says::Trailed(answer, trailers) => (answer, Some(trailers)),
        Says::Last(answer) => {
            last();
            (answer, None)
        }
        Says::Reset(reason) => return respond.send_reset(reason),
        Says::Never => return tokio::time::sleep(Duration::from_secs(3_600)).await,
    };
    let (head, body) = answer.into_parts();
    // Whoever asked may have gone.
    let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), body.is_empty() && trailers.is_none()) else { return };
    if !body.is_empty() {
        let _ = stream.send_data(body.into(), trailers.is_none());
    }
    if let Some(trailers) = trailers {
        let _ = stream.send_trailers(trailers);
    }
}
