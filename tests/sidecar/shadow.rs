//! From shadow to enforcement: a policy with mistakes is found out by the traffic it would have refused, and mended by what is proposed.

use bulkhead_tests::{Algorithm, Client, Origin, World, binary, eventually};
use serde_json::Value;
use std::process::Command;

/// The demo in shadow, with three mistakes in its policy: clerks hold no role, nobody has the feature that reports require, and the
/// limit of reports is too low for a morning's work.
fn mistaken() -> World {
    World::with(Origin::start(), |folder| {
        let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        let text = text.replacen("kind: Service\nname: demo\n", "kind: Service\nname: demo\nenforce: shadow\n", 1);
        let text = text.replacen("    path: /v1/reports\n", "    path: /v1/reports\n    requires_feature: billing\n", 1);
        assert!(text.contains("enforce: shadow\nshared_hosts") && text.contains("requires_feature: billing"), "{text}");
        std::fs::write(folder.join("platform.yaml"), text).unwrap();
    })
}

fn user(world: &World, name: &str, roles: &[&str]) -> Client {
    let mut claims = world.issuer.claims("globex", roles);
    claims["sub"] = name.into();
    world.client("globex.localhost").bearer(&world.issuer.sign(Algorithm::EdDsa, &claims))
}

/// A morning's work: nothing of it should be refused.
fn work(world: &World) -> Vec<String> {
    let (clerk, reader) = (user(world, "carla", &["clerk"]), user(world, "rita", &["reader"]));
    let mut answers: Vec<String> = ["/v1/items", "/v1/items/7"].iter().map(|path| clerk.get(path).verdict()).collect();
    answers.extend((0..8).map(|_| reader.get("/v1/reports").verdict()));
    answers.push(reader.get("/v1/items").verdict());
    answers
}

fn report(world: &World, arguments: &[&str]) -> String {
    let mut command = Command::new(binary("bulkhead"));
    command.args(["shadow", "report", "--data-dir"]).arg(world.data()).args(arguments);
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    told
}

fn json(world: &World) -> Value {
    serde_json::from_str(&report(world, &["--output", "json"])).unwrap()
}

#[test]
fn a_policy_with_three_mistakes_is_mended_by_what_the_report_proposes() {
    let mut world = mistaken();
    assert!(work(&world).iter().all(|answer| answer == "200"), "in shadow nothing is refused");
    let told = json(&world);
    let found: Vec<(&str, &str, &str, u64)> = told["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| {
            let text = |of: &'static str| finding[of].as_str().unwrap();
            (text("code"), text("route"), finding["principal"]["name"].as_str().unwrap(), finding["requests"].as_u64().unwrap())
        })
        .collect();
    for mistake in [
        ("not_permitted", "items", "carla", 1),
        ("not_permitted", "item", "carla", 1),
        ("feature_required", "reports", "rita", 8),
        ("quota_exceeded", "reports", "rita", 3),
    ] {
        assert!(found.contains(&mistake), "{mistake:?} is not in {told:#}");
    }
    assert_eq!(found.len(), 4, "{told:#}");
    let screen = report(&world, &[]);
    for said in ["10 requests would have been refused", "in Tenant `globex`: add `billing` to `features`", "raise `requests` from 5 to 8"] {
        assert!(screen.contains(said), "no {said:?} in\n{screen}");
    }

    apply(&world, &told);
    let good = world.read("platform.yaml");
    world.write("platform.yaml", &good.replacen("enforce: shadow\n", "", 1));
    eventually("it is enforced", || (user(&world, "carla", &["clerk"]).send("DELETE", "/v1/items/7", b"").status == 403).then_some(()));
    assert_eq!(world.policy()["quarantined"], serde_json::json!([]), "what was proposed is valid");
    // The window of a minute still knows of what came in shadow; a new process begins with an empty one.
    world.process().signal("TERM");
    assert_eq!(world.process().wait().code(), Some(0));
    world.restart();
    let again = work(&world);
    assert!(again.iter().all(|answer| answer == "200"), "{again:?}");
    assert_eq!(user(&world, "carla", &["clerk"]).get("/v1/reports").verdict(), "403 not_permitted", "nothing more than was seen");
    assert_eq!(user(&world, "mallory", &["clerk"]).get("/v1/items").verdict(), "403 not_permitted", "and nobody else");
}

#[test]
fn a_report_that_is_reset_begins_anew_and_status_says_what_is_in_shadow() {
    let world = mistaken();
    assert!(work(&world).iter().all(|answer| answer == "200"), "in shadow nothing is refused");
    let first = report(&world, &["--reset"]);
    assert!(first.contains("10 requests would have been refused") && first.contains("since the start"), "{first}");
    let clean = report(&world, &[]);
    assert!(clean.contains("nothing would have been refused") && clean.contains("since the last reset"), "{clean}");
    assert_eq!(user(&world, "carla", &["clerk"]).get("/v1/items").verdict(), "200");
    assert_eq!((&json(&world)["requests"], &json(&world)["since"]), (&1.into(), &"reset".into()));
    let status = Command::new(binary("bulkhead")).args(["status", "--data-dir"]).arg(world.data()).output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("shadow     Service demo\n"), "{status}");
}

/// What the report proposes: documents of their own, and changes of those that are there.
fn apply(world: &World, told: &Value) {
    let proposals = world.data().join("proposed.yaml");
    report(world, &["--propose", proposals.to_str().unwrap()]);
    world.write("proposed.yaml", &std::fs::read_to_string(proposals).unwrap());
    for change in told["proposals"].as_array().unwrap().iter().filter_map(|proposal| proposal.get("change")) {
        match change["kind"].as_str().unwrap() {
            "Tenant" => {
                let line = format!("features: [{}]\n", change["add"].as_str().unwrap());
                world.write("tenants/globex.yaml", &(world.read("tenants/globex.yaml") + &line));
            }
            "QuotaPolicy" => {
                let (from, to) = (format!("requests: {}\n", change["from"]), format!("requests: {}\n", change["to"]));
                assert_eq!(change["name"], "reports_free");
                world.write("platform.yaml", &world.read("platform.yaml").replacen(&from, &to, 1));
            }
            other => panic!("a change of {other}"),
        }
    }
}

#[test]
fn a_role_is_proposed_for_one_tenant_and_never_for_any_path() {
    let world = mistaken();
    let clerk = user(&world, "carla", &["clerk"]);
    assert_eq!(clerk.get("/v1/items").verdict(), "200");
    for number in 0..6 {
        assert_eq!(clerk.get(&format!("/v1/admin/{number}")).verdict(), "200");
    }
    let told = json(&world);
    let proposed = told["proposals"].as_array().unwrap();
    let documents = proposed[0]["documents"].as_str().unwrap();
    assert!(proposed.len() == 1 && documents.starts_with("kind: Role\ntenant: globex\n"), "{documents}");
    assert!(documents.contains("GET /v1/items\n") && !documents.contains("admin") && !documents.contains("delegable"), "{documents}");
    let left = &told["not_proposed"][0];
    assert_eq!((&left["route"], &left["requests"]), (&"admin".into(), &6.into()), "{left}");
    assert!(left["because"].as_str().unwrap().contains("takes any path"), "{left}");
}

#[test]
fn what_would_open_a_door_to_strangers_is_named_and_not_proposed() {
    let world = mistaken();
    assert_eq!(world.client("globex.localhost").get("/v1/items").verdict(), "200");
    let told = json(&world);
    assert_eq!(told["proposals"], serde_json::json!([]), "{told:#}");
    let left = &told["not_proposed"][0];
    assert_eq!((&left["code"], &left["principal"]["kind"]), (&"missing_credential".into(), &"nobody".into()));
    let screen = report(&world, &[]);
    assert!(screen.contains("not proposed") && screen.contains("nobody"), "{screen}");
    let proposed = world.data().join("proposed.yaml");
    report(&world, &["--propose", proposed.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(proposed).unwrap(), "", "nothing to apply");
}
