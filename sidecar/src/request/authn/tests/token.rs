//! Tokens: what proves somebody, and every way in which a token is refused.

use super::super::{Part, Presented, Refused};
use super::world::*;
use bulkhead_config::snapshot::{Credential, Scope};
use serde_json::{Value, json};

#[test]
fn a_token_of_each_algorithm_proves_its_subject() {
    for (alg, kid) in [("EdDSA", "ed"), ("Ed25519", "ed"), ("ES256", "ec"), ("RS256", "rsa"), ("PS256", "rsa")] {
        let mut token = Token::of("acme", "ana");
        token.header = json!({ "alg": alg, "kid": kid });
        let mut world = World::start();
        let verified = world.token("acme", &token.signed()).unwrap();
        assert_eq!(verified.tenant().as_str(), "acme");
        assert_eq!(&*verified.principal().user, "ana");
        assert_eq!(verified.expires(), Some(NOW_S as i64 + 600));
        assert!(verified.forward());
        let policy = world.snapshot.tenant("acme").unwrap().policy();
        assert!(!verified.roles(policy).is_empty());
    }
}

#[test]
fn types_of_access_tokens_are_taken_in_any_case() {
    for kind in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"] {
        let mut token = Token::of("acme", "ana");
        token.header["typ"] = kind.into();
        assert!(World::start().token("acme", &token.signed()).is_ok(), "{kind}");
    }
}

/// A change to a token that is right in everything else.
type Change = fn(&mut Value, &mut Value);

#[test]
fn every_deviation_is_refused_with_its_own_reason() {
    let rows: Vec<(Change, Refused)> = vec![
        (|header, _| header["alg"] = "none".into(), Refused::AlgorithmNone),
        (|header, _| header["alg"] = "nOnE".into(), Refused::AlgorithmNone),
        (|header, _| header["alg"] = "HS256".into(), Refused::AlgorithmSymmetric),
        (|header, _| header["alg"] = "RS512".into(), Refused::AlgorithmUnknown),
        (|header, _| header["alg"] = "eddsa".into(), Refused::AlgorithmUnknown),
        (|header, _| header["alg"] = 1.into(), Refused::AlgorithmMissing),
        (|header, _| drop(header.as_object_mut().unwrap().remove("alg")), Refused::AlgorithmMissing),
        (|header, _| header["jwk"] = ed25519_jwk("ed", &OTHER_SIGNER), Refused::BringsKey { name: "jwk" }),
        (|header, _| header["jku"] = "https://evil.test/jwks".into(), Refused::BringsKey { name: "jku" }),
        (|header, _| header["x5u"] = "https://evil.test/cert".into(), Refused::BringsKey { name: "x5u" }),
        (|header, _| header["x5c"] = json!(["MIIB"]), Refused::BringsKey { name: "x5c" }),
        (|header, _| header["crit"] = json!(["exp"]), Refused::Critical),
        (|header, _| header["b64"] = true.into(), Refused::Unencoded),
        (|header, _| header["zip"] = "DEF".into(), Refused::Compressed),
        (|header, _| header["cty"] = "JWT".into(), Refused::Nested),
        (|header, _| header["typ"] = "logout+jwt".into(), Refused::OtherType),
        (|header, _| header["typ"] = 1.into(), Refused::OtherType),
        (|header, _| header["kid"] = 1.into(), Refused::KeyIdForm),
        (|header, _| header["kid"] = "nobody's".into(), Refused::KeyIdUnknown),
        (|header, _| header["kid"] = "../../etc/passwd".into(), Refused::KeyIdUnknown),
        (|header, _| header["kid"] = "ec".into(), Refused::KeyUnfit),
        (|_, claims| claims["iss"] = "https://evil.test".into(), Refused::IssuerUnknown),
        (|_, claims| claims["iss"] = "https://issuer.test/".into(), Refused::IssuerUnknown),
        (|_, claims| drop(claims.as_object_mut().unwrap().remove("iss")), Refused::ClaimMissing { claim: "iss" }),
        (|_, claims| claims["iss"] = json!([PLATFORM_ISSUER]), Refused::ClaimForm { claim: "iss", expected: "a string" }),
        (|_, claims| claims["aud"] = "elsewhere".into(), Refused::OtherAudience),
        (|_, claims| claims["aud"] = json!([]), Refused::OtherAudience),
        (|_, claims| drop(claims.as_object_mut().unwrap().remove("aud")), Refused::ClaimMissing { claim: "aud" }),
        (|_, claims| claims["aud"] = json!(["demo", 1]), Refused::ClaimForm { claim: "aud", expected: "a string or a list of strings" }),
        (|_, claims| claims["exp"] = (NOW_S - 60).into(), Refused::Expired),
        (|_, claims| claims["exp"] = (-1e300).into(), Refused::Expired),
        (|_, claims| drop(claims.as_object_mut().unwrap().remove("exp")), Refused::ClaimMissing { claim: "exp" }),
        (|_, claims| claims["exp"] = "tomorrow".into(), Refused::ClaimForm { claim: "exp", expected: "a number of seconds" }),
        (|_, claims| claims["nbf"] = (NOW_S + 61).into(), Refused::NotYetValid),
        (|_, claims| claims["iat"] = (NOW_S + 61).into(), Refused::IssuedInFuture),
        (|_, claims| claims["sub"] = "".into(), Refused::SubjectLength { bytes: 0 }),
        (|_, claims| claims["sub"] = "x".repeat(256).into(), Refused::SubjectLength { bytes: 256 }),
        (|_, claims| drop(claims.as_object_mut().unwrap().remove("sub")), Refused::ClaimMissing { claim: "sub" }),
        (|_, claims| drop(claims.as_object_mut().unwrap().remove("tenant")), Refused::TenantMissing { claim: "tenant".into() }),
        (|_, claims| claims["tenant"] = "../acme".into(), Refused::TenantForm { claim: "tenant".into() }),
        (|_, claims| claims["tenant"] = json!(["acme"]), Refused::TenantForm { claim: "tenant".into() }),
    ];
    for (change, refused) in rows {
        let mut token = Token::of("acme", "ana");
        change(&mut token.header, &mut token.claims);
        let mut world = World::start();
        assert_eq!(world.token("acme", &token.signed()).unwrap_err(), refused, "{} {}", token.header, token.claims);
    }
}

#[test]
fn bytes_that_are_no_canonical_token_are_refused() {
    let good = Token::of("acme", "ana").signed();
    let parts: Vec<&str> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else { unreachable!() };
    let rows = [
        (String::new(), Refused::Parts(1)),
        (format!("{header}.{claims}"), Refused::Parts(2)),
        (format!("{good}.x"), Refused::Parts(4)),
        (format!("{good}.x.y"), Refused::Encrypted),
        (format!("{header}=.{claims}.{signature}"), Refused::Encoding(Part::Header)),
        (format!("{header}.{claims}+.{signature}"), Refused::Encoding(Part::Claims)),
        (format!("{header}.{claims}.{signature}\n"), Refused::OtherScheme),
        (format!("{header}.{claims}.{signature} "), Refused::Encoding(Part::Signature)),
        (format!("{header}.{claims}.{signature}=="), Refused::Encoding(Part::Signature)),
        (format!("{header}..{signature}"), Refused::Json(Part::Claims)),
        (sign("[]", "{}"), Refused::Json(Part::Header)),
        (sign("{\"alg\":\"EdDSA\"", "{}"), Refused::Json(Part::Header)),
        (sign("{\"alg\":\"EdDSA\",\"kid\":\"ed\"}", "\"text\""), Refused::Json(Part::Claims)),
        (sign("{\"alg\":\"EdDSA\",\"alg\":\"none\"}", "{}"), Refused::SameName(Part::Header)),
        (sign("{\"alg\":\"EdDSA\"}", "{\"exp\":1,\"exp\":9999999999}"), Refused::SameName(Part::Claims)),
        (
            format!("{}.{claims}.{signature}", "x".repeat(16 << 10)),
            Refused::TooLong { bytes: (16 << 10) + claims.len() + signature.len() + 2 },
        ),
    ];
    for (token, refused) in rows {
        assert_eq!(World::start().token("acme", &token).unwrap_err(), refused, "{token}");
    }
}

#[test]
fn stray_bits_at_the_end_of_a_part_are_refused() {
    let good = Token::of("acme", "ana").signed();
    // 64 bytes of signature leave four bits of the last character unused; every other value of them is the same signature.
    let (rest, last) = good.split_at(good.len() - 1);
    let others = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars().filter(|c| *c != last.chars().next().unwrap());
    let accepted = others.filter(|other| World::start().token("acme", &format!("{rest}{other}")).is_ok()).count();
    assert_eq!(accepted, 0);
}

#[test]
fn a_signature_of_other_bytes_or_another_key_proves_nothing() {
    let good = Token::of("acme", "ana").signed();
    let (signed, _) = good.rsplit_once('.').unwrap();
    let by_other = encode(OTHER_SIGNER.sign(signed.as_bytes()));
    let other_claims = Token::of("acme", "eve").signed();
    let (_, of_other_claims) = other_claims.rsplit_once('.').unwrap();
    for signature in [&by_other, of_other_claims, "", "AAAA", &encode([0; 64])] {
        assert_eq!(World::start().token("acme", &format!("{signed}.{signature}")).unwrap_err(), Refused::Signature);
    }
}

#[test]
fn an_rsa_signature_is_good_for_the_padding_that_its_header_names_only() {
    for (named, signed_with) in [("RS256", "PS256"), ("PS256", "RS256")] {
        let mut token = Token::of("acme", "ana");
        token.header = json!({ "alg": named, "kid": "rsa" });
        let signed = format!("{}.{}", encode(token.header.to_string()), encode(token.claims.to_string()));
        let forged = format!("{signed}.{}", encode(SIGNER.sign(signed_with, signed.as_bytes())));
        assert_eq!(World::start().token("acme", &forged).unwrap_err(), Refused::Signature);
    }
}

#[test]
fn an_algorithm_that_the_issuer_does_not_list_is_refused_even_with_a_good_signature() {
    let mut world = World::start();
    world.apply(&PLATFORM.replace("algorithms: [EdDSA, ES256, RS256, PS256]", "algorithms: [ES256]"));
    assert_eq!(world.token("acme", &Token::of("acme", "ana").signed()).unwrap_err(), Refused::AlgorithmNotOfIssuer);
}

#[test]
fn clocks_may_differ_by_the_leeway() {
    let cases: [(Change, bool); 8] = [
        (|_, claims| claims["exp"] = (NOW_S - 59).into(), true),
        (|_, claims| claims["exp"] = (NOW_S as f64 - 59.999).into(), true),
        (|_, claims| claims["exp"] = (NOW_S - 60).into(), false),
        (|_, claims| claims["exp"] = (NOW_S as f64 - 60.001).into(), false),
        (|_, claims| claims["nbf"] = (NOW_S + 60).into(), true),
        (|_, claims| claims["nbf"] = (NOW_S as f64 + 60.001).into(), false),
        (|_, claims| claims["iat"] = (NOW_S + 60).into(), true),
        (|_, claims| claims["iat"] = (NOW_S as f64 + 60.001).into(), false),
    ];
    for (change, taken) in cases {
        let mut token = Token::of("acme", "ana");
        change(&mut token.header, &mut token.claims);
        assert_eq!(World::start().token("acme", &token.signed()).is_ok(), taken, "{}", token.claims);
    }
}

#[test]
fn one_of_several_audiences_is_enough() {
    for audiences in [json!("other"), json!(["elsewhere", "demo"])] {
        let mut token = Token::of("acme", "ana");
        token.claims["aud"] = audiences;
        assert!(World::start().token("acme", &token.signed()).is_ok());
    }
}

#[test]
fn a_key_need_not_be_named_where_only_one_fits() {
    let mut token = Token::of("acme", "ana");
    token.header = json!({ "alg": "EdDSA" });
    let token = token.signed();
    let mut world = World::start();
    assert!(world.token("acme", &token).is_ok());
    let (one, two) = (ed25519_jwk("one", &SIGNER.ed25519), ed25519_jwk("two", &OTHER_SIGNER));
    world.publish("platform.jwks", &json!({ "keys": [one, two] }));
    assert_eq!(world.token("acme", &token).unwrap_err(), Refused::KeyIdMissing);
    world.publish("platform.jwks", &json!({ "keys": [SIGNER.p256_jwk()] }));
    assert_eq!(world.token("acme", &token).unwrap_err(), Refused::NoKey);
}

#[test]
fn a_tenants_own_issuer_proves_that_tenant_only() {
    let mut token = Token::of("globex", "ana");
    token.header["kid"] = "own".into();
    token.claims["iss"] = ACME_ISSUER.into();
    let signed = format!("{}.{}", encode(token.header.to_string()), encode(token.claims.to_string()));
    let token = format!("{signed}.{}", encode(OTHER_SIGNER.sign(signed.as_bytes())));
    let mut world = World::start();
    let verified = world.token("acme", &token).unwrap();
    // Its claim of another tenant counts for nothing.
    assert_eq!(verified.tenant().as_str(), "acme");
    assert!(matches!(verified.principal().credential, Credential::Token { scope: Scope::Tenant, .. }));
    assert_eq!(world.token("globex", &token).unwrap_err(), Refused::IssuerUnknown);
    assert_eq!(world.present(None, Presented::Bearer(token.as_bytes())).unwrap_err(), Refused::IssuerUnknown);
}

#[test]
fn on_a_shared_host_a_platform_token_says_itself_of_whom() {
    let mut world = World::start();
    for tenant in ["acme", "globex"] {
        let verified = world.present(None, Presented::Bearer(Token::of(tenant, "ana").signed().as_bytes())).unwrap();
        assert_eq!(verified.tenant().as_str(), tenant);
    }
}

#[test]
fn a_token_of_another_tenant_is_proved_as_what_it_is() {
    // Whether it may be used here is `tenant::bind`'s question.
    assert_eq!(World::start().token("acme", &Token::of("globex", "ana").signed()).unwrap().tenant().as_str(), "globex");
}

#[test]
fn without_its_issuers_keys_a_token_is_not_refused_but_waits() {
    let mut world = World::start();
    world.withdraw("platform.jwks");
    let refused = world.token("acme", &Token::of("acme", "ana").signed()).unwrap_err();
    assert_eq!(refused, Refused::KeysUnavailable);
    assert_eq!(refused.problem_type(), "keys_unavailable");
}

#[test]
fn a_refusal_tells_what_where_and_how_to_fix_it_and_never_what_was_sent() {
    let secret = "s3cr3t-in-a-claim";
    let mut token = Token::of("acme", secret);
    token.claims["iss"] = secret.into();
    token.claims["aud"] = secret.into();
    let refused = World::start().token("acme", &token.signed()).unwrap_err();
    let challenge = refused.www_authenticate().unwrap();
    assert_eq!(challenge, "Bearer realm=\"bulkhead\", error=\"invalid_token\", error_description=\"the token's issuer is not known here\"");
    assert_eq!(refused.place(), "header `authorization`, claim `iss`");
    for text in [refused.to_string(), refused.place().into_owned(), refused.fix().into_owned(), challenge.into_owned()] {
        assert!(!text.is_empty() && !text.contains(secret), "{text}");
    }
}
