//! Record: what is written down of a request, and what it holds until its last byte.
//!
//! Cost: per request; one allocation, which the answer's body carries. Written when dropped, so that a client that hangs up is
//! counted too.

use super::Refusal;
use super::answered::SentAs;
use super::authn::Verified;
use super::body::{Progress, Stage};
use super::cors::Crossing;
use super::head::{Head, Received, Target};
use super::header_rules::Known;
use super::host::Host;
use super::leak::Leak;
use super::quota::Receipts;
use super::shadow::{Passed, Seen};
use super::standing::{Lapsed, Standing};
use super::trace::Trace;
use super::upstream::Failed;
use crate::clock::Now;
use crate::connection::stream::Outlet;
use crate::connection::{Downstream, InFlight};
use crate::policy::Policy;
use crate::problem::Code;
use crate::telemetry::access_log::{Entry, Outcome};
use crate::telemetry::decisions::{Asked, DecisionId, Verdict};
use crate::telemetry::metrics::StatusClass;
use crate::worker::{Bound, Decided, Stream, Worker};
use bulkhead_config::condition::Kept;
use bulkhead_config::decide::Denial;
use bulkhead_config::snapshot::{Epoch, Route, Scheme, SecurityHeaders};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

/// One request, from its head to its last byte.
#[derive(Debug)]
pub struct Record {
    worker: Rc<Worker>,
    decision: DecisionId,
    begun: Now,
    /// When it was decided: at its beginning, or when what lasted was refused.
    decided: Now,
    method: Method,
    path: Option<PathAndQuery>,
    host: Option<Host>,
    source: IpAddr,
    trace: Option<Trace>,
    tenant: Option<Rc<Bound>>,
    proof: Option<Rc<Verified>>,
    route: Option<Arc<Route>>,
    kept: Option<Arc<Kept>>,
    crossing: Option<Crossing>,
    /// What would have refused it.
    passed: Vec<Passed>,
    sent_as: Option<Box<SentAs>>,
    /// What its answer tells browsers, and whether it goes over TLS.
    secured: Option<(Arc<SecurityHeaders>, Scheme)>,
    epoch: Epoch,
    upstream: Option<Rc<str>>,
    upload: Option<Rc<Progress>>,
    tunnelled: (u64, u64),
    sent: u64,
    end: End,
    receipts: Option<Receipts>,
    stream: Option<Rc<Stream>>,
    in_flight: InFlight,
}

/// How it ended.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Not yet, or never: the client left.
    Open,
    Served(StatusCode),
    Refused(StatusCode, &'static str),
    /// An answer of this status was under way, when the request would have been refused with this code.
    Ended(StatusCode, &'static str),
}

impl Record {
    /// A request comes in.
    #[must_use]
    pub fn begin(worker: &Rc<Worker>, from: &Rc<Downstream>, received: &Received, policy: &Policy) -> Box<Self> {
        let (now, head_timeout) = (worker.now(), policy.snapshot.platform().bounds().head_timeout);
        Box::new(Self {
            worker: Rc::clone(worker),
            decision: worker.name_decision(),
            begun: now,
            decided: now,
            method: received.method.clone(),
            path: None,
            host: None,
            source: from.peer().ip(),
            trace: None,
            tenant: None,
            proof: None,
            route: None,
            kept: None,
            crossing: None,
            passed: Vec::new(),
            sent_as: None,
            secured: policy.snapshot.platform().security_headers().map(|headers| (Arc::clone(headers), from.scheme)),
            epoch: policy.snapshot.epoch(),
            upstream: None,
            upload: None,
            tunnelled: (0, 0),
            sent: 0,
            end: End::Open,
            receipts: None,
            stream: None,
            in_flight: from.begin(head_timeout),
        })
    }

    /// Its head has no normal form; this is its path as it was written.
    pub fn written(&mut self, path: Option<PathAndQuery>) {
        self.path = path;
    }

    /// Its head is in normal form, and its client is known.
    pub fn normal(&mut self, head: &Head, source: IpAddr, trace: Trace) {
        if let Target::Path(path) = &head.target {
            self.path = Some(path.clone());
        }
        self.host = Some(head.host.clone());
        self.source = source;
        self.trace = Some(trace);
    }

    /// How its client asks, where that must be known.
    pub fn asked_by(&mut self, scheme: impl FnOnce() -> Scheme) {
        if let Some((_, by)) = &mut self.secured {
            *by = scheme();
        }
    }

    /// It names this tenant, or is proved to be of it.
    pub fn of_tenant(&mut self, tenant: &Rc<Bound>) {
        self.tenant = Some(Rc::clone(tenant));
    }

    /// It is proved to come from them.
    pub fn from_principal(&mut self, proof: &Rc<Verified>) {
        self.proof = Some(Rc::clone(proof));
    }

    /// It takes this route.
    pub fn takes(&mut self, route: &Arc<Route>) {
        self.route = Some(Arc::clone(route));
    }

    /// Rules with conditions read this of it.
    pub fn keep(&mut self, kept: Option<Arc<Kept>>) {
        self.kept = kept;
    }

    /// It is answered by these cross-origin rules.
    pub fn crosses(&mut self, crossing: Crossing) {
        self.crossing = Some(crossing);
    }

    /// It may go on; what it took of limits is held until its last byte.
    pub fn admitted(&mut self, receipts: Receipts) {
        self.receipts = Some(receipts);
        if !self.passed.is_empty() {
            self.tell_of_shadow();
        } else if self.worker.has_time_to_remember() {
            self.remember(Verdict::Allowed, None, None);
        }
    }

    /// Something would refuse it, and only records that.
    pub fn passes(&mut self, passed: Passed) {
        self.passed.push(passed);
    }

    /// Whether its credential is such a thing.
    #[must_use]
    pub fn has_passed_a_credential(&self) -> bool {
        self.passed.iter().any(|passed| matches!(passed, Passed::Credential(_)))
    }

    /// It goes on, and would have been refused.
    #[cold]
    fn tell_of_shadow(&self) {
        let Some(first) = self.passed.first().map(Passed::refusal) else { return };
        let kind = first.code().kind();
        self.worker.cells().passed_in_shadow(kind.slug);
        self.remember(Verdict::Passed, Some((kind.slug, kind.status)), first.why());
        // A request that goes on has both.
        let (Some(tenant), Some(route)) = (&self.tenant, &self.route) else { return };
        let seen = Seen {
            tenant: tenant.slice.id(),
            route,
            method: &self.method,
            path: self.path(),
            principal: self.proof.as_ref().map(|proof| proof.principal()),
            decision: self.decision,
            now: self.begun,
        };
        self.worker.shadow().add(&seen, &self.passed);
    }

    /// Whether it goes on although nobody was proved where somebody must be.
    #[must_use]
    pub fn is_passed_unproven(&self) -> bool {
        let is_of_credential = |passed: &Passed| matches!(passed, Passed::Credential(_) | Passed::Denied(Denial::NoCredential));
        self.passed.iter().any(is_of_credential)
    }

    /// Its route rewrites it.
    pub fn goes_as(&mut self, sent: SentAs) {
        self.sent_as = Some(Box::new(sent));
    }

    /// Its body is on its way.
    pub fn uploads(&mut self, upload: Option<Rc<Progress>>) {
        self.upload = upload;
    }

    /// The upstream answered.
    pub fn served(&mut self, status: StatusCode, endpoint: &Rc<str>) {
        self.upstream = Some(Rc::clone(endpoint));
        self.end = End::Served(status);
    }

    /// We answered, and it was no refusal.
    pub fn answered(&mut self, status: StatusCode) {
        self.end = End::Served(status);
    }

    /// We refused it.
    pub fn refused(&mut self, refusal: &Refusal) {
        // Nobody was refused: what is remembered of the request is that it might go on.
        if matches!(refusal, Refusal::ClientLeft) {
            return;
        }
        let kind = refusal.code().kind();
        if let Refusal::Upstream(failed) = refusal {
            self.failed(failed);
        }
        if let Refusal::Leak(leak) = refusal {
            self.stopped(leak);
        }
        self.worker.cells().refused(kind.slug);
        self.end = End::Refused(kind.status, kind.slug);
        self.remember(Verdict::Refused, Some((kind.slug, kind.status)), refusal.why());
    }

    /// A piece of the answer goes out, or the upstream broke off in its midst.
    pub fn sent(&mut self, piece: Result<usize, &Failed>) {
        match piece {
            Ok(bytes) => self.sent += bytes as u64,
            Err(failed) => self.failed(failed),
        }
    }

    /// Bytes that one message of its call may have, if it is one and its route says so.
    #[must_use]
    pub fn message_bytes_max(&self) -> Option<u64> {
        self.route.as_ref()?.grpc_message_bytes_max
    }

    /// Whether a message of the request, whose answer is under way, was too large.
    #[must_use]
    pub fn has_sent_too_large_a_message(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| upload.stage() == Stage::MessageTooLarge)
    }

    /// It is cut off in the midst of its answer for what it is.
    pub fn cut(&mut self, code: Code) {
        let kind = code.kind();
        self.worker.cells().refused(kind.slug);
        self.end = End::Refused(kind.status, kind.slug);
    }

    /// A tunnel ended, after so many bytes up and down.
    pub fn tunnelled(&mut self, up: u64, down: u64) {
        self.tunnelled = (up, down);
    }

    /// It may last: from now on it is asked again and again whether it would be admitted.
    pub fn lasts(&mut self) {
        if self.stream.is_some() {
            return;
        }
        // A request that may go on has both.
        let (Some(host), Some(path)) = (self.host.clone(), self.path.clone()) else { return };
        let standing = Standing {
            entrance: Arc::clone(&self.from().entrance),
            host,
            proof: self.proof.clone(),
            method: self.method.clone(),
            path,
            source: self.source,
            kept: self.kept.clone(),
        };
        let stream = self.worker.streams().enter(standing);
        // What changed since it was decided, nobody would tell it otherwise.
        let policy = self.worker.policy();
        if policy.snapshot.epoch() != self.epoch {
            stream.review(&self.worker, &policy, self.worker.now());
        }
        self.stream = Some(stream);
    }

    /// Its answer lasts: whoever sends it gives up once it may not go on.
    pub fn answer_lasts(&mut self, outlet: Option<&Outlet>) {
        self.lasts();
        let Some(stream) = &self.stream else { return };
        match outlet {
            Some(outlet) => outlet.heed(stream),
            None => self.from().heed(stream),
        }
    }

    /// `Ready` once it lasted until it would be refused.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.as_ref().map_or(Poll::Pending, |stream| stream.poll_ended(cx))
    }

    /// Code of what it would be refused with.
    #[must_use]
    pub fn why_ended(&self) -> Option<&'static str> {
        self.stream.as_ref()?.why_ended()
    }

    /// What it would be refused with, if it lasted so long. From here on it is told as it was decided then.
    pub fn lapse(&mut self) -> Option<Refusal> {
        let Lapsed { refusal, at, tenant, route, epoch } = *self.stream.as_ref()?.take_lapsed()?;
        self.decided = at;
        self.epoch = epoch;
        self.tenant = tenant.or_else(|| self.tenant.take());
        self.route = route.or_else(|| self.route.take());
        Some(refusal)
    }

    /// The worker that serves it.
    #[must_use]
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// The connection it came by.
    #[must_use]
    pub fn from(&self) -> &Rc<Downstream> {
        self.in_flight.from()
    }

    /// Its decision's name.
    #[must_use]
    pub fn decision(&self) -> DecisionId {
        self.decision
    }

    /// When it began.
    #[must_use]
    pub fn begun(&self) -> Now {
        self.begun
    }

    /// The client's address.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// Its method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Its path, in normal form once it has one.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.as_ref().map_or("*", PathAndQuery::path)
    }

    /// The route it takes.
    #[must_use]
    pub fn route(&self) -> Option<&Arc<Route>> {
        self.route.as_ref()
    }

    /// What header rules may say of it to its client.
    #[must_use]
    pub fn known(&self) -> Known<'_> {
        Known {
            tenant: self.tenant.as_ref().map(|tenant| tenant.slice.id().as_str()),
            user: None,
            route: self.route.as_ref().map_or("", |route| route.name.as_str()),
            decision: self.decision.text(),
            source: self.source,
        }
    }

    /// What its answer tells browsers, and whether it goes over TLS.
    #[must_use]
    pub fn secured(&self) -> Option<&(Arc<SecurityHeaders>, Scheme)> {
        self.secured.as_ref()
    }

    /// The cross-origin rules that its answer follows.
    #[must_use]
    pub fn crossing(&self) -> Option<&Crossing> {
        self.crossing.as_ref()
    }

    /// What it took of limits.
    #[must_use]
    pub fn receipts(&self) -> Option<&Receipts> {
        self.receipts.as_ref()
    }

    /// Names of the roles that its principal holds, joined for people.
    #[must_use]
    pub fn role_names(&self) -> String {
        let Some((tenant, proof)) = self.tenant.as_ref().zip(self.proof.as_ref()) else { return String::new() };
        let policy = tenant.slice.policy();
        let names: Vec<&str> = policy.roles_in(proof.roles(policy)).map(|role| role.name.as_str()).collect();
        names.join(", ")
    }

    fn stopped(&self, leak: &Leak) {
        let tenant = self.tenant.as_ref().map(|tenant| tenant.slice.id());
        let route = self.route.as_ref().map_or("", |route| route.name.as_str());
        let (decision, cause) = (self.decision.to_string(), leak.to_string());
        let more = [("route", route.into()), ("cause", cause.as_str().into()), ("decision_id", decision.as_str().into())];
        self.worker.log().error("core.sidecar", tenant, "an answer was not delivered: it may be another tenant's", &more);
    }

    fn failed(&self, failed: &Failed) {
        self.worker.cells().upstream_failed(failed.step.label());
        let tenant = self.tenant.as_ref().map(|tenant| tenant.slice.id());
        let upstream = self.route.as_ref().map_or("", |route| route.upstream.name.as_str());
        let decision = self.decision.to_string();
        let more = [
            ("upstream", upstream.into()),
            ("step", failed.step.label().into()),
            ("cause", failed.cause().into()),
            ("decision_id", decision.as_str().into()),
        ];
        self.worker.log().warn("core.sidecar", tenant, "an upstream failed", &more);
    }

    fn remember(&self, verdict: Verdict, refusal: Option<(&'static str, StatusCode)>, why: Option<Box<str>>) {
        let host = self.host.as_ref().map_or("", Host::as_str);
        let asked = Asked { at: self.decided, source: self.source, method: &self.method, host, path: self.path() };
        let (tenant, proof, route) = (self.tenant.clone(), self.proof.clone(), self.route.clone());
        let lasted = Some(self.decided.since(self.begun)).filter(|lasted| !lasted.is_zero());
        let kept = self.kept.clone();
        let decided = Decided { tenant, proof, route, kept, refusal, why, lasted, epoch: self.epoch };
        self.worker.decisions().remember(self.decision, verdict, &asked, decided);
    }
}

impl Record {
    /// It does not last any longer; if that is because it would be refused, this is told.
    fn leave_streams(&mut self) {
        if let Some(stream) = &self.stream {
            self.worker.streams().leave(stream);
        }
        let (Some(refusal), End::Served(status)) = (self.lapse(), self.end) else { return };
        let kind = refusal.code().kind();
        self.worker.cells().stream_ended(kind.slug);
        self.end = End::Ended(status, kind.slug);
        self.remember(Verdict::Refused, Some((kind.slug, kind.status)), refusal.why());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.leave_streams();
        let now = self.worker.now();
        let latency = now.since(self.begun);
        let (status, outcome) = match self.end {
            End::Served(status) => (Some(status), Outcome::Served(status.as_u16())),
            End::Refused(status, code) => (Some(status), Outcome::Refused(status.as_u16(), code)),
            End::Ended(status, code) => (Some(status), Outcome::Ended(status.as_u16(), code)),
            End::Open => (None, Outcome::Left),
        };
        if let Some(tenant) = &self.tenant {
            let status = status.map_or(StatusClass::None, StatusClass::from);
            tenant.series.record((&self.method).into(), status, latency);
        }
        let mut access_log = self.worker.access_log();
        if !access_log.is_on() {
            return;
        }
        let policy = self.tenant.as_ref().map(|tenant| &**tenant.slice.policy());
        let proof = self.proof.as_ref();
        access_log.append(&Entry {
            unix_ms: now.unix_ms,
            latency,
            tenant: self.tenant.as_ref().map(|tenant| tenant.slice.id()),
            outcome,
            shadow: self.passed.first().filter(|_| self.receipts.is_some()).map(|first| first.refusal().code().kind().slug),
            method: self.method.as_str(),
            path: self.path(),
            host: self.host.as_ref().map(Host::as_bytes),
            route: self.route.as_ref().map(|route| &route.name),
            user: proof.map(|proof| &*proof.principal().user),
            roles: policy.zip(proof).map(|(policy, proof)| (policy, proof.roles(policy))),
            decision: self.decision,
            trace_id: self.trace.as_ref().map(Trace::id),
            source: self.source,
            upstream: self.upstream.as_deref(),
            upstream_path: self.sent_as.as_ref().and_then(|sent| sent.path()),
            upstream_host: self.sent_as.as_ref().and_then(|sent| sent.host()),
            bytes_in: self.tunnelled.0 + self.upload.as_ref().map_or(0, |upload| upload.bytes()),
            bytes_out: self.tunnelled.1 + self.sent,
            epoch: self.epoch,
        });
    }
}
