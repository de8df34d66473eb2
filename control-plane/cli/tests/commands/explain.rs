//! `bulkhead explain`, offline: the demo's documents are asked.

use crate::support::{Home, Said, samples};
use serde_json::{Value, json};

/// A home with the demo's documents.
fn home() -> Home {
    let home = Home::new();
    for name in ["platform.yaml", "tenants/acme_corp.yaml", "tenants/globex.yaml"] {
        home.write(&format!("documents/{name}"), std::fs::read(samples().join(name)).unwrap());
    }
    home
}

fn explain(home: &Home, line: &str) -> Said {
    let words: Vec<&str> = line.split(' ').collect();
    home.bulkhead(&[&["explain", "--documents", "documents"], words.as_slice()].concat())
}

fn explained(home: &Home, line: &str) -> Value {
    let said = explain(home, &format!("{line} --output json"));
    assert_eq!(said.code, 0, "{line}: {said:?}");
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn each_answer_of_the_demo_is_explained() {
    let home = home();
    for (line, verdict, code) in [
        ("GET /v1/items --tenant acme_corp --role reader", "allowed", json!(null)),
        ("/healthz --host acme.localhost", "allowed", json!(null)),
        ("DELETE /v1/items/3 --tenant acme_corp --api-key ci", "allowed", json!(null)),
        ("/v1/items --host acme.localhost", "refused", json!("missing_credential")),
        ("/v1/admin/users --tenant acme_corp --role reader", "refused", json!("not_permitted")),
        ("http://acme.localhost:8080/v1/items?page=2 --tenant globex --role reader", "refused", json!("other_tenant")),
        ("/v1/elsewhere --tenant acme_corp --role reader", "refused", json!("no_route")),
        ("/v1/items --host nobody.localhost", "refused", json!("unknown_tenant")),
        ("//v1/items --tenant acme_corp", "refused", json!("ambiguous_request")),
    ] {
        let explained = explained(&home, line);
        assert_eq!((&explained["verdict"], &explained["code"]), (&json!(verdict), &code), "{line}");
    }
}

#[test]
fn people_are_told_the_verdict_the_reason_and_the_nearest_miss() {
    let said = explain(&home(), "GET /v1/admin/users --tenant acme_corp --role reader");
    assert!(said.stdout.starts_with("GET /v1/admin/users  403 not_permitted\n  because "), "{}", said.stdout);
    let nearest = said.stdout.lines().find(|line| line.starts_with("  nearest")).unwrap();
    assert!(nearest.contains("`admin`") && nearest.contains("documents/platform.yaml:"), "{nearest}");
}

#[test]
fn claims_come_from_json_or_from_a_token_whose_time_is_told_apart() {
    let home = home();
    let by_claims = home.bulkhead(&[
        "explain",
        "/v1/items",
        "--documents",
        "documents",
        "--host",
        "acme.localhost",
        "--output",
        "json",
        "--claims",
        r#"{"iss":"https://issuer.bulkhead.localhost","tenant":"acme_corp","roles":["reader"]}"#,
    ]);
    let explained: Value = serde_json::from_str(&by_claims.stdout).unwrap();
    assert_eq!(explained["verdict"], "allowed", "{explained}");

    // {"alg":"EdDSA"} . {"roles":["reader"],"tenant":"acme_corp","exp":1} . (nothing that would verify)
    let token = "eyJhbGciOiJFZERTQSJ9.eyJyb2xlcyI6WyJyZWFkZXIiXSwidGVuYW50IjoiYWNtZV9jb3JwIiwiZXhwIjoxfQ.AA";
    let said = explain(&home, &format!("/v1/items --host acme.localhost --token {token}"));
    assert!(said.stdout.starts_with("GET /v1/items  allowed"), "{said:?}");
    assert!(said.stderr.contains("expired at 1970-01-01T00:00:01Z"), "{said:?}");
}

#[test]
fn a_rule_is_asked_about_the_time_and_the_address_that_are_given() {
    let home = home();
    let ask = |rest: &str| explained(&home, &format!("/v1/admin/audit/log --tenant acme_corp --role auditor {rest}"))["verdict"].clone();
    // A Wednesday, 10:00 and 20:00 in Vienna.
    assert_eq!(ask("--source 10.1.2.3 --at 2026-01-14T09:00:00Z"), "allowed");
    assert_eq!(ask("--source 10.1.2.3 --at 2026-01-14T19:00:00Z"), "refused");
    assert_eq!(ask("--source 192.0.2.1 --at 2026-01-14T09:00:00Z"), "refused");
}

#[test]
fn the_exit_code_tells_explained_refused_and_unclear_apart() {
    let home = home();
    for (line, code) in [
        ("/v1/admin/x --tenant acme_corp --role reader", 0),
        ("/v1/admin/x --tenant acme_corp --role reader --check", 1),
        ("/v1/items --tenant acme_corp --role reader --check", 0),
        ("/v1/items --tenant acme_corp --role readr", 65),
        ("/v1/items", 65),
        ("d-0123456789", 2),
        ("items", 2),
    ] {
        assert_eq!(explain(&home, line).code, code, "{line}");
    }
}
