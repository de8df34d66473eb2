//! Refusal: why a request is not served, with the problem its client is told and the fault it is.
//!
//! Cost: per refusal.

use super::authn::Refused;
use super::cors::NotAllowed;
use super::head::Ambiguous;
use super::leak::Leak;
use super::quota::Exceeded;
use super::record::Record;
use super::upstream::Failed;
use crate::problem::{Code, Problem};
use bulkhead_config::decide::Denial;
use bulkhead_config::snapshot::SliceState;
use http::{HeaderName, HeaderValue, header};

pub(super) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub(super) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is remembered of why: parts of it may be a client's words.
const WHY_BYTES_MAX: usize = 512;
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"bulkhead\"");
/// `Retry-After` of who found no place: nobody knows when a request ends, and a second is the least that can be said.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("1");

/// Why a request is not served.
#[derive(Debug)]
pub enum Refusal {
    /// It can be read in two ways.
    Ambiguous(Ambiguous),
    /// It expects what is not known here.
    Expectation,
    /// Its head is larger than the tenant's policy allows.
    HeadTooLarge,
    /// Its target is longer than the upstream can be asked for.
    TargetTooLong,
    /// Its host is nobody's.
    UnknownTenant,
    /// Its host names nobody, and nothing is proved.
    MissingCredential,
    /// Its credential proves nobody.
    Credential(Refused),
    /// It names one tenant and proves another; the answer names neither.
    OtherTenant,
    /// Pages of other origins may not ask for it.
    CrossOrigin(NotAllowed),
    /// The decision.
    Denied(Denial),
    /// A limit is used up.
    Quota(Exceeded),
    /// Its body is too large.
    BodyTooLarge,
    /// A message of its call is too large.
    MessageTooLarge,
    /// Its body stood still.
    BodyTimeout,
    /// Its client broke off; nobody reads the answer.
    ClientLeft,
    /// The upstream failed.
    Upstream(Failed),
    /// Its answer is another tenant's, or nobody can tell whose it is.
    Leak(Box<Leak>),
    /// Its listener's service is no longer declared.
    NoService,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Refusal::Credential(refused)
    }
}

impl From<NotAllowed> for Refusal {
    fn from(not: NotAllowed) -> Self {
        Refusal::CrossOrigin(not)
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Refusal::Denied(denial)
    }
}

impl From<Exceeded> for Refusal {
    fn from(exceeded: Exceeded) -> Self {
        Refusal::Quota(exceeded)
    }
}

impl Refusal {
    /// The kind of problem.
    #[must_use]
    pub fn code(&self) -> Code {
        let known = |slug: &str| Code::from_slug(slug).unwrap_or(Code::InternalError);
        match self {
            Refusal::Ambiguous(_) => Code::AmbiguousRequest,
            Refusal::Expectation => Code::ExpectationFailed,
            Refusal::HeadTooLarge => Code::HeadTooLarge,
            Refusal::TargetTooLong => Code::TargetTooLong,
            Refusal::UnknownTenant => Code::UnknownTenant,
            Refusal::MissingCredential => Code::MissingCredential,
            Refusal::Credential(refused) => known(refused.problem_type()),
            Refusal::OtherTenant => Code::OtherTenant,
            Refusal::CrossOrigin(_) => Code::CrossOriginRefused,
            Refusal::Denied(denial) => code_of(denial),
            Refusal::Quota(exceeded) => known(exceeded.problem_type()),
            Refusal::BodyTooLarge => Code::BodyTooLarge,
            Refusal::MessageTooLarge => Code::MessageTooLarge,
            Refusal::BodyTimeout => Code::BodyTimeout,
            // Written down, never read.
            Refusal::ClientLeft => Code::BodyTimeout,
            Refusal::Upstream(failed) => failed.step.problem().0,
            Refusal::Leak(leak) if leak.is_of_another() => Code::TenantLeak,
            Refusal::Leak(_) => Code::TenantUnseen,
            Refusal::NoService => Code::NoRoute,
        }
    }

    /// What was wrong, for whoever asks `explain` later: more than its client is told. None where code and rules say it all.
    #[must_use]
    pub fn why(&self) -> Option<Box<str>> {
        let mut why = match self {
            Refusal::Ambiguous(ambiguous) => ambiguous.to_string(),
            Refusal::Credential(refused) => refused.to_string(),
            Refusal::CrossOrigin(not) => not.to_string(),
            Refusal::Quota(exceeded) => exceeded.to_string(),
            Refusal::Leak(leak) => leak.to_string(),
            Refusal::Upstream(failed) => match failed.cause() {
                "" => format!("the upstream failed at step `{}`", failed.step.label()),
                cause => format!("the upstream failed at step `{}`: {cause}", failed.step.label()),
            },
            _ => return None,
        };
        why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
        Some(why.into())
    }

    /// What its client is told.
    #[must_use]
    pub fn problem(&self, record: &Record) -> Problem {
        let problem = Problem::of(self.code()).decision(record.decision());
        match self {
            Refusal::Ambiguous(ambiguous) => problem.detail(sentence(ambiguous)).place(ambiguous.place()).fix(ambiguous.fix()),
            Refusal::Expectation => problem.place("header Expect"),
            Refusal::HeadTooLarge => problem.place("the request's header fields"),
            Refusal::TargetTooLong => problem.place("the request's target"),
            Refusal::UnknownTenant => problem.place("header Host"),
            Refusal::MissingCredential => problem.place("header Authorization").header(header::WWW_AUTHENTICATE, CHALLENGE),
            Refusal::Credential(refused) => credential(problem, refused),
            Refusal::OtherTenant => problem.place("header Host and the credential"),
            Refusal::CrossOrigin(not) => problem.detail(sentence(not)).place(not.place()),
            Refusal::Denied(denial) => denied(problem, denial, record),
            Refusal::Quota(exceeded) => quota(problem, exceeded),
            // Who has closed one direction may listen in the other.
            Refusal::ClientLeft => problem.detail("The connection ended before the request's body did.").place("the request's body"),
            Refusal::BodyTooLarge | Refusal::MessageTooLarge | Refusal::BodyTimeout => problem.place("the request's body"),
            Refusal::Upstream(failed) => upstream(problem, failed),
            Refusal::Leak(_) | Refusal::NoService => problem,
        }
    }
}

fn code_of(denial: &Denial) -> Code {
    match denial {
        Denial::NotServed(SliceState::Held) => Code::PolicyHeld,
        Denial::NotServed(SliceState::Declared(_)) => Code::TenantSuspended,
        Denial::NoRoute => Code::NoRoute,
        Denial::NoCredential => Code::MissingCredential,
        Denial::FeatureMissing(_) => Code::FeatureRequired,
        Denial::Denied(_) => Code::DeniedByRule,
        Denial::NotPermitted => Code::NotPermitted,
    }
}

fn credential(problem: Problem, refused: &Refused) -> Problem {
    let mut problem = problem.detail(sentence(refused)).place(refused.place()).fix(sentence(refused.fix()));
    if let Some(challenge) = refused.www_authenticate().and_then(|challenge| HeaderValue::try_from(&*challenge).ok()) {
        problem = problem.header(header::WWW_AUTHENTICATE, challenge);
    }
    match refused.retry_after() {
        // Whole seconds, and never zero: a client that takes it at its word must not come back at once.
        Some(wait) => problem.header(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1))),
        None => problem,
    }
}

/// Names what the caller holds and asked for, nothing of the rules: what they allow is the tenant's business, and the decision
/// id leads those who may know to it.
fn denied(problem: Problem, denial: &Denial, record: &Record) -> Problem {
    match denial {
        Denial::NoRoute => {
            problem.detail(format!("The service has no route for `{}`.", record.path())).place("the path of the request's target")
        }
        Denial::NoCredential => problem.place("header Authorization").header(header::WWW_AUTHENTICATE, CHALLENGE),
        Denial::FeatureMissing(feature) => {
            problem.detail(format!("The route demands the feature `{feature}`, which the tenant does not have."))
        }
        Denial::NotPermitted => {
            let (method, path) = (record.method(), record.path());
            match record.role_names() {
                roles if roles.is_empty() => problem.detail(format!("`{method} {path}` needs a role, and the caller holds none.")),
                roles => problem.detail(format!("No role that the caller holds ({roles}) allows `{method} {path}`.")),
            }
        }
        Denial::Denied(_) => {
            let (method, path) = (record.method(), record.path());
            problem.detail(format!("A rule of a role that the caller holds denies `{method} {path}`, whatever else is allowed."))
        }
        Denial::NotServed(_) => problem,
    }
}

fn quota(problem: Problem, exceeded: &Exceeded) -> Problem {
    let mut problem = problem
        .detail(sentence(exceeded))
        .fix(sentence(exceeded.fix()))
        .violated([exceeded.about.name.clone()])
        .header(header::RETRY_AFTER, HeaderValue::from(exceeded.retry_after()));
    if let Some(fields) = exceeded.fields() {
        problem = problem.header(RATE_LIMIT, fields.rate_limit).header(RATE_LIMIT_POLICY, fields.rate_limit_policy);
    }
    problem
}

fn upstream(problem: Problem, failed: &Failed) -> Problem {
    let problem = problem.detail(failed.step.told()).proxy_error(failed.step.problem().1);
    if problem.code() == Code::UpstreamOverloaded { problem.header(header::RETRY_AFTER, ASK_AGAIN) } else { problem }
}

/// An error's words as a sentence.
fn sentence(words: impl std::fmt::Display) -> String {
    let words = words.to_string();
    let mut rest = words.chars();
    let first = rest.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let end = if words.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", rest.as_str())
}

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn an_errors_words_become_a_sentence() {
        for (words, expected) in [("it names no host", "It names no host."), ("`a` stands twice.", "`a` stands twice."), ("", ".")] {
            assert_eq!(sentence(words), expected);
        }
    }
}
