//! `bulkhead-bench load` as its user meets it, before servers that misbehave in one way each.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod beside;
mod compared;
mod http1;
mod http2;
mod limits;
mod many;
mod peer;
mod percentiles;
mod view;

use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// What a server does with the n-th request of a tenant.
type Answers = dyn Fn(u64, &str) -> String + Send + Sync;

/// A server that counts its connections and requests.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
}

/// Starts a server whose answers are what `answers` makes of a request's number and its tenant, which header `x-for` names.
fn server(answers: impl Fn(u64, &str) -> String + Send + Sync + 'static) -> Server {
    let answers: Arc<Answers> = Arc::new(answers);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server { address: listener.local_addr().unwrap(), connections: Arc::default(), requests: Arc::default() };
    let (connections, requests) = (Arc::clone(&server.connections), Arc::clone(&server.requests));
    thread::spawn(move || {
        for stream in listener.incoming() {
            connections.fetch_add(1, Ordering::SeqCst);
            let (answers, requests) = (Arc::clone(&answers), Arc::clone(&requests));
            thread::spawn(move || serve(stream.unwrap(), &*answers, &requests));
        }
    });
    server
}

fn serve(mut stream: TcpStream, answers: &Answers, requests: &AtomicU64) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4_096]);
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        read.extend_from_slice(&buffer[..length]);
        if read.ends_with(b"\r\n\r\n") {
            let text = String::from_utf8(std::mem::take(&mut read)).unwrap();
            let tenant = text.lines().find_map(|line| line.strip_prefix("x-for: ")).unwrap_or("-");
            let answer = answers(requests.fetch_add(1, Ordering::SeqCst), tenant);
            // An empty answer is a server that hangs up.
            if answer.is_empty() || stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn says(tenant: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nx-tenant: {tenant}\r\ncontent-length: 2\r\n\r\nok")
}

struct Run {
    output: Output,
    result: Value,
}

impl Run {
    fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned() + &String::from_utf8_lossy(&self.output.stderr)
    }

    fn number(&self, at: &str) -> f64 {
        self.result.pointer(at).and_then(Value::as_f64).unwrap_or(0.0)
    }
}

fn load(address: SocketAddr, arguments: &[&str]) -> Run {
    load_url(&format!("http://{address}/"), arguments)
}

fn load_url(url: &str, arguments: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("result.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-bench"));
    command.arg("load").arg(url).arg("--output").arg(&file).args(["--header", "x-for: {tenant}"]);
    let output = command.args(arguments).output().unwrap();
    let result = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    Run { output, result }
}

/// A run of at most a minute that ends by its count.
const COUNTED: [&str; 4] = ["--duration", "60s", "--requests", "1000"];
