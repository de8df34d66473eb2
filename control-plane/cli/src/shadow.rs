//! `bulkhead shadow`: what would have been refused, and what to declare so that it is not.
//!
//! What can be written as documents of their own is; a number or a feature that belongs into a document of the user's is told, not
//! edited: comments and layout stay as they are.

use crate::admin::Admin;
use crate::answer::{self, counted, list, number, plain, text};
use crate::args::Global;
use crate::context;
use crate::exit::Exit;
use crate::fault::{Failure, Fault};
use crate::files::{self, Readers};
use crate::output::{FAINT, Format, GOOD, HINT, Out, STRONG, WARN, paint};
use crate::validate::render::printable;
use serde_json::Value;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

/// Show what shadow mode let through that would have been refused
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Report(Report),
}

/// Show by tenant, route and principal what would have been refused since the start, or the last reset, and which rules would allow it
#[derive(Debug, clap::Args)]
struct Report {
    /// Writes the proposed documents to a file, to be reviewed and put beside the others
    #[arg(long, value_name = "FILE")]
    propose: Option<PathBuf>,
    /// Forgets what it shows: after a change, the next report has only what is left to mend
    #[arg(long)]
    reset: bool,
}

/// The proposals could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
struct Unwritable {
    path: PathBuf,
    source: io::Error,
}

impl Fault for Unwritable {
    fn exit(&self) -> Exit {
        Exit::of(&self.source)
    }
    fn fix(&self) -> Option<String> {
        None
    }
}

pub(crate) fn run(args: &Args, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let Action::Report(report) = &args.action;
    let admin = Admin::of(&context::find(global)?);
    // One step: a request between a look and its end would be in no report.
    let told = if report.reset { admin.delete("/shadow") } else { admin.get("/shadow") }?;
    match out.format() {
        Format::Json => out.json(&told)?,
        Format::Human => out.raw(&show(&told))?,
    }
    if let Some(path) = &report.propose {
        let proposed = proposals(&told);
        files::replace(path, proposed.as_bytes(), Readers::Anyone).map_err(|source| Unwritable { path: path.clone(), source })?;
        out.remark(format_args!("{}: {}", paint(HINT, "written"), path.display()));
    }
    if report.reset {
        out.remark(format_args!("{}: the next report begins now", paint(HINT, "reset")));
    }
    Ok(Exit::Done)
}

fn show(told: &Value) -> String {
    let mut text = String::new();
    let requests = number(told, "requests").unwrap_or_default();
    let known_for = answer::span(number(told, "known_for_seconds").unwrap_or_default());
    let since = if answer::text(told, "since").as_deref() == Some("reset") { "since the last reset" } else { "since the start" };
    // Writing to a String cannot fail, here and below.
    if requests == 0 {
        let _ = writeln!(text, "{} nothing would have been refused in the {known_for} {since}", paint(GOOD, "clean"));
        return text;
    }
    let head = format!("{} would have been refused in the {known_for} {since}", counted(requests, "request"));
    let _ = writeln!(text, "{}\n", paint(STRONG, head));
    table(&mut text, list(told, "findings"));
    for proposal in list(told, "proposals") {
        propose(&mut text, proposal);
    }
    leave(&mut text, list(told, "not_proposed"));
    if let Some(more @ 1..) = number(told, "only_counted") {
        let _ = writeln!(text, "\n{} {} more than are remembered one by one", paint(WARN, "note"), counted(more, "finding"));
    }
    text
}

const HEADS: [&str; 5] = ["tenant", "route", "principal", "requests", "would be refused"];

fn table(text: &mut String, findings: &[Value]) {
    let rows: Vec<[String; 5]> = findings.iter().map(row).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(HEADS.get(column).map(|head| head.len())).max().unwrap_or_default()
    };
    let [tenant, route, principal, requests] = [width(0), width(1), width(2), width(3)];
    let line = |row: [&str; 5]| {
        let [a, b, c, d, e] = row;
        format!("{a:<tenant$}  {b:<route$}  {c:<principal$}  {d:>requests$}  {e}")
    };
    let _ = writeln!(text, "{}", paint(FAINT, line(HEADS)));
    for row in &rows {
        let [a, b, c, d, e] = row;
        let _ = writeln!(text, "{}", line([a, b, c, d, e]).trim_end());
    }
}

fn row(finding: &Value) -> [String; 5] {
    let member = |key| printable(&text(finding, key).unwrap_or_default());
    let route = match text(finding, "method") {
        Some(method) => format!("{method} {}", member("route")),
        None => member("route"),
    };
    let refused = format!("{} {}: {}", number(finding, "status").unwrap_or_default(), member("code"), member("reason"));
    [member("tenant"), route, principal(finding), number(finding, "requests").unwrap_or_default().to_string(), refused]
}

fn principal(finding: &Value) -> String {
    let principal = finding.get("principal").unwrap_or(&Value::Null);
    match (text(principal, "kind").as_deref(), text(principal, "name")) {
        (Some("api_key"), Some(name)) => format!("key {}", printable(&name)),
        (_, Some(name)) => printable(&name),
        (Some("others"), None) => "others, together".to_owned(),
        (_, None) => "nobody".to_owned(),
    }
}

fn propose(text: &mut String, proposal: &Value) {
    let _ = writeln!(text, "\n{}", paint(HINT, because(proposal)));
    match (answer::text(proposal, "documents"), proposal.get("change")) {
        (Some(documents), _) => documents.lines().for_each(|line| {
            let _ = writeln!(text, "  {}", printable(line));
        }),
        (None, Some(change)) => {
            let _ = writeln!(text, "  {}", edit(change));
        }
        (None, None) => {}
    }
}

/// `globex: tenant `globex` requires … (12 requests)`.
fn because(proposal: &Value) -> String {
    let requests = number(proposal, "requests").unwrap_or_default();
    format!("{} ({})", printable(&text(proposal, "because").unwrap_or_default()), counted(requests, "request"))
}

/// What to do to a document that is there.
fn edit(change: &Value) -> String {
    let member = |key| printable(&text(change, key).unwrap_or_default());
    let (kind, name, field) = (member("kind"), member("name"), member("field"));
    if let Some(add) = text(change, "add") {
        return format!("in {kind} `{name}`: add `{}` to `{field}`", printable(&add));
    }
    let [from, to] = ["from", "to"].map(|key| change.get(key).map(plain).unwrap_or_default());
    match text(change, "limit") {
        Some(limit) => format!("in {kind} `{name}`, limit `{}`: raise `{field}` from {from} to {to}", printable(&limit)),
        None => format!("in {kind} `{name}`: raise `{field}` from {from} to {to}, or its plan's"),
    }
}

fn leave(text: &mut String, left: &[Value]) {
    if left.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", paint(WARN, "not proposed"));
    for finding in left {
        let [tenant, route, _, requests, refused] = row(finding);
        let because = printable(&answer::text(finding, "because").unwrap_or_default());
        let _ = writeln!(text, "  {tenant}, {route}, {}, {requests}: {refused}\n    {}", principal(finding), paint(FAINT, because));
    }
}

/// The documents, and as remarks what no document of its own can say.
fn proposals(told: &Value) -> String {
    let mut documents = Vec::new();
    let mut remarks = String::new();
    for proposal in list(told, "proposals") {
        match (answer::text(proposal, "documents"), proposal.get("change")) {
            (Some(text), _) => documents.push(format!("# {}\n{text}", because(proposal))),
            (None, Some(change)) => {
                let _ = writeln!(remarks, "# {}: {}", because(proposal), edit(change));
            }
            (None, None) => {}
        }
    }
    remarks + &documents.join("---\n")
}
