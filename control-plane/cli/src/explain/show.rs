//! An explanation for people: the verdict first, then why, then what it rests on, in aligned lines.

use crate::answer::{self, list, plain, text};
use crate::output::{BAD, FAINT, GOOD, HINT, STRONG, WARN, paint};
use crate::validate::render::printable;
use serde_json::Value;
use std::fmt::Write as _;

/// The explanation in lines, each ended.
pub(super) fn explanation(explanation: &Value) -> String {
    let mut lines = Lines(format!("{}\n", headline(explanation)));
    lines.add("decision", explanation.get("decision").and_then(decision));
    lines.add("because", text(explanation, "because"));
    for value in list(explanation, "values") {
        lines.add("where", value.as_str().map(str::to_owned));
    }
    for near in list(explanation, "nearest") {
        lines.near(near.as_str().unwrap_or_default());
    }
    lines.add("tenant", explanation.get("tenant").and_then(tenant));
    lines.add("route", explanation.get("route").and_then(route));
    lines.add("then", text(explanation, "becomes"));
    for role in list(explanation, "roles") {
        lines.add("role", Some(held(role)));
    }
    let quota = explanation.get("api_quota_per_hour").filter(|quota| !quota.is_null());
    lines.add("limit", quota.map(|quota| format!("api_quota_per_hour: {} in a clock hour", plain(quota))));
    for one in list(explanation, "limits") {
        lines.add("limit", Some(limit(one)));
    }
    lines.add("epoch", answer::epoch(explanation));
    lines.0
}

/// `GET /v1/items: 403 not_permitted`.
fn headline(explanation: &Value) -> String {
    let request = paint(STRONG, printable(&text(explanation, "request").unwrap_or_default()));
    let refusal = || {
        let status = explanation.get("status").map(plain).unwrap_or_default();
        format!("{status} {}", text(explanation, "code").unwrap_or_default())
    };
    let verdict = match text(explanation, "verdict").as_deref() {
        Some("allowed") => paint(GOOD, "allowed"),
        Some("refused") => paint(BAD, refusal()),
        Some("shadow") => paint(WARN, format_args!("would be refused (shadow) with {}", refusal())),
        _ => paint(WARN, "cannot be said"),
    };
    format!("{request}  {verdict}")
}

struct Lines(String);

impl Lines {
    // Writing to a String cannot fail.
    fn add(&mut self, what: &str, text: Option<String>) {
        if let Some(text) = text {
            let _ = writeln!(self.0, "  {} {}", paint(FAINT, format_args!("{what:<8}")), printable(&text));
        }
    }

    fn near(&mut self, text: &str) {
        let _ = writeln!(self.0, "  {} {}", paint(HINT, format_args!("{:<8}", "nearest")), printable(text));
    }
}

/// What was asked, where a remembered decision is explained.
fn decision(decision: &Value) -> Option<String> {
    let by = text(decision, "user").map(|user| format!(" by {user}")).unwrap_or_default();
    let [at, source] = ["at", "source"].map(|key| text(decision, key).unwrap_or_default());
    // A request that could not be read names no host.
    let host = text(decision, "host").filter(|host| !host.is_empty()).map(|host| format!(", for host {host}")).unwrap_or_default();
    Some(format!("{} at {at}, from {source}{by}{host}", text(decision, "id")?))
}

fn tenant(tenant: &Value) -> Option<String> {
    let plan = text(tenant, "plan").map_or_else(|| "without plan".to_owned(), |plan| format!("plan {plan}"));
    let features: Vec<String> = list(tenant, "features").iter().map(plain).collect();
    let features = if features.is_empty() { "no features".to_owned() } else { format!("features {}", features.join(", ")) };
    Some(format!("{}, {}, {plan}, {features}", text(tenant, "id")?, text(tenant, "state")?))
}

fn route(route: &Value) -> Option<String> {
    let feature = text(route, "requires_feature").map(|feature| format!(", asks for feature {feature}")).unwrap_or_default();
    let (service, name, path) = (text(route, "service")?, text(route, "name")?, text(route, "path")?);
    let goes = text(route, "upstream").map_or_else(|| "answered here".to_owned(), |upstream| format!("to upstream {upstream}"));
    Some(format!("{name} of service {service}: {path}, {}{feature}, {goes}", text(route, "access")?))
}

fn held(role: &Value) -> String {
    let by: Vec<String> = list(role, "by").iter().map(bound).collect();
    let by = if by.is_empty() { "as asked".to_owned() } else { by.join(" and ") };
    format!("{} ({}), {by}", text(role, "name").unwrap_or_default(), text(role, "scope").unwrap_or_default())
}

fn bound(bound: &Value) -> String {
    let through = text(bound, "through").map(|role| format!(" through role {role}")).unwrap_or_default();
    format!("by binding {}{through}{}", text(bound, "binding").unwrap_or_default(), place(bound))
}

/// `burst of fair_use: 200/s, burst 400, per tenant`.
fn limit(limit: &Value) -> String {
    let counted = match (limit.get("rate"), limit.get("requests"), limit.get("concurrent")) {
        (Some(rate), ..) => format!("{}, burst {}", plain(rate), limit.get("burst").map(plain).unwrap_or_default()),
        (_, Some(requests), _) => format!("{} in {}", plain(requests), text(limit, "window").unwrap_or_default()),
        (.., Some(concurrent)) => format!("{} at once", plain(concurrent)),
        (None, None, None) => "counted".to_owned(),
    };
    let [name, policy, per] = ["name", "policy", "per"].map(|key| text(limit, key).unwrap_or_default());
    format!("{name} of {policy}: {counted}, per {per}")
}

/// ` (file:line)`.
fn place(of: &Value) -> String {
    let place = text(of, "file").zip(of.get("line").map(plain));
    place.map(|(file, line)| format!(" ({file}:{line})")).unwrap_or_default()
}
