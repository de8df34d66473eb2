//! Asks a running bulkhead through its admin socket (`DIR/admin.sock`): HTTP/1.1, JSON both ways, problems as RFC 9457 writes them.

use crate::context::Place;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::transport::{Stream, Whole, frame};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;

/// An answer is local: longer than this, and the process hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// No answer comes near this.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The admin socket of one data directory.
pub(crate) struct Admin {
    socket: PathBuf,
    data_dir: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no bulkhead is running on {}", .0.display())]
    NotRunning(PathBuf),
    #[error("cannot reach the bulkhead at {}", socket.display())]
    Unreachable { socket: PathBuf, source: io::Error },
    #[error("the bulkhead at {} does not answer within {} s", .0.display(), PATIENCE.as_secs())]
    Silent(PathBuf),
    #[error("the bulkhead at {} broke off its answer", .0.display())]
    Broken(PathBuf, #[source] hyper::Error),
    #[error("the bulkhead at {} gives no JSON answer that this version reads", .0.display())]
    Garbled(PathBuf),
    #[error("{detail}")]
    Refused { status: StatusCode, detail: String, fix: Option<String> },
}

impl Fault for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::NotRunning(_) | Error::Silent(_) => Exit::Unavailable,
            Error::Unreachable { source, .. } => Exit::of(source),
            Error::Broken(..) => Exit::Io,
            Error::Garbled(_) => Exit::BadData,
            Error::Refused { status, .. } if status.is_client_error() => Exit::BadData,
            Error::Refused { .. } => Exit::Unavailable,
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Error::NotRunning(_) => Some("start one with `bulkhead up`, or name another with --data-dir or --context".into()),
            Error::Unreachable { .. } => Some("the socket is its owner's alone: run this as the user who started it".into()),
            Error::Silent(_) => Some("look at its log; `kill -TERM` drains it".into()),
            Error::Garbled(_) => Some("use the `bulkhead` that started it".into()),
            Error::Broken(..) => None,
            Error::Refused { fix, .. } => fix.clone(),
        }
    }
}

impl Admin {
    pub(crate) fn of(place: &Place) -> Self {
        Self { socket: place.data_dir.join("admin.sock"), data_dir: place.data_dir.clone() }
    }

    /// Whether anybody listens.
    pub(crate) fn is_there(&self) -> bool {
        std::os::unix::net::UnixStream::connect(&self.socket).is_ok()
    }

    /// What stands at a target.
    pub(crate) fn get(&self, target: &str) -> Result<Value, Error> {
        self.ask(Method::GET, target, None)
    }

    /// What stood at a target, which is gone afterwards.
    pub(crate) fn delete(&self, target: &str) -> Result<Value, Error> {
        self.ask(Method::DELETE, target, None)
    }

    /// The answer to a question.
    pub(crate) fn post(&self, target: &str, question: &Value) -> Result<Value, Error> {
        self.ask(Method::POST, target, Some(question))
    }

    fn ask(&self, method: Method, target: &str, question: Option<&Value>) -> Result<Value, Error> {
        let unreachable = |source| Error::Unreachable { socket: self.socket.clone(), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
        let exchange = async { tokio::time::timeout(PATIENCE, self.exchange(method, target, question)).await };
        let (status, answer) = runtime.block_on(exchange).map_err(|_| Error::Silent(self.socket.clone()))??;
        let answer: Value = serde_json::from_slice(&answer).map_err(|_| Error::Garbled(self.socket.clone()))?;
        if status.is_success() { Ok(answer) } else { Err(refused(status, &answer)) }
    }

    async fn exchange(&self, method: Method, target: &str, question: Option<&Value>) -> Result<(StatusCode, Vec<u8>), Error> {
        let broken = |cause| Error::Broken(self.socket.clone(), cause);
        let stream = UnixStream::connect(&self.socket).await.map_err(|cause| self.not_connected(cause))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(Stream(stream)).await.map_err(broken)?;
        // It ends with the exchange; what goes wrong on it is told by the exchange.
        tokio::spawn(connection);
        let body = question.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "localhost")
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .body(Whole::new(body))
            .map_err(|_| Error::Garbled(self.socket.clone()))?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        Ok((answer.status(), self.read(answer).await?))
    }

    async fn read(&self, answer: Response<Incoming>) -> Result<Vec<u8>, Error> {
        let mut body = answer.into_body();
        let mut content = Vec::new();
        while let Some(frame) = frame(&mut body).await {
            let frame = frame.map_err(|cause| Error::Broken(self.socket.clone(), cause))?;
            content.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            if content.len() > ANSWER_BYTES_MAX {
                return Err(Error::Garbled(self.socket.clone()));
            }
        }
        Ok(content)
    }

    /// No socket, or one that nobody listens on any more: the ordinary case of nothing running.
    fn not_connected(&self, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NotRunning(self.data_dir.clone()),
            _ => Error::Unreachable { socket: self.socket.clone(), source },
        }
    }
}

/// A refusal in the words of its problem document.
fn refused(status: StatusCode, problem: &Value) -> Error {
    let text = |key| problem.get(key).and_then(Value::as_str).map(str::to_owned);
    let detail = text("detail").or_else(|| text("title")).unwrap_or_else(|| format!("it answered {status}"));
    Error::Refused { status, detail, fix: text("fix") }
}
