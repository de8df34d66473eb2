//! `bulkhead backup`, `restore` and `migrate`: what is carried away comes back whole, or not at all.

use crate::support::running::{Up, ask};
use crate::support::{Home, Said};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

/// A control plane with the data directory `cp`, on ports of its own.
fn control_plane<'a>(home: &'a Home, args: &[&str]) -> Up<'a> {
    let own = ["control-plane", "--output", "json", "--api-address", "127.0.0.1:0", "--push-address", "127.0.0.1:0", "--data-dir", "cp"];
    Up::by(home, home.command(&[&own, args].concat()))
}

/// A command on the data directory `cp` that goes well.
fn good(home: &Home, line: &[&str]) -> Said {
    let said = home.bulkhead(&[line, &["--data-dir", "cp"]].concat());
    assert_eq!(said.code, 0, "{line:?}: {said:?}");
    said
}

fn apply(home: &Home, plan: &str, features: &str) {
    home.write("plan.yaml", format!("kind: Plan\nname: {plan}\nfeatures: [{features}]\n"));
    good(home, &["apply", "-f", "plan.yaml"]);
}

fn epoch(plane: &Up<'_>) -> Value {
    let token = std::fs::read_to_string(plane.home.path("cp/admin.token")).unwrap();
    let address = plane.told["api"].as_str().unwrap().parse().unwrap();
    let answer = ask(address, "GET", "localhost", "/v1/revision", &[("authorization", &format!("Bearer {}", token.trim()))]);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// What documents say, every version of one of them, and the audit trail with the hash of each content. Without ETags: they name the
/// incarnation, so that those of before a restore count no more.
fn stored(home: &Home) -> [String; 3] {
    let lines = [&["get", "plans"][..], &["history", "plan", "gold"], &["audit", "query"]];
    lines.map(|line| {
        let said = good(home, &[line, &["--output", "json"]].concat()).stdout;
        said.lines().filter(|line| !line.trim_start().starts_with("\"etag\"")).collect()
    })
}

/// A store with some past, whose control plane has ended, and its backup `b.tar.gz`.
fn backed_up(home: &Home) {
    let plane = control_plane(home, &[]);
    apply(home, "gold", "analytics");
    assert_eq!(plane.end("-TERM").code, 0);
    good(home, &["backup", "--output", "b.tar.gz"]);
}

#[test]
fn what_a_running_control_plane_is_backed_up_as_comes_back_after_everything_is_gone() {
    let home = Home::new();
    let plane = control_plane(&home, &[]);
    apply(&home, "gold", "analytics");
    apply(&home, "gold", "analytics, audio");
    let token = good(&home, &["operator-token", "new", "--name", "ci", "--role", "viewer"]).stdout;
    good(&home, &["backup", "--output", "b.tar.gz"]);
    assert_eq!(std::fs::metadata(home.path("b.tar.gz")).unwrap().permissions().mode() & 0o777, 0o600);
    let (before, was) = (stored(&home), epoch(&plane));
    assert!(before[2].contains("createBackup") && before[2].contains("after"), "{before:?}");
    apply(&home, "later", "analytics");
    let sealed = std::fs::read(home.path("b.tar.gz")).unwrap();
    assert!(!unpack(&sealed).values().any(|file| file.windows(9).any(|some| some == b"analytics")), "it is sealed");
    assert_eq!(plane.end("-TERM").code, 0);

    std::fs::rename(home.path("cp/keyring.key"), home.path("kept.key")).unwrap();
    std::fs::remove_dir_all(home.path("cp")).unwrap();
    good(&home, &["restore", "--input", "b.tar.gz", "--key-file", "kept.key"]);
    let plane = control_plane(&home, &[]);
    assert_eq!(stored(&home), before, "and nothing of what came later");
    let is = epoch(&plane);
    assert!(is["incarnation"].as_u64() > was["incarnation"].as_u64(), "{was} {is}");
    good(&home, &["get", "plans", "--operator-token", token.trim()]);
    apply(&home, "gold", "analytics");
    assert_eq!(plane.end("-TERM").code, 0);
}

#[test]
fn a_store_that_nobody_runs_is_backed_up_by_the_command_itself() {
    let home = Home::new();
    backed_up(&home);
    let said = home.bulkhead(&["restore", "--input", "b.tar.gz", "--data-dir", "other", "--key-file", "cp/keyring.key"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(std::fs::read(home.path("other/keyring.key")).unwrap(), std::fs::read(home.path("cp/keyring.key")).unwrap());
    let plane = Up::by(
        &home,
        home.command(&[
            "control-plane",
            "--output",
            "json",
            "--api-address",
            "127.0.0.1:0",
            "--push-address",
            "127.0.0.1:0",
            "--data-dir",
            "other",
        ]),
    );
    let plans = home.bulkhead(&["get", "plan", "gold", "--data-dir", "other"]);
    assert!(plans.code == 0 && plans.stdout.contains("analytics"), "{plans:?}");
    drop(plane);
}

#[test]
fn what_up_stores_is_backed_up_while_it_runs() {
    let home = Home::new();
    let up = Up::start(&home, &["--demo-address", "127.0.0.1:0"]);
    let said = home.bulkhead(&["backup", "--output", "b.tar.gz"]);
    assert_eq!(said.code, 0, "{said:?}");
    drop(up);
    let data_dir = home.path(".local/share/bulkhead/dev");
    let said = home.bulkhead(&["restore", "--force", "--input", "b.tar.gz", "--data-dir", data_dir.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn a_store_that_is_there_is_kept_unless_it_is_to_be_moved_aside_and_never_under_who_runs_on_it() {
    let home = Home::new();
    backed_up(&home);
    let before = std::fs::read(home.path("cp/store.redb")).unwrap();
    let restore = |more: &[&str]| home.bulkhead(&[&["restore", "--input", "b.tar.gz", "--data-dir", "cp"], more].concat());
    let said = restore(&[]);
    assert!(said.code == 69 && said.stderr.contains("--force"), "{said:?}");
    assert_eq!(std::fs::read(home.path("cp/store.redb")).unwrap(), before);

    let plane = control_plane(&home, &[]);
    let first = epoch(&plane);
    let said = restore(&["--force"]);
    assert!(said.code == 69 && said.stderr.contains("in use"), "{said:?}");
    assert_eq!(plane.end("-TERM").code, 0);

    for times in 1..=2 {
        let said = restore(&["--force"]);
        assert!(said.code == 0 && said.stdout.contains(&format!("before-{times}")), "{said:?}");
        assert!(home.path(&format!("cp/store.redb.before-{times}")).is_file());
    }
    let plane = control_plane(&home, &[]);
    assert!(epoch(&plane)["incarnation"].as_u64().unwrap() >= first["incarnation"].as_u64().unwrap() + 2);
}

#[test]
fn a_damaged_cut_forged_foreign_or_future_backup_is_refused_and_nothing_is_written() {
    let home = Home::new();
    backed_up(&home);
    let whole = std::fs::read(home.path("b.tar.gz")).unwrap();
    let refused = |bytes: &[u8], key: &str, code: i32, why: &str| {
        home.write("bad.tar.gz", bytes);
        let said = home.bulkhead(&["restore", "--input", "bad.tar.gz", "--data-dir", "new", "--key-file", key]);
        assert!(said.code == code && said.stderr.contains(why), "{why}: {said:?}");
        assert!(!home.path("new").exists(), "{why}");
    };
    let key = "cp/keyring.key";
    let mut flipped = whole.clone();
    // Behind the head of the archive, which says nothing that counts, each part of it.
    for at in [whole.len() / 4, whole.len() / 2, whole.len() - 3] {
        flipped[at] ^= 0x10;
        refused(&flipped, key, 65, "damaged");
        flipped[at] ^= 0x10;
    }
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..length], key, 65, "damaged");
    }
    refused(&[&whole[..], b"more"].concat(), key, 65, "behind its end");

    let files = unpack(&whole);
    let with = |name: &str, content: Vec<u8>| pack(&BTreeMap::from_iter(files.clone().into_iter().chain([(name.to_owned(), content)])));
    let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let edited = |field: &str, value: Value| {
        let mut edited = manifest.clone();
        edited[field] = value;
        with("manifest.json", edited.to_string().into_bytes())
    };
    refused(&edited("format", 2.into()), key, 65, "format 2");
    refused(&edited("revision", 1.into()), key, 65, "the manifest, was changed");
    refused(&edited("members", Value::Array(Vec::new())), key, 65, "no records");
    refused(&with("records-00000.sealed", b"another".to_vec()), key, 65, "not what the manifest says");
    refused(&with("more", b"x".to_vec()), key, 65, "does not list");
    let without = files.iter().filter(|(name, _)| !name.starts_with("records")).map(|(name, file)| (name.clone(), file.clone()));
    refused(&pack(&without.collect()), key, 65, "is missing");

    let other = home.write("other.key", "b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyb3Q=\n");
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
    refused(&whole, "other.key", 78, "sealed with key");
    refused(&whole, "absent.key", 78, "absent.key");
    // And the whole one is taken.
    home.write("bad.tar.gz", &whole);
    assert_eq!(home.bulkhead(&["restore", "--input", "bad.tar.gz", "--data-dir", "new", "--key-file", key]).code, 0);
}

/// Or its keyring would be backed up with a key that does not open it.
#[test]
fn a_lost_key_is_no_reason_for_a_backup_with_a_new_one() {
    let home = Home::new();
    backed_up(&home);
    std::fs::remove_file(home.path("cp/keyring.key")).unwrap();
    let said = home.bulkhead(&["backup", "--output", "c.tar.gz", "--data-dir", "cp"]);
    assert!(said.code == 78 && said.stderr.contains("keyring.key"), "{said:?}");
    assert!(!home.path("cp/keyring.key").exists() && !home.path("c.tar.gz").exists());
}

#[test]
fn what_is_no_store_or_no_name_of_a_backup_is_said() {
    let home = Home::new();
    for command in [&["backup", "--output", "b.tar.gz"][..], &["migrate"]] {
        let said = home.bulkhead(&[command, &["--data-dir", "nothing"]].concat());
        assert!(said.code == 66 && said.stderr.contains("there is no store"), "{said:?}");
        assert!(!home.path("nothing").exists(), "asking makes nothing");
    }
    let said = home.bulkhead(&["backup", "--output", "b.zip"]);
    assert!(said.code == 2 && said.stderr.contains(".tar.gz"), "{said:?}");
    let said = home.bulkhead(&["restore", "--input", "absent.tar.gz", "--data-dir", "new"]);
    assert!(said.code == 66 && said.stderr.contains("absent.tar.gz"), "{said:?}");
}

#[test]
fn a_store_of_this_version_has_nothing_to_migrate() {
    let home = Home::new();
    backed_up(&home);
    for line in [&["migrate", "--dry-run"][..], &["migrate"]] {
        assert!(good(&home, line).stdout.contains("nothing to do"));
    }
    let _plane = control_plane(&home, &[]);
    let said = home.bulkhead(&["migrate", "--data-dir", "cp"]);
    assert!(said.code == 69 && said.stderr.contains("in use"), "{said:?}");
}

fn unpack(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut tar = tar::Archive::new(GzDecoder::new(archive));
    let files = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), content)
    });
    files.collect()
}

fn pack(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, &content[..]).unwrap();
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&tar.into_inner().unwrap()).unwrap();
    gzip.finish().unwrap()
}
