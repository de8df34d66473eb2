//! Decisions about described requests, as a table.

use super::support::{ask, demo, verdict};

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
