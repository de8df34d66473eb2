//! The table of conditions: what each means, by `decide` and by a socket; and where the mistakes of a document are told.

use bulkhead_config::compile::Catalogue;
use bulkhead_config::declared;
use bulkhead_config::explain::{Explanation, Question, Verdict, explain};
use bulkhead_config::protocol::{Offer, Put};
use bulkhead_config::snapshot::Snapshot;
use bulkhead_config::text::{self, Node, Value};
use bulkhead_tests::{Client, Origin, World};
use serde_json::{Value as Json, json};
use std::path::Path;
use std::sync::Arc;

/// `decisions/conditions.yaml`.
struct Table {
    query: String,
    headers: Vec<(String, String)>,
    claims: Json,
    means: Vec<Row>,
    mistakes: Vec<Mistake>,
}

struct Row {
    condition: String,
    gives: String,
}

struct Mistake {
    condition: String,
    at: (u32, u32),
    says: String,
}

fn table() -> Table {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("decisions/conditions.yaml");
    let read = text::read("conditions.yaml", &std::fs::read_to_string(file).unwrap(), text::Budget::FILE);
    let tree = &read.trees[0];
    assert!(read.cut.is_none() && tree.whole && tree.mistakes.is_empty(), "{:?}", tree.mistakes);
    let root = json_of(&tree.root.as_ref().unwrap().value);
    let string = |of: &Json, name: &str| of[name].as_str().unwrap_or_else(|| panic!("`{name}` of {of}")).to_owned();
    let header = |line: &Json| line.as_str().and_then(|line| line.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap();
    let place = |of: &Json| {
        let at = string(of, "at");
        let (line, column) = at.split_once(':').unwrap();
        (line.parse().unwrap(), column.parse().unwrap())
    };
    let rows = |name: &str| root[name].as_array().unwrap().clone();
    Table {
        query: string(&root["with"], "query"),
        headers: root["with"]["headers"].as_array().unwrap().iter().map(header).collect(),
        claims: root["with"]["claims"].clone(),
        means: rows("means").iter().map(|row| Row { condition: string(row, "if"), gives: string(row, "gives") }).collect(),
        mistakes: rows("mistakes")
            .iter()
            .map(|row| Mistake { condition: string(row, "if"), at: place(row), says: string(row, "says") })
            .collect(),
    }
}

fn json_of(value: &Value) -> Json {
    let list = |items: &[Node]| items.iter().map(|item| json_of(&item.value)).collect();
    match value {
        Value::Null => json!(null),
        Value::Bool(b) => json!(b),
        Value::Int(n) => json!(n),
        Value::Float(n) => json!(n),
        Value::Str(text) => json!(**text),
        Value::List(items) => list(items),
        Value::Map(entries) => entries.iter().map(|(key, node)| (key.text.to_string(), json_of(&node.value))).collect(),
    }
}

/// A rule for each row, on a path of its own.
fn role(rows: &[Row]) -> String {
    let rule = |(at, row): (usize, &Row)| {
        // JSON strings are YAML strings.
        format!("  - {{ methods: [GET], paths: [/rows/{at}], when: {{ condition: {} }} }}\n", json!(row.condition))
    };
    let rules: String = rows.iter().enumerate().map(rule).collect();
    format!("kind: Role\nname: conditional\nallow:\n{rules}")
}

const PLATFORM: &str = "
kind: Plan
name: premium
default: true
features: [reports, analytics]
---
kind: Tenant
tenant_id: acme_corp
name: ACME
email: a@acme.example
hosts: [acme.localhost]
---
kind: Service
name: rows
listeners: [{ name: http, address: '127.0.0.1:0' }]
upstreams: [{ name: app, endpoints: ['http://127.0.0.1:4789'] }]
routes: [{ name: rows, path: '/rows/{n}' }]
---
kind: Identity
name: rows
jwt:
  - issuer: https://issuer.bulkhead.localhost
    audiences: [demo]
    algorithms: [EdDSA, ES256, RS256, PS256]
    jwks: { file: issuer.jwks.json }
    tenant_claim: tenant
---
kind: RoleBinding
name: everybody
role: conditional
subjects: [{ claim: { tenant: acme_corp } }]
---
";

fn snapshot(documents: &str) -> Arc<Snapshot> {
    let file = declared::read_file("conditions.yaml", documents);
    assert!(file.diagnostics.is_empty(), "{}", file.diagnostics);
    let put = file.documents.into_iter().map(|document| Put { document, text: "".into() }).collect();
    let outcome = Catalogue::new().apply(&Offer { complete: true, put, ..Offer::default() });
    assert!(outcome.quarantined.is_empty(), "{:?}", outcome.quarantined);
    outcome.snapshot
}

fn explained(snapshot: &Snapshot, table: &Table, at: usize, claims: &Json) -> Explanation {
    let mut question = Question::new("GET", &format!("/rows/{at}?{}", table.query), jiff::Timestamp::now().as_second());
    question.host = Some("acme.localhost".to_owned());
    question.source = Some([127, 0, 0, 1].into());
    question.headers.clone_from(&table.headers);
    question.claims = Some(text::json::read(claims.to_string().as_bytes(), text::Budget::TOKEN).unwrap().value);
    explain(snapshot, &question)
}

#[test]
fn every_condition_means_the_same_to_the_function_and_to_the_socket() {
    let table = table();
    assert!(table.means.len() + table.mistakes.len() >= 150);
    let documents = format!("{PLATFORM}{}", role(&table.means));
    let snapshot = snapshot(&documents);
    let origin = Origin::start();
    let endpoint = origin.address().to_string();
    let world = World::with(origin, |folder| {
        std::fs::remove_dir_all(folder.join("tenants")).unwrap();
        std::fs::write(folder.join("platform.yaml"), documents.replace("127.0.0.1:4789", &endpoint)).unwrap();
    });
    let mut claims = world.issuer.claims("acme_corp", &[]);
    for (name, value) in table.claims.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let token = world.issuer.sign(bulkhead_tests::Algorithm::EdDsa, &claims);
    let mut wrong = Vec::new();
    for (at, row) in table.means.iter().enumerate() {
        let told = explained(&snapshot, &table, at, &claims);
        let near = told.nearest.join("; ");
        let as_meant = match &*row.gives {
            "true" => told.verdict == Verdict::Allowed,
            "false" => near.contains("its condition is false"),
            why => near.contains(&format!("its condition is unclear: {why}")),
        };
        if !as_meant {
            wrong.push(format!("{}: not {}, but {:?} {near}", row.condition, row.gives, told.verdict));
        }
        let mut client = Client::new(world.address(), "acme.localhost").bearer(&token);
        for (name, value) in &table.headers {
            client = client.with(name, value);
        }
        let answer = client.send("GET", &format!("/rows/{at}?{}", table.query), b"").verdict();
        if answer != if row.gives == "true" { "200" } else { "403 not_permitted" } {
            wrong.push(format!("{}: the socket says {answer}", row.condition));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), table.means.len(), wrong.join("\n"));
}

#[test]
fn every_mistake_of_a_condition_is_told_where_it_stands() {
    let begin = "kind: Role\nname: r\nallow:\n  - methods: [GET]\n    paths: [/a]\n    when:\n      condition: |\n";
    let mut wrong = Vec::new();
    for row in table().mistakes {
        let text: String = row.condition.lines().map(|line| format!("        {line}\n")).collect();
        // An empty condition has no place of its own, so it is quoted.
        let document = match &*text {
            "" => format!("{}''\n", begin.replace("|\n", "")),
            text => format!("{begin}{text}"),
        };
        let meant = match &*text {
            "" => (7, 18),
            _ => (7 + row.at.0, 8 + row.at.1),
        };
        let file = declared::read_file("row.yaml", &document);
        let Some(first) = file.diagnostics.iter().next() else {
            wrong.push(format!("{}: no mistake", row.condition));
            continue;
        };
        if (first.span.line, first.span.column) != meant || !first.to_string().contains(&row.says) || first.hint.is_none() {
            wrong.push(format!("{}: meant {meant:?} {}, not {first}", row.condition, row.says));
        }
        if &*first.pointer != "/allow/0/when/condition" {
            wrong.push(format!("{}: at {}", row.condition, first.pointer));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}
