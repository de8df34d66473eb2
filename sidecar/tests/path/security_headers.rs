//! What answers tell browsers to be careful about.

use crate::support::{Answer, Client, World, upstream};

/// A sidecar with these headers, in front of an upstream that says some of them itself.
async fn world(headers: &str) -> World {
    let address = upstream(|mut connection: Client| async move {
        while connection.head().await.is_some() {
            let own = "Referrer-Policy: unsafe-url\r\nX-Frame-Options: ALLOWALL\r\nStrict-Transport-Security: max-age=0\r\n\
                       Content-Security-Policy: img-src 'self'\r\nPermissions-Policy: camera=*\r\n";
            connection.send_raw(format!("HTTP/1.1 200 OK\r\n{own}Content-Length: 0\r\n\r\n").as_bytes()).await;
        }
    })
    .await;
    let policy = format!(
        "---\nkind: SecurityPolicy\nname: browsers\ntrusted_hops: [127.0.0.0/8]\nsecurity_headers: {headers}\n\
         cors: {{ origins: [https://a.example] }}\n"
    );
    let text = World::text(&[address], "", &policy);
    let mine = "  - { name: mine, path: /mine, access: public, response_headers: { set: { referrer-policy: origin } } }\n\
                \x20 - { name: said, path: /said, access: public, respond: { status: 200, headers: { referrer-policy: origin } } }\n\
                \x20 - { name: gone, path: /gone, access: public, redirect: { path: /here } }\n";
    World::with_documents(&text.replace("  - { name: all", &format!("{mine}  - {{ name: all"))).await
}

/// Values under a name.
fn values<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

const DEFAULTS: [(&str, &[&str]); 4] = [
    ("x-content-type-options", &["nosniff"]),
    ("referrer-policy", &["strict-origin-when-cross-origin"]),
    ("permissions-policy", &["camera=(), geolocation=(), microphone=()"]),
    ("strict-transport-security", &["max-age=31536000"]),
];

#[tokio::test]
async fn every_answer_says_them_and_transport_security_over_tls_only() {
    let world = world("{}").await;
    let preflight = "\nOrigin: https://a.example\nAccess-Control-Request-Method: GET";
    for (method, path, more, status) in [
        ("GET", "/public/x", "", 200),
        ("GET", "/any", "", 401),
        ("GET", "/public/../x", "", 400),
        ("GET", "/gone", "", 302),
        ("OPTIONS", "/any", preflight, 204),
    ] {
        for is_tls in [true, false] {
            let proto = if is_tls { "https" } else { "http" };
            let mut client = world.client().await;
            client.send(&format!("{method} {path} HTTP/1.1\nHost: acme.test\nX-Forwarded-Proto: {proto}{more}\n\n")).await;
            let answer = client.answer().await;
            assert_eq!(answer.status, status, "{path}");
            for (name, expected) in DEFAULTS {
                // What cannot be read is answered by how the connection itself came.
                let is_told = name != "strict-transport-security" || (is_tls && status != 400);
                assert_eq!(values(&answer, name), if is_told { expected } else { &[] }, "{method} {path} {proto} {name}");
            }
        }
    }
}

#[tokio::test]
async fn they_replace_what_a_service_says_and_a_route_replaces_them() {
    let written = "{ strict_transport_security: off, permissions_policy: off, frame_ancestors: self, referrer_policy: no-referrer, \
                   content_security_policy: \"default-src 'self';\" }";
    let world = world(written).await;
    for (path, name, expected) in [
        ("/public/x", "referrer-policy", &["no-referrer"][..]),
        ("/public/x", "x-frame-options", &["SAMEORIGIN"]),
        ("/public/x", "content-security-policy", &["img-src 'self'", "default-src 'self'; frame-ancestors 'self'"]),
        // What is off is the service's to say.
        ("/public/x", "permissions-policy", &["camera=*"]),
        ("/public/x", "strict-transport-security", &["max-age=0"]),
        ("/mine", "referrer-policy", &["origin"]),
        ("/mine", "x-frame-options", &["SAMEORIGIN"]),
        ("/said", "referrer-policy", &["origin"]),
        ("/said", "x-content-type-options", &["nosniff"]),
    ] {
        let answer = world.ask(&format!("GET {path} HTTP/1.1\nHost: acme.test\n\n")).await;
        assert_eq!((answer.status, values(&answer, name)), (200, expected.to_vec()), "{path} {name}");
    }
}

#[tokio::test]
async fn only_who_is_listed_may_frame_an_answer() {
    for (who, policy, options) in [("none", "'none'", vec!["DENY"]), ("[self, https://a.example]", "'self' https://a.example", vec![])] {
        let world = world(&format!("{{ frame_ancestors: {who} }}")).await;
        let answer = world.ask("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await;
        let expected = format!("frame-ancestors {policy}");
        assert_eq!(values(&answer, "content-security-policy"), ["img-src 'self'", expected.as_str()], "{who}");
        assert_eq!(values(&answer, "x-frame-options"), options, "{who}");
    }
}
