//! Documents as text into offers, and a catalogue that tells what became of them.

use bulkhead_config::compile::{Catalogue, Outcome};
use bulkhead_config::declared::{DocumentId, Kind, read_file};
use bulkhead_config::explain::{Explanation, Question, explain};
use bulkhead_config::protocol::{Broken, Offer, Part, Put, Quarantined, Serving};

/// Monday, 2026-11-23T12:00:00Z.
pub(crate) const NOON: i64 = 1_795_435_200;

/// The demo's platform.
pub(crate) const PLATFORM: &str = include_str!("../../samples/platform.yaml");
/// The demo's tenants.
pub(crate) const ACME: &str = include_str!("../../samples/tenants/acme_corp.yaml");
pub(crate) const GLOBEX: &str = include_str!("../../samples/tenants/globex.yaml");

/// Documents that are put, without mistakes in their text.
pub(crate) fn put(file: &str, text: &str) -> Vec<Put> {
    let read = read_file(file, text);
    assert!(read.diagnostics.is_empty(), "{}", read.diagnostics);
    read.documents.into_iter().map(|document| Put { document, text: "".into() }).collect()
}

/// Files as a change.
pub(crate) fn change(files: &[(&str, &str)]) -> Offer {
    Offer { put: files.iter().flat_map(|(file, text)| put(file, text)).collect(), ..Offer::default() }
}

/// Files as all there is.
pub(crate) fn all(files: &[(&str, &str)]) -> Offer {
    Offer { complete: true, ..change(files) }
}

/// A document that is gone.
pub(crate) fn gone(kind: Kind, tenant: Option<&str>, name: &str) -> Offer {
    Offer { remove: vec![id(kind, tenant, name)], ..Offer::default() }
}

pub(crate) fn id(kind: Kind, tenant: Option<&str>, name: &str) -> DocumentId {
    DocumentId { kind, tenant: tenant.map(|tenant| tenant.parse().unwrap()), name: name.parse().unwrap() }
}

/// A file that cannot be read, and the document in it where that is known.
pub(crate) fn broken(file: &str, id: Option<DocumentId>) -> Offer {
    let diagnostics = read_file(file, "kind: [").diagnostics;
    assert!(!diagnostics.is_empty());
    Offer { broken: vec![Broken { file: file.into(), id, diagnostics }], ..Offer::default() }
}

/// The demo, served.
pub(crate) fn demo() -> Catalogue {
    let mut catalogue = Catalogue::new();
    let outcome = catalogue.apply(&all(&[("platform.yaml", PLATFORM), ("tenants/acme_corp.yaml", ACME), ("tenants/globex.yaml", GLOBEX)]));
    assert_eq!(told(&outcome), "", "the demo is without mistakes");
    catalogue
}

/// A tenant's document in a few words.
pub(crate) fn tenant(id: &str, more: &str) -> String {
    format!("kind: Tenant\ntenant_id: {id}\nname: Name\nemail: a@example.com\n{more}\n")
}

/// Everything in quarantine: part, what is served instead, and the mistakes.
pub(crate) fn told(outcome: &Outcome) -> String {
    let one = |quarantined: &Quarantined| format!("{} ({}): {}", quarantined.part, serving(quarantined), quarantined.diagnostics);
    outcome.quarantined.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn serving(quarantined: &Quarantined) -> &'static str {
    match quarantined.serving {
        Serving::LastGood => "last good",
        Serving::Held => "held",
    }
}

/// Parts in quarantine with what is served instead, without the mistakes.
pub(crate) fn parts(outcome: &Outcome) -> Vec<String> {
    outcome.quarantined.iter().map(|quarantined| format!("{} {}", quarantined.part, serving(quarantined))).collect()
}

/// Parts that changed.
pub(crate) fn changed(outcome: &Outcome) -> Vec<String> {
    outcome.changed.iter().map(Part::to_string).collect()
}

/// `GET /v1/items key=value …` with keys `service host tenant user api_key role source at`, and `claims={…}` last.
pub(crate) fn ask(catalogue: &Catalogue, request: &str) -> Explanation {
    let (request, claims) = match request.split_once(" claims=") {
        Some((request, claims)) => (request, Some(claims)),
        None => (request, None),
    };
    let mut words = request.split_whitespace();
    let mut question = Question::new(words.next().unwrap(), words.next().unwrap(), NOON);
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("{word}"));
        let value = value.to_owned();
        match key {
            "service" => question.service = Some(value),
            "host" => question.host = Some(value),
            "tenant" => question.tenant = Some(value),
            "user" => question.user = Some(value),
            "api_key" => question.api_key = Some(value),
            "role" => question.roles.push(value),
            "source" => question.source = Some(value.parse().unwrap()),
            "at" => question.now = value.parse::<jiff::Timestamp>().unwrap().as_second(),
            _ => panic!("{key}"),
        }
    }
    let json = claims.map(|claims| format!(r#"{{"path":"/","claims":{claims}}}"#));
    question.claims = json.and_then(|json| Question::from_json(json.as_bytes(), NOON).unwrap().claims);
    explain(catalogue.snapshot(), &question)
}

/// `allowed`, or status and code.
pub(crate) fn verdict(explanation: &Explanation) -> String {
    let text = explanation.to_string();
    let first = text.lines().next().unwrap();
    first.rsplit_once(": ").unwrap().1.to_owned()
}
