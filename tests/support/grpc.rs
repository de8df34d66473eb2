//! A gRPC service by tonic: its messages are bytes, so that nothing is generated.

use bytes::{Buf as _, BufMut as _, Bytes};
use hyper::body::Incoming;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::StreamingService;
use tonic::{Request, Response, Status, Streaming};

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A running service. Its methods by the last segment of their path: `echo` returns each message as it comes, `sum` the number of
/// bytes of all once the client has ended, `count` the numbers up to the first message, `sized` for each message one of so many bytes, `fail` a status of its own, `wait` nothing.
pub struct GrpcService {
    address: SocketAddr,
    cancelled: Arc<AtomicUsize>,
}

impl GrpcService {
    /// Starts it on a free port; it ends with the test process.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("an option");
        let address = listener.local_addr().expect("a bound socket has an address");
        let cancelled = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&cancelled);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { accept(TcpListener::from_std(listener).expect("a listener"), counted).await });
        });
        Self { address, cancelled }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Calls whose client left before their end.
    pub fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, cancelled: Arc<AtomicUsize>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let cancelled = Arc::clone(&cancelled);
        tokio::spawn(async move {
            let service = service_fn(|request: http::Request<Incoming>| {
                let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
                let service = Methods { method, cancelled: Arc::clone(&cancelled) };
                async move { Ok::<_, Infallible>(tonic::server::Grpc::new(Plain).streaming(service, request).await) }
            });
            // A client that leaves is no fault of the service.
            let _ = hyper::server::conn::http2::Builder::new(Spawn).serve_connection(Tcp(stream), service).await;
        });
    }
}

struct Methods {
    method: String,
    cancelled: Arc<AtomicUsize>,
}

impl StreamingService<Bytes> for Methods {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Messages>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (method, cancelled) = (self.method.clone(), Arc::clone(&self.cancelled));
        Box::pin(async move {
            if method == "fail" {
                return Err(Status::failed_precondition("not now: é, 100 %"));
            }
            let tenant = request.metadata().get("x-bulkhead-tenant").cloned();
            let (send, receive) = mpsc::channel(1);
            tokio::spawn(async move {
                if run(&method, request.into_inner(), &send).await.is_none() {
                    cancelled.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut response = Response::new(Messages(receive));
            response.metadata_mut().extend_tenant(tenant);
            Ok(response)
        })
    }
}

/// Nothing when the client left.
async fn run(method: &str, mut messages: Streaming<Bytes>, send: &mpsc::Sender<Result<Bytes, Status>>) -> Option<()> {
    match method {
        "wait" => {
            send.closed().await;
            None
        }
        "sum" => {
            let mut sum = 0;
            while let Some(message) = messages.message().await.ok()? {
                sum += message.len();
            }
            send.send(Ok(Bytes::from(sum.to_string()))).await.ok()
        }
        "count" => {
            let most: u32 = String::from_utf8(messages.message().await.ok()??.to_vec()).ok()?.parse().ok()?;
            for number in 1..=most {
                send.send(Ok(Bytes::from(number.to_string()))).await.ok()?;
            }
            Some(())
        }
        "sized" => {
            while let Some(message) = messages.message().await.ok()? {
                let size: usize = String::from_utf8(message.to_vec()).ok()?.parse().ok()?;
                send.send(Ok(Bytes::from(vec![b'a'; size]))).await.ok()?;
            }
            Some(())
        }
        _ => {
            while let Some(message) = messages.message().await.ok()? {
                send.send(Ok(message)).await.ok()?;
            }
            Some(())
        }
    }
}

trait ExtendTenant {
    fn extend_tenant(&mut self, tenant: Option<tonic::metadata::AsciiMetadataValue>);
}

impl ExtendTenant for tonic::metadata::MetadataMap {
    fn extend_tenant(&mut self, tenant: Option<tonic::metadata::AsciiMetadataValue>) {
        if let Some(tenant) = tenant {
            self.insert("tenant-seen", tenant);
        }
    }
}

/// Messages of an answer.
struct Messages(mpsc::Receiver<Result<Bytes, Status>>);

impl Stream for Messages {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

#[derive(Clone)]
struct Spawn;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

/// A socket as hyper wants it.
struct Tcp(TcpStream);

impl hyper::rt::Read for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: hyper::rt::ReadBufCursor<'_>) -> Poll<std::io::Result<()>> {
        let mut memory = [0; 16 << 10];
        let most = memory.len().min(buf.remaining());
        let mut read = ReadBuf::new(&mut memory[..most]);
        std::task::ready!(Pin::new(&mut self.0).poll_read(cx, &mut read))?;
        buf.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A client of it, by way of `to`, that names `host` and sends these fields with each call.
#[derive(Clone)]
pub struct GrpcClient {
    grpc: tonic::client::Grpc<tonic::transport::Channel>,
    fields: Vec<(&'static str, String)>,
}

impl GrpcClient {
    /// Connects.
    pub async fn connect(to: SocketAddr, host: &str) -> Self {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{to}")).expect("an address");
        let origin = format!("http://{host}").parse().expect("a host");
        let channel = endpoint.origin(origin).connect_timeout(Duration::from_secs(30)).connect().await.expect("it listens");
        Self { grpc: tonic::client::Grpc::new(channel), fields: Vec::new() }
    }

    /// Adds a token.
    #[must_use]
    pub fn bearer(mut self, token: &str) -> Self {
        self.fields.push(("authorization", format!("Bearer {token}")));
        self
    }

    /// A call with these messages.
    ///
    /// # Errors
    /// Its outcome, if it is not OK.
    pub async fn call(
        &mut self,
        path: &'static str,
        messages: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Response<Streaming<Bytes>>, Status> {
        let mut request = Request::new(messages);
        for (name, value) in &self.fields {
            request.metadata_mut().insert(*name, value.parse().expect("a value"));
        }
        self.grpc.ready().await.map_err(|why| Status::unavailable(why.to_string()))?;
        self.grpc.streaming(request, http::uri::PathAndQuery::from_static(path), Plain).await
    }
}
