//! An HTTP/1.1 client that sends exactly the bytes it is given and reads one answer at a time.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Answer {
    /// Value of the first field of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("not JSON ({why}): {}", self.text()))
    }

    /// The problem's `code`, or nothing for an answer that is no problem.
    pub fn code(&self) -> Option<String> {
        let kind = self.header("content-type")?;
        kind.starts_with("application/problem+json").then(|| self.json()["code"].as_str().expect("a problem has a code").to_owned())
    }

    /// Status and code in one text: `200`, `403 not_permitted`.
    pub fn verdict(&self) -> String {
        match self.code() {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }
}

/// Makes requests to one address, a connection for each; fields are added to every request.
#[derive(Debug, Clone)]
pub struct Client {
    to: SocketAddr,
    from: Option<IpAddr>,
    host: String,
    fields: Vec<(String, String)>,
}

impl Client {
    /// A client for `to` that says `Host: host`.
    pub fn new(to: SocketAddr, host: &str) -> Self {
        Self { to, from: None, host: host.to_owned(), fields: Vec::new() }
    }

    /// Comes from another loopback address.
    #[must_use]
    pub fn from(mut self, source: IpAddr) -> Self {
        self.from = Some(source);
        self
    }

    /// Adds a header field.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds `Authorization: Bearer …`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    /// One GET.
    pub fn get(&self, target: &str) -> Answer {
        self.send("GET", target, b"")
    }

    /// One request on a connection of its own.
    pub fn send(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        self.connect().send(method, target, body)
    }

    /// A connection that is kept open.
    pub fn connect(&self) -> Connection {
        let stream = match self.from {
            None => TcpStream::connect(self.to),
            Some(source) => from(source, self.to),
        };
        let stream = stream.unwrap_or_else(|why| panic!("connecting to {}: {why}", self.to));
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        Connection { stream, buffer: Vec::new(), client: self.clone() }
    }
}

/// Connects from a given loopback address (std cannot bind before it connects; the runtime's socket can).
fn from(source: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source, 0))?;
        socket.connect(to).await
    })?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// A kept connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    client: Client,
}

impl Connection {
    /// One request and its answer.
    pub fn send(&mut self, method: &str, target: &str, body: &[u8]) -> Answer {
        self.try_send(method, target, body).unwrap_or_else(|why| panic!("{method} {target}: {why}"))
    }

    /// One request and its answer, or what broke.
    ///
    /// # Errors
    /// The connection was closed or reset, or nothing came.
    pub fn try_send(&mut self, method: &str, target: &str, body: &[u8]) -> std::io::Result<Answer> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n", self.client.host);
        for (name, value) in &self.client.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.write_all(&bytes)?;
        self.read(method == "HEAD")
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads the next answer, interim ones skipped.
    ///
    /// # Errors
    /// The connection was closed or reset, or nothing came.
    pub fn read(&mut self, no_body: bool) -> std::io::Result<Answer> {
        loop {
            let answer = exchange::read(&mut self.stream, &mut self.buffer, no_body)?;
            if answer.status >= 200 || answer.status == 101 {
                return Ok(answer);
            }
        }
    }

    /// The socket itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether the peer has closed: an end or a reset, not silence.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0; 1];
        match self.stream.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(why) => !matches!(why.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
        }
    }
}

/// Reading answers from any stream.
pub mod exchange {
    use super::Answer;
    use std::io::{Error, ErrorKind, Read, Write};

    /// One request over any stream, which the server closes or keeps.
    ///
    /// # Errors
    /// The stream is gone, or what came is no HTTP.
    pub fn once(mut stream: impl Read + Write, request: &str) -> std::io::Result<Answer> {
        stream.write_all(request.as_bytes())?;
        read(&mut stream, &mut Vec::new(), false)
    }

    /// One answer; what was read beyond it stays in `buffer`.
    ///
    /// # Errors
    /// The stream is gone, or what came is no HTTP.
    pub fn read(stream: &mut impl Read, buffer: &mut Vec<u8>, no_body: bool) -> std::io::Result<Answer> {
        let end = until(stream, buffer, |seen| find(seen, b"\r\n\r\n").map(|at| at + 4))?;
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let status: u16 = status.ok_or_else(|| Error::new(ErrorKind::InvalidData, head.clone()))?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let body = if no_body || status < 200 || status == 204 || status == 304 {
            Vec::new()
        } else if header("transfer-encoding") == Some("chunked") {
            chunked(stream, buffer)?
        } else if let Some(length) = header("content-length") {
            let length = length.parse().map_err(|_| Error::new(ErrorKind::InvalidData, head.clone()))?;
            until(stream, buffer, |seen| (seen.len() >= length).then_some(length))?;
            buffer.drain(..length).collect()
        } else {
            stream.read_to_end(buffer)?;
            std::mem::take(buffer)
        };
        Ok(Answer { status, headers, body })
    }

    fn chunked(stream: &mut impl Read, buffer: &mut Vec<u8>) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = until(stream, buffer, |seen| find(seen, b"\r\n").map(|at| at + 2))?;
            let line: Vec<u8> = buffer.drain(..end).collect();
            let size = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(size.trim().split(';').next().unwrap_or_default(), 16)
                .map_err(|_| Error::new(ErrorKind::InvalidData, "a chunk size"))?;
            if size == 0 {
                // Trailer section, up to its empty line.
                loop {
                    let end = until(stream, buffer, |seen| find(seen, b"\r\n").map(|at| at + 2))?;
                    if buffer.drain(..end).count() == 2 {
                        return Ok(body);
                    }
                }
            }
            until(stream, buffer, |seen| (seen.len() >= size + 2).then_some(size + 2))?;
            body.extend(buffer.drain(..size));
            buffer.drain(..2);
        }
    }

    /// Reads until `found` says how far.
    fn until(stream: &mut impl Read, buffer: &mut Vec<u8>, found: impl Fn(&[u8]) -> Option<usize>) -> std::io::Result<usize> {
        let mut chunk = [0; 16 << 10];
        loop {
            if let Some(end) = found(buffer) {
                return Ok(end);
            }
            let read = stream.read(&mut chunk)?;
            if read == 0 {
                let seen = String::from_utf8_lossy(buffer).into_owned();
                return Err(Error::new(ErrorKind::UnexpectedEof, format!("closed after {} bytes: {seen:.200}", buffer.len())));
            }
            buffer.extend_from_slice(&chunk[..read]);
        }
    }

    fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
        bytes.windows(what.len()).position(|window| window == what)
    }
}
