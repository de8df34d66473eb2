//! An origin: the service behind the sidecar. Records the exact bytes of every request and answers as it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// Request line and header section, byte for byte.
    pub head: String,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Received {
    /// Method of the request line.
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    /// Target of the request line.
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// Value of the first field of that name.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers(name).into_iter().next()
    }

    /// Values of every field of that name.
    pub fn headers(&self, name: &str) -> Vec<String> {
        self.head
            .split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .collect()
    }
}

/// What the origin does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Answers 200 with these fields and this body.
    Ok(Vec<(String, String)>, Vec<u8>),
    /// Writes these bytes and keeps the connection.
    Raw(Vec<u8>),
    /// Writes these bytes and closes.
    RawThenClose(Vec<u8>),
    /// Closes without a word.
    Close,
    /// Says nothing until the peer closes.
    Hang,
}

type Behaviour = Box<dyn Fn(&Received) -> Reply + Send + Sync>;

struct Shared {
    behaviour: Behaviour,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
}

/// A running origin.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Origin {
    /// Answers 200 with a JSON body that names tenant, user and target.
    pub fn start() -> Self {
        Self::with(|request| {
            let body = serde_json::json!({
                "target": request.target(),
                "tenant": request.header("x-bulkhead-tenant"),
                "user": request.header("x-bulkhead-user"),
            });
            Reply::Ok(vec![("content-type".into(), "application/json".into())], body.to_string().into_bytes())
        })
    }

    /// Answers by `behaviour`.
    pub fn with(behaviour: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::listening(Box::new(behaviour), serve)
    }

    /// Gives each connection to `speak`, which records nothing here.
    pub fn speaking(speak: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::listening(Box::new(|_| Reply::Close), move |_, stream| speak(stream))
    }

    fn listening(behaviour: Behaviour, serve: impl Fn(&Shared, TcpStream) + Send + Sync + 'static) -> Self {
        let serve = Arc::new(serve);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { behaviour, received: Mutex::default(), connections: AtomicUsize::new(0) });
        let accepting = Arc::clone(&shared);
        // Ends with the test process: nothing is left to stop.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                accepting.connections.fetch_add(1, Ordering::Relaxed);
                let (shared, serve) = (Arc::clone(&accepting), Arc::clone(&serve));
                std::thread::spawn(move || serve(&shared, stream));
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything it has received so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().expect("no panic while recording").clone()
    }

    /// The newest request.
    pub fn last(&self) -> Received {
        self.received().pop().expect("the origin has received something")
    }

    /// Connections it has accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

fn serve(shared: &Shared, mut stream: TcpStream) {
    let mut buffer = Vec::new();
    let _ = stream.set_nodelay(true);
    while let Some(request) = receive(&mut stream, &mut buffer) {
        shared.received.lock().expect("no panic while recording").push(request.clone());
        let done = match (shared.behaviour)(&request) {
            Reply::Ok(fields, body) => {
                let mut bytes = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", body.len()).into_bytes();
                for (name, value) in fields {
                    bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
                }
                bytes.extend_from_slice(b"\r\n");
                if request.method() != "HEAD" {
                    bytes.extend_from_slice(&body);
                }
                stream.write_all(&bytes).is_err()
            }
            Reply::Raw(bytes) => stream.write_all(&bytes).is_err(),
            Reply::RawThenClose(bytes) => {
                let _ = stream.write_all(&bytes);
                true
            }
            Reply::Close => true,
            Reply::Hang => {
                let mut rest = [0; 1024];
                while stream.read(&mut rest).is_ok_and(|read| read > 0) {}
                true
            }
        };
        if done {
            return;
        }
    }
}

/// Reads one request, or nothing when the peer has closed.
fn receive(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, buffer)?;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end);
    let mut request = Received { head, body: Vec::new() };
    if request.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if request.header("transfer-encoding").is_some() {
        loop {
            let line = take_line(stream, buffer)?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).ok()?;
            if size == 0 {
                while !take_line(stream, buffer)?.is_empty() {}
                break;
            }
            while buffer.len() < size + 2 {
                more(stream, buffer)?;
            }
            request.body.extend(buffer.drain(..size));
            buffer.drain(..2);
        }
    } else if let Some(length) = request.header("content-length") {
        let length: usize = length.parse().ok()?;
        while buffer.len() < length {
            more(stream, buffer)?;
        }
        request.body.extend(buffer.drain(..length));
    }
    Some(request)
}

fn take_line(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(at) = buffer.windows(2).position(|window| window == b"\r\n") {
            let line: Vec<u8> = buffer.drain(..at + 2).collect();
            return Some(String::from_utf8_lossy(&line[..at]).into_owned());
        }
        more(stream, buffer)?;
    }
}

fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 16 << 10];
    let read = stream.read(&mut chunk).ok().filter(|&read| read > 0)?;
    buffer.extend_from_slice(&chunk[..read]);
    Some(())
}
