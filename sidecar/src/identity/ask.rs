//! One exchange with a server that documents name: connect, ask, read the whole answer, all within one deadline.
//!
//! Cost: none per request; on the control runtime. A connection for each exchange: they are minutes apart.

use crate::operator_http::{Stream, Whole};
use crate::tls::{self, NotConnected};
use bulkhead_config::web_url::WebUrl;
use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use rustls::ClientConfig;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// From looking up the name to the last byte of the answer.
const EXCHANGE_MAX: Duration = Duration::from_secs(5);
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Who is asked.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) url: WebUrl,
    /// What a handshake is made with; `None`: in the clear.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAnswered {
    #[error("it did not answer within {} s", EXCHANGE_MAX.as_secs())]
    Timeout,
    #[error("it cannot be connected to: {0}")]
    Unreachable(#[source] io::Error),
    #[error("{0}")]
    Tls(#[source] NotConnected),
    #[error("it broke off: {0}")]
    Broken(#[source] hyper::Error),
    #[error("its answer has more than the {0} bytes allowed")]
    TooLong(usize),
    #[error("it cannot be asked: {0}")]
    Request(#[source] http::Error),
}

/// Asks `place`; `request` has the method, the fields and the body. The answer's body may have `most` bytes.
pub(super) async fn ask(place: &Place, request: http::request::Builder, body: Bytes, most: usize) -> Result<Answered, NotAnswered> {
    match tokio::time::timeout(EXCHANGE_MAX, connect_and_ask(place, request, body, most)).await {
        Ok(answered) => answered,
        Err(_) => Err(NotAnswered::Timeout),
    }
}

async fn connect_and_ask(place: &Place, request: http::request::Builder, body: Bytes, most: usize) -> Result<Answered, NotAnswered> {
    let host = HeaderValue::try_from(place.url.authority()).map_err(|error| NotAnswered::Request(error.into()))?;
    let request = request.uri(place.url.target()).header(HOST, host).header(USER_AGENT, AGENT);
    let request = request.body(Whole::new(body)).map_err(NotAnswered::Request)?;
    let stream = TcpStream::connect((place.url.host(), place.url.port())).await.map_err(NotAnswered::Unreachable)?;
    match &place.tls {
        None => exchange(stream, request, most).await,
        Some(config) => {
            let stream = tls::shake_hands(config, place.url.host(), stream).await.map_err(NotAnswered::Tls)?;
            exchange(stream, request, most).await
        }
    }
}

const AGENT: HeaderValue = HeaderValue::from_static(concat!("bulkhead/", env!("CARGO_PKG_VERSION")));

async fn exchange<S>(stream: S, request: Request<Whole>, most: usize) -> Result<Answered, NotAnswered>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connecting = http1::Builder::new();
    connecting.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = connecting.handshake(Stream(stream)).await.map_err(NotAnswered::Broken)?;
    // Ends with this set: with the answer, or when nobody waits for it any more.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    read(sender.send_request(request).await.map_err(NotAnswered::Broken)?, most).await
}

async fn read(response: Response<Incoming>, most: usize) -> Result<Answered, NotAnswered> {
    let (head, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
        let frame = frame.map_err(NotAnswered::Broken)?;
        let Some(data) = frame.data_ref() else { continue };
        if body.len() + data.len() > most {
            return Err(NotAnswered::TooLong(most));
        }
        body.extend_from_slice(data);
    }
    Ok(Answered { status: head.status, headers: head.headers, body })
}
