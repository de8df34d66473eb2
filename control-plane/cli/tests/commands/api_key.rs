//! `bulkhead api-key`, without a running bulkhead; with one, see `up.rs`.

use crate::support::Home;
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn the_document_holds_the_hash_of_the_key_and_is_without_mistakes() {
    let home = Home::new();
    // Names that YAML would read as numbers if nobody quoted them.
    let line = ["api-key", "new", "--tenant", "1e3", "--id", "007", "--role", "reader", "--expires", "90d", "--output", "json"];
    let told: Value = serde_json::from_str(&home.bulkhead(&line).stdout).unwrap();
    let key = told["key"].as_str().unwrap();
    let mut hash = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    hash.stdin.take().unwrap().write_all(key.as_bytes()).unwrap();
    let hash = String::from_utf8(hash.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(told["sha256"].as_str(), hash.split(' ').next());
    let document = told["document"].as_str().unwrap();
    assert!(document.contains(told["sha256"].as_str().unwrap()) && !document.contains(key), "{document}");

    home.write("key.yaml", document);
    let said = home.bulkhead(&["validate", "key.yaml"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.ends_with("1 file: 1 Identity, 1 RoleBinding; no mistakes\n"), "{said:?}");
}

#[test]
fn people_get_the_key_in_the_first_line_and_the_document_below() {
    let said = Home::new().bulkhead(&["api-key", "new", "--tenant", "acme_corp", "--id", "ci"]);
    let mut lines = said.stdout.lines();
    assert!(lines.next().unwrap().starts_with("bk1.acme_corp.ci."), "{said:?}");
    assert_eq!(lines.next(), Some("kind: Identity"));
    assert!(said.stderr.contains("shown this once"), "{said:?}");
}

#[test]
fn an_expiry_is_a_date_a_time_or_a_duration_and_never_past() {
    for (written, code) in [("2999-01-01", 0), ("2999-01-01T12:00:00Z", 0), ("90d", 0), ("2020-01-01", 2), ("90", 2), ("tomorrow", 2)] {
        let said = Home::new().bulkhead(&["api-key", "new", "--tenant", "a", "--id", "b", "--expires", written]);
        assert_eq!(said.code, code, "{written}: {said:?}");
    }
}

#[test]
fn nothing_is_written_where_the_documents_do_not_know_the_tenant_or_the_role() {
    let home = Home::new();
    home.write(
        "dir/documents/a.yaml",
        "tenant_id: acme_corp\nname: A\nemail: a@b.example\n---\nkind: Role\nname: reader\nallow: [GET /x]\n",
    );
    for (tenant, role, near) in [("acme_crop", "reader", "acme_corp"), ("acme_corp", "raeder", "reader")] {
        let line = ["api-key", "new", "--data-dir", "dir", "--tenant", tenant, "--id", "x", "--role", role, "--write"];
        let said = home.bulkhead(&line);
        assert_eq!((said.code, said.stdout.as_str()), (78, ""), "{said:?}");
        assert!(said.stderr.contains(&format!("did you mean `{near}`?")), "{said:?}");
    }
    assert!(!home.path("dir/documents/api_keys").exists());
}
