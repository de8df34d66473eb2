//! Parts of the tests: a sidecar over documents of its own, an upstream that does what it is told, a client of raw bytes.

use bulkhead_config::settings::Environment;
use bulkhead_sidecar::policy::Folder;
use bulkhead_sidecar::policy::settings_watch::SettingsSource;
use bulkhead_sidecar::request::upstream::resolve::Lookup;
use bulkhead_sidecar::telemetry::spool::Sink;
use bulkhead_sidecar::{Running, Settings};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Nothing here waits longer: a test that would is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// A key of tenant `acme`, whose role `reader` may GET and POST everything.
pub(crate) const KEY: &str = "bk1.acme.ci.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A sidecar in this process.
pub(crate) struct World {
    pub(crate) sidecar: Running,
    pub(crate) documents: TempDir,
    pub(crate) data: TempDir,
}

impl World {
    /// A sidecar in front of `upstreams`, with `more` documents and settings of its upstream (lines of YAML).
    pub(crate) async fn start(upstreams: &[SocketAddr], upstream_settings: &str, more: &str) -> Self {
        Self::with_workers(1, upstreams, upstream_settings, more).await
    }

    pub(crate) async fn with_workers(workers: u16, upstreams: &[SocketAddr], upstream_settings: &str, more: &str) -> Self {
        let (documents, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(documents.path().join("all.yaml"), Self::text(upstreams, upstream_settings, more)).unwrap();
        let sidecar = Self::serve(workers, &documents, &data).await;
        Self { sidecar, documents, data }
    }

    /// A sidecar with these documents.
    pub(crate) async fn with_documents(text: &str) -> Self {
        let (documents, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(documents.path().join("all.yaml"), text).unwrap();
        let sidecar = Self::serve(1, &documents, &data).await;
        Self { sidecar, documents, data }
    }

    /// A sidecar in front of an upstream over TLS whose certificate `roots` (PEM) signed.
    pub(crate) async fn over_tls(upstream: SocketAddr, roots: &str, upstream_settings: &str) -> Self {
        let (documents, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(documents.path().join("roots.pem"), roots).unwrap();
        let text = Self::text(&[upstream], &format!("tls: {{ roots: {{ file: roots.pem }} }}\n{upstream_settings}"), "");
        std::fs::write(documents.path().join("all.yaml"), text.replace("[\"http://", "[\"https://")).unwrap();
        let sidecar = Self::serve(1, &documents, &data).await;
        Self { sidecar, documents, data }
    }

    /// A sidecar in front of endpoints by name, which `lookup` resolves.
    pub(crate) async fn resolving(lookup: Lookup, endpoints: &[String], upstream_settings: &str) -> Self {
        let (documents, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(documents.path().join("all.yaml"), Self::text(endpoints, upstream_settings, "")).unwrap();
        let mut settings = Self::settings(2, &data);
        settings.lookup = lookup;
        let sidecar = bulkhead_sidecar::start(settings, Folder::watch(documents.path()).unwrap()).await.unwrap();
        Self { sidecar, documents, data }
    }

    async fn serve(workers: u16, documents: &TempDir, data: &TempDir) -> Running {
        let source = Folder::watch(documents.path()).unwrap();
        bulkhead_sidecar::start(Self::settings(workers, data), source).await.unwrap()
    }

    pub(crate) fn settings(workers: u16, data: &TempDir) -> Settings {
        let source = SettingsSource {
            environment: Environment::Dev,
            file: None,
            variables: BTreeMap::new(),
            flags: vec![format!("core.sidecar.workers={workers}")],
        };
        let mut settings = Settings::load(data.path().to_owned(), source).unwrap();
        settings.probe_address = "127.0.0.1:0".parse().unwrap();
        settings.access_log = Some(Sink::File(data.path().join("access.jsonl")));
        settings.log = Sink::File(data.path().join("log.jsonl"));
        settings
    }

    /// The documents: tenant `acme` at host `acme.test`, a public route below `/public`, everything else behind a key.
    pub(crate) fn text(upstreams: &[impl Display], upstream_settings: &str, more: &str) -> String {
        let endpoints: Vec<String> = upstreams.iter().map(|address| format!("\"http://{address}\"")).collect();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, KEY.as_bytes());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let settings: String = upstream_settings.lines().map(|line| format!("    {line}\n")).collect();
        format!(
            "kind: Plan\nname: free\ndefault: true\n---\n\
             tenant_id: acme\nname: Acme\nemail: a@acme.test\nhosts: [acme.test]\n---\n\
             kind: Service\nname: demo\nshared_hosts: [shared.test]\n\
             listeners:\n  - {{ name: http, address: \"127.0.0.1:0\" }}\n\
             upstreams:\n  - name: app\n    endpoints: [{}]\n{settings}\
             routes:\n  - {{ name: public, path: \"/public/**\", access: public }}\n  - {{ name: all, path: \"/**\" }}\n---\n\
             kind: Identity\nname: keys\napi_key_header: x-api-key\n---\n\
             kind: Identity\ntenant: acme\nname: machines\napi_keys:\n  - {{ id: ci, sha256: {hash} }}\n---\n\
             kind: Role\nname: reader\nallow: [\"GET,POST /**\"]\n---\n\
             kind: RoleBinding\ntenant: acme\nname: ci\nrole: reader\nsubjects: [{{ api_key: ci }}]\n{more}",
            endpoints.join(", "),
        )
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.sidecar.addresses().listeners.first().unwrap().1
    }

    pub(crate) async fn client(&self) -> Client {
        Client::to(self.address()).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, head: &str) -> Answer {
        let mut client = self.client().await;
        client.send(head).await;
        client.answer().await
    }

    /// What `/metrics` says.
    pub(crate) async fn metrics(&self) -> String {
        let mut client = Client::to(self.sidecar.addresses().probes).await;
        client.send("GET /metrics HTTP/1.1\nHost: localhost\n\n").await;
        client.answer().await.body
    }

    /// Lines of a log that hold all these words, once there is one.
    pub(crate) async fn log_with(&self, file: &str, words: &[&str]) -> String {
        within(async {
            loop {
                let text = std::fs::read_to_string(self.data.path().join(file)).unwrap_or_default();
                if let Some(line) = text.lines().find(|line| words.iter().all(|word| line.contains(word))) {
                    return line.to_owned();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

/// The future's output; a test that waits too long fails.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

/// An upstream: every connection is given to `serve`.
pub(crate) async fn upstream<F: Future<Output = ()> + Send + 'static>(serve: impl Fn(Client) -> F + Send + 'static) -> SocketAddr {
    upstream_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), serve)
}

/// The same, behind a socket that listens already.
pub(crate) fn upstream_on<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(Client) -> F + Send + 'static,
) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(Client { stream, read: Vec::new() }));
        }
    });
    address
}

/// An upstream that answers every request with its own head as the body.
pub(crate) async fn echo() -> SocketAddr {
    upstream(|mut connection| async move {
        while let Some(head) = connection.head().await {
            let body = connection.body_of(&head).await;
            let text = format!("{head}{body}");
            connection.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())).await;
        }
    })
    .await
}

/// An address that refuses connections: nobody listens there any more.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// One end of a connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The `code` of a problem.
    pub(crate) fn code(&self) -> String {
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        problem.get("code").unwrap().as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), read: Vec::new() }
    }

    /// Sends lines that end in `\n` as HTTP has them; what follows an empty line goes as it is.
    pub(crate) async fn send(&mut self, text: &str) {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let raw = if text.contains('\r') { text.to_owned() } else { format!("{}\r\n\r\n{body}", head.replace('\n', "\r\n")) };
        // A peer that has gone is noticed by whoever reads.
        let _ = self.stream.write_all(raw.as_bytes()).await;
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Reads on; `false` at the end.
    async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 16 << 10];
        let length = within(self.stream.read(&mut buffer)).await.unwrap_or(0);
        self.read.extend_from_slice(buffer.get(..length).unwrap());
        length > 0
    }

    /// Whether the peer ends the connection without another byte.
    pub(crate) async fn ends(&mut self) -> bool {
        self.read.is_empty() && !self.more().await
    }

    /// A head with its empty line; nothing if the peer ends the connection first.
    pub(crate) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.read.split_off(end + 4);
                return Some(String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The body that belongs to a head.
    pub(crate) async fn body_of(&mut self, head: &str) -> String {
        let field = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        if field("transfer-encoding").is_some() {
            return self.chunks().await;
        }
        let length = field("content-length").map_or(0, |length| length.parse().unwrap());
        String::from_utf8_lossy(&self.bytes(length).await).into_owned()
    }

    /// Chunks, decoded, with their trailers.
    async fn chunks(&mut self) -> String {
        let mut body = String::new();
        loop {
            let line = self.line().await;
            let length = usize::from_str_radix(line.trim(), 16).unwrap();
            if length == 0 {
                loop {
                    let trailer = self.line().await;
                    if trailer == "\r\n" {
                        return body;
                    }
                    body.push_str(&trailer);
                }
            }
            body.push_str(&String::from_utf8(self.bytes(length).await).unwrap());
            self.line().await;
        }
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let rest = self.read.split_off(end + 1);
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            assert!(self.more().await, "the connection ended within a line");
        }
    }

    /// So many bytes, or as many as come.
    pub(crate) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length && self.more().await {}
        let rest = self.read.split_off(length.min(self.read.len()));
        std::mem::replace(&mut self.read, rest)
    }

    /// The next response.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    pub(crate) async fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.head().await.unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let has_body = method != "HEAD" && status != 204 && status >= 200;
        let body = if has_body { self.body_of(&head).await } else { String::new() };
        Answer { status, head, body }
    }
}

/// A client of HTTP/2 at the sidecar's listener.
pub(crate) async fn http2_client(to: SocketAddr) -> h2::client::SendRequest<bytes::Bytes> {
    let (sender, connection) = within(h2::client::handshake(TcpStream::connect(to).await.unwrap())).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

/// An upstream of HTTP/2: every connection is given to `serve`, with its number.
pub(crate) async fn http2_upstream<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(usize, TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            tokio::spawn(serve(number, stream));
        }
    });
    address
}

/// Answers every request of a connection with its body.
pub(crate) async fn http2_echo(stream: TcpStream) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let mut body = request.into_body();
            let mut send = respond.send_response(http::Response::new(()), false).unwrap();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                send.send_data(data, false).unwrap();
            }
            let _ = send.send_data(bytes::Bytes::new(), true);
        });
    }
}

/// All data of a body.
pub(crate) async fn whole(body: &mut h2::RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(data) = within(body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    all
}
