//! What is in shadow is let through, whatever put it there, and nothing else is.

use super::support::{ACME, GLOBEX, PLATFORM, all, ask, told, verdict};
use bulkhead_config::compile::{Catalogue, Mode};

const NOBODY: &str = "GET /v1/items host=acme.localhost";
const BAD_KEY: &str = "GET /v1/items host=acme.localhost api_key=nope";
const READER_POSTS: &str = r#"POST /v1/items host=acme.localhost claims={"tenant":"acme_corp","roles":["reader"]}"#;
const EDITOR_IN_ADMIN: &str = r#"GET /v1/admin/x host=acme.localhost claims={"tenant":"acme_corp","roles":["editor"]}"#;
const STRANGER_READS: &str = r#"GET /v1/items host=acme.localhost claims={"tenant":"acme_corp","roles":["guest"]}"#;
const NO_FEATURE: &str = r#"GET /v1/reports host=acme.localhost claims={"tenant":"acme_corp","roles":["reader"]}"#;
const AT_GLOBEX: &str = r#"POST /v1/items host=globex.localhost claims={"tenant":"globex","roles":["reader"]}"#;

const REFUSED: [(&str, &str); 7] = [
    (NOBODY, "401 missing_credential"),
    (BAD_KEY, "401 invalid_api_key"),
    (READER_POSTS, "403 not_permitted"),
    (EDITOR_IN_ADMIN, "403 not_permitted"),
    (STRANGER_READS, "403 not_permitted"),
    (NO_FEATURE, "403 feature_required"),
    (AT_GLOBEX, "403 not_permitted"),
];

/// The demo with these texts in place of others; reports demand a feature that nobody has.
fn demo(mode: Mode, edits: &[(&str, &str)]) -> Catalogue {
    let edits = edits.iter().copied().chain([("path: /v1/reports\n", "path: /v1/reports\n    requires_feature: video\n")]);
    let mut files = [PLATFORM.to_owned(), ACME.to_owned(), GLOBEX.to_owned()];
    for (from, to) in edits {
        let file = files.iter_mut().find(|text| text.contains(from)).unwrap_or_else(|| panic!("{from}"));
        *file = file.replacen(from, to, 1);
    }
    let [platform, acme, globex] = &files;
    let mut catalogue = Catalogue::new().in_mode(mode);
    let outcome = catalogue.apply(&all(&[("platform.yaml", platform), ("acme.yaml", acme), ("globex.yaml", globex)]));
    assert_eq!(told(&outcome), "");
    catalogue
}

#[test]
fn what_is_in_shadow_is_let_through_and_nothing_else_is() {
    let declared = Mode::AsDeclared;
    for (what, mode, edits, passed) in [
        ("nothing", declared, &[][..], &[][..]),
        ("the whole sidecar", Mode::Shadow, &[], &REFUSED.map(|(request, _)| request)),
        ("the service", declared, &[("kind: Service\n", "kind: Service\nenforce: shadow\n")], &REFUSED.map(|(request, _)| request)),
        (
            "one route",
            declared,
            &[("path: /v1/items\n", "path: /v1/items\n    enforce: shadow\n")],
            &[NOBODY, BAD_KEY, READER_POSTS, STRANGER_READS, AT_GLOBEX],
        ),
        (
            "one tenant",
            declared,
            &[("kind: Tenant\ntenant_id: acme_corp\n", "kind: Tenant\ntenant_id: acme_corp\nenforce: shadow\n")],
            &[NOBODY, BAD_KEY, READER_POSTS, EDITOR_IN_ADMIN, STRANGER_READS, NO_FEATURE],
        ),
        ("a plan", declared, &[("name: premium\n", "name: premium\nenforce: shadow\n")], &[NO_FEATURE]),
        ("an identity", declared, &[("kind: Identity\nname: demo\n", "kind: Identity\nname: demo\nenforce: shadow\n")], &[NOBODY, BAD_KEY]),
        ("a role", declared, &[("name: editor\n", "name: editor\nenforce: shadow\n")], &[EDITOR_IN_ADMIN]),
        (
            "a role that others inherit",
            declared,
            &[("name: reader\n", "name: reader\nenforce: shadow\n")],
            &[READER_POSTS, EDITOR_IN_ADMIN, AT_GLOBEX],
        ),
        ("a binding", declared, &[("name: readers\n", "name: readers\nenforce: shadow\n")], &[READER_POSTS, AT_GLOBEX]),
        ("a limit", declared, &[("name: reports_free\n", "name: reports_free\nenforce: shadow\n")], &[]),
    ] {
        let catalogue = demo(mode, edits);
        for (request, refused) in REFUSED {
            let found = verdict(&ask(&catalogue, request));
            let meant = if passed.contains(&request) { format!("would be refused (shadow) with {refused}") } else { refused.to_owned() };
            assert_eq!(found, meant, "{what} in shadow: {request}");
        }
    }
}

#[test]
fn what_is_in_shadow_is_listed_by_the_document_that_says_so() {
    let service = ("kind: Service\n", "kind: Service\nenforce: shadow\n");
    let route = ("path: /v1/items\n", "path: /v1/items\n    enforce: shadow\n");
    let identity = ("kind: Identity\nname: demo\n", "kind: Identity\nname: demo\nenforce: shadow\n");
    let tenant = ("kind: Tenant\ntenant_id: acme_corp\n", "kind: Tenant\ntenant_id: acme_corp\nenforce: shadow\n");
    let named = |name: &str| (format!("name: {name}\n"), format!("name: {name}\nenforce: shadow\n"));
    let [free, editor, readers, reports] = ["free", "editor", "readers", "reports_free"].map(named);
    let few = [&editor, &readers, &reports].map(|(from, to)| (&**from, &**to));
    for (mode, edits, meant) in [
        (Mode::AsDeclared, &[][..], &[][..]),
        (Mode::Shadow, &[route], &["everything"]),
        (Mode::AsDeclared, &[service], &["Service demo"]),
        (Mode::AsDeclared, &[route, identity], &["Identity of the platform", "Service demo, route items"]),
        (Mode::AsDeclared, &[tenant, (&free.0, &free.1)], &["Plan free", "Tenant acme_corp"]),
        (Mode::AsDeclared, &few, &["QuotaPolicy reports_free", "Role editor", "RoleBinding readers"]),
    ] {
        let listed = demo(mode, edits).snapshot().in_shadow();
        assert_eq!(listed.iter().map(String::as_str).collect::<Vec<_>>(), meant);
    }
}

#[test]
fn a_tenant_that_is_unknown_another_or_suspended_and_a_path_that_is_none_are_refused_in_shadow_too() {
    let catalogue = demo(Mode::Shadow, &[("kind: Tenant\ntenant_id: globex\n", "kind: Tenant\ntenant_id: globex\nstate: suspended\n")]);
    for (request, meant) in [
        ("GET /v1/items host=nobody.localhost", "404 unknown_tenant"),
        ("GET /v1/items host=acme.localhost tenant=globex", "403 other_tenant"),
        ("GET /v1/items host=globex.localhost", "403 tenant_suspended"),
        ("GET /v1/items host=api.localhost", "401 missing_credential"),
        ("GET /nowhere host=acme.localhost", "404 no_route"),
        ("GET /v1/../items host=acme.localhost", "400 ambiguous_request"),
        ("GET /healthz host=acme.localhost", "allowed"),
        (r#"GET /v1/items host=acme.localhost claims={"tenant":"acme_corp","roles":["reader"]}"#, "allowed"),
    ] {
        assert_eq!(verdict(&ask(&catalogue, request)), meant, "{request}");
    }
}

#[test]
fn what_is_tried_hides_nothing_that_is_enforced() {
    // Nobody has the feature, which is enforced; the credential is tried only.
    let catalogue = demo(Mode::AsDeclared, &[("kind: Identity\nname: demo\n", "kind: Identity\nname: demo\nenforce: shadow\n")]);
    assert_eq!(verdict(&ask(&catalogue, "GET /v1/reports host=acme.localhost")), "403 feature_required");
    // A role that is tried has a deny; so has one that is not.
    let both = r#"DELETE /v1/items/7 tenant=acme_corp role=auditor claims={"tenant":"acme_corp","roles":["editor"]}"#;
    let edits = [("name: editor\n", "name: editor\nenforce: shadow\ndeny: [\"DELETE /v1/items/{id}\"]\n")];
    let catalogue = demo(Mode::AsDeclared, &edits);
    assert_eq!(verdict(&ask(&catalogue, both)), "403 denied_by_rule");
    let alone = r#"DELETE /v1/items/7 tenant=acme_corp claims={"tenant":"acme_corp","roles":["editor"]}"#;
    assert_eq!(verdict(&ask(&catalogue, alone)), "would be refused (shadow) with 403 denied_by_rule");
}

#[test]
fn an_explanation_of_what_would_be_refused_says_what_comes_nearest() {
    let told = ask(&demo(Mode::Shadow, &[]), READER_POSTS).to_string();
    for words in ["would be refused (shadow) with 403 not_permitted", "role `editor` would allow it by `POST,PUT,DELETE /v1/items`"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}
