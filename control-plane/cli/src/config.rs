//! `bulkhead config`: what is in effect, and which layer gave it.

use crate::admin::Admin;
use crate::answer::plain;
use crate::args::Global;
use crate::context;
use crate::exit::Exit;
use crate::fault::Failure;
use crate::output::{FAINT, Format, Out, paint};
use crate::validate::render::printable;
use bulkhead_config::name::TenantId;
use serde_json::Value;

/// Show what is in effect
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Show(Show),
}

/// Show the settings, or what one tenant has in effect; secrets are redacted
///
/// A tenant's values come from the defaults, its plan, the platform's documents and its own.
#[derive(Debug, clap::Args)]
struct Show {
    /// The tenant
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// Name the layer that gave each value
    #[arg(long)]
    origin: bool,
}

pub(crate) fn run(args: &Args, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let Action::Show(show) = &args.action;
    // A tenant's id fits a query as it is.
    let target = match &show.tenant {
        Some(tenant) => format!("/config?origin={}&tenant={tenant}", show.origin),
        None => format!("/config?origin={}", show.origin),
    };
    let config = Admin::of(&context::find(global)?).get(&target)?;
    match out.format() {
        Format::Json => out.json(&config)?,
        Format::Human => out.raw(&table(&config))?,
    }
    Ok(Exit::Done)
}

/// One value: its dotted path, its text, the layer that gave it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Row {
    path: String,
    text: String,
    origin: Option<String>,
}

fn table(config: &Value) -> String {
    let mut rows = Vec::new();
    flatten(String::new(), config, None, &mut rows);
    let width = |of: fn(&Row) -> &str| rows.iter().map(|row| of(row).chars().count()).max().unwrap_or_default();
    let (paths, texts) = (width(|row| &row.path), width(|row| &row.text).min(TEXT_CHARS_ALIGNED));
    let mut lines = String::new();
    let mut last = "";
    for Row { path, text, origin } in &rows {
        // A list names its key once.
        let shown = if path == last { "" } else { path };
        let origin = origin.as_ref().map(|origin| paint(FAINT, printable(origin))).unwrap_or_default();
        let line = format!("{shown:paths$}  {:texts$}  {origin}", printable(text));
        lines.push_str(line.trim_end());
        lines.push('\n');
        last = path;
    }
    lines
}

/// Texts beyond this push only their own origin aside.
const TEXT_CHARS_ALIGNED: usize = 60;

/// Objects to dotted paths, lists to a row an item; `{"value": …, "origin": …}` is one value.
fn flatten(path: String, value: &Value, origin: Option<&str>, rows: &mut Vec<Row>) {
    match value {
        Value::Object(fields) if fields.len() == 2 && fields.contains_key("value") && fields.contains_key("origin") => {
            let origin = fields.get("origin").and_then(Value::as_str);
            flatten(path, fields.get("value").unwrap_or(&Value::Null), origin, rows);
        }
        // An item of a list is told in one row, so that its parts stay together.
        Value::Object(fields) if origin.is_none() => {
            for (key, value) in fields {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match value {
                    Value::Array(items) => list(&below, items, rows),
                    value => flatten(below, value, None, rows),
                }
            }
        }
        value => rows.push(Row { path, text: compact(value), origin: origin.map(str::to_owned) }),
    }
}

fn list(path: &str, items: &[Value], rows: &mut Vec<Row>) {
    if items.is_empty() {
        rows.push(Row { path: path.to_owned(), text: "none".to_owned(), origin: None });
    }
    for item in items {
        let (value, origin) = match (item.get("value"), item.get("origin").and_then(Value::as_str)) {
            (Some(value), Some(origin)) => (value, Some(origin.to_owned())),
            _ => (item, None),
        };
        rows.push(Row { path: path.to_owned(), text: compact(value), origin });
    }
}

/// A value in one line, its name first: `name burst, per tenant, rate 200/s`.
fn compact(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
            fields.sort_by_key(|(key, _)| *key != "name");
            fields.iter().map(|(key, value)| format!("{key} {}", compact(value))).collect::<Vec<_>>().join(", ")
        }
        Value::Array(items) => items.iter().map(compact).collect::<Vec<_>>().join(" + "),
        scalar => plain(scalar),
    }
}

#[cfg(test)]
mod tests {
    use super::table;
    use serde_json::json;

    #[test]
    fn values_stand_in_columns_with_the_layer_that_gave_them() {
        let config = json!({
            "api_quota_per_hour": { "value": 50_000, "origin": "tenant" },
            "features": [{ "value": "reports", "origin": "plan" }, { "value": "analytics", "origin": "tenant" }],
            "limits": [{ "value": { "burst": 9, "name": "burst" }, "origin": "platform" }],
            "plan": { "value": null, "origin": "default" },
            "request": { "headers_max": { "value": 100, "origin": "default" } },
            "tenant_id": "acme_corp",
        });
        let expected = "\
api_quota_per_hour   50000                tenant
features             reports              plan
                     analytics            tenant
limits               name burst, burst 9  platform
plan                 none                 default
request.headers_max  100                  default
tenant_id            acme_corp
";
        assert_eq!(anstream::adapter::strip_str(&table(&config)).to_string(), expected);
    }
}
