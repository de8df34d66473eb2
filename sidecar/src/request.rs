//! The path of a request, top to bottom: head → tenant → authn → decide → quota → upstream → respond → record.
//!
//! Cost: per request; no lock, no system call but the sockets', nothing awaited but the upstream. Allocated are the record, the
//! header values made for the upstream, and what the engines need.
//! Each stage is a function from what the stage before it proved to what it proves itself; none can be left out, because the
//! next asks for its result. This file knows `Head` and `Body`, not the engine below them.

pub mod head;
pub mod host;
pub mod forwarded;
pub mod trace;
pub mod tenant;
pub mod authn;
pub mod quota;
pub mod grpc;
pub mod websocket;
pub mod answered;
pub mod cors;
pub mod header_rules;
pub mod outgoing;
pub mod upstream;
pub mod leak;
pub mod body;
pub mod refusal;
pub mod respond;
pub mod standing;
pub mod shadow;
pub mod record;

pub use refusal::Refusal;

use crate::connection::{Downstream, Entrance};
use crate::fields::Name;
use crate::identity::Looked;
use crate::policy::Policy;
use crate::problem::Form;
use crate::worker::{Current, Worker};
use authn::{Presented, Refused};
use body::{Body, Upload};
use bulkhead_config::decide::{Facts, NoTrace, Permit, decide};
use bulkhead_config::snapshot::{Bounds, Credential, NewPath, Route, Service};
use cors::Crossing;
use head::{Found, Head, Received, Target};
use http::Method;
use outgoing::{Outgoing, Sending};
use quota::{Ask, Receipts};
use record::Record;
use respond::{Answer, Own, Response};
use shadow::Look;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tenant::Proved;
use trace::{Came, Trace};
use upstream::Wire;

/// A request that may go on: whose it is, what allows it, and what it took of limits.
struct Admitted {
    proved: Proved,
    permit: Permit,
}

/// What comes of the decision.
enum Passed {
    /// It goes on.
    On(Admitted),
    /// It is answered here.
    Answered(Own),
}

/// A request that has begun: what came of it before anything was waited for.
pub struct Begun {
    form: Form,
    record: Box<Record>,
    prepared: Result<Prepared, Refusal>,
}

/// The first half of one request: from its head to what is waited for. Apart from the other half, so that the head is not carried
/// into a future. `worker` is this thread's own: no lock, no atomic, nothing shared but limits.
pub fn begin(worker: &Rc<Worker>, from: &Rc<Downstream>, received: Received, body: Body) -> Begun {
    let policy = worker.policy(); // one state for the whole request
    let form = Form::of_request(received.version, &received.headers);
    let mut record = Record::begin(worker, from, &received, &policy); // written when dropped: a client that hangs up is counted too
    let prepared = prepare(worker, from, &policy, received, body, &mut record);
    Begun { form, record, prepared }
}

/// The other half: from there to its answer.
pub async fn serve(worker: &Rc<Worker>, from: &Rc<Downstream>, begun: Begun) -> Response {
    let Begun { form, mut record, prepared } = begun;
    let outcome = match prepared {
        Ok(Prepared::Ready(ready)) => fulfil(worker, from, ready, &mut record).await,
        Ok(Prepared::Answered(own)) => Ok(Answer::Own(own)),
        // Rare, so boxed: every request would carry what it takes.
        Ok(Prepared::Asks(refused, asking)) => Box::pin(answer_once_asked(worker, from, refused, *asking, &mut record)).await,
        Err(refusal) => Err(refusal),
    };
    respond::finish(outcome, from, form, record)
}

/// What came of a request before anything was waited for.
enum Prepared {
    /// It goes on.
    Ready(Ready),
    /// It is answered here.
    Answered(Own),
    /// Somebody must be asked who knows more of its credential, or this is why it is refused.
    Asks(Refused, Box<Asking>),
}

/// A request in its normal form.
struct Asking {
    head: Head,
    trace: (Trace, Came),
    body: Body,
}

/// A request that goes on, and where to.
struct Ready {
    admitted: Admitted,
    wire: Wire,
    grpc_timeout: Option<Duration>,
    request: Box<Outgoing>,
}

/// From what came in to what goes out. Waits for nothing.
fn prepare(
    worker: &Worker,
    from: &Rc<Downstream>,
    policy: &Policy,
    mut received: Received,
    body: Body,
    record: &mut Record,
) -> Result<Prepared, Refusal> {
    let is_http1 = received.version < http::Version::HTTP_2;
    let head = Head::normal(&mut received).map_err(|ambiguous| {
        record.written(received.path.take());
        // Somebody before us may have read a body where we would read the next request.
        if is_http1 && ambiguous.is_of_framing() {
            from.close_soon();
        }
        Refusal::Ambiguous(ambiguous)
    })?;
    let trace = Trace::of(&head.headers, worker.random());
    let trusted = policy.snapshot.platform().trusted_hops();
    let source = forwarded::source(from.peer().ip(), trusted, head.found, &head.headers);
    record.normal(&head, *source.as_ref().unwrap_or(&from.peer().ip()), trace.0);
    record.asked_by(|| forwarded::scheme(from, trusted, head.found, &head.headers));
    source.map_err(Refusal::Ambiguous)?;
    if head.found.any(Found::HOP) && !expects_what_we_know(&head) {
        return Err(Refusal::Expectation);
    }
    let service = service(policy, &from.entrance)?;
    let admitted = match admit(worker, policy, service, (&head, Look::Ahead), &body, record) {
        Err(Refusal::Credential(refused @ (Refused::NewKey { .. } | Refused::Opaque { .. }))) => {
            return Ok(Prepared::Asks(refused, Box::new(Asking { head, trace, body })));
        }
        admitted => admitted?,
    };
    Ok(match admitted {
        Passed::On(admitted) => Prepared::Ready(compose(worker, from, policy, admitted, (head, trace), body, record)),
        Passed::Answered(own) => Prepared::Answered(own),
    })
}

/// Whether it expects nothing but to be told to go on (RFC 9110 section 10.1.1).
fn expects_what_we_know(head: &Head) -> bool {
    head.headers.get_all(Name::Expect).all(|expectation| expectation.eq_ignore_ascii_case(b"100-continue"))
}

/// The service whose listener it came in by; gone when a change of policy overtook the connection.
fn service<'a>(policy: &'a Policy, entrance: &Entrance) -> Result<&'a Service, Refusal> {
    let mut services = policy.snapshot.platform().services().iter();
    services.find(|service| service.name == entrance.service).map(|service| &**service).ok_or(Refusal::NoService)
}

/// Has somebody asked who knows more of a credential, and begins anew by the policy as it is then: all of it is one state again.
async fn answer_once_asked(
    worker: &Worker,
    from: &Rc<Downstream>,
    refused: Refused,
    asking: Asking,
    record: &mut Record,
) -> Result<Answer, Refusal> {
    from.listen();
    let Asking { head, trace, body } = asking;
    let (policy, look) = match ask(worker, from, refused, &head, record).await {
        Ok(policy) => (policy, Look::Done),
        Err(refusal) => {
            let policy = worker.policy();
            if !shadow::passes_unasked(worker, &policy, service(&policy, &from.entrance)?, &head, &refusal) {
                return Err(refusal);
            }
            (policy, Look::InVain)
        }
    };
    let service = service(&policy, &from.entrance)?;
    let admitted = admit(worker, &policy, service, (&head, look), &body, record).map_err(|refusal| match refusal {
        Refusal::Credential(refused) => Refusal::Credential(refused.after_a_look()),
        refusal => refusal,
    });
    let admitted = match admitted? {
        Passed::On(admitted) => admitted,
        Passed::Answered(own) => return Ok(Answer::Own(own)),
    };
    let ready = compose(worker, from, &policy, admitted, (head, trace), body, record);
    fulfil(worker, from, ready, record).await
}

/// Asks an issuer whether it has a new key, or the server that made a token what it means. What is said is in the policy that comes
/// of it, or in the memo.
async fn ask(worker: &Worker, from: &Downstream, refused: Refused, head: &Head, record: &Record) -> Result<Rc<Current>, Refusal> {
    match refused {
        Refused::NewKey { keys } => match worker.looks().look(&keys, record.begun()).await {
            Looked::Fresh => Ok(worker.policy()),
            Looked::Unknown => Err(Refused::NewKey { keys }.into()),
        },
        Refused::Opaque { asked } => {
            let Ok(Some(Presented::Bearer(token))) = authn::presented(&head.headers, None) else {
                return Err(Refused::Opaque { asked }.into());
            };
            let said = worker.introspector().ask(&asked, authn::text_of_token(token)?).await;
            let policy = worker.policy();
            let service = service(&policy, &from.entrance)?;
            tenant::learn(worker, &policy, service, head, (record.source(), record.begun()), said.as_deref())?;
            Ok(policy)
        }
        refused => Err(refused.into()),
    }
}

/// From a head to the permission to go on, or to what it is answered here. Waits for nothing.
fn admit(
    worker: &Worker,
    policy: &Policy,
    service: &Service,
    (head, look): (&Head, Look),
    body: &Body,
    record: &mut Record,
) -> Result<Passed, Refusal> {
    let (now, source) = (record.begun(), record.source());
    let claim = tenant::claim(worker, policy, service, &head.host)?; // whom the request names
    if let Some(tenant) = claim.tenant() {
        record.of_tenant(tenant);
    }
    let is_named = claim.tenant().is_some();
    // Before the credential: a preflight has none, and a page must be able to read why it is refused.
    if let Some(cors) = claim.tenant().map_or(policy.snapshot.platform().cors(), |tenant| tenant.slice.policy().cors()) {
        record.crosses(Crossing::of(cors, &head.headers));
        if cors::preflight(cors, head)? {
            return Ok(Passed::Answered(Own::Preflight));
        }
    }
    let route = match head.target {
        Target::Path(_) => service.route(head.path()),
        Target::Service => None,
    };
    // Before the decision: it takes proof, and verifying is the one costly step; `authn` bounds it per source.
    let proof = tenant::prove(worker, policy, &claim, route, (head, record.from().shown()), source, now)
        .or_else(|refusal| shadow::unproven(policy, &claim, route, (refusal, look), record))?;
    let proved = tenant::bind(worker, policy, claim, proof)?; // named and proved must agree
    record.of_tenant(proved.tenant());
    if let Some(cors) = proved.slice().policy().cors().filter(|_| !is_named) {
        record.crosses(Crossing::of(cors, &head.headers));
    }
    if let Some(proof) = proved.proof() {
        record.from_principal(proof);
    }
    if let Some(route) = route {
        record.takes(route);
    }
    let bounds = proved.slice().policy().bounds();
    within(policy.snapshot.platform().bounds(), bounds, head)?;
    if head.target == Target::Service {
        return asks_about_service(&proved);
    }
    // Pure, waits for nothing, charges nothing: explain, replay and the decision tables run this same line.
    let principal = proved.proof().map(|proof| (proof.principal(), proof.roles(proved.slice().policy())));
    let asked = head.asked(body.length());
    if let Some(route) = route {
        record.keep(proved.slice().policy().keep(route.index, &asked));
    }
    let facts = Facts { route, method: &head.method, path: head.path(), source, principal, now: now.unix(), asked };
    let permit = decide(proved.slice(), &facts, &mut NoTrace).or_else(|_| shadow::permit(policy, &proved, &facts, record))?;
    // A length that is known to be too large costs the tenant nothing.
    if body.length().is_some_and(|length| length > bounds.body_bytes_max) {
        return Err(Refusal::BodyTooLarge);
    }
    if let (Some(new), Target::Path(target)) = (rewritten(permit.route()), &head.target)
        && !new.fits(target)
    {
        return Err(Refusal::TargetTooLong);
    }
    // After the decision: what is refused costs the tenant nothing.
    let receipts = take(policy, &proved, &permit, record)?;
    record.admitted(receipts);
    if let Some(answered) = &permit.route().answered {
        let scheme = forwarded::scheme(record.from(), policy.snapshot.platform().trusted_hops(), head.found, &head.headers);
        if let Some(own) = answered::own(answered, head, scheme) {
            return Ok(Passed::Answered(own));
        }
    }
    Ok(Passed::On(Admitted { proved, permit }))
}

/// What takes the place of its path at the upstream.
fn rewritten(route: &Route) -> Option<&NewPath> {
    route.rewrite.as_ref()?.path.as_ref()
}

/// A tenant may want smaller heads than the platform, whose bounds the engine keeps; HTTP/2's knows of bytes only.
fn within(platform: &Bounds, tenant: &Bounds, head: &Head) -> Result<(), Refusal> {
    let count = u32::try_from(head.headers.len()).unwrap_or(u32::MAX);
    // A field takes two bytes for `: ` and two for the end of its line.
    let bytes = || head.headers.iter().map(|field| field.name.len() as u64 + field.value.len() as u64 + 4).sum::<u64>();
    let too_many = count > tenant.headers_max.min(platform.headers_max);
    let too_large = tenant.header_bytes_max < platform.header_bytes_max && bytes() > tenant.header_bytes_max;
    if too_many || too_large { Err(Refusal::HeadTooLarge) } else { Ok(()) }
}

/// `OPTIONS *` is answered to whoever proved to be of a tenant that is served.
fn asks_about_service(proved: &Proved) -> Result<Passed, Refusal> {
    let state = proved.slice().state();
    match proved.proof() {
        _ if !state.is_served() => Err(bulkhead_config::decide::Denial::NotServed(state).into()),
        Some(_) => Ok(Passed::Answered(Own::Options)),
        None => Err(Refusal::MissingCredential),
    }
}

/// Takes the request out of every limit that counts it.
fn take(policy: &Policy, proved: &Proved, permit: &Permit, record: &mut Record) -> Result<Receipts, Refusal> {
    let principal = proved.proof().map(|proof| proof.principal());
    let user = principal.map(|principal| &*principal.user);
    let api_key = principal.and_then(|principal| match &principal.credential {
        Credential::ApiKey(id) => Some(id.as_str()),
        Credential::Token { .. } | Credential::Certificate(_) => None,
    });
    let ask = Ask { route: permit.route().index, proven: principal.is_some(), user, api_key, source: record.source() };
    let taken = proved.tenant().limits.take(&ask, record.begun());
    taken.or_else(|_| shadow::receipts(policy, proved, permit.route(), &ask, record))
}

/// The request as the upstream gets it.
fn compose(
    worker: &Worker,
    from: &Rc<Downstream>,
    policy: &Policy,
    admitted: Admitted,
    (head, trace): (Head, (Trace, Came)),
    body: Body,
    record: &mut Record,
) -> Ready {
    let Admitted { proved, permit } = &admitted;
    let (route, bounds) = (permit.route(), proved.slice().policy().bounds());
    let wire = Wire::of(&route.upstream, &head.headers);
    let grpc_timeout = grpc::timeout(&head.headers);
    // A call is a stream of messages, which may last for days; what it may hold is bounded by the windows, not by its length.
    let body_bytes_max = if grpc::is_grpc(&head.headers) { u64::MAX } else { bounds.body_bytes_max };
    let messages = route.grpc_message_bytes_max.filter(|_| grpc::is_grpc(&head.headers));
    let upload = Upload::new(body, body_bytes_max, messages);
    record.uploads(upload.progress());
    let sending = Sending {
        from,
        platform: policy.snapshot.platform(),
        route,
        proven: proved.proof().map(|proof| (&**proved.tenant(), proof)),
        is_passed_unproven: record.is_passed_unproven(),
        decision: record.decision(),
        source: record.source(),
        trace,
        wire,
    };
    let mut request = outgoing::request(head, upload, &sending, worker.buffers().take_request());
    if let Some(rewrite) = &route.rewrite {
        record.goes_as(answered::rewrite(rewrite, &mut request));
    }
    Ready { admitted, wire, grpc_timeout, request }
}

/// From the permission to the head of an answer.
async fn fulfil(worker: &Worker, from: &Rc<Downstream>, ready: Ready, record: &mut Record) -> Result<Answer, Refusal> {
    let Ready { admitted: Admitted { proved, permit }, wire, grpc_timeout, request } = ready;
    let (route, bounds) = (permit.route(), proved.slice().policy().bounds());
    let arrived = pin!(upstream::forward(worker, from, &route.upstream, wire, bounds, grpc_timeout, request));
    let arrived = standing::while_it_holds(record, arrived).await?;
    match &route.response_tenant {
        None => Ok(Answer::Arrived(arrived)),
        // Boxed: most routes do not ask for it.
        Some(asked) => {
            let has_body = *record.method() != Method::HEAD;
            let mut stopping = Box::pin(leak::stop(asked, proved.slice().id().as_str(), has_body, arrived));
            Ok(Answer::Arrived(standing::while_it_holds(record, stopping.as_mut()).await?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a request in flight takes on top of its record and buffers; the type is enough, so none is made.
    fn future<'a, F: Future>(_: impl Fn(&'a Rc<Worker>, &'a Rc<Downstream>, Begun) -> F) -> usize {
        size_of::<F>()
    }

    /// It is moved into place with every request, with all that a rare turn of it could need.
    #[test]
    fn a_request_in_flight_takes_at_most_3400_bytes() {
        let size = future(serve);
        assert!(size <= 3_400, "{size} bytes: what is held while the upstream is awaited has grown");
    }
}
