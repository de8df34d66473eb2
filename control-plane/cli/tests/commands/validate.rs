//! `bulkhead validate`.

use crate::support::{Home, Said, samples};
use serde_json::Value;

const FIVE: &str = "\
kind: Tenant
tenant_id: acme_corp
name: ACME
email: nobody
plan: premium
colour: red
---
kind: Role
name: reader
allow:
  - GET v1/items
---
kind: QuotaPolicy
name: q
limits:
  - { name: burst, per: tenant, rate: 200, burst: 10 }
---
kind: Tennant
tenant_id: x
";

fn validate(home: &Home, args: &[&str]) -> Said {
    home.bulkhead(&[&["validate"], args].concat())
}

#[test]
fn five_mistakes_are_five_findings_each_with_its_place() {
    let home = Home::new();
    home.write("five.yaml", FIVE);
    let said = validate(&home, &["five.yaml", "--output", "json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let found: Vec<Value> = serde_json::from_str(&said.stdout).unwrap();
    let places: Vec<(u64, u64)> = found.iter().map(|one| (one["line"].as_u64().unwrap(), one["column"].as_u64().unwrap())).collect();
    assert_eq!(places, [(4, 8), (6, 1), (11, 5), (16, 39), (18, 7)]);
    for one in &found {
        assert_eq!(one["file"], "five.yaml");
        assert!(one["hint"].is_string() || one["expected"].is_string(), "{one}");
    }
}

#[test]
fn people_see_the_line_the_mark_and_the_count() {
    let home = Home::new();
    home.write("five.yaml", FIVE);
    let said = validate(&home, &["five.yaml"]);
    assert_eq!(said.code, 1);
    let excerpt = "  --> five.yaml:18:7 (/kind)\n   |\n18 | kind: Tennant\n   |       ^^^^^^^";
    assert!(said.stdout.contains(excerpt), "{}", said.stdout);
    assert!(said.stdout.contains("help: did you mean `Tenant`?"), "{}", said.stdout);
    assert!(said.stdout.ends_with("5 mistakes\n"), "{}", said.stdout);
    assert!(!said.stdout.contains('\u{1b}'), "no colours where no terminal shows them");
}

#[test]
fn the_samples_are_clean() {
    let samples = samples();
    for sample in ["platform.yaml", "bench.yaml", "tenants", "tenants/acme_corp.yaml", "tenants/globex.yaml"] {
        let said = validate(&Home::new(), &[samples.join(sample).to_str().unwrap()]);
        assert_eq!(said.code, 0, "{sample}: {}", said.stdout);
    }
}

/// What a newcomer copies must be served as it stands.
#[test]
fn the_documents_of_the_readme_are_a_whole_set_without_mistakes() {
    let readme = std::fs::read_to_string(samples().join("../../README.md")).unwrap();
    let documents = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let home = Home::new();
    home.write("mine/all.yaml", documents);
    let said = validate(&home, &["mine"]);
    assert!(said.code == 0 && said.stdout.contains("1 Service"), "{}", said.stdout);
    assert!(!said.stdout.contains("warning"), "{}", said.stdout);
    home.write("mine/login.jwks.json", r#"{"keys": []}"#);
    assert!(!validate(&home, &["mine"]).stdout.contains("not checked"), "{}", said.stdout);
}

#[test]
fn a_tenant_alone_is_judged_alone_and_says_what_nobody_checked() {
    let home = Home::new();
    let tenant = r#"{"tenant_id":"acme_corp","name":"ACME Corporation","email":"admin@acme.com","api_quota_per_hour":5000,
        "storage_quota_gb":100.0,"features":["audio_processing","analytics"]}"#;
    home.write("tenant.json", tenant);
    let said = validate(&home, &["tenant.json"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "1 file: 1 Tenant; no mistakes\n"));

    home.write("tenant.json", tenant.replace("{", r#"{"plan":"premium","#));
    let said = validate(&home, &["tenant.json"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("not checked: plan `premium`"), "{said:?}");
}

#[test]
fn with_a_service_the_set_is_whole_and_references_must_lead_somewhere() {
    let home = Home::new();
    let platform = std::fs::read_to_string(samples().join("platform.yaml")).unwrap();
    home.write("all/platform.yaml", platform);
    home.write("all/globex.yaml", "tenant_id: globex\nname: Globex\nemail: a@b.example\nplan: premum\n");
    let said = validate(&home, &["all"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stdout.contains("help: did you mean `premium`?"), "{}", said.stdout);
    assert!(said.stdout.ends_with("1 mistake\n"), "{}", said.stdout);
}

/// One mistake in the platform must not show as one in every tenant that refers to it.
#[test]
fn what_follows_from_another_mistake_is_not_told() {
    let home = Home::new();
    let platform = std::fs::read_to_string(samples().join("platform.yaml")).unwrap();
    home.write("all/platform.yaml", platform.replace("name: premium\n", "name: premium\nnmae: x\n").replace("window: 1m ", "window: 1 "));
    for tenant in ["acme_corp", "globex"] {
        let text = std::fs::read_to_string(samples().join(format!("tenants/{tenant}.yaml"))).unwrap();
        home.write(&format!("all/{tenant}.yaml"), text);
    }
    let said = validate(&home, &["all"]);
    assert!(said.stdout.ends_with("2 mistakes\n"), "{}", said.stdout);
}

#[test]
fn a_key_set_among_the_documents_is_told_how_it_must_be_named() {
    let home = Home::new();
    let platform = std::fs::read_to_string(samples().join("platform.yaml")).unwrap();
    home.write("all/platform.yaml", platform.replace("issuer.jwks.json", "keys.json"));
    home.write("all/keys.json", r#"{"keys": []}"#);
    let said = validate(&home, &["all"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stdout.contains("named as a key set") && said.stdout.contains("jwks.json"), "{}", said.stdout);
    assert!(said.stdout.ends_with("1 mistake\n"), "{}", said.stdout);
}

#[test]
fn the_standard_input_is_a_file_like_any_other() {
    let home = Home::new();
    let path = home.write("role.yaml", "kind: Role\nname: a\nalow: []\n");
    let input = std::fs::File::open(path).unwrap();
    let said: Said = home.command(&["validate", "-"]).stdin(input).output().unwrap().into();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stdout.contains("stdin:3:1"), "{said:?}");
}

#[test]
fn what_cannot_be_read_is_told_with_its_own_code() {
    let home = Home::new();
    std::fs::create_dir(home.path("empty")).unwrap();
    home.write("latin1.yaml", b"name: \xe4\n");
    for (path, code) in [("absent.yaml", 66), ("empty", 66), ("latin1.yaml", 1)] {
        let said = validate(&home, &[path]);
        assert_eq!(said.code, code, "{path}: {said:?}");
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_a_mistake_where_the_document_names_it() {
    let home = Home::new();
    let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (one, other) = (made("a.test"), made("b.test"));
    let service = |tls: &str| {
        format!(
            "kind: Service\nname: s\nlisteners:\n  - name: l\n    address: 127.0.0.1:1\n    tls: {{ certificates: [{tls}] }}\nupstreams: [{{ name: u, endpoints: ['http://a:1'] }}]\nroutes: [{{ name: r, path: / }}]\n"
        )
    };
    home.write("one.pem", one.cert.pem());
    home.write("one.key", one.signing_key.serialize_pem());
    home.write("other.key", other.signing_key.serialize_pem());
    home.write("empty.pem", "nothing of the kind\n");
    for (tls, code, says) in [
        ("{ certificate: { file: one.pem }, key: { file: one.key } }", 0, "no mistakes"),
        ("{ certificate: { file: one.pem }, key: { file: other.key } }", 1, "is not that of the certificate"),
        ("{ certificate: { file: empty.pem }, key: { file: one.key } }", 1, "there is no certificate in it"),
        ("{ certificate: { file: absent.pem }, key: { file: one.key } }", 0, "absent.pem` is not there"),
    ] {
        home.write("service.yaml", service(tls));
        let said = validate(&home, &["service.yaml"]);
        assert!(said.code == code && format!("{}{}", said.stdout, said.stderr).contains(says), "{tls}: {said:?}");
        assert!(!said.stdout.contains("PRIVATE KEY") && !said.stdout.contains("nothing of the kind"), "{said:?}");
    }
}
