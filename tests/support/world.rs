//! A world: an origin, an issuer and a sidecar process in front of the origin, with documents in a watched folder.

use crate::client::{Answer, Client, exchange};
use crate::issuer::Issuer;
use crate::origin::Origin;
use crate::process::{Process, binary, eventually};
use serde_json::Value;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's samples.
pub fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/samples")
}

/// A running sidecar and what stands around it.
pub struct World {
    /// The service behind it.
    pub origin: Origin,
    /// Who signs the demo's tokens.
    pub issuer: Issuer,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    process: Process,
}

impl World {
    /// The demo: two tenants, its roles and quotas.
    pub fn start() -> Self {
        Self::with(Origin::start(), |_| {})
    }

    /// The demo in front of this origin, after `edit` has changed the folder of documents.
    pub fn with(origin: Origin, edit: impl FnOnce(&Path)) -> Self {
        Self::with_arguments(origin, &[], edit)
    }

    /// Likewise, with further arguments for the sidecar.
    pub fn with_arguments(origin: Origin, arguments: &[&str], edit: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let documents = folder.path().join("documents");
        std::fs::create_dir_all(documents.join("tenants")).expect("a folder");
        let issuer = Issuer::demo();
        let platform = std::fs::read_to_string(samples().join("platform.yaml")).expect("a sample");
        let platform = platform.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:4789", &origin.address().to_string());
        std::fs::write(documents.join("platform.yaml"), platform).expect("a file");
        for tenant in ["acme_corp.yaml", "globex.yaml"] {
            std::fs::copy(samples().join("tenants").join(tenant), documents.join("tenants").join(tenant)).expect("a sample");
        }
        std::fs::write(documents.join("issuer.jwks.json"), issuer.jwks()).expect("a file");
        edit(&documents);
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let process = spawn(folder.path(), &arguments);
        let mut world = Self { origin, issuer, folder, arguments, process };
        world.until_ready();
        world
    }

    /// The folder of documents.
    pub fn documents(&self) -> PathBuf {
        self.folder.path().join("documents")
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes a document file the way editors do: beside it, then renamed.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.documents().join(name);
        let aside = path.with_extension("new~");
        std::fs::write(&aside, text).expect("a file");
        std::fs::rename(&aside, &path).expect("a rename");
    }

    /// Reads a document file.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.documents().join(name)).expect("a document file")
    }

    /// The sidecar process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts the sidecar again in the same folders.
    pub fn restart(&mut self) {
        let _ = std::fs::remove_file(self.data().join("addresses.json"));
        self.process = spawn(self.folder.path(), &self.arguments);
        self.until_ready();
    }

    /// A second sidecar process, started to take the place of the first, with further arguments.
    pub fn successor(&self, more: &[&str]) -> Process {
        let mut arguments = self.arguments.clone();
        arguments.extend(["--take-over".to_owned(), self.data().display().to_string()]);
        arguments.extend(more.iter().map(ToString::to_string));
        spawn(self.folder.path(), &arguments)
    }

    /// The sidecar process from now on; the one before it.
    pub fn follow(&mut self, process: Process) -> Process {
        std::mem::replace(&mut self.process, process)
    }

    /// Where requests go in.
    pub fn address(&self) -> SocketAddr {
        let listener = &self.addresses()["listeners"][0]["address"];
        listener.as_str().expect("an address").parse().expect("an address")
    }

    fn addresses(&self) -> Value {
        let path = self.data().join("addresses.json");
        eventually("the sidecar writes its addresses", || {
            let text = std::fs::read(&path).ok()?;
            let value: Value = serde_json::from_slice(&text).ok()?;
            value["listeners"].as_array().is_some_and(|all| !all.is_empty()).then_some(value)
        })
    }

    /// A client that names a tenant by its host.
    pub fn client(&self, host: &str) -> Client {
        Client::new(self.address(), host)
    }

    /// A client of that tenant with a good token for these roles.
    pub fn user(&self, tenant: &str, roles: &[&str]) -> Client {
        let host = match tenant {
            "acme_corp" => "acme.localhost",
            other => &format!("{other}.localhost"),
        };
        self.client(host).bearer(&self.issuer.token(tenant, roles))
    }

    /// Where probes and metrics are.
    pub fn probes(&self) -> SocketAddr {
        self.addresses()["probes"].as_str().expect("an address").parse().expect("an address")
    }

    /// One request to the probes and metrics address.
    pub fn probe(&self, target: &str) -> Answer {
        Client::new(self.probes(), "localhost").get(target)
    }

    /// One request to the admin socket.
    pub fn admin(&self, method: &str, target: &str, body: &str) -> Answer {
        let path = self.data().join("admin.sock");
        let stream = UnixStream::connect(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        exchange::once(stream, &request).unwrap_or_else(|why| panic!("{method} {target} on the admin socket: {why}\n{}", self.log()))
    }

    /// What `bulkhead status` says of the policy.
    pub fn policy(&self) -> Value {
        self.admin("GET", "/status", "").json()["policy"].take()
    }

    /// What the sidecar wrote to its log.
    pub fn log(&self) -> String {
        ["stdout", "stderr"].map(|name| std::fs::read_to_string(self.folder.path().join("logs").join(name)).unwrap_or_default()).concat()
    }

    fn until_ready(&mut self) {
        let address: SocketAddr = eventually("the sidecar writes its addresses", || {
            self.still_runs();
            let text = std::fs::read(self.data().join("addresses.json")).ok()?;
            let value: Value = serde_json::from_slice(&text).ok()?;
            value["probes"].as_str()?.parse().ok()
        });
        eventually("the sidecar is ready", || {
            self.still_runs();
            let stream = std::net::TcpStream::connect(address).ok()?;
            let answer = exchange::once(stream, "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
            (answer.status == 200).then_some(())
        });
    }

    fn still_runs(&mut self) {
        if let Some(status) = self.process.ended() {
            panic!("the sidecar ended with {status}:\n{}", self.log());
        }
    }
}

fn spawn(folder: &Path, arguments: &[String]) -> Process {
    let mut command = Command::new(binary("bulkhead-sidecar"));
    command
        .arg("--documents")
        .arg(folder.join("documents"))
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args(["--env", "dev", "--probe-address", "127.0.0.1:0", "--access-log"])
        .arg(folder.join("access.jsonl"))
        .args(arguments);
    Process::start(command, &folder.join("logs"))
}
