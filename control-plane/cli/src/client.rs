//! Asks a control plane through its API: HTTP/1.1, JSON both ways, problems as RFC 9457 writes them.
//!
//! Which one: `--server` and `--operator-token`, `BULKHEAD_SERVER` and `BULKHEAD_TOKEN`, else the bulkhead that the data directory or context means.

use crate::args::Global;
use crate::context;
use crate::exit::Exit;
use crate::fault::{Failure, Fault};
use crate::transport::{Stream, Whole, frame};
use bulkhead_config::diagnostic::{Diagnostic, Span};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use serde_json::Value;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpStream;

/// A change of thousands of documents is compiled and stored within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// No answer comes near this.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Where a control plane writes down in its data directory where it is.
pub(crate) const PLACE_FILE: &str = "control-plane.json";

/// A control plane, and who asks it.
pub(crate) struct Client {
    /// `HOST:PORT`.
    server: String,
    token: String,
    runtime: tokio::runtime::Runtime,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status; always one of success.
    pub(crate) status: StatusCode,
    /// Its body as it stands.
    pub(crate) text: String,
    /// Its body, if it is JSON.
    pub(crate) body: Value,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no control plane is known on {}", .0.display())]
    NoPlace(PathBuf),
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("`{0}` is no address of a control plane")]
    BadServer(String),
    #[error("a token is needed for {0}")]
    NoToken(String),
    #[error("no control plane answers at {server}")]
    NotRunning { server: String, source: io::Error },
    #[error("the control plane at {} does not answer within {} s", .0, PATIENCE.as_secs())]
    Silent(String),
    #[error("the control plane at {0} broke off its answer")]
    Broken(String, #[source] hyper::Error),
    #[error("the control plane at {0} gives no answer that this version reads")]
    Garbled(String),
    #[error("the system gives no runtime")]
    Runtime(#[source] io::Error),
    #[error("{detail}")]
    Refused { status: StatusCode, detail: String, fix: Option<String>, mistakes: Vec<Diagnostic> },
}

impl Fault for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::NoPlace(_) | Error::NotRunning { .. } | Error::Silent(_) => Exit::Unavailable,
            Error::Unreadable { source, .. } => Exit::of(source),
            Error::BadServer(_) | Error::NoToken(_) => Exit::Usage,
            Error::Broken(..) | Error::Runtime(_) => Exit::Io,
            Error::Garbled(_) => Exit::BadData,
            Error::Refused { status, .. } => match status.as_u16() {
                401 | 403 => Exit::NoPermission,
                404 => Exit::NoInput,
                400..500 => Exit::BadData,
                _ => Exit::Unavailable,
            },
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Error::NoPlace(_) | Error::NotRunning { .. } => Some(
                "start one with `bulkhead up` or `bulkhead control-plane`, or name another with --server, --data-dir or --context".into(),
            ),
            Error::Unreadable { .. } => Some("run this as the user who started it, or give --operator-token".into()),
            Error::BadServer(_) => Some("write http://HOST:PORT".into()),
            Error::NoToken(_) => Some("give --operator-token, or set BULKHEAD_TOKEN; `bulkhead operator-token new` makes one".into()),
            Error::Silent(_) => Some("look at its log".into()),
            Error::Broken(..) | Error::Runtime(_) => None,
            Error::Garbled(_) => Some("use the `bulkhead` of its version".into()),
            Error::Refused { fix, .. } => fix.clone(),
        }
    }
}

/// One request.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) target: &'a str,
    pub(crate) media: &'a str,
    pub(crate) accept: &'a str,
    pub(crate) body: Vec<u8>,
}

impl<'a> Ask<'a> {
    pub(crate) fn get(target: &'a str) -> Self {
        Self { method: Method::GET, target, media: "application/json", accept: "application/json", body: Vec::new() }
    }

    pub(crate) fn delete(target: &'a str) -> Self {
        Self { method: Method::DELETE, ..Self::get(target) }
    }

    pub(crate) fn post(target: &'a str, body: &Value) -> Self {
        Self { method: Method::POST, body: body.to_string().into_bytes(), ..Self::get(target) }
    }

    pub(crate) fn post_yaml(target: &'a str, body: String) -> Self {
        Self { method: Method::POST, media: "application/yaml", body: body.into_bytes(), ..Self::get(target) }
    }
}

impl Client {
    /// Whether a command means a control plane by its address, which may be on another machine.
    pub(crate) fn is_elsewhere(global: &Global) -> bool {
        let is_local_named = global.data_dir.is_some() || global.context.is_some();
        global.server.is_some() || (!is_local_named && env::var_os("BULKHEAD_SERVER").is_some_and(|server| !server.is_empty()))
    }

    /// The control plane that a command means.
    pub(crate) fn find(global: &Global) -> Result<Self, Failure> {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let token = global.operator_token.clone().or_else(|| variable("BULKHEAD_TOKEN"));
        let is_local_named = global.data_dir.is_some() || global.context.is_some();
        let server = global.server.clone().or_else(|| if is_local_named { None } else { variable("BULKHEAD_SERVER") });
        let (server, token) = match server {
            Some(url) => (host(&url)?, token.ok_or(Error::NoToken(url))?),
            None => {
                let place = context::find(global)?;
                let token = token.map_or_else(|| token_of(&place.data_dir), Ok)?;
                (server_of(&place.data_dir)?, token)
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
        Ok(Self { server, token: token.trim().to_owned(), runtime })
    }

    /// What stands at a target.
    pub(crate) fn get(&self, target: &str) -> Result<Value, Error> {
        Ok(self.send(&Ask::get(target))?.body)
    }

    /// The answer to a request.
    pub(crate) fn send(&self, ask: &Ask<'_>) -> Result<Answer, Error> {
        let (status, content) = self.wait(ask)?;
        let text = String::from_utf8(content).map_err(|_| Error::Garbled(self.server.clone()))?;
        let body = serde_json::from_str(&text).unwrap_or_default();
        let answer = Answer { status, text, body };
        if answer.status.is_success() { Ok(answer) } else { Err(refused(answer.status, &answer.body)) }
    }

    /// The bytes that answer a request.
    pub(crate) fn fetch(&self, ask: &Ask<'_>) -> Result<Vec<u8>, Error> {
        let (status, content) = self.wait(ask)?;
        if status.is_success() { Ok(content) } else { Err(refused(status, &serde_json::from_slice(&content).unwrap_or_default())) }
    }

    fn wait(&self, ask: &Ask<'_>) -> Result<(StatusCode, Vec<u8>), Error> {
        let exchange = async { tokio::time::timeout(PATIENCE, self.exchange(ask)).await };
        self.runtime.block_on(exchange).map_err(|_| Error::Silent(self.server.clone()))?
    }

    async fn exchange(&self, ask: &Ask<'_>) -> Result<(StatusCode, Vec<u8>), Error> {
        let broken = |cause| Error::Broken(self.server.clone(), cause);
        let garbled = || Error::Garbled(self.server.clone());
        let not_running = |source| Error::NotRunning { server: self.server.clone(), source };
        let stream = TcpStream::connect(&self.server).await.map_err(not_running)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(Stream(stream)).await.map_err(broken)?;
        // It ends with the exchange; what goes wrong on it is told by the exchange.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(ask.method.clone())
            .uri(ask.target)
            .header(HOST, &self.server)
            .header("accept", ask.accept)
            .header(CONTENT_TYPE, ask.media)
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Whole::new(ask.body.clone()))
            .map_err(|_| garbled())?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        let (head, mut body) = answer.into_parts();
        let mut content = Vec::new();
        while let Some(frame) = frame(&mut body).await {
            let frame = frame.map_err(broken)?;
            content.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            if content.len() > ANSWER_BYTES_MAX {
                return Err(garbled());
            }
        }
        Ok((head.status, content))
    }
}

/// `HOST:PORT` of a URL.
fn host(url: &str) -> Result<String, Error> {
    let bad = || Error::BadServer(url.to_owned());
    let rest = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
    let is_good = !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok();
    if is_good { Ok(rest.to_owned()) } else { Err(bad()) }
}

fn server_of(data_dir: &Path) -> Result<String, Error> {
    let path = data_dir.join(PLACE_FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Err(Error::NoPlace(data_dir.to_owned())),
        Err(source) => return Err(Error::Unreadable { path, source }),
    };
    let place: Value = serde_json::from_slice(&text).unwrap_or_default();
    place.get("api").and_then(Value::as_str).map(str::to_owned).ok_or(Error::NoPlace(data_dir.to_owned()))
}

fn token_of(data_dir: &Path) -> Result<String, Error> {
    let path = data_dir.join("admin.token");
    fs::read_to_string(&path).map_err(|source| Error::Unreadable { path, source })
}

/// A refusal in the words of its problem document.
fn refused(status: StatusCode, problem: &Value) -> Error {
    let text = |key| problem.get(key).and_then(Value::as_str).map(str::to_owned);
    let detail = text("detail").or_else(|| text("title")).unwrap_or_else(|| format!("it answered {status}"));
    let mistakes = problem.get("errors").and_then(Value::as_array).into_iter().flatten().map(mistake).collect();
    Error::Refused { status, detail, fix: text("fix"), mistakes }
}

fn mistake(error: &Value) -> Diagnostic {
    let text = |key| error.get(key).and_then(Value::as_str).map(str::to_owned);
    let place = |key| error.get(key).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
    Diagnostic {
        file: text("file").unwrap_or_default().into(),
        span: Span { line: place("line"), column: place("column") },
        document: text("document").map(Into::into),
        pointer: text("pointer").unwrap_or_default().into(),
        message: text("detail").unwrap_or_default(),
        expected: text("expected"),
        found: text("found"),
        hint: text("hint"),
    }
}
