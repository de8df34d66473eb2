//! What is asked of many: mixes from files, tokens made for each tenant, and policy that changes meanwhile.

use super::peer::{Came, Says, http2, of_tenant};
use super::{COUNTED, Run, load, says, server};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

/// A run over HTTP/2 with these arguments, and how often came what `told` makes of a request.
fn told(arguments: &[&str], told: fn(&Came) -> String) -> (Run, BTreeMap<String, u64>) {
    let seen: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let of_peer = Arc::clone(&seen);
    let peer = http2(move |came| {
        *of_peer.lock().unwrap().entry(told(came)).or_default() += 1;
        Says::Whole(of_tenant(came.tenant()))
    });
    let run = load(peer.address, &[&["--http2"], arguments].concat());
    let seen = seen.lock().unwrap().clone();
    (run, seen)
}

#[test]
fn a_mix_file_tells_who_asks_for_what_and_how_often() {
    let folder = tempfile::tempdir().unwrap();
    let mix = folder.path().join("mix.yaml");
    let text = "tenants:\n  - { name: acme, host: acme.test, weight: 8, token: secret }\n\
                \x20 - { name: \"t{n}\", host: \"t{n}.test\", count: 2 }\n\
                answer_tenant: x-tenant\nrequests:\n  - { path: \"/{tenant}/items\", weight: 3 }\n\
                \x20 - { path: /b, method: PUT, body: hello, headers: { x-mode: new } }\n";
    fs::write(&mix, text).unwrap();
    let (run, seen) = told(&[&COUNTED[..], &["--mix", mix.to_str().unwrap()]].concat(), |came| {
        let header = |name: &str| came.head.headers.get(name).map_or("-", |value| value.to_str().unwrap());
        let (method, uri) = (&came.head.method, &came.head.uri);
        format!("{method} {uri} {} {} {}", header("authorization"), header("x-mode"), String::from_utf8_lossy(&came.body)).trim().to_owned()
    });
    assert_eq!((run.code(), run.number("/all/asked")), (Some(0), 1_000.0), "{}", run.text());
    // Of a thousand, with four standard deviations; the seed makes them the same in every run.
    let expected = [
        ("GET http://acme.test/acme/items Bearer secret -", 600, 62),
        ("PUT http://acme.test/b Bearer secret new hello", 200, 51),
        ("GET http://t1.test/t1/items - -", 75, 34),
        ("PUT http://t1.test/b - new hello", 25, 20),
        ("GET http://t2.test/t2/items - -", 75, 34),
        ("PUT http://t2.test/b - new hello", 25, 20),
    ];
    assert_eq!(seen.len(), expected.len(), "{seen:#?}");
    for (what, share, off) in expected {
        assert!(seen.get(what).is_some_and(|count| count.abs_diff(share) < off), "{what}: {seen:#?}");
    }
}

#[test]
fn mistakes_of_a_mix_are_wrong_usage_and_nobody_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mix = folder.path().join("mix.yaml");
    for (text, words) in [
        ("tenants: [{ name: a }, { name: a }]\nrequests: [{ path: / }]", &["`a` stands twice"][..]),
        ("answer_tenant: x-tenant\nrequests: [{ path: / }]", &["--tenants"]),
        ("zip: 1\nrequests:\n  - { path: b }", &["mix.yaml:1: ", "`zipf`", "mix.yaml:3: ", "`path`"]),
    ] {
        fs::write(&mix, text).unwrap();
        let server = server(|_, tenant| says(tenant));
        let run = load(server.address, &["--mix", mix.to_str().unwrap(), "--requests", "1"]);
        assert_eq!((run.code(), server.requests.load(std::sync::atomic::Ordering::SeqCst)), (Some(2), 0), "{text}: {}", run.text());
        words.iter().for_each(|word| assert!(run.text().contains(word), "{word}: {}", run.text()));
    }
}

/// What a token says, if `key` has signed it.
fn claims(bearer: &str, key: &UnparsedPublicKey<Vec<u8>>) -> Value {
    let token = bearer.strip_prefix("Bearer ").unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    key.verify(signed.as_bytes(), &BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap()).unwrap()
}

#[test]
fn each_tenant_has_a_token_of_its_own_that_the_key_has_signed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    fs::write(&file, key.serialize_pem()).unwrap();
    let public = Ed25519KeyPair::from_pkcs8(&key.serialize_der()).unwrap().public_key().as_ref().to_vec();
    let made = ["--issuer-key", file.to_str().unwrap(), "--role", "reader,writer", "--claims", r#"{"aud":null,"sub":"for {tenant}"}"#];
    let (run, seen) = told(&[&["--requests", "40", "--tenants", "acme,globex"], &made[..]].concat(), |came| {
        format!("{} {}", came.tenant(), came.head.headers["authorization"].to_str().unwrap())
    });
    assert_eq!((run.code(), seen.len()), (Some(0), 2), "{}", run.text());
    for told in seen.keys() {
        let (tenant, bearer) = told.split_once(' ').unwrap();
        let said = claims(bearer, &UnparsedPublicKey::new(&ED25519, public.clone()));
        assert_eq!((&said["tenant"], &said["roles"], said.get("aud")), (&json!(tenant), &json!(["reader", "writer"]), None));
        assert_eq!(said["sub"], format!("for {tenant}"));
    }
}

#[test]
fn a_key_that_is_none_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "no key").unwrap();
    let run = load(server(|_, tenant| says(tenant)).address, &["--requests", "1", "--issuer-key", file.path().to_str().unwrap()]);
    assert!(run.code() != Some(0) && run.text().contains("Ed25519"), "{}", run.text());
}

#[test]
fn policy_changes_while_the_load_runs_and_is_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let documents = folder.path().join("documents");
    fs::create_dir(&documents).unwrap();
    let command = format!("echo $BULKHEAD_CHURN >> {}", log.display());
    for churn in [&*command, documents.to_str().unwrap()] {
        let address = server(|_, tenant| says(tenant)).address;
        let run = load(address, &["--rate", "100", "--duration", "2s", "--policy-churn", churn, "--every", "50ms"]);
        assert_eq!((run.code(), run.number("/policy_changes/failed")), (Some(0), 0.0), "{}", run.text());
        assert!(run.number("/policy_changes/made") >= 1.0 && run.text().contains("policy changed"), "{}", run.text());
    }
    assert!(fs::read_to_string(log).unwrap().starts_with("1\n"));
    assert_eq!(fs::read_dir(documents).unwrap().count(), 0);
}

/// Whoever asks for changes and gets none has measured something else.
#[test]
fn a_change_that_fails_or_never_comes_fails_the_run() {
    for (every, word) in [("20ms", "exit 3"), ("60m", "changed 0 times")] {
        let address = server(|_, tenant| says(tenant)).address;
        let run = load(address, &["--rate", "100", "--duration", "1s", "--policy-churn", "exit 3", "--every", every]);
        assert_eq!((run.code(), run.number("/all/failed")), (Some(1), 0.0), "{}", run.text());
        assert!(run.text().contains(word), "{}", run.text());
    }
}
