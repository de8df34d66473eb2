//! A bulkhead that runs, and a client that asks it.

use super::{Home, Said};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for what takes moments: a loaded machine passes, a hang fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// `bulkhead up`, on ports of its own.
pub(crate) struct Up<'a> {
    pub(crate) home: &'a Home,
    /// What it said once it was ready.
    pub(crate) told: Value,
    child: Process,
}

/// A process that ends with the test, whatever becomes of that.
pub(crate) struct Process(pub(crate) Child);

impl<'a> Up<'a> {
    pub(crate) fn start(home: &'a Home, args: &[&str]) -> Self {
        Self::by(home, up(home, args))
    }

    /// Starts it by a command of [`up`].
    pub(crate) fn by(home: &'a Home, mut command: Command) -> Self {
        let mut child = Process(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let stdout = child.0.stdout.as_mut().unwrap();
        let told = serde_json::Deserializer::from_reader(stdout).into_iter().next();
        match told {
            Some(told) => Self { home, told: told.unwrap(), child },
            None => panic!("it did not start: {:?}", child.end("-TERM")),
        }
    }

    /// Where the demo is served.
    pub(crate) fn address(&self) -> SocketAddr {
        self.told["listeners"][0]["address"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn get(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        ask(self.address(), "GET", host, path, headers)
    }

    /// A header with a token of the demo's issuer.
    pub(crate) fn bearer(&self, tenant: &str, role: &str) -> String {
        let said = self.home.bulkhead(&["token", "--tenant", tenant, "--role", role]);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""));
        format!("Bearer {}", said.stdout.trim_end())
    }

    /// Sends a signal, and waits for the end.
    pub(crate) fn end(mut self, signal: &str) -> Said {
        self.child.end(signal)
    }
}

impl Process {
    /// Sends a signal, and waits for the end.
    pub(crate) fn end(&mut self, signal: &str) -> Said {
        let _ = Command::new("kill").args([signal, &self.0.id().to_string()]).stderr(Stdio::null()).status().unwrap();
        let mut said = Said { code: 0, stdout: String::new(), stderr: String::new() };
        said.code = self.0.wait().unwrap().code().expect("it exits and is not killed");
        let streams = (self.0.stdout.take(), self.0.stderr.take());
        streams.0.map(|mut stdout| stdout.read_to_string(&mut said.stdout).unwrap());
        streams.1.map(|mut stderr| stderr.read_to_string(&mut said.stderr).unwrap());
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, or the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The command that starts one on free ports.
pub(crate) fn up(home: &Home, args: &[&str]) -> Command {
    let ports = ["up", "--output", "json", "--listen", "127.0.0.1:0", "--probe-address", "127.0.0.1:0", "--api-address", "127.0.0.1:0"];
    home.command(&[&ports, args].concat())
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub(crate) fn ask(address: SocketAddr, method: &str, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, body: body.to_owned() }
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
