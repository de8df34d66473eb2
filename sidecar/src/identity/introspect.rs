//! Introspection (RFC 7662): what servers say of tokens that say nothing themselves.
//!
//! Cost: none per request but for tokens that are not remembered: a question to the control runtime, and a connection of its own to
//! the server. One question is under way for each token, 64 in all; 256 requests of a worker wait at most, up to two seconds each.
//! What an answer means is for `request/authn/introspection.rs` to say.

use super::ask::{self, Answered, NotAnswered, Place};
use super::believe::{self, Believed};
use super::looks::Waiting;
use crate::clock::{Clock, Now};
use crate::telemetry::log::{Log, Value};
use crate::telemetry::metrics::Metrics;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bulkhead_config::snapshot::IntrospectionUrl;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, StatusCode};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// How long a request waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests of one worker that wait at the same time.
const WAITING_MAX: usize = 256;
/// Questions that may wait for the control runtime, from all workers.
const QUESTIONS_MAX: usize = 1_024;
/// Questions under way.
const AT_ONCE_MAX: usize = 64;
/// Bytes of an answer: claims, as of a token.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// A failure that lasts is told so often.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What a server says; `None`: nobody knows.
type Said = Option<Arc<[u8]>>;

/// A server that documents name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Server {
    pub(crate) asked: Arc<IntrospectionUrl>,
    /// What stands in its files, as far as they can be read.
    pub(crate) secret: Option<Arc<[u8]>>,
    pub(crate) roots: Option<Arc<[u8]>>,
}

/// A question to the control runtime. It holds a token, so it is never printed.
pub struct TokenQuestion {
    asked: Arc<IntrospectionUrl>,
    token: Box<str>,
    answer: oneshot::Sender<Said>,
}

/// What workers ask with; clones share the way.
#[derive(Debug, Clone)]
pub struct TokenAsker(mpsc::Sender<TokenQuestion>);

/// The way from workers to whoever asks about tokens.
#[must_use]
pub fn token_channel() -> (TokenAsker, mpsc::Receiver<TokenQuestion>) {
    let (sender, receiver) = mpsc::channel(QUESTIONS_MAX);
    (TokenAsker(sender), receiver)
}

/// One worker's way to ask.
#[derive(Debug)]
pub struct Introspector {
    asker: TokenAsker,
    waiting: Cell<usize>,
}

impl Introspector {
    /// Nobody asked yet.
    #[must_use]
    pub fn new(asker: TokenAsker) -> Self {
        Self { asker, waiting: Cell::new(0) }
    }

    /// Asks about a token.
    pub async fn ask(&self, asked: &Arc<IntrospectionUrl>, token: &str) -> Said {
        let _waiting = Waiting::one_of(&self.waiting, WAITING_MAX)?;
        let (answer, answered) = oneshot::channel();
        self.asker.0.try_send(TokenQuestion { asked: Arc::clone(asked), token: token.into(), answer }).ok()?;
        tokio::time::timeout(PATIENCE, answered).await.ok()?.ok()?
    }
}

/// Whoever asks about tokens, and what it needs of the process.
pub(crate) struct Introspection {
    pub(crate) questions: mpsc::Receiver<TokenQuestion>,
    pub(crate) servers: watch::Receiver<super::Wants>,
    pub(crate) log: Log,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
}

/// One question that is under way, whoever waits for it.
type Flight = (Arc<str>, Box<str>);

type Asked = Result<Arc<[u8]>, Failure>;

struct Desk {
    surroundings: Introspection,
    servers: HashMap<Arc<str>, Known>,
    system: Believed,
    flights: HashMap<Flight, Vec<oneshot::Sender<Said>>>,
    asking: JoinSet<(Flight, Asked)>,
}

struct Known {
    server: Server,
    believed: Believed,
    told: Option<Now>,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the file of its `client_secret`, `{0}`, cannot be read, or is no line of text")]
    Secret(Arc<str>),
    #[error(transparent)]
    Believe(#[from] believe::Failure),
    #[error(transparent)]
    NotAnswered(#[from] NotAnswered),
    #[error("it answers {0}: it does not accept `client_id` and `client_secret`")]
    NotAccepted(StatusCode),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("a defect of Bulkhead; the log says where")]
    Defect,
}

impl Introspection {
    /// Asks until no policy is followed any more.
    pub(crate) async fn run(self) {
        let (servers, flights, system, asking) = (HashMap::new(), HashMap::new(), Believed::default(), JoinSet::new());
        let mut desk = Desk { surroundings: self, servers, system, flights, asking };
        desk.adopt();
        loop {
            tokio::select! {
                biased;
                changed = desk.surroundings.servers.changed() => match changed {
                    Ok(()) => desk.adopt(),
                    Err(_) => return,
                },
                Some(done) = desk.asking.join_next(), if !desk.asking.is_empty() => {
                    if let Ok((flight, result)) = done {
                        desk.finish(flight, result);
                    }
                }
                Some(question) = desk.surroundings.questions.recv(), if desk.asking.len() < AT_ONCE_MAX => desk.ask(question),
            }
        }
    }
}

impl Desk {
    fn adopt(&mut self) {
        let servers = self.surroundings.servers.borrow_and_update().servers.clone();
        let mut before = std::mem::take(&mut self.servers);
        for server in servers {
            let known = match before.remove(&server.asked.name) {
                Some(known) if known.server == server => known,
                _ => {
                    let believed = if server.asked.roots.is_none() { Arc::clone(&self.system) } else { Believed::default() };
                    Known { server, believed, told: None }
                }
            };
            self.servers.insert(Arc::clone(&known.server.asked.name), known);
        }
    }

    fn ask(&mut self, question: TokenQuestion) {
        let TokenQuestion { asked, token, answer } = question;
        let Some(known) = self.servers.get(&asked.name) else {
            // No document names it: the policy changed meanwhile. Who asked may have given up waiting.
            let _ = answer.send(None);
            return;
        };
        let flight = (Arc::clone(&asked.name), token);
        if let Some(waiting) = self.flights.get_mut(&flight) {
            return waiting.push(answer);
        }
        // A task of its own, so that a defect in it is a failure like others.
        let asking = tokio::spawn(introspect(known.server.clone(), Arc::clone(&known.believed), flight.1.clone()));
        self.flights.insert(flight.clone(), vec![answer]);
        self.asking.spawn(async move { (flight, asking.await.unwrap_or(Err(Failure::Defect))) });
    }

    fn finish(&mut self, flight: Flight, result: Asked) {
        self.surroundings.metrics.introspected(result.is_ok());
        self.tell(&flight.0, result.as_ref().err());
        let said = result.ok();
        for waiting in self.flights.remove(&flight).unwrap_or_default() {
            // It may have given up.
            let _ = waiting.send(said.clone());
        }
    }

    fn tell(&mut self, name: &Arc<str>, failure: Option<&Failure>) {
        self.surroundings.clock.correct();
        let now = self.surroundings.clock.now();
        let Some(known) = self.servers.get_mut(name) else { return };
        let server = ("server", Value::from(&**name));
        match failure {
            Some(failure) if known.told.is_none_or(|told| now.since(told) >= TELL_AGAIN) => {
                known.told = Some(now);
                let message = "a server cannot be asked about tokens; those that are not remembered get 503";
                self.surroundings.log.error(COMPONENT, None, message, &[server, ("cause", Value::Shown(failure))]);
            }
            None if known.told.take().is_some() => {
                self.surroundings.log.info(COMPONENT, None, "a server can be asked about tokens again", &[server]);
            }
            _ => {}
        }
    }
}

const COMPONENT: &str = "core.identity";

async fn introspect(server: Server, believed: Believed, token: Box<str>) -> Asked {
    let url = server.asked.url.clone();
    let tls = match url.is_tls() {
        true => Some(believe::who(&believed, server.asked.roots.as_ref(), server.roots.as_ref()).await?),
        false => None,
    };
    let request = Request::post("/")
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(AUTHORIZATION, credentials(&server)?);
    let body = format!("token={}&token_type_hint=access_token", form(&token));
    let Answered { status, body, .. } = ask::ask(&Place { url, tls }, request, Bytes::from(body), ANSWER_BYTES_MAX).await?;
    match status {
        StatusCode::OK => Ok(body.into()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::NotAccepted(status)),
        status => Err(Failure::Status(status)),
    }
}

/// RFC 6749 section 2.3.1: both parts in the encoding of forms, then as HTTP Basic.
fn credentials(server: &Server) -> Result<HeaderValue, Failure> {
    let unusable = || Failure::Secret(Arc::clone(&server.asked.client_secret));
    let secret = server.secret.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or_else(unusable)?;
    // Editors end the line.
    let secret = secret.trim_end_matches(['\r', '\n']);
    if secret.is_empty() || secret.contains(char::is_control) {
        return Err(unusable());
    }
    let basic = BASE64_STANDARD.encode(format!("{}:{}", form(&server.asked.client_id), form(secret)));
    let mut value = HeaderValue::try_from(format!("Basic {basic}")).map_err(|_| unusable())?;
    value.set_sensitive(true);
    Ok(value)
}

/// A text in the encoding of forms.
fn form(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn server(client_id: &str, secret: Option<&[u8]>) -> Server {
        let asked = IntrospectionUrl {
            name: "s".into(),
            url: "https://login.example/introspect".parse().unwrap(),
            client_id: client_id.to_owned(),
            client_secret: "introspection.secret".into(),
            roots: None,
        };
        Server { asked: Arc::new(asked), secret: secret.map(Into::into), roots: None }
    }

    #[test]
    fn credentials_are_encoded_as_forms_are_and_a_secret_is_one_line() {
        let value = |secret: &[u8]| credentials(&server("bulk head", Some(secret))).map(|value| value.to_str().unwrap().to_owned());
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        assert_eq!(value(b"p:w/ \xc3\xa4\n").unwrap(), basic("bulk%20head:p%3Aw%2F%20%C3%A4"));
        for unusable in [&b""[..], b"\n", b"two\nlines", b"\xff"] {
            assert!(value(unusable).is_err(), "{unusable:?}");
        }
        assert!(credentials(&server("c", None)).is_err());
    }
}
