//! `bulkhead status`: what runs, what it serves, and what of it is not as declared.

use crate::admin::Admin;
use crate::answer::{self, counted, list, number, plain, text};
use crate::args::Global;
use crate::context::{self, Place};
use crate::exit::Exit;
use crate::fault::Failure;
use crate::output::{BAD, FAINT, Format, GOOD, Out, WARN, paint};
use crate::validate::render::{self, Weight, printable};
use clap::builder::styling::Style;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;

/// Show what runs, what it serves, and what of it is not as declared
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let place = context::find(global)?;
    let mut status = Admin::of(&place).get("/status")?;
    if let (Some(fields), Some(probes)) = (status.as_object_mut(), probes(&place)) {
        fields.entry("probes").or_insert(probes);
    }
    match out.format() {
        Format::Json => out.json(&status)?,
        Format::Human => out.raw(&show(&status))?,
    }
    Ok(Exit::Done)
}

/// Where its probes are, as it wrote it down at its start.
fn probes(place: &Place) -> Option<Value> {
    let addresses: Value = serde_json::from_slice(&fs::read(place.data_dir.join("addresses.json")).ok()?).ok()?;
    addresses.get("probes").cloned()
}

fn show(status: &Value) -> String {
    let mut lines = Lines(String::new());
    lines.process(status.get("process").unwrap_or(&Value::Null));
    lines.listeners(status);
    for limit in list(status, "adaptive_concurrency") {
        lines.adaptive(limit);
    }
    let policy = status.get("policy").unwrap_or(&Value::Null);
    lines.policy(policy);
    for held in list(policy, "quarantined") {
        lines.quarantined(held);
    }
    for trial in list(policy, "trials") {
        lines.trial(trial);
    }
    lines.in_shadow(status);
    for warning in list(policy, "warnings") {
        lines.diagnostic(Weight::Warning, warning);
    }
    for set in list(policy, "key_sets") {
        lines.key_set(set);
    }
    if let Some(trouble) = text(policy, "last_good_trouble") {
        lines.add(WARN, "last good", trouble);
    }
    lines.settings(policy);
    lines.0
}

struct Lines(String);

// Writing to a String cannot fail.
impl Lines {
    fn add(&mut self, style: Style, what: &str, text: impl AsRef<str>) {
        let _ = writeln!(self.0, "{} {}", paint(style, format_args!("{what:<10}")), printable(text.as_ref()));
    }

    fn process(&mut self, process: &Value) {
        let flag = |key| process.get(key).and_then(Value::as_bool).unwrap_or_default();
        let (style, state) = match (flag("draining"), flag("ready")) {
            (true, _) => (WARN, "draining"),
            (false, true) => (GOOD, "ready"),
            (false, false) => (BAD, "not ready"),
        };
        let count = |key| number(process, key).unwrap_or_default();
        let version = text(process, "version").unwrap_or_default();
        let told = format!(
            "for {}, version {version}, process {}, {}, {}",
            answer::span(count("uptime_seconds")),
            count("pid"),
            counted(count("workers"), "worker"),
            counted(count("connections"), "connection")
        );
        self.add(style, state, told);
        let dropped = process.get("log_lines_dropped").and_then(Value::as_object).into_iter().flatten();
        for (log, lines) in dropped.filter(|(_, lines)| lines.as_u64() != Some(0)) {
            self.add(WARN, "dropped", format!("{lines} lines of the {log} log: it is written slower than filled"));
        }
    }

    fn listeners(&mut self, status: &Value) {
        for listener in list(status, "listeners") {
            let [service, name, declared] = ["service", "name", "declared"].map(|key| text(listener, key).unwrap_or_default());
            match (text(listener, "address"), text(listener, "failure")) {
                (Some(address), _) => self.add(FAINT, "listener", format!("http://{address}  {name} of service {service}")),
                (None, why) => {
                    let why = why.unwrap_or_else(|| "not open yet".to_owned());
                    self.add(BAD, "listener", format!("{declared}  {name} of service {service}: {why}"));
                }
            }
        }
        if let Some(probes) = text(status, "probes") {
            self.add(FAINT, "probes", format!("http://{probes}  /livez, /startupz, /readyz, /metrics"));
        }
    }

    fn adaptive(&mut self, limit: &Value) {
        let [service, upstream, endpoint] = ["service", "upstream", "endpoint"].map(|key| text(limit, key).unwrap_or_default());
        let [most, now] = ["limit", "in_flight"].map(|key| number(limit, key).unwrap_or_default());
        let told = format!("{endpoint}  {now} of at most {most} requests at once, upstream {upstream} of service {service}");
        self.add(if now < most { FAINT } else { WARN }, "adaptive", told);
    }

    fn policy(&mut self, policy: &Value) {
        let Some(epoch) = answer::epoch(policy) else {
            return self.add(BAD, "policy", "none is served yet");
        };
        let count = |key| number(policy, key).unwrap_or_default();
        let age = answer::span(count("age_seconds"));
        let told = format!("epoch {epoch} for {age}: {}, {}", counted(count("services"), "service"), counted(count("tenants"), "tenant"));
        self.add(FAINT, "policy", told);
        if let Some(source) = text(policy, "source") {
            self.add(FAINT, "source", source);
        }
    }

    fn quarantined(&mut self, held: &Value) {
        let [part, instead] = ["part", "instead"].map(|key| text(held, key).unwrap_or_default());
        self.add(BAD, "held", format!("{part}: {instead}"));
        for mistake in list(held, "mistakes") {
            self.diagnostic(Weight::Mistake, mistake);
        }
    }

    /// Where a part stands that an unclean end cast doubt on.
    fn trial(&mut self, trial: &Value) {
        let told = match text(trial, "phase").as_deref() {
            // Every change begins so; it is no news.
            Some("probation") | None => return,
            Some("suspect") => "was live when the process ended badly; if that happens again, it is left out for a while".to_owned(),
            Some("withheld") => "is left out: the process ended badly twice with it; it is tried again after a minute".to_owned(),
            Some("retried") => "is tried again after the process ended badly with it".to_owned(),
            Some("condemned") => "is left out until its documents change: the process ended badly whenever it was live".to_owned(),
            Some(other) => other.to_owned(),
        };
        self.add(WARN, "on trial", format!("{} {told}", text(trial, "part").unwrap_or_default()));
    }

    /// What only records what it would refuse.
    fn in_shadow(&mut self, status: &Value) {
        let listed: Vec<String> = list(status, "in_shadow").iter().map(plain).collect();
        let left = number(status, "in_shadow_count").unwrap_or_default().saturating_sub(listed.len() as u64);
        for document in listed {
            self.add(WARN, "shadow", document);
        }
        if left > 0 {
            self.add(WARN, "shadow", format!("{left} more"));
        }
    }

    /// A key set that is fetched; one that is as it should be is no news.
    fn key_set(&mut self, set: &Value) {
        let Some(trouble) = text(set, "trouble") else { return };
        let name = text(set, "name").unwrap_or_default();
        match number(set, "age_seconds") {
            Some(age) => self.add(WARN, "key set", format!("{name}: {trouble}; the keys of {} ago are used on", answer::span(age))),
            None => self.add(BAD, "key set", format!("{name}: {trouble}; no key of it is known, so its issuer's tokens get 503")),
        }
    }

    fn settings(&mut self, policy: &Value) {
        // One mistake a line.
        for mistake in text(policy, "settings_mistakes").unwrap_or_default().lines() {
            self.add(BAD, "settings", format!("not read again: {mistake}"));
        }
        let restart: Vec<String> = list(policy, "settings_that_need_a_restart").iter().map(plain).collect();
        let take = if restart.len() == 1 { "takes" } else { "take" };
        if !restart.is_empty() {
            self.add(WARN, "restart", format!("{} {take} effect with the next start", restart.join(", ")));
        }
    }

    fn diagnostic(&mut self, weight: Weight, told: &Value) {
        let diagnostic = answer::diagnostic(told);
        let source = fs::read_to_string(&*diagnostic.file).ok();
        let _ = write!(self.0, "{}", render::diagnostic(weight, &diagnostic, source.as_deref()));
    }
}

#[cfg(test)]
mod tests {
    use super::show;
    use serde_json::json;

    #[test]
    fn a_held_part_is_shown_with_its_mistakes_and_what_is_served_instead() {
        let policy = json!({
            "source": "/srv/documents", "epoch": { "incarnation": 1, "revision": 7 }, "age_seconds": 90, "services": 1, "tenants": 2,
            "quarantined": [{ "part": "tenant globex", "serving": "last_good",
                "instead": "its last good version is served", "mistakes": [
                { "file": "/nowhere/globex.yaml", "line": 4, "column": 7, "document": "Tenant globex", "pointer": "/plan",
                  "message": "plan `fre` does not exist", "expected": null, "found": null, "hint": "did you mean `free`?" }] }],
            "trials": [{ "part": "tenant acme_corp", "phase": "probation" }],
            "key_sets": [{ "name": "https://a.example/jwks", "age_seconds": 3, "trouble": null },
                { "name": "https://b.example/jwks", "age_seconds": 7_200, "trouble": "it answers 500" },
                { "name": "https://c.example/jwks", "age_seconds": null, "trouble": "it answers 404" }],
            "settings_mistakes": "core.yaml:3:18: `9x` is no number of seconds\ncore.yaml:4:3: there is no setting `core.foo`",
            "settings_that_need_a_restart": ["core.sidecar.workers"],
        });
        let status = json!({
            "policy": policy,
            "process": { "version": "0.1.0", "pid": 42, "uptime_seconds": 3_700, "ready": true, "draining": false, "workers": 2,
                "connections": 3, "log_lines_dropped": { "access": 0, "application": 5 } },
            "listeners": [{ "service": "demo", "name": "http", "declared": "127.0.0.1:8080", "address": "127.0.0.1:8080" },
                { "service": "demo", "name": "more", "declared": "127.0.0.1:80", "failure": "permission denied" }],
            "adaptive_concurrency": [
                { "service": "demo", "upstream": "app", "endpoint": "127.0.0.1:4789", "limit": 12, "in_flight": 12 }],
            "probes": "0.0.0.0:4791",
            "in_shadow": ["Role auditor", "Service demo, route items"], "in_shadow_count": 5,
        });
        let expected = "\
ready      for 1 h 1 min, version 0.1.0, process 42, 2 workers, 3 connections
dropped    5 lines of the application log: it is written slower than filled
listener   http://127.0.0.1:8080  http of service demo
listener   127.0.0.1:80  more of service demo: permission denied
probes     http://0.0.0.0:4791  /livez, /startupz, /readyz, /metrics
adaptive   127.0.0.1:4789  12 of at most 12 requests at once, upstream app of service demo
policy     epoch 1.7 for 1 min: 1 service, 2 tenants
source     /srv/documents
held       tenant globex: its last good version is served
error: plan `fre` does not exist
 --> /nowhere/globex.yaml:4:7 (Tenant globex, /plan)
  = help: did you mean `free`?
shadow     Role auditor
shadow     Service demo, route items
shadow     3 more
key set    https://b.example/jwks: it answers 500; the keys of 2 h 0 min ago are used on
key set    https://c.example/jwks: it answers 404; no key of it is known, so its issuer's tokens get 503
settings   not read again: core.yaml:3:18: `9x` is no number of seconds
settings   not read again: core.yaml:4:3: there is no setting `core.foo`
restart    core.sidecar.workers takes effect with the next start
";
        assert_eq!(anstream::adapter::strip_str(&show(&status)).to_string(), expected);
    }
}
