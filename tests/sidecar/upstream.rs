//! A service that fails: every way has its own answer, and none of them hangs the client.

use bulkhead_tests::{Origin, Raw, Received, Reply, World};
use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn world(behaviour: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> World {
    World::with(Origin::with(behaviour), |folder| {
        let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        std::fs::write(folder.join("platform.yaml"), text.replace("response_timeout: 15s", "response_timeout: 300ms")).unwrap();
    })
}

#[test]
fn nobody_listens() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::with(Origin::start(), |folder| {
        let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        let at = text.find("endpoints: [\"http://").unwrap();
        let end = at + text[at..].find(']').unwrap();
        std::fs::write(folder.join("platform.yaml"), format!("{}endpoints: [\"http://{unused}\"{}", &text[..at], &text[end..])).unwrap();
    });
    let answer = world.user("acme_corp", &["reader"]).get("/v1/items");
    assert_eq!(answer.verdict(), "502 upstream_unreachable");
    assert!(answer.text().contains("connect"), "it says which step failed: {}", answer.text());
    assert!(!answer.text().contains(&unused.port().to_string()), "a client learns no address of the inside: {}", answer.text());
}

#[test]
fn it_never_answers() {
    let answer = world(|_| Reply::Hang).user("acme_corp", &["reader"]).get("/v1/items");
    assert_eq!(answer.verdict(), "504 upstream_timeout");
}

#[test]
fn it_closes_without_a_word() {
    let answer = world(|_| Reply::Close).user("acme_corp", &["reader"]).get("/v1/items");
    assert_eq!(answer.verdict(), "502 upstream_protocol");
}

#[test]
fn it_speaks_something_else() {
    let answer = world(|_| Reply::RawThenClose(b"220 mail.example ESMTP\r\n\r\n".to_vec())).user("acme_corp", &["reader"]).get("/v1/items");
    assert_eq!(answer.verdict(), "502 upstream_protocol");
}

#[test]
fn it_stops_in_the_middle_of_the_body() {
    let world = world(|_| Reply::RawThenClose(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec()));
    let mut connection = world.user("acme_corp", &["reader"]).connect();
    assert!(connection.try_send("GET", "/v1/items", b"").is_err(), "half an answer must not pass for a whole one");
    // The process and other connections go on.
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v2").status, 404);
}

#[test]
fn a_kept_connection_that_the_service_closed_costs_no_request() {
    // It answers once on each connection, then closes it without saying so.
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let world = World::with_arguments(
        Origin::with(|_| {
            SEEN.fetch_add(1, Ordering::Relaxed);
            Reply::RawThenClose(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec())
        }),
        &["--workers", "1"],
        |_| {},
    );
    let mut connection = world.user("acme_corp", &["reader"]).connect();
    for _ in 0..20 {
        assert_eq!(connection.send("GET", "/v1/items", b"").status, 200);
    }
    assert_eq!(SEEN.load(Ordering::Relaxed), 20);
}

#[test]
fn nor_does_it_cost_one_of_a_client_that_has_said_all() {
    // It ends each connection at its second request, without a word.
    let origin = Origin::speaking(|mut stream| {
        let head: Vec<_> = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        if head.first().is_some_and(|line| line.contains("slow")) {
            std::thread::sleep(Duration::from_millis(500));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        let _ = BufReader::new(&stream).read_line(&mut String::new());
    });
    let world = World::with_arguments(origin, &["--workers", "1"], |_| {});
    let mut client = Raw::connect(world.address());
    let get = |target| format!("GET {target} HTTP/1.1\r\nhost: acme.localhost\r\n\r\n");
    client.send(format!("{}{}", get("/healthz?slow"), get("/healthz")).as_bytes());
    client.end();
    std::thread::sleep(Duration::from_millis(200));
    // While the first is answered, another client leaves a connection behind that the second will go over.
    assert_eq!(world.client("acme.localhost").get("/healthz").status, 200);
    let answers = String::from_utf8(client.rest().unwrap()).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
}

#[test]
fn what_a_slow_reader_has_not_taken_yet_is_neither_cut_nor_spoken_into() {
    let body = "x".repeat(8_000);
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let world = World::with_arguments(Origin::with(move |_| Reply::Raw(answer.clone().into_bytes())), &["--workers", "1"], |_| {});
    let asks = |number| "GET /healthz HTTP/1.1\r\nhost: acme.localhost\r\n\r\n".repeat(number);
    // So many answers until the system takes no more of them: it stops within the last.
    let mut unread = Raw::connect(world.address());
    unread.send(asks(100).as_bytes());
    let mut taken = 0;
    for sent in (200..=4_000).step_by(100) {
        std::thread::sleep(Duration::from_millis(200));
        if world.origin.received().len() == taken {
            break;
        }
        taken = world.origin.received().len();
        assert!(sent < 4_000, "it takes everything");
        unread.send(asks(100).as_bytes());
    }
    for (number, ending) in [taken - 1, taken, taken + 1].into_iter().flat_map(|number| [(number, ""), (number, "none\r\n\r\n")]) {
        let mut client = Raw::connect(world.address());
        client.send(format!("{}{ending}", asks(number)).as_bytes());
        client.end();
        std::thread::sleep(Duration::from_millis(3_500));
        let answers = String::from_utf8(client.rest().unwrap()).unwrap();
        let whole = answers.match_indices(&format!("\r\n\r\n{body}")).count();
        let last = answers.rsplit("HTTP/1.1 ").next().unwrap();
        assert_eq!((whole, last.starts_with("400")), (number, !ending.is_empty()), "{} bytes after {number}{ending}", answers.len());
    }
}

#[test]
fn a_request_that_may_not_be_repeated_is_sent_once() {
    let world = world(|_| Reply::Close);
    let answer = world.user("acme_corp", &["editor"]).send("POST", "/v1/items", b"{}");
    assert_eq!(answer.status, 502);
    assert_eq!(world.origin.received().len(), 1);
}

#[test]
fn of_several_endpoints_those_that_work_are_used() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::with(Origin::start(), |folder| {
        let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        std::fs::write(folder.join("platform.yaml"), text.replace("endpoints: [", &format!("endpoints: [\"http://{unused}\", "))).unwrap();
    });
    for _ in 0..20 {
        assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").verdict(), "200");
    }
}

#[test]
fn interim_and_empty_answers_are_passed_as_they_are() {
    let world = world(|request| match request.target() {
        "/v1/items/204" => Reply::Raw(b"HTTP/1.1 204 No Content\r\nx-kept: 1\r\n\r\n".to_vec()),
        "/v1/items/304" => Reply::Raw(b"HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n".to_vec()),
        "/v1/items/103" => {
            Reply::Raw(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec())
        }
        _ => Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_vec()),
    });
    let mut connection = world.user("acme_corp", &["reader"]).connect();
    assert_eq!(connection.send("GET", "/v1/items/204", b"").header("x-kept"), Some("1"));
    assert_eq!(connection.send("GET", "/v1/items/304", b"").header("etag"), Some("\"a\""));
    assert_eq!(connection.send("GET", "/v1/items/103", b"").text(), "ok");
    let head = connection.send("HEAD", "/v1/items/1", b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
    assert_eq!(connection.send("GET", "/v1/items/1", b"").text(), "hello");
}
