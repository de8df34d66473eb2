//! Long answers, tunnels and uploads: in order, in constant memory, with resistance passed on, and ended with their credential.

use bulkhead_tests::{Algorithm, Client, Connection, Issuer, Origin, World, eventually};
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const EVENTS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: bytes\r\n\r\n";
/// What goes through in each direction.
const MUCH: u64 = 100 << 20;
/// What the whole process may take meanwhile; idle it takes about ten.
const MEMORY_MAX_KIB: u64 = 48 << 10;

/// Reads a request's head; what follows stays unread.
fn head(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|length| length > 0) {
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

/// Reads so many bytes.
fn exactly(stream: &mut impl Read, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Begins a request and reads the head of its answer.
fn begin(client: &Client, request: &str) -> (Connection, String) {
    let mut connection = client.connect();
    connection.write(request.as_bytes()).unwrap();
    let head = head(connection.stream());
    (connection, head)
}

/// A service that begins an answer of events and holds it.
fn silent_events() -> Origin {
    Origin::speaking(|mut stream| {
        while head(&mut stream).contains("HTTP/1.1") {
            if stream.write_all(EVENTS).and_then(|()| stream.write_all(b"7\r\ndata: 1\r\n")).is_err() {
                return;
            }
        }
    })
}

/// A service that switches protocols and gives the rest to `speak`.
fn tunnel(speak: impl Fn(TcpStream) + Send + Sync + 'static) -> Origin {
    Origin::speaking(move |mut stream| {
        head(&mut stream);
        stream.write_all(SWITCHED).unwrap();
        speak(stream);
    })
}

/// A tunnel of a reader of acme_corp.
fn through(world: &World) -> Connection {
    let token = world.issuer.token("acme_corp", &["reader"]);
    let request = format!(
        "GET /v1/items HTTP/1.1\r\nhost: acme.localhost\r\nauthorization: Bearer {token}\r\nconnection: upgrade\r\nupgrade: bytes\r\n\r\n"
    );
    let (connection, head) = begin(&world.client("acme.localhost"), &request);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    connection
}

fn get(token: &str) -> String {
    format!("GET /v1/items HTTP/1.1\r\nhost: acme.localhost\r\nauthorization: Bearer {token}\r\n\r\n")
}

/// The line of the access log that holds this text.
fn logged(world: &World, what: &str) -> Value {
    let path = world.documents().parent().unwrap().join("access.jsonl");
    eventually(what, || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.lines().find(|line| line.contains(what)).map(|line| serde_json::from_str(line).unwrap())
    })
}

/// The most memory that a process ever took.
fn high_water_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn each_event_arrives_before_the_next_is_produced() {
    let (go, gone) = channel::<()>();
    let gone = Mutex::new(gone);
    let world = World::with(
        Origin::speaking(move |mut stream| {
            head(&mut stream);
            stream.write_all(EVENTS).unwrap();
            for number in 0..10 {
                stream.write_all(format!("9\r\ndata: {number}\n\n\r\n").as_bytes()).unwrap();
                gone.lock().unwrap().recv_timeout(Duration::from_secs(30)).unwrap();
            }
            stream.write_all(b"0\r\n\r\n").unwrap();
        }),
        |_| {},
    );
    let token = world.issuer.token("acme_corp", &["reader"]);
    let (mut connection, head) = begin(&world.client("acme.localhost"), &get(&token));
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    for number in 0..10 {
        let event = exactly(connection.stream(), 14);
        assert_eq!(String::from_utf8(event).unwrap(), format!("9\r\ndata: {number}\n\n\r\n"));
        go.send(()).unwrap();
    }
    assert_eq!(exactly(connection.stream(), 5), b"0\r\n\r\n");
}

#[test]
fn a_stream_ends_with_the_token_the_keys_or_the_binding_it_rests_on() {
    type Change = fn(&World);
    let changes: [(&str, &str, Change); 4] = [
        ("invalid_token", "token has expired", |_| {}),
        ("invalid_token", "signature", |world| {
            // Other keys under the same ids: what was signed with the old ones proves nothing.
            world.write("issuer.jwks.json", &Issuer::demo().jwks());
        }),
        ("invalid_token", "issuer", |world| {
            world.write("platform.yaml", &world.read("platform.yaml").replace("issuer.bulkhead.localhost", "another.localhost"));
        }),
        ("not_permitted", "", |world| {
            world.write("platform.yaml", &world.read("platform.yaml").replace("claim: { roles: reader }", "claim: { roles: nobody }"));
        }),
    ];
    for (at, (code, why, change)) in changes.into_iter().enumerate() {
        let world = World::with(silent_events(), |_| {});
        let mut claims = world.issuer.claims("acme_corp", &["reader"]);
        if at == 0 {
            // With the leeway of half a minute: five seconds.
            claims["exp"] = (claims["iat"].as_i64().unwrap() - 25).into();
        }
        let token = world.issuer.sign(Algorithm::EdDsa, &claims);
        let (mut connection, head) = begin(&world.client("acme.localhost"), &get(&token));
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(exactly(connection.stream(), 12), b"7\r\ndata: 1\r\n");
        change(&world);
        let mut rest = Vec::new();
        let _ = connection.stream().read_to_end(&mut rest);
        assert_eq!(rest, b"", "half an answer must not look whole");
        let line = logged(&world, "stream revoked");
        assert_eq!((&line["code"], &line["status"]), (&code.into(), &200.into()), "{line}");
        // The decision is remembered as it was made last, under the name that the answer's request had.
        let told = world.admin("GET", &format!("/explain?decision={}", line["decision_id"].as_str().unwrap()), "").json();
        assert_eq!(told["decision"]["code"], code, "{told}");
        let because = told["because"].as_str().unwrap();
        assert!(because.contains("it was allowed, and ended after") && because.contains(why), "{told}");
        let metric = format!("bulkhead_streams_ended_total{{code=\"{code}\"}} 1");
        assert!(world.probe("/metrics").text().contains(&metric), "{metric}");
    }
}

#[test]
fn new_keys_beside_the_old_ones_and_other_roles_beside_the_held_ones_end_nothing() {
    let world = World::with(silent_events(), |_| {});
    let token = world.issuer.token("acme_corp", &["reader"]);
    let (mut connection, _) = begin(&world.client("acme.localhost"), &get(&token));
    assert_eq!(exactly(connection.stream(), 12), b"7\r\ndata: 1\r\n");
    let revision = |world: &World| world.policy()["epoch"]["revision"].as_u64().unwrap();
    let (mut keys, next) = (serde_json::from_str::<Value>(&world.issuer.jwks()).unwrap(), Issuer::demo());
    let mut key = serde_json::from_str::<Value>(&next.jwks()).unwrap()["keys"][0].take();
    key["kid"] = "next".into();
    keys["keys"].as_array_mut().unwrap().push(key);
    world.write("issuer.jwks.json", &keys.to_string());
    let claims = next.claims("acme_corp", &["nobody"]).to_string();
    let by_next = next.sign_with(Algorithm::EdDsa, r#"{"alg":"EdDSA","kid":"next"}"#, &claims);
    let verdict = || world.client("acme.localhost").bearer(&by_next).get("/v1/items").verdict();
    eventually("the new key is known", || (verdict() == "403 not_permitted").then_some(()));
    let before = revision(&world);
    world.write("platform.yaml", &world.read("platform.yaml").replace("  - GET /v1/reports\n", ""));
    eventually("the edit is live", || (revision(&world) > before).then_some(()));
    // What is refused now is looked at by the same tick as the stream was.
    let (mut doomed, _) =
        begin(&world.client("globex.localhost"), &get(&world.issuer.token("globex", &["reader"])).replace("acme", "globex"));
    assert_eq!(exactly(doomed.stream(), 12), b"7\r\ndata: 1\r\n");
    world.write("tenants/globex.yaml", &world.read("tenants/globex.yaml").replace("name: Globex", "name: Globex\nstate: suspended"));
    assert!(doomed.is_closed());
    connection.stream().set_nonblocking(true).unwrap();
    assert_eq!(connection.stream().read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn the_end_of_one_side_is_passed_on_and_the_other_goes_on() {
    let (say, said) = channel();
    let say = Mutex::new(say);
    let world = World::with(
        tunnel(move |mut stream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            say.lock().unwrap().send(all).unwrap();
            stream.write_all(b"and yet it goes on").unwrap();
        }),
        |_| {},
    );
    let mut client = through(&world);
    client.write(b"all of it").unwrap();
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(said.recv_timeout(Duration::from_secs(30)).unwrap(), b"all of it");
    let mut answer = Vec::new();
    client.stream().read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"and yet it goes on");
}

#[test]
fn the_end_of_the_service_is_passed_on_and_the_client_goes_on() {
    let (say, said) = channel();
    let say = Mutex::new(say);
    let world = World::with(
        tunnel(move |mut stream| {
            stream.shutdown(Shutdown::Write).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            say.lock().unwrap().send(all).unwrap();
        }),
        |_| {},
    );
    let mut client = through(&world);
    assert_eq!(client.stream().read(&mut [0]).unwrap(), 0);
    client.write(b"all the same").unwrap();
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(said.recv_timeout(Duration::from_secs(30)).unwrap(), b"all the same");
}

/// Writes `MUCH` and then says that it is all.
fn pour(mut stream: TcpStream) {
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..MUCH >> 20 {
        stream.write_all(&piece).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Reads to the end; how much it was.
fn drain(mut stream: TcpStream) -> u64 {
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return total,
            length => total += length as u64,
        }
    }
}

#[test]
fn a_hundred_mebibytes_both_ways_at_once_take_no_memory() {
    let mut world = World::with(
        tunnel(|stream| {
            let writes = stream.try_clone().unwrap();
            let pouring = std::thread::spawn(move || pour(writes));
            assert_eq!(drain(stream), MUCH);
            pouring.join().unwrap();
        }),
        |_| {},
    );
    let mut client = through(&world);
    let writes = client.stream().try_clone().unwrap();
    let pouring = std::thread::spawn(move || pour(writes));
    assert_eq!(drain(client.stream().try_clone().unwrap()), MUCH);
    pouring.join().unwrap();
    drop(client);
    let line = logged(&world, "\"status\":101");
    assert_eq!((line["bytes_in"].as_u64(), line["bytes_out"].as_u64()), (Some(MUCH), Some(MUCH)));
    let most = high_water_kib(world.process().id());
    assert!(most < MEMORY_MAX_KIB, "{most} KiB");
}

#[test]
fn a_body_of_a_hundred_mebibytes_comes_back_while_it_goes_and_takes_no_memory() {
    let mut world = World::with(
        Origin::speaking(|mut stream| {
            head(&mut stream);
            stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {MUCH}\r\n\r\n").as_bytes()).unwrap();
            let mut body = stream.try_clone().unwrap().take(MUCH);
            std::io::copy(&mut body, &mut stream).unwrap();
        }),
        |folder| {
            let platform = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
            std::fs::write(folder.join("platform.yaml"), platform.replace("body_bytes_max: 10MiB", "body_bytes_max: 100MiB")).unwrap();
        },
    );
    let token = world.issuer.token("acme_corp", &["editor"]);
    let request = format!(
        "POST /v1/items HTTP/1.1\r\nhost: acme.localhost\r\nauthorization: Bearer {token}\r\ncontent-length: {MUCH}\r\nconnection: close\r\n\r\n"
    );
    let mut connection = world.client("acme.localhost").connect();
    connection.write(request.as_bytes()).unwrap();
    let mut writes = connection.stream().try_clone().unwrap();
    let pouring = std::thread::spawn(move || {
        let piece = vec![b'x'; 1 << 20];
        (0..MUCH >> 20).for_each(|_| writes.write_all(&piece).unwrap());
    });
    let answer = head(connection.stream());
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(drain(connection.stream().try_clone().unwrap()), MUCH);
    pouring.join().unwrap();
    let most = high_water_kib(world.process().id());
    assert!(most < MEMORY_MAX_KIB, "{most} KiB");
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answer_and_the_service_knows() {
    let world = World::with(
        Origin::speaking(|mut stream| {
            head(&mut stream);
            stream.write_all(EVENTS).and_then(|()| stream.write_all(b"7\r\ndata: 1\r\n")).unwrap();
            // Only the end of the client's side lets it go on.
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            stream.write_all(b"7\r\ndata: 2\r\n0\r\n\r\n").unwrap();
        }),
        |_| {},
    );
    let (mut connection, _) = begin(&world.client("acme.localhost"), &get(&world.issuer.token("acme_corp", &["reader"])));
    assert_eq!(exactly(connection.stream(), 12), b"7\r\ndata: 1\r\n");
    connection.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(exactly(connection.stream(), 17), b"7\r\ndata: 2\r\n0\r\n\r\n");
}

/// A service that counts what it could write of a body without end, and tells when its client is gone.
fn flood(wrote: &Arc<AtomicU64>) -> Origin {
    let wrote = Arc::clone(wrote);
    Origin::speaking(move |mut stream| {
        head(&mut stream);
        stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 1_u64 << 40).as_bytes()).unwrap();
        let piece = vec![b'x'; 64 << 10];
        while stream.write_all(&piece).is_ok() {
            wrote.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        wrote.store(u64::MAX, Ordering::Relaxed);
    })
}

#[test]
fn a_client_that_reads_slowly_slows_the_service_and_one_that_leaves_ends_it() {
    let wrote = Arc::new(AtomicU64::new(0));
    let mut world = World::with(flood(&wrote), |_| {});
    let token = world.issuer.token("acme_corp", &["reader"]);
    let (mut connection, head) = begin(&world.client("acme.localhost"), &get(&token));
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    // It stands when the buffers of the system between the three are full: then a while brings no more.
    let stands = || {
        let mut before = 0;
        eventually("the service stands still", || {
            let now = wrote.load(Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(200));
            let stands = now > 0 && now == before;
            before = now;
            stands.then_some(now)
        })
    };
    let first = stands();
    assert!(first < 128 << 20, "{first} bytes went nowhere");
    exactly(connection.stream(), 16 << 20);
    let second = stands();
    assert!(second > first && second < first + (128 << 20), "{first}, then {second}");
    let most = high_water_kib(world.process().id());
    assert!(most < MEMORY_MAX_KIB, "{most} KiB");
    drop(connection);
    eventually("the service sees its client gone", || (wrote.load(Ordering::Relaxed) == u64::MAX).then_some(()));
    eventually("nothing lasts any more", || world.probe("/metrics").text().contains("\nbulkhead_streams 0\n").then_some(()));
}

#[test]
fn a_client_that_resets_an_answer_in_the_midst_gives_its_place_back() {
    let (ended, end) = channel();
    let ended = Mutex::new(ended);
    let world = World::with(
        Origin::speaking(move |mut stream| {
            head(&mut stream);
            stream.write_all(EVENTS).unwrap();
            // Nothing more is said: only the end of the connection tells.
            let left = stream.read(&mut [0]);
            let _ = ended.lock().unwrap().send(matches!(left, Ok(0) | Err(_)));
        }),
        |_| {},
    );
    let token = world.issuer.token("acme_corp", &["reader"]);
    let (connection, _) = begin(&world.client("acme.localhost"), &get(&token));
    eventually("it lasts", || world.probe("/metrics").text().contains("\nbulkhead_streams 1\n").then_some(()));
    drop(connection);
    assert!(end.recv_timeout(Duration::from_secs(30)).unwrap());
    eventually("nothing lasts any more", || world.probe("/metrics").text().contains("\nbulkhead_streams 0\n").then_some(()));
}

#[test]
fn an_upload_is_asked_for_after_the_decision_and_its_trailers_arrive() {
    let (say, said) = channel();
    let say = Mutex::new(say);
    let world = World::with(
        Origin::speaking(move |mut stream| {
            let fields = head(&mut stream);
            let mut body = Vec::new();
            while !body.ends_with(b"\r\n\r\n") {
                body.extend(exactly(&mut stream, 1));
            }
            say.lock().unwrap().send((fields, String::from_utf8(body).unwrap())).unwrap();
            let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
        }),
        |_| {},
    );
    let post = |roles: &[&str]| {
        let token = world.issuer.token("acme_corp", roles);
        let request = format!(
            "POST /v1/items HTTP/1.1\r\nhost: acme.localhost\r\nauthorization: Bearer {token}\r\nte: trailers\r\nexpect: 100-continue\r\n\
             transfer-encoding: chunked\r\ntrailer: x-digest\r\n\r\n"
        );
        begin(&world.client("acme.localhost"), &request)
    };
    let (_, refused) = post(&["reader"]);
    assert!(refused.starts_with("HTTP/1.1 403 "), "no byte of it is asked for: {refused}");
    let (mut connection, asked) = post(&["editor"]);
    assert!(asked.starts_with("HTTP/1.1 100 "), "{asked}");
    connection.write(b"3\r\nabc\r\n0\r\nx-digest: 1\r\n\r\n").unwrap();
    let (_, body) = said.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(body.to_ascii_lowercase(), "3\r\nabc\r\n0\r\nx-digest: 1\r\n\r\n");
    let answer = head(connection.stream());
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut rest = String::new();
    while !rest.ends_with("\r\n\r\n") {
        rest.push_str(&String::from_utf8(exactly(connection.stream(), 1)).unwrap());
    }
    assert_eq!(rest.to_ascii_lowercase(), "2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n");
}
