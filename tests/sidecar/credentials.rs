//! Credentials: what proves, what does not, and why (RFC 7519, RFC 8725).

use bulkhead_tests::{Algorithm, Issuer, Origin, World};
use serde_json::{Value, json};

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

/// A token as it is broken, and a word its refusal must hold.
fn broken(issuer: &Issuer) -> Vec<(&'static str, String, &'static str)> {
    let good = issuer.claims("acme_corp", &["admin"]);
    let now = jiff::Timestamp::now().as_second();
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        issuer.sign(Algorithm::EdDsa, &claims)
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        issuer.sign(Algorithm::EdDsa, &claims)
    };
    let header = |header: Value| issuer.sign_with(Algorithm::EdDsa, &header.to_string(), &good.to_string());
    let token = issuer.sign(Algorithm::EdDsa, &good);
    let parts: Vec<&str> = token.split('.').collect();
    let cut = |n: usize| token[..token.len() - n].to_owned();
    vec![
        ("expired", with("exp", json!(now - 3_600)), "expired"),
        ("not yet valid", with("nbf", json!(now + 3_600)), "not valid yet"),
        ("without exp", without("exp"), "exp"),
        ("exp is a string", with("exp", json!("tomorrow")), "exp"),
        ("wrong audience", with("aud", json!("other")), "aud"),
        ("audience in no list", with("aud", json!(["a", "b"])), "aud"),
        ("without audience", without("aud"), "aud"),
        ("unknown issuer", with("iss", json!("https://elsewhere.example")), "iss"),
        ("without issuer", without("iss"), "iss"),
        ("without tenant", without("tenant"), "tenant"),
        ("tenant is a number", with("tenant", json!(7)), "tenant"),
        ("without sub", without("sub"), "sub"),
        ("alg none", format!("{}.{}.", encode(&json!({"alg": "none"}).to_string()), parts[1]), "alg"),
        ("alg HS256", header(json!({"alg": "HS256", "kid": "ed"})), "alg"),
        ("an algorithm the issuer does not list", issuer.sign(Algorithm::Rs256, &good), "alg"),
        ("an algorithm that is not the key's", header(json!({"alg": "EdDSA", "kid": "rsa"})), "kid"),
        ("unknown kid", header(json!({"alg": "EdDSA", "kid": "nobody"})), "kid"),
        ("kid is a path", header(json!({"alg": "EdDSA", "kid": "../../etc/passwd"})), "kid"),
        ("an embedded key", header(json!({"alg": "EdDSA", "kid": "ed", "jwk": {"kty": "oct", "k": "AA"}})), "jwk"),
        ("a key elsewhere", header(json!({"alg": "EdDSA", "kid": "ed", "jku": "https://elsewhere.example"})), "jku"),
        ("a certificate elsewhere", header(json!({"alg": "EdDSA", "kid": "ed", "x5u": "https://elsewhere.example"})), "x5u"),
        ("a critical extension", header(json!({"alg": "EdDSA", "kid": "ed", "crit": ["exp"], "exp": 1})), "crit"),
        ("an unencoded payload", header(json!({"alg": "EdDSA", "kid": "ed", "b64": false})), "b64"),
        ("a nested token", header(json!({"alg": "EdDSA", "kid": "ed", "cty": "JWT"})), "cty"),
        ("another type", header(json!({"alg": "EdDSA", "kid": "ed", "typ": "secevent+jwt"})), "typ"),
        (
            "claims twice",
            issuer.sign_with(
                Algorithm::EdDsa,
                r#"{"alg":"EdDSA","kid":"ed"}"#,
                &good.to_string().replacen('{', r#"{"tenant":"globex","#, 1),
            ),
            "twice",
        ),
        ("header twice", issuer.sign_with(Algorithm::EdDsa, r#"{"alg":"EdDSA","alg":"EdDSA","kid":"ed"}"#, &good.to_string()), "twice"),
        ("claims that are no object", issuer.sign_with(Algorithm::EdDsa, r#"{"alg":"EdDSA","kid":"ed"}"#, "[]"), "claims"),
        ("another key's signature", Issuer::demo().sign(Algorithm::EdDsa, &good), "signature"),
        ("a cut signature", cut(4), "signature"),
        ("an empty signature", format!("{}.{}.", parts[0], parts[1]), "signature"),
        (
            "claims of another token",
            format!("{}.{}.{}", parts[0], encode(&good.to_string().replace("acme_corp", "globex")), parts[2]),
            "signature",
        ),
        ("two parts", format!("{}.{}", parts[0], parts[1]), "parts"),
        ("encrypted", format!("{token}.a.b"), "jwe"),
        ("four parts", format!("{token}.a"), "parts"),
        ("padding", format!("{token}="), "base64url"),
        ("another alphabet", format!("{}.{}.{}+/", parts[0], parts[1], cut(2).split('.').next_back().unwrap()), "base64url"),
        ("oversized", with("filler", json!("x".repeat(17 << 10))), "long"),
        ("deep", with("filler", serde_json::from_str(&format!("{}{}", "[".repeat(60), "]".repeat(60))).unwrap()), "deep"),
    ]
}

fn encode(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

#[test]
fn a_broken_token_is_refused_with_its_reason_and_reaches_nothing() {
    let world = World::start();
    let mut wrong = Vec::new();
    for (what, token, word) in broken(&world.issuer) {
        let answer = world.client("acme.localhost").bearer(&token).get("/v1/items");
        let problem = answer.text();
        let names_it = answer.code().as_deref() == Some("invalid_token") && {
            let json = answer.json();
            let said = format!("{} {} {}", json["detail"], json["where"], json["fix"]).to_lowercase();
            said.contains(word)
        };
        // A header of more than the head's bound never becomes a token.
        if !(answer.status == 401 && names_it || what == "oversized" && matches!(answer.status, 401 | 431)) {
            wrong.push(format!("{what}: {} does not name `{word}`: {problem}", answer.status));
        }
        if token.len() > 40 && problem.contains(&token[..40]) {
            wrong.push(format!("{what}: the refusal repeats the token"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(world.origin.received().is_empty());
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
    let mut limited = None;
    for n in 0..1_500 {
        let mut claims = stranger.claims("acme_corp", &["admin"]);
        claims["jti"] = json!(n);
        let answer = world.client("acme.localhost").bearer(&stranger.sign(Algorithm::EdDsa, &claims)).get("/v1/items");
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
