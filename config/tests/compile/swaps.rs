//! What a change touches is compiled again, and nothing else.

use super::support::{ACME, GLOBEX, PLATFORM, all, change, changed, demo, gone, tenant};
use bulkhead_config::compile::Catalogue;
use bulkhead_config::declared::Kind;
use bulkhead_config::snapshot::{Policy, Slice};
use std::sync::Arc;

fn slice(catalogue: &Catalogue, id: &str) -> Arc<Slice> {
    Arc::clone(catalogue.snapshot().tenant(id).unwrap())
}

fn policy(catalogue: &Catalogue, id: &str) -> Arc<Policy> {
    Arc::clone(slice(catalogue, id).policy())
}

#[test]
fn tenants_without_policy_of_their_own_share_their_plans() {
    let mut demo = demo();
    demo.apply(&change(&[("a", &tenant("a", "plan: free\nfeatures: [x]\nhosts: [a.localhost]")), ("b", &tenant("b", ""))]));
    assert!(Arc::ptr_eq(&policy(&demo, "a"), &policy(&demo, "globex")));
    assert!(Arc::ptr_eq(&policy(&demo, "b"), &policy(&demo, "globex")), "free is the default");
    assert_ne!(policy(&demo, "acme_corp").id(), policy(&demo, "globex").id());
}

#[test]
fn a_policy_that_names_a_tenant_makes_its_policy_its_own() {
    let quota =
        "\n---\nkind: QuotaPolicy\nname: named\napplies_to: { tenants: [a] }\nlimits: [{ name: more, per: tenant, rate: 1/s, burst: 1 }]\n";
    let mut catalogue = Catalogue::new();
    catalogue.apply(&all(&[("p", &format!("{PLATFORM}{quota}")), ("a", &tenant("a", "")), ("b", &tenant("b", ""))]));
    let has = |id: &str| policy(&catalogue, id).limits().iter().any(|limit| limit.id.limit.as_str() == "more");
    assert_eq!((has("a"), has("b")), (true, false));
}

#[test]
fn a_change_of_one_tenant_leaves_every_other_slice_as_it_is() {
    let mut demo = demo();
    let (acme, globex) = (slice(&demo, "acme_corp"), slice(&demo, "globex"));
    let outcome = demo.apply(&change(&[("g", &GLOBEX.replace("plan: free", "plan: premium"))]));
    assert_eq!(changed(&outcome), ["tenant globex"]);
    assert!(Arc::ptr_eq(&acme, &slice(&demo, "acme_corp")));
    assert!(!Arc::ptr_eq(&globex, &slice(&demo, "globex")));
    assert!(Arc::ptr_eq(&slice(&demo, "globex"), demo.snapshot().tenant_by_host("globex.localhost").unwrap()));
}

#[test]
fn comments_and_order_change_nothing_that_is_served() {
    let mut demo = demo();
    let ids = (policy(&demo, "acme_corp").id(), policy(&demo, "globex").id());
    let moved = |text: &str| {
        let mut documents: Vec<&str> = text.split("\n---\n").collect();
        documents.reverse();
        format!("# another comment\n\n{}", documents.join("\n---\n"))
    };
    let outcome = demo.apply(&change(&[("platform.yaml", &moved(PLATFORM)), ("tenants/acme_corp.yaml", &moved(ACME))]));
    assert_eq!(changed(&outcome), Vec::<String>::new());
    assert_eq!(ids, (policy(&demo, "acme_corp").id(), policy(&demo, "globex").id()), "what was derived from a policy stays good");
}

#[test]
fn upstreams_and_issuers_are_kept_while_their_declaration_is() {
    let mut demo = demo();
    let upstream = |demo: &Catalogue| Arc::clone(&demo.snapshot().platform().services()[0].upstreams[0]);
    let issuer = |demo: &Catalogue| Arc::clone(&demo.snapshot().platform().issuers()[0]);
    let before = (upstream(&demo), issuer(&demo));
    let outcome = demo.apply(&change(&[("platform.yaml", &PLATFORM.replace("path: /v1/reports", "path: /v2/reports"))]));
    assert_eq!(changed(&outcome), ["platform"]);
    assert!(Arc::ptr_eq(&before.0, &upstream(&demo)) && Arc::ptr_eq(&before.1, &issuer(&demo)));
    demo.apply(&change(&[("platform.yaml", &PLATFORM.replace("127.0.0.1:4789", "127.0.0.1:4790").replace("[demo]", "[other]"))]));
    assert!(!Arc::ptr_eq(&before.0, &upstream(&demo)) && !Arc::ptr_eq(&before.1, &issuer(&demo)));
}

#[test]
fn an_epoch_is_one_state_of_what_is_served() {
    let mut demo = demo();
    let first = demo.snapshot().epoch();
    assert_eq!(demo.apply(&change(&[])).snapshot.epoch(), first, "nothing changed");
    let next = demo.apply(&change(&[("t", &tenant("t", ""))])).snapshot.epoch();
    assert_eq!((next.incarnation, next.revision), (first.incarnation, first.revision + 1));
    assert_eq!(Catalogue::since(next).snapshot().epoch(), next);
}

#[test]
fn a_complete_offer_takes_away_what_it_does_not_hold() {
    let mut demo = demo();
    let outcome = demo.apply(&all(&[("platform.yaml", PLATFORM), ("tenants/globex.yaml", GLOBEX)]));
    assert_eq!(changed(&outcome), ["tenant acme_corp"]);
    assert_eq!(demo.snapshot().tenant_count(), 1);
    assert!(demo.snapshot().tenant_by_host("acme.localhost").is_none());
    demo.apply(&gone(Kind::Tenant, None, "globex"));
    assert_eq!((demo.snapshot().tenant_count(), demo.snapshot().tenants().count()), (0, 0));
}

#[test]
fn a_new_plan_reaches_its_tenants() {
    let mut demo = demo();
    let outcome = demo.apply(&change(&[("platform.yaml", &PLATFORM.replace("features: [reports]", "features: [reports, extra]"))]));
    assert_eq!(changed(&outcome), ["platform"]);
    let features = |id: &str| slice(&demo, id).features().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(features("globex"), ["extra", "reports"]);
    assert_eq!(features("acme_corp"), ["analytics", "audio_processing", "reports"]);
}

#[test]
fn a_rule_of_the_platform_changes_the_policy_of_every_plan() {
    let mut demo = demo();
    let before = policy(&demo, "globex").id();
    let outcome = demo.apply(&change(&[("platform.yaml", &PLATFORM.replace("POST,PUT,DELETE /v1/items\n", "POST,PUT /v1/items\n"))]));
    assert_eq!(changed(&outcome), ["platform"]);
    assert_ne!(policy(&demo, "globex").id(), before);
}
