//! Key sets: what is taken from them, what is left out, and what makes a whole set untrustworthy.

use super::super::{KeyFault, KeyFinding, Keys};
use super::world::*;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

fn load(jwks: &Value, previous: Option<&Keys>) -> (Keys, Vec<KeyFinding>) {
    Keys::load(&HashMap::from([("keys.jwks".into(), Arc::from(jwks.to_string().into_bytes()))]), previous)
}

fn left_out(key: Value) -> KeyFault {
    let set = json!({ "keys": [SIGNER.p256_jwk(), key] });
    let (keys, mut findings) = load(&set, None);
    assert!(keys.set("keys.jwks").is_some(), "one key of no use must not take the others away");
    assert_eq!(load(&set, Some(&keys)).1, findings, "it is named for as long as the set stays");
    let finding = findings.pop().unwrap();
    assert_eq!((findings.len(), finding.key), (0, Some(1)));
    finding.fault
}

fn refused(jwks: &Value) -> KeyFault {
    let (keys, mut findings) = load(jwks, None);
    assert!(keys.set("keys.jwks").is_none());
    let finding = findings.pop().unwrap();
    assert_eq!((findings.len(), finding.key), (0, None));
    finding.fault
}

fn with(mut key: Value, name: &str, value: Value) -> Value {
    key[name] = value;
    key
}

#[test]
fn a_key_that_is_of_no_use_is_left_out_and_named() {
    let ed = || ed25519_jwk("x", &SIGNER.ed25519);
    let rsa = || SIGNER.rsa_jwk();
    let used_for_rsa = "algorithm `RS512` with key type `RSA`".to_owned();
    let rows = [
        (json!("text"), KeyFault::Form("keys")),
        (json!({ "kid": "x" }), KeyFault::Form("kty")),
        (json!({ "kty": "AKP", "kid": "x" }), KeyFault::NotUsed("key type `AKP`".to_owned())),
        (with(ed(), "kid", json!(1)), KeyFault::Form("kid")),
        (with(ed(), "crv", json!("X25519")), KeyFault::NotUsed("curve `X25519`".to_owned())),
        (with(ed(), "use", json!("enc")), KeyFault::OtherUse),
        (with(ed(), "key_ops", json!(["sign"])), KeyFault::OtherUse),
        (with(ed(), "key_ops", json!("verify")), KeyFault::Form("key_ops")),
        (with(ed(), "x", json!("AAAA")), KeyFault::Numbers("Ed25519")),
        (with(ed(), "alg", json!("ES256")), KeyFault::NotUsed("algorithm `ES256` with key type `OKP`".to_owned())),
        (with(with(SIGNER.p256_jwk(), "kid", json!("x")), "y", json!(encode([1; 32]))), KeyFault::Numbers("P-256")),
        (with(with(SIGNER.p256_jwk(), "kid", json!("x")), "crv", json!("P-384")), KeyFault::NotUsed("curve `P-384`".to_owned())),
        (with(rsa(), "alg", json!("RS512")), KeyFault::NotUsed(used_for_rsa)),
        (with(rsa(), "n", json!(encode([0xff; 128]))), KeyFault::Bits(1_024)),
        (with(rsa(), "n", json!(encode([0xff; 1_025]))), KeyFault::Bits(8_200)),
        (with(rsa(), "n", json!("not+url/safe")), KeyFault::Numbers("RSA")),
        (with(rsa(), "e", json!(encode([2]))), KeyFault::Numbers("RSA")),
        (with(rsa(), "e", json!(encode([1]))), KeyFault::Numbers("RSA")),
    ];
    for (key, fault) in rows {
        assert_eq!(left_out(key.clone()), fault, "{key}");
    }
}

#[test]
fn a_set_that_cannot_be_trusted_is_refused_as_a_whole() {
    assert_eq!(refused(&json!([])), KeyFault::NotASet);
    assert_eq!(refused(&json!({ "keys": {} })), KeyFault::NotASet);
    assert_eq!(refused(&json!({ "keys": vec![json!({}); 101] })), KeyFault::TooMany(101));
    assert_eq!(refused(&json!({ "keys": [private_jwk("x", &SIGNER.ed25519)] })), KeyFault::Secret("private"));
    assert_eq!(refused(&json!({ "keys": [{ "kty": "oct", "k": "AAAA" }] })), KeyFault::Secret("symmetric"));
    let same = [ed25519_jwk("x", &SIGNER.ed25519), ed25519_jwk("x", &OTHER_SIGNER)];
    assert_eq!(refused(&json!({ "keys": same })), KeyFault::SameId("x".into()));
    for text in ["", "{\"keys\":[],\"keys\":[]}", "{\"keys\":[]} x"] {
        let (_, findings) = Keys::load(&HashMap::from([("keys.jwks".into(), Arc::from(text.as_bytes()))]), None);
        assert!(matches!(findings[..], [KeyFinding { key: None, fault: KeyFault::Json(_), .. }]), "{text}");
    }
}

#[test]
fn a_secret_in_a_set_is_not_repeated() {
    let jwk = private_jwk("x", &SIGNER.ed25519);
    let (_, findings) = load(&json!({ "keys": [jwk] }), None);
    let text = findings[0].to_string();
    assert!(text.starts_with("keys.jwks: the key set is not taken over: a private key lies in it"), "{text}");
    assert!(!text.contains(jwk["d"].as_str().unwrap()));
}

#[test]
fn a_set_that_becomes_unreadable_stays_as_it_was() {
    let (keys, _) = load(&SIGNER.jwks(), None);
    let (after, findings) = load(&json!([]), Some(&keys));
    assert_eq!(findings.len(), 1);
    assert!(Arc::ptr_eq(keys.set("keys.jwks").unwrap(), after.set("keys.jwks").unwrap()));
}

#[test]
fn a_set_of_the_same_text_is_the_same_set() {
    let (keys, _) = load(&SIGNER.jwks(), None);
    let (same, _) = load(&SIGNER.jwks(), Some(&keys));
    let (other, _) = load(&json!({ "keys": [] }), Some(&keys));
    let generation = |keys: &Keys| keys.set("keys.jwks").unwrap().generation();
    assert_eq!(generation(&keys), generation(&same));
    assert_ne!(generation(&keys), generation(&other));
}

#[test]
fn an_rsa_key_without_an_algorithm_is_for_both_paddings_and_with_one_for_that() {
    use bulkhead_config::snapshot::Algorithm::{Ps256, Rs256};
    let (both, _) = load(&json!({ "keys": [SIGNER.rsa_jwk()] }), None);
    let (one, _) = load(&json!({ "keys": [with(SIGNER.rsa_jwk(), "alg", json!("PS256"))] }), None);
    let fits = |keys: &Keys, algorithm| keys.set("keys.jwks").unwrap().key(Some("rsa"), algorithm).is_ok();
    assert!(fits(&both, Rs256) && fits(&both, Ps256));
    assert!(!fits(&one, Rs256) && fits(&one, Ps256));
}
