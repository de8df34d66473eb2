//! Routes that rewrite, redirect, or answer by themselves: what goes up, what comes back, and what is decided on.

use crate::support::{Answer, KEY, World, echo, http2_client, upstream_on, whole, within};
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Values under a name in a head.
fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

/// A sidecar with these routes beside the usual ones, lines of YAML.
async fn world(upstream: SocketAddr, routes: &[&str], more: &str) -> World {
    let routes: String = routes.iter().map(|route| format!("  - {{ {route} }}\n")).collect();
    let text = World::text(&[upstream], "", more);
    World::with_documents(&text.replace("  - { name: all, path: \"/**\" }\n", &format!("  - {{ name: all, path: \"/**\" }}\n{routes}")))
        .await
}

const REWRITES: [&str; 4] = [
    "name: items, path: \"/v1/items/**\", rewrite: { prefix: /api/items }",
    "name: root, path: \"/v0/**\", rewrite: { prefix: /, host: legacy.internal }",
    "name: one, path: \"/any/{x}/of/{y}\", rewrite: { path: /one }",
    "name: host, path: /host, rewrite: { host: Other.Internal }",
];

/// What went up: its request line and its host, and which host the service is told the client used.
fn went(answer: &Answer) -> (&str, Vec<&str>, Vec<&str>) {
    let line = answer.body.lines().next().unwrap_or_default();
    (
        line.strip_prefix("GET ").and_then(|line| line.strip_suffix(" HTTP/1.1")).unwrap_or(line),
        values(&answer.body, "host"),
        values(&answer.body, "x-forwarded-host"),
    )
}

#[tokio::test]
async fn path_and_host_are_rewritten_and_the_query_stays_as_it_came() {
    let world = world(echo().await, &REWRITES, "").await;
    let other = |host| (host, vec!["acme.test"]);
    for (asked, goes, (host, told)) in [
        ("/v1/items/7?x=%2F..", "/api/items/7?x=%2F..", other("acme.test")),
        ("/v1/items/", "/api/items/", other("acme.test")),
        ("/v1/items/%7Eana/%c3%a9", "/api/items/~ana/%C3%A9", other("acme.test")),
        ("/v1/items", "/v1/items", other("acme.test")),
        ("/v0/a/b", "/a/b", other("legacy.internal")),
        ("/v0/", "/", other("legacy.internal")),
        ("/any/1/of/2?c", "/one?c", other("acme.test")),
        ("/host?", "/host?", other("other.internal")),
    ] {
        let answer = world.ask(&format!("GET {asked} HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\n\n")).await;
        assert_eq!((answer.status, went(&answer)), (200, (goes, vec![host], told)), "{asked}");
    }
    // What could climb out of the prefix is refused before anything is rewritten.
    for asked in ["/v1/items/../x", "/v1/items/%2e%2e/x", "/v1/items/..%2fx", "/v0//evil.test", "/v0/..;/x", "/v0/%2fevil.test"] {
        let answer = world.ask(&format!("GET {asked} HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\n\n")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "ambiguous_request"), "{asked}");
    }
}

#[tokio::test]
async fn it_is_decided_on_what_was_matched_and_the_log_shows_both() {
    let deny = "---\nkind: Role\nname: careful\ndeny: [\"GET /v1/items/secret\", \"GET /api/items/open\"]\n\
                ---\nkind: RoleBinding\ntenant: acme\n\
                name: careful\nrole: careful\nsubjects: [{ api_key: ci }]\n";
    let world = world(echo().await, &REWRITES, deny).await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\n\n");
    let refused = world.ask(&ask("/v1/items/secret")).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "denied_by_rule"));
    // A rule about the path at the upstream is about another request.
    assert_eq!(went(&world.ask(&ask("/v1/items/open")).await).0, "/api/items/open");
    let line = world.log_with("access.jsonl", &["/v1/items/open"]).await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((line.get("path").unwrap(), line.get("upstream_path").unwrap()), (&"/v1/items/open".into(), &"/api/items/open".into()));
    assert_eq!(line.get("upstream_host"), None);
    world.ask(&ask("/v0/x?secret=1")).await;
    let line = world.log_with("access.jsonl", &["/v0/x"]).await;
    assert!(
        line.contains("\"upstream_path\":\"/x\"") && line.contains("\"upstream_host\":\"legacy.internal\"") && !line.contains("secret"),
        "{line}"
    );
}

#[tokio::test]
async fn what_a_rewrite_makes_too_long_is_refused_and_costs_nothing() {
    let long = "a".repeat(1_000);
    let limit = "---\nkind: QuotaPolicy\nname: few\nlimits: [{ name: few, per: tenant, requests: 1, window: 1h }]\n---\n\
                 kind: SecurityPolicy\nname: large\nrequest: { header_bytes_max: 128KiB }\n";
    let route = format!("name: long, path: \"/long/**\", rewrite: {{ prefix: /{long} }}");
    let world = world(echo().await, &[&route], limit).await;
    let ask = |path: &str| format!("GET /long/{path} HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\n\n");
    let answer = world.ask(&ask(&"b".repeat(64_500))).await;
    assert_eq!((answer.status, answer.code().as_str()), (414, "target_too_long"));
    assert_eq!(went(&world.ask(&ask(&"b".repeat(50_000))).await).0.len(), 51_002);
}

const ANSWERS: [&str; 9] = [
    "name: moved, path: \"/old/**\", access: public, redirect: { prefix: /new, status: 308 }",
    "name: gone, path: \"/gone/{x}\", access: public, redirect: { path: /here }",
    "name: secure, path: /secure, access: public, redirect: { scheme: https, status: 301 }",
    "name: port, path: /port, access: public, redirect: { scheme: https, port: 8443 }",
    "name: www, path: /www, access: public, redirect: { host: www.acme.test, status: 307 }",
    "name: private, path: /private, redirect: { path: /new }",
    "name: robots, path: /robots.txt, access: public, respond: { status: 200, body: \"User-agent: *\\n\", \
     headers: { cache-control: max-age=60, x-for: \"${tenant} ${route}\" } }",
    "name: closed, path: \"/closed/**\", respond: { status: 503, headers: { retry-after: \"120\" } }",
    "name: page, path: /page, access: public, respond: { status: 410, body: \"<p>gone\", headers: { content-type: text/html } }",
];

#[tokio::test]
async fn a_client_is_sent_elsewhere_and_never_to_where_it_chose_itself() {
    let trusting = "---\nkind: SecurityPolicy\nname: hops\ntrusted_hops: [127.0.0.0/8]\n";
    for (more, rows) in [
        (
            "",
            &[
                ("/old/a/b?c=d", "", 308, Some("/new/a/b?c=d")),
                ("/old/", "", 308, Some("/new/")),
                ("/old/x?//evil.test", "", 308, Some("/new/x?//evil.test")),
                ("/old/evil.test", "X-Forwarded-Host: evil.test", 308, Some("/new/evil.test")),
                ("/gone/7?a", "", 302, Some("/here?a")),
                ("/secure?x=1", "", 301, Some("https://acme.test/secure?x=1")),
                // Nobody vouches for who says so.
                ("/secure", "X-Forwarded-Proto: https\nX-Forwarded-Host: evil.test", 301, Some("https://acme.test/secure")),
                ("/port", "", 302, Some("https://acme.test:8443/port")),
                ("/www", "", 307, Some("http://www.acme.test/www")),
            ][..],
        ),
        (
            trusting,
            &[
                ("/secure", "X-Forwarded-Proto: http", 301, Some("https://acme.test/secure")),
                // It is where it would be sent: it goes on.
                ("/secure", "X-Forwarded-Proto: https", 200, None),
                ("/secure", "Forwarded: for=192.0.2.1;proto=https", 200, None),
                ("/www", "X-Forwarded-Proto: https", 307, Some("https://www.acme.test/www")),
            ],
        ),
    ] {
        let world = world(echo().await, &ANSWERS, more).await;
        for (path, field, status, location) in rows {
            let field = if field.is_empty() { String::new() } else { format!("{field}\n") };
            let answer = world.ask(&format!("GET {path} HTTP/1.1\nHost: acme.test:8080\n{field}\n")).await;
            assert_eq!(
                (answer.status, values(&answer.head, "location").first().copied()),
                (*status, *location),
                "{path} {field} {answer:?}"
            );
        }
        // A host of nobody is sent nowhere.
        let answer = world.ask("GET /secure HTTP/1.1\nHost: evil.test\n\n").await;
        assert_eq!((answer.status, values(&answer.head, "location")), (404, vec![]));
    }
}

#[tokio::test]
async fn a_route_answers_as_it_is_written_without_its_service() {
    let never = upstream_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), |_| async { unreachable!("nobody is asked") });
    let world = world(never, &ANSWERS, "").await;
    let mut client = world.client().await;
    client.send("GET /robots.txt HTTP/1.1\nHost: acme.test\n\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "User-agent: *\n"));
    for (name, value) in
        [("content-type", "text/plain; charset=utf-8"), ("cache-control", "max-age=60"), ("x-for", "acme robots"), ("content-length", "14")]
    {
        assert_eq!(values(&answer.head, name), [value], "{name} in {}", answer.head);
    }
    client.send("HEAD /robots.txt HTTP/1.1\nHost: acme.test\n\n").await;
    let answer = client.answer_to("HEAD").await;
    assert_eq!((answer.status, values(&answer.head, "content-length")), (200, vec!["14"]));
    // A body that nobody reads is passed over, and the connection goes on.
    client.send("POST /page HTTP/1.1\nHost: acme.test\nContent-Length: 4\n\nbody").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str(), values(&answer.head, "content-type")), (410, "<p>gone", vec!["text/html"]));
    client.send(&format!("GET /closed/x HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\n\n")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, values(&answer.head, "retry-after"), values(&answer.head, "content-type")), (503, vec!["120"], vec![]));
    let line = world.log_with("access.jsonl", &["/closed/x"]).await;
    assert!(line.contains("\"status\":503") && line.contains("\"route\":\"closed\"") && !line.contains("\"code\""), "{line}");
}

#[tokio::test]
async fn what_is_answered_here_passes_credential_permission_and_quota_first() {
    let limit = "---\nkind: QuotaPolicy\nname: few\napplies_to: { routes: [private, closed] }\nlimits: [{ name: few, per: tenant, requests: 2, window: 1h }]\n";
    let world = world(echo().await, &ANSWERS, limit).await;
    let key = format!("X-Api-Key: {KEY}");
    for (method, path, field, status) in [
        ("GET", "/private", "X-None: 1", 401),
        ("GET", "/closed/x", "X-None: 1", 401),
        ("DELETE", "/private", key.as_str(), 403),
        ("GET", "/private", &key, 302),
        ("GET", "/closed/x", &key, 503),
        ("GET", "/private", &key, 429),
        ("GET", "/closed/x", &key, 429),
    ] {
        let answer = world.ask(&format!("{method} {path} HTTP/1.1\nHost: acme.test\n{field}\n\n")).await;
        assert_eq!(answer.status, status, "{method} {path} {field}");
        assert_eq!(values(&answer.head, "location").len(), usize::from(status == 302), "{method} {path} {field}");
        let tells = matches!(status, 302 | 429 | 503);
        assert_eq!(values(&answer.head, "ratelimit").len(), usize::from(tells), "{method} {path} {}", answer.head);
    }
}

#[tokio::test]
async fn rewrites_and_answers_hold_over_http2_as_well() {
    let routes = [&REWRITES[..], &ANSWERS[..]].concat();
    let world = world(echo().await, &routes, "").await;
    let mut sender = http2_client(world.address()).await;
    let request = http::Request::get("http://acme.test/v1/items/7?q").header("x-api-key", KEY).body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    let body = whole(within(response).await.unwrap().body_mut()).await;
    assert!(body.starts_with(b"GET /api/items/7?q HTTP/1.1"), "{}", String::from_utf8_lossy(&body));
    let (response, _) = sender.send_request(http::Request::get("http://acme.test/old/x").body(()).unwrap(), true).unwrap();
    let response = within(response).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("location").unwrap().as_bytes()), (308, &b"/new/x"[..]));
    let (response, _) = sender.send_request(http::Request::get("http://acme.test/robots.txt").body(()).unwrap(), true).unwrap();
    let mut response = within(response).await.unwrap();
    assert_eq!((response.status().as_u16(), whole(response.body_mut()).await), (200, b"User-agent: *\n".to_vec()));
}
