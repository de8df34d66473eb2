//! `bulkhead get`, `delete`, `history`, `diff`, `rollback`: documents of a control plane, one by one.

use crate::answer::{list, number, plain, text};
use crate::apply;
use crate::args::Global;
use crate::client::{Ask, Client};
use crate::exit::Exit;
use crate::fault::Failure;
use crate::object::{Object, collection, kind};
use crate::output::{BAD, FAINT, Format, GOOD, Out, STRONG, WARN, paint};
use crate::validate::render::printable;
use bulkhead_config::declared::Kind;
use bulkhead_config::name::{DocumentName, TenantId};
use serde_json::{Value, json};

/// Show documents: all of a kind, or one as it was written
#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// Their kind: tenants, plans, services, identities, roles, role-bindings, quota-policies, security-policies, cache-policies
    #[arg(value_name = "KIND", value_parser = kind)]
    kind: Kind,
    /// One of them; it is shown as YAML, with its comments
    #[arg(value_name = "NAME")]
    name: Option<DocumentName>,
    /// The tenant they belong to; left out: they are platform-wide
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// The document as it was at a revision
    #[arg(long, value_name = "REVISION", requires = "name")]
    revision: Option<u64>,
}

/// Remove a document
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    object: Object,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// List the versions of a document, the newest first
#[derive(Debug, clap::Args)]
pub(crate) struct History {
    #[command(flatten)]
    object: Object,
}

/// Show what differs between two versions of a document
#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    object: Object,
    /// The older revision
    #[arg(long, value_name = "REVISION")]
    from: u64,
    /// The newer revision [default: what is declared now]
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,
}

/// Bring back a document as it was at a revision
#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    #[command(flatten)]
    object: Object,
    /// The revision, from `bulkhead history`
    #[arg(long, value_name = "REVISION")]
    to: u64,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Entries of a page that is asked for.
const PAGE: usize = 1_000;

pub(crate) fn get(args: &Get, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let client = Client::find(global)?;
    let collection = collection(args.kind, args.tenant.as_ref());
    let Some(name) = &args.name else { return all(&client, &collection, args.kind, out) };
    let target = match args.revision {
        None => format!("{collection}/{name}"),
        Some(revision) => format!("{collection}/{name}/history/{revision}"),
    };
    match out.format() {
        Format::Json => out.json(&client.get(&target)?)?,
        Format::Human => {
            let mut text = client.send(&Ask { accept: "application/yaml", ..Ask::get(&target) })?.text;
            if !text.ends_with('\n') {
                text.push('\n');
            }
            out.raw(&text)?;
        }
    }
    Ok(Exit::Done)
}

fn all(client: &Client, collection: &str, kind: Kind, out: &mut Out) -> Result<Exit, Failure> {
    let mut items = Vec::new();
    let mut after = String::new();
    loop {
        let page = client.get(&format!("{collection}?limit={PAGE}{after}"))?;
        items.extend(list(&page, "items").iter().cloned());
        match text(&page, "next") {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    match out.format() {
        Format::Json => out.json(&items.into())?,
        Format::Human if items.is_empty() => out.remark(format_args!("there is no {kind}")),
        Format::Human => out.raw(&table(&["NAME", "REVISION", "OWNER", "CHANGED BY", "CHANGED AT"], items.iter().map(row)))?,
    }
    Ok(Exit::Done)
}

fn row(item: &Value) -> Vec<String> {
    let owner = text(item, "file").or_else(|| text(item, "owner")).unwrap_or_default();
    let said = |key| text(item, key).unwrap_or_default();
    vec![said("name"), number(item, "revision").unwrap_or_default().to_string(), owner, said("changed_by"), said("changed_at")]
}

/// Columns as wide as what stands in them.
pub(crate) fn table(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(heads.get(column).map(|head| head.len())).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut text = format!("{}\n", paint(STRONG, line(&mut heads.iter().copied())));
    for row in &rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
        text.push('\n');
    }
    text
}

pub(crate) fn delete(args: &Delete, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let target = format!("{}?dry_run={}", args.object.path(), args.dry_run);
    let answer = Client::find(global)?.send(&Ask::delete(&target))?.body;
    show_done(&answer, out)
}

pub(crate) fn history(args: &History, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let answer = Client::find(global)?.get(&format!("{}/history?limit={PAGE}", args.object.path()))?;
    let row = |item: &Value| {
        let said = |key| text(item, key).unwrap_or_default();
        let is_removed = item.get("removed").and_then(Value::as_bool).unwrap_or_default();
        let what = match number(item, "revision") == number(item, "created") {
            _ if is_removed => "removed",
            true => "created",
            false => "changed",
        };
        vec![number(item, "revision").unwrap_or_default().to_string(), what.to_owned(), said("changed_by"), said("changed_at")]
    };
    match out.format() {
        Format::Json => out.json(&answer)?,
        Format::Human => out.raw(&table(&["REVISION", "WHAT", "BY", "AT"], list(&answer, "items").iter().map(row)))?,
    }
    Ok(Exit::Done)
}

pub(crate) fn diff(args: &Diff, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let to = args.to.map(|to| format!("&to={to}")).unwrap_or_default();
    let answer = Client::find(global)?.get(&format!("{}/diff?from={}{to}", args.object.path(), args.from))?;
    if out.format() == Format::Json {
        out.json(&answer)?;
        return Ok(Exit::Done);
    }
    let (from, to) = (number(&answer, "from").unwrap_or_default(), number(&answer, "to").unwrap_or_default());
    out.say(paint(FAINT, format_args!("from revision {from} to revision {to}")))?;
    for change in list(&answer, "changes") {
        let pointer = text(change, "pointer").filter(|pointer| !pointer.is_empty()).unwrap_or_else(|| "all of it".into());
        out.say(paint(STRONG, printable(&pointer)))?;
        for (key, sign, style) in [("from", "-", BAD), ("to", "+", GOOD)] {
            if let Some(value) = change.get(key) {
                out.say(paint(style, format_args!("  {sign} {}", printable(&plain(value)))))?;
            }
        }
    }
    if list(&answer, "changes").is_empty() {
        out.say(paint(FAINT, "they say the same"))?;
    }
    Ok(Exit::Done)
}

pub(crate) fn rollback(args: &Rollback, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let target = format!("{}/rollback?dry_run={}", args.object.path(), args.dry_run);
    let answer = Client::find(global)?.send(&Ask::post(&target, &json!({ "revision": args.to })))?.body;
    show_done(&answer, out)
}

fn show_done(answer: &Value, out: &mut Out) -> Result<Exit, Failure> {
    match out.format() {
        Format::Json => out.json(answer)?,
        Format::Human => out.raw(&apply::done(answer))?,
    }
    Ok(Exit::Done)
}

/// How an entry of a trail is shown: in one line.
pub(crate) fn line(time: &str, strong: &str, bad: bool, rest: &str) -> String {
    let style = if bad { WARN } else { STRONG };
    format!("{} {} {}", paint(FAINT, time), paint(style, printable(strong)), printable(rest))
}
