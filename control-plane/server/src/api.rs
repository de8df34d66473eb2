//! The API: REST under `/v1`, one handler generic over kinds, every refusal a problem.
//!
//! A request goes through these steps: route → authenticate → permit → rate → body → answer. What is refused before the body costs
//! no reading of it. What an operator's role does not permit is written into the audit trail, as is every change.

use crate::archive::Archive;
use crate::audit::{Attempt, Decision, From};
use crate::change::Changer;
use crate::fleet::Fleet;
use crate::identity::Identity;
use crate::operation::{Endpoint, Needs, Operation};
use crate::operator::Operator;
use crate::problem::Problem;
use crate::start::Backup;
use crate::state::Operatory;
use answer::{Answer, problem};
use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_LENGTH, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;
use rates::Rates;
use route::{Routed, Router};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

mod answer;
mod apply;
mod backup;
mod body;
mod documents;
mod openapi;
mod others;
mod query;
mod rates;
mod route;
mod tokens;

pub use openapi::describe;

/// Bytes of a request's body: as many as a file of documents may have.
pub const BODY_BYTES_MAX: usize = bulkhead_config::text::Budget::FILE.bytes;
/// From the head of a request to the last byte of its body.
const BODY_MAX: Duration = Duration::from_secs(30);
/// Bodies that are read at the same time; the others wait.
const READING_MAX: usize = 2;

/// What answers requests.
pub struct Api {
    pub(crate) changer: Arc<Changer>,
    pub(crate) archive: Arc<Archive>,
    pub(crate) operators: Arc<Operatory>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) identity: Option<Arc<Identity>>,
    backup: Option<Backup>,
    router: Router,
    rates: Rates,
    openapi: Bytes,
    /// Bodies that are read at the same time.
    pub(crate) reading: Semaphore,
    pub(crate) now: fn() -> i64,
}

/// Whom a connection comes from.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The operator whom its certificate proves.
    pub certified: Option<Operator>,
}

/// A request whose operator may ask for it.
pub(crate) struct Asked {
    pub(crate) operator: Operator,
    pub(crate) from: From,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) routed: Routed,
    pub(crate) head: Parts,
    pub(crate) body: Bytes,
}

impl Api {
    /// Over what is declared.
    #[must_use]
    pub fn new(
        changer: Arc<Changer>,
        archive: Arc<Archive>,
        operators: Arc<Operatory>,
        fleet: Arc<Fleet>,
        identity: Option<Arc<Identity>>,
        backup: Option<Backup>,
        now: fn() -> i64,
    ) -> Self {
        let router = Router::new();
        let openapi = describe(router.endpoints()).to_string().into();
        Self {
            changer,
            archive,
            operators,
            fleet,
            identity,
            backup,
            router,
            rates: Rates::default(),
            openapi,
            reading: Semaphore::new(READING_MAX),
            now,
        }
    }

    /// Answers one request.
    pub async fn answer<B>(&self, peer: &Peer, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let from = From { address: peer.address.ip().to_string().into(), request_id: request_id() };
        let is_head = request.method() == Method::HEAD;
        let answer = match self.serve(peer, &from, request).await {
            Ok(answer) => answer,
            Err(refused) => problem(&refused, &from.request_id),
        };
        answer.into_response(&from.request_id, is_head)
    }

    async fn serve<B>(&self, peer: &Peer, from: &From, request: Request<B>) -> Result<Answer, Problem>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let found = self.router.find(head.uri.path()).ok_or_else(|| no_path(head.uri.path()))?;
        let (endpoint, routed) = found.with_method(&head.method).map_err(|allowed| no_method(&head.method, &allowed))?;
        if endpoint.operation == Operation::TrustBundle {
            return self.trust_bundle().await;
        }
        if endpoint.needs == Needs::Nobody {
            return self.anonymous(endpoint.operation);
        }
        let operator = self.authenticate(peer, from, &head, &endpoint).await?;
        // Before anything is written down of it.
        self.rates.charge(&operator, &head.method).map_err(too_fast)?;
        self.permit(&operator, from, &endpoint).await?;
        // A body of a request that only asks means nothing, and is not kept.
        let body = if head.method.is_safe() { Bytes::new() } else { read(&head, body).await? };
        let asked = Asked { operator, from: from.clone(), endpoint: Arc::clone(&endpoint), routed, head, body };
        let (operator, endpoint) = (asked.operator.clone(), Arc::clone(&asked.endpoint));
        // What a path names of others' is refused by its handler, in the words for what is not there.
        let foreign = asked.routed.get("tenant").filter(|_| operator.tenant.is_some()).map(str::to_owned);
        let answered = self.dispatch(asked).await;
        if let (Err(refused), Some(foreign)) = (&answered, foreign)
            && refused.status == StatusCode::NOT_FOUND
            && operator.tenant.as_ref().is_some_and(|tenant| tenant.as_str() != foreign)
        {
            self.note_denied(Some(&operator), from, &endpoint.id, format!("tenant {} is not its own", answer::shown(&foreign))).await;
        }
        answered
    }

    async fn dispatch(&self, asked: Asked) -> Result<Answer, Problem> {
        match asked.endpoint.operation {
            Operation::List => self.list(&asked),
            Operation::Read => self.read(&asked),
            Operation::Create | Operation::Replace => self.put(&asked).await,
            Operation::Delete => self.delete(&asked).await,
            Operation::State => self.state(&asked),
            Operation::History => self.history(&asked).await,
            Operation::Version => self.version(&asked).await,
            Operation::Difference => self.difference(&asked).await,
            Operation::Rollback => self.rollback(&asked).await,
            Operation::TenantConfig => self.tenant_config(&asked),
            Operation::Apply => self.apply(&asked).await,
            Operation::Validate => self.validate(&asked).await,
            Operation::Revision => self.revision(&asked),
            Operation::Events => self.events(&asked).await,
            Operation::Audit => self.audit(&asked).await,
            Operation::Fleet => self.fleet(&asked),
            Operation::Metrics => self.metrics(&asked),
            Operation::WhoAmI => self.who_am_i(&asked),
            Operation::Tokens => self.tokens(&asked),
            Operation::MintToken => self.mint_token(&asked).await,
            Operation::MintJoinToken => self.mint_join_token(&asked).await,
            Operation::Backup => self.backup(&asked).await,
            Operation::RevokeToken => self.revoke_token(&asked).await,
            // These need nobody, and were answered.
            other @ (Operation::OpenApi
            | Operation::Docs
            | Operation::Live
            | Operation::Ready
            | Operation::Started
            | Operation::TrustBundle) => self.anonymous(other),
        }
    }

    /// What anybody is told.
    fn anonymous(&self, operation: Operation) -> Result<Answer, Problem> {
        Ok(match operation {
            Operation::OpenApi => Answer::text(StatusCode::OK, "application/json", self.openapi.clone()),
            Operation::Docs => Answer::text(StatusCode::OK, "text/html; charset=utf-8", openapi::PAGE),
            _ => Answer::text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n"),
        })
    }

    /// Who asks: by the certificate of the connection, or by a token.
    async fn authenticate(&self, peer: &Peer, from: &From, head: &Parts, endpoint: &Endpoint) -> Result<Operator, Problem> {
        let mut fields = head.headers.get_all(AUTHORIZATION).iter();
        let (first, more) = (fields.next(), fields.next());
        let token = match (first, more, &peer.certified) {
            (None, _, Some(operator)) => return Ok(operator.clone()),
            (None, _, None) => {
                return Err(unproved("a credential is needed", "send `Authorization: Bearer TOKEN`, or connect with a client certificate"));
            }
            (Some(_), Some(_), _) => return Err(unproved("there are several Authorization fields", "send one")),
            (Some(token), None, _) => token,
        };
        let text = token.to_str().ok().and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, text)) = text else {
            return Err(unproved("the Authorization field holds no bearer token", "send `Authorization: Bearer TOKEN`"));
        };
        match self.operators.prove(text.trim(), (self.now)()) {
            // With its tenant an operator's business is gone.
            Ok(Operator { tenant: Some(tenant), .. }) if self.exists(&tenant).is_err() => {
                Err(unproved("the tenant that the token is held to is not there any more", "ask a platform-admin for a new one"))
            }
            Ok(operator) => Ok(operator),
            Err(why) => {
                self.note_unproved(from, endpoint, why).await;
                Err(match why {
                    crate::operator::Unproved::Expired => {
                        unproved("the token has expired", "ask a platform-admin for a new one: `bulkhead operator-token`")
                    }
                    _ => unproved("the token proves nobody", "check that it was copied whole, and that it was not revoked"),
                })
            }
        }
    }

    /// Whether the role of an operator reaches this at all.
    async fn permit(&self, operator: &Operator, from: &From, endpoint: &Endpoint) -> Result<(), Problem> {
        if endpoint.admits(operator) {
            return Ok(());
        }
        let reason = format!("role {} may not", operator.role);
        self.note_denied(Some(operator), from, &endpoint.id, reason).await;
        let detail = format!("{} is {}, and that role may not: {}", operator.name, operator.role, endpoint.summary);
        Err(Problem::new(StatusCode::FORBIDDEN, "not_permitted", detail).fix("ask somebody whose role may; `GET /v1/whoami` tells yours"))
    }

    async fn note_unproved(&self, from: &From, endpoint: &Endpoint, why: crate::operator::Unproved) {
        // Strangers must not fill the disk: what goes beyond is not told.
        if self.rates.may_note_stranger() {
            self.note_denied(None, from, &endpoint.id, format!("{why:?} token")).await;
        }
    }

    /// Writes down what was refused. Should that fail, the refusal stands all the same.
    pub(crate) async fn note_denied(&self, operator: Option<&Operator>, from: &From, action: &str, reason: String) {
        let attempt = Attempt {
            operator: operator.cloned(),
            from: from.clone(),
            action: action.into(),
            decision: Decision::Denied,
            reason: Some(reason),
            documents: Vec::new(),
            revision: None,
            at: (self.now)(),
        };
        let _ = self.changer.note(attempt).await;
    }
}

/// The whole body, within bounds.
async fn read<B>(head: &Parts, body: B) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || {
        let detail = format!("the body has more than the {BODY_BYTES_MAX} bytes allowed");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail).fix("send the documents in several requests")
    };
    let declared = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(BODY_MAX, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    match collected {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(why)) if why.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, "body_cut", "the body ended before it was whole").fix("send it again")),
        Err(_) => {
            let detail = format!("the body was not whole after {} s", BODY_MAX.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", detail).fix("send it again"))
        }
    }
}

fn no_path(path: &str) -> Problem {
    Problem::not_found(format!("path {}", answer::shown(path))).fix("`/openapi.json` and `/docs` list every path")
}

fn no_method(method: &Method, allowed: &str) -> Problem {
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("{method} is not for this path"));
    let problem = problem.fix(format!("use one of {allowed}"));
    match HeaderValue::from_str(allowed) {
        Ok(value) => problem.header(ALLOW, value),
        Err(_) => problem,
    }
}

fn unproved(detail: &str, fix: &str) -> Problem {
    let challenge = HeaderValue::from_static("Bearer realm=\"bulkhead\"");
    Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail).fix(fix).header(WWW_AUTHENTICATE, challenge)
}

fn too_fast(wait: Duration) -> Problem {
    let seconds = wait.as_secs().saturating_add(1);
    let problem =
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "this operator asks faster than the API answers one operator");
    problem.fix(format!("wait {seconds} s; send many documents with one `POST /v1/apply`")).header(RETRY_AFTER, HeaderValue::from(seconds))
}

/// 64 random bits: what the answer, the log and the audit trail know a request by.
fn request_id() -> Arc<str> {
    let mut bytes = [0; 8];
    // Without randomness ids repeat, and nothing hangs on that.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    format!("{:016x}", u64::from_be_bytes(bytes)).into()
}
