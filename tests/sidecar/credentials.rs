//! Credentials: what proves, what does not, and why (RFC 7519, RFC 8725).

use bulkhead_tests::{Algorithm, Issuer, Origin, World};
use serde_json::json;

#[test]
fn every_algorithm_that_the_issuer_lists_proves() {
    let world = World::with(Origin::start(), |folder| {
        let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        std::fs::write(folder.join("platform.yaml"), text.replace("[EdDSA]", "[EdDSA, ES256, RS256, PS256]")).unwrap();
    });
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256, Algorithm::Ps256] {
        let token = world.issuer.sign(algorithm, &world.issuer.claims("acme_corp", &["reader"]));
        for _ in 0..2 {
            // The second time it is remembered.
            assert_eq!(world.client("acme.localhost").bearer(&token).get("/v1/items").verdict(), "200", "{algorithm:?}");
        }
    }
}

#[test]
fn more_than_one_credential_is_ambiguous() {
    let world = World::start();
    let token = world.issuer.token("acme_corp", &["reader"]);
    let key = format!("bk1.acme_corp.ci.{}", "A".repeat(43));
    let twice = world.client("acme.localhost").bearer(&token).bearer(&token).get("/v1/items");
    assert_eq!(twice.status, 400, "{}", twice.text());
    let both = world.client("acme.localhost").bearer(&token).with("x-api-key", &key).get("/v1/items");
    assert_eq!(both.status, 400, "{}", both.text());
}

#[test]
fn other_schemes_are_refused_with_the_one_that_is_taken() {
    let world = World::start();
    for value in ["Basic YTpi", "Bearer", "Bearer ", "bearer", "Token abc", "", "Bearer a b"] {
        let answer = world.client("acme.localhost").with("authorization", value).get("/v1/items");
        assert_eq!(answer.status, 401, "{value:?}: {}", answer.text());
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"), "{value:?}");
    }
}

#[test]
fn a_key_that_is_wrong_in_any_way_is_refused() {
    let world = World::start();
    let secret = "A".repeat(43);
    for key in [
        format!("bk1.acme_corp.ci.{secret}"),
        format!("bk1.acme_corp.nobody.{secret}"),
        format!("bk1.nobody.ci.{secret}"),
        format!("bk2.acme_corp.ci.{secret}"),
        format!("bk1.acme_corp.ci.{secret}A"),
        format!("bk1.acme_corp.ci.{}", "A".repeat(42)),
        "bk1.acme_corp.ci.".to_owned(),
        "bk1".to_owned(),
        "x".repeat(5_000),
    ] {
        let answer = world.client("acme.localhost").with("x-api-key", &key).get("/v1/items");
        let other_tenant = key.starts_with("bk1.nobody");
        assert!(matches!(answer.status, 401 | 403), "{key}: {}", answer.text());
        assert_eq!(answer.status == 403, other_tenant && answer.status == 403, "{key}: {}", answer.text());
        assert!(!answer.text().contains(&secret), "the refusal repeats the key");
    }
    assert!(world.origin.received().is_empty());
}

#[test]
fn no_credential_goes_on_to_the_service() {
    let world = World::start();
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").verdict(), "200");
    let head = world.origin.last().head.to_lowercase();
    assert!(!head.contains("authorization") && !head.contains("x-api-key"), "{head}");
}

#[test]
fn strangers_cannot_buy_verifications_without_end() {
    let world = World::start();
    let stranger = Issuer::demo();
    // Made beforehand, and brought over one connection: failures are forgiven at 200 a second, also while this machine is busy.
    let requests: Vec<String> = (0..6_000)
        .map(|n| {
            let mut claims = stranger.claims("acme_corp", &["admin"]);
            claims["jti"] = json!(n);
            let token = stranger.sign(Algorithm::EdDsa, &claims);
            format!("GET /v1/items HTTP/1.1\r\nhost: acme.localhost\r\nauthorization: Bearer {token}\r\n\r\n")
        })
        .collect();
    let mut connection = world.client("acme.localhost").connect();
    let mut limited = None;
    for request in requests {
        connection.write(request.as_bytes()).unwrap();
        let answer = connection.read(false).unwrap();
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
        assert_eq!(answer.verdict(), "401 invalid_token");
    }
    let limited = limited.expect("after a thousand failures from one address the rest is refused unverified");
    assert_eq!(limited.verdict(), "429 too_many_failed_authentications");
    assert_eq!(limited.header("retry-after"), Some("1"));
    // Another address, and the same address naming another tenant, are not punished.
    let other = world.user("acme_corp", &["reader"]).from([127, 0, 0, 9].into());
    assert_eq!(other.get("/v1/items").verdict(), "200");
    assert_eq!(world.user("globex", &["reader"]).get("/v1/items").verdict(), "200");
}
