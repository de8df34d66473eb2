//! Shadow: what went on that would have been refused, and what to declare so that it may.
//!
//! A proposal never reaches further than what was seen: the paths that were asked for where these are few, or the route's where they
//! are not; one principal; one tenant. What would open a door to strangers, or undo a rule that somebody wrote, is named and left to
//! people.

use crate::request::quota::Kind;
use crate::request::shadow::{Beyond, Cause, Finding, Findings, Who};
use bulkhead_config::name::TenantId;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Bytes of a principal's name in the name of a document; names have at most 63.
const SLUG_BYTES_MAX: usize = 40;

/// What all workers found, as JSON.
pub(super) fn report(found: &Findings) -> Value {
    let mut sorted: Vec<&Finding> = found.findings.iter().collect();
    sorted.sort_by(|a, b| (b.requests, &a.tenant, a.first_ms).cmp(&(a.requests, &b.tenant, b.first_ms)));
    let Proposals { proposed, left } = Proposals::of(&sorted, found);
    json!({
        "requests": found.requests,
        "only_counted": found.uncounted,
        "findings": sorted.iter().map(|finding| told(finding)).collect::<Vec<_>>(),
        "proposals": proposed,
        "not_proposed": left,
    })
}

fn told(finding: &Finding) -> Value {
    let (code, status) = finding.code;
    let at = |ms: u64| i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).map(|at| format!("{at:.3}"));
    let (kind, name) = named(&finding.who);
    json!({
        "tenant": finding.tenant.as_str(),
        "service": finding.route.upstream.service.as_str(),
        "route": finding.route.name.as_str(),
        "method": finding.method.as_ref().map(http::Method::as_str),
        "principal": { "kind": kind, "name": name },
        "code": code,
        "status": status,
        "reason": reason(finding),
        "requests": finding.requests,
        "first": at(finding.first_ms),
        "last": at(finding.last_ms),
        "decision": finding.decision.to_string(),
        "paths": finding.paths,
        "has_more_paths": finding.has_more_paths,
    })
}

fn named(who: &Who) -> (&'static str, Option<&str>) {
    match who {
        Who::Nobody => ("nobody", None),
        Who::User(user, _) => ("user", Some(user)),
        Who::ApiKey(id) => ("api_key", Some(id.as_str())),
        Who::Workload(user) => ("workload", Some(user)),
        Who::Others => ("others", None),
    }
}

/// Why it would have been refused, in words.
fn reason(finding: &Finding) -> String {
    match (&finding.cause, &finding.why) {
        (Cause::Credential(_), Some(why)) => why.to_string(),
        (Cause::Credential(code), None) => format!("the credential: `{code}`"),
        (Cause::Feature(feature), _) => format!("the tenant lacks feature `{feature}`"),
        (Cause::NotPermitted, _) => "no rule allows it".to_owned(),
        (Cause::Denied(role, rule), _) => format!("role `{role}` denies it: `{rule}`"),
        (Cause::Quota(limit), _) => format!("limit `{limit}` is used up"),
    }
}

/// What to declare, and what nobody should declare for being told so.
#[derive(Default)]
struct Proposals {
    proposed: Vec<Value>,
    left: Vec<Value>,
}

impl Proposals {
    fn of(findings: &[&Finding], found: &Findings) -> Self {
        let mut proposals = Self::default();
        let mut permissions: BTreeMap<(&TenantId, String), Vec<&Finding>> = BTreeMap::new();
        let mut features: BTreeMap<(&TenantId, &str), u64> = BTreeMap::new();
        let mut quotas: BTreeMap<(&TenantId, &str), (u64, &Finding)> = BTreeMap::new();
        for finding in findings {
            let tenant = &finding.tenant;
            match &finding.cause {
                Cause::NotPermitted => match subject(&finding.who) {
                    Some(_) if is_boundless(finding) => proposals.leave(finding, BOUNDLESS),
                    Some(subject) if finding.method.is_some() => permissions.entry((tenant, subject)).or_default().push(finding),
                    _ => proposals.leave(finding, "nobody is named whom a binding could name"),
                },
                Cause::Feature(feature) => *features.entry((tenant, feature.as_str())).or_default() += finding.requests,
                Cause::Quota(limit) => quotas.entry((tenant, limit)).or_insert((0, finding)).0 += finding.requests,
                Cause::Denied(..) => proposals.leave(finding, "a rule that denies was written on purpose: change it where it stands"),
                Cause::Credential(_) => {
                    proposals.leave(finding, "give these callers a good credential; `access: public` would open the route to everybody");
                }
            }
        }
        for ((tenant, subject), findings) in permissions {
            proposals.permit(tenant, &subject, &findings);
        }
        for ((tenant, feature), requests) in features {
            let change = json!({ "kind": "Tenant", "name": tenant.as_str(), "field": "features", "add": feature });
            let because = format!("routes of tenant `{tenant}` require feature `{feature}`");
            proposals.propose(tenant, requests, &because, ("change", change));
        }
        for ((tenant, limit), (requests, finding)) in quotas {
            proposals.raise(tenant, limit, requests, finding, found);
        }
        proposals
    }

    /// `what` to declare: `documents`, or a `change` of one that is there.
    fn propose(&mut self, tenant: &TenantId, requests: u64, because: &str, (what, how): (&str, Value)) {
        let proposal = json!({ "tenant": tenant.as_str(), "requests": requests, "because": because });
        self.proposed.push(with(proposal, what, how));
    }

    fn leave(&mut self, finding: &Finding, because: &str) {
        self.left.push(with(told(finding), "because", because.into()));
    }

    /// A role of its own for what one principal did, and its binding.
    fn permit(&mut self, tenant: &TenantId, subject: &str, findings: &[&Finding]) {
        let mut rules: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let mut is_wider = false;
        for finding in findings {
            let Some(method) = &finding.method else { continue };
            for path in paths(finding, &mut is_wider) {
                let methods = rules.entry(path).or_default();
                if !methods.contains(&method.as_str()) {
                    methods.push(method.as_str());
                }
            }
        }
        let rules = rules.iter().fold(String::new(), |mut text, (path, methods)| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  - {}", quoted(&format!("{} {path}", methods.join(","))));
            text
        });
        let name = name(tenant, subject, &rules);
        let documents = format!(
            "kind: Role\ntenant: {tenant}\nname: {name}\nallow:\n{rules}---\nkind: RoleBinding\ntenant: {tenant}\nname: {name}\n\
             role: {name}\nsubjects:\n  - {subject}\n",
            tenant = quoted(tenant.as_str()),
        );
        let requests = findings.iter().map(|finding| finding.requests).sum();
        let wider = if is_wider { "; it allows all of the route, because more paths were asked for than are remembered" } else { "" };
        let because = format!("no rule allows what `{subject}` of tenant `{tenant}` does{wider}");
        self.propose(tenant, requests, &because, ("documents", documents.into()));
    }

    /// A number under which none of the requests would have been refused.
    fn raise(&mut self, tenant: &TenantId, limit: &str, requests: u64, finding: &Finding, found: &Findings) {
        let Some(about) = &finding.limit else { return self.leave(finding, "the limit is not known") };
        if matches!(about.kind, Kind::Window { requests: 0, .. } | Kind::ClockHour { requests: 0 }) {
            return self.leave(finding, "a limit of 0 was written on purpose: change it where it stands");
        }
        // A number that some budget does not keep to would be taken at its word.
        let Some(beyond) = beyond(&found.beyond, tenant, limit).filter(|_| !found.has_unmeasured) else {
            return self.leave(finding, "more budgets were over their limits than are measured: look at its metrics");
        };
        let (field, from, to) = match about.kind {
            Kind::Rate { burst, .. } => ("burst", burst, u64::from(burst) + beyond),
            Kind::Window { requests, .. } | Kind::ClockHour { requests } => ("requests", requests, u64::from(requests) + beyond),
            Kind::InFlight { .. } => return self.leave(finding, "nobody knows how many would have been in flight at once"),
        };
        let steady = if field == "burst" { "; raise `rate` in the same proportion" } else { "" };
        let because = format!("tenant `{tenant}` went {beyond} requests beyond limit `{limit}`{steady}");
        let change = match limit.split_once('.') {
            Some((policy, limit)) => {
                json!({ "kind": "QuotaPolicy", "name": policy, "limit": limit, "field": field, "from": from, "to": to })
            }
            None => json!({ "kind": "Tenant", "name": tenant.as_str(), "field": limit, "from": from, "to": to }),
        };
        self.propose(tenant, requests, &because, ("change", change));
    }
}

/// An object with one more member.
pub(super) fn with(mut object: Value, name: &str, member: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), member);
    }
    object
}

/// As a binding names them.
fn subject(who: &Who) -> Option<String> {
    match who {
        Who::User(user, _) | Who::Workload(user) => Some(format!("user: {}", quoted(user))),
        Who::ApiKey(id) => Some(format!("api_key: {}", quoted(id.as_str()))),
        Who::Nobody | Who::Others => None,
    }
}

/// A text that YAML reads as that text: what begins with a letter and has plain characters only, a blank among them, needs no quotes
/// unless it is a word for something else. JSON is YAML.
fn quoted(text: &str) -> String {
    const WORDS: [&str; 8] = ["true", "false", "null", "yes", "no", "on", "off", "nan"];
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | ',' | ' ' | '@');
    let is_word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word)) || text.len() == 1;
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_plain) && !text.ends_with(' ') && !is_word {
        text.to_owned()
    } else {
        json!(text).to_string()
    }
}

/// Why a rule for all paths below some place is not proposed.
const BOUNDLESS: &str = "more paths were asked for than are remembered, and the route takes any path: write the rule, or give them routes";

/// Whether a rule for what was asked for would allow any path below some place.
fn is_boundless(finding: &Finding) -> bool {
    !are_known(finding) && finding.route.pattern.to_string().ends_with("**")
}

/// Whether the paths that were asked for can be named one by one; what would read as a pattern cannot.
fn are_known(finding: &Finding) -> bool {
    !finding.has_more_paths && finding.paths.iter().all(|path| !path.contains(['{', '}', '*']))
}

/// Patterns that match the paths that were asked for.
fn paths(finding: &Finding, is_wider: &mut bool) -> Vec<String> {
    if !are_known(finding) {
        *is_wider = true;
        return vec![finding.route.pattern.to_string()];
    }
    finding.paths.iter().map(|path| path.to_string()).collect()
}

/// A name that says whom it is for, and is another for other rules.
fn name(tenant: &TenantId, subject: &str, rules: &str) -> String {
    // FNV-1a: the same rules get the same name whenever they are proposed.
    let text = [tenant.as_str(), subject, rules].join("\n");
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let plain = subject.rsplit_once(": ").map_or(subject, |(_, name)| name);
    let slug = plain.chars().filter_map(|c| match c {
        '"' => None,
        c if c.is_ascii_alphanumeric() => Some(c.to_ascii_lowercase()),
        _ => Some('_'),
    });
    let slug: String = slug.take(SLUG_BYTES_MAX).collect();
    format!("shadow_{slug}_{hash:08x}")
}

/// The most that one budget of a limit was exceeded by, over all workers.
fn beyond(all: &[Beyond], tenant: &TenantId, limit: &str) -> Option<u64> {
    let mut by_budget: BTreeMap<u64, u64> = BTreeMap::new();
    for beyond in all.iter().filter(|beyond| beyond.tenant == *tenant && *beyond.limit == *limit) {
        *by_budget.entry(beyond.budget).or_default() += beyond.demand.most();
    }
    by_budget.into_values().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_quoted_unless_yaml_reads_it_as_that_text() {
        for (text, written) in [
            ("GET,POST /v1/items", "GET,POST /v1/items"),
            ("ana@example.com", "ana@example.com"),
            ("auth0|4711", "\"auth0|4711\""),
            ("1e3", "\"1e3\""),
            ("No", "\"No\""),
            ("a: b", "\"a: b\""),
            ("a #b", "\"a #b\""),
            ("GET /a/**", "\"GET /a/**\""),
            ("\u{85}\n", "\"\u{85}\\n\""),
            ("", "\"\""),
        ] {
            assert_eq!(quoted(text), written);
        }
    }

    #[test]
    fn a_name_fits_and_is_another_for_other_rules() {
        let tenant: TenantId = "acme".parse().unwrap_or_else(|_| unreachable!("a name"));
        let subject = format!("user: {}", quoted(&"Ünal|".repeat(40)));
        let (one, other) = (name(&tenant, &subject, "a"), name(&tenant, &subject, "b"));
        assert!(one.len() <= 63 && one.starts_with("shadow__nal_"), "{one}");
        assert_ne!(one, other);
    }
}
