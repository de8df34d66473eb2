//! `bulkhead audit` and `bulkhead events`: what is kept in order, queried once or followed.

use crate::answer::{list, text};
use crate::apply::name;
use crate::args::Global;
use crate::client::Client;
use crate::exit::Exit;
use crate::fault::Failure;
use crate::get::line;
use crate::output::{BAD, Format, GOOD, Out, paint};
use bulkhead_config::name::TenantId;
use bulkhead_server::audit::first_break;
use serde_json::{Value, json};
use std::thread;
use std::time::Duration;

/// Show who did what, and what was refused to whom
#[derive(Debug, clap::Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    action: AuditAction,
}

#[derive(Debug, clap::Subcommand)]
enum AuditAction {
    /// The entries there are, the oldest first
    Query(AuditFilter),
    /// The newest entries, and those that come; Ctrl-C ends it
    Tail(AuditFilter),
    /// Whether the trail is whole: each entry holds the digest of the one before it
    Verify,
}

#[derive(Debug, clap::Args)]
struct AuditFilter {
    /// By this operator
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// About this tenant
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// With this decision
    #[arg(long, value_name = "allowed|denied", value_parser = ["allowed", "denied"], hide_possible_values = true)]
    decision: Option<String>,
}

/// Show what happened, as CloudEvents
#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    #[command(subcommand)]
    action: EventsAction,
}

#[derive(Debug, clap::Subcommand)]
enum EventsAction {
    /// The events there are, the oldest first
    List(EventFilter),
    /// The newest events, and those that come; Ctrl-C ends it
    Tail(EventFilter),
}

#[derive(Debug, clap::Args)]
struct EventFilter {
    /// Of this tenant
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// Of this type, for example tenant.created.v1
    #[arg(long = "type", value_name = "TYPE")]
    of_type: Option<String>,
}

/// Entries of a page.
const PAGE: usize = 1_000;
/// How often whoever follows asks.
const FOLLOW: Duration = Duration::from_millis(500);
/// Entries that whoever follows is shown of the past.
const PAST: usize = 10;

pub(crate) fn audit(args: &Audit, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let (AuditAction::Query(filter) | AuditAction::Tail(filter)) = &args.action else { return verify(global, out) };
    let tenant = filter.tenant.as_ref().map(TenantId::as_str);
    let filters = [("operator", filter.operator.as_deref()), ("tenant", tenant), ("decision", filter.decision.as_deref())];
    let trail = Trail { client: Client::find(global)?, path: "/v1/audit", filters: query(&filters), shown: entry };
    match args.action {
        AuditAction::Tail(_) => trail.follow(out),
        _ => trail.list(out),
    }
}

fn verify(global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let trail = Trail { client: Client::find(global)?, path: "/v1/audit", filters: String::new(), shown: entry };
    let (entries, _) = trail.after(None)?;
    // As they are kept: keys sorted, without blanks.
    let kept: Vec<String> = entries.iter().map(Value::to_string).collect();
    let broken = first_break(kept.iter().map(String::as_bytes));
    match (out.format(), broken) {
        (Format::Json, broken) => out.json(&json!({ "entries": kept.len(), "whole": broken.is_none(), "broken_at": broken }))?,
        (Format::Human, None) => {
            out.say(format_args!("{} {} entries, each follows the one before it", paint(GOOD, "whole"), kept.len()))?
        }
        (Format::Human, Some(number)) => out.say(format_args!("{} at entry {number}", paint(BAD, "broken")))?,
    }
    Ok(if broken.is_none() { Exit::Done } else { Exit::Findings })
}

pub(crate) fn events(args: &Events, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let (EventsAction::List(filter) | EventsAction::Tail(filter)) = &args.action;
    let filters = [("tenant", filter.tenant.as_ref().map(TenantId::as_str)), ("type", filter.of_type.as_deref())];
    let trail = Trail { client: Client::find(global)?, path: "/v1/events", filters: query(&filters), shown: event };
    match args.action {
        EventsAction::List(_) => trail.list(out),
        EventsAction::Tail(_) => trail.follow(out),
    }
}

/// Filters as a query, escaped.
fn query(filters: &[(&str, Option<&str>)]) -> String {
    let mut text = String::new();
    for (name, value) in filters {
        let Some(value) = value else { continue };
        text.push_str(&format!("&{name}="));
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
                other => text.push_str(&format!("%{other:02X}")),
            }
        }
    }
    text
}

struct Trail {
    client: Client,
    path: &'static str,
    filters: String,
    shown: fn(&Value) -> String,
}

impl Trail {
    /// Entries after a place, and where the last of them stands.
    fn after(&self, after: Option<&str>) -> Result<(Vec<Value>, Option<String>), Failure> {
        let (mut entries, mut at) = (Vec::new(), after.map(str::to_owned));
        loop {
            let after = at.as_ref().map(|at| format!("&after={at}")).unwrap_or_default();
            let page = self.client.get(&format!("{}?limit={PAGE}{}{after}", self.path, self.filters))?;
            entries.extend(list(&page, "items").iter().cloned());
            if let Some(last) = text(&page, "last") {
                at = Some(last);
            }
            if text(&page, "next").is_none() {
                return Ok((entries, at));
            }
        }
    }

    fn list(&self, out: &mut Out) -> Result<Exit, Failure> {
        let (entries, _) = self.after(None)?;
        match out.format() {
            Format::Json => out.json(&entries.into())?,
            Format::Human => entries.iter().try_for_each(|entry| out.say((self.shown)(entry)))?,
        }
        Ok(Exit::Done)
    }

    fn follow(&self, out: &mut Out) -> Result<Exit, Failure> {
        let (mut entries, mut at) = self.after(None)?;
        entries.drain(..entries.len().saturating_sub(PAST));
        loop {
            for entry in &entries {
                match out.format() {
                    Format::Json => out.say(entry)?,
                    Format::Human => out.say((self.shown)(entry))?,
                }
            }
            thread::sleep(FOLLOW);
            (entries, at) = self.after(at.as_deref())?;
        }
    }
}

/// `2026-11-26T08:00:00Z ops putPlan denied: role viewer may not (Plan gold)`.
fn entry(entry: &Value) -> String {
    let said = |key| text(entry, key);
    let who = said("operator").unwrap_or_else(|| "somebody".into());
    let is_denied = said("decision").is_some_and(|decision| decision == "denied");
    let mut rest = said("action").unwrap_or_default();
    if is_denied {
        rest.push_str(" denied");
    }
    if let Some(reason) = said("reason") {
        rest.push_str(&format!(": {reason}"));
    }
    let documents: Vec<String> = list(entry, "documents").iter().map(name).collect();
    if let Some(first) = documents.first() {
        let more = if documents.len() > 1 { format!(" and {} more", documents.len() - 1) } else { String::new() };
        rest.push_str(&format!(" ({first}{more})"));
    }
    rest.push_str(&said("address").map(|address| format!(" from {address}")).unwrap_or_default());
    line(&said("time").unwrap_or_default(), &who, is_denied, &rest)
}

/// `2026-11-26T08:00:00Z tenant.created.v1 Tenant initech`.
fn event(event: &Value) -> String {
    let said = |key| text(event, key).unwrap_or_default();
    line(&said("time"), &said("type"), false, &said("subject"))
}
