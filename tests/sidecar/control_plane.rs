//! The control plane as processes: what it acknowledged survives its death, what it describes holds, and the command line speaks to it.

use crate::up::Up;
use bulkhead_tests::{Client, Process, binary, eventually, python};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// `bulkhead control-plane`, in a folder of its own.
struct Plane {
    folder: tempfile::TempDir,
    process: Process,
}

impl Plane {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = run(folder.path());
        Self { folder, process }
    }

    /// Another process on the same data directory, after the one before has gone.
    fn again(&mut self) {
        let _ = std::fs::remove_file(self.folder.path().join("data/control-plane.json"));
        self.process = run(self.folder.path());
    }

    fn address(&self) -> SocketAddr {
        eventually("it is serving", || {
            let text = std::fs::read(self.folder.path().join("data/control-plane.json")).ok()?;
            let place: Value = serde_json::from_slice(&text).ok()?;
            place["api"].as_str()?.parse().ok()
        })
    }

    fn token(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("data/admin.token")).unwrap().trim().to_owned()
    }

    fn client(&self) -> Client {
        Client::new(self.address(), "control").bearer(&self.token())
    }

    fn items(&self, path: &str) -> Vec<Value> {
        let page = self.client().get(path).json();
        assert!(page["next"].is_null(), "{path} fits one page");
        page["items"].as_array().unwrap().clone()
    }
}

fn run(folder: &Path) -> Process {
    let mut command = Command::new(binary("bulkhead"));
    command.args(["control-plane", "--api-address", "127.0.0.1:0", "--push-address", "127.0.0.1:0", "--data-dir"]).arg(folder.join("data"));
    command.env("XDG_CONFIG_HOME", folder.join("config")).env("HOME", folder);
    Process::start(command, &folder.join("logs"))
}

/// Deaths of the control plane while it is written to.
const DEATHS: u64 = 50;

#[test]
fn what_was_acknowledged_survives_every_death_and_each_change_has_its_event() {
    let mut plane = Plane::start();
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    let mut number = 0;
    // Where in a change a death falls is chance; the seed says how long each process lived.
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    for death in 0..DEATHS {
        let (address, token) = (plane.address(), plane.token());
        let (done, acknowledges) = mpsc::channel();
        let from = number;
        let writer = std::thread::spawn(move || {
            let mut connection = Client::new(address, "control").bearer(&token).connect();
            for number in from.. {
                let name = format!("p{}", number % 40);
                let plan = json!({ "kind": "Plan", "name": name, "api_quota_per_hour": number }).to_string();
                match connection.try_send("PUT", &format!("/v1/plans/{name}"), plan.as_bytes()) {
                    Ok(answer) if answer.status < 300 => done.send((name, number)).unwrap(),
                    // It is dead, or was while it answered.
                    _ => return,
                }
            }
        });
        // At least one is acknowledged, so that each process was written to.
        let (name, first) = acknowledges.recv_timeout(Duration::from_secs(30)).unwrap();
        acknowledged.insert(name, first);
        std::thread::sleep(Duration::from_micros((seed.wrapping_mul(2_654_435_761).wrapping_add(death * 7_919)) % 40_000));
        plane.process.kill();
        for (name, last) in acknowledges {
            acknowledged.insert(name, last);
        }
        writer.join().unwrap();
        number = acknowledged.values().max().unwrap() + 2;
        plane.again();
    }
    let stored: BTreeMap<String, u64> = plane
        .items("/v1/plans?limit=1000")
        .iter()
        .map(|item| (item["name"].as_str().unwrap().to_owned(), item["document"]["api_quota_per_hour"].as_u64().unwrap()))
        .collect();
    for (name, last) in &acknowledged {
        // What was sent last may have been stored and its answer lost.
        assert!(stored[name] >= *last, "{name} holds {}, and {last} was acknowledged", stored[name]);
    }
    let revision = plane.client().get("/v1/revision").json()["revision"].as_u64().unwrap();
    let mut events = Vec::new();
    let mut after = String::new();
    loop {
        let page = plane.client().get(&format!("/v1/events?limit=1000{after}")).json();
        events.extend(page["items"].as_array().unwrap().iter().map(|event| event["data"]["revision"].as_u64().unwrap()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(events, (1..=revision).collect::<Vec<_>>(), "one event a change, none without, none twice");
    let versions: usize = stored.keys().map(|name| plane.items(&format!("/v1/plans/{name}/history?limit=1000")).len()).sum();
    assert_eq!(versions as u64, revision, "one version a change");
}

#[test]
fn the_description_holds_for_whatever_schemathesis_sends() {
    let plane = Plane::start();
    let st = python("schemathesis").with_file_name("st");
    let output = Command::new(st)
        .arg("run")
        .arg(format!("http://{}/openapi.json", plane.address()))
        .args(["-H", &format!("Authorization: Bearer {}", plane.token())])
        .args(["--phases", "fuzzing", "--max-examples", "5", "--seed", "1", "--no-color"])
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"])
        .args(["--checks", "response_schema_conformance,unsupported_method,ignored_auth"])
        .current_dir(plane.folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Runs `bulkhead` for the bulkhead that `up` registered, with this on its standard input.
fn bulkhead(up: &Up, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(binary("bulkhead"));
    command.args(arguments).env("XDG_CONFIG_HOME", up.folder.path().join("config")).env("HOME", up.folder.path());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const INITECH: &str = r#"{"tenant_id":"initech","name":"Initech","email":"admin@initech.example","api_quota_per_hour":5000,"storage_quota_gb":100.0,"features":["audio_processing","analytics"]}"#;

#[test]
fn a_tenant_that_comes_through_the_api_is_served_at_once_and_again_after_a_restart() {
    let up = Up::start();
    let applied = bulkhead(&up, &["apply", "-f", "-", "--wait"], INITECH);
    assert!(applied.status.success(), "{}", said(&applied));
    assert!(said(&applied).contains("up serves revision"), "{}", said(&applied));
    let token = said(&bulkhead(&up, &["token", "--tenant", "initech", "--role", "reader"], ""));
    let ask = |up: &Up| Client::new(up.address(), "api.localhost").bearer(token.trim()).get("/v1/items").status;
    assert_eq!(ask(&up), 200);
    let refused = bulkhead(&up, &["apply", "-f", "-"], &INITECH.replace("admin@initech.example", "nobody").replace("5000", "-1"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("/email") && said(&refused).contains("/api_quota_per_hour"), "{}", said(&refused));
    let up = up.again();
    assert_eq!(ask(&up), 200);
    let removed = bulkhead(&up, &["delete", "tenant", "initech"], "");
    assert!(removed.status.success(), "{}", said(&removed));
    eventually("it is gone", || (ask(&up) != 200).then_some(()));
    let back = bulkhead(&up, &["rollback", "tenant", "initech", "--to", "2"], "");
    assert!(back.status.success(), "{}", said(&back));
    eventually("it is back", || (ask(&up) == 200).then_some(()));
}

#[test]
fn a_document_of_the_folder_is_changed_in_the_folder_alone() {
    let up = Up::start();
    let refused = bulkhead(&up, &["delete", "tenant", "globex"], "");
    assert!(!refused.status.success() && said(&refused).contains("globex.yaml"), "{}", said(&refused));
    let globex = up.data().join("documents/tenants/globex.yaml");
    let edited = std::fs::read_to_string(&globex).unwrap().replace("name: Globex", "name: Edited");
    std::fs::write(&globex, edited).unwrap();
    let shown = || said(&bulkhead(&up, &["get", "tenant", "globex"], ""));
    eventually("the store has the edit", || shown().contains("name: Edited").then_some(()));
    let history = said(&bulkhead(&up, &["history", "tenant", "globex"], ""));
    assert_eq!(history.lines().count(), 3, "{history}");
    // A mistake in the folder leaves the store as it was.
    std::fs::write(&globex, "kind: Tenant\ntenant_id: globex\nspeed: warp\n").unwrap();
    let status = || said(&bulkhead(&up, &["status"], ""));
    eventually("the mistake is named", || status().contains("speed").then_some(()));
    assert!(shown().contains("name: Edited"), "{}", shown());
}
