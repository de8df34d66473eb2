//! Quotas: what is over is refused with everything a client needs to come back at the right time.

use bulkhead_tests::{Origin, Reply, World, eventually};
use std::sync::{Arc, Condvar, Mutex};

#[test]
fn the_sixth_report_in_a_minute_is_refused_with_when_to_come_back() {
    let world = World::start();
    let client = world.user("globex", &["reader"]);
    for left in (0..5).rev() {
        let answer = client.get("/v1/reports");
        assert_eq!(answer.verdict(), "200");
        let limit = answer.header("ratelimit").expect("a window limit of this route tells what is left");
        assert!(limit.contains(&format!(";r={left}")), "{limit}");
    }
    let refused = client.get("/v1/reports");
    assert_eq!(refused.verdict(), "429 quota_exceeded");
    let policy = refused.header("ratelimit-policy").unwrap();
    assert!(policy.contains("\"reports_free.reports\"") && policy.contains(";q=5") && policy.contains(";w=60"), "{policy}");
    let limit = refused.header("ratelimit").unwrap();
    assert!(limit.contains("\"reports_free.reports\"") && limit.contains(";r=0"), "{limit}");
    let retry: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&retry), "{retry}");
    assert_eq!(refused.json()["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(world.origin.received().len(), 5, "what is refused does not reach the service");
}

#[test]
fn one_tenants_quota_is_not_anothers() {
    let world = World::start();
    let globex = world.user("globex", &["reader"]);
    while globex.get("/v1/reports").status == 200 {}
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/reports").verdict(), "200");
    assert_eq!(globex.get("/v1/items").verdict(), "200", "and one route's is not another's");
}

#[test]
fn what_is_refused_is_charged_to_nothing_else() {
    let world = World::with(Origin::start(), |folder| {
        let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        let more = "---\nkind: QuotaPolicy\nname: zz_after\napplies_to: { routes: [reports] }\nlimits:\n  - { name: wide, per: tenant, requests: 6, window: 1h }\n";
        std::fs::write(folder.join("platform.yaml"), text + more).unwrap();
    });
    let client = world.user("globex", &["reader"]);
    let statuses: Vec<_> = (0..12).map(|_| client.get("/v1/reports").status).collect();
    assert_eq!(statuses.iter().filter(|&&status| status == 200).count(), 5, "{statuses:?}");
    // Seven refusals by the narrow limit took nothing from the wide one: one is left of six.
    let limit = client.get("/v1/reports");
    let fields = limit.header("ratelimit").unwrap();
    assert!(fields.contains("\"reports_free.reports\";r=0"), "{fields}");
}

#[test]
fn the_hourly_quota_of_the_tenant_counts_all_its_routes() {
    let world = World::with(Origin::start(), |folder| {
        let text = std::fs::read_to_string(folder.join("tenants/globex.yaml")).unwrap();
        std::fs::write(folder.join("tenants/globex.yaml"), text + "api_quota_per_hour: 10\n").unwrap();
    });
    let client = world.user("globex", &["reader"]);
    // The clock hour may end in between: then the count begins anew once, and twenty requests still meet a refusal.
    let statuses: Vec<_> = (0..21).map(|n| client.get(if n % 2 == 0 { "/v1/items" } else { "/v1/items/7" }).status).collect();
    assert!(statuses.iter().filter(|&&status| status == 200).count() <= 20, "{statuses:?}");
    let refused = client.get("/v1/items");
    assert_eq!(refused.verdict(), "429 quota_exceeded", "{statuses:?}");
    assert!(refused.header("ratelimit-policy").unwrap().contains("api_quota_per_hour"), "{:?}", refused.headers);
    let usage = world.probe("/metrics").text();
    assert!(usage.contains("tenant_api_quota_usage{tenant_id=\"globex\"} 1"), "{usage}");
}

#[test]
fn a_place_in_flight_is_held_until_the_last_byte() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let opening = Arc::clone(&gate);
    let origin = Origin::with(move |request| {
        if request.target() == "/v1/items" {
            let (open, changed) = &*gate;
            let _open = changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap();
        }
        Reply::Ok(vec![], b"done".to_vec())
    });
    let world = World::with(origin, |folder| {
        let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        std::fs::write(folder.join("platform.yaml"), text.replace("concurrent: 64", "concurrent: 2")).unwrap();
    });
    let client = world.user("globex", &["reader"]);
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || client.get("/v1/items"))
        })
        .collect();
    eventually("two are in flight", || (world.origin.received().len() == 2).then_some(()));
    let refused = client.get("/v1/items/7");
    assert_eq!(refused.verdict(), "429 too_many_requests_in_flight");
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items/7").verdict(), "200", "another tenant has places of its own");
    {
        let (open, changed) = &*opening;
        *open.lock().unwrap() = true;
        changed.notify_all();
    }
    for request in waiting {
        assert_eq!(request.join().unwrap().status, 200);
    }
    eventually("the places are free again", || (client.get("/v1/items/7").status == 200).then_some(()));
}

#[test]
fn a_written_zero_is_closed_and_not_unlimited() {
    let world = World::with(Origin::start(), |folder| {
        let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        std::fs::write(folder.join("platform.yaml"), text.replace("requests: 5\n", "requests: 0\n")).unwrap();
    });
    assert_eq!(world.user("globex", &["reader"]).get("/v1/reports").verdict(), "429 quota_exceeded");
}

#[test]
fn a_public_route_takes_nothing_from_the_tenant() {
    let world = World::with(Origin::start(), |folder| {
        let text = std::fs::read_to_string(folder.join("tenants/globex.yaml")).unwrap();
        std::fs::write(folder.join("tenants/globex.yaml"), text + "api_quota_per_hour: 10\n").unwrap();
    });
    for _ in 0..30 {
        assert_eq!(world.client("globex.localhost").get("/healthz").verdict(), "200");
    }
    assert_eq!(world.user("globex", &["reader"]).get("/v1/items").verdict(), "200");
}

#[test]
fn users_addresses_and_keys_have_budgets_of_their_own() {
    let world = World::with(Origin::start(), |folder| {
        let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        let more = "---\nkind: QuotaPolicy\nname: each\nlimits:\n  - { name: each_user, per: user, requests: 2, window: 1h }\n  - { name: each_address, per: client_address, requests: 3, window: 1h }\n";
        std::fs::write(folder.join("platform.yaml"), text + more).unwrap();
    });
    let user = |sub: &str, source: [u8; 4]| {
        let mut claims = world.issuer.claims("globex", &["reader"]);
        claims["sub"] = sub.into();
        let token = world.issuer.sign(bulkhead_tests::Algorithm::EdDsa, &claims);
        world.client("globex.localhost").from(source.into()).bearer(&token).get("/v1/items").status
    };
    assert_eq!([user("ann", [127, 0, 0, 1]), user("ann", [127, 0, 0, 1]), user("ann", [127, 0, 0, 2])], [200, 200, 429]);
    assert_eq!([user("bob", [127, 0, 0, 1]), user("bob", [127, 0, 0, 1])], [200, 429], "the address has used its three");
    assert_eq!(user("bob", [127, 0, 0, 2]), 200, "from another address bob has one left");
}
