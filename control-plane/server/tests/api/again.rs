//! What was acknowledged is there after a restart.

use crate::support::{ADMIN, Plane};
use http::Method;
use serde_json::json;

#[tokio::test]
async fn a_restart_finds_documents_tokens_history_and_the_audit_trail() {
    let plane = Plane::start().await.with_demo().await;
    let viewer = plane.operator("v", "viewer", None).await;
    plane.put("/v1/plans/gold", &json!({ "kind": "Plan", "name": "gold" })).await;
    let told = |path: &'static str| path;
    let paths = [
        "/v1/revision",
        "/v1/plans?limit=1000",
        "/v1/tenants?limit=1000",
        "/v1/plans/gold/history",
        "/v1/events?limit=1000",
        "/v1/tenants/acme_corp/config?origin=true",
    ];
    let mut before = Vec::new();
    for path in paths {
        before.push(plane.send(Method::GET, told(path), &viewer, &[], "").await.text);
    }
    let audit = plane.get("/v1/audit?limit=1000").await.body["items"].clone();
    let plane = plane.again().await;
    for (path, before) in paths.iter().zip(before) {
        assert_eq!(plane.send(Method::GET, path, &viewer, &[], "").await.text, before, "{path}");
    }
    assert_eq!(plane.get("/v1/audit?limit=1000").await.body["items"], audit);
    let next = plane.put("/v1/plans/gold", &json!({ "kind": "Plan", "name": "gold", "api_quota_per_hour": 1 })).await;
    assert_eq!(next.status, 200, "{}", next.text);
    let trail = plane.get("/v1/audit?limit=1000").await.body["items"].as_array().unwrap().len();
    assert_eq!(trail, audit.as_array().unwrap().len() + 1, "the trail goes on where it was");
    assert_eq!(plane.send(Method::GET, "/v1/whoami", ADMIN, &[], "").await.body["role"], "platform-admin");
}
