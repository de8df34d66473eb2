//! A sidecar under measurement: one worker, a folder of its own, ended with its owner.

use crate::versus::built_sidecar;
use crate::versus::step::{Error, Steps};
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest start of a sidecar, with ten thousand tenants on a busy machine.
const START_MAX: Duration = Duration::from_secs(300);
/// Longest time in which memory comes to rest.
const REST_MAX: Duration = Duration::from_secs(5);

/// A running sidecar.
pub(crate) struct Sidecar {
    child: Child,
    folder: TempDir,
    started: Instant,
    /// How long it took to be ready.
    ready: Duration,
}

impl Sidecar {
    /// Starts `program` over these files of documents, each with its name, and waits until it serves them.
    pub(crate) fn start(program: &Path, documents: &[(&str, &str)]) -> Result<Self, Error> {
        let folder = tempfile::tempdir().map_err(unusable("a temporary folder"))?;
        let texts = folder.path().join("documents");
        let write = |(name, text): &(&str, &str)| fs::write(texts.join(name), text);
        let written = fs::create_dir(&texts).and_then(|()| documents.iter().try_for_each(write));
        written.map_err(unusable("a temporary folder"))?;
        let log = fs::File::create(log_in(folder.path())).map_err(unusable("a temporary folder"))?;
        let mut command = Command::new(program);
        command.arg("--documents").arg(&texts).arg("--data-dir").arg(folder.path().join("data"));
        command.args(["--workers", "1", "--probe-address", "127.0.0.1:0", "--access-log", "off"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(log));
        let started = Instant::now();
        let child = command.spawn().map_err(unusable(program.display()))?;
        let mut sidecar = Self { child, folder, started, ready: Duration::ZERO };
        sidecar.wait_until("it listens", |sidecar| sidecar.address().is_some())?;
        sidecar.wait_until("it is ready", |sidecar| sidecar.probes().is_some_and(is_ready))?;
        sidecar.ready = sidecar.started.elapsed();
        Ok(sidecar)
    }

    /// How long it took from its start until it was ready.
    pub(crate) fn ready(&self) -> Duration {
        self.ready
    }

    /// How long it took from the documents read to their policy served, as it says itself.
    pub(crate) fn live(&self) -> Result<Duration, Error> {
        let log = fs::read_to_string(log_in(self.folder.path())).map_err(unusable("the sidecar's log"))?;
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut took = lines.filter(|line| line.get("message").is_some_and(|message| message == "policy is live"));
        let first = took.next().and_then(|line| line.get("latency_ms")?.as_f64());
        let absent = || Error::Unusable { what: "the sidecar's log".to_owned(), why: "it does not say that policy is live".to_owned() };
        first.map(|ms| Duration::from_secs_f64(ms / 1e3)).ok_or_else(absent)
    }

    /// CPU time of all its threads so far.
    pub(crate) fn cpu(&self) -> Result<Duration, Error> {
        let file = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&file).map_err(unusable(&file))?;
        // Behind the name of the program, which may hold anything: user and system time are fields 14 and 15 (proc(5)).
        let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace().skip(11);
        let ticks: u64 = fields.take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second().max(1)))
    }

    /// Where requests go in.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.addresses()?.pointer("/listeners/0/address")?.as_str()?.parse().ok()
    }

    /// Resident memory once it has come to rest, in bytes.
    pub(crate) fn resident(&self) -> Result<u64, Error> {
        self.at_rest("VmRSS:")
    }

    /// What of it is no file's, once it has come to rest, in bytes.
    pub(crate) fn anonymous(&self) -> Result<u64, Error> {
        self.at_rest("RssAnon:")
    }

    /// The most that was ever resident, in bytes.
    pub(crate) fn highest(&self) -> Result<u64, Error> {
        self.memory("VmHWM:")
    }

    fn at_rest(&self, field: &str) -> Result<u64, Error> {
        let until = Instant::now() + REST_MAX;
        let mut before = self.memory(field)?;
        loop {
            thread::sleep(Duration::from_millis(500));
            let now = self.memory(field)?;
            if now == before || Instant::now() > until {
                return Ok(now);
            }
            before = now;
        }
    }

    fn memory(&self, field: &str) -> Result<u64, Error> {
        let file = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&file).map_err(unusable(&file))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.map(|kib| kib << 10).ok_or_else(|| Error::Unusable { what: file, why: "the sidecar ended".to_owned() })
    }

    fn addresses(&self) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.folder.path().join("data/addresses.json")).ok()?).ok()
    }

    fn probes(&self) -> Option<SocketAddr> {
        self.addresses()?.get("probes")?.as_str()?.parse().ok()
    }

    fn wait_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<(), Error> {
        let until = Instant::now() + START_MAX;
        while !holds(self) {
            let ended = self.child.try_wait().map_err(unusable("the sidecar"))?;
            if let Some(status) = ended {
                return Err(Error::Unusable { what: "the sidecar".to_owned(), why: format!("it ended with {status} before {what}") });
            }
            if Instant::now() > until {
                return Err(Error::Unusable { what: "the sidecar".to_owned(), why: format!("not within {START_MAX:?}: {what}") });
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It is measured, not drained; whether it had ended already makes no difference.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_in(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// The sidecar to measure: the one that is named, else one built from `repo`, where this program comes from by default.
pub(crate) fn sidecar_under_test(named: Option<&Path>, repo: Option<&Path>, as_it_is: bool) -> Result<PathBuf, Error> {
    match named {
        Some(file) if file.is_file() => Ok(file.to_owned()),
        Some(file) => Err(Error::Absent { what: file.display().to_string(), brings: "leave out --sidecar to have it built" }),
        None => {
            let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
            built_sidecar(&mut Steps::new()?, repo.unwrap_or(built_from.parent().unwrap_or(built_from)), as_it_is)
        }
    }
}

fn is_ready(probes: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(probes)?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut start = [0; 12];
        stream.read_exact(&mut start).map(|()| start)
    };
    ask().is_ok_and(|start: [u8; 12]| start.ends_with(b" 200"))
}

/// A service that answers every request with two bytes. Ends with this process.
pub(crate) fn service() -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(unusable("a free port"))?;
    let address = listener.local_addr().map_err(unusable("a free port"))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    Ok(address)
}

/// Requests come one by one here, without a body: each ends with an empty line, and nothing is behind it.
fn answer(mut stream: TcpStream) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4_096]);
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        read.extend_from_slice(buffer.get(..length).unwrap_or_default());
        if read.ends_with(b"\r\n\r\n") {
            read.clear();
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    }
}

/// What cannot be used, and why.
pub(crate) fn unusable(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Error {
    move |cause| Error::Unusable { what: what.to_string(), why: cause.to_string() }
}
