//! Who may what: each operation by each role, and what a tenant's admin may write of its own tenant.

use crate::support::{ADMIN, Plane};
use bulkhead_server::operation::endpoints;
use http::Method;
use serde_json::json;
use std::fmt::Write as _;

/// The statuses that say that an operator was let through: what was asked for is another question.
fn let_through(status: u16) -> bool {
    !matches!(status, 401 | 403)
}

#[tokio::test]
async fn the_matrix_of_permissions_is_the_one_under_review() {
    let plane = Plane::start().await.with_demo().await;
    let operators = [
        ("platform-admin", ADMIN.to_owned()),
        ("tenant-admin", plane.operator("ta", "tenant-admin", Some("acme_corp")).await),
        ("tenant-viewer", plane.operator("tv", "viewer", Some("acme_corp")).await),
        ("viewer", plane.operator("v", "viewer", None).await),
        ("auditor", plane.operator("a", "auditor", None).await),
        ("expired", expired(&plane).await),
        ("nobody", String::new()),
    ];
    let mut matrix = String::from("# operation, then the status that each asks gets: allowed ones as `yes`\n");
    let _ = writeln!(matrix, "{:<32} {}", "", operators.iter().map(|(name, _)| format!("{name:<15}")).collect::<String>().trim_end());
    for endpoint in endpoints() {
        let whose = |tenant: &str| {
            endpoint.path.replace("{tenant}", tenant).replace("{name}", "absent").replace("{revision}", "1").replace("{id}", "x")
        };
        let mut row = String::new();
        for (_, token) in &operators {
            let answer = plane.send(endpoint.method.clone(), &whose("acme_corp"), token, &[], "").await;
            let shown = if let_through(answer.status.as_u16()) { "yes".to_owned() } else { answer.status.as_u16().to_string() };
            assert!(answer.status.as_u16() < 500, "{} answers {}", endpoint.id, answer.text);
            let _ = write!(row, "{shown:<15}");
        }
        let _ = writeln!(matrix, "{:<32} {}", endpoint.id, row.trim_end());
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/permissions.txt");
    if std::env::var_os("BULKHEAD_GOLDEN").is_some_and(|mode| mode == "write") {
        std::fs::write(path, &matrix).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), matrix, "review it, then BULKHEAD_GOLDEN=write");
}

/// A token that was good for no time at all.
async fn expired(plane: &Plane) -> String {
    let made = plane.post("/v1/tokens", ADMIN, &json!({ "name": "old", "role": "platform-admin", "expires_in": "0s" })).await;
    made.body["token"].as_str().unwrap_or("bo1.gone.0123456789012345678901234567890123456789abc").to_owned()
}

#[tokio::test]
async fn a_tenants_admin_finds_nothing_of_another_tenant() {
    let plane = Plane::start().await.with_demo().await;
    let token = plane.operator("ta", "tenant-admin", Some("acme_corp")).await;
    for path in ["/v1/tenants/globex", "/v1/tenants/globex/config", "/v1/tenants/globex/roles", "/v1/tenants/globex/history"] {
        let theirs = plane.send(Method::GET, path, &token, &[], "").await;
        let nobodys = plane.send(Method::GET, &path.replace("globex", "no_such"), &token, &[], "").await;
        assert_eq!((theirs.status.as_u16(), nobodys.status.as_u16()), (404, 404), "{path}");
        let plain = |answer: &crate::support::Answered, name: &str| answer.body["detail"].as_str().unwrap().replace(name, "X");
        assert_eq!(plain(&theirs, "globex"), plain(&nobodys, "no_such"), "the same words, so that it tells nothing");
    }
    let tenants = plane.send(Method::GET, "/v1/tenants", &token, &[], "").await;
    let names: Vec<&str> = tenants.body["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["acme_corp"]);
    let written = plane.apply(&token, "kind: Role\ntenant: globex\nname: mine\nallow: [\"GET /v1/items\"]\n").await;
    assert_eq!(written.status, 404, "{}", written.text);
    let events = plane.send(Method::GET, "/v1/events?limit=1000", &token, &[], "").await;
    assert!(!events.text.contains("globex"), "{}", events.text);
}

#[tokio::test]
async fn a_tenants_admin_cannot_reach_further_than_the_platform_lets_it() {
    let plane = Plane::start().await.with_demo().await;
    let token = plane.operator("ta", "tenant-admin", Some("acme_corp")).await;
    // In the demo, reader and editor are delegable, and admin is not.
    let binding = |role: &str| format!("kind: RoleBinding\ntenant: acme_corp\nname: mine\nrole: {role}\nsubjects: [{{ user: u }}]\n");
    let role = |rules: &str| format!("kind: Role\ntenant: acme_corp\nname: own\n{rules}\n");
    let refused = [
        ("a platform role that is not delegable", binding("admin")),
        ("a rule that no delegable role has", role("allow: [\"PATCH /v1/items/{id}\"]")),
        ("more paths", role("allow: [\"GET /v1/**\"]")),
        ("every method", role("allow: [\"* /v1/items\"]")),
        ("a role that inherits too much", role("inherits: [admin]")),
        ("a role that the platform wrote wide", binding("auditor")),
        (
            "a Tenant document",
            "kind: Tenant\ntenant_id: acme_corp\nname: A\nemail: a@acme.com\nplan: premium\nhosts: [acme.localhost]\n".to_owned(),
        ),
        ("a plan", "kind: Plan\nname: mine\n".to_owned()),
        ("a platform role", "kind: Role\nname: wide\nallow: [\"* /**\"]\n".to_owned()),
        (
            "a wide role of the platform's that it rewrites",
            "kind: Role\ntenant: acme_corp\nname: auditor\nallow: [\"GET /v1/items\"]\n".to_owned(),
        ),
    ];
    for (what, document) in &refused {
        let answer = plane.apply(&token, document).await;
        assert_eq!(answer.status, 403, "{what}: {}", answer.text);
    }
    for (what, document) in [
        ("shadow", role("enforce: shadow\nallow: [\"GET /v1/items\"]")),
        ("public sharing", "kind: CachePolicy\ntenant: acme_corp\nname: c\nshare: public\n".to_owned()),
        ("a looser bound", "kind: SecurityPolicy\ntenant: acme_corp\nname: s\nrequest: { body_bytes_max: 1GiB }\n".to_owned()),
    ] {
        let answer = plane.apply(&token, &document).await;
        assert_eq!(answer.status, 422, "{what}: {}", answer.text);
    }
    for (what, document) in [("a delegable role", binding("reader")), ("a rule of one", role("allow: [\"GET,HEAD /v1/items/{number}\"]"))] {
        let answer = plane.apply(&token, &document).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text);
    }
}

#[tokio::test]
async fn what_hides_a_wide_role_cannot_be_taken_away() {
    let plane = Plane::start().await.with_demo().await;
    let token = plane.operator("ta", "tenant-admin", Some("acme_corp")).await;
    let hidden = "kind: Role\ntenant: acme_corp\nname: admin\nallow: [\"GET /v1/items\"]\n---\nkind: RoleBinding\ntenant: acme_corp\nname: ops\nrole: admin\nsubjects: [{ user: u }]\n";
    let applied = plane.apply(ADMIN, hidden).await;
    assert_eq!(applied.status, 200, "{}", applied.text);
    let removed = plane.send(Method::DELETE, "/v1/tenants/acme_corp/roles/admin", &token, &[], "").await;
    assert_eq!(removed.status, 403, "the binding would mean the platform's admin then: {}", removed.text);
}

#[tokio::test]
async fn every_write_and_every_denied_attempt_is_in_the_audit_trail() {
    let plane = Plane::start().await.with_demo().await;
    let viewer = plane.operator("v", "viewer", None).await;
    plane.put("/v1/plans/gold", &json!({ "kind": "Plan", "name": "gold" })).await;
    plane.send(Method::DELETE, "/v1/plans/gold", &viewer, &[], "").await;
    plane.send(Method::GET, "/v1/revision", "bo1.abcdefghijkl.0123456789012345678901234567890123456789abc", &[], "").await;
    let trail = plane.get("/v1/audit?limit=1000").await;
    let entries = trail.body["items"].as_array().unwrap();
    let numbers: Vec<u64> = entries.iter().map(|entry| entry["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "no gap");
    let has = |action: &str, decision: &str, operator: Option<&str>| {
        entries.iter().any(|entry| entry["action"] == action && entry["decision"] == decision && entry["operator"].as_str() == operator)
    };
    assert!(has("putPlan", "allowed", Some("admin")), "{}", trail.text);
    assert!(has("createToken", "allowed", Some("admin")));
    assert!(has("deletePlan", "denied", Some("v")));
    assert!(has("getRevision", "denied", None));
    assert!(!trail.text.contains(&viewer), "no token is ever in it");
    let auditor = plane.operator("a", "auditor", None).await;
    assert_eq!(plane.send(Method::GET, "/v1/audit?decision=denied", &auditor, &[], "").await.body["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn no_page_warning_or_metric_tells_an_operator_of_one_tenant_of_others() {
    let plane = Plane::start().await.with_demo().await;
    let token = plane.operator("ta", "tenant-admin", Some("acme_corp")).await;
    let page = plane.send(Method::GET, "/v1/tenants?limit=1", &token, &[], "").await;
    assert_eq!((page.body["items"].as_array().unwrap().len(), &page.body["next"]), (1, &json!(null)), "{}", page.text);
    // A binding of a key that is not there is odd, and globex's business alone.
    let odd = "kind: RoleBinding\ntenant: globex\nname: odd\nrole: reader\nsubjects: [{ api_key: merger }]\n";
    let applied = plane.apply(ADMIN, odd).await;
    assert!(applied.text.contains("merger"), "{}", applied.text);
    let role = json!({ "kind": "Role", "tenant": "acme_corp", "name": "own", "allow": ["GET /v1/items"] }).to_string();
    let written = plane.send(Method::PUT, "/v1/tenants/acme_corp/roles/own?dry_run=true", &token, &[], &role).await;
    assert!(written.status == 200 && !written.text.contains("globex") && !written.text.contains("merger"), "{}", written.text);
    assert_eq!(plane.send(Method::GET, "/metrics", "", &[], "").await.status, 401);
    assert_eq!(plane.send(Method::GET, "/metrics", &token, &[], "").await.status, 403);
    let auditor = plane.operator("a", "auditor", Some("acme_corp")).await;
    let both = "kind: Role\ntenant: acme_corp\nname: x\nallow: [\"GET /v1/items\"]\n---\nkind: Role\ntenant: globex\nname: y\nallow: [\"GET /v1/items\"]\n";
    plane.apply(ADMIN, both).await;
    let trail = plane.send(Method::GET, "/v1/audit?limit=1000", &auditor, &[], "").await;
    assert!(trail.text.contains("acme_corp") && !trail.text.contains("globex"), "{}", trail.text);
}

#[tokio::test]
async fn who_somebody_is_cannot_be_changed_where_the_platform_has_bound_a_wide_role() {
    let plane = Plane::start().await.with_demo().await;
    let token = plane.operator("ta", "tenant-admin", Some("acme_corp")).await;
    let identity = |name: &str, key: &str, digest: char| {
        let sha256 = digest.to_string().repeat(64);
        format!("kind: Identity\ntenant: acme_corp\nname: {name}\napi_keys: [{{ id: {key}, sha256: {sha256} }}]\n")
    };
    let wide = "kind: RoleBinding\ntenant: acme_corp\nname: ops_admin\nrole: admin\nsubjects: [{ api_key: ops }]\n";
    let applied = plane.apply(ADMIN, &format!("{}---\n{wide}", identity("opskeys", "ops", 'a'))).await;
    assert_eq!(applied.status, 200, "{}", applied.text);
    for (what, document) in [("the key", identity("opskeys", "ops", 'b')), ("a key of that name elsewhere", identity("other", "ops", 'b'))]
    {
        let refused = plane.apply(&token, &document).await;
        assert_eq!(refused.status, 403, "{what}: {}", refused.text);
    }
    assert_eq!(plane.apply(&token, &identity("mine", "own", 'c')).await.status, 200, "another key is its own business");
    let claimed = "kind: RoleBinding\ntenant: acme_corp\nname: staff\nrole: admin\nsubjects: [{ claim: { roles: superuser } }]\n";
    assert_eq!(plane.apply(ADMIN, claimed).await.status, 200);
    let issuer = "kind: Identity\ntenant: acme_corp\nname: evil\njwt: [{ issuer: \"https://evil.example\", audiences: [demo], algorithms: [ES256], jwks: { url: \"https://evil.example/jwks.json\" } }]\n";
    let refused = plane.apply(&token, issuer).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
}

#[tokio::test]
async fn a_look_at_another_tenant_is_written_down() {
    let plane = Plane::start().await.with_demo().await;
    let token = plane.operator("ta", "tenant-admin", Some("acme_corp")).await;
    assert_eq!(plane.send(Method::GET, "/v1/tenants/globex/config", &token, &[], "").await.status, 404);
    let denied = plane.get("/v1/audit?decision=denied").await;
    assert!(denied.body["items"].as_array().unwrap().iter().any(|entry| entry["action"] == "getTenantConfig"), "{}", denied.text);
}
