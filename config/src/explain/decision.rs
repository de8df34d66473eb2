//! Facts into an explanation: decides with a trace, then says what it heard.

use super::{Bound, Explanation, HeldRole, TenantFacts, Verdict};
use crate::compile::binding;
use crate::decide::{Denial, Facts, Miss, Misses, Permitted, Trace, decide, decide_in_shadow};
use crate::declared::{Per, TenantState};
use crate::diagnostic::nearest;
use crate::path::Pattern;
use crate::snapshot::{Access, Effect, Platform, Policy, Principal, RoleSet, Route, RuleId, Scope, Shadow, Slice, SliceState, Snapshot};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Nearest misses that are told.
const NEAREST_MAX: usize = 3;

pub(super) fn explain(snapshot: &Snapshot, slice: &Slice, facts: &Facts<'_>) -> Explanation {
    let mut heard = Heard::default();
    let decided = decide(slice, facts, &mut heard);
    let request = format!("{} {}", facts.method, facts.path);
    let mut explanation = match &decided {
        Ok(permit) => {
            let because = match permit.ground() {
                Permitted::Public => format!("route `{}` is public", permit.route().name),
                Permitted::Rule | Permitted::Shadow => heard.allowed_by(),
            };
            let (rule, values) = heard.deciding(Effect::Allow);
            Explanation { rule, values, ..Explanation::new(snapshot, request, Verdict::Allowed, because) }
        }
        Err(first) => {
            let (denial, is_passed) = enforced(snapshot, slice, facts, first);
            let (status, problem) = problem(&denial);
            let verdict = Verdict::Refused { status, problem };
            let verdict = if is_passed { verdict.in_shadow() } else { verdict };
            let denial = &denial;
            let because = because(slice, facts, denial);
            let nearest = match denial {
                Denial::NoRoute => nearest_routes(snapshot.platform(), facts.path),
                Denial::NotPermitted => heard.nearest(slice.policy(), facts),
                _ => Vec::new(),
            };
            let (rule, values) = match denial {
                Denial::Denied(_) => heard.deciding(Effect::Deny),
                _ => (None, Vec::new()),
            };
            Explanation { rule, values, nearest, ..Explanation::new(snapshot, request, verdict, because) }
        }
    };
    explanation.tenant = Some(tenant(slice));
    explanation.route = facts.route.cloned();
    if let Some((principal, held)) = facts.principal {
        explanation.roles = roles(slice.policy(), principal, held);
    }
    if let Some(route) = facts.route
        && (decided.is_ok() || matches!(explanation.verdict, Verdict::Shadow { .. }))
    {
        explanation.becomes = becomes(route, facts.path);
        add_limits(&mut explanation, slice, route, facts.principal.is_some());
    }
    explanation
}

/// The denial that a request is refused with, or else its first, which is in shadow; and whether it is passed.
fn enforced(snapshot: &Snapshot, slice: &Slice, facts: &Facts<'_>, first: &Denial) -> (Denial, bool) {
    let shadow = Shadow::of(snapshot.platform(), slice, facts.route.map(|route| &**route));
    match decide_in_shadow(slice, facts, shadow, |_| ()) {
        Ok(_) => (first.clone(), true),
        Err(enforced) => (enforced, false),
    }
}

/// What becomes of a request that is admitted, where it does not go up as it came.
fn becomes(route: &Route, path: &str) -> Option<String> {
    let answered = route.answered.as_ref().map(|answered| answered.show(path));
    answered.or_else(|| Some(format!("goes up as {}", route.rewrite.as_ref()?.show(path))))
}

/// Every rule on the route, with what about the request it does not match.
#[derive(Default)]
struct Heard(Vec<Asked>);

/// A rule that was asked.
struct Asked {
    rule: Arc<RuleId>,
    misses: Misses,
    /// What its matchers and its condition miss, in words.
    lacks: Vec<String>,
    /// What its condition read.
    values: Vec<String>,
}

impl Trace for Heard {
    const LISTENS: bool = true;
    fn rule(&mut self, rule: &Arc<RuleId>, misses: Misses) {
        self.0.push(Asked { rule: Arc::clone(rule), misses, lacks: Vec::new(), values: Vec::new() });
    }
    fn values(&mut self, values: Vec<String>) {
        if let Some(last) = self.0.last_mut() {
            last.values = values;
        }
    }
    fn lacks(&mut self, what: Vec<String>) {
        if let Some(last) = self.0.last_mut() {
            last.lacks = what;
        }
    }
}

impl Heard {
    /// The rule that decided, and what its condition read.
    fn deciding(&self, effect: Effect) -> (Option<Arc<RuleId>>, Vec<String>) {
        let decided = self.0.iter().find(|asked| asked.rule.effect == effect && asked.misses.is_match());
        decided.map_or_else(Default::default, |asked| (Some(Arc::clone(&asked.rule)), asked.values.clone()))
    }

    fn allowed_by(&self) -> String {
        self.deciding(Effect::Allow).0.map_or_else(String::new, |rule| format!("{} allows it", named(&rule)))
    }

    /// Rules that would allow it but for the fewest things.
    fn nearest(&self, policy: &Policy, facts: &Facts<'_>) -> Vec<String> {
        let mut allows: Vec<_> = self.0.iter().filter(|asked| asked.rule.effect == Effect::Allow).collect();
        allows.sort_by_key(|asked| (asked.misses.iter().count(), asked.misses));
        allows.into_iter().take(NEAREST_MAX).map(|asked| miss(asked, policy, facts)).collect()
    }
}

/// `role "reader" by "GET /v1/items" (platform.yaml:58)`.
fn named(rule: &RuleId) -> String {
    format!("role `{}` by `{}` ({}:{})", rule.role, rule.text, rule.file, rule.line)
}

/// What a rule that does not match lacks.
fn miss(asked: &Asked, policy: &Policy, facts: &Facts<'_>) -> String {
    let rule = &asked.rule;
    let held = facts.principal.map_or(RoleSet::EMPTY, |(_, held)| held);
    let lacks: Vec<String> = asked
        .misses
        .iter()
        .map(|miss| match miss {
            Miss::Role => match policy.roles_in(held).map(|role| format!("`{}`", role.name)).collect::<Vec<_>>() {
                names if names.is_empty() => "the principal holds no role".to_owned(),
                names => format!("the principal holds only {}", names.join(", ")),
            },
            // Both are told in one: first what the matchers lack, then the condition.
            Miss::Condition if asked.misses.has(Miss::Matchers) => String::new(),
            Miss::Matchers | Miss::Condition => asked.lacks.join(" and "),
            Miss::Time => "it is another time".to_owned(),
            // A question that names none.
            Miss::Source if facts.source.is_unspecified() => "no source address is given".to_owned(),
            Miss::Source => format!("the request comes from {}", facts.source),
            Miss::Path => format!("the path is `{}`", facts.path),
            Miss::Method => format!("the method is {}", facts.method),
        })
        .filter(|lack| !lack.is_empty())
        .collect();
    format!("role `{}` would allow it by `{}` ({}:{}), but {}", rule.role, rule.text, rule.file, rule.line, lacks.join(" and "))
}

/// Status and code of the answer to a denial: the same the sidecar gives.
fn problem(denial: &Denial) -> (u16, &'static str) {
    match denial {
        Denial::NotServed(SliceState::Held) => (503, "policy_held"),
        Denial::NotServed(SliceState::Declared(_)) => (403, "tenant_suspended"),
        Denial::NoRoute => (404, "no_route"),
        Denial::NoCredential => (401, "missing_credential"),
        Denial::FeatureMissing(_) => (403, "feature_required"),
        Denial::Denied(_) => (403, "denied_by_rule"),
        Denial::NotPermitted => (403, "not_permitted"),
    }
}

fn because(slice: &Slice, facts: &Facts<'_>, denial: &Denial) -> String {
    let id = slice.id();
    match denial {
        Denial::NotServed(SliceState::Held) => {
            format!("no version of the documents of tenant `{id}` can be served; `bulkhead status` says why")
        }
        Denial::NotServed(SliceState::Declared(TenantState::Offboarding)) => format!("tenant `{id}` is being taken down"),
        Denial::NotServed(SliceState::Declared(_)) => format!("tenant `{id}` is suspended"),
        Denial::NoRoute => format!("no route has path `{}`", facts.path),
        Denial::NoCredential => "the route asks for a credential, and there is none".to_owned(),
        Denial::FeatureMissing(feature) => format!("the route requires feature `{feature}`, which neither tenant nor plan has"),
        Denial::Denied(rule) => format!("{} denies it, and a deny beats every allow", named(rule)),
        Denial::NotPermitted => "no rule of a role that the principal holds allows it".to_owned(),
    }
}

fn tenant(slice: &Slice) -> TenantFacts {
    TenantFacts { id: slice.id().clone(), plan: slice.plan().cloned(), state: slice.state(), features: slice.features().to_vec() }
}

/// The roles a principal holds, each with the bindings that give it.
fn roles(policy: &Policy, principal: &Principal, held: RoleSet) -> Vec<HeldRole> {
    let bindings: Vec<_> = policy.bindings().filter(|known| binding::binds(known, principal)).collect();
    let bound = |bit: usize| {
        let giving = bindings.iter().filter(move |binding| binding.grants.has(bit));
        let name = |role: usize| policy.roles().get(role).map(|info| info.name.clone());
        giving.map(move |binding| Bound {
            name: binding.name.to_string(),
            place: binding.place.clone(),
            through: name(binding.role).filter(|_| binding.role != bit),
        })
    };
    let roles = held.bits().filter_map(|bit| Some((bit, policy.roles().get(bit)?)));
    roles.map(|(bit, info)| HeldRole { name: info.name.clone(), scope: info.scope, by: bound(bit).collect() }).collect()
}

/// Limits that would count the request. What nobody proved is charged to no tenant.
fn add_limits(explanation: &mut Explanation, slice: &Slice, route: &Route, is_proven: bool) {
    let counts = |limit: &crate::snapshot::LimitSpec| is_proven || limit.names_routes || limit.per == Per::ClientAddress;
    let limits = slice.policy().limits_of(route.index).iter().filter_map(|&place| slice.policy().limits().get(place as usize));
    explanation.limits = limits.filter(|limit| counts(limit)).cloned().collect();
    explanation.api_quota_per_hour = slice.api_quota_per_hour().filter(|_| is_proven);
}

/// Routes whose paths are nearest to one that has none.
fn nearest_routes(platform: &Platform, path: &str) -> Vec<String> {
    let mut as_written: BTreeMap<String, Vec<&Route>> = BTreeMap::new();
    for route in &platform.routes {
        as_written.entry(filled_in(&route.pattern, path)).or_default().push(route);
    }
    let mut found = Vec::new();
    while found.len() < NEAREST_MAX {
        let Some(near) = nearest(path, as_written.keys().map(String::as_str)).map(str::to_owned) else { break };
        for route in as_written.remove(&near).into_iter().flatten() {
            let public = if route.access == Access::Public { ", public" } else { "" };
            found.push(format!("route `{}` of service `{}` has `{}`{public}", route.name, route.upstream.service, route.pattern));
        }
    }
    found.truncate(NEAREST_MAX);
    found
}

/// A pattern with its parameters filled in from a path, as far as it has segments, so that only what differs counts.
fn filled_in(pattern: &Pattern, path: &str) -> String {
    let pattern = pattern.to_string();
    let mut theirs = path.split('/').skip(1);
    let mut filled = String::new();
    for segment in pattern.split('/').skip(1) {
        let found = theirs.next().unwrap_or_default();
        filled.push('/');
        match segment {
            "**" => {
                filled.push_str(found);
                theirs.by_ref().for_each(|more| filled = format!("{filled}/{more}"));
            }
            _ if segment.starts_with('{') && !found.is_empty() => filled.push_str(found),
            _ => filled.push_str(segment),
        }
    }
    filled
}

/// Whose something is, in a word.
pub(super) fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Platform => "platform",
        Scope::Tenant => "tenant",
    }
}
