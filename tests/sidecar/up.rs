//! `bulkhead up`: one command, then the printed lines, as a newcomer runs them.

use bulkhead_tests::{Pki, Process, binary, eventually};
use bytes::Bytes;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use tokio_stream::StreamExt as _;

/// A running `bulkhead up` with the demo, in a folder of its own.
pub(super) struct Up {
    pub(super) folder: tempfile::TempDir,
    process: Process,
}

/// `bulkhead up` on the data directory of a folder, everything on free ports.
fn on(folder: &Path) -> Command {
    let mut command = Command::new(binary("bulkhead"));
    command.arg("up").arg("--data-dir").arg(folder.join("data"));
    for address in ["--listen", "--probe-address", "--api-address", "--demo-address"] {
        command.args([address, "127.0.0.1:0"]);
    }
    command.env("XDG_CONFIG_HOME", folder.join("config")).env("HOME", folder);
    command
}

impl Up {
    pub(super) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    /// Ends it in order, and starts it again on the same data directory.
    pub(super) fn again(mut self) -> Self {
        self.process.signal("TERM");
        assert_eq!(self.process.wait().code(), Some(0));
        std::fs::remove_file(self.data().join("addresses.json")).ok();
        std::fs::remove_file(self.folder.path().join("logs/stdout")).unwrap();
        Self::start_in(self.folder)
    }

    fn start_in(folder: tempfile::TempDir) -> Self {
        let command = on(folder.path());
        let process = Process::start(command, &folder.path().join("logs"));
        let up = Self { folder, process };
        up.address();
        eventually("the last line is printed", || up.printed().ends_with("stops.\n").then_some(()));
        up
    }

    pub(super) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    pub(super) fn address(&self) -> SocketAddr {
        eventually("it is serving", || {
            let text = std::fs::read(self.data().join("addresses.json")).ok()?;
            let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
            value["listeners"][0]["address"].as_str()?.parse().ok()
        })
    }

    fn printed(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("logs/stdout")).unwrap()
    }

    /// Runs `bulkhead` with the context that `up` registered.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary("bulkhead"));
        command.args(arguments).env("XDG_CONFIG_HOME", self.folder.path().join("config")).env("HOME", self.folder.path());
        command.output().unwrap()
    }

    /// Runs a line for the shell with our binaries on its path, in this folder, where `data` is the data directory.
    pub(super) fn shell(&self, line: &str) -> Output {
        let path = format!("{}:{}", binary("bulkhead").parent().unwrap().display(), std::env::var("PATH").unwrap());
        Command::new("sh")
            .args(["-c", line])
            .current_dir(self.folder.path())
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .env("HOME", self.folder.path())
            .env("PATH", path)
            .output()
            .unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_printed_line_shows_what_it_says() {
    let up = Up::start();
    let printed = up.printed();
    let lines: Vec<&str> = printed.lines().map(str::trim).filter(|line| line.contains("curl ")).collect();
    assert!(lines.len() >= 8, "{printed}");
    let mut seen = String::new();
    for line in &lines {
        // As pasted; `-i` shows the status, which the line prints already where it uses it.
        let output = up.shell(line);
        seen.push_str(&format!("$ {line}\n{}{}\n", text(&output.stdout), text(&output.stderr)));
    }
    for status in ["200", "401", "403", "404", "429"] {
        assert!(seen.contains(&format!("HTTP/1.1 {status}")), "no {status} in\n{seen}");
    }
    for word in ["missing_credential", "not_permitted", "other_tenant", "no_route", "unknown_tenant"] {
        assert!(seen.contains(word), "no {word} in\n{seen}");
    }
    let lower = seen.to_lowercase();
    for field in ["ratelimit:", "ratelimit-policy:", "retry-after:"] {
        assert!(lower.contains(field), "no {field} in\n{seen}");
    }
}

#[test]
fn a_refusal_is_explained_by_the_id_it_carries() {
    let up = Up::start();
    let token = text(&up.run(&["token", "--tenant", "acme_corp", "--role", "reader"]).stdout).trim().to_owned();
    assert_eq!(token.split('.').count(), 3, "the token and nothing else: {token}");
    let client = bulkhead_tests::Client::new(up.address(), "acme.localhost").bearer(&token);
    assert_eq!(client.get("/v1/items").verdict(), "200");
    let refused = client.send("POST", "/v1/items", b"{}");
    assert_eq!(refused.verdict(), "403 not_permitted");
    let id = refused.json()["decision_id"].as_str().unwrap().to_owned();
    let explained = up.run(&["explain", &id]);
    assert!(explained.status.success(), "{}", text(&explained.stderr));
    assert!(text(&explained.stdout).contains("editor"), "{}", text(&explained.stdout));
    let described = up.run(&["explain", "GET", "/v1/items", "--tenant", "acme_corp", "--role", "reader"]);
    assert!(text(&described.stdout).contains("GET /v1/items"), "{}", text(&described.stdout));
}

#[test]
fn later_starts_keep_what_the_user_made_of_the_documents() {
    let mut up = Up::start();
    let globex = up.data().join("documents/tenants/globex.yaml");
    let edited = std::fs::read_to_string(&globex).unwrap().replace("name: Globex", "name: Edited");
    std::fs::write(&globex, &edited).unwrap();
    up.process.signal("TERM");
    assert_eq!(up.process.wait().code(), Some(0));
    let command = on(up.folder.path());
    std::fs::remove_file(up.data().join("addresses.json")).ok();
    up.process = Process::start(command, &up.folder.path().join("logs"));
    up.address();
    assert_eq!(std::fs::read_to_string(&globex).unwrap(), edited);
}

#[test]
fn a_listener_that_speaks_tls_is_printed_as_such() {
    let mut up = Up::start();
    assert!(up.printed().contains(&format!("http://{}", up.address())), "{}", up.printed());
    up.process.signal("TERM");
    assert_eq!(up.process.wait().code(), Some(0));
    let documents = up.data().join("documents");
    Pki::new().certify(&["acme.localhost"]).write(&documents, "a");
    let platform = std::fs::read_to_string(documents.join("platform.yaml")).unwrap();
    let tls = "    tls: { certificates: [{ certificate: { file: a.pem }, key: { file: a.key } }] }\n    address: 127.0.0.1:";
    std::fs::write(documents.join("platform.yaml"), platform.replacen("    address: 127.0.0.1:", tls, 1)).unwrap();
    std::fs::remove_file(up.data().join("addresses.json")).ok();
    let command = on(up.folder.path());
    up.process = Process::start(command, &up.folder.path().join("logs"));
    let address = up.address();
    eventually("it is printed", || up.printed().contains(&format!("https://{address}")).then_some(()));
}

#[test]
fn private_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let up = Up::start();
    for name in ["admin.token", "issuer.key.pem", "admin.sock"] {
        let mode = std::fs::metadata(up.data().join(name)).unwrap_or_else(|why| panic!("{name}: {why}")).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_second_up_on_the_same_folder_says_so() {
    let up = Up::start();
    let second = up.run(&[
        "up",
        "--data-dir",
        up.data().to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--probe-address",
        "127.0.0.1:0",
        "--demo-address",
        "127.0.0.1:0",
        "--api-address",
        "127.0.0.1:0",
    ]);
    assert!(!second.status.success());
    assert!(text(&second.stderr).contains("data"), "{}", text(&second.stderr));
}

/// `up --upstream` with a service of one's own.
fn in_front_of(service: SocketAddr) -> Up {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary("bulkhead"));
    command.arg("up").arg("--data-dir").arg(folder.path().join("data"));
    command.arg("--upstream").arg(format!("http://{service}"));
    command.args(["--listen", "127.0.0.1:0", "--probe-address", "127.0.0.1:0", "--api-address", "127.0.0.1:0"]);
    command.env("XDG_CONFIG_HOME", folder.path().join("config")).env("HOME", folder.path());
    Up { process: Process::start(command, &folder.path().join("logs")), folder }
}

#[test]
fn an_upstream_of_ones_own_replaces_the_demo_service() {
    let origin = bulkhead_tests::Origin::start();
    let up = in_front_of(origin.address());
    let answer = bulkhead_tests::Client::new(up.address(), "acme.localhost").get("/healthz");
    assert_eq!(answer.verdict(), "200");
    assert_eq!(origin.last().target(), "/healthz");
}

#[tokio::test]
async fn grpc_reaches_an_upstream_of_ones_own_although_nothing_says_that_it_speaks_http2() {
    let service = bulkhead_tests::GrpcService::start();
    let up = in_front_of(service.address());
    let mut client = bulkhead_tests::GrpcClient::connect(up.address(), "acme.localhost").await;
    let messages = tokio_stream::iter(["hello"]).map(|message| Bytes::from_static(message.as_bytes()));
    let mut answers = client.call("/healthz", messages).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap(), "hello");
}

#[test]
fn validate_names_five_mistakes_with_line_column_and_hint() {
    let five = bulkhead_tests::samples().join("mistakes/five.yaml");
    let run = |arguments: &[&str]| Command::new(binary("bulkhead")).args(arguments).output().unwrap();
    let output = run(&["validate", five.to_str().unwrap(), "--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let list = found["diagnostics"].as_array().or(found.as_array()).expect("a list of mistakes");
    assert_eq!(list.len(), 5, "{found}");
    for mistake in list {
        assert!(mistake["line"].as_u64() > Some(0) && mistake["column"].as_u64() > Some(0), "{mistake}");
        assert!(mistake["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{mistake}");
    }
    let human = run(&["validate", five.to_str().unwrap()]);
    assert_eq!(human.status.code(), Some(1));
    for sample in ["platform.yaml", "bench.yaml", "tenants"] {
        let path = bulkhead_tests::samples().join(sample);
        let output = run(&["validate", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{sample}: {}{}", text(&output.stdout), text(&output.stderr));
    }
    assert!(Path::new(&five).exists());
}
