//! PROXY headers: who a trusted hop names is the client everywhere, and nobody else names anybody.

use bulkhead_tests::{Connection, Origin, Pki, World, eventually, exchange};
use std::net::IpAddr;
use std::path::Path;

/// The balancer: a loopback address of its own.
const HOP: [u8; 4] = [127, 0, 0, 9];
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.80 4711 443\r\n";
const V2: &[u8] =
    &[13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10, 0x21, 0x11, 0, 17, 203, 0, 113, 7, 192, 0, 2, 80, 0x12, 0x67, 1, 0xbb, 4, 0, 2, 0, 0];
const LOCAL: &[u8] = &[13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10, 0x20, 0, 0, 0];

/// The demo behind a balancer whose listener says `proxy_protocol: MODE`.
fn world(mode: &str) -> World {
    with(mode, |_| {})
}

/// Likewise, with what the listener needs besides in that folder.
fn with(mode: &str, files: impl FnOnce(&Path)) -> World {
    World::with_arguments(Origin::start(), &["--workers", "2"], |documents| {
        files(documents);
        let file = documents.join("platform.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let listener = text.replacen("address: 127.0.0.1:0", &format!("proxy_protocol: {mode}\n    address: 127.0.0.1:0"), 1);
        assert_ne!(listener, text);
        let hops = "\n---\nkind: SecurityPolicy\nname: hops\ntrusted_hops: [127.0.0.9/32]\n";
        std::fs::write(file, listener + hops).unwrap();
    })
}

fn from(world: &World, address: [u8; 4]) -> Connection {
    world.user("acme_corp", &["reader"]).from(IpAddr::from(address)).connect()
}

/// Sends a header and a request behind it; the status, or nothing where the connection ends without an answer.
fn ask(mut connection: Connection, header: &[u8]) -> Option<u16> {
    connection.write(header).ok()?;
    connection.try_send("GET", "/v1/items", b"").ok().map(|answer| answer.status)
}

fn refused(world: &World, reason: &str) -> u64 {
    let metrics = world.probe("/metrics").text();
    let name = format!("bulkhead_proxy_header_refusals_total{{reason=\"{reason}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_else(|| panic!("{name}\n{metrics}"));
    line.parse().unwrap()
}

#[test]
fn the_client_that_a_trusted_hop_names_is_the_client() {
    let world = world("required");
    for header in [V1, V2] {
        let mut connection = from(&world, HOP);
        connection.write(header).unwrap();
        for _ in 0..2 {
            assert_eq!(connection.send("GET", "/v1/items", b"").status, 200);
            let seen = world.origin.last();
            assert_eq!(seen.headers("x-forwarded-for"), ["203.0.113.7"]);
            assert_eq!(seen.headers("forwarded"), ["for=203.0.113.7;proto=http"]);
        }
    }
    let access = world.documents().with_file_name("access.jsonl");
    let lines = eventually("the requests are in the access log", || {
        let text = std::fs::read_to_string(&access).unwrap_or_default();
        (text.lines().count() >= 4).then_some(text)
    });
    assert!(lines.lines().all(|line| line.contains("\"203.0.113.7\"")), "{lines}");
}

#[test]
fn a_header_may_come_in_pieces() {
    let world = world("required");
    for header in [V1, V2] {
        let mut connection = from(&world, HOP);
        for byte in header {
            connection.write(&[*byte]).unwrap();
        }
        assert_eq!(connection.send("GET", "/v1/items", b"").status, 200);
        assert_eq!(world.origin.last().headers("x-forwarded-for"), ["203.0.113.7"]);
    }
}

#[test]
fn the_header_comes_before_the_handshake_of_tls() {
    let pki = Pki::new();
    let certified = pki.certify(&["acme.localhost"]);
    let tls = "required\n    tls: { certificates: [{ certificate: { file: a.pem }, key: { file: a.key } }] }";
    let world = with(tls, |documents| certified.write(documents, "a"));
    for header in [V1, V2] {
        let mut connection = from(&world, HOP);
        connection.write(header).unwrap();
        let mut session = rustls::ClientConnection::new(pki.client().config(), "acme.localhost".try_into().unwrap()).unwrap();
        let stream = rustls::Stream::new(&mut session, connection.stream());
        let answer = exchange::once(stream, "GET /healthz HTTP/1.1\r\nhost: acme.localhost\r\n\r\n").unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(world.origin.last().headers("forwarded"), ["for=203.0.113.7;proto=https"]);
    }
}

#[test]
fn a_client_behind_the_hop_is_believed_nothing_of_others() {
    let world = world("required");
    let mut connection = world.user("acme_corp", &["reader"]).with("x-forwarded-for", "8.8.8.8").from(IpAddr::from(HOP)).connect();
    connection.write(V1).unwrap();
    assert_eq!(connection.send("GET", "/v1/items", b"").status, 200);
    assert_eq!(world.origin.last().headers("x-forwarded-for"), ["203.0.113.7"]);
}

#[test]
fn a_connection_of_the_hop_itself_keeps_its_address() {
    let world = world("required");
    for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        assert_eq!(ask(from(&world, HOP), header), Some(200));
        assert_eq!(world.origin.last().headers("x-forwarded-for"), ["127.0.0.9"]);
    }
}

#[test]
fn what_must_not_come_in_is_closed_and_counted() {
    let world = world("required");
    for (address, header, reason) in [
        ([127, 0, 0, 1], V1, "untrusted_peer"),
        ([127, 0, 0, 1], b"", "untrusted_peer"),
        (HOP, b"", "missing"),
        (HOP, b"PROXY TCP4 203.0.113.7\r\n", "malformed"),
        (HOP, &[13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10, 0x21, 0x31, 0, 0], "malformed"),
    ] {
        let before = refused(&world, reason);
        assert_eq!(ask(from(&world, address), header), None, "{reason}");
        assert_eq!(refused(&world, reason), before + 1, "{reason}");
    }
    let mut cut = from(&world, HOP);
    cut.write(b"PROXY TC").unwrap();
    cut.stream().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(cut.is_closed());
    assert_eq!(refused(&world, "cut_short"), 1);
    assert!(world.origin.received().is_empty());
    eventually("the log says what to do", || world.log().contains("trusted_hops").then_some(()));
}

#[test]
fn a_health_check_without_a_word_is_no_refusal() {
    let world = world("required");
    let mut check = from(&world, HOP);
    check.stream().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(check.is_closed());
    assert_eq!(ask(from(&world, HOP), V1), Some(200));
    for reason in ["missing", "cut_short", "late", "malformed"] {
        assert_eq!(refused(&world, reason), 0, "{reason}");
    }
}

#[test]
fn an_optional_header_is_for_hops_alone() {
    let world = world("optional");
    for (address, header, seen) in [
        (HOP, V1, Some("203.0.113.7")),
        (HOP, V2, Some("203.0.113.7")),
        (HOP, b"", Some("127.0.0.9")),
        ([127, 0, 0, 1], b"", Some("127.0.0.1")),
        ([127, 0, 0, 1], V1, None),
        ([127, 0, 0, 1], V2, None),
    ] {
        assert_eq!(ask(from(&world, address), header), seen.map(|_| 200), "{address:?} {seen:?}");
        if let Some(seen) = seen {
            assert_eq!(world.origin.last().headers("x-forwarded-for"), [seen]);
        }
    }
    assert_eq!(refused(&world, "untrusted_peer"), 2);
}

#[test]
fn where_none_is_asked_for_a_header_is_no_request() {
    let world = world("off");
    assert_eq!(ask(from(&world, HOP), V1), Some(400));
}

/// Limits are the client's, whichever worker serves it; the hop has none.
#[test]
fn each_client_behind_the_hop_has_its_own_limits() {
    const UNFINISHED_MAX: usize = 512;
    let world = world("required");
    let hold = |client: &str| {
        let mut connection = from(&world, HOP);
        connection.write(format!("PROXY TCP4 {client} 192.0.2.80 4711 443\r\nGET").as_bytes()).unwrap();
        connection
    };
    let held: Vec<Connection> = (0..UNFINISHED_MAX).map(|_| hold("203.0.113.7")).collect();
    let other = hold("203.0.113.8");
    let one_more = hold("203.0.113.7");
    // Which of them came last is for the workers to say.
    eventually("one of them is too many", || (refused(&world, "too_many") == 1).then_some(()));
    assert_eq!(ask(from(&world, HOP), b"PROXY TCP4 203.0.113.9 192.0.2.80 4711 443\r\n"), Some(200));
    drop((held, other, one_more));
    eventually("the client may come again", || (ask(from(&world, HOP), V1) == Some(200)).then_some(()));
}
