//! The control plane as processes: what it acknowledged survives its death, what it describes holds, and the command line speaks to it.

use crate::up::Up;
use bulkhead_tests::{Client, Origin, Process, binary, eventually, python, samples};
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
    /// Where sidecars find it, also after it died.
    push: SocketAddr,
}

impl Plane {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let push = free_address();
        let process = run(folder.path(), push);
        Self { folder, process, push }
    }

    /// Another process on the same data directory, after the one before has gone.
    fn again(&mut self) {
        let _ = std::fs::remove_file(self.folder.path().join("data/control-plane.json"));
        self.process = run(self.folder.path(), self.push);
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

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn run(folder: &Path, push: SocketAddr) -> Process {
    let mut command = Command::new(binary("bulkhead"));
    command
        .args(["control-plane", "--api-address", "127.0.0.1:0", "--push-address", &push.to_string(), "--data-dir"])
        .arg(folder.join("data"));
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
    // By its module: a script in there says where the environment was made.
    let output = Command::new(python("schemathesis"))
        .args(["-m", "schemathesis.cli", "run"])
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

/// A sidecar that the control plane feeds.
struct Sidecar {
    folder: std::path::PathBuf,
    process: Process,
}

impl Sidecar {
    /// Joins with a token of its own.
    fn join(plane: &Plane, name: &str) -> Self {
        let (roots, folder) = (plane.folder.path().join(format!("{name}.pem")), plane.folder.path().join(name));
        let token = plane.bulkhead(&["join-token", "new", "--name", name, "--trust-bundle", roots.to_str().unwrap()], "");
        assert!(token.status.success(), "{}", said(&token));
        let joins = ["--join".to_owned(), said(&token).trim().to_owned(), "--trust-bundle".to_owned(), roots.to_str().unwrap().to_owned()];
        let process = follow(&folder, plane.push, &joins);
        Self { folder, process }
    }

    /// Another process on the same data directory, without a token.
    fn again(&mut self, push: SocketAddr) {
        std::fs::remove_file(self.folder.join("data/addresses.json")).unwrap();
        self.process = follow(&self.folder, push, &[]);
    }

    fn status_of(&self, host: &str) -> u16 {
        let address: SocketAddr = eventually("it is serving", || {
            let text = std::fs::read(self.folder.join("data/addresses.json")).ok()?;
            let value: Value = serde_json::from_slice(&text).ok()?;
            value["listeners"][0]["address"].as_str()?.parse().ok()
        });
        Client::new(address, host).get("/healthz").status
    }
}

fn follow(folder: &Path, push: SocketAddr, joins: &[String]) -> Process {
    let mut command = Command::new(binary("bulkhead-sidecar"));
    command.args(["--control-plane", &push.to_string(), "--probe-address", "127.0.0.1:0", "--data-dir"]).arg(folder.join("data"));
    command.args(joins);
    Process::start(command, &folder.join("logs"))
}

impl Plane {
    fn bulkhead(&self, arguments: &[&str], input: &str) -> Output {
        self.address();
        let mut command = Command::new(binary("bulkhead"));
        command.args(arguments).arg("--data-dir").arg(self.folder.path().join("data"));
        command.env("XDG_CONFIG_HOME", self.folder.path().join("config")).env("HOME", self.folder.path());
        with_input(command, input)
    }
}

#[test]
fn two_sidecars_follow_outlive_the_control_plane_and_follow_it_again() {
    let mut plane = Plane::start();
    let (mut one, two) = (Sidecar::join(&plane, "one"), Sidecar::join(&plane, "two"));
    let connected = |plane: &Plane| plane.client().get("/v1/fleet").json()["connected"].as_u64();
    eventually("both follow", || (connected(&plane) == Some(2)).then_some(()));
    let origin = Origin::start();
    let platform = std::fs::read_to_string(samples().join("platform.yaml")).unwrap();
    let platform = platform.replace("{ file: issuer.jwks.json }", "{ url: \"https://127.0.0.1:1/jwks.json\" }");
    let platform = platform.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:4789", &origin.address().to_string());
    let globex = std::fs::read_to_string(samples().join("tenants/globex.yaml")).unwrap();
    let applied = plane.bulkhead(&["apply", "--wait", "-f", "-"], &format!("{platform}\n---\n{globex}"));
    assert!(applied.status.success(), "{}", said(&applied));
    for name in ["one", "two"] {
        assert!(said(&applied).contains(&format!("{name} serves revision 1")), "{}", said(&applied));
    }
    assert_eq!((one.status_of("globex.localhost"), two.status_of("globex.localhost")), (200, 200));
    assert_eq!(one.status_of("initech.localhost"), 404);
    // Without a control plane they go on, also one that dies itself.
    plane.process.kill();
    one.process.kill();
    one.again(plane.push);
    assert_eq!((one.status_of("globex.localhost"), two.status_of("globex.localhost")), (200, 200));
    plane.again();
    eventually("both are back", || (connected(&plane) == Some(2)).then_some(()));
    let initech = INITECH.replace("\"features\"", "\"hosts\":[\"initech.localhost\"],\"features\"");
    let applied = plane.bulkhead(&["apply", "--wait", "-f", "-"], &initech);
    assert!(applied.status.success() && said(&applied).contains("two serves revision 2"), "{}", said(&applied));
    assert_eq!((one.status_of("initech.localhost"), two.status_of("initech.localhost")), (200, 200));
    let state = plane.client().get("/v1/tenants/initech/status").json();
    assert_eq!((state["state"].as_str(), state["programmed"].as_u64()), (Some("programmed"), Some(2)), "{state}");
}

#[test]
fn a_join_token_is_good_for_one_sidecar() {
    let plane = Plane::start();
    let roots = plane.folder.path().join("roots.pem");
    let token = plane.bulkhead(&["join-token", "new", "--name", "edge", "--trust-bundle", roots.to_str().unwrap()], "");
    let joins = ["--join".to_owned(), said(&token).trim().to_owned(), "--trust-bundle".to_owned(), roots.to_str().unwrap().to_owned()];
    let _first = follow(&plane.folder.path().join("first"), plane.push, &joins);
    let fleet = || plane.client().get("/v1/fleet").json();
    eventually("it follows", || (fleet()["connected"] == 1).then_some(()));
    let _second = follow(&plane.folder.path().join("second"), plane.push, &joins);
    eventually("the second use is refused and written down", || {
        let denied = plane.client().get("/v1/audit?decision=denied").json();
        denied["items"].as_array()?.iter().any(|entry| entry["action"] == "enrol").then_some(())
    });
    assert_eq!(fleet()["connected"], 1);
}

/// Runs `bulkhead` for the bulkhead that `up` registered, with this on its standard input.
fn bulkhead(up: &Up, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(binary("bulkhead"));
    command.args(arguments).env("XDG_CONFIG_HOME", up.folder.path().join("config")).env("HOME", up.folder.path());
    with_input(command, input)
}

fn with_input(mut command: Command, input: &str) -> Output {
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
    let verified = bulkhead(&up, &["audit", "verify"], "");
    assert!(verified.status.success() && said(&verified).contains("whole"), "{}", said(&verified));
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
