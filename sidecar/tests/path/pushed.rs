//! Policy that a control plane pushes: over real TLS, from a control plane that says what each test has it say.

use crate::support::{World, echo, within};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use bulkhead_config::declared::{DocumentId, Kind, read_file};
use bulkhead_config::protocol::{Part, Report};
use bulkhead_config::seal::{Fingerprint, Signature};
use bulkhead_config::snapshot::Epoch;
use bulkhead_config::wire::frame::{Deframer, prefix};
use bulkhead_config::wire::message::{self, from_control_plane, from_sidecar};
use bulkhead_config::wire::{Carried, ENROL, FOLLOW, MESSAGE_BYTES_MAX, Parcel, chunks, epoch_from, report_from};
use bulkhead_sidecar::Running;
use bulkhead_sidecar::policy::{ControlPlane, Push};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

const TOKEN: &str = "once";

/// What a control plane is, whether one runs or not.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    pem: String,
    signer: Ed25519KeyPair,
    tls: Arc<ServerConfig>,
}

impl Authority {
    fn new() -> Arc<Self> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        let (pem, root) = (root.pem(), root.der().clone());
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&own, &issuer).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let clients = clients.allow_unauthenticated().build().unwrap();
        let tls = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let own = PrivateKeyDer::try_from(own.serialize_der()).unwrap();
        let mut tls = tls.with_client_cert_verifier(clients).with_single_cert(vec![certificate.der().clone()], own).unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(Self { issuer, root, pem, signer: Ed25519KeyPair::generate().unwrap(), tls: Arc::new(tls) })
    }

    fn issue(&self, asked: &message::EnrolRequest) -> Option<message::EnrolResponse> {
        if asked.join_token != TOKEN {
            return None;
        }
        let request = asked.certificate_request.clone().into();
        let mut request = CertificateSigningRequestParams::from_der(&request).unwrap();
        request.params.subject_alt_names = vec![SanType::URI("spiffe://test/sidecar/one".try_into().unwrap())];
        let certificates = request.signed_by(&self.issuer).unwrap().pem();
        let signers = vec![self.signer.public_key().as_ref().to_vec()];
        Some(message::EnrolResponse { certificates, roots: self.pem.clone(), signers })
    }

    fn sign(&self, statement: &[u8]) -> Vec<u8> {
        let key = Fingerprint::of_public_key(self.signer.public_key().as_ref());
        Signature { key, bytes: self.signer.sign(statement).as_ref().try_into().unwrap() }.to_bytes()
    }
}

/// A control plane that runs; dropped, it and its connections are gone.
struct Plane {
    address: SocketAddr,
    streams: mpsc::Receiver<Stream>,
    task: JoinHandle<()>,
}

impl Plane {
    async fn start(authority: &Arc<Authority>, at: &str) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::channel(4);
        let authority = Arc::clone(authority);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (authority, sender) = (Arc::clone(&authority), sender.clone());
                connections.spawn(async move {
                    let Ok(socket) = TlsAcceptor::from(Arc::clone(&authority.tls)).accept(socket).await else { return };
                    let is_known = socket.get_ref().1.peer_certificates().is_some();
                    let mut connection = h2::server::handshake(socket).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(answer(Arc::clone(&authority), is_known, request, respond, sender.clone()));
                    }
                });
            }
        });
        Self { address, streams, task }
    }

    async fn stream(&mut self) -> Stream {
        within(self.streams.recv()).await.unwrap()
    }

    async fn stop(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

async fn answer(
    authority: Arc<Authority>,
    is_known: bool,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    streams: mpsc::Sender<Stream>,
) {
    let path = request.uri().path().to_owned();
    let mut said = Said { stream: request.into_body(), deframer: Deframer::default() };
    let mut telling = respond.send_response(Response::new(()), false).unwrap();
    if path == ENROL {
        let asked = message::EnrolRequest::decode(said.next().await.unwrap()).unwrap();
        if let Some(issued) = authority.issue(&asked) {
            write(&mut telling, &issued.encode_to_vec());
        }
        let _ = telling.send_trailers(http::HeaderMap::new());
    } else {
        assert_eq!((path.as_str(), is_known), (FOLLOW, true));
        let Some(first) = said.next().await else { return };
        let Some(from_sidecar::Said::Hello(hello)) = message::FromSidecar::decode(first).unwrap().said else { return };
        let _ = streams.send(Stream { authority, hello, said, telling }).await;
    }
}

/// What a sidecar says.
struct Said {
    stream: RecvStream,
    deframer: Deframer,
}

impl Said {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(message) = self.deframer.message().unwrap() {
                return Some(message);
            }
            let bytes = self.stream.data().await?.ok()?;
            let _ = self.stream.flow_control().release_capacity(bytes.len());
            self.deframer.push(&bytes);
        }
    }
}

/// A sidecar's stream.
struct Stream {
    authority: Arc<Authority>,
    hello: message::Hello,
    said: Said,
    telling: SendStream<Bytes>,
}

impl Stream {
    /// Says that these documents are declared, signed.
    fn offer(&mut self, base: Option<Epoch>, epoch: Epoch, parcel: Parcel) {
        let (chunks, statement) = chunks(parcel, base, epoch);
        let signature = self.authority.sign(&statement);
        self.say(chunks, signature);
    }

    fn say(&mut self, mut chunks: Vec<message::Chunk>, signature: Vec<u8>) {
        chunks.last_mut().unwrap().signature = signature;
        for chunk in chunks {
            let said = Some(from_control_plane::Said::Chunk(chunk));
            write(&mut self.telling, &message::FromControlPlane { said }.encode_to_vec());
        }
    }

    async fn report(&mut self) -> Report {
        let message = within(self.said.next()).await.unwrap();
        match message::FromSidecar::decode(message).unwrap().said {
            Some(from_sidecar::Said::Report(report)) => report_from(report).unwrap(),
            other => unreachable!("{other:?}"),
        }
    }

    /// Whether the sidecar has left this stream, without a word more.
    async fn is_left(&mut self) -> bool {
        within(self.said.next()).await.is_none()
    }

    fn serving(&self) -> Option<Epoch> {
        self.hello.serving.map(epoch_from)
    }
}

fn write(telling: &mut SendStream<Bytes>, message: &[u8]) {
    telling.send_data(prefix(message).unwrap(), false).unwrap();
    telling.send_data(Bytes::copy_from_slice(message), false).unwrap();
}

fn at(revision: u64) -> Epoch {
    Epoch { incarnation: 1, revision }
}

fn parcel(text: &str) -> Parcel {
    let read = read_file("all.yaml", text);
    assert!(read.diagnostics.is_empty(), "{}", read.diagnostics);
    let texts = read.documents.iter().zip(&read.ranges);
    let carried = texts.map(|(document, range)| Carried {
        id: document.id.clone(),
        text: text.get(range.clone()).unwrap().into(),
        file: "all.yaml".into(),
        line: document.origin.span.line,
    });
    Parcel { put: carried.collect(), ..Parcel::default() }
}

fn tenant(name: &str) -> String {
    format!("tenant_id: {name}\nname: {name}\nemail: a@{name}.test\nhosts: [{name}.test]\n")
}

/// A tenant's document with a field that this version does not know.
fn tenant_of_the_future(name: &str) -> Parcel {
    let id = DocumentId { kind: Kind::Tenant, tenant: None, name: name.parse().unwrap() };
    let carried = Carried { id, text: format!("{}colour: blue\n", tenant(name)).into(), file: "t.yaml".into(), line: 1 };
    Parcel { put: vec![carried], ..Parcel::default() }
}

fn push(address: SocketAddr, data: &Path, authority: &Authority) -> Push {
    let bundle = data.join("bundle.pem");
    std::fs::write(&bundle, &authority.pem).unwrap();
    assert!(!authority.root.is_empty());
    Push::begin(ControlPlane {
        address: address.to_string(),
        join_token: Some(TOKEN.to_owned()),
        trust_bundle: Some(bundle),
        data_dir: data.to_owned(),
    })
    .unwrap()
}

async fn start(data: &TempDir, source: Push) -> Running {
    within(bulkhead_sidecar::start(World::settings(1, data), source)).await.unwrap()
}

fn knows(sidecar: &Running, tenant: &str) -> bool {
    sidecar.live().load().snapshot.tenant(tenant).is_some()
}

/// A control plane and a sidecar that serves what it said first.
async fn world(data: &TempDir) -> (Arc<Authority>, Plane, Stream, Running) {
    let (authority, upstream) = (Authority::new(), echo().await);
    let mut plane = Plane::start(&authority, "127.0.0.1:0").await;
    let source = push(plane.address, data.path(), &authority);
    let mut stream = plane.stream().await;
    assert_eq!(stream.serving(), None);
    stream.offer(None, at(1), parcel(&World::text(&[upstream], "", "")));
    let sidecar = start(data, source).await;
    assert_eq!(stream.report().await.epoch, at(1));
    (authority, plane, stream, sidecar)
}

#[tokio::test]
async fn a_sidecar_enrols_and_what_is_pushed_is_live_and_reported() {
    use std::os::unix::fs::PermissionsExt as _;
    let data = tempfile::tempdir().unwrap();
    let (_authority, _plane, mut stream, sidecar) = world(&data).await;
    assert!(knows(&sidecar, "acme") && !knows(&sidecar, "globex"));
    stream.offer(Some(at(1)), at(2), parcel(&tenant("globex")));
    let report = stream.report().await;
    assert_eq!((report.epoch, report.quarantined.len()), (at(2), 0));
    assert!(report.accepted.contains(&Part::Tenant("globex".parse().unwrap())), "{report:?}");
    assert!(knows(&sidecar, "acme") && knows(&sidecar, "globex"));
    let key = std::fs::metadata(data.path().join("identity/key.pem")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    sidecar.drain(Duration::ZERO).await;
}

#[tokio::test]
async fn a_part_that_cannot_be_read_is_named_alone_and_the_others_go_on() {
    let data = tempfile::tempdir().unwrap();
    let (_authority, _plane, mut stream, sidecar) = world(&data).await;
    let mut mixed = tenant_of_the_future("initech");
    mixed.put.extend(parcel(&tenant("globex")).put);
    stream.offer(Some(at(1)), at(2), mixed);
    let report = stream.report().await;
    let quarantined: Vec<Part> = report.quarantined.iter().map(|quarantined| quarantined.part.clone()).collect();
    assert_eq!(quarantined, [Part::Tenant("initech".parse().unwrap())]);
    assert!(report.quarantined.first().unwrap().diagnostics.to_string().contains("colour"));
    assert!(knows(&sidecar, "globex"));
    sidecar.drain(Duration::ZERO).await;
}

#[tokio::test]
async fn a_control_plane_that_comes_back_is_told_how_far_the_sidecar_is() {
    let data = tempfile::tempdir().unwrap();
    let (authority, plane, stream, sidecar) = world(&data).await;
    drop(stream);
    let address = plane.stop().await;
    let mut plane = Plane::start(&authority, &address.to_string()).await;
    let mut stream = plane.stream().await;
    assert_eq!(stream.serving(), Some(at(1)));
    stream.offer(Some(at(1)), at(5), parcel(&tenant("globex")));
    assert_eq!(stream.report().await.epoch, at(5));
    assert!(knows(&sidecar, "acme") && knows(&sidecar, "globex"));
    sidecar.drain(Duration::ZERO).await;
}

#[tokio::test]
async fn without_a_control_plane_a_sidecar_serves_what_it_served_last_and_takes_up_what_is_new() {
    let data = tempfile::tempdir().unwrap();
    let (authority, plane, stream, sidecar) = world(&data).await;
    sidecar.drain(Duration::ZERO).await;
    drop(stream);
    let address = plane.stop().await;
    let sidecar = start(&data, push(address, data.path(), &authority)).await;
    assert!(knows(&sidecar, "acme"));
    let mut plane = Plane::start(&authority, &address.to_string()).await;
    let mut stream = plane.stream().await;
    assert_eq!(stream.serving(), None);
    stream.offer(None, at(2), parcel(&World::text(&[echo().await], "", &format!("---\n{}", tenant("globex")))));
    assert_eq!(stream.report().await.epoch, at(2));
    assert!(knows(&sidecar, "acme") && knows(&sidecar, "globex"));
    sidecar.drain(Duration::ZERO).await;
}

#[tokio::test]
async fn what_is_forged_old_damaged_or_too_large_is_refused_and_the_stream_made_anew() {
    let data = tempfile::tempdir().unwrap();
    let (_authority, mut plane, mut stream, sidecar) = world(&data).await;
    let evil = || parcel(&tenant("evil"));
    let misdeeds: [fn(&mut Stream, Parcel); 6] = [
        // Signed by a stranger.
        |stream, evil| {
            let (chunks, statement) = chunks(evil, Some(at(1)), at(2));
            let stranger = Authority::new().sign(&statement);
            stream.say(chunks, stranger);
        },
        // Not signed.
        |stream, evil| stream.say(chunks(evil, Some(at(1)), at(2)).0, Vec::new()),
        // A good signature, of another offer.
        |stream, evil| {
            let signature = stream.authority.sign(&chunks(Parcel::default(), Some(at(1)), at(2)).1);
            stream.say(chunks(evil, Some(at(1)), at(2)).0, signature);
        },
        // Older than what is served, replayed as it was signed.
        |stream, evil| stream.offer(None, at(0), evil),
        // No protobuf.
        |stream, _| write(&mut stream.telling, &[0xff; 9]),
        // A length that no message has.
        |stream, _| {
            let length = u32::try_from(MESSAGE_BYTES_MAX + 1).unwrap().to_be_bytes();
            stream.telling.send_data([&[0][..], &length].concat().into(), false).unwrap();
        },
    ];
    for misdeed in misdeeds {
        misdeed(&mut stream, evil());
        assert!(stream.is_left().await);
        assert!(!knows(&sidecar, "evil"));
        stream = plane.stream().await;
        assert_eq!(stream.serving(), Some(at(1)));
    }
    stream.offer(Some(at(1)), at(2), parcel(&tenant("globex")));
    assert_eq!(stream.report().await.epoch, at(2));
    assert!(knows(&sidecar, "globex"));
    sidecar.drain(Duration::ZERO).await;
}
