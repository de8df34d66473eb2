//! Malformed and hostile input: a clear refusal, and nobody else on the process notices.

use bulkhead_tests::{Origin, World, eventually};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn ambiguous_targets_are_refused_before_anything_is_matched() {
    let world = World::start();
    let client = world.user("acme_corp", &["admin"]);
    for target in [
        "/v1/items/../admin/x",
        "/v1/items/%2e%2e/admin/x",
        "/v1/items/%2E%2e/admin",
        "/v1/./items",
        "/v1//items",
        "//v1/items",
        "/v1/items%2f7",
        "/v1/items%5c7",
        "/v1/items\\7",
        "/v1/items%00",
        "/v1/items/%",
        "/v1/items/%zz",
        "/v1/admin/..;/items",
        "/v1/items/7#frag",
    ] {
        let answer = client.connect().try_send("GET", target, b"");
        // hyper drops a fragment before we see it: such a request is served as the path without it, never as another.
        let dropped = target.contains('#');
        if let Ok(answer) = answer {
            assert!(answer.status == 400 || dropped && answer.status == 200, "{target}: {} {}", answer.status, answer.text());
        }
    }
    for seen in world.origin.received() {
        assert_eq!(seen.target(), "/v1/items/7", "{}", seen.head);
    }
}

#[test]
fn hosts_that_could_mean_two_tenants_are_refused() {
    let world = World::start();
    let token = world.issuer.token("acme_corp", &["reader"]);
    let raw = |head: &str| {
        let mut connection = world.client("unused").connect();
        connection.write(head.replace("{token}", &token).as_bytes()).unwrap();
        connection.read(false)
    };
    for head in [
        "GET /v1/items HTTP/1.1\r\nhost: acme.localhost\r\nhost: globex.localhost\r\nauthorization: Bearer {token}\r\n\r\n",
        "GET /v1/items HTTP/1.1\r\nhost: acme.localhost\r\nhost: acme.localhost\r\nauthorization: Bearer {token}\r\n\r\n",
        "GET http://globex.localhost/v1/items HTTP/1.1\r\nhost: acme.localhost\r\nauthorization: Bearer {token}\r\n\r\n",
        "GET http://acme.localhost/v1/items HTTP/1.1\r\nhost: globex.localhost\r\nauthorization: Bearer {token}\r\n\r\n",
        "GET /v1/items HTTP/1.1\r\nauthorization: Bearer {token}\r\n\r\n",
        "GET /v1/items HTTP/1.1\r\nhost: acme.localhost, globex.localhost\r\nauthorization: Bearer {token}\r\n\r\n",
        "GET /v1/items HTTP/1.1\r\nhost: acme.localhost@globex.localhost\r\nauthorization: Bearer {token}\r\n\r\n",
        "GET /v1/items HTTP/1.1\r\nhost: acme.localhost/x\r\nauthorization: Bearer {token}\r\n\r\n",
        "GET /v1/items HTTP/1.1\r\nhost: \r\nauthorization: Bearer {token}\r\n\r\n",
    ] {
        match raw(head) {
            Ok(answer) => assert!(matches!(answer.status, 400 | 404), "{head}: {} {}", answer.status, answer.text()),
            Err(why) => panic!("{head}: {why}"),
        }
    }
    assert!(world.origin.received().is_empty());
    let absolute =
        raw("GET http://acme.localhost/v1/items HTTP/1.1\r\nhost: acme.localhost\r\nauthorization: Bearer {token}\r\n\r\n").unwrap();
    assert_eq!(absolute.status, 200, "{}", absolute.text());
}

#[test]
fn framing_that_could_be_read_in_two_ways_reaches_the_service_as_one_request_at_most() {
    let world = World::start();
    let token = world.issuer.token("acme_corp", &["editor"]);
    for fields in [
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5, 6",
        "content-length: +5",
        "content-length: -1",
        "content-length: 0x5",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "content-length : 5",
    ] {
        let before = world.origin.received().len();
        let mut connection = world.client("unused").connect();
        let smuggled = "GET /v1/admin/smuggled HTTP/1.1\r\nhost: acme.localhost\r\n\r\n";
        let head = format!(
            "POST /v1/items HTTP/1.1\r\nhost: acme.localhost\r\nauthorization: Bearer {token}\r\n{fields}\r\n\r\n0\r\n\r\n{smuggled}"
        );
        connection.write(head.as_bytes()).unwrap();
        let status = connection.read(false).map(|answer| answer.status).unwrap_or(0);
        // hyper takes the same coding twice for once, before we see it, and sends it on once.
        let merged = fields.matches("transfer-encoding: chunked").count() == 2;
        assert!(matches!(status, 0 | 400 | 411 | 413 | 501) || merged && status == 200, "{fields}: {status}");
        for seen in world.origin.received().iter().skip(before) {
            assert!(!seen.head.contains("smuggled"), "{fields}: {}", seen.head);
        }
    }
}

#[test]
fn a_head_without_bound_is_refused() {
    let world = World::start();
    let many = (0..200).fold(world.user("acme_corp", &["reader"]), |client, n| client.with(&format!("x-{n}"), "1"));
    assert_eq!(many.get("/v1/items").status, 431);
    let long = world.user("acme_corp", &["reader"]).with("x-long", &"x".repeat(64 << 10));
    let answer = long.connect().try_send("GET", "/v1/items", b"");
    assert!(answer.as_ref().map_or(true, |answer| answer.status == 431), "{answer:?}");
    let target = format!("/v1/items/{}", "x".repeat(64 << 10));
    let answer = world.user("acme_corp", &["reader"]).connect().try_send("GET", &target, b"");
    assert!(answer.as_ref().map_or(true, |answer| matches!(answer.status, 414 | 431)), "{answer:?}");
    assert!(world.origin.received().is_empty());
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").verdict(), "200");
}

#[test]
fn a_slow_head_is_cut_and_others_are_served_meanwhile() {
    let world = World::with(Origin::start(), |folder| {
        let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        std::fs::write(folder.join("platform.yaml"), text.replace("head_timeout: 10s", "head_timeout: 500ms")).unwrap();
    });
    let mut slow: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = TcpStream::connect(world.address()).unwrap();
            stream.write_all(b"GET /v1/items HTTP/1.1\r\nhost: acme.loc").unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream
        })
        .collect();
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").verdict(), "200");
    for stream in &mut slow {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("it is closed, not left hanging");
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&rest));
    }
}

#[test]
fn noise_on_the_port_harms_nobody() {
    let world = World::start();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..200 {
        let mut stream = TcpStream::connect(world.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut bytes = match round % 4 {
            0 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            1 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            2 => b"GET /v1/items HTTP/1.1\r\n".to_vec(),
            _ => Vec::new(),
        };
        for _ in 0..round {
            // xorshift: the same noise in every run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.push(state as u8);
        }
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").verdict(), "200");
    assert!(world.origin.received().len() == 1);
    assert!(!world.log().contains("panicked"), "{}", world.log());
}

#[test]
fn reflected_input_cannot_become_script() {
    let world = World::start();
    let browser = world.client("acme.localhost").with("accept", "text/html");
    for target in ["/%3Cscript%3Ealert(1)%3C/script%3E", "/'onload='x", "/v1/items?x=<script>"] {
        let answer = browser.connect().try_send("GET", target, b"");
        if let Ok(answer) = answer {
            assert!(!answer.text().contains("<script"), "{target}: {}", answer.text());
            assert!(answer.status >= 400, "{target}");
        }
    }
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    let world = World::with(Origin::with(|_| bulkhead_tests::Reply::Hang), |folder| {
        let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        std::fs::write(folder.join("platform.yaml"), text.replace("concurrent: 64", "concurrent: 4")).unwrap();
    });
    let token = world.issuer.token("globex", &["reader"]);
    let ask = || {
        let mut stream = TcpStream::connect(world.address()).unwrap();
        let port = stream.local_addr().unwrap().port();
        write!(stream, "GET /v1/items/{port} HTTP/1.1\r\nhost: globex.localhost\r\nauthorization: Bearer {token}\r\n\r\n").unwrap();
        stream
    };
    for _ in 0..5 {
        // All four are held at once; who is refused because a place is still on its way back asks again.
        let held: Vec<_> = (0..4).map(|_| eventually("a place is free", || holds_place(&world, ask()))).collect();
        drop(held);
    }
}

/// The connection, once its request is with the origin, which says nothing; none if it was answered, which is a refusal.
fn holds_place(world: &World, stream: TcpStream) -> Option<TcpStream> {
    stream.set_nonblocking(true).unwrap();
    let arrived = |stream: &TcpStream| {
        let port = stream.local_addr().unwrap().port();
        world.origin.received().iter().any(|received| received.target() == format!("/v1/items/{port}"))
    };
    eventually("the request is held or refused", || {
        let answered = !matches!((&stream).read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        if answered { Some(false) } else { arrived(&stream).then_some(true) }
    })
    .then_some(stream)
}

#[test]
fn documents_that_are_no_documents_are_named_and_harm_nothing() {
    let world = World::start();
    for (name, text) in [
        ("bomb.yaml", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n".to_owned()),
        ("deep.json", "[".repeat(100_000)),
        ("tabs.yaml", "kind:\n\t- Tenant\n".to_owned()),
        ("binary.yaml", "\u{0}\u{1}\u{2}".to_owned()),
        ("twice.yaml", "kind: Plan\nkind: Plan\nname: x\n".to_owned()),
        ("list.yaml", "- 1\n- 2\n".to_owned()),
        ("kind.yaml", "kind: Tennant\ntenant_id: x\nname: X\nemail: a@b.example\n".to_owned()),
    ] {
        world.write(name, &text);
        eventually(&format!("{name} is named"), || world.admin("GET", "/status", "").text().contains(name).then_some(()));
        assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").verdict(), "200", "{name}");
        std::fs::remove_file(world.documents().join(name)).unwrap();
        eventually(&format!("{name} is forgotten"), || (!world.admin("GET", "/status", "").text().contains(name)).then_some(()));
    }
    std::fs::write(world.documents().join("latin1.yaml"), b"tenant_id: caf\xe9\n").unwrap();
    eventually("it is named", || world.admin("GET", "/status", "").text().contains("latin1.yaml").then_some(()));
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").verdict(), "200");
}
