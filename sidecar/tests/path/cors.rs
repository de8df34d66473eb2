//! Pages of other origins: what they are let do, and what they may read of an answer, also of a refusal.

use crate::support::{Answer, Client, KEY, World, http2_client, upstream, within};
use std::net::SocketAddr;

const SHOP: &str = "https://shop.example";

/// Rules of the platform, and of tenant `globex`, which has its own.
const RULES: &str = "---\nkind: SecurityPolicy\nname: edge\n\
                     cors:\n  origins: [https://shop.example, \"https://admin.example:8443\", \"null\"]\n  \
                     methods: [GET, PUT, DELETE]\n  headers: [authorization, content-type, x-api-key]\n  \
                     exposed_headers: [x-total, ratelimit]\n  max_age: 10m\n\
                     ---\ntenant_id: globex\nname: Globex\nemail: a@globex.test\nhosts: [globex.test]\n\
                     ---\nkind: SecurityPolicy\ntenant: globex\nname: edge\ncors: { origins: [https://globex.example], credentials: true, \
                     private_network: true }\n\
                     ---\ntenant_id: open\nname: Open\nemail: a@open.test\nhosts: [open.test]\n\
                     ---\nkind: SecurityPolicy\ntenant: open\nname: edge\ncors: { origins: [\"*\"] }\n";

/// An upstream with a voice of its own.
async fn loud() -> SocketAddr {
    upstream(|mut connection: Client| async move {
        while let Some(head) = connection.head().await {
            let vary = if head.starts_with("GET /public/varied") { "Vary: Accept, Origin\r\n" } else { "" };
            let own = "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\nAccess-Control-Expose-Headers: x-all\r\n\
                       Access-Control-Allow-Methods: TRACE\r\n";
            connection.send_raw(format!("HTTP/1.1 200 OK\r\n{own}{vary}Content-Length: 2\r\n\r\nok").as_bytes()).await;
        }
    })
    .await
}

async fn world() -> World {
    World::start(&[loud().await], "", RULES).await
}

/// Values under a name.
fn values<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

/// What an answer says of cross-origin requests, sorted.
fn said(answer: &Answer) -> Vec<String> {
    let names = answer.head.lines().map(str::to_ascii_lowercase).filter(|line| line.starts_with("access-control-"));
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_preflight_gets_what_is_declared_and_nothing_else() {
    let world = world().await;
    let granted = [
        "access-control-allow-headers: authorization, content-type, x-api-key",
        "access-control-allow-methods: get, put, delete",
        "access-control-allow-origin: https://shop.example",
        "access-control-max-age: 600",
    ];
    for (asked, refused) in [
        (format!("Origin: {SHOP}\nAccess-Control-Request-Method: GET"), None),
        (format!("Origin: {SHOP}\nAccess-Control-Request-Method: HEAD"), None),
        (format!("Origin: {SHOP}\nAccess-Control-Request-Method: PUT\nAccess-Control-Request-Headers: authorization,content-type"), None),
        (format!("Origin: {SHOP}\nAccess-Control-Request-Method: PUT\nAccess-Control-Request-Headers: , X-Api-Key ,"), None),
        (format!("Origin: {SHOP}\nAccess-Control-Request-Method: POST"), Some("`POST`")),
        (format!("Origin: {SHOP}\nAccess-Control-Request-Method: put"), Some("`put`")),
        (format!("Origin: {SHOP}\nAccess-Control-Request-Method: *"), Some("`*`")),
        (format!("Origin: {SHOP}\nAccess-Control-Request-Method: PUT\nAccess-Control-Request-Headers: x-other"), Some("`x-other`")),
        (format!("Origin: {SHOP}\nAccess-Control-Request-Method: PUT\nAccess-Control-Request-Headers: *"), Some("`*`")),
        (format!("Origin: {SHOP}\nAccess-Control-Request-Method: GET\nAccess-Control-Request-Private-Network: true"), Some("less private")),
        (format!("Origin: {SHOP}\nAccess-Control-Request-Method: GET\nAccess-Control-Request-Method: PUT"), Some("`GET`")),
        ("Origin: https://evil.example\nAccess-Control-Request-Method: GET".to_owned(), Some("this origin")),
        ("Origin: https://shop.example.evil.example\nAccess-Control-Request-Method: GET".to_owned(), Some("this origin")),
        ("Origin: https://SHOP.example\nAccess-Control-Request-Method: GET".to_owned(), Some("this origin")),
        ("Origin: http://shop.example\nAccess-Control-Request-Method: GET".to_owned(), Some("this origin")),
        ("Origin: https://shop.example:443\nAccess-Control-Request-Method: GET".to_owned(), Some("this origin")),
        ("Origin: https://admin.example\nAccess-Control-Request-Method: GET".to_owned(), Some("this origin")),
        (format!("Origin: {SHOP}\nOrigin: https://evil.example\nAccess-Control-Request-Method: GET"), Some("this origin")),
    ] {
        // Neither a route nor a credential is asked for.
        let answer = world.ask(&format!("OPTIONS /any HTTP/1.1\nHost: acme.test\n{asked}\n\n")).await;
        match refused {
            None => {
                assert_eq!((answer.status, said(&answer)), (204, granted.map(str::to_owned).to_vec()), "{asked}");
                assert!(values(&answer, "vary").concat().starts_with("origin,"), "{asked}: {}", answer.head);
            }
            Some(why) => {
                assert_eq!((answer.status, answer.code().as_str()), (403, "cross_origin_refused"), "{asked}");
                assert!(answer.body.contains(why), "{asked}: {}", answer.body);
                // Whoever may not ask is told no origin, and nobody what else would be allowed.
                assert!(values(&answer, "access-control-allow-methods").is_empty(), "{asked}: {}", answer.head);
                assert!(!answer.head.contains("evil") && !answer.head.contains("SHOP"), "{asked}: {}", answer.head);
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_preflight_is_a_request_as_any() {
    let world = world().await;
    for head in [
        "OPTIONS /any HTTP/1.1\nHost: acme.test\nOrigin: https://shop.example\n\n",
        "OPTIONS /any HTTP/1.1\nHost: acme.test\nAccess-Control-Request-Method: GET\n\n",
        "OPTIONS * HTTP/1.1\nHost: acme.test\nOrigin: https://shop.example\nAccess-Control-Request-Method: GET\n\n",
        "GET /any HTTP/1.1\nHost: acme.test\nOrigin: https://shop.example\nAccess-Control-Request-Method: GET\n\n",
    ] {
        let answer = world.ask(head).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "missing_credential"), "{head}");
    }
    // Nobody's host has no rules.
    let preflight = "Origin: https://shop.example\nAccess-Control-Request-Method: GET";
    let answer = world.ask(&format!("OPTIONS /any HTTP/1.1\nHost: nobody.test\n{preflight}\n\n")).await;
    assert_eq!((answer.status, said(&answer)), (404, vec![]));
}

#[tokio::test]
async fn one_voice_says_who_may_read_an_answer() {
    let world = world().await;
    let shop = ["access-control-allow-origin: https://shop.example", "access-control-expose-headers: x-total, ratelimit"];
    let globex = ["access-control-allow-credentials: true", "access-control-allow-origin: https://globex.example"];
    for (host, origin, told, varies) in [
        ("acme.test", "Origin: https://shop.example", &shop[..], true),
        ("acme.test", "Origin: null", &["access-control-allow-origin: null", "access-control-expose-headers: x-total, ratelimit"], true),
        ("acme.test", "Origin: https://evil.example", &[], true),
        ("acme.test", "Origin: https://shop.example\nOrigin: https://shop.example", &[], true),
        // What is stored must not be given to a page that names an origin.
        ("acme.test", "X-No-Origin: 1", &[], true),
        // A tenant's rules stand in place of the platform's.
        ("globex.test", "Origin: https://globex.example", &globex, true),
        ("globex.test", "Origin: https://shop.example", &[], true),
        ("open.test", "Origin: https://any.example", &["access-control-allow-origin: *"], false),
        ("open.test", "Origin: null", &["access-control-allow-origin: *"], false),
        ("open.test", "X-No-Origin: 1", &["access-control-allow-origin: *"], false),
    ] {
        let answer = world.ask(&format!("GET /public/x HTTP/1.1\nHost: {host}\n{origin}\n\n")).await;
        assert_eq!((answer.status, said(&answer)), (200, told.iter().map(|line| (*line).to_owned()).collect()), "{host} {origin}");
        assert_eq!(values(&answer, "vary"), if varies { vec!["origin"] } else { vec![] }, "{host} {origin}");
    }
    let answer = world.ask("GET /public/varied HTTP/1.1\nHost: acme.test\nOrigin: https://shop.example\n\n").await;
    assert_eq!(values(&answer, "vary"), ["Accept, Origin"], "said once");
}

#[tokio::test]
async fn a_page_can_read_why_it_is_refused() {
    let limit = "---\nkind: QuotaPolicy\nname: few\nlimits: [{ name: few, per: tenant, requests: 1, window: 1h }]\n";
    let world = World::start(&[loud().await], "", &format!("{RULES}{limit}")).await;
    let key = format!("X-Api-Key: {KEY}");
    let wrong = format!("X-Api-Key: bk1.acme.ci.{}", "B".repeat(43));
    let elsewhere = format!("Host: globex.test\nOrigin: https://globex.example\n{key}");
    for (request, status) in [
        ("GET /any HTTP/1.1\nHost: acme.test".to_owned(), 401),
        (format!("GET /any HTTP/1.1\nHost: acme.test\n{wrong}"), 401),
        (format!("DELETE /any HTTP/1.1\nHost: acme.test\n{key}"), 403),
        (format!("GET /any HTTP/1.1\nHost: acme.test\n{key}"), 200),
        (format!("GET /any HTTP/1.1\nHost: acme.test\n{key}"), 429),
        ("GET /any HTTP/1.1\nHost: shared.test".to_owned(), 401),
    ] {
        let answer = world.ask(&format!("{request}\nOrigin: {SHOP}\n\n")).await;
        assert_eq!((answer.status, values(&answer, "access-control-allow-origin")), (status, vec![SHOP]), "{request}");
        assert_eq!(values(&answer, "vary"), ["origin"], "{request}");
        let stranger = world.ask(&format!("{request}\nOrigin: https://evil.example\n\n")).await;
        assert_eq!((said(&stranger), values(&stranger, "vary")), (vec![], vec!["origin"]), "{request}");
    }
    let answer = world.ask(&format!("GET /any HTTP/1.1\n{elsewhere}\n\n")).await;
    assert_eq!((answer.status, values(&answer, "access-control-allow-credentials")), (403, vec!["true"]), "{answer:?}");
}

#[tokio::test]
async fn a_preflight_spends_no_quota_and_needs_nobody_to_be_there() {
    let limit = "---\nkind: QuotaPolicy\nname: few\nlimits: [{ name: few, per: tenant, requests: 1, window: 1h }]\n";
    let world = World::start(&[crate::support::nobody().await], "", &format!("{RULES}{limit}")).await;
    let preflight = format!("Origin: {SHOP}\nAccess-Control-Request-Method: PUT\nAccess-Control-Request-Headers: x-api-key");
    let mut client = world.client().await;
    for _ in 0..5 {
        client.send(&format!("OPTIONS /any HTTP/1.1\nHost: acme.test\n{preflight}\n\n")).await;
        assert_eq!(client.answer_to("OPTIONS").await.status, 204);
    }
    // Where the host names nobody, the platform's rules hold.
    client.send(&format!("OPTIONS /any HTTP/1.1\nHost: shared.test\n{preflight}\n\n")).await;
    assert_eq!(client.answer_to("OPTIONS").await.status, 204);
    client.send(&format!("GET /any HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\n\n")).await;
    assert_eq!(client.answer().await.status, 502, "it is the first that counts");
    let private = "Origin: https://globex.example\nAccess-Control-Request-Method: GET\nAccess-Control-Request-Private-Network: true";
    let answer = world.ask(&format!("OPTIONS /any HTTP/1.1\nHost: globex.test\n{private}\n\n")).await;
    assert_eq!((answer.status, values(&answer, "access-control-allow-private-network")), (204, vec!["true"]));
    let line = world.log_with("access.jsonl", &["OPTIONS", "globex", "204"]).await;
    assert!(line.contains("/any"), "{line}");
}

#[tokio::test]
async fn rules_hold_over_http2_as_well() {
    let world = world().await;
    let mut sender = http2_client(world.address()).await;
    let preflight = http::Request::options("http://acme.test/any").header("origin", SHOP).header("access-control-request-method", "PUT");
    let (response, _) = sender.send_request(preflight.body(()).unwrap(), true).unwrap();
    let response = within(response).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.headers().get("access-control-allow-origin").unwrap().as_bytes()),
        (204, SHOP.as_bytes())
    );
    let request = http::Request::get("http://acme.test/public/x").header("origin", SHOP).body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    let headers = within(response).await.unwrap().headers().clone();
    assert_eq!(headers.get_all("access-control-allow-origin").iter().collect::<Vec<_>>(), [SHOP]);
    assert_eq!(headers.get("access-control-allow-credentials"), None);
}

#[tokio::test]
async fn where_no_rules_are_declared_the_service_answers_for_itself() {
    let world = World::start(&[loud().await], "", "").await;
    let answer = world.ask(&format!("GET /any HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\nOrigin: https://any.example\n\n")).await;
    assert_eq!((values(&answer, "access-control-allow-origin"), values(&answer, "vary")), (vec!["*"], vec![]));
    let preflight = "Origin: https://any.example\nAccess-Control-Request-Method: GET";
    let answer = world.ask(&format!("OPTIONS /public/x HTTP/1.1\nHost: acme.test\n{preflight}\n\n")).await;
    assert_eq!((answer.status, values(&answer, "access-control-allow-methods")), (200, vec!["TRACE"]));
}
