//! A part with mistakes stays on its last good version alone, and leaves quarantine when it is mended.

use super::support::{ACME, GLOBEX, PLATFORM, all, ask, broken, change, changed, demo, gone, id, parts, tenant, told, verdict};
use bulkhead_config::compile::Catalogue;
use bulkhead_config::declared::Kind;
use bulkhead_config::diagnostic::Diagnostics;
use bulkhead_config::protocol::{Offer, Part};

const READ: &str = "GET /v1/items tenant=globex role=reader";

fn answers(catalogue: &Catalogue, request: &str) -> String {
    verdict(&ask(catalogue, request))
}

#[test]
fn a_tenant_with_a_mistake_stays_on_its_last_good_version_alone() {
    let mut demo = demo();
    let outcome = demo.apply(&change(&[("g", &GLOBEX.replace("plan: free", "plan: gratis\nfeatures: [x]"))]));
    assert_eq!(parts(&outcome), ["tenant globex last good"]);
    assert_eq!(changed(&outcome), Vec::<String>::new());
    assert_eq!(answers(&demo, READ), "allowed");
    assert_eq!(answers(&demo, "GET /v1/items host=globex.localhost role=reader"), "allowed");
    let outcome = demo.apply(&change(&[("a", &ACME.replace("state", "x"))]));
    assert_eq!(parts(&outcome), ["tenant globex last good"], "it stays in quarantine through changes of others");
    let outcome = demo.apply(&change(&[("g", &GLOBEX.replace("plan: free", "plan: premium"))]));
    assert_eq!((told(&outcome), changed(&outcome)), (String::new(), vec!["tenant globex".to_owned()]));
    assert_eq!(demo.snapshot().tenant("globex").unwrap().plan().unwrap().as_str(), "premium");
}

#[test]
fn a_tenant_that_was_never_good_is_known_but_held() {
    let mut demo = demo();
    let outcome = demo.apply(&change(&[("t", &tenant("new", "plan: gratis\nhosts: [new.localhost]"))]));
    assert_eq!(parts(&outcome), ["tenant new held"]);
    assert_eq!(answers(&demo, "GET /v1/items host=new.localhost tenant=new role=reader"), "503 policy_held");
    assert_eq!(answers(&demo, "GET /v1/items host=new.localhost"), "503 policy_held");
    let outcome = demo.apply(&gone(Kind::Tenant, None, "new"));
    assert_eq!((told(&outcome), changed(&outcome)), (String::new(), vec!["tenant new".to_owned()]));
    assert_eq!(answers(&demo, "GET /v1/items host=new.localhost"), "404 unknown_tenant");
}

#[test]
fn a_platform_with_a_mistake_stays_on_its_last_good_version_as_a_whole() {
    let mut demo = demo();
    let bad = PLATFORM.replace("inherits: [reader]", "inherits: [raeder]").replace("/v1/items/{id}", "/v1/item/{id}");
    let outcome = demo.apply(&change(&[("platform.yaml", &bad)]));
    assert_eq!(parts(&outcome), ["platform last good"]);
    assert_eq!(answers(&demo, "GET /v1/items/7 tenant=globex role=editor"), "allowed");
    // A tenant's change goes on meanwhile.
    let outcome = demo.apply(&change(&[("g", &GLOBEX.replace("plan: free", "plan: premium"))]));
    assert_eq!((parts(&outcome), changed(&outcome)), (vec!["platform last good".to_owned()], vec!["tenant globex".to_owned()]));
    let outcome = demo.apply(&change(&[("platform.yaml", PLATFORM)]));
    assert_eq!((told(&outcome), changed(&outcome)), (String::new(), Vec::new()));
}

/// A sidecar's first start takes what is declared as a change of nothing, and of that nothing is served.
#[test]
fn a_platform_of_which_no_service_was_ever_good_is_not_said_to_be_served() {
    let mut catalogue = Catalogue::new();
    catalogue.apply(&all(&[]));
    let outcome = catalogue.apply(&broken("p.yaml", Some(id(Kind::Service, None, "demo"))));
    assert_eq!(parts(&outcome), ["platform held"]);
}

#[test]
fn a_platform_that_was_never_good_serves_nothing_and_blames_no_tenant() {
    let mut catalogue = Catalogue::new();
    let bad = PLATFORM.replace("inherits: [reader]", "inherits: [raeder]");
    let outcome = catalogue.apply(&all(&[("p", &bad), ("a", ACME), ("g", GLOBEX)]));
    assert_eq!(parts(&outcome), ["platform held"]);
    assert!(catalogue.snapshot().platform().services().is_empty());
    assert_eq!(answers(&catalogue, "GET / host=globex.localhost"), "503 policy_held");
    let outcome = catalogue.apply(&change(&[("p", PLATFORM)]));
    assert_eq!(told(&outcome), "");
    assert_eq!(catalogue.snapshot().canonical(), {
        let mut fresh = Catalogue::new();
        fresh.apply(&all(&[("p", PLATFORM), ("a", ACME), ("g", GLOBEX)]));
        fresh.snapshot().canonical()
    });
}

#[test]
fn a_platform_that_breaks_a_tenants_own_policy_leaves_that_tenant_on_its_last_good_version() {
    let mut demo = demo();
    // ACME binds `editor`, which is renamed; a route is added and one goes.
    let next = PLATFORM.replace("name: editor\n", "name: writer\n").replace("inherits: [editor]", "inherits: [writer]");
    let next = next
        .replace("role: editor\n", "role: writer\n")
        .replace("  - name: admin\n    path: /v1/admin/**", "  - name: aaa\n    path: /v1/new");
    let outcome = demo.apply(&all(&[("platform.yaml", &next), ("a", ACME), ("g", GLOBEX)]));
    assert_eq!(parts(&outcome), ["tenant acme_corp last good"]);
    for (request, meant) in [
        ("POST /v1/items host=acme.localhost api_key=ci", "allowed"),
        ("GET /v1/items/7 tenant=acme_corp role=editor", "allowed"),
        ("DELETE /v1/items/7 tenant=acme_corp role=editor role=auditor", "403 denied_by_rule"),
        ("GET /v1/new tenant=acme_corp role=admin", "403 not_permitted"),
        ("GET /v1/admin/x tenant=acme_corp role=admin", "404 no_route"),
        ("GET /v1/items/7 tenant=globex role=writer", "allowed"),
        ("GET /v1/items/7 tenant=globex role=editor", "cannot be said"),
    ] {
        assert_eq!(answers(&demo, request), meant, "{request}");
    }
    // What counted on all routes counts on the new one, what counted on one does not.
    let slice = demo.snapshot().tenant("acme_corp").unwrap();
    let limits = |path: &str| -> Vec<String> {
        let route = demo.snapshot().platform().services().iter().find_map(|service| service.route(path)).unwrap();
        let places = slice.policy().limits_of(route.index).iter();
        places.map(|&place| slice.policy().limits()[usize::try_from(place).unwrap()].id.limit.to_string()).collect()
    };
    assert_eq!(
        (limits("/v1/new"), limits("/v1/reports")),
        (vec!["burst".into(), "in_flight".into()], vec!["burst".into(), "in_flight".into(), "reports".into()])
    );
    let outcome = demo.apply(&change(&[("a", &ACME.replace("role: editor", "role: writer"))]));
    assert_eq!((told(&outcome), changed(&outcome)), (String::new(), vec!["tenant acme_corp".to_owned()]));
    assert_eq!(answers(&demo, "POST /v1/items host=acme.localhost api_key=ci"), "allowed");
}

#[test]
fn a_document_that_cannot_be_read_keeps_its_part_on_its_last_good_version() {
    let mut demo = demo();
    let outcome = demo.apply(&broken("acme.yaml", Some(id(Kind::RoleBinding, Some("acme_corp"), "ci_edits"))));
    assert_eq!(parts(&outcome), ["tenant acme_corp last good"]);
    assert_eq!(answers(&demo, "POST /v1/items host=acme.localhost api_key=ci"), "allowed");
    let outcome = demo.apply(&broken("new.yaml", Some(id(Kind::Tenant, None, "new"))));
    assert_eq!(parts(&outcome), ["tenant acme_corp last good", "tenant new held"]);
    let outcome = demo.apply(&gone(Kind::RoleBinding, Some("acme_corp"), "ci_edits"));
    assert_eq!((parts(&outcome), changed(&outcome)), (vec!["tenant new held".to_owned()], vec!["tenant acme_corp".to_owned()]));
    assert_eq!(answers(&demo, "POST /v1/items host=acme.localhost api_key=ci"), "403 not_permitted");
    let outcome = demo.apply(&change(&[("new.yaml", &tenant("new", ""))]));
    assert_eq!((told(&outcome), changed(&outcome)), (String::new(), vec!["tenant new".to_owned()]));
}

#[test]
fn a_file_that_cannot_be_read_keeps_what_stood_in_it() {
    let mut demo = demo();
    let file = "tenants/globex.yaml";
    let mut offer = all(&[("platform.yaml", PLATFORM), ("tenants/acme_corp.yaml", ACME)]);
    offer.broken = broken(file, None).broken;
    let outcome = demo.apply(&offer);
    assert_eq!(parts(&outcome), ["file tenants/globex.yaml last good"]);
    assert_eq!(answers(&demo, READ), "allowed");
    let outcome = demo.apply(&Offer { broken: Vec::new(), ..offer });
    assert_eq!((told(&outcome), changed(&outcome)), (String::new(), vec!["tenant globex".to_owned()]));
    assert_eq!(answers(&demo, READ), "404 unknown_tenant");
}

#[test]
fn a_document_that_was_broken_stays_when_its_whole_file_is() {
    let mut demo = demo();
    let file = "tenants/globex.yaml";
    demo.apply(&broken(file, Some(id(Kind::Tenant, None, "globex"))));
    let mut offer = all(&[("platform.yaml", PLATFORM), ("tenants/acme_corp.yaml", ACME)]);
    offer.broken = broken(file, None).broken;
    assert_eq!(parts(&demo.apply(&offer)), ["file tenants/globex.yaml last good"]);
    assert_eq!(answers(&demo, READ), "allowed");
}

#[test]
fn a_file_is_whole_again_when_a_document_of_it_is_put_or_when_it_is_said_to_be() {
    let mut demo = demo();
    let file = "tenants/globex.yaml";
    demo.apply(&broken(file, None));
    assert_eq!(told(&demo.apply(&change(&[(file, GLOBEX)]))), "");
    let mut mended = broken(file, None);
    demo.apply(&mended);
    mended.broken.iter_mut().for_each(|broken| broken.diagnostics = Diagnostics::new());
    assert_eq!(told(&demo.apply(&mended)), "");
}

#[test]
fn who_is_served_with_a_host_keeps_it_from_newcomers() {
    let mut demo = demo();
    let thief = tenant("thief", "hosts: [globex.localhost, thief.localhost]");
    let outcome = demo.apply(&change(&[("t", &thief)]));
    assert_eq!(
        told(&outcome),
        "tenant thief (held): t:5:9: Tenant thief: host `globex.localhost` is claimed by tenant `globex` (tenants/globex.yaml:6) too; \
         a host names one tenant: take it out of all but one; who is served with it keeps it meanwhile"
    );
    assert_eq!(answers(&demo, "GET /v1/items host=globex.localhost tenant=globex role=reader"), "allowed");
    assert_eq!(answers(&demo, "GET /v1/items host=thief.localhost"), "503 policy_held");
    // Once it is let go, it is theirs.
    let outcome = demo.apply(&change(&[("g", &GLOBEX.replace("hosts: [globex.localhost]", ""))]));
    assert_eq!((told(&outcome), changed(&outcome)), (String::new(), vec!["tenant globex".to_owned(), "tenant thief".to_owned()]));
    assert_eq!(demo.snapshot().tenant_by_host("globex.localhost").unwrap().id().as_str(), "thief");
}

#[test]
fn of_newcomers_that_claim_the_same_host_none_gets_it() {
    let a = tenant("a", "hosts: [x.localhost, a.localhost]");
    let b = tenant("b", "hosts: [b.localhost, x.localhost]");
    let mut both = Catalogue::new();
    let outcome = both.apply(&all(&[("p", PLATFORM), ("g", GLOBEX), ("a", &a), ("b", &b)]));
    assert_eq!(parts(&outcome), ["tenant a held", "tenant b held"]);
    for host in ["a.localhost", "b.localhost", "x.localhost"] {
        assert_eq!(answers(&both, &format!("GET /v1/items host={host}")), "503 policy_held", "{host}");
    }
    assert_eq!(answers(&both, READ), "allowed");
    let outcome = both.apply(&change(&[("b", &tenant("b", "hosts: [b.localhost]"))]));
    assert_eq!((told(&outcome), changed(&outcome)), (String::new(), vec!["tenant a".to_owned(), "tenant b".to_owned()]));
    assert_eq!(both.snapshot().tenant_by_host("x.localhost").unwrap().id().as_str(), "a");
}

#[test]
fn two_tenants_can_swap_hosts_in_one_change() {
    let mut catalogue = Catalogue::new();
    let tenants = |a: &str, b: &str| [tenant("a", &format!("hosts: [{a}]")), tenant("b", &format!("hosts: [{b}]"))];
    let [a, b] = tenants("x.localhost", "y.localhost");
    catalogue.apply(&all(&[("a", &a), ("b", &b)]));
    let [a, b] = tenants("y.localhost", "x.localhost");
    assert_eq!(told(&catalogue.apply(&change(&[("a", &a), ("b", &b)]))), "");
    assert_eq!(catalogue.snapshot().tenant_by_host("x.localhost").unwrap().id().as_str(), "b");
}

#[test]
fn who_falls_back_keeps_its_hosts_and_so_makes_others_fall_back() {
    let mut catalogue = Catalogue::new();
    catalogue.apply(&all(&[
        ("a", &tenant("a", "hosts: [a.localhost]")),
        ("b", &tenant("b", "hosts: [b.localhost]")),
        ("c", &tenant("c", "hosts: [c.localhost]")),
    ]));
    // a wants what c keeps, b wants what a would let go.
    let outcome = catalogue.apply(&change(&[("a", &tenant("a", "hosts: [c.localhost]")), ("b", &tenant("b", "hosts: [a.localhost]"))]));
    assert_eq!(parts(&outcome), ["tenant a last good", "tenant b last good"]);
    for name in ["a", "b", "c"] {
        assert_eq!(catalogue.snapshot().tenant_by_host(format!("{name}.localhost")).unwrap().id().as_str(), name);
    }
    // c lets go: everybody moves on.
    let outcome = catalogue.apply(&change(&[("c", &tenant("c", ""))]));
    assert_eq!((told(&outcome), changed(&outcome).len()), (String::new(), 3));
    assert_eq!(catalogue.snapshot().tenant_by_host("a.localhost").unwrap().id().as_str(), "b");
    assert!(catalogue.snapshot().tenant_by_host("b.localhost").is_none());
}

#[test]
fn a_platform_cannot_share_a_host_that_names_a_tenant() {
    let mut demo = demo();
    let shares = PLATFORM.replace("[api.localhost]", "[api.localhost, globex.localhost]");
    let outcome = demo.apply(&change(&[("platform.yaml", &shares)]));
    assert_eq!(parts(&outcome), ["platform last good"]);
    assert_eq!(answers(&demo, "GET /v1/items host=globex.localhost tenant=globex role=reader"), "allowed");
    // When the tenant lets go, the platform goes on by itself.
    let outcome = demo.apply(&change(&[("g", &GLOBEX.replace("hosts: [globex.localhost]", ""))]));
    assert_eq!((told(&outcome), changed(&outcome)), (String::new(), vec!["platform".to_owned(), "tenant globex".to_owned()]));
    assert_eq!(answers(&demo, "GET /v1/items host=globex.localhost"), "401 missing_credential");
}

#[test]
fn a_suspension_acts_at_once_whatever_else_is_wrong() {
    let mut demo = demo();
    demo.apply(&broken("acme.yaml", Some(id(Kind::RoleBinding, Some("acme_corp"), "ci_edits"))));
    let suspended = tenant("acme_corp", "state: suspended\nplan: premium");
    let outcome = demo.apply(&change(&[("a", &suspended)]));
    assert_eq!((parts(&outcome), changed(&outcome)), (vec!["tenant acme_corp last good".to_owned()], vec!["tenant acme_corp".to_owned()]));
    assert_eq!(answers(&demo, "GET /v1/items tenant=acme_corp role=reader"), "403 tenant_suspended");
    assert_eq!(changed(&demo.apply(&Offer::default())), Vec::<String>::new());
    demo.apply(&change(&[("a", &suspended.replace("suspended", "active"))]));
    assert_eq!(answers(&demo, "GET /v1/items tenant=acme_corp role=reader"), "allowed");
}

#[test]
fn without_its_tenant_document_a_tenant_is_unknown_whatever_is_left_of_it() {
    let mut demo = demo();
    let outcome = demo.apply(&gone(Kind::Tenant, None, "acme_corp"));
    assert_eq!(parts(&outcome), ["tenant acme_corp held"]);
    assert_eq!(answers(&demo, "GET /v1/items host=acme.localhost"), "404 unknown_tenant");
}

#[test]
fn a_part_on_hold_waits_for_its_release() {
    let mut demo = demo();
    let globex = Part::Tenant("globex".parse().unwrap());
    let why = || broken("g", None).broken.remove(0).diagnostics;
    assert_eq!(parts(&demo.hold([(globex.clone(), why())])), ["tenant globex last good"]);
    demo.apply(&change(&[("g", &GLOBEX.replace("plan: free", "plan: premium"))]));
    assert_eq!(demo.snapshot().tenant("globex").unwrap().plan().unwrap().as_str(), "free");
    let outcome = demo.release(std::slice::from_ref(&globex));
    assert_eq!((told(&outcome), changed(&outcome)), (String::new(), vec!["tenant globex".to_owned()]));
    assert_eq!(demo.snapshot().tenant("globex").unwrap().plan().unwrap().as_str(), "premium");
    // Before anything is known of it: it starts out of service.
    let mut fresh = Catalogue::new();
    fresh.hold([(globex.clone(), why())]);
    let outcome = fresh.apply(&all(&[("p", PLATFORM), ("g", GLOBEX)]));
    assert_eq!(parts(&outcome), ["tenant globex held"]);
    assert_eq!(answers(&fresh, "GET /healthz host=globex.localhost"), "503 policy_held");
    assert_eq!(told(&fresh.release(&[globex])), "");
}
