//! Explain: why a described request would get through or not, and why a remembered one did or did not.
//!
//! A remembered decision is explained by the slice and the roles it was made with, whatever changed since.

use crate::clock::Now;
use crate::operator_http::Problem;
use crate::telemetry::decisions::DecisionId;
use bulkhead_config::condition::{Kept, NOTHING};
use bulkhead_config::decide::Facts;
use bulkhead_config::explain::{Explanation, Question, Verdict, explain, explain_facts};
use bulkhead_config::snapshot::{Epoch, Principal, RoleSet, Route, Slice, Snapshot};
use bulkhead_config::unit::UnixSeconds;
use http::StatusCode;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A remembered decision on its way to whoever explains it.
#[derive(Debug, Clone)]
pub struct Replay {
    /// Its name.
    pub id: DecisionId,
    /// When it was made.
    pub at: Now,
    /// The client's address.
    pub source: IpAddr,
    /// The method.
    pub method: http::Method,
    /// The host.
    pub host: String,
    /// The path in normal form.
    pub path: String,
    /// Whether the path was too long to be remembered whole.
    pub path_is_cut: bool,
    /// The tenant's slice, once one was named or proved.
    pub slice: Option<Arc<Slice>>,
    /// The route.
    pub route: Option<Arc<Route>>,
    /// What rules with conditions read of the request.
    pub kept: Option<Arc<Kept>>,
    /// Who was proved, with the roles they held.
    pub principal: Option<(Principal, RoleSet)>,
    /// The code of the refusal, and its status.
    pub refusal: Option<(&'static str, StatusCode)>,
    /// What was wrong, where the code alone does not say it.
    pub why: Option<String>,
    /// Whether that was only recorded, and it went on.
    pub is_passed: bool,
    /// How long it had been going on, where it was refused after it had begun.
    pub lasted: Option<Duration>,
    /// The policy it was decided under.
    pub epoch: Epoch,
}

/// Answers a question as JSON; `now` is the time of a question that gives none.
pub(super) fn question(snapshot: &Snapshot, body: &[u8], now: UnixSeconds) -> Result<Value, Problem> {
    let question = Question::from_json(body, now).map_err(|detail| Problem {
        status: StatusCode::BAD_REQUEST,
        code: "invalid_question",
        detail,
        fix: "send a JSON object with at least `method` and `path`".to_owned(),
    })?;
    Ok(explain(snapshot, &question).to_json())
}

/// An explanation with the members that a question's has, and `decision`: what was asked and what became of it.
pub(super) fn decision(snapshot: &Snapshot, replay: &Replay) -> Value {
    let mut told = explanation(snapshot, replay);
    if let Some(lasted) = replay.lasted {
        told.because = format!("it was allowed, and ended after {lasted:.1?}, when it would have been refused: {}", told.because);
    }
    let mut answer = told.to_json();
    if let Some(members) = answer.as_object_mut() {
        members.insert("decision".to_owned(), asked(replay));
    }
    answer
}

fn explanation(snapshot: &Snapshot, replay: &Replay) -> Explanation {
    let Some(slice) = &replay.slice else { return without_tenant(snapshot, replay) };
    let mut told = explain_facts(snapshot, slice, &facts(replay));
    told.epoch = replay.epoch;
    if replay.is_passed {
        return passed(told, replay);
    }
    match (replay.refusal, told.verdict) {
        (None, Verdict::Allowed) => {}
        // The rules decided it, and the replay says which.
        (Some((code, _)), Verdict::Refused { problem, .. }) if problem == code => {}
        (Some((code, status)), rules) => {
            let refused = refused(code, replay);
            told.because = match rules {
                Verdict::Allowed => format!("{refused}; the rules allow it: {}", told.because),
                _ => format!("before the rules were asked {refused}"),
            };
            told.verdict = Verdict::Refused { status: status.as_u16(), problem: code };
            told.nearest.clear();
        }
        (None, _) if replay.path_is_cut => {
            told.because = "it was allowed; its path was too long to be remembered whole, so the rule cannot be told".to_owned();
            told.verdict = Verdict::Allowed;
            told.nearest.clear();
        }
        // Facts and policy are the same, so this cannot be; and if it is, nobody shall take the replay for what happened.
        (None, _) => {
            told.because = format!("it was allowed, and its replay is not: {}; please report this defect", told.because);
            told.verdict = Verdict::Allowed;
        }
    }
    told
}

/// It went on, and would have been refused: by the rules, or by what comes before and after them.
fn passed(mut told: Explanation, replay: &Replay) -> Explanation {
    let Some((code, status)) = replay.refusal else { return told };
    let by_rules = matches!(told.verdict, Verdict::Shadow { problem, .. } | Verdict::Refused { problem, .. } if problem == code);
    if !by_rules || replay.why.is_some() {
        let why = replay.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        told.because = format!("it would have been refused with `{code}`{why}");
        told.nearest.clear();
    }
    told.verdict = Verdict::Refused { status: status.as_u16(), problem: code }.in_shadow();
    told
}

fn refused(code: &str, replay: &Replay) -> String {
    match &replay.why {
        Some(why) => format!("it was refused with `{code}`: {why}"),
        None => format!("it was refused with `{code}`"),
    }
}

/// No rule was asked: there was nobody whose rules to ask.
fn without_tenant(snapshot: &Snapshot, replay: &Replay) -> Explanation {
    let (verdict, because) = match replay.refusal {
        Some((code, status)) => {
            let verdict = Verdict::Refused { status: status.as_u16(), problem: code };
            (verdict, format!("before a tenant was known {}", refused(code, replay)))
        }
        None => (Verdict::Allowed, "it was answered without a tenant".to_owned()),
    };
    let request = format!("{} {}", replay.method, replay.path);
    Explanation { epoch: replay.epoch, ..Explanation::new(snapshot, request, verdict, because) }
}

fn facts(replay: &Replay) -> Facts<'_> {
    Facts {
        route: replay.route.as_ref(),
        method: &replay.method,
        path: &replay.path,
        source: replay.source,
        principal: replay.principal.as_ref().map(|(principal, held)| (principal, *held)),
        now: replay.at.unix(),
        asked: replay.kept.as_ref().map_or(NOTHING, |kept| kept.asked(replay.host.as_bytes())),
    }
}

fn asked(replay: &Replay) -> Value {
    let at = i64::try_from(replay.at.unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    json!({
        "id": replay.id.to_string(),
        "at": at.map(|at| format!("{at:.3}")),
        "source": replay.source.to_string(),
        "method": replay.method.as_str(),
        "host": replay.host,
        "path": replay.path,
        "path_is_cut": replay.path_is_cut,
        "user": replay.principal.as_ref().map(|(principal, _)| &*principal.user),
        "outcome": match replay.refusal {
            Some(_) if replay.is_passed => "shadow",
            Some(_) => "refused",
            None => "allowed",
        },
        "code": replay.refusal.map(|(code, _)| code),
        "lasted_ms": replay.lasted.map(|lasted| u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX)),
        "epoch": { "incarnation": replay.epoch.incarnation, "revision": replay.epoch.revision },
    })
}
