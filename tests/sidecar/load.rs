//! `bulkhead-bench load` beside a real `bulkhead up`: its README's lines, tokens it makes, policy that changes under it.

use super::up::Up;
use bulkhead_tests::{Client, eventually};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Output;

/// Each answer checked for whose it is.
const LOAD: &str = "--issuer-key data/issuer.key.pem --answer-tenant /told/tenant --timeout 60s --output result.json";
/// Below the burst of either quota.
const MIX: &str = "--tenants acme_corp@acme.localhost=9,globex@globex.localhost";

fn load(up: &Up, arguments: &str) -> (Output, Value) {
    let output = up.shell(&format!("bulkhead-bench load http://{}/v1/items {LOAD} {arguments}", up.address()));
    let result = fs::read(up.folder.path().join("result.json")).ok().and_then(|text| serde_json::from_slice(&text).ok());
    (output, result.unwrap_or_default())
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The commands of the README's section, with what differs here: the port, and which build.
fn readme(up: &Up) -> Vec<String> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let section = readme.split("\n## ").find(|section| section.starts_with("Load it yourself")).unwrap();
    let blocks = section.split("\n```\n").skip(1).step_by(2);
    let here = |block: &str| {
        block.replace("cargo run --release -p bulkhead-bench --", "bulkhead-bench").replace("127.0.0.1:8080", &up.address().to_string())
    };
    blocks.map(here).collect()
}

#[test]
fn the_lines_of_the_readme_do_what_they_say() {
    let up = Up::start();
    let blocks = readme(&up);
    assert_eq!(blocks.len(), 2, "{blocks:?}");
    for block in blocks {
        assert_eq!(block.matches("--duration 10s").count(), 1, "{block}");
        let output = up.shell(&format!("set -e\n{}", block.replace("--duration 10s", "--duration 2s")));
        assert!(output.status.success(), "{block}\n{}", text(&output));
        let told = text(&output);
        for tenant in ["acme_corp", "globex"] {
            assert!(told.lines().any(|line| line.starts_with(tenant)), "{told}");
        }
        assert!(told.contains("by status: 200: 100"), "{told}");
    }
    let page = fs::read_to_string(up.folder.path().join("now.html")).unwrap();
    assert!(page.contains("acme_corp") && page.contains("globex"), "{page}");
}

#[test]
fn policy_that_changes_under_load_costs_no_answer_and_leaks_none() {
    let up = Up::start();
    let tenants = up.data().join("documents/tenants");
    let document = tenants.join("load-churn.yaml");
    let served = |host: &str| Client::new(up.address(), host).get("/v1/items").verdict();
    let (output, result) = std::thread::scope(|scope| {
        let load = scope
            .spawn(|| load(&up, &format!("{MIX} --role reader --rate 150 --duration 8s --policy-churn data/documents/tenants --every 1s")));
        // That the documents change would say nothing if nobody served them. The one before counts: the next may be under way.
        let mut written = Vec::new();
        eventually("a change is served while the load runs", || {
            let text = fs::read_to_string(&document).ok()?;
            let host = text.split_once("hosts: [\"")?.1.split_once('"')?.0.to_owned();
            if !written.contains(&host) {
                written.push(host);
            }
            written.iter().rev().take(2).any(|host| served(host) == "401 missing_credential").then_some(())
        });
        assert!(!load.is_finished(), "the load ended before a change was served");
        load.join().unwrap()
    });
    assert!(output.status.success(), "{}", text(&output));
    let number = |at: &str| result.pointer(at).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {at} in {result}"));
    assert_eq!((number("/all/asked"), number("/all/statuses/200")), (1_200, 1_200), "{}", text(&output));
    assert_eq!((number("/all/failed"), number("/all/leaked"), number("/all/unnamed")), (0, 0, 0), "{}", text(&output));
    assert!(number("/tenants/acme_corp/asked") > number("/tenants/globex/asked") && number("/tenants/globex/asked") > 50);
    assert!(number("/policy_changes/made") >= 1 && number("/policy_changes/failed") == 0, "{}", text(&output));
    assert_eq!(fs::read_dir(&tenants).unwrap().count(), 2, "the folder is as it was");
}

/// The other side of the check: what is refused is no success, and a token of another tenant reads nothing.
#[test]
fn made_tokens_prove_what_they_claim_and_nothing_else() {
    let up = Up::start();
    let counted = "--requests 200 --duration 60s";
    for (arguments, code, status) in [
        ("--tenants acme_corp@acme.localhost --role reader", 0, "200"),
        ("--tenants acme_corp@acme.localhost", 1, "403"),
        ("--tenants acme_corp@globex.localhost --role reader", 1, "403"),
        ("--tenants acme_corp@acme.localhost --role reader --claims '{\"exp\":1}'", 1, "401"),
    ] {
        let (output, result) = load(&up, &format!("{counted} {arguments}"));
        assert_eq!(output.status.code(), Some(code), "{arguments}: {}", text(&output));
        assert_eq!(result["all"]["statuses"], serde_json::json!({ status: 200 }), "{arguments}: {}", text(&output));
        assert_eq!(result["all"]["leaked"], 0, "{arguments}");
    }
}
