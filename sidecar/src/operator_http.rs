//! HTTP for operators: the small server under probes, scrapes and the admin, on the control runtime.
//!
//! HTTP/1.1, one request a connection, the whole exchange within ten seconds. When too many connections are open the oldest is
//! closed: whoever holds connections open keeps no probe from its answer.
//! Absent on purpose: everything that requests of tenants need; they never come here.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use serde_json::json;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, JoinSet};

/// Connections open at the same time.
const CONNECTIONS_MAX: usize = 64;
/// From accepting a connection to the last byte of its answer.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);
/// Bytes of a request's body: a question with claims fits many times.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Where connections come from.
pub(crate) trait Listener: Send {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = tokio::net::TcpStream;
    async fn accept(&self) -> io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listener for UnixListener {
    type Stream = tokio::net::UnixStream;
    async fn accept(&self) -> io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Answers requests.
pub(crate) trait Handler: Send + Sync + 'static {
    fn answer(&self, request: Request) -> impl Future<Output = Answer> + Send;
}

/// A request with its whole body.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) allow: Option<&'static str>,
    pub(crate) body: String,
}

/// Something that a caller did wrong, as problem+json (RFC 9457).
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    pub(crate) fix: String,
}

impl Answer {
    pub(crate) fn text(status: StatusCode, body: String) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", allow: None, body }
    }

    pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        Self { status, content_type: "application/json", allow: None, body: format!("{value}\n") }
    }

    /// No such path.
    pub(crate) fn unknown_path(path: &str, known: &str) -> Self {
        let status = StatusCode::NOT_FOUND;
        let detail = format!("nothing is served at `{path}`");
        Problem { status, code: "unknown_path", detail, fix: format!("ask for one of {known}") }.into()
    }

    /// The path exists, the method does not.
    pub(crate) fn method_not_allowed(method: &Method, allow: &'static str) -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let detail = format!("`{method}` means nothing here");
        let answer = Self::from(Problem { status, code: "method_not_allowed", detail, fix: format!("use {allow}") });
        Self { allow: Some(allow), ..answer }
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let Problem { status, code, detail, fix } = problem;
        let body = json!({
            "type": format!("urn:bulkhead:problem:{code}"),
            "title": status.canonical_reason().unwrap_or(code),
            "status": status.as_u16(),
            "code": code,
            "detail": detail,
            "fix": fix,
        });
        Self { content_type: "application/problem+json", ..Self::json(status, &body) }
    }
}

/// Accepts and answers until it is dropped, and every open connection with it.
pub(crate) async fn serve<L: Listener, H: Handler>(listener: L, handler: Arc<H>) {
    serve_until(listener, handler, std::future::pending()).await;
}

/// Answers until `stop` is ready: then what is open is answered, and nobody else.
pub(crate) async fn serve_until<L: Listener, H: Handler>(listener: L, handler: Arc<H>, stop: impl Future<Output = ()>) {
    let mut tasks = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(_) => {
                // Out of descriptors, or the client is gone already: neither gets better by asking at once.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        open.retain(|task| !task.is_finished());
        if open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(tasks.spawn(exchange(stream, Arc::clone(&handler))));
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send, H: Handler>(stream: S, handler: Arc<H>) {
    let service = hyper::service::service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(respond(&*handler, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .header_read_timeout(None) // the whole exchange has a deadline
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(Stream(stream), service);
    // Whether it failed or took too long: the connection is closed, and nobody is left to be told.
    let _ = tokio::time::timeout(EXCHANGE_MAX, connection).await;
}

async fn respond<H: Handler>(handler: &H, request: http::Request<Incoming>) -> Response<Whole> {
    let (head, body) = request.into_parts();
    let head_only = head.method == Method::HEAD;
    let answer = match read(body).await {
        Ok(body) => {
            let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
            handler.answer(Request { method: head.method, path, query, headers: head.headers, body }).await
        }
        Err(problem) => problem.into(),
    };
    let body = if head_only { String::new() } else { answer.body };
    let mut response = Response::new(Whole::new(body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(allow) = answer.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, Problem> {
    let bad = |status, code, detail: String, fix: &str| Problem { status, code, detail, fix: fix.to_owned() };
    let mut read = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame
            .map_err(|cause| bad(StatusCode::BAD_REQUEST, "malformed_body", format!("the body breaks off: {cause}"), "send it whole"))?;
        let Some(data) = frame.data_ref() else { continue };
        if read.len() + data.len() > BODY_BYTES_MAX {
            let detail = format!("the body has more than {BODY_BYTES_MAX} bytes");
            return Err(bad(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail, "send a smaller one"));
        }
        read.extend_from_slice(data);
    }
    Ok(read)
}

/// Members of a query, percent-decoded; a name that is not `known`, or stands twice, is a problem.
pub(crate) fn parameters<const N: usize>(query: &str, known: [&str; N]) -> Result<[Option<String>; N], Problem> {
    let bad = |detail: String| Problem {
        status: StatusCode::BAD_REQUEST,
        code: "unknown_parameter",
        detail,
        fix: if N == 0 { "leave the query out".to_owned() } else { format!("use each of {} at most once", known.join(", ")) },
    };
    let mut values = [const { None }; N];
    for member in query.split('&').filter(|member| !member.is_empty()) {
        let (name, value) = member.split_once('=').unwrap_or((member, ""));
        let slot = known.iter().zip(&mut values).find(|(known, _)| **known == name).map(|(_, slot)| slot);
        let slot = slot.ok_or_else(|| bad(format!("the query has `{name}`, which means nothing here")))?;
        let value = percent_decoded(value).ok_or_else(|| bad(format!("`{name}` is not percent-encoded UTF-8")))?;
        if slot.replace(value).is_some() {
            return Err(bad(format!("the query has `{name}` twice")));
        }
    }
    Ok(values)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

/// A body that is there at once.
pub(crate) struct Whole(Option<Bytes>);

impl Whole {
    pub(crate) fn new(body: impl Into<Bytes>) -> Self {
        Self(Some(body.into()))
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX)))
    }
}

/// A tokio stream as hyper wants it.
pub(crate) struct Stream<S>(pub(crate) S);

impl<S: AsyncRead + Unpin> hyper::rt::Read for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut cursor: hyper::rt::ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [0; 4 << 10];
        let room = cursor.remaining().min(chunk.len());
        let mut buffer = ReadBuf::new(chunk.get_mut(..room).unwrap_or_default());
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
        cursor.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    /// Sends bytes, reads until the server closes: status and body.
    pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &str) -> (u16, String) {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    struct Echo;
    impl Handler for Echo {
        async fn answer(&self, request: Request) -> Answer {
            let body = String::from_utf8(request.body).unwrap();
            Answer::text(StatusCode::OK, format!("{} {} {} {body}", request.method, request.path, request.query))
        }
    }

    async fn echo() -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(Echo)));
        address
    }

    #[tokio::test]
    async fn a_request_arrives_whole_and_its_answer_too() {
        let stream = TcpStream::connect(echo().await).await.unwrap();
        let answer = ask(stream, "POST /a?b=c HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody").await;
        assert_eq!(answer, (200, "POST /a b=c body".to_owned()));
    }

    #[tokio::test]
    async fn too_large_a_body_is_refused() {
        let stream = TcpStream::connect(echo().await).await.unwrap();
        let size = BODY_BYTES_MAX + 1;
        let request = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n{}", "x".repeat(size));
        assert_eq!(ask(stream, &request).await.0, 413);
    }

    #[tokio::test]
    async fn whoever_holds_connections_open_keeps_nobody_from_an_answer() {
        let address = echo().await;
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_MAX + 3 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HT").await.unwrap();
            held.push(stream);
        }
        let stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(stream, "GET /probe HTTP/1.1\r\nhost: x\r\n\r\n").await.0, 200);
        let mut first = held.swap_remove(0);
        assert_eq!(first.read(&mut [0]).await.unwrap_or(0), 0, "the oldest was closed");
    }

    #[test]
    fn parameters_are_known_decoded_and_stand_once() {
        let read = |query| parameters(query, ["tenant", "origin"]).map_err(|problem| problem.detail);
        assert_eq!(read("").unwrap(), [None, None]);
        assert_eq!(read("origin=true&tenant=a%C3%A4+b").unwrap(), [Some("aä b".to_owned()), Some("true".to_owned())]);
        assert!(read("tenat=a").unwrap_err().contains("`tenat`"));
        assert!(read("tenant=a&tenant=b").unwrap_err().contains("twice"));
        for bad in ["tenant=%", "tenant=%4", "tenant=%zz", "tenant=%ff"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
