//! The server of an issuer: publishes a key set over HTTP or HTTPS, and fails in the ways such servers do.

use crate::pki::{Certified, Pki};
use rustls::{ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// How it behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mood {
    /// Answers with what is published, or 304.
    Well,
    /// Closes every connection without a word.
    Dead,
    /// Says nothing until the peer closes.
    Silent,
    /// Answers these bytes, and closes.
    Says(Vec<u8>),
}

struct Shared {
    set: String,
    version: u32,
    fields: String,
    mood: Mood,
    heads: Vec<String>,
}

/// A running server.
pub struct KeyServer {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Mutex<Shared>>,
}

impl KeyServer {
    /// Over HTTP. Nothing is published yet.
    pub fn start() -> Self {
        Self::listening("http", |stream, shared| serve(stream, &shared))
    }

    /// Over HTTPS, with this certificate.
    pub fn over_tls(certified: &Certified) -> Self {
        let config = Arc::new(Pki::server(certified));
        Self::listening("https", move |stream, shared| {
            let session = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(session, stream);
            let served = serve(&mut stream, &shared);
            stream.conn.send_close_notify();
            let _ = stream.flush();
            served
        })
    }

    fn listening(scheme: &'static str, serve: impl Fn(TcpStream, Arc<Mutex<Shared>>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Shared { set: String::new(), version: 0, fields: String::new(), mood: Mood::Well, heads: Vec::new() };
        let shared = Arc::new(Mutex::new(shared));
        let (accepting, serve) = (Arc::clone(&shared), Arc::new(serve));
        // Ends with the test process: nothing is left to stop.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, serve) = (Arc::clone(&accepting), Arc::clone(&serve));
                std::thread::spawn(move || serve(stream, shared));
            }
        });
        Self { address, scheme, shared }
    }

    /// Where the set is.
    pub fn url(&self) -> String {
        format!("{}://localhost:{}/jwks.json", self.scheme, self.address.port())
    }

    /// Publishes this set from now on.
    pub fn publish(&self, set: String) {
        let mut shared = self.shared();
        shared.set = set;
        shared.version += 1;
    }

    /// Adds this field to its good answers from now on.
    pub fn with_field(&self, name: &str, value: &str) {
        self.shared().fields.push_str(&format!("{name}: {value}\r\n"));
    }

    /// Behaves so from now on.
    pub fn becomes(&self, mood: Mood) {
        self.shared().mood = mood;
    }

    /// Heads of the requests it was sent so far.
    pub fn asked(&self) -> Vec<String> {
        self.shared().heads.clone()
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().expect("no panic while it is held")
    }
}

fn serve(mut stream: impl Read + Write, shared: &Mutex<Shared>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let answer = {
        let mut shared = shared.lock().expect("no panic while it is held");
        let etag = format!("\"v{}\"", shared.version);
        let knows = head.to_lowercase().contains(&format!("if-none-match: {etag}\r\n"));
        shared.heads.push(head);
        let fields = format!("etag: {etag}\r\n{}connection: close\r\n\r\n", shared.fields);
        match &shared.mood {
            Mood::Well if knows => format!("HTTP/1.1 304 Not Modified\r\n{fields}").into_bytes(),
            Mood::Well => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{fields}{}", shared.set.len(), shared.set).into_bytes(),
            Mood::Says(bytes) => bytes.clone(),
            Mood::Dead => return Ok(()),
            Mood::Silent => Vec::new(),
        }
    };
    if answer.is_empty() {
        let mut rest = [0; 1024];
        while stream.read(&mut rest).is_ok_and(|read| read > 0) {}
        return Ok(());
    }
    stream.write_all(&answer)?;
    stream.flush()
}
