//! What one part may hold, where many small things would be a large one.

use super::support::{all, tenant, told};
use bulkhead_config::compile::Catalogue;

/// A service with one route, and what else the platform says.
fn platform(more: &str) -> String {
    format!(
        "kind: Service\nname: s\nlisteners: [{{ name: http, address: 127.0.0.1:0 }}]\n\
         upstreams: [{{ name: app, endpoints: [\"http://127.0.0.1:1\"] }}]\nroutes: [{{ name: items, path: /items }}]\n{more}"
    )
}

fn mistakes(files: &[(&str, &str)]) -> String {
    told(&Catalogue::new().apply(&all(files)))
}

/// So many features, from this one on.
fn features(from: usize, count: usize) -> String {
    format!("features: [{}]", (from..from + count).map(|n| format!("f{n}")).collect::<Vec<_>>().join(", "))
}

#[test]
fn a_tenant_has_no_more_features_than_conditions_reckon_with() {
    let plan = |count| platform(&format!("---\nkind: Plan\nname: p\ndefault: true\n{}\n", features(0, count)));
    for (of_plan, from, own, is_good) in [(256, 0, 256, true), (255, 255, 1, true), (256, 256, 1, false), (200, 200, 57, false)] {
        let told = mistakes(&[("p", &plan(of_plan)), ("t", &tenant("t", &features(from, own)))]);
        let meant = format!("feature `f256` is one more than the 256 that a tenant can have, {of_plan} of them of its plan");
        assert_eq!(told.is_empty(), is_good, "{told}");
        assert!(is_good || (told.starts_with("tenant t (held): t:5:") && told.contains(&meant)), "{told}");
    }
    let told = mistakes(&[("p", &plan(300))]);
    assert!(told.contains("Plan p: feature `f256` is one more than the 256 that a tenant can have; take out"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn the_patterns_of_a_tenant_are_bounded_together_and_the_rule_that_is_too_much_is_named() {
    let sample = include_str!("../../samples/mistakes/patterns.yaml");
    let told = mistakes(&[("patterns.yaml", sample)]);
    let meant = "tenant initech (held): patterns.yaml:41:5: Role initech/doors: with pattern `v[^-]{9}#` of rule `GET /v1/floors/22 \
                 if claims.badge.matches(\"v[^-]{9}#\")`, which takes 49320 bytes, all patterns here take 1085040 bytes compiled, \
                 more than the 1048576 allowed; equal ones count once;";
    assert!(told.starts_with(meant), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    // One less, or one that is there already, is none too many.
    assert_eq!(mistakes(&[("patterns.yaml", &sample.replace("v[^-]", "a[^-]"))]), "");
}

#[test]
fn a_pattern_that_is_too_large_alone_is_named_with_its_rule() {
    let role = "---\nkind: Role\nname: r\nallow:\n  - GET /items\n  - methods: [PUT]\n    paths: [/items]\n    \
                when: { condition: 'claims.a.matches(\"((a{1,99}){1,99}){1,99}\")' }\n";
    let told = mistakes(&[("p", &platform(role))]);
    let meant = "platform (held): p:11:5: Role r: pattern `((a{1,99}){1,99}){1,99}` of rule `PUT /items if \
                 claims.a.matches(\"((a{1,99}){1,99}){1,99}\")` takes more than 65536 bytes compiled, or too much to compile; repetitions";
    assert!(told.starts_with(meant), "{told}");
}
