//! Hostile HTTP/1.1 peers: slow, silent, many, endless or rude. A tenant beside them is served every time, the process grows by a
//! bounded amount, and all that they held is given back.

use bulkhead_tests::{Answer, Origin, Received, Reply, World, eventually, exchange};
use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const HOST: &str = "acme.localhost";
/// The victim is of another tenant and comes from another address: limits per source are not its own.
const VICTIM_HOST: &str = "globex.localhost";
const VICTIM: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// What the process may grow by in an attack by few.
const GROWTH_MAX: u64 = 16 << 20;
/// What it may grow by for each idle connection.
const IDLE_BYTES_MAX: u64 = 8 << 10;
/// See `sidecar/src/connection/limits.rs`.
const CONNECTIONS_MAX: usize = 4_096;
const UNFINISHED_MAX: usize = 512;
/// Connections to an upstream that are kept for the next request.
const UPSTREAM_IDLE_MAX: usize = 256;
/// What this process and the sidecar, which inherits it, need at most.
const DESCRIPTORS: u64 = 16_384;

/// A service that answers as the attack needs it; whom `x-want` is absent from, briefly.
fn origin() -> Origin {
    Origin::with(|request: &Received| match request.header("x-want").as_deref() {
        Some("large") => Reply::Ok(Vec::new(), vec![b'a'; 4 << 20]),
        Some("silence") => Reply::Hang,
        Some("informational") => Reply::RawThenClose(b"HTTP/1.1 100 Continue\r\nlink: </a>\r\n\r\n".repeat(10_000)),
        Some("head") => Reply::RawThenClose([b"HTTP/1.1 200 OK\r\n".as_slice(), &b"x-a: b\r\n".repeat(100_000)].concat()),
        _ => Reply::Ok(Vec::new(), b"served".to_vec()),
    })
}

/// A platform that waits for clients as long as this line of a policy says.
fn world(origin: Origin, request: &str) -> World {
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.is_none_or(|maximum| maximum >= DESCRIPTORS);
    assert!(enough, "{DESCRIPTORS} open files are needed; run: sudo prlimit --nofile={DESCRIPTORS} --pid $$");
    if limit.current.is_some_and(|current| current < DESCRIPTORS) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), ..limit }).unwrap();
    }
    World::with_arguments(origin, &["--workers", "1"], |folder| {
        let file = folder.join("platform.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let impatient = text.replace("response_timeout: 15s", "response_timeout: 2s");
        assert_ne!(impatient, text);
        let policy = format!("---\nkind: SecurityPolicy\nname: impatient\nrequest: {{ {request} }}\n");
        std::fs::write(file, format!("{impatient}\n{policy}")).unwrap();
    })
}

fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn descriptors(id: u32) -> usize {
    std::fs::read_dir(format!("/proc/{id}/fd")).unwrap().count()
}

/// Connections of clients that the sidecar says are open.
fn open(world: &World) -> usize {
    let metrics = world.probe("/metrics").text();
    metrics.lines().find_map(|line| line.strip_prefix("bulkhead_connections ")).unwrap().parse().unwrap()
}

/// Runs `attack` while somebody else is served, who must never notice. What it needed is given back, and the process may not grow
/// by more than `growth_max`; it is measured when the attack is over and its connections still stand.
fn beside_a_victim<T>(world: &mut World, growth_max: u64, attack: impl FnOnce(&World) -> T) {
    let id = world.process().id();
    let world = &*world;
    // Before anything is measured: what every process needs once.
    assert_eq!(world.client(VICTIM_HOST).from(VICTIM).get("/healthz").text(), "served");
    eventually("all is quiet", || (open(world) == 0).then_some(()));
    let (memory, held) = (resident(id), descriptors(id));
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let victim = scope.spawn(|| {
            let client = world.client(VICTIM_HOST).from(VICTIM);
            let mut kept = client.connect();
            while !is_over.load(Ordering::Relaxed) || served.load(Ordering::Relaxed) < 10 {
                assert_eq!(kept.send("GET", "/healthz", b"").text(), "served");
                // Not each time: this machine has so many ports.
                if served.fetch_add(1, Ordering::Relaxed) % 20 == 0 {
                    assert_eq!(client.get("/healthz").text(), "served", "on a connection of its own");
                }
            }
        });
        eventually("the victim is served", || (served.load(Ordering::Relaxed) > 0).then_some(()));
        let attacker = attack(world);
        let grown = resident(id).saturating_sub(memory);
        is_over.store(true, Ordering::Relaxed);
        drop(attacker);
        victim.join().expect("the victim is served");
        assert!(grown < growth_max, "the process grew by {grown} bytes");
    });
    eventually("every connection is given back", || (open(world) == 0).then_some(()));
    eventually("every descriptor is given back", || (descriptors(id) <= held + UPSTREAM_IDLE_MAX).then_some(()));
}

/// Waits until something that has begun does not change any more.
fn until_still<T: PartialEq + Default>(mut probe: impl FnMut() -> T) {
    let mut before = T::default();
    eventually("a standstill", || {
        std::thread::sleep(Duration::from_millis(100));
        let now = probe();
        let is_still = now == before && now != T::default();
        before = now;
        is_still.then_some(())
    });
}

/// An attacker's connection.
struct Attacker(TcpStream);

impl Attacker {
    fn connect(world: &World) -> Self {
        let stream = TcpStream::connect(world.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// One that has sent this; that the sidecar may have let go meanwhile is seen by who reads.
    fn with(world: &World, bytes: impl AsRef<[u8]>) -> Self {
        let mut attacker = Self::connect(world);
        attacker.send(bytes);
        attacker
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).is_ok()
    }

    fn answer(&mut self) -> std::io::Result<Answer> {
        exchange::read(&mut self.0, &mut Vec::new(), false)
    }

    /// The verdict of an answer, or how the connection ended without one.
    fn end(&mut self) -> String {
        match self.answer() {
            Ok(answer) => answer.verdict(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => "nothing".to_owned(),
            Err(_) => "closed".to_owned(),
        }
    }

    /// Leaves with a reset.
    fn reset(self) {
        set_socket_linger(&self.0, Some(Duration::ZERO)).unwrap();
    }
}

/// A request for the public route with these fields besides.
fn request(method: &str, fields: &str) -> String {
    format!("{method} /healthz HTTP/1.1\r\nhost: {HOST}\r\n{fields}\r\n")
}

/// Sends a byte on each connection every fifth of a second until all have ended; their ends.
fn trickle(mut attackers: Vec<Attacker>) -> Vec<String> {
    let mut ends = Vec::new();
    eventually("all are let go", || {
        std::thread::sleep(Duration::from_millis(200));
        attackers.retain_mut(|attacker| {
            attacker.0.set_nonblocking(true).unwrap();
            let (_, ended) =
                (attacker.send("x"), !matches!(attacker.0.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock));
            attacker.0.set_nonblocking(false).unwrap();
            if ended {
                ends.push(attacker.end());
            }
            !ended
        });
        attackers.is_empty().then_some(())
    });
    ends
}

#[test]
fn heads_that_trickle_hold_a_bounded_number_of_places_for_a_bounded_time() {
    let mut world = world(origin(), "head_timeout: 5s");
    beside_a_victim(&mut world, GROWTH_MAX, |world| {
        let held: Vec<Attacker> = (0..UNFINISHED_MAX).map(|_| Attacker::with(world, "GET /healthz HTTP/1.1\r\nx-slow: ")).collect();
        for _ in 0..20 {
            assert_eq!(Attacker::with(world, request("GET", "")).end(), "closed", "one too many");
        }
        let ends = trickle(held);
        assert!(ends.iter().all(|end| end == "408 head_timeout" || end == "closed"), "{ends:?}");
    });
}

#[test]
fn a_head_that_trickles_behind_an_answered_request_has_no_more_time_than_the_first() {
    let mut world = world(origin(), "head_timeout: 1s");
    beside_a_victim(&mut world, GROWTH_MAX, |world| {
        let attackers: Vec<Attacker> = (0..100)
            .map(|n| {
                let more = ["", "GET /healthz HT"][n % 2];
                let mut attacker = Attacker::with(world, request("GET", "") + more);
                assert_eq!(attacker.answer().unwrap().status, 200);
                attacker
            })
            .collect();
        let ends = trickle(attackers);
        assert!(ends.iter().all(|end| end == "408 head_timeout" || end == "closed"), "{ends:?}");
    });
}

#[test]
fn bodies_that_trickle_are_given_up() {
    let mut world = world(origin(), "body_idle_timeout: 1s");
    beside_a_victim(&mut world, GROWTH_MAX, |world| {
        let attackers = (0..200).map(|_| Attacker::with(world, request("POST", "content-length: 100000\r\n"))).collect();
        let ends = trickle(attackers);
        assert!(ends.iter().all(|end| end == "408 body_timeout" || end == "closed"), "{ends:?}");
        assert!(ends.iter().any(|end| end == "408 body_timeout"), "{ends:?}");
    });
}

#[test]
fn answers_that_nobody_takes_wait_in_bounded_memory() {
    let mut world = world(origin(), "head_timeout: 5s");
    // What waits of an answer, read and not yet sent, and the buffers of both sides.
    const EACH_MAX: u64 = 128 << 10;
    let id = world.process().id();
    beside_a_victim(&mut world, 100 * EACH_MAX, |world| {
        let attackers: Vec<Attacker> = (0..100).map(|_| Attacker::with(world, request("GET", "x-want: large\r\n"))).collect();
        eventually("all are with the origin", || (asked(world, "large") == 100).then_some(()));
        until_still(|| resident(id));
        attackers
    });
}

/// Requests that the origin got which want that.
fn asked(world: &World, want: &str) -> usize {
    world.origin.received().iter().filter(|request| request.header("x-want").as_deref() == Some(want)).count()
}

#[test]
fn one_source_holds_as_many_idle_connections_as_it_may_and_each_takes_little() {
    let mut world = world(origin(), "head_timeout: 5s");
    beside_a_victim(&mut world, CONNECTIONS_MAX as u64 * IDLE_BYTES_MAX, |world| {
        let held: Vec<Attacker> = (0..CONNECTIONS_MAX)
            .map(|_| {
                let mut attacker = Attacker::with(world, request("GET", ""));
                assert_eq!(attacker.answer().unwrap().text(), "served");
                attacker
            })
            .collect();
        for _ in 0..20 {
            assert_eq!(Attacker::with(world, request("GET", "")).end(), "closed", "one too many");
        }
        held
    });
}

#[test]
fn connections_that_come_and_go_leave_nothing() {
    let mut world = world(origin(), "head_timeout: 5s");
    beside_a_victim(&mut world, GROWTH_MAX, |world| {
        for round in 0..3_000 {
            let attacker = Attacker::with(world, ["", "G", "GET /healthz HTTP/1.1\r\nhost: a"][round % 3]);
            if round % 2 == 0 { attacker.reset() } else { drop(attacker) }
        }
    });
}

/// A request with a body that never ends, and what comes over and over within it.
const ENDLESS: &[(&str, &str, &str, &[&str])] = &[
    ("a head of one field", "GET /healthz HTTP/1.1\r\nx: ", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", &["431 head_too_large"]),
    ("a head of many fields", "GET /healthz HTTP/1.1\r\n", "x-a: b\r\n", &["431 head_too_large"]),
    ("a target", "GET /healthz?", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", &["431 head_too_large", "414 target_too_long"]),
    ("empty lines", "", "\r\n", &["400 ambiguous_request"]),
    ("a chunk's extension", CHUNKED, "5;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", &["400 ambiguous_request"]),
    ("a chunk's size", CHUNKED, "00000000000000000000000000000000", &["400 ambiguous_request"]),
    ("trailers", TRAILED, "x-a: b\r\n", &["400 ambiguous_request"]),
    (
        "extensions of tiny chunks",
        CHUNKED,
        "1;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\nx\r\n",
        &["400 ambiguous_request"],
    ),
];
const CHUNKED: &str = "POST /healthz HTTP/1.1\r\nhost: acme.localhost\r\ntransfer-encoding: chunked\r\n\r\n";
const TRAILED: &str = "POST /healthz HTTP/1.1\r\nhost: acme.localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n";

#[test]
fn what_never_ends_is_refused() {
    let mut world = world(origin(), "head_timeout: 5s");
    for (name, begin, again, verdicts) in ENDLESS {
        beside_a_victim(&mut world, GROWTH_MAX, |world| {
            let mut attacker = Attacker::with(world, begin);
            let flood = again.repeat(1_024);
            let mut reading = Attacker(attacker.0.try_clone().unwrap());
            std::thread::scope(|scope| {
                let end = scope.spawn(move || reading.end());
                // Ends long before: with the answer, the connection is closed.
                assert!((0..10_000).any(|_| !attacker.send(&flood)), "{name} is read without end");
                let end = end.join().unwrap();
                assert!(verdicts.contains(&end.as_str()), "{name}: {end}");
            });
        });
    }
}

#[test]
fn a_body_of_many_tiny_chunks_arrives_whole() {
    let mut world = world(origin(), "head_timeout: 5s");
    beside_a_victim(&mut world, GROWTH_MAX, |world| {
        let mut attacker = Attacker::with(world, CHUNKED.replace("\r\n\r\n", "\r\nx-want: chunks\r\n\r\n"));
        let chunks = "1\r\nx\r\n".repeat(100_000) + "0\r\n\r\n";
        assert!(attacker.send(chunks));
        assert_eq!(attacker.end(), "200");
        let received = world.origin.received();
        let received = received.iter().find(|request| request.header("x-want").as_deref() == Some("chunks")).unwrap();
        assert_eq!(received.body.len(), 100_000);
    });
}

#[test]
fn ten_thousand_requests_sent_ahead_are_answered_as_their_answers_are_taken() {
    const MANY: usize = 10_000;
    let mut world = world(origin(), "head_timeout: 30s");
    beside_a_victim(&mut world, GROWTH_MAX, |world| {
        let mut attacker = Attacker::connect(world);
        let mut reading = attacker.0.try_clone().unwrap();
        std::thread::scope(|scope| {
            let sent = scope.spawn(move || attacker.send(request("GET", "x-want: much\r\n").repeat(MANY)));
            // Nothing is read until answers stand in the way of requests.
            until_still(|| asked(world, "much"));
            let mut buffer = Vec::new();
            for number in 0..MANY {
                let answer = exchange::read(&mut reading, &mut buffer, false).unwrap_or_else(|why| panic!("answer {number}: {why}"));
                assert_eq!(answer.text(), "served");
            }
            assert!(sent.join().unwrap());
        });
    });
}

#[test]
fn an_origin_that_floods_or_trickles_is_an_upstream_that_failed() {
    let trickling = Origin::speaking(|mut stream| {
        let mut buffer = Vec::new();
        while head(&mut stream, &mut buffer).is_some_and(|head| head.contains("x-want")) {
            for byte in "HTTP/1.1 200 OK\r\n".bytes().chain(b"x-a: b\r\n".repeat(100)) {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    });
    for (origin, want, verdict) in [
        (origin(), "informational", "502 upstream_protocol"),
        (origin(), "head", "502 upstream_protocol"),
        (origin(), "silence", "504 upstream_timeout"),
        (trickling, "trickle", "504 upstream_timeout"),
    ] {
        let mut world = world(origin, "head_timeout: 5s");
        let attack = |world: &World| {
            let mut attackers: Vec<Attacker> =
                (0..50).map(|_| Attacker::with(world, request("GET", &format!("x-want: {want}\r\n")))).collect();
            for attacker in &mut attackers {
                assert_eq!(attacker.end(), verdict, "{want}");
            }
        };
        if want == "trickle" { attack(&world) } else { beside_a_victim(&mut world, GROWTH_MAX, attack) }
    }
}

/// The head of a request; nothing at the end of the connection.
fn head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    buffer.clear();
    let mut byte = [0];
    while !buffer.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        buffer.push(byte[0]);
    }
    Some(String::from_utf8_lossy(buffer).into_owned())
}

#[test]
fn an_upload_that_is_refused_gets_its_answer_while_it_is_being_sent() {
    let mut world = world(origin(), "head_timeout: 5s");
    let begin = format!("POST /v1/items HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 5000000\r\n\r\n");
    beside_a_victim(&mut world, GROWTH_MAX, |world| {
        for _ in 0..20 {
            let mut attacker = Attacker::with(world, &begin);
            let mut reading = attacker.0.try_clone().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(move || attacker.send(vec![b'x'; 5_000_000]));
                let answer = exchange::read(&mut reading, &mut Vec::new(), false).unwrap();
                assert_eq!((answer.verdict().as_str(), answer.header("connection")), ("401 missing_credential", Some("close")));
                // Or the writer waits for somebody who has said all he had to say.
                reading.shutdown(Shutdown::Both).unwrap_or_default();
            });
        }
    });
}

#[test]
fn connections_half_open_are_let_go_and_a_client_that_has_said_all_is_answered() {
    let mut world = world(origin(), "head_timeout: 1s");
    beside_a_victim(&mut world, GROWTH_MAX, |world| {
        let silent: Vec<Attacker> = (0..300).map(|_| Attacker::connect(world)).collect();
        for bytes in ["", "GET /heal"] {
            let mut attacker = Attacker::with(world, bytes);
            attacker.0.shutdown(Shutdown::Write).unwrap();
            assert_eq!(attacker.end(), "closed", "{bytes:?}");
        }
        let mut polite = Attacker::with(world, request("GET", ""));
        polite.0.shutdown(Shutdown::Write).unwrap();
        assert_eq!(polite.end(), "200");
        for mut attacker in silent {
            assert_eq!(attacker.end(), "closed", "silence");
        }
    });
}

#[test]
fn a_reset_in_whatever_phase_gives_everything_back() {
    let mut world = world(origin(), "head_timeout: 30s");
    for (phase, bytes) in [
        ("before a byte", String::new()),
        ("within a head", "GET /healthz HT".to_owned()),
        ("within a body", request("POST", "x-want: body\r\ncontent-length: 100000\r\n") + "x"),
        ("within a chunk", CHUNKED.to_owned() + "ff\r\nx"),
        ("while its answer is awaited", request("GET", "x-want: silence\r\n")),
        ("within its answer", request("GET", "x-want: large\r\n")),
        ("between requests", request("GET", "")),
        ("within requests sent ahead", request("GET", "").repeat(100)),
    ] {
        beside_a_victim(&mut world, GROWTH_MAX, |world| {
            let before = (asked(world, "silence"), asked(world, "large"));
            let attackers: Vec<Attacker> = (0..100).map(|_| Attacker::with(world, &bytes)).collect();
            eventually(phase, || {
                match phase {
                    "while its answer is awaited" => asked(world, "silence") == before.0 + 100,
                    "within its answer" => asked(world, "large") == before.1 + 100,
                    _ => open(world) >= 100,
                }
                .then_some(())
            });
            attackers.into_iter().for_each(Attacker::reset);
        });
    }
}
