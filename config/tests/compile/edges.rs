//! Where rewrites and redirects lead among the routes of a service, and what is explained of them.

use super::support::{all, ask, told};
use bulkhead_config::compile::Catalogue;

/// A service of two upstreams with these routes, and a tenant.
fn service(routes: &[&str]) -> String {
    let routes: String = routes.iter().map(|route| format!("  - {{ {route} }}\n")).collect();
    let ends = "upstreams: [{ name: app, endpoints: [\"http://a:1\"] }, { name: other, endpoints: [\"http://b:1\"] }]";
    format!(
        "tenant_id: t\nname: T\nemail: a@b.c\nhosts: [t.test]\n---\n\
         kind: Service\nname: s\nlisteners: [{{ name: http, address: 127.0.0.1:0 }}]\n{ends}\nroutes:\n{routes}"
    )
}

#[test]
fn who_asks_no_credential_does_not_lead_to_what_asks_one() {
    let guard = "name: guard, path: \"/admin/**\", upstream: app";
    let open = |rewrite: &str| format!("name: open, path: \"/open/**\", access: public, upstream: app, rewrite: {{ {rewrite} }}");
    let bound = |rewrite: &str| format!("name: bound, path: \"/bound/**\", upstream: app, rewrite: {{ {rewrite} }}");
    for (routes, mistake, warning) in [
        ([guard, &open("prefix: /admin")].as_slice(), "route `guard` (/admin/**) asks a credential for", ""),
        (&[guard, &open("prefix: /admin/deep")], "`/admin/deep/**` is public by a route of its own", ""),
        (&[guard, &open("prefix: /")], "asks a credential for", ""),
        (&[guard, &open("path: /admin/x")], "asks a credential for", ""),
        (&["name: all, path: \"/**\", upstream: app", &open("prefix: /assets")], "route `all` (/**) asks", ""),
        (&[guard, &open("prefix: /assets")], "", ""),
        (&[guard, &open("path: /admin")], "", ""),
        // Another upstream has other paths, and a route that is rewritten itself guards other ones.
        (&["name: guard, path: \"/admin/**\", upstream: other", &open("prefix: /admin")], "", ""),
        (&["name: guard, path: \"/admin/**\", upstream: app, rewrite: { prefix: /x }", &open("prefix: /admin")], "", ""),
        (&["name: guard, path: \"/admin/**\", access: public, upstream: app", &open("prefix: /admin")], "", ""),
        // What the operator declared public is.
        (
            &[
                "name: all, path: \"/**\", upstream: app",
                "name: assets, path: \"/assets/**\", access: public, upstream: app",
                &open("prefix: /assets"),
            ],
            "",
            "",
        ),
        (
            &[
                "name: all, path: \"/**\", upstream: app",
                "name: assets, path: \"/assets/**\", access: public, upstream: app",
                "name: inner, path: \"/assets/inner/{x}\", upstream: app",
                &open("prefix: /assets"),
            ],
            "route `inner` (/assets/inner/{x}) asks",
            "",
        ),
        (&[guard, &bound("prefix: /")], "", "who may use route `bound` reaches what route `guard` (/admin/**) has rules of its own for"),
        (&["name: all, path: \"/**\", upstream: app", &bound("prefix: /v2")], "", ""),
    ] {
        let text = service(routes);
        let outcome = Catalogue::new().apply(&all(&[("p", &text)]));
        let (mistakes, warnings) = (told(&outcome), outcome.warnings.to_string());
        assert!(mistakes.contains(mistake) && mistakes.is_empty() == mistake.is_empty(), "{text}{mistakes}");
        assert!(warnings.contains(warning) && warnings.is_empty() == warning.is_empty(), "{text}{warnings}");
    }
}

#[test]
fn nobody_is_sent_in_a_circle() {
    for (routes, circle) in [
        (&["name: a, path: \"/a/**\", redirect: { prefix: /a }"][..], &["a"][..]),
        (&["name: a, path: \"/a/**\", redirect: { prefix: /a/b }"], &["a"]),
        (&["name: a, path: \"/**\", redirect: { prefix: /v1 }"], &["a"]),
        (&["name: a, path: \"/a/{x}\", redirect: { path: /a/b }"], &["a"]),
        (&["name: a, path: /a, redirect: { path: /b }", "name: b, path: /b, redirect: { path: /a }"], &["a", "b"]),
        (&["name: a, path: \"/**\", redirect: { prefix: /v1 }", "name: b, path: \"/v1/**\", upstream: app"], &[]),
        (&["name: a, path: /a, redirect: { path: /b }", "name: b, path: /b, redirect: { path: /c }"], &[]),
        (&["name: a, path: \"/a/**\", redirect: { prefix: /a/b, host: other.test }", "name: b, path: /b, upstream: app"], &[]),
        (&["name: a, path: \"/a/**\", redirect: { prefix: /b }"], &[]),
    ] {
        let text = service(routes).replace(", host: other.test }", ", host: other.test }, upstream: app");
        let mistakes = told(&Catalogue::new().apply(&all(&[("p", &text)])));
        assert_eq!(mistakes.matches("to itself").count(), circle.len(), "{text}{mistakes}");
        for name in circle {
            assert!(mistakes.contains(&format!("route `{name}` sends its clients to itself")), "{text}{mistakes}");
        }
    }
}

#[test]
fn who_sends_everybody_to_https_is_told_where_nobody_comes_by_it() {
    let text = service(&["name: a, path: \"/**\", upstream: app, redirect: { scheme: https }"]);
    let outcome = Catalogue::new().apply(&all(&[("p", &text)]));
    let warnings = outcome.warnings.to_string();
    assert!(told(&outcome).is_empty() && warnings.contains("p:11:") && warnings.contains("`trusted_hops`"), "{warnings}");
    let hops = format!("{text}---\nkind: SecurityPolicy\nname: hops\ntrusted_hops: [10.0.0.0/8]\n");
    let tls = "address: 127.0.0.1:0, tls: { certificates: [{ certificate: { file: a }, key: { file: b } }] }";
    for good in [hops, text.replace("address: 127.0.0.1:0", tls)] {
        let outcome = Catalogue::new().apply(&all(&[("p", &good)]));
        assert_eq!((told(&outcome), outcome.warnings.to_string()), Default::default(), "{good}");
    }
}

#[test]
fn it_is_explained_what_becomes_of_a_request() {
    let mut catalogue = Catalogue::new();
    let outcome = catalogue.apply(&all(&[(
        "p",
        &service(&[
            "name: up, path: \"/up/**\", access: public, upstream: app, rewrite: { prefix: /v2, host: App.internal }",
            "name: host, path: /host, access: public, upstream: app, rewrite: { host: app.internal }",
            "name: moved, path: \"/moved/**\", access: public, redirect: { prefix: /new }",
            "name: secure, path: /secure, access: public, upstream: app, redirect: { scheme: https, port: 8443 }",
            "name: said, path: /said, access: public, respond: { status: 410 }",
            "name: plain, path: /plain, access: public, upstream: app",
        ]),
    )]));
    assert_eq!(told(&outcome), "");
    for (path, becomes, goes_on) in [
        ("/up/items/7", Some("goes up as `/v2/items/7` for host `app.internal`"), true),
        ("/host", Some("goes up as `/host` for host `app.internal`"), true),
        ("/moved/x", Some("sent to `/new/x`"), false),
        ("/secure", Some("sent to `/secure` over HTTPS, at port 8443, unless it came to that"), true),
        ("/said", Some("answered here with what the route says"), false),
        ("/plain", None, true),
    ] {
        let explanation = ask(&catalogue, &format!("GET {path} host=t.test"));
        assert_eq!(explanation.becomes.as_deref(), becomes, "{path}");
        let (text, json) = (explanation.to_string(), explanation.to_json());
        assert_eq!(text.contains("to upstream `app`"), goes_on, "{text}");
        assert_eq!(json["route"]["upstream"].is_string(), goes_on, "{json}");
        assert!(becomes.is_none_or(|becomes| text.contains(&format!("\n  then     {becomes}\n"))), "{text}");
    }
}
