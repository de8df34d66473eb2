//! Upstreams over TLS that pick what they are spoken to (`protocol: auto`).

use crate::support::{Client, World, http2_client, whole, within};
use bytes::Bytes;
use http::Request;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, version};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, rustls};

/// How one connection goes: what the service can speak, and after how many answers it ends.
#[derive(Debug, Clone, Copy)]
struct Turn {
    speaks: &'static [&'static str],
    answers: usize,
}

impl Turn {
    fn speaks(speaks: &'static [&'static str]) -> Self {
        Self { speaks, answers: usize::MAX }
    }
}

/// A service over TLS that answers with what it is spoken to and the number of the connection.
struct Service {
    address: SocketAddr,
    roots: String,
    /// What each connection was offered.
    offers: Receiver<String>,
}

impl Service {
    /// Its connections go in these turns, the last one again and again.
    async fn start(turns: &[Turn]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let issuer = CertifiedIssuer::self_signed(authority(), KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let configs = turns.iter().map(|turn| {
            let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
            let builder = builder.with_protocol_versions(&[&version::TLS13]).unwrap().with_no_client_auth();
            let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let mut config = builder.with_single_cert(vec![certificate.der().clone()], private).unwrap();
            config.alpn_protocols = turn.speaks.iter().map(|name| name.as_bytes().to_vec()).collect();
            Arc::new(config)
        });
        let turns: Vec<(Turn, Arc<ServerConfig>)> = turns.iter().copied().zip(configs).collect();
        let (tell, offers) = channel(64);
        tokio::spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (turn, config) = turns.get(number).or(turns.last()).unwrap().clone();
                tokio::spawn(serve(stream, config, turn.answers, number, tell.clone()));
            }
        });
        Self { address, roots: issuer.pem(), offers }
    }

    /// Those since it was asked before.
    fn offers(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.offers.try_recv().ok()).collect()
    }
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "authority");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
}

async fn serve(stream: TcpStream, config: Arc<ServerConfig>, answers: usize, number: usize, tell: Sender<String>) {
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await.unwrap();
    let offer: Vec<String> =
        start.client_hello().alpn().into_iter().flatten().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect();
    tell.try_send(offer.join(" ")).unwrap();
    let Ok(stream) = start.into_stream(config).await else { return };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        serve_http2(stream, answers, number).await;
    } else {
        serve_http1(stream, answers, number).await;
    }
}

async fn serve_http2(stream: TlsStream<TcpStream>, answers: usize, number: usize) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut answered = 0;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        answered += 1;
        tokio::spawn(async move {
            let (head, mut body) = request.into_parts();
            let length = whole(&mut body).await.len();
            let scheme = head.uri.scheme_str().unwrap_or_default();
            let said = format!("h2 {number} {scheme} {} {length}", head.headers.contains_key("connection"));
            respond.send_response(http::Response::new(()), false).unwrap().send_data(Bytes::from(said), true).unwrap();
        });
        if answered == answers {
            connection.graceful_shutdown();
        }
    }
}

async fn serve_http1(mut stream: TlsStream<TcpStream>, answers: usize, number: usize) {
    for answered in 1..=answers {
        let (mut seen, mut buffer) = (Vec::new(), [0; 4 << 10]);
        let is_whole = |seen: &[u8]| {
            let head = String::from_utf8_lossy(seen).into_owned();
            let (head, body) = head.split_once("\r\n\r\n")?;
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ").or(line.strip_prefix("content-length: ")));
            let length = length.map_or(0, |length| length.parse().unwrap());
            (body.len() == length).then_some(length)
        };
        let length = loop {
            if let Some(length) = is_whole(&seen) {
                break length;
            }
            match stream.read(&mut buffer).await {
                Ok(length) if length > 0 => seen.extend_from_slice(buffer.get(..length).unwrap()),
                _ => return,
            }
        };
        let ends = if answered == answers { "connection: close\r\n" } else { "" };
        let body = format!("http/1.1 {number} {length}");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{ends}\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    let _ = stream.shutdown().await;
}

const GET: &str = "GET /public/x HTTP/1.1\nHost: acme.test\nTE: trailers\nConnection: TE\n\n";
const BOTH: &str = "h2 http/1.1";

async fn get(world: &World) -> String {
    let answer = world.ask(GET).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

#[tokio::test]
async fn what_the_service_picks_is_spoken() {
    for (speaks, expected) in [
        (&["h2", "http/1.1"][..], "h2 0 https false 0"),
        (&["h2"], "h2 0 https false 0"),
        (&["http/1.1", "h2"], "http/1.1 0 0"),
        (&["http/1.1"], "http/1.1 0 0"),
        (&[], "http/1.1 0 0"),
    ] {
        let mut service = Service::start(&[Turn::speaks(speaks)]).await;
        let world = World::over_tls(service.address, &service.roots, "").await;
        for _ in 0..3 {
            assert_eq!(get(&world).await, expected, "{speaks:?}");
        }
        assert_eq!(service.offers(), [BOTH], "one connection, which was offered both: {speaks:?}");
    }
}

#[tokio::test]
async fn a_service_that_changes_its_mind_between_connections_is_followed() {
    let turn = |speaks, answers| Turn { speaks, answers };
    let turns = [turn(&["h2"][..], 1), turn(&["http/1.1"], 2), turn(&["h2"], 1), turn(&[], 1), turn(&["h2"], 2)];
    let mut service = Service::start(&turns).await;
    let world = World::over_tls(service.address, &service.roots, "").await;
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(get(&world).await);
    }
    let (h1, h2) = (|number| format!("http/1.1 {number} 0"), |number| format!("h2 {number} https false 0"));
    assert_eq!(seen, [h2(0), h1(1), h1(1), h2(2), h1(3), h2(4), h2(4)]);
    assert_eq!(service.offers(), [BOTH; 5]);
}

#[tokio::test]
async fn requests_that_come_first_share_a_connection_or_each_get_their_own() {
    for (speaks, is_shared) in [("h2", true), ("http/1.1", false)] {
        let mut service = Service::start(&[Turn::speaks(if is_shared { &["h2"] } else { &["http/1.1"] })]).await;
        let world = World::over_tls(service.address, &service.roots, "").await;
        let mut client = http2_client(world.address()).await;
        let ask = |client: &mut h2::client::SendRequest<Bytes>| {
            client.send_request(Request::get("http://acme.test/public/x").body(()).unwrap(), true).unwrap().0
        };
        let answers: Vec<_> = (0..20).map(|_| ask(&mut client)).collect();
        for answer in answers {
            assert_eq!(within(answer).await.unwrap().status(), 200, "{speaks}");
        }
        let offers = service.offers();
        assert_eq!(offers.len() == 1, is_shared, "{speaks}: {offers:?}");
    }
}

#[tokio::test]
async fn what_needs_one_protocol_is_not_offered_the_other() {
    let mut service = Service::start(&[Turn::speaks(&["h2", "http/1.1"])]).await;
    let world = World::over_tls(service.address, &service.roots, "").await;
    let upgrade = "GET /public/x HTTP/1.1\nHost: acme.test\nConnection: upgrade\nUpgrade: websocket\n\n";
    // It opens none, but it is asked as one can be asked.
    assert_eq!(world.ask(upgrade).await.body, "http/1.1 0 0");
    let mut client = http2_client(world.address()).await;
    let call = Request::post("http://acme.test/public/x").header("content-type", "application/grpc").body(()).unwrap();
    assert_eq!(within(client.send_request(call, true).unwrap().0).await.unwrap().status(), 200);
    assert_eq!(service.offers(), ["http/1.1", "h2"]);
}

#[tokio::test]
async fn a_body_goes_up_whole_over_what_is_picked() {
    for (speaks, expected) in [(&["h2"][..], "h2 0 https false 5"), (&["http/1.1"], "http/1.1 0 5")] {
        let service = Service::start(&[Turn::speaks(speaks)]).await;
        let world = World::over_tls(service.address, &service.roots, "").await;
        let mut client = Client::to(world.address()).await;
        client.send("POST /public/x HTTP/1.1\nHost: acme.test\nContent-Length: 5\n\nhello").await;
        assert_eq!(client.answer().await.body, expected, "{speaks:?}");
    }
}

#[tokio::test]
async fn whether_it_is_well_is_asked_over_what_is_picked() {
    for speaks in [&["h2"][..], &["http/1.1"]] {
        let service = Service::start(&[Turn::speaks(speaks)]).await;
        let check = "health_check: { path: /healthz, interval: 100ms, unhealthy: 1 }";
        let world = World::over_tls(service.address, &service.roots, check).await;
        let checks = |result| format!("bulkhead_upstream_health_checks_total{{service=\"demo\",upstream=\"app\",result=\"{result}\"}}");
        within(async {
            while world.metrics().await.contains(&format!("{} 0\n", checks("well"))) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
        assert!(world.metrics().await.contains(&format!("{} 0\n", checks("failed"))), "{speaks:?}");
    }
}
