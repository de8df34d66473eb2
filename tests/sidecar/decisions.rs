//! The decision table: every row through `decide` alone and through a sidecar's socket, and both say the same.

use bulkhead_config::compile::Catalogue;
use bulkhead_config::condition::{Asked, Fields, Found};
use bulkhead_config::decide::{Denial, Facts, Misses, Trace, decide};
use bulkhead_config::declared;
use bulkhead_config::name::KeyId;
use bulkhead_config::path::normalise;
use bulkhead_config::protocol::{Offer, Put};
use bulkhead_config::snapshot::{Credential, Principal, RuleId, Scope, Snapshot};
use bulkhead_config::text::{self, Node, Value};
use bulkhead_tests::{Client, Origin, World};
use serde_json::json;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One row of `decisions/rows.yaml`.
struct Row {
    what: String,
    tenant: String,
    host: Option<String>,
    who: Who,
    method: String,
    target: String,
    headers: Headers,
    source: IpAddr,
    gives: String,
    rule: Option<String>,
}

/// Header fields of a row, in the order they are sent in.
#[derive(Debug)]
struct Headers(Vec<(String, String)>);

impl Fields for Headers {
    fn find(&self, name: &str) -> Found<'_> {
        Found::of(self.0.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes()))
    }
}

enum Who {
    Nobody,
    Key(String),
    /// Claims laid over an ordinary token.
    Claims(serde_json::Value),
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("decisions")
}

fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(folder().join("rows.yaml")).unwrap();
    let read = text::read("rows.yaml", &text, text::Budget::FILE);
    let tree = &read.trees[0];
    assert!(read.cut.is_none() && tree.whole, "{:?}", tree.mistakes);
    let Some(Value::List(rows)) = tree.root.as_ref().map(|root| &root.value) else { panic!("rows.yaml is a list") };
    rows.iter().map(row).collect()
}

fn row(node: &Node) -> Row {
    let Value::Map(fields) = &node.value else { panic!("line {}: a row is a map", node.span.line) };
    let field = |name: &str| fields.iter().find(|(key, _)| &*key.text == name).map(|(_, node)| node);
    let string = |name: &str| {
        field(name).map(|node| match &node.value {
            Value::Str(text) => text.to_string(),
            other => panic!("line {}: {name} is {other:?}", node.span.line),
        })
    };
    let does = string("does").expect("does");
    let (method, target) = does.split_once(' ').expect("METHOD TARGET");
    let who = match &field("who").expect("who").value {
        Value::Str(text) if &**text == "nobody" => Who::Nobody,
        Value::Str(text) => Who::Key(text.strip_prefix("key ").expect("`key ID`").to_owned()),
        roles @ Value::List(_) => Who::Claims(json!({"roles": json_of(roles)})),
        claims => Who::Claims(json_of(claims)),
    };
    let headers = match field("headers").map(|node| json_of(&node.value)) {
        None => Vec::new(),
        Some(serde_json::Value::Array(lines)) => lines.iter().map(|line| line.as_str().expect("`name: value`")).map(header).collect(),
        Some(other) => panic!("headers are a list of `name: value`, not {other}"),
    };
    Row {
        what: string("what").expect("what"),
        tenant: string("tenant").expect("tenant"),
        host: string("host"),
        who,
        method: method.to_owned(),
        target: target.to_owned(),
        headers: Headers(headers),
        source: string("source").map_or(IpAddr::from([127, 0, 0, 1]), |text| text.parse().expect("an address")),
        gives: string("gives").expect("gives"),
        rule: string("rule"),
    }
}

fn header(line: &str) -> (String, String) {
    let (name, value) = line.split_once(": ").expect("`name: value`");
    (name.to_owned(), value.to_owned())
}

fn json_of(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => json!(null),
        Value::Bool(b) => json!(b),
        Value::Int(n) => json!(n),
        Value::Float(n) => json!(n),
        Value::Str(text) => json!(**text),
        Value::List(items) => items.iter().map(|item| json_of(&item.value)).collect(),
        Value::Map(entries) => entries.iter().map(|(key, node)| (key.text.to_string(), json_of(&node.value))).collect(),
    }
}

/// Keys that the documents know by their hash.
struct Keys {
    ci: String,
    idle: String,
}

impl Keys {
    fn new() -> Self {
        Self { ci: key("ci"), idle: key("idle") }
    }

    fn of(&self, id: &str) -> &str {
        match id {
            "ci" => &self.ci,
            "idle" => &self.idle,
            other => panic!("no key {other}"),
        }
    }
}

fn key(id: &str) -> String {
    use base64::Engine;
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).unwrap();
    format!("bk1.acme_corp.{id}.{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret))
}

fn sha256(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The documents with what depends on the run filled in.
fn documents(keys: &Keys) -> Vec<(String, String)> {
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let today = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).weekday().to_monday_zero_offset();
    // Yesterday, today and tomorrow: the row means the same when midnight passes during the run.
    let near = |day: usize| (0..3).any(|off| (today as usize + 6 + off) % 7 == day);
    let pick = |wanted: bool| {
        days.iter().enumerate().filter(|(day, _)| near(*day) == wanted).map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
    };
    ["platform.yaml", "tenants.yaml"]
        .map(|name| {
            let text = std::fs::read_to_string(folder().join("documents").join(name)).unwrap();
            let text = text
                .replace("{today}", &pick(true))
                .replace("{not_today}", &pick(false))
                .replace("{ci_sha256}", &sha256(&keys.ci))
                .replace("{idle_sha256}", &sha256(&keys.idle));
            (name.to_owned(), text)
        })
        .into()
}

fn snapshot(documents: &[(String, String)]) -> Arc<Snapshot> {
    let mut offer = Offer { complete: true, ..Offer::default() };
    for (name, text) in documents {
        let file = declared::read_file(name, text);
        assert!(file.diagnostics.is_empty(), "{}", file.diagnostics);
        offer.put.extend(file.documents.into_iter().map(|document| Put { document, text: "".into() }));
    }
    let outcome = Catalogue::new().apply(&offer);
    assert!(outcome.quarantined.is_empty(), "{:?}", outcome.quarantined);
    outcome.snapshot
}

/// Remembers the rule that decided.
#[derive(Default)]
struct Deciding(Option<Arc<RuleId>>);

impl Trace for Deciding {
    const LISTENS: bool = true;
    fn rule(&mut self, rule: &Arc<RuleId>, misses: Misses) {
        if misses.is_match() && self.0.is_none() {
            self.0 = Some(Arc::clone(rule));
        }
    }
}

/// What `decide` says to a row: the text of `gives`, and the rule.
fn decided(snapshot: &Snapshot, row: &Row, claims: &serde_json::Value) -> (String, Option<String>) {
    let slice = snapshot.tenant(&row.tenant).expect("the tenant is declared");
    let service = &snapshot.platform().services()[0];
    let (path, query) = row.target.split_once('?').map_or((&*row.target, None), |(path, query)| (path, Some(query)));
    let path = normalise(path).expect("rows have unambiguous paths");
    let principal = match &row.who {
        Who::Nobody => None,
        Who::Key(id) => Some(Principal { user: id.as_str().into(), credential: Credential::ApiKey(id.parse::<KeyId>().unwrap()) }),
        Who::Claims(_) => Some(Principal {
            user: claims["sub"].as_str().unwrap().into(),
            credential: Credential::Token {
                scope: Scope::Platform,
                issuer: "https://issuer.bulkhead.localhost".into(),
                claims: Arc::new(text::json::read(claims.to_string().as_bytes(), text::Budget::TOKEN).unwrap().value),
            },
        }),
    };
    let held = principal.as_ref().map(|principal| (principal, slice.policy().roles_of(principal)));
    let host = row.host.clone().or_else(|| snapshot_host(&row.tenant)).unwrap_or_default();
    let method = row.method.parse().unwrap();
    let facts = Facts {
        route: service.route(&path),
        method: &method,
        path: &path,
        source: row.source,
        principal: held,
        now: jiff::Timestamp::now().as_second(),
        asked: Asked { host: host.as_bytes(), query, size: Some(0), fields: &row.headers },
    };
    let mut deciding = Deciding::default();
    let verdict = match decide(slice, &facts, &mut deciding) {
        Ok(_) => "200".to_owned(),
        Err(Denial::NotServed(_)) => "403 tenant_suspended".to_owned(),
        Err(Denial::NoRoute) => "404 no_route".to_owned(),
        Err(Denial::NoCredential) => "401 missing_credential".to_owned(),
        Err(Denial::FeatureMissing(_)) => "403 feature_required".to_owned(),
        Err(Denial::Denied(_)) => "403 denied_by_rule".to_owned(),
        Err(Denial::NotPermitted) => "403 not_permitted".to_owned(),
    };
    (verdict, deciding.0.map(|rule| rule.text.clone()))
}

#[test]
fn every_row_is_decided_alike_by_the_function_and_by_the_socket() {
    let keys = Keys::new();
    let documents = documents(&keys);
    let snapshot = snapshot(&documents);
    let origin = Origin::start();
    let endpoint = origin.address().to_string();
    let world = World::with(origin, |folder| {
        std::fs::remove_dir_all(folder.join("tenants")).unwrap();
        for (name, text) in &documents {
            std::fs::write(folder.join(name), text.replace("127.0.0.1:4789", &endpoint)).unwrap();
        }
    });
    let mut wrong = Vec::new();
    for row in rows() {
        let mut claims = world.issuer.claims(&row.tenant, &[]);
        if let Who::Claims(over) = &row.who {
            for (name, value) in over.as_object().unwrap() {
                claims[name] = value.clone();
            }
        }
        let (verdict, rule) = decided(&snapshot, &row, &claims);
        if verdict != row.gives {
            wrong.push(format!("{}: decide says {verdict}, not {}", row.what, row.gives));
        }
        if row.rule.is_some() && rule != row.rule {
            wrong.push(format!("{}: decided by {rule:?}, not {:?}", row.what, row.rule));
        }
        let host = row.host.clone().or_else(|| snapshot_host(&row.tenant));
        let mut client = Client::new(world.address(), &host.expect("a row of a tenant without hosts names one")).from(row.source);
        client = match &row.who {
            Who::Nobody => client,
            Who::Key(id) => client.with("x-api-key", keys.of(id)),
            Who::Claims(_) => client.bearer(&world.issuer.sign(bulkhead_tests::Algorithm::EdDsa, &claims)),
        };
        for (name, value) in &row.headers.0 {
            client = client.with(name, value);
        }
        let answer = client.send(&row.method, &row.target, b"").verdict();
        // The answer to HEAD has no body, so it names no code.
        if answer != row.gives && !(row.method == "HEAD" && row.gives.starts_with(&answer)) {
            wrong.push(format!("{}: the socket says {answer}, not {}", row.what, row.gives));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

fn snapshot_host(tenant: &str) -> Option<String> {
    match tenant {
        "acme_corp" => Some("acme.localhost".to_owned()),
        "hostless" => None,
        other => Some(format!("{other}.localhost")),
    }
}
