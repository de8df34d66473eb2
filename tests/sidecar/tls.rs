//! TLS of listeners: handshakes, names, sessions, certificates of clients, and files that change while they are used.

use bulkhead_tests::{Answer, Certified, Origin, Pki, Reply, TlsClient, TlsStream, World, connect, eventually, exchange};
use rustls::HandshakeKind;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const HOST: &str = "acme.localhost";

/// A world whose listener has this `tls`, after `files` has written what it names.
fn world(tls: &str, files: impl FnOnce(&Path)) -> World {
    World::with(Origin::start(), |folder| {
        files(folder);
        declare(folder, tls);
    })
}

/// A world that shows one certificate for the host.
fn simple(pki: &Pki) -> World {
    world(ONE, |folder| pki.certify(&[HOST]).write(folder, "a"))
}

const ONE: &str = "{ certificates: [{ certificate: { file: a.pem }, key: { file: a.key } }] }";
const TWO: &str =
    "{ certificates: [{ certificate: { file: a.pem }, key: { file: a.key } }, { certificate: { file: b.pem }, key: { file: b.key } }] }";

/// One certificate, and this much more.
fn one_and(more: &str) -> String {
    ONE.replace("}] }", &format!("}}], {more} }}"))
}

fn declare(folder: &Path, tls: &str) {
    let path = folder.join("platform.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("    address: 127.0.0.1:0", &format!("    tls: {tls}\n    address: 127.0.0.1:0"))).unwrap();
}

/// A GET of a reader on a kept connection.
fn get(world: &World, stream: &mut TlsStream, target: &str) -> io::Result<Answer> {
    let token = world.issuer.token("acme_corp", &["reader"]);
    stream.write_all(format!("GET {target} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {token}\r\n\r\n").as_bytes())?;
    exchange::read(stream, &mut Vec::new(), false)
}

/// A connection, and one answer over it, so that tickets have come.
fn once(world: &World, client: &TlsClient) -> io::Result<TlsStream> {
    let mut stream = client.connect(world.address(), HOST)?;
    assert_eq!(get(world, &mut stream, "/v1/items")?.status, 200);
    Ok(stream)
}

fn curl(world: &World, pki: &Pki, arguments: &[&str]) -> (String, String) {
    let roots = world.data().join("roots.pem");
    std::fs::write(&roots, pki.pem()).unwrap();
    let port = world.address().port();
    let token = world.issuer.token("acme_corp", &["reader"]);
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "30", "-w", "%{stderr}%{http_version} %{http_code}", "--cacert"])
        .arg(&roots)
        .args(["--resolve", &format!("{HOST}:{port}:127.0.0.1"), "-H", &format!("Authorization: Bearer {token}")])
        .args(arguments)
        .arg(format!("https://{HOST}:{port}/v1/items"))
        .output()
        .unwrap_or_else(|why| panic!("curl: {why}; run: apt-get install curl"));
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn curl_is_served_over_both_protocols_and_the_service_learns_how_the_client_came() {
    let pki = Pki::new();
    let world = simple(&pki);
    for (argument, version) in [("--http1.1", "1.1 200"), ("--http2", "2 200")] {
        let (_, told) = curl(&world, &pki, &[argument]);
        assert_eq!(told, version, "{}", world.log());
        let received = world.origin.last();
        assert_eq!(received.header("x-forwarded-proto").as_deref(), Some("https"));
        assert_eq!(received.header("forwarded").as_deref(), Some("for=127.0.0.1;proto=https"));
    }
    let (_, refused) = curl(&world, &Pki::new(), &["--http1.1"]);
    assert!(refused.ends_with(" 000"), "an authority that curl does not know: {refused}");
}

#[test]
fn the_protocol_is_the_one_that_was_agreed_on() {
    let pki = Pki::new();
    let world = simple(&pki);
    for (offered, agreed) in [(&["h2", "http/1.1"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)] {
        let stream = pki.client().offering(offered).connect(world.address(), HOST).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), agreed.map(str::as_bytes), "{offered:?}");
    }
    let refused = pki.client().offering(&["h3"]).connect(world.address(), HOST).unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    // What was not agreed on is not spoken.
    let mut stream = pki.client().offering(&["http/1.1"]).connect(world.address(), HOST).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    assert!(exchange::read(&mut stream, &mut Vec::new(), false).unwrap().status >= 400);
}

#[test]
fn each_host_gets_its_certificate_and_a_host_without_one_is_refused_by_name() {
    let pki = Pki::new();
    let (a, b) = (pki.certify(&[HOST]), pki.certify(&["*.globex.localhost", "globex.localhost"]));
    let world = world(TWO, |folder| {
        a.write(folder, "a");
        b.write(folder, "b");
    });
    for (name, shown) in [(HOST, &a), ("globex.localhost", &b), ("eu.globex.localhost", &b)] {
        let stream = pki.client().connect(world.address(), name).unwrap();
        assert_eq!(stream.conn.peer_certificates().unwrap(), [shown.der()], "{name}");
    }
    let refused = pki.client().connect(world.address(), "other.localhost").unwrap_err();
    assert!(refused.to_string().contains("UnrecognisedName"), "{refused}");
}

#[test]
fn old_versions_are_refused_with_a_fatal_alert() {
    let pki = Pki::new();
    let world = world(&one_and("minimum_version: \"1.3\""), |folder| pki.certify(&[HOST]).write(folder, "a"));
    let refused = pki.client().only_1_2().connect(world.address(), HOST).unwrap_err();
    assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");
    once(&world, &pki.client()).unwrap();
    // A greeting of TLS 1.1 with one suite of its time.
    let body = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
    let message = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    let record = [&[0x16, 3, 1, 0, message.len() as u8][..], &message].concat();
    let mut stream = TcpStream::connect(world.address()).unwrap();
    stream.write_all(&record).unwrap();
    let mut alert = Vec::new();
    stream.read_to_end(&mut alert).unwrap();
    assert_eq!((alert.first(), alert.get(5)), (Some(&0x15), Some(&2)), "{alert:?}");
}

#[test]
fn a_client_that_comes_again_resumes_its_session_whatever_worker_it_meets() {
    let pki = Pki::new();
    let world = simple(&pki);
    for client in [pki.client(), pki.client().only_1_2()] {
        let config = client.config();
        let kinds: Vec<_> = (0..6)
            .map(|_| {
                let mut stream = connect(&config, world.address(), HOST).unwrap();
                assert_eq!(get(&world, &mut stream, "/v1/items").unwrap().status, 200);
                stream.conn.handshake_kind().unwrap()
            })
            .collect();
        assert_eq!(kinds[0], HandshakeKind::Full);
        assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{kinds:?}");
    }
}

#[test]
fn whoever_must_show_a_certificate_is_let_in_with_a_good_one_only() {
    let (pki, clients) = (Pki::new(), Pki::new());
    let shown = clients.certify(&["machine"]);
    for (asked, without) in [("required", false), ("optional", true)] {
        let tls = one_and(&format!("client_certificates: {asked}, client_roots: {{ file: clients.pem }}"));
        let world = world(&tls, |folder| {
            pki.certify(&[HOST]).write(folder, "a");
            std::fs::write(folder.join("clients.pem"), clients.pem()).unwrap();
        });
        for client in [pki.client(), pki.client().only_1_2()] {
            assert_eq!(once(&world, &client).is_ok(), without, "{asked}, none shown");
            once(&world, &client.clone().showing(&shown)).unwrap();
            assert!(once(&world, &client.showing(&Pki::new().certify(&["machine"]))).is_err(), "{asked}, of an unknown authority");
        }
        let expired = pki.client().showing(&clients.certify_expired(&["machine"]));
        assert!(once(&world, &expired).is_err(), "{asked}, expired");
    }
}

#[test]
fn a_session_is_not_resumed_past_other_authorities_of_clients() {
    let (pki, clients) = (Pki::new(), Pki::new());
    let tls = one_and("client_certificates: required, client_roots: { file: clients.pem }");
    let world = world(&tls, |folder| {
        pki.certify(&[HOST]).write(folder, "a");
        std::fs::write(folder.join("clients.pem"), clients.pem()).unwrap();
    });
    let config = pki.client().showing(&clients.certify(&["machine"])).config();
    let admitted = || -> io::Result<u16> { Ok(get(&world, &mut connect(&config, world.address(), HOST)?, "/v1/items")?.status) };
    assert_eq!((admitted().unwrap(), admitted().unwrap()), (200, 200));
    world.write("clients.pem", Pki::new().pem());
    eventually("who is no longer believed is sent away", || admitted().is_err().then_some(()));
    assert!(admitted().is_err(), "and stays away");
}

#[test]
fn plain_http_on_a_tls_port_is_told_so_and_tls_on_a_plain_port_too() {
    let pki = Pki::new();
    let world = simple(&pki);
    for request in ["GET /v1/items HTTP/1.1\r\nhost: acme.localhost\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let answer = exchange::once(TcpStream::connect(world.address()).unwrap(), request).unwrap();
        assert_eq!(answer.verdict(), "400 plain_on_tls_port");
    }
    assert!(world.origin.received().is_empty());
    let plain = World::start();
    let refused = pki.client().connect(plain.address(), HOST).unwrap_err();
    assert!(refused.to_string().contains("InvalidContentType") || refused.kind() == io::ErrorKind::InvalidData, "{refused}");
    let answer = exchange::once(TcpStream::connect(plain.address()).unwrap(), "\u{16}\u{3}\u{1}\0\u{2}\0\0").unwrap();
    assert_eq!(answer.verdict(), "400 ambiguous_request");
    assert!(answer.text().contains("TLS"), "{}", answer.text());
}

#[test]
fn failed_handshakes_are_counted_by_reason_and_told_of() {
    let pki = Pki::new();
    let world = world(&TWO.replace("] }", "], client_certificates: required, client_roots: { file: clients.pem } }"), |folder| {
        pki.certify(&[HOST]).write(folder, "a");
        pki.certify(&["globex.localhost"]).write(folder, "b");
        std::fs::write(folder.join("clients.pem"), pki.pem()).unwrap();
    });
    let counted = |reason: &str| {
        let name = format!("bulkhead_tls_handshake_failures_total{{reason=\"{reason}\"}} ");
        world.probe("/metrics").text().lines().find_map(|line| line.strip_prefix(&*name)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let good = pki.client().showing(&pki.certify(&["somebody"]));
    once(&world, &good).unwrap();
    let no_certificate = || drop(once(&world, &pki.client()));
    let wrong_certificate = || drop(once(&world, &pki.client().showing(&Pki::new().certify(&["somebody"]))));
    let unknown_name = || drop(good.connect(world.address(), "other.localhost"));
    let distrust = || drop(Pki::new().client().showing(&pki.certify(&["somebody"])).connect(world.address(), HOST));
    let plain = || drop(exchange::once(TcpStream::connect(world.address()).unwrap(), "GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    let leave = || drop(TcpStream::connect(world.address()).unwrap());
    for (reason, fail, times) in [
        ("client_certificate", &no_certificate as &dyn Fn(), 1),
        ("client_certificate", &wrong_certificate, 2),
        ("unknown_name", &unknown_name, 1),
        ("protocol", &distrust, 1),
        ("plain", &plain, 1),
        ("left", &leave, 1),
    ] {
        fail();
        eventually(reason, || (counted(reason) == times).then_some(()));
    }
    let told =
        eventually("the log says it", || world.log().lines().find(|line| line.contains("a TLS handshake failed")).map(str::to_owned));
    assert!(told.contains("\"reason\":\"client_certificate\"") && told.contains("\"level\":\"WARN\""), "{told}");
}

#[test]
fn a_connection_ends_with_a_farewell() {
    let pki = Pki::new();
    let world = simple(&pki);
    let mut stream = pki.client().connect(world.address(), HOST).unwrap();
    let token = world.issuer.token("acme_corp", &["reader"]);
    let request = format!("GET /v1/items HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    // The library takes an end without a farewell for an error.
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert!(all.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn large_bodies_pass_both_ways_whole() {
    let pki = Pki::new();
    let world = World::with(Origin::with(|request| Reply::Ok(Vec::new(), request.body.clone())), |folder| {
        pki.certify(&[HOST]).write(folder, "a");
        declare(folder, ONE);
    });
    let body: Vec<u8> = (0..5_u32 << 20).map(|at| (at % 251) as u8).collect();
    let mut stream = pki.client().connect(world.address(), HOST).unwrap();
    let token = world.issuer.token("acme_corp", &["editor"]);
    let head =
        format!("POST /v1/items HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    let answer = exchange::read(&mut stream, &mut Vec::new(), false).unwrap();
    assert!(answer.status == 200 && answer.body == body, "{} with {} bytes", answer.status, answer.body.len());
}

#[test]
fn a_hundred_new_certificates_under_load_fail_no_request_and_end_no_connection() {
    let pki = Pki::new();
    let world = simple(&pki);
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut kept = pki.client().connect(world.address(), HOST).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let mut stream = pki.client().connect(world.address(), HOST).unwrap();
                    // A public route: no quota counts it.
                    assert_eq!(get(&world, &mut stream, "/healthz").unwrap().status, 200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let rotated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..100 {
                let next = pki.certify(&[HOST]);
                next.write(&world.documents(), "a");
                if round % 10 == 9 {
                    eventually("the new certificate is shown", || (shown(&world, &pki) == next.der().to_vec()).then_some(()));
                }
                assert_eq!(get(&world, &mut kept, "/healthz").unwrap().status, 200, "round {round}");
            }
        }));
        over.store(true, Ordering::Relaxed);
        rotated.unwrap();
    });
    assert!(served.load(Ordering::Relaxed) > 0);
}

/// The certificate that a new connection is shown.
fn shown(world: &World, pki: &Pki) -> Vec<u8> {
    let stream = pki.client().connect(world.address(), HOST).unwrap();
    stream.conn.peer_certificates().unwrap().first().unwrap().to_vec()
}

fn quarantined(world: &World) -> String {
    world.policy()["quarantined"].to_string()
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_and_the_last_good_one_stays() {
    let pki = Pki::new();
    let world = simple(&pki);
    let good = shown(&world, &pki);
    let other = pki.certify(&[HOST]);
    let mistakes = [
        ("a.pem", "no certificate".to_owned(), "there is no certificate in it"),
        ("a.key", other.key.clone(), "is not that of the certificate"),
        ("a.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".to_owned(), "encrypted"),
        ("a.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n".to_owned(), "no PEM"),
    ];
    for (file, text, says) in mistakes {
        let before = world.read(file);
        world.write(file, &text);
        eventually(says, || quarantined(&world).contains(says).then_some(()));
        assert_eq!(shown(&world, &pki), good);
        // Another change of the documents does not make it forgotten.
        world.write("tenants/globex.yaml", &format!("{}# {says}\n", world.read("tenants/globex.yaml")));
        assert!(quarantined(&world).contains(says));
        world.write(file, &before);
        eventually("it is good again", || (!quarantined(&world).contains(says)).then_some(()));
    }
    std::fs::remove_file(world.documents().join("a.key")).unwrap();
    eventually("a file that is gone is named", || quarantined(&world).contains("cannot be read").then_some(()));
    assert_eq!(shown(&world, &pki), good);
}

#[test]
fn without_a_certificate_nobody_is_served_in_the_clear_instead() {
    let pki = Pki::new();
    let world = world(ONE, |_| {});
    let refused = pki.client().connect(world.address(), HOST).unwrap_err();
    assert!(refused.to_string().contains("InternalError"), "{refused}");
    let answer = exchange::once(TcpStream::connect(world.address()).unwrap(), "GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(answer.verdict(), "400 plain_on_tls_port");
    assert!(quarantined(&world).contains("a.pem"));
    pki.certify(&[HOST]).write(&world.documents(), "a");
    eventually("it is served once the files are there", || once(&world, &pki.client()).ok().map(drop));
}

#[test]
fn an_expired_certificate_is_shown_and_warned_of_with_its_day() {
    let pki = Pki::new();
    let expired: Certified = pki.certify_expired(&[HOST]);
    let world = world(ONE, |folder| expired.write(folder, "a"));
    assert!(pki.client().connect(world.address(), HOST).is_err());
    assert!(world.policy().to_string().contains("expired at 2021-01-01T00:00:00Z"), "{}", world.policy());
}

#[test]
fn a_handshake_that_is_never_finished_ends_with_the_time_for_a_head() {
    let pki = Pki::new();
    let world = World::with(Origin::start(), |folder| {
        pki.certify(&[HOST]).write(folder, "a");
        declare(folder, ONE);
        let path = folder.join("platform.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let policy = "---\nkind: SecurityPolicy\nname: quick\nrequest: { head_timeout: 300ms }\n";
        std::fs::write(&path, format!("{text}{policy}")).unwrap();
    });
    for sent in [&b""[..], &[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]] {
        let mut stream = TcpStream::connect(world.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(sent).unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
    }
}

#[test]
fn a_listener_that_begins_to_speak_tls_lets_plain_connections_end() {
    let pki = Pki::new();
    let world = World::with(Origin::start(), |folder| pki.certify(&[HOST]).write(folder, "a"));
    let mut plain = world.user("acme_corp", &["reader"]).connect();
    assert_eq!(plain.send("GET", "/v1/items", b"").status, 200);
    let aside = tempfile::tempdir().unwrap();
    std::fs::write(aside.path().join("platform.yaml"), world.read("platform.yaml")).unwrap();
    declare(aside.path(), ONE);
    world.write("platform.yaml", &std::fs::read_to_string(aside.path().join("platform.yaml")).unwrap());
    assert!(plain.is_closed(), "within the grace of closing");
    once(&world, &pki.client()).unwrap();
}

/// Workloads of acme_corp, and the roles they have there.
const WORKLOADS: &str = "kind: Identity
tenant: acme_corp
name: workloads
spiffe:
  - { id: \"spiffe://acme.test/ns/prod/*\" }
  - { id: \"spiffe://acme.test/ns/prod/web\", user: web }
---
kind: RoleBinding
tenant: acme_corp
name: workloads
role: reader
subjects: [{ user: web }, { user: \"spiffe://acme.test/ns/prod/jobs/nightly\" }]
";

fn asked(world: &World, stream: &mut TlsStream, fields: &str) -> Answer {
    stream.write_all(format!("GET /v1/items HTTP/1.1\r\n{fields}\r\n").as_bytes()).unwrap();
    let answer = exchange::read(stream, &mut Vec::new(), false);
    answer.unwrap_or_else(|why| panic!("{why}: {}", world.log()))
}

#[test]
fn a_workload_is_known_by_the_spiffe_id_in_its_certificate() {
    let (pki, clients) = (Pki::new(), Pki::new());
    let tls = one_and("client_certificates: optional, client_roots: { file: clients.pem }");
    let world = world(&tls, |folder| {
        pki.certify(&[HOST]).write(folder, "a");
        std::fs::write(folder.join("clients.pem"), clients.pem()).unwrap();
        std::fs::write(folder.join("tenants/workloads.yaml"), WORKLOADS).unwrap();
    });
    let connect = |uri: &str| pki.client().showing(&clients.certify_uri(uri)).connect(world.address(), HOST).unwrap();
    let acme = "host: acme.localhost\r\n";
    for (uri, verdict, user) in [
        ("spiffe://acme.test/ns/prod/web", "200", Some("web")),
        ("spiffe://acme.test/ns/prod/jobs/nightly", "200", Some("spiffe://acme.test/ns/prod/jobs/nightly")),
        ("spiffe://acme.test/ns/prod/other", "403 not_permitted", None),
        ("spiffe://acme.test/ns/production", "403 certificate_not_accepted", None),
        ("spiffe://other.test/ns/prod/web", "403 certificate_not_accepted", None),
        // No id of a workload, so no credential.
        ("https://acme.test/ns/prod/web", "401 missing_credential", None),
    ] {
        let answer = asked(&world, &mut connect(uri), acme);
        assert_eq!(answer.verdict(), verdict, "{uri}: {}", answer.text());
        if let Some(user) = user {
            assert_eq!(world.origin.last().header("x-bulkhead-user").as_deref(), Some(user));
            assert_eq!(world.origin.last().header("x-bulkhead-tenant").as_deref(), Some("acme_corp"));
        }
    }
    let mut without = pki.client().connect(world.address(), HOST).unwrap();
    assert_eq!(asked(&world, &mut without, acme).verdict(), "401 missing_credential");

    let mut kept = connect("spiffe://acme.test/ns/prod/web");
    // To a tenant that declares no workloads, and where nobody is named, it proves nobody.
    assert_eq!(asked(&world, &mut kept, "host: globex.localhost\r\n").verdict(), "401 missing_credential");
    assert_eq!(asked(&world, &mut kept, "host: api.localhost\r\n").verdict(), "401 missing_credential");
    // A token says who asks; the certificate beside it only who brings the request.
    let token = |tenant, role: &str| format!("{acme}authorization: Bearer {}\r\n", world.issuer.token(tenant, &[role]));
    assert_eq!(asked(&world, &mut kept, &token("acme_corp", "reader")).status, 200);
    assert_ne!(world.origin.last().header("x-bulkhead-user").as_deref(), Some("web"));
    assert_eq!(asked(&world, &mut kept, &token("globex", "reader")).verdict(), "403 other_tenant");
    assert_eq!(asked(&world, &mut kept, &format!("{acme}authorization: Bearer x\r\n")).verdict(), "401 invalid_token");

    assert_eq!(asked(&world, &mut kept, acme).status, 200);
    world.write(
        "tenants/workloads.yaml",
        &WORKLOADS.replace("  - { id: \"spiffe://acme.test/ns/prod/web\", user: web }\n", "").replace("/prod/*", "/test/*"),
    );
    eventually("who is declared no more proves nobody, on the same connection", || {
        (asked(&world, &mut kept, acme).verdict() == "403 certificate_not_accepted").then_some(())
    });
}
