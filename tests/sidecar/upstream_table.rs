//! Every way in which a service fails, as a table: what the client is told, which step is counted, how often it was tried, and that
//! the service is used again once it is well. Names that nobody resolves have their own in the sidecar's `tests/path/endpoints.rs`.

use bulkhead_tests::{Answer, Origin, Pki, World, eventually};
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One way to fail.
struct Row {
    name: &'static str,
    protocol: &'static str,
    /// Every one is ill at first.
    services: Vec<Service>,
    request: Request,
    /// What the client gets.
    meets: Meets,
    /// Step at which it fails, as it is counted; none where somebody else serves.
    step: Option<&'static str>,
    /// How often it is sent again, and why.
    retries: (&'static str, usize),
}

#[derive(Clone, Copy)]
enum Request {
    Get,
    /// More than any buffer holds.
    Upload,
}

#[derive(Clone, Copy)]
enum Meets {
    /// A problem of this status and code, with this error in `Proxy-Status`.
    Refusal(&'static str, &'static str),
    /// An answer that breaks off.
    Cut,
    Answer,
}

/// A service that can be cured.
struct Service {
    socket: Option<OwnedFd>,
    address: SocketAddr,
    scheme: &'static str,
    is_ill: Arc<AtomicBool>,
    ill: Arc<Behaviour>,
    well: Arc<Behaviour>,
    /// Connections that fill its queue.
    fillers: Vec<TcpStream>,
}

type Behaviour = dyn Fn(TcpStream) + Send + Sync;

impl Service {
    /// A socket that is bound and refuses connections: nobody else can take its port meanwhile.
    fn refusing() -> Self {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = getsockname(&socket).unwrap().try_into().unwrap();
        let is_ill = Arc::new(AtomicBool::new(true));
        let (ill, well): (Arc<Behaviour>, Arc<Behaviour>) = (Arc::new(|_| {}), Arc::new(serve));
        Self { socket: Some(socket), address, scheme: "http", is_ill, ill, well, fillers: Vec::new() }
    }

    /// Its queue is full: who wants to connect hears nothing.
    fn full() -> Self {
        let mut service = Self::refusing();
        listen(service.socket.as_ref().unwrap(), 0).unwrap();
        while let Ok(filler) = TcpStream::connect_timeout(&service.address, Duration::from_millis(100)) {
            service.fillers.push(filler);
        }
        service
    }

    /// It takes connections, and does this with them.
    fn that(ill: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let mut service = Self::refusing();
        service.ill = Arc::new(ill);
        service.accept();
        service
    }

    /// Likewise, over TLS once it is well.
    fn tls(certificate: ServerConfig, ill: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let (mut service, config) = (Self::refusing(), Arc::new(certificate));
        service.ill = Arc::new(ill);
        service.well = Arc::new(move |stream| serve(StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream)));
        service.scheme = "https";
        service.accept();
        service
    }

    /// The same over HTTP/2.
    fn http2(ill: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let mut service = Self::refusing();
        (service.ill, service.well) = (Arc::new(ill), Arc::new(serve_http2));
        service.accept();
        service
    }

    fn accept(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        listen(&socket, 128).unwrap();
        let listener = TcpListener::from(socket);
        let (is_ill, ill, well) = (Arc::clone(&self.is_ill), Arc::clone(&self.ill), Arc::clone(&self.well));
        // Ends with the test process: nothing is left to stop.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let behaviour = Arc::clone(if is_ill.load(Ordering::Relaxed) { &ill } else { &well });
                std::thread::spawn(move || behaviour(stream));
            }
        });
    }

    fn cure(&mut self) {
        self.is_ill.store(false, Ordering::Relaxed);
        self.fillers.clear();
        self.accept();
    }
}

/// Reads one head; `false` at the end.
fn heard(stream: &mut impl Read) -> bool {
    let (mut seen, mut byte) = (Vec::new(), [0; 1]);
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => seen.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// Answers every request.
fn serve(mut stream: impl Read + Write) {
    while heard(&mut stream) {
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell").is_err() {
            return;
        }
    }
}

/// Waits until the peer has gone.
fn until_gone(mut stream: TcpStream) {
    let mut rest = [0; 1024];
    while stream.read(&mut rest).is_ok_and(|read| read > 0) {}
}

/// Hears a request and says this much.
fn says(bytes: &'static [u8]) -> impl Fn(TcpStream) + Send + Sync {
    move |mut stream| {
        heard(&mut stream);
        let _ = stream.write_all(bytes);
    }
}

/// Says this much and stands still.
fn says_and_waits(bytes: &'static [u8]) -> impl Fn(TcpStream) + Send + Sync {
    move |mut stream| {
        heard(&mut stream);
        let _ = stream.write_all(bytes);
        until_gone(stream);
    }
}

/// Takes the beginning of a handshake for a bad request.
fn is_plain(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 1024]);
    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    until_gone(stream);
}

fn resets(mut stream: TcpStream) {
    heard(&mut stream);
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

/// A byte now and then, so that no single pause is long.
fn trickles(mut stream: TcpStream) {
    heard(&mut stream);
    for byte in b"HTTP/1.1 200 OK\r\nserver: slow slow slow slow slow slow slow slow\r\ncontent-length: 0\r\n\r\n" {
        std::thread::sleep(Duration::from_millis(50));
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
    }
}

fn takes_nothing(mut stream: TcpStream) {
    heard(&mut stream);
    std::thread::sleep(Duration::from_secs(20));
}

/// What begins every connection of HTTP/2, before the first frame.
const PREFACE_BYTES: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200` (RFC 7541 appendix A).
const OK: &[u8] = &[0x88];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Says its settings and reads the preface.
fn begun(stream: &mut TcpStream) -> bool {
    stream.write_all(&frame(SETTINGS, 0, 0, b"")).is_ok() && stream.read_exact(&mut [0; PREFACE_BYTES]).is_ok()
}

/// Reads frames up to the end of a request: its stream.
fn heard_http2(stream: &mut TcpStream) -> Option<u32> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let [high, mid, low, kind, flags, id @ ..] = head;
        stream.read_exact(&mut vec![0; u32::from_be_bytes([0, high, mid, low]) as usize]).ok()?;
        match kind {
            SETTINGS if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, b"")).ok()?,
            HEADERS | DATA if flags & END_STREAM != 0 => return Some(u32::from_be_bytes(id)),
            _ => {}
        }
    }
}

/// Answers every request over HTTP/2.
fn serve_http2(mut stream: TcpStream) {
    let mut is_open = begun(&mut stream);
    while is_open && let Some(id) = heard_http2(&mut stream) {
        let answer = [frame(HEADERS, END_HEADERS, id, OK), frame(DATA, END_STREAM, id, b"well")].concat();
        is_open = stream.write_all(&answer).is_ok();
    }
}

/// Hears a request over HTTP/2, says this much to its stream and, in good order, nothing more.
fn says_http2(said: impl Fn(u32) -> Vec<u8> + Send + Sync) -> impl Fn(TcpStream) + Send + Sync {
    says_http2_and(said, |stream| stream.shutdown(Shutdown::Write).unwrap())
}

fn says_http2_and(said: impl Fn(u32) -> Vec<u8> + Send + Sync, then: fn(&TcpStream)) -> impl Fn(TcpStream) + Send + Sync {
    move |mut stream| {
        if begun(&mut stream)
            && let Some(id) = heard_http2(&mut stream)
        {
            let _ = stream.write_all(&said(id));
            then(&stream);
            until_gone(stream);
        }
    }
}

/// RST_STREAM with this code.
fn resets_stream(code: u32) -> impl Fn(u32) -> Vec<u8> + Send + Sync {
    move |id| frame(RST_STREAM, 0, id, &code.to_be_bytes())
}

/// The beginning of an answer, and behind it this.
fn half_an_answer(end: impl Fn(u32) -> Vec<u8> + Send + Sync) -> impl Fn(u32) -> Vec<u8> + Send + Sync {
    move |id| [frame(HEADERS, END_HEADERS, id, OK), frame(DATA, 0, id, b"half"), end(id)].concat()
}

/// GOAWAY of a server that looked at no stream.
fn goes_away(code: u32) -> impl Fn(u32) -> Vec<u8> + Send + Sync {
    move |_| frame(GOAWAY, 0, 0, &[[0; 4], code.to_be_bytes()].concat())
}

fn takes_no_body(mut stream: TcpStream) {
    begun(&mut stream);
    std::thread::sleep(Duration::from_secs(20));
}

/// What can happen over HTTP/2 only, or is told from there in another way.
fn http2_rows() -> Vec<Row> {
    const INTERNAL_ERROR: u32 = 0x2;
    const REFUSED_STREAM: u32 = 0x7;
    const ENHANCE_YOUR_CALM: u32 = 0xb;
    let one = |name, service, meets, step| Row {
        name,
        protocol: "http2",
        services: vec![service],
        request: Request::Get,
        meets,
        step: Some(step),
        retries: ("reset", 0),
    };
    let broke = |error| Meets::Refusal("502 upstream_protocol", error);
    let late = |error| Meets::Refusal("504 upstream_timeout", error);
    let refused = Meets::Refusal("503 upstream_overloaded", "connection_terminated");
    let nothing = |_| Vec::new();
    let waits = |_: &TcpStream| {};
    vec![
        one("h2-closes", Service::http2(says_http2(nothing)), broke("connection_terminated"), "closed"),
        one("h2-resets", Service::http2(says_http2(resets_stream(INTERNAL_ERROR))), broke("connection_terminated"), "reset"),
        Row {
            // Nothing was done with it, so it was asked twice more.
            retries: ("reset", 2),
            ..one("h2-refuses", Service::http2(says_http2(resets_stream(REFUSED_STREAM))), refused, "refused_stream")
        },
        Row {
            retries: ("reset", 2),
            ..one("h2-goes-away", Service::http2(says_http2(goes_away(ENHANCE_YOUR_CALM))), broke("connection_terminated"), "go_away")
        },
        one(
            "h2-speaks-http1",
            Service::http2(says_and_waits(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
            broke("http_protocol_error"),
            "protocol",
        ),
        one(
            "h2-data-before-head",
            Service::http2(says_http2(|id| frame(DATA, END_STREAM, id, b"no head"))),
            broke("http_protocol_error"),
            "protocol",
        ),
        one("h2-hangs", Service::http2(says_http2_and(nothing, waits)), late("http_response_timeout"), "response_timeout"),
        one("h2-is-deaf", Service::http2(until_gone), late("http_response_timeout"), "response_timeout"),
        Row {
            request: Request::Upload,
            ..one("h2-takes-nothing", Service::http2(takes_no_body), late("connection_write_timeout"), "send_timeout")
        },
        one("h2-half-a-body", Service::http2(says_http2(half_an_answer(nothing))), Meets::Cut, "body_closed"),
        one("h2-gives-up", Service::http2(says_http2(half_an_answer(resets_stream(INTERNAL_ERROR)))), Meets::Cut, "body_reset"),
        one("h2-stops", Service::http2(says_http2_and(half_an_answer(nothing), waits)), Meets::Cut, "body_timeout"),
    ]
}

fn rows(pki: &Pki) -> Vec<Row> {
    let certificate = || Pki::server(&pki.certify(&["127.0.0.1"]));
    let strange = Arc::new(Pki::server(&Pki::new().certify(&["127.0.0.1"])));
    let is_strange = move |stream| {
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&strange)).unwrap(), stream);
        heard(&mut stream);
    };
    let (protocol, request) = ("http1", Request::Get);
    let row = |name, services, meets, step| Row { name, protocol, services, request, meets, step: Some(step), retries: ("reset", 0) };
    let one = |name, service, meets, step| row(name, vec![service], meets, step);
    let unreachable = |error| Meets::Refusal("502 upstream_unreachable", error);
    let broke = |error| Meets::Refusal("502 upstream_protocol", error);
    let late = |error| Meets::Refusal("504 upstream_timeout", error);
    let dead = Service::refusing;
    let fine = || {
        let mut service = Service::that(|_| {});
        service.cure();
        service
    };
    vec![
        one("refuses", dead(), unreachable("connection_refused"), "refused"),
        one("is-full", Service::full(), late("connection_timeout"), "connect_timeout"),
        one("has-no-tls", Service::tls(certificate(), is_plain), unreachable("tls_protocol_error"), "tls_protocol"),
        one("is-strange", Service::tls(certificate(), is_strange), unreachable("tls_certificate_error"), "tls_certificate"),
        one("hangs", Service::that(says_and_waits(b"")), late("http_response_timeout"), "response_timeout"),
        one("trickles", Service::that(trickles), late("http_response_timeout"), "response_timeout"),
        one("closes", Service::that(says(b"")), broke("connection_terminated"), "closed"),
        one("resets", Service::that(resets), broke("connection_terminated"), "closed"),
        one("half-a-head", Service::that(says(b"HTTP/1.1 200 OK\r\ncont")), broke("http_response_incomplete"), "head_closed"),
        one("speaks-smtp", Service::that(says_and_waits(b"220 mail ESMTP\r\n\r\n")), broke("http_protocol_error"), "protocol"),
        one("speaks-http2", Service::that(says_and_waits(b"\0\0\0\x04\0\0\0\0\0")), broke("http_protocol_error"), "protocol"),
        one("half-a-body", Service::that(says(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")), Meets::Cut, "body_closed"),
        one(
            "half-a-chunk",
            Service::that(says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf")),
            Meets::Cut,
            "body_closed",
        ),
        one("stops", Service::that(says_and_waits(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")), Meets::Cut, "body_timeout"),
        Row {
            request: Request::Upload,
            ..one("takes-nothing", Service::that(takes_nothing), late("connection_write_timeout"), "send_timeout")
        },
        Row { step: None, retries: ("connect_failure", 1), ..row("one-of-three", vec![dead(), fine(), fine()], Meets::Answer, "") },
        Row {
            retries: ("connect_failure", 2),
            ..row("all-three", vec![dead(), dead(), dead()], unreachable("connection_refused"), "refused")
        },
    ]
}

/// A world in which each row has an upstream and a public route of its own.
fn world(rows: &[Row], pki: &Pki) -> World {
    World::with(Origin::start(), |folder| {
        let path = folder.join("platform.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let (mut upstreams, mut routes) = (String::new(), String::new());
        for Row { name, protocol, services, .. } in rows {
            let endpoints: Vec<String> = services.iter().map(|service| format!("\"{}://{}\"", service.scheme, service.address)).collect();
            let tls = if services[0].scheme == "https" { "\n    tls: { roots: { file: roots.pem } }" } else { "" };
            upstreams.push_str(&format!("  - name: {name}\n    endpoints: [{}]{tls}\n    protocol: {protocol}\n", endpoints.join(", ")));
            upstreams.push_str("    connect_timeout: 500ms\n    response_timeout: 700ms\n    idle_timeout: 500ms\n");
            routes.push_str(&format!("  - {{ name: {name}, path: /{name}, access: public, upstream: {name} }}\n"));
        }
        std::fs::write(folder.join("roots.pem"), pki.pem()).unwrap();
        let at = text.find("\nroutes:").unwrap() + 1;
        let (before, after) = text.split_at(at);
        let (line, after) = after.split_once('\n').unwrap();
        let after = after.split_once("\n---").map(|(own, rest)| format!("{}\n---{rest}", with_upstream(own))).unwrap();
        std::fs::write(&path, format!("{before}{line}\n{routes}{after}").replacen("\nroutes:", &format!("\n{upstreams}routes:"), 1))
            .unwrap();
    })
}

/// The demo's own routes, which may not leave out one of several upstreams.
fn with_upstream(routes: &str) -> String {
    routes
        .lines()
        .map(|line| if line.starts_with("    path:") { format!("{line}\n    upstream: app\n") } else { format!("{line}\n") })
        .collect()
}

/// Every sample of these families.
fn samples(world: &World) -> BTreeMap<String, f64> {
    let text = world.probe("/metrics").text();
    let of_upstreams = text.lines().filter(|line| line.starts_with("bulkhead_upstream_"));
    of_upstreams.filter_map(|line| line.rsplit_once(' ')).map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

fn ask(world: &World, row: &Row) -> std::io::Result<Answer> {
    let target = format!("/{}", row.name);
    let mut connection = world.client("acme.localhost").connect();
    match row.request {
        Request::Get => connection.try_send("GET", &target, b""),
        Request::Upload => {
            let body = vec![0; 9 << 20];
            let head = format!("POST {target} HTTP/1.1\r\nhost: acme.localhost\r\ncontent-length: {}\r\n\r\n", body.len());
            connection.write(head.as_bytes())?;
            // Answered before all of it went.
            let _ = connection.write(&body);
            connection.read(false)
        }
    }
}

#[test]
fn every_failure_says_which_step_failed_is_counted_so_and_passes() {
    let pki = Pki::new();
    let mut rows = rows(&pki);
    rows.extend(http2_rows());
    let world = world(&rows, &pki);
    for row in &mut rows {
        let name = row.name;
        let before = samples(&world);
        let answer = ask(&world, row);
        match (row.meets, &answer) {
            (Meets::Refusal(verdict, error), Ok(answer)) => {
                assert_eq!(answer.verdict(), verdict, "{name}: {}", answer.text());
                let status = answer.header("proxy-status").unwrap_or_default();
                assert!(status.contains(&format!("error={error}")), "{name}: {status}");
            }
            (Meets::Answer, Ok(answer)) => assert_eq!(answer.text(), "well", "{name}"),
            (Meets::Cut, Err(_)) => {}
            (_, answer) => panic!("{name}: {answer:?}"),
        }
        let (reason, times) = row.retries;
        let retries = format!("bulkhead_upstream_retries_total{{service=\"demo\",upstream=\"{name}\",reason=\"{reason}\"}}");
        let failures = row.step.map(|step| format!("bulkhead_upstream_failures_total{{step=\"{step}\"}}"));
        eventually(&format!("{name}: it is counted"), || {
            let after = samples(&world);
            let grown = |sample: &str| after.get(sample).copied().unwrap_or_default() - before.get(sample).copied().unwrap_or_default();
            let is_counted = failures.as_deref().is_none_or(|failures| grown(failures) >= 1.0);
            assert!(grown(&retries) <= times as f64, "{name}: {} of {retries}", grown(&retries));
            // Of three endpoints the dead one may not have been the first.
            let is_tried = grown(&retries) >= if row.step.is_some() { times as f64 } else { 0.0 };
            (is_counted && is_tried).then_some(())
        });
        row.services.iter_mut().for_each(Service::cure);
        row.request = Request::Get;
        eventually("it is used again once it is well", || ask(&world, row).ok().filter(|answer| answer.text() == "well").map(drop));
    }
}
