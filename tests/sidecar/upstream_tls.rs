//! TLS towards the service: whom it believes, by which name, and what becomes of what is cut.

use bulkhead_tests::{Certified, Farewell, Origin, Pki, TlsOrigin, World, eventually};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

/// A world whose upstream is this endpoint with this `tls`.
fn world(endpoint: &str, tls: &str, files: impl FnOnce(&Path)) -> World {
    World::with(Origin::start(), |folder| {
        files(folder);
        let path = folder.join("platform.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let at = text.find("    endpoints: [").unwrap();
        let end = at + text[at..].find('\n').unwrap();
        std::fs::write(&path, format!("{}    endpoints: [\"{endpoint}\"]\n    tls: {tls}{}", &text[..at], &text[end..])).unwrap();
    })
}

fn verdict(world: &World) -> String {
    world.user("acme_corp", &["reader"]).get("/v1/items").verdict()
}

/// What the service answers through a sidecar that believes `pki`, and the sidecar's word for it.
fn tried(pki: &Pki, shown: &Certified, host: &str, more: &str) -> (String, String) {
    let origin = TlsOrigin::start(shown);
    let world =
        world(&format!("https://{host}:{}", origin.address.port()), &format!("{{ roots: {{ file: roots.pem }}{more} }}"), |folder| {
            std::fs::write(folder.join("roots.pem"), pki.pem()).unwrap();
        });
    let answer = world.user("acme_corp", &["reader"]).get("/v1/items");
    (answer.verdict(), answer.header("proxy-status").unwrap_or_default().to_owned())
}

#[test]
fn only_a_certificate_that_is_good_and_for_the_right_name_is_accepted() {
    let pki = Pki::new();
    let (address, name) = (pki.certify(&["127.0.0.1"]), pki.certify(&["localhost"]));
    for (shown, host, more) in [
        (&address, "127.0.0.1", ""),
        (&name, "localhost", ""),
        (&name, "127.0.0.1", ", server_name: localhost"),
        (&pki.certify(&["*.svc.internal"]), "127.0.0.1", ", server_name: app.svc.internal"),
    ] {
        assert_eq!(tried(&pki, shown, host, more).0, "200", "{host}{more}");
    }
    let (other, expired) = (Pki::new().certify(&["127.0.0.1"]), pki.certify_expired(&["127.0.0.1"]));
    for (shown, why) in [(&name, "wrong name"), (&other, "unknown authority"), (&expired, "expired")] {
        let (verdict, status) = tried(&pki, shown, "127.0.0.1", "");
        assert_eq!(verdict, "502 upstream_unreachable", "{why}");
        assert!(status.contains("error=tls_certificate_error"), "{why}: {status}");
    }
}

#[test]
fn without_roots_of_its_own_whom_the_system_trusts_is_believed_and_nobody_else() {
    let origin = TlsOrigin::start(&Pki::new().certify(&["127.0.0.1"]));
    let world = world(&format!("https://{}", origin.address), "{}", |_| {});
    assert_eq!(verdict(&world), "502 upstream_unreachable");
    eventually("the log says why", || world.log().contains("no authority in `roots`").then_some(()));
}

#[test]
fn who_asks_for_a_certificate_is_shown_the_declared_one() {
    let (pki, clients) = (Pki::new(), Pki::new());
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let origin = TlsOrigin::with(clients.server_asking(&pki.certify(&["127.0.0.1"])), answer, Farewell::Said);
    for (more, verdict) in
        [("", "502 upstream_unreachable"), (", client_certificate: { certificate: { file: we.pem }, key: { file: we.key } }", "200")]
    {
        let world = world(&format!("https://{}", origin.address), &format!("{{ roots: {{ file: roots.pem }}{more} }}"), |folder| {
            std::fs::write(folder.join("roots.pem"), pki.pem()).unwrap();
            clients.certify(&["sidecar"]).write(folder, "we");
        });
        let answer = world.user("acme_corp", &["reader"]).get("/v1/items");
        // A refusal in TLS 1.3 comes behind the handshake, when the request is on its way.
        assert!(answer.status == 502 || answer.verdict() == verdict, "{more}: {}", answer.verdict());
        assert_eq!(answer.status == 200, verdict == "200", "{more}");
    }
}

#[test]
fn a_service_in_the_clear_behind_an_https_endpoint_is_an_error_of_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let world = world(&format!("https://{address}"), "{ roots: { file: roots.pem } }", |folder| {
        std::fs::write(folder.join("roots.pem"), Pki::new().pem()).unwrap();
    });
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = vec![0; 16 << 10];
        let length = stream.read(&mut heard).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
        heard.truncate(length);
        heard
    });
    let answer = world.user("acme_corp", &["reader"]).get("/v1/items");
    assert_eq!(answer.verdict(), "502 upstream_unreachable");
    assert!(answer.header("proxy-status").unwrap().contains("error=tls_protocol_error"), "{:?}", answer.headers);
    let heard = serving.join().unwrap();
    assert!(heard.first() == Some(&0x16) && !heard.windows(3).any(|window| window == b"/v1"), "nothing of the request in the clear");
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole_only_with_a_farewell() {
    let pki = Pki::new();
    for (farewell, is_whole) in [(Farewell::Said, true), (Farewell::Left, false)] {
        let config = Pki::server(&pki.certify(&["127.0.0.1"]));
        let origin = TlsOrigin::with(config, b"HTTP/1.1 200 OK\r\n\r\nall there is", farewell);
        let world = world(&format!("https://{}", origin.address), "{ roots: { file: roots.pem } }", |folder| {
            std::fs::write(folder.join("roots.pem"), pki.pem()).unwrap();
        });
        let mut connection = world.user("acme_corp", &["reader"]).connect();
        let answer = connection.try_send("GET", "/v1/items", b"");
        assert_eq!(answer.is_ok_and(|answer| answer.body == b"all there is"), is_whole, "{farewell:?}");
    }
}

#[test]
fn new_roots_are_taken_over_and_roots_that_cannot_be_read_are_named() {
    let (pki, next) = (Pki::new(), Pki::new());
    let origin = TlsOrigin::with(
        Pki::server(&next.certify(&["127.0.0.1"])),
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        Farewell::Said,
    );
    let world = world(&format!("https://{}", origin.address), "{ roots: { file: roots.pem } }", |folder| {
        std::fs::write(folder.join("roots.pem"), pki.pem()).unwrap();
    });
    assert_eq!(verdict(&world), "502 upstream_unreachable");
    world.write("roots.pem", next.pem());
    eventually("the new authority is believed", || (verdict(&world) == "200").then_some(()));
    world.write("roots.pem", "nothing");
    eventually("it is named", || world.policy()["quarantined"].to_string().contains("there is no certificate in it").then_some(()));
    assert_eq!(verdict(&world), "200", "the last good one is believed on");
}
