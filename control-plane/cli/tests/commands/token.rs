//! `bulkhead token`.

use crate::support::Home;
use crate::support::running::Up;
use std::process::Command;

#[test]
fn the_token_is_printed_alone_and_carries_what_was_asked_for() {
    let home = Home::new();
    Up::start(&home, &["--demo-address", "127.0.0.1:0"]).end("-TERM");
    let said = home.bulkhead(&[
        "token",
        "--tenant",
        "acme_corp",
        "--role",
        "reader",
        "--claims",
        r#"{"mfa":true,"sub":null}"#,
        "--output",
        "json",
    ]);
    let told: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(told["claims"]["tenant"], "acme_corp");
    assert_eq!(told["claims"]["mfa"], true);
    assert!(told["claims"].get("sub").is_none());

    let said = home.bulkhead(&["token", "--tenant", "acme_corp"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    assert_eq!(said.stdout.lines().count(), 1);
    assert_eq!(said.stdout.trim_end().split('.').count(), 3);
}

/// Whoever wants to sign tokens with a tool of their own can.
#[test]
fn openssl_reads_the_key() {
    let home = Home::new();
    Up::start(&home, &["--demo-address", "127.0.0.1:0"]).end("-TERM");
    let key = home.path(".local/share/bulkhead/dev/issuer.key.pem");
    let read = Command::new("openssl").args(["pkey", "-noout", "-text", "-in"]).arg(key).output().unwrap();
    assert!(String::from_utf8_lossy(&read.stdout).contains("ED25519"), "{read:?}");
}

#[test]
fn without_an_issuer_it_says_how_to_get_one() {
    let said = Home::new().bulkhead(&["token", "--tenant", "acme_corp"]);
    assert_eq!((said.code, said.stdout.as_str()), (69, ""));
    assert!(said.stderr.contains("help: start one with `bulkhead up`"), "{said:?}");
}

#[test]
fn what_is_no_tenant_id_or_no_json_is_refused_before_anything_is_signed() {
    for line in [&["token", "--tenant", "Acme"][..], &["token", "--claims", "[1]"], &["token", "--ttl", "60"]] {
        let said = Home::new().bulkhead(line);
        assert_eq!(said.code, 2, "{said:?}");
    }
}
