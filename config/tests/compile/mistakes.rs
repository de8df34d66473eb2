//! Mistakes that only all documents together show: each in its place, with what is meant.

use super::support::{PLATFORM, all, change, tenant, told};
use bulkhead_config::compile::Catalogue;

/// A service with one route, for platforms that need one.
const SERVICE: &str = "kind: Service\nname: s\nlisteners: [{ name: http, address: 127.0.0.1:0 }]\n\
                       upstreams: [{ name: app, endpoints: [\"http://127.0.0.1:1\"] }]\nroutes: [{ name: items, path: /items }]\n";

fn mistakes(files: &[(&str, &str)]) -> Vec<String> {
    let outcome = Catalogue::new().apply(&all(files));
    let all = outcome.quarantined.iter().flat_map(|part| part.diagnostics.iter());
    all.map(ToString::to_string).collect()
}

#[test]
fn each_mistake_of_the_platform_is_named_in_its_place() {
    for (text, meant) in [
        (
            "kind: Plan\nname: a\ndefault: true\n---\nkind: Plan\nname: b\ndefault: true\n",
            &[
                "p:1:1: Plan a: plan `a` is the default, and so is b; one plan at most is for tenants that name none",
                "p:5:1: Plan b: plan `b` is the default, and so is a; one plan at most is for tenants that name none",
            ][..],
        ),
        (
            "kind: Role\nname: a\ninherits: [b, c]\n---\nkind: Role\nname: b\ninherits: [a]\n---\nkind: Role\nname: c\n",
            &[
                "p:3:12: Role a: role `a` inherits itself by way of `b`; take one of the roles on the way out of `inherits`",
                "p:7:12: Role b: role `b` inherits itself by way of `a`; take one of the roles on the way out of `inherits`",
            ],
        ),
        (
            "kind: Role\nname: a\ninherits: [a]\n",
            &["p:3:12: Role a: role `a` inherits itself; take one of the roles on the way out of `inherits`"],
        ),
        (
            "kind: Role\nname: reader\n---\nkind: Role\nname: a\ninherits: [raeder]\n",
            &["p:6:12: Role a: role `a` inherits role `raeder`, which does not exist; did you mean `reader`?"],
        ),
        (
            "kind: RoleBinding\nname: x\nrole: nobody\nsubjects: [{ user: u }]\n",
            &["p:3:7: RoleBinding x: role `nobody` does not exist; no role is declared"],
        ),
        (
            "kind: Service\nname: s\nlisteners: [{ name: http, address: 127.0.0.1:0 }]\n\
             upstreams: [{ name: app, endpoints: [\"http://a:1\"] }]\n\
             routes:\n  - { name: a, path: \"/a/{x}\" }\n  - { name: b, path: \"/a/{y}\" }\n  - { name: d, path: /d, upstream: ap }\n",
            &[
                "p:7:22: Service s: path `/a/{y}` is that of route `a`: names of parameters make no difference",
                "p:8:36: Service s: upstream `ap` does not exist in this service; did you mean `app`?",
            ],
        ),
        (
            "kind: Service\nname: s\nlisteners: [{ name: http, address: 127.0.0.1:0 }]\n\
             upstreams: [{ name: a, endpoints: [\"http://a:1\"] }, { name: b, endpoints: [\"http://a:1\"] }]\n\
             routes: [{ name: r, path: / }]\n",
            &["p:5:18: Service s: route `r` must name one of several upstreams; add `upstream:` with one of a, b"],
        ),
        (
            "kind: Identity\nname: a\njwt: [{ issuer: i, audiences: [x], algorithms: [EdDSA], jwks: { file: k }, tenant_claim: t }]\n---\n\
             kind: Identity\nname: b\njwt: [{ issuer: i, audiences: [x], algorithms: [EdDSA], jwks: { file: k }, tenant_claim: t }]\n",
            &["p:7:17: Identity b: issuer `i` stands twice among the platform's issuers; a token is verified by one declaration: merge \
                 them"],
        ),
        (
            "kind: Identity\nname: a\napi_key_header: x-a\n---\nkind: Identity\nname: b\napi_key_header: x-b\n",
            &["p:7:17: Identity b: another Identity has API keys in header `x-a`; a platform has one header for API keys: name the \
                 same, or leave it out here"],
        ),
    ] {
        assert_eq!(mistakes(&[("p", text)]), meant, "{text}");
    }
}

#[test]
fn listeners_that_cannot_both_be_bound_are_a_mistake() {
    let taken = |a: &str, b: &str| {
        let service = |name: &str, address: &str| {
            format!(
                "kind: Service\nname: {name}\nlisteners: [{{ name: http, address: \"{address}\" }}]\n\
                 upstreams: [{{ name: app, endpoints: [\"http://a:1\"] }}]\nroutes: [{{ name: r, path: / }}]\n"
            )
        };
        !mistakes(&[("p", &format!("{}---\n{}", service("a", a), service("b", b)))]).is_empty()
    };
    for (a, b, meant) in [
        ("127.0.0.1:80", "127.0.0.1:80", true),
        ("127.0.0.1:80", "127.0.0.1:81", false),
        ("127.0.0.1:80", "127.0.0.2:80", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
        ("0.0.0.0:80", "127.0.0.1:80", true),
        ("127.0.0.1:80", "[::]:80", true),
        ("0.0.0.0:80", "[::1]:80", false),
        ("[::]:80", "[::1]:80", true),
    ] {
        assert_eq!(taken(a, b), meant, "{a} and {b}");
        assert_eq!(taken(b, a), meant, "{b} and {a}");
    }
}

#[test]
fn each_mistake_of_a_tenant_is_named_in_its_place() {
    let base = format!("{PLATFORM}\n---\nkind: SecurityPolicy\nname: stale\nmax_staleness: 1h\n");
    let with = |more: &str| format!("{}{more}", tenant("t", ""));
    for (text, meant) in [
        (tenant("t", "plan: premum"), &["t:5:7: Tenant t: plan `premum` does not exist; did you mean `premium`?"][..]),
        (tenant("t", "plan: enterprise"), &["t:5:7: Tenant t: plan `enterprise` does not exist; known: free, premium"]),
        (
            with("---\nkind: RoleBinding\ntenant: t\nname: x\nrole: edtor\nsubjects: [{ user: u }]\n"),
            &["t:10:7: RoleBinding t/x: role `edtor` does not exist; did you mean `editor`?"],
        ),
        (
            with(
                "---\nkind: Identity\ntenant: t\nname: x\napi_keys:\n  - { id: k, sha256: \
                 fa9bc3008fcd6f9f5dd466df154af10cca50915402be3f9f0726815a562119a3 }\n---\nkind: Identity\ntenant: t\nname: y\n\
                 api_keys:\n  - { id: k, sha256: fa9bc3008fcd6f9f5dd466df154af10cca50915402be3f9f0726815a562119a3 }\n",
            ),
            &["t:17:11: Identity t/y: API key `k` stands twice in this tenant; the id is part of the key's text: make another key with \
                 an id of its own"],
        ),
        (
            with(
                "---\nkind: QuotaPolicy\ntenant: t\nname: x\napplies_to: { routes: [report] }\n\
                 limits:\n  - { name: a, per: user, rate: 1/s, burst: 1 }\n",
            ),
            &["t:10:24: QuotaPolicy t/x: route `report` does not exist; did you mean `reports`?"],
        ),
        (
            with("---\nkind: CachePolicy\ntenant: t\nname: x\napplies_to: { routes: [report] }\n"),
            &["t:10:24: CachePolicy t/x: route `report` does not exist; did you mean `reports`?"],
        ),
        (
            with(
                "---\nkind: SecurityPolicy\ntenant: t\nname: x\nrequest: { body_bytes_max: 11MiB, head_timeout: 9s }\nmax_staleness: 2h\n",
            ),
            &[
                "t:7:1: SecurityPolicy t/x: `max_staleness: 2h` is looser than the platform's 1h; a tenant's SecurityPolicy may only be \
                 tighter than the platform's",
                "t:7:1: SecurityPolicy t/x: `body_bytes_max: 11MiB` is looser than the platform's 10MiB; a tenant's SecurityPolicy may \
                 only be tighter than the platform's",
            ],
        ),
        (
            with(
                "---\nkind: SecurityPolicy\ntenant: t\nname: x\ncors: { origins: [https://a.b] }\n---\n\
                 kind: SecurityPolicy\ntenant: t\nname: y\ncors: { origins: [https://c.d] }\n",
            ),
            &["t:12:1: SecurityPolicy t/y: `cors` stands in SecurityPolicy t/x already; keep it in one SecurityPolicy"],
        ),
        (
            "kind: Role\ntenant: ghost\nname: r\n".to_owned(),
            &["t:1:1: Role ghost/r: tenant `ghost` does not exist; add its Tenant document, or take this one away"],
        ),
        (
            tenant("t", "hosts: [API.localhost]"),
            &["t:5:9: Tenant t: host `api.localhost` is a shared host of a service, which names no tenant; take it out of the tenant's \
                 `hosts`, or out of the service's `shared_hosts`"],
        ),
    ] {
        assert_eq!(mistakes(&[("p", &base), ("t", &text)]), meant, "{text}");
    }
}

#[test]
fn more_roles_than_a_tenant_can_see_are_a_mistake_and_as_many_are_none() {
    let roles = |scope: &str, count: usize| -> String {
        (0..count).map(|n| format!("---\nkind: Role\n{scope}name: r{n}\nallow: [\"GET /items\"]\n")).collect()
    };
    let platform = format!("{SERVICE}{}", roles("", 200));
    for (count, meant) in [(56, 0), (57, 1)] {
        let text = format!("{}{}", tenant("t", ""), roles("tenant: t\n", count));
        assert_eq!(mistakes(&[("p", &platform), ("t", &text)]).len(), meant, "{count}");
    }
    assert_eq!(mistakes(&[("p", &format!("{SERVICE}{}", roles("", 257)))]).len(), 1);
}

#[test]
fn what_each_request_or_token_must_ask_is_bounded() {
    let list = |count: usize, item: fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(", ");
    let role = |rules: String| format!("{SERVICE}---\nkind: Role\nname: r\nallow: [{rules}]\n");
    let rules = |count| role(list(count, |n| format!("\"X{n} /items\"")));
    let subjects = |count| {
        let users = list(count, |n| format!("{{ user: u{n} }}"));
        format!("{SERVICE}---\nkind: Role\nname: r\n---\nkind: RoleBinding\nname: b\nrole: r\nsubjects: [{users}]\n")
    };
    let limits = |count| {
        let limits = list(count, |n| format!("{{ name: l{n}, per: tenant, rate: 1/s, burst: 1 }}"));
        format!("{SERVICE}---\nkind: QuotaPolicy\nname: q\nlimits: [{limits}]\n")
    };
    let routes = |count| {
        let routes = list(count, |n| format!("{{ name: n{n}, path: /n/{n} }}"));
        SERVICE.replace("routes: [", &format!("routes: [{routes}, "))
    };
    type Text<'a> = &'a dyn Fn(usize) -> String;
    let counted: [(usize, usize, &str, Text<'_>); 4] = [
        (10_000, 0, "rules", &rules),
        (20_000, 0, "subjects of bindings", &subjects),
        (256, 0, "limits", &limits),
        (10_000, 1, "routes", &routes),
    ];
    for (most, there_already, what, text) in counted {
        assert_eq!(mistakes(&[("p", &text(most - there_already))]), Vec::<String>::new(), "{what}");
        let told = mistakes(&[("p", &text(most - there_already + 1))]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].ends_with(&format!("with this document there are {} {what}, more than the {most} allowed", most + 1)), "{told:?}");
    }
    // Few rules, few routes, but all on all.
    let all_on_all = routes(1_048) + "---\nkind: Role\nname: r\nallow: [" + &list(1_000, |n| format!("\"X{n} /**\"")) + "]\n";
    let told = mistakes(&[("p", &all_on_all)]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("places of rules on routes, more than the 1048576 allowed"), "{told:?}");
}

#[test]
fn what_is_odd_is_told_and_keeps_nobody_from_being_served() {
    let platform = format!(
        "{PLATFORM}\n---\nkind: QuotaPolicy\nname: named\napplies_to: {{ tenants: [t, tt] }}\n\
         limits: [{{ name: a, per: tenant, rate: 1/s, burst: 1 }}]\n"
    );
    let text = format!(
        "{}---\nkind: Role\ntenant: t\nname: r\nallow: [\"GET /v1/itmes\"]\n---\nkind: RoleBinding\ntenant: t\nname: b\nrole: r\n\
         subjects: [{{ api_key: gone }}]\n",
        tenant("t", "")
    );
    let outcome = Catalogue::new().apply(&all(&[("p", &platform), ("t", &text)]));
    assert_eq!(told(&outcome), "");
    let warnings: Vec<String> = outcome.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            format!("p:{}:28: QuotaPolicy named: tenant `tt` does not exist; did you mean `t`?", platform.lines().count() - 1),
            "t:10:9: Role t/r: rule `GET /v1/itmes` matches no route of any service; compare it with the paths of the routes; a trailing \
             slash is another path"
                .to_owned(),
            "t:16:12: RoleBinding t/b: API key `gone` does not exist, so nobody is bound by it; no API key is declared".to_owned(),
        ]
    );
}

/// The key is valid, and a request with it is told that it shows no credential.
#[test]
fn an_api_key_that_no_header_carries_is_told_until_one_does() {
    let key = format!("  - id: k\n    sha256: \"{}\"\n", "0".repeat(64));
    let tenant = format!("{}---\nkind: Identity\ntenant: t\nname: i\napi_keys:\n{key}", tenant("t", ""));
    let mut catalogue = Catalogue::new();
    let outcome = catalogue.apply(&all(&[("p", &PLATFORM.replace("api_key_header: x-api-key", "")), ("t", &tenant)]));
    assert_eq!(told(&outcome), "");
    let warning = "t:11:9: Identity t/i: no request can show this API key: no platform-wide Identity has `api_key_header`; add an \
                   Identity without `tenant:` that says `api_key_header: x-api-key`";
    assert_eq!(outcome.warnings.to_string(), warning);
    let outcome = catalogue.apply(&change(&[("p", PLATFORM)]));
    assert_eq!(outcome.warnings.to_string(), "");
}

/// The listener means something, and closes every connection.
#[test]
fn a_listener_that_wants_proxy_headers_is_told_where_nobodys_are_believed() {
    let listener = "address: 127.0.0.1:8080";
    let platform = PLATFORM.replacen(listener, &format!("proxy_protocol: required\n    {listener}"), 1);
    let mut catalogue = Catalogue::new();
    let outcome = catalogue.apply(&all(&[("p", &platform)]));
    assert_eq!(told(&outcome), "");
    let warnings = outcome.warnings.to_string();
    assert!(warnings.contains("no PROXY header will be believed") && warnings.contains("`trusted_hops`"), "{warnings}");
    let hops = format!("{platform}\n---\nkind: SecurityPolicy\nname: hops\ntrusted_hops: [10.0.0.0/8]\n");
    assert_eq!(catalogue.apply(&change(&[("p", &hops)])).warnings.to_string(), "");
}

#[test]
fn the_same_document_in_two_places_is_in_neither() {
    let outcome = Catalogue::new().apply(&all(&[("a", &tenant("t", "")), ("b", &tenant("t", "state: suspended"))]));
    let told: Vec<String> = outcome.quarantined.iter().flat_map(|part| part.diagnostics.iter()).map(ToString::to_string).collect();
    assert_eq!(told, ["a:1:1: Tenant t: the same document stands in b:1 too", "b:1:1: Tenant t: the same document stands in a:1 too"]);
}
