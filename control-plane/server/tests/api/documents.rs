//! Documents: created, read, replaced, removed; their versions and conditions.

use crate::support::{ADMIN, Plane};
use http::Method;
use serde_json::json;

const INITECH: &str = r#"{"tenant_id":"initech","name":"Initech","email":"admin@initech.example","api_quota_per_hour":5000,"storage_quota_gb":100.0,"features":["audio_processing","analytics"]}"#;

#[tokio::test]
async fn a_tenant_is_created_as_its_document_stands_and_has_the_default_plan() {
    let plane = Plane::start().await.with_demo().await;
    let created = plane.send(Method::POST, "/v1/tenants", ADMIN, &[], INITECH).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(created.headers["location"], "/v1/tenants/initech");
    let read = plane.get("/v1/tenants/initech").await;
    assert_eq!((read.status.as_u16(), read.etag()), (200, created.etag()));
    assert_eq!(read.body, serde_json::from_str::<serde_json::Value>(INITECH).unwrap());
    let config = plane.get("/v1/tenants/initech/config?origin=true").await;
    assert_eq!(config.body["api_quota_per_hour"]["origin"], "tenant", "{}", config.text);
    let again = plane.send(Method::POST, "/v1/tenants", ADMIN, &[], INITECH).await;
    assert_eq!((again.status.as_u16(), again.code()), (409, "already_exists"));
}

#[tokio::test]
async fn every_mistake_comes_back_at_once_with_its_pointer() {
    let plane = Plane::start().await.with_demo().await;
    let wrong = INITECH.replace("admin@initech.example", "nobody").replace("5000", "-1");
    let refused = plane.send(Method::POST, "/v1/tenants", ADMIN, &[], &wrong).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    let mut pointers: Vec<&str> =
        refused.body["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/api_quota_per_hour", "/email"]);
    assert_eq!(plane.get("/v1/tenants/initech").await.status, 404);
}

#[tokio::test]
async fn a_change_set_is_done_whole_or_not_at_all() {
    let plane = Plane::start().await.with_demo().await;
    let before = plane.get("/v1/revision").await.body;
    let good = "kind: Plan\nname: gold\napi_quota_per_hour: 9\n";
    let refused = plane
        .apply(ADMIN, &format!("{good}---\nkind: RoleBinding\ntenant: acme_corp\nname: b\nrole: nobody_knows\nsubjects: [{{ user: u }}]\n"))
        .await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert_eq!(plane.get("/v1/revision").await.body, before);
    assert_eq!(plane.get("/v1/plans/gold").await.status, 404);
    let dry = plane.send(Method::POST, "/v1/apply?dry_run=true", ADMIN, &[("content-type", "application/yaml")], good).await;
    assert_eq!((dry.status.as_u16(), dry.body["documents"][0]["became"].as_str()), (200, Some("created")));
    assert_eq!(plane.get("/v1/plans/gold").await.status, 404);
    assert_eq!(plane.apply(ADMIN, good).await.body["documents"][0]["became"], "created");
    let unchanged = plane.apply(ADMIN, &good.replace("gold", "\"gold\"")).await;
    assert_eq!(unchanged.body["documents"][0]["became"], "unchanged", "layout is no change");
}

#[tokio::test]
async fn two_claimants_of_one_host_are_refused_whole() {
    let plane = Plane::start().await.with_demo().await;
    let taken = json!({ "tenant_id": "other", "name": "Other", "email": "a@other.example", "hosts": ["acme.localhost"] });
    let refused = plane.post("/v1/tenants", ADMIN, &taken).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert_eq!(plane.get("/v1/tenants/other").await.status, 404);
    let config = plane.get("/v1/tenants/acme_corp/config").await;
    assert_eq!(config.body["hosts"], json!(["acme.localhost"]), "who had it keeps it");
}

#[tokio::test]
async fn a_write_on_an_old_version_is_refused() {
    let plane = Plane::start().await;
    let plan = |quota: u32| json!({ "kind": "Plan", "name": "gold", "api_quota_per_hour": quota });
    let first = plane.put("/v1/plans/gold", &plan(1)).await;
    assert_eq!(first.status, 201);
    let tag = first.etag().to_owned();
    let conditional = |quota: u32, tag: &str| {
        let (body, tag) = (plan(quota).to_string(), tag.to_owned());
        let plane = &plane;
        async move { plane.send(Method::PUT, "/v1/plans/gold", ADMIN, &[("if-match", &tag)], &body).await }
    };
    assert_eq!(conditional(2, &tag).await.status, 200);
    let refused = conditional(3, &tag).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (412, "version_changed"));
    let now = plane.get("/v1/plans/gold").await;
    assert_eq!((refused.etag(), &now.body["api_quota_per_hour"]), (now.etag(), &json!(2)));
    let known = plane.send(Method::GET, "/v1/plans/gold", ADMIN, &[("if-none-match", now.etag())], "").await;
    assert_eq!(known.status, 304);
}

#[tokio::test]
async fn each_version_can_be_read_compared_and_brought_back() {
    let plane = Plane::start().await;
    for quota in [1, 2, 3] {
        plane.put("/v1/plans/gold", &json!({ "kind": "Plan", "name": "gold", "api_quota_per_hour": quota })).await;
    }
    let history = plane.get("/v1/plans/gold/history").await;
    let revisions: Vec<u64> = history.body["items"].as_array().unwrap().iter().map(|item| item["revision"].as_u64().unwrap()).collect();
    assert_eq!(revisions, [3, 2, 1]);
    let difference = plane.get("/v1/plans/gold/diff?from=1").await;
    assert_eq!(difference.body["changes"], json!([{ "pointer": "/api_quota_per_hour", "became": "changed", "from": 1, "to": 3 }]));
    let back = plane.post("/v1/plans/gold/rollback", ADMIN, &json!({ "revision": 1 })).await;
    assert_eq!(back.status, 200, "{}", back.text);
    assert_eq!(plane.get("/v1/plans/gold").await.body["api_quota_per_hour"], 1);
    assert_eq!(plane.send(Method::DELETE, "/v1/plans/gold", ADMIN, &[], "").await.status, 200);
    assert_eq!(plane.get("/v1/plans/gold").await.status, 404);
    assert_eq!(plane.get("/v1/plans/gold/history").await.body["items"][0]["removed"], true);
    assert_eq!(plane.post("/v1/plans/gold/rollback", ADMIN, &json!({ "revision": 2 })).await.status, 200, "also after its removal");
    assert_eq!(plane.get("/v1/plans/gold").await.body["api_quota_per_hour"], 2);
}

#[tokio::test]
async fn a_request_that_is_sent_again_under_its_name_is_done_once() {
    let plane = Plane::start().await;
    let once = |body: serde_json::Value| {
        let plane = &plane;
        async move { plane.send(Method::POST, "/v1/plans", ADMIN, &[("idempotency-key", "k-1")], &body.to_string()).await }
    };
    let plan = json!({ "kind": "Plan", "name": "gold" });
    let (first, again) = (once(plan.clone()).await, once(plan).await);
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201), "{}", again.text);
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(first.body["revision"], again.body["revision"]);
    let other = once(json!({ "kind": "Plan", "name": "silver" })).await;
    assert_eq!((other.status.as_u16(), other.code()), (422, "idempotency_key_reused"));
}

#[tokio::test]
async fn pages_hold_every_document_once() {
    let plane = Plane::start().await;
    let many: Vec<String> = (0..25).map(|n| format!("kind: Plan\nname: p{n:02}\n")).collect();
    assert_eq!(plane.apply(ADMIN, &many.join("---\n")).await.status, 200);
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let page = plane.get(&format!("/v1/plans?limit=10{after}")).await;
        names.extend(page.body["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        match page.body["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(names, (0..25).map(|n| format!("p{n:02}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_applied_before_and_is_not_sent_again_is_pruned_when_asked() {
    let plane = Plane::start().await;
    plane.apply(ADMIN, "kind: Plan\nname: one\n---\nkind: Plan\nname: two\n").await;
    let pruned =
        plane.send(Method::POST, "/v1/apply?prune=true", ADMIN, &[("content-type", "application/yaml")], "kind: Plan\nname: two\n").await;
    assert_eq!(pruned.status, 200, "{}", pruned.text);
    assert_eq!((plane.get("/v1/plans/one").await.status.as_u16(), plane.get("/v1/plans/two").await.status.as_u16()), (404, 200));
}

#[tokio::test]
async fn a_name_of_a_request_is_its_operators_own_and_stands_for_that_request_alone() {
    let plane = Plane::start().await.with_demo().await;
    let (one, two) = (plane.operator("ci", "platform-admin", None).await, plane.operator("ci", "platform-admin", None).await);
    let put = |token: String, headers: Vec<(&'static str, &'static str)>, quota: u32| {
        let plane = &plane;
        let body = json!({ "kind": "Plan", "name": "gold", "api_quota_per_hour": quota }).to_string();
        async move { plane.send(Method::PUT, "/v1/plans/gold", &token, &headers, &body).await }
    };
    assert_eq!(put(one.clone(), vec![("idempotency-key", "k")], 1).await.status, 201);
    assert_eq!(put(two.clone(), vec![("idempotency-key", "k")], 2).await.status, 200, "two operators of one name");
    let conditional = put(one.clone(), vec![("idempotency-key", "k"), ("if-match", "\"9.9\"")], 1).await;
    assert_eq!(conditional.code(), "idempotency_key_reused", "another condition is another request");
    // What changed nothing is remembered too: sent again it does not undo what came since.
    assert_eq!(put(one.clone(), vec![("idempotency-key", "same")], 2).await.body["documents"][0]["became"], "unchanged");
    put(two, Vec::new(), 3).await;
    assert_eq!(put(one, vec![("idempotency-key", "same")], 2).await.headers["idempotent-replayed"], "true");
    assert_eq!(plane.get("/v1/plans/gold").await.body["api_quota_per_hour"], 3);
}
