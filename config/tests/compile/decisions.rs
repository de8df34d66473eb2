//! Decisions about described requests, as a table.

use super::support::{PLATFORM, all, ask, demo, tenant, told, verdict};
use bulkhead_config::compile::Catalogue;

#[test]
fn the_demo_decides_what_it_declares() {
    let demo = demo();
    for (request, meant) in [
        // Whose request it is.
        ("GET /v1/items host=acme.localhost tenant=acme_corp role=reader", "allowed"),
        ("GET /v1/items host=ACME.localhost.:8080 tenant=acme_corp role=reader", "allowed"),
        ("GET /v1/items tenant=acme_corp role=reader", "allowed"),
        ("GET /v1/items host=api.localhost tenant=acme_corp role=reader", "allowed"),
        ("GET /v1/items host=api.localhost", "401 missing_credential"),
        ("GET /v1/items host=api.localhost api_key=ci", "cannot be said"),
        ("GET /v1/items host=api.localhost claims={\"tenant\":\"acme_corp\",\"roles\":[\"reader\"]}", "allowed"),
        ("GET /v1/items host=globex.localhost tenant=acme_corp role=reader", "403 other_tenant"),
        ("GET /v1/items host=globex.localhost claims={\"tenant\":\"acme_corp\",\"roles\":[\"reader\"]}", "403 other_tenant"),
        ("GET /v1/items host=nobody.localhost tenant=acme_corp role=reader", "404 unknown_tenant"),
        ("GET /v1/items tenant=nobody role=reader", "404 unknown_tenant"),
        ("GET /v1/items role=reader", "cannot be said"),
        // Routes and paths.
        ("GET /healthz host=acme.localhost", "allowed"),
        ("GET /v1/items/ tenant=acme_corp role=reader", "404 no_route"),
        ("GET /v1/Items tenant=acme_corp role=reader", "404 no_route"),
        ("GET /v1/%69tems?x=/../y tenant=acme_corp role=reader", "allowed"),
        ("GET /v1/../items tenant=acme_corp role=reader", "400 ambiguous_request"),
        ("GET /v1%2fitems tenant=acme_corp role=reader", "400 ambiguous_request"),
        // Roles by claim, with inheritance.
        ("GET /v1/items host=acme.localhost", "401 missing_credential"),
        ("GET /v1/items host=acme.localhost claims={\"tenant\":\"acme_corp\",\"roles\":\"reader\"}", "allowed"),
        ("HEAD /v1/items host=acme.localhost claims={\"tenant\":\"acme_corp\",\"roles\":[\"x\",\"reader\"]}", "allowed"),
        ("GET /v1/items host=acme.localhost claims={\"tenant\":\"acme_corp\",\"roles\":[\"readers\"]}", "403 not_permitted"),
        ("POST /v1/items host=acme.localhost claims={\"tenant\":\"acme_corp\",\"roles\":[\"reader\"]}", "403 not_permitted"),
        ("POST /v1/items host=acme.localhost claims={\"tenant\":\"acme_corp\",\"roles\":[\"editor\"]}", "allowed"),
        ("GET /v1/items/7 tenant=globex role=editor", "allowed"),
        ("PATCH /v1/items/7 tenant=globex role=admin", "403 not_permitted"),
        ("DELETE /v1/admin/x/y tenant=globex role=admin", "allowed"),
        ("DELETE /v1/admin/x/y tenant=globex role=editor", "403 not_permitted"),
        ("GET /v1/items host=acme.localhost claims={\"iss\":\"https://other\",\"tenant\":\"acme_corp\"}", "401 invalid_token"),
        // Keys.
        ("POST /v1/items host=acme.localhost api_key=ci", "allowed"),
        ("POST /v1/items host=globex.localhost api_key=ci", "401 invalid_api_key"),
        ("POST /v1/items host=acme.localhost api_key=ci at=2027-06-29T23:59:59Z", "allowed"),
        ("POST /v1/items host=acme.localhost api_key=ci at=2027-06-30T00:00:00Z", "401 invalid_api_key"),
        // Source, time, and a deny that beats the allow of another role.
        ("GET /v1/admin/audit/log tenant=acme_corp role=auditor source=10.1.2.3", "allowed"),
        ("GET /v1/admin/audit/log tenant=acme_corp role=auditor source=::ffff:10.1.2.3", "allowed"),
        ("GET /v1/admin/audit/log tenant=acme_corp role=auditor source=11.1.2.3", "403 not_permitted"),
        ("GET /v1/admin/audit/log tenant=acme_corp role=auditor", "403 not_permitted"),
        ("GET /v1/admin/audit/log tenant=acme_corp role=auditor source=10.1.2.3 at=2026-11-23T06:59:59Z", "403 not_permitted"),
        ("GET /v1/admin/audit/log tenant=acme_corp role=auditor source=10.1.2.3 at=2026-11-23T07:00:00Z", "allowed"),
        ("GET /v1/admin/audit/log tenant=acme_corp role=auditor source=10.1.2.3 at=2026-11-22T12:00:00Z", "403 not_permitted"),
        ("GET /v1/admin/x tenant=acme_corp role=auditor source=10.1.2.3", "403 not_permitted"),
        ("DELETE /v1/items/7 tenant=acme_corp role=editor", "allowed"),
        ("DELETE /v1/items/7 tenant=acme_corp role=editor role=auditor", "403 denied_by_rule"),
        ("DELETE /v1/items tenant=acme_corp role=editor role=auditor", "allowed"),
        ("DELETE /v1/items/7 tenant=globex role=auditor", "cannot be said"),
    ] {
        let explanation = ask(&demo, request);
        assert_eq!(verdict(&explanation), meant, "{request}\n{explanation}");
    }
}

#[test]
fn only_a_tenants_own_bindings_listen_to_its_own_issuers() {
    let own = "---\nkind: Identity\ntenant: t\nname: i\njwt: [{ issuer: own, audiences: [a], algorithms: [ES256], jwks: { file: k } }]\n\
               ---\nkind: RoleBinding\ntenant: t\nname: b\nrole: reader\nsubjects: [{ claim: { group: staff } }, { user: ann }]\n";
    let everyone = "\n---\nkind: RoleBinding\nname: root\nrole: admin\nsubjects: [{ user: root }]\n";
    let mut catalogue = Catalogue::new();
    let outcome = catalogue.apply(&all(&[
        ("p", &format!("{PLATFORM}{everyone}")),
        ("t", &format!("{}{own}", tenant("t", "hosts: [t.localhost]"))),
        ("u", &tenant("u", "hosts: [u.localhost]")),
    ]));
    assert_eq!(told(&outcome), "");
    for (request, meant) in [
        // Of its own issuer: what the tenant binds, and nothing that the platform binds.
        (r#"GET /v1/items host=t.localhost claims={"iss":"own","sub":"x","group":"staff"}"#, "allowed"),
        (r#"GET /v1/items host=t.localhost claims={"iss":"own","sub":"ann"}"#, "allowed"),
        (r#"GET /v1/items host=t.localhost claims={"iss":"own","sub":"x","roles":"admin"}"#, "403 not_permitted"),
        (r#"GET /v1/items host=t.localhost claims={"iss":"own","sub":"root"}"#, "403 not_permitted"),
        // Of the platform's issuer: what both bind.
        (r#"GET /v1/items host=t.localhost claims={"tenant":"t","sub":"x","roles":"admin"}"#, "allowed"),
        (r#"GET /v1/items host=t.localhost claims={"tenant":"t","sub":"root"}"#, "allowed"),
        (r#"GET /v1/items host=t.localhost claims={"tenant":"t","sub":"ann"}"#, "allowed"),
        // An issuer of one tenant proves no other.
        (r#"GET /v1/items host=u.localhost claims={"iss":"own","sub":"ann"}"#, "401 invalid_token"),
        // The tenant's issuer has no claim that names a tenant, so none is believed.
        (r#"GET /v1/items host=t.localhost tenant=t claims={"iss":"own","sub":"ann","tenant":"u"}"#, "allowed"),
    ] {
        let explanation = ask(&catalogue, request);
        assert_eq!(verdict(&explanation), meant, "{request}\n{explanation}");
    }
}

#[test]
fn a_claim_holds_when_it_equals_the_value_or_is_a_list_with_it() {
    let bindings = |claim: &str| format!("\n---\nkind: RoleBinding\nname: x\nrole: reader\nsubjects: [{{ claim: {claim} }}]\n");
    for (bound, claimed, meant) in [
        ("{ n: 7 }", r#""n":7"#, "allowed"),
        ("{ n: 7 }", r#""n":"7""#, "403 not_permitted"),
        ("{ n: 7 }", r#""n":7.0"#, "403 not_permitted"),
        ("{ n: \"7\" }", r#""n":"7""#, "allowed"),
        ("{ n: true }", r#""n":[false,true]"#, "allowed"),
        ("{ n: true }", r#""n":[[true]]"#, "403 not_permitted"),
        ("{ n: a }", r#""n":{"a":1}"#, "403 not_permitted"),
        ("{ n: a }", r#""N":"a""#, "403 not_permitted"),
        ("{ n: a, m: b }", r#""n":"a""#, "403 not_permitted"),
        ("{ n: a, m: b }", r#""m":"b","n":["c","a"]"#, "allowed"),
    ] {
        let mut catalogue = Catalogue::new();
        catalogue.apply(&all(&[("p", &format!("{PLATFORM}{}", bindings(bound))), ("t", &tenant("t", ""))]));
        let request = format!(r#"GET /v1/items claims={{"tenant":"t","sub":"u",{claimed}}}"#);
        assert_eq!(verdict(&ask(&catalogue, &request)), meant, "{bound} and {claimed}");
    }
}

#[test]
fn limits_stack_by_plan_tenant_and_route() {
    let quota = |scope: &str, name: &str, applies_to: &str| {
        format!(
            "\n---\nkind: QuotaPolicy\n{scope}name: {name}\napplies_to: {{ {applies_to} }}\n\
             limits: [{{ name: n, per: tenant, rate: 1/s, burst: 1 }}, {{ name: by_address, per: client_address, rate: 1/s, burst: 1 \
             }}]\n"
        )
    };
    let platform = format!(
        "{PLATFORM}{}{}{}",
        quota("", "for_t", "tenants: [t]"),
        quota("", "for_both", "plans: [free], tenants: [t, u]"),
        quota("", "on_health", "routes: [health]")
    );
    let own = format!("{}{}", tenant("t", "plan: premium"), quota("tenant: t\n", "own", "routes: [items, reports]"));
    let mut catalogue = Catalogue::new();
    let outcome = catalogue.apply(&all(&[("p", &platform), ("t", &own), ("u", &tenant("u", "")), ("v", &tenant("v", ""))]));
    assert_eq!((told(&outcome), outcome.warnings.to_string()), (String::new(), String::new()));
    for (request, meant) in [
        (
            "GET /v1/reports tenant=t role=admin",
            "fair_use/burst fair_use/in_flight for_t/n for_t/by_address reports_premium/reports own/n own/by_address",
        ),
        ("GET /v1/items tenant=t role=admin", "fair_use/burst fair_use/in_flight for_t/n for_t/by_address own/n own/by_address"),
        ("GET /v1/items/7 tenant=t role=admin", "fair_use/burst fair_use/in_flight for_t/n for_t/by_address"),
        ("GET /v1/items tenant=u role=admin", "fair_use/burst fair_use/in_flight for_both/n for_both/by_address"),
        ("GET /v1/items tenant=v role=admin", "fair_use/burst fair_use/in_flight"),
        ("GET /v1/reports tenant=v role=admin", "fair_use/burst fair_use/in_flight reports_free/reports"),
        // Nobody is proved: only what names the route, and what counts addresses.
        ("GET /healthz tenant=u", "for_both/by_address on_health/n on_health/by_address"),
        (
            "GET /healthz tenant=u role=admin",
            "fair_use/burst fair_use/in_flight for_both/n for_both/by_address on_health/n on_health/by_address",
        ),
    ] {
        let explanation = ask(&catalogue, request);
        let limits: Vec<String> = explanation.limits.iter().map(|limit| format!("{}/{}", limit.id.policy, limit.id.limit)).collect();
        assert_eq!(limits.join(" "), meant, "{request}");
    }
}

#[test]
fn bounds_are_the_tightest_of_all_that_are_written() {
    let policy = |scope: &str, name: &str, fields: &str| format!("\n---\nkind: SecurityPolicy\n{scope}name: {name}\n{fields}\n");
    let platform = format!(
        "{PLATFORM}{}{}",
        policy("", "wide", "request: { body_bytes_max: 20MiB, body_idle_timeout: 60s }\nmax_staleness: 2h\ntrusted_hops: [10.0.0.0/8]"),
        policy("", "narrow", "request: { headers_max: 50 }\nmax_staleness: 1h\ntrusted_hops: [10.0.0.0/8, 192.0.2.0/24]")
    );
    let own = format!(
        "{}{}{}",
        tenant("t", ""),
        policy("tenant: t\n", "a", "request: { body_bytes_max: 1MiB, head_timeout: 5s }"),
        policy("tenant: t\n", "b", "request: { body_bytes_max: 2MiB, head_timeout: 4s }\nmax_staleness: 1m")
    );
    let mut catalogue = Catalogue::new();
    assert_eq!(told(&catalogue.apply(&all(&[("p", &platform), ("t", &own), ("u", &tenant("u", ""))]))), "");
    let snapshot = catalogue.snapshot();
    let seconds = |duration: std::time::Duration| duration.as_secs();
    let bounds = |id: &str| {
        let policy = snapshot.tenant(id).unwrap().policy();
        let bounds = policy.bounds();
        (
            bounds.body_bytes_max >> 20,
            bounds.headers_max,
            seconds(bounds.head_timeout),
            seconds(bounds.body_idle_timeout),
            policy.max_staleness().map(seconds),
        )
    };
    assert_eq!(bounds("u"), (10, 50, 10, 60, Some(3_600)));
    assert_eq!(bounds("t"), (1, 50, 4, 60, Some(60)));
    assert_eq!(snapshot.platform().bounds(), snapshot.tenant("u").unwrap().policy().bounds());
    let hops: Vec<String> = snapshot.platform().trusted_hops().iter().map(ToString::to_string).collect();
    assert_eq!(hops, ["10.0.0.0/8", "192.0.2.0/24"]);
}
