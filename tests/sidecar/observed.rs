//! What is told: metrics, logs, status, explanations.

use bulkhead_tests::{World, eventually};
use serde_json::Value;

fn access_log(world: &World) -> Vec<Value> {
    let text = std::fs::read_to_string(world.documents().parent().unwrap().join("access.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"))).collect()
}

#[test]
fn requests_are_counted_by_tenant() {
    let world = World::start();
    for _ in 0..3 {
        world.user("acme_corp", &["reader"]).get("/v1/items");
    }
    world.user("acme_corp", &["reader"]).send("POST", "/v1/items", b"{}");
    world.user("globex", &["reader"]).get("/v1/items");
    // A request is counted behind its last byte, which its client may have read a moment before.
    let is_last = |metrics: &String| metrics.contains("tenant_response_time_seconds_count{tenant_id=\"globex\"} 1\n");
    let metrics = eventually("the last request is counted", || Some(world.probe("/metrics").text()).filter(is_last));
    let value = |line: &str| {
        let found = metrics.lines().find(|l| l.starts_with(line)).unwrap_or_else(|| panic!("no {line} in\n{metrics}"));
        found.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(value("tenant_response_time_seconds_count{tenant_id=\"acme_corp\"}"), 4.0);
    assert_eq!(value("tenant_response_time_seconds_count{tenant_id=\"globex\"}"), 1.0);
    let requests: Vec<&str> = metrics.lines().filter(|l| l.starts_with("tenant_requests_total{") && l.contains("acme_corp")).collect();
    assert!(requests.iter().any(|l| l.contains("status_class=\"2xx\"") && l.ends_with(" 3")), "{requests:?}");
    assert!(requests.iter().any(|l| l.contains("status_class=\"4xx\"") && l.ends_with(" 1")), "{requests:?}");
    for name in [
        "system_cpu_usage_percent",
        "system_memory_usage_bytes",
        "system_disk_usage_percent",
        "process_resident_memory_bytes",
        "bulkhead_build_info",
    ] {
        // CPU use is a difference of two readings: it appears with the second.
        eventually(name, || world.probe("/metrics").text().contains(&format!("# TYPE {name} ")).then_some(()));
    }
}

#[test]
fn every_request_has_a_line_in_the_access_log() {
    let world = World::start();
    let refused = world.user("acme_corp", &["reader"]).send("DELETE", "/v1/items/7?token=secret", b"");
    let id = refused.json()["decision_id"].as_str().unwrap().to_owned();
    let line = eventually("the line is written", || access_log(&world).into_iter().find(|line| line["decision_id"] == id.as_str()));
    let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
    for key in ["timestamp", "level", "component", "tenant_id", "message", "latency_ms"] {
        assert!(keys.iter().any(|k| *k == key), "no {key} in {line}");
    }
    assert_eq!(line["tenant_id"], "acme_corp");
    assert_eq!(line["method"], "DELETE");
    assert_eq!(line["path"], "/v1/items/7");
    assert_eq!(line["status"], 403);
    assert_eq!(line["code"], "not_permitted");
    assert!(!line.to_string().contains("secret"), "a query may hold secrets: {line}");
}

#[test]
fn log_lines_begin_with_the_six_fields_in_order() {
    let world = World::start();
    world.user("acme_corp", &["reader"]).get("/v1/items");
    eventually("a line is written", || (!access_log(&world).is_empty()).then_some(()));
    let text = std::fs::read_to_string(world.documents().parent().unwrap().join("access.jsonl")).unwrap();
    for line in text.lines().chain(world.log().lines()) {
        let mut at = 0;
        for key in ["\"timestamp\":", "\"level\":", "\"component\":", "\"tenant_id\":", "\"message\":", "\"latency_ms\":"] {
            let found = line.find(key).unwrap_or_else(|| panic!("no {key} in {line}"));
            assert!(found >= at, "{key} is out of order: {line}");
            at = found;
        }
        assert!(line.starts_with("{\"timestamp\":"), "{line}");
    }
}

#[test]
fn secrets_are_in_no_log_and_no_dump() {
    let world = World::start();
    let token = world.issuer.token("acme_corp", &["reader"]);
    let key = format!("bk1.acme_corp.ci.{}", "S".repeat(43));
    world.client("acme.localhost").bearer(&token).get("/v1/items");
    world.client("acme.localhost").bearer(&format!("{token}x")).get("/v1/items");
    world.client("acme.localhost").with("x-api-key", &key).get("/v1/items");
    eventually("the lines are written", || (access_log(&world).len() >= 3).then_some(()));
    let everything = [
        world.log(),
        access_log(&world).iter().map(Value::to_string).collect(),
        world.admin("GET", "/config", "").text(),
        world.admin("GET", "/config?tenant=acme_corp&origin=true", "").text(),
        world.admin("GET", "/status", "").text(),
        world.probe("/metrics").text(),
    ]
    .concat();
    let signature = token.rsplit('.').next().unwrap();
    assert!(!everything.contains(signature), "a token's signature is in the logs");
    assert!(!everything.contains(&"S".repeat(43)), "a key's secret is in the logs");
}

#[test]
fn probes_say_what_they_checked() {
    let world = World::start();
    for probe in ["/livez", "/startupz", "/readyz"] {
        assert_eq!(world.probe(probe).status, 200, "{probe}");
        let verbose = world.probe(&format!("{probe}?verbose"));
        assert!(verbose.text().lines().count() >= 2, "{probe}: {}", verbose.text());
    }
    assert_eq!(world.probe("/nothing").status, 404);
}

#[test]
fn the_admin_socket_is_private_to_its_user() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::start();
    let mode = std::fs::metadata(world.data().join("admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_described_request_is_explained_without_being_made() {
    let world = World::start();
    let question = r#"{"method":"GET","path":"/v1/items","tenant":"acme_corp","roles":["reader"]}"#;
    let answer = world.admin("POST", "/explain", question);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("GET /v1/items"), "the rule is named: {}", answer.text());
    assert!(world.origin.received().is_empty());
}

#[test]
fn effective_values_of_a_tenant_name_the_layer_they_come_from() {
    let world = World::start();
    let shown = world.admin("GET", "/config?tenant=acme_corp&origin=true", "");
    assert_eq!(shown.status, 200, "{}", shown.text());
    let text = shown.text();
    assert!(text.contains("50000") && text.contains("plan"), "{text}");
    let unknown = world.admin("GET", "/config?tenant=acme_crop", "");
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("acme_corp"), "the nearest name is offered: {}", unknown.text());
}
