//! Two tenants kept apart: the right caller gets through, everybody else is told why not.

use bulkhead_tests::World;

#[test]
fn the_right_caller_gets_through_as_the_tenant_it_proved() {
    let world = World::start();
    let answer = world.user("acme_corp", &["reader"]).get("/v1/items");
    assert_eq!(answer.verdict(), "200");
    assert_eq!(answer.json()["tenant"], "acme_corp");
    assert_eq!(answer.json()["user"], "user-1");
    assert_eq!(world.origin.last().header("x-bulkhead-roles").as_deref(), Some("reader"));
}

#[test]
fn a_token_of_one_tenant_opens_nothing_of_another() {
    let world = World::start();
    let token = world.issuer.token("acme_corp", &["admin"]);
    let answer = world.client("globex.localhost").bearer(&token).get("/v1/items");
    assert_eq!(answer.verdict(), "403 other_tenant");
    let text = answer.text();
    assert!(!text.contains("acme"), "the refusal tells whose token it was: {text}");
    assert!(world.origin.received().is_empty());
}

#[test]
fn a_key_of_one_tenant_opens_nothing_of_another() {
    let world = World::start();
    let key = format!("bk1.acme_corp.ci.{}", "A".repeat(43));
    let answer = world.client("globex.localhost").with("x-api-key", &key).get("/v1/items");
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(world.origin.received().is_empty());
}

#[test]
fn every_refusal_says_what_where_and_how_to_fix_it() {
    let world = World::start();
    let reader = world.user("acme_corp", &["reader"]);
    for (answer, verdict) in [
        (world.client("acme.localhost").get("/v1/items"), "401 missing_credential"),
        (world.client("acme.localhost").bearer("nonsense").get("/v1/items"), "401 invalid_token"),
        (reader.send("POST", "/v1/items", b"{}"), "403 not_permitted"),
        (reader.get("/v2"), "404 no_route"),
        (world.client("nobody.localhost").get("/v1/items"), "404 unknown_tenant"),
        (reader.get("/v1/%2e%2e/items"), "400 ambiguous_request"),
    ] {
        assert_eq!(answer.verdict(), verdict);
        let problem = answer.json();
        for member in ["type", "title", "detail", "fix", "decision_id"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{verdict}: no {member} in {problem}");
        }
        assert_eq!(problem["status"], answer.status);
        assert!(answer.header("proxy-status").is_some_and(|value| value.contains("error=")), "{verdict}: {:?}", answer.headers);
        assert_eq!(answer.header("www-authenticate").is_some(), answer.status == 401, "{verdict}: {:?}", answer.headers);
    }
}

#[test]
fn browsers_get_a_short_page() {
    let world = World::start();
    let answer = world.client("acme.localhost").with("accept", "text/html,application/xhtml+xml;q=0.9").get("/v1/items");
    assert_eq!(answer.status, 401);
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{:?}", answer.headers);
    assert!(answer.text().contains("missing_credential"), "{}", answer.text());
}

#[test]
fn a_refusal_is_explained_by_its_decision_id() {
    let world = World::start();
    let answer = world.user("acme_corp", &["reader"]).send("DELETE", "/v1/items/7", b"");
    let id = answer.json()["decision_id"].as_str().unwrap().to_owned();
    let explained = world.admin("GET", &format!("/explain?decision={id}"), "");
    assert_eq!(explained.status, 200, "{}", explained.text());
    let text = explained.text();
    assert!(text.contains("editor"), "the nearest miss is the editor's rule: {text}");
    assert!(text.contains("DELETE"), "{text}");
}

/// What no rule decides: the client is told, and who asks later hears it too.
#[test]
fn a_refusal_that_no_rule_decided_is_explained_by_what_was_wrong() {
    let world = World::start();
    let globex = world.user("globex", &["reader"]);
    while globex.get("/v1/reports").status == 200 {}
    for (refused, why) in [
        (globex.get("/v1/reports"), "the limit `reports_free.reports`"),
        (globex.get("/v1/items/../admin"), "segment"),
        (world.client("acme.localhost").with("authorization", "Bearer a.b").get("/v1/items"), "three parts"),
    ] {
        let id = refused.json()["decision_id"].as_str().unwrap().to_owned();
        let explained = world.admin("GET", &format!("/explain?decision={id}"), "").json();
        let because = explained["because"].as_str().unwrap();
        assert!(because.contains(refused.json()["code"].as_str().unwrap()) && because.contains(why), "{because}");
    }
}

#[test]
fn one_tenants_documents_change_nothing_for_the_other() {
    let world = World::start();
    let globex = world.user("globex", &["reader"]);
    assert_eq!(globex.get("/v1/items").verdict(), "200");
    let text = world.read("tenants/acme_corp.yaml");
    world.write("tenants/acme_corp.yaml", &text.replace("hosts: [acme.localhost]", "hosts: [acme.localhost]\nstate: suspended"));
    bulkhead_tests::eventually("acme is suspended", || {
        (world.user("acme_corp", &["reader"]).get("/v1/items").verdict() == "403 tenant_suspended").then_some(())
    });
    assert_eq!(globex.get("/v1/items").verdict(), "200");
}
