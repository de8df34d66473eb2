//! Explanations as people and programs read them.

use super::support::{ask, demo};
use bulkhead_config::explain::Question;

#[test]
fn a_refusal_names_the_nearest_misses() {
    let explanation = ask(&demo(), "POST /v1/items host=acme.localhost claims={\"tenant\":\"acme_corp\",\"roles\":[\"reader\"]}");
    let expected = "\
POST /v1/items: 403 not_permitted
  because  no rule of a role that the principal holds allows it
  near     role `editor` would allow it by `POST,PUT,DELETE /v1/items` (platform.yaml:63), but the principal holds only `reader`
  near     role `reader` would allow it by `GET /v1/items` (platform.yaml:54), but the method is POST
  tenant   `acme_corp`, active, on plan `premium`, with analytics, audio_processing, reports
  route    `items` of service `demo`: /v1/items to upstream `app`
  role     `reader` of the platform, by binding `readers` (platform.yaml:73)
  epoch    1.1";
    assert_eq!(explanation.to_string(), expected);
}

#[test]
fn what_is_allowed_tells_the_rule_the_bindings_and_the_limits() {
    let explanation = ask(&demo(), "GET /v1/reports host=globex.localhost claims={\"tenant\":\"globex\",\"roles\":[\"editor\"]}");
    let expected = "\
GET /v1/reports: allowed
  because  role `reader` by `GET /v1/reports` (platform.yaml:56) allows it
  tenant   `globex`, active, on plan `free`, with reports
  route    `reports` of service `demo`: /v1/reports to upstream `app`
  role     `editor` of the platform, by binding `editors` (platform.yaml:79)
  role     `reader` of the platform, by binding `editors` (platform.yaml:79) through `editor`
  limit    api_quota_per_hour: 1000 in a clock hour
  limit    `burst` of QuotaPolicy `fair_use`: 200/s, burst 400 per tenant
  limit    `in_flight` of QuotaPolicy `fair_use`: 64 at once per tenant
  limit    `reports` of QuotaPolicy `reports_free`: 5 in 1m per tenant
  epoch    1.1";
    assert_eq!(explanation.to_string(), expected);
}

#[test]
fn each_refusal_points_to_what_comes_nearest() {
    let demo = demo();
    for (request, because, near) in [
        ("GET /v1/item host=acme.localhost", "no route has path `/v1/item`", "route `items` of service `demo` has `/v1/items`"),
        ("GET /v1/items host=acme.localhst", "host `acme.localhst` names no tenant", "host `acme.localhost` names tenant `acme_corp`"),
        ("GET /v1/items host=ap.localhost", "host `ap.localhost` names no tenant", "host `api.localhost` is shared"),
        ("GET /v1/items tenant=acme_crop", "tenant `acme_crop` does not exist", "tenant `acme_corp` exists"),
        ("GET /v1/items tenant=globex role=raeder", "role `raeder` does not exist for tenant `globex`", "role `reader` exists"),
        ("GET /v1/items tenant=acme_corp api_key=cj", "tenant `acme_corp` has no API key `cj`", "API key `ci` exists"),
        ("GET /v1/items tenant=globex service=dmo", "service `dmo` does not exist", "service `demo` exists"),
        (
            "DELETE /v1/items/7 tenant=acme_corp role=editor role=auditor",
            "role `auditor` by `DELETE /v1/items/**` (tenants/acme_corp.yaml:38) denies it, and a deny beats every allow",
            "",
        ),
        (
            "GET /v1/items host=acme.localhost user=u",
            "no rule of a role that the principal holds allows it",
            "role `reader` would allow it by `GET /v1/items` (platform.yaml:54), but the principal holds no role",
        ),
        (
            "GET /v1/admin/audit/log tenant=acme_corp role=auditor source=11.1.2.3 at=2026-11-22T12:00:00Z",
            "no rule of a role that the principal holds allows it",
            "role `admin` would allow it by `* /v1/admin/**` (platform.yaml:70), but the principal holds only `auditor`",
        ),
        ("GET /v1//items tenant=globex", "the path has an empty segment (`//`), which some servers drop and some keep", ""),
    ] {
        let explanation = ask(&demo, request);
        assert_eq!(explanation.because, because, "{request}");
        assert_eq!(explanation.nearest.first().map_or("", String::as_str), near, "{request}");
    }
}

#[test]
fn programs_read_the_same() {
    let explanation = ask(&demo(), "DELETE /v1/items/7 tenant=acme_corp role=editor role=auditor").to_json();
    let at = |pointer: &str| explanation.pointer(pointer).unwrap_or_else(|| panic!("{pointer}")).to_string();
    for (pointer, meant) in [
        ("/verdict", "\"refused\""),
        ("/status", "403"),
        ("/code", "\"denied_by_rule\""),
        ("/rule/role", "\"auditor\""),
        ("/rule/scope", "\"tenant\""),
        ("/rule/effect", "\"deny\""),
        ("/rule/file", "\"tenants/acme_corp.yaml\""),
        ("/rule/line", "38"),
        ("/tenant/plan", "\"premium\""),
        ("/route/path", "\"/v1/items/{id}\""),
        ("/roles/2/name", "\"auditor\""),
        ("/epoch/revision", "1"),
    ] {
        assert_eq!(at(pointer), meant, "{pointer}");
    }
}

#[test]
fn a_question_is_read_strictly() {
    let read = |text: &str| Question::from_json(text.as_bytes(), 7);
    let question =
        read(r#"{"method":"PUT","path":"/a?b","host":"h","roles":["r"],"claims":{"a":1},"source":"::1","at":"1970-01-01T00:01:00Z"}"#)
            .unwrap();
    assert_eq!((&*question.method, &*question.path, question.now), ("PUT", "/a?b", 60));
    assert_eq!(read(r#"{"path":"/a"}"#).unwrap().now, 7);
    for (text, why) in [
        (r#"{}"#, "a question needs a `path`"),
        (r#"[]"#, "a question is a JSON object"),
        (r#"{"path":"/","rolls":[]}"#, "`rolls` is no field of a question; did you mean `roles`?"),
        (r#"{"path":"/","roles":"r"}"#, "`roles` is a list of strings"),
        (r#"{"path":"/","claims":[]}"#, "`claims` is a JSON object"),
        (r#"{"path":"/","source":"here"}"#, "`source` is an IP address, not `here`"),
        (r#"{"path":"/","at":"noon"}"#, "`at` is a time as RFC 3339 writes it, not `noon`"),
        (r#"{"path":7}"#, "`path` is a string"),
    ] {
        assert_eq!(read(text).err().as_deref(), Some(why), "{text}");
    }
    assert!(read(r#"{"path":"/","path":"/b"}"#).is_err());
}
