//! Hostile HTTP/2 clients: whatever they send without end, they are let go, somebody beside them is served, and memory is bounded.

use bulkhead_tests::{Frame, Http2, Origin, PREFACE, Received, Reply, World, block, eventually, flag, kind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const ENHANCE_YOUR_CALM: u32 = 0xb;
const SETTINGS_TIMEOUT: u32 = 0x4;
const INITIAL_WINDOW_SIZE: u16 = 4;
const HOST: &str = "acme.localhost";
/// Frames of an attack at most; each ends long before.
const FRAMES_MAX: u32 = 200_000;
/// What the process may grow by in an attack.
const GROWTH_MAX: u64 = 32 << 20;

/// Public, and silent when it is asked over HTTP/2; the victim's requests say that they are the victim's.
fn origin() -> Origin {
    Origin::with(|request: &Received| match request.header("x-victim") {
        Some(_) => Reply::Ok(Vec::new(), b"served".to_vec()),
        None => Reply::Hang,
    })
}

fn fields() -> Vec<(&'static str, &'static str)> {
    vec![(":method", "GET"), (":scheme", "http"), (":path", "/healthz"), (":authority", HOST)]
}

fn get(stream: u32) -> Frame {
    Frame::headers(stream, &fields())
}

/// HEADERS of a request that goes on.
fn open(stream: u32) -> Frame {
    Frame::new(kind::HEADERS, flag::END_HEADERS, stream, block(&fields()))
}

/// Resident memory of a process.
fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Runs `attack` while somebody else is served, who must never notice; the process may not grow.
fn beside_a_victim(world: &mut World, attack: impl FnOnce(&World) + Send) {
    let id = world.process().id();
    let before = resident(id);
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let world = &*world;
    std::thread::scope(|scope| {
        let victim = scope.spawn(|| {
            let mut connection = world.client(HOST).with("x-victim", "1").connect();
            // Also when the attack is over at once.
            while !is_over.load(Ordering::Relaxed) || served.load(Ordering::Relaxed) < 10 {
                assert_eq!(connection.send("GET", "/healthz", b"").text(), "served");
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        eventually("the victim is served", || (served.load(Ordering::Relaxed) > 0).then_some(()));
        attack(world);
        is_over.store(true, Ordering::Relaxed);
        victim.join().expect("the victim is served");
    });
    let grown = resident(id).saturating_sub(before);
    assert!(grown < GROWTH_MAX, "the process grew by {grown} bytes");
}

fn floods(world: &World, reason: &str) -> u64 {
    let metrics = world.probe("/metrics").text();
    let name = format!("bulkhead_http2_floods_total{{reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |value| value.parse().expect("a number"))
}

/// Writes `frames(n)` for n = 0, 1, … until the connection ends, and returns the code it ends with.
fn flood(connection: &mut Http2, frames: impl Fn(u32) -> Vec<Frame>) -> Option<u32> {
    for n in 0..FRAMES_MAX {
        if connection.write(&frames(n)).is_err() {
            break;
        }
    }
    connection.until(|frame| frame.kind == kind::GOAWAY).map(|frame| frame.code())
}

/// An attack: what stands in the metric, if we count it ourselves, what begins it, and what is sent again and again.
type Attack = (&'static str, Option<&'static str>, fn() -> Vec<Frame>, fn(u32) -> Vec<Frame>);

const ATTACKS: &[Attack] = &[
    ("streams opened and reset at once", None, Vec::new, |n| vec![get(2 * n + 1), Frame::reset(2 * n + 1, 8)]),
    ("streams whose reset is provoked", None, Vec::new, |n| vec![open(2 * n + 1), Frame::window(2 * n + 1, 0x7fff_ffff)]),
    ("streams beyond what is allowed", None, Vec::new, |n| vec![get(2 * n + 1)]),
    (
        "a head without end",
        None,
        || vec![Frame::new(kind::HEADERS, 0, 1, block(&fields()))],
        |_| vec![Frame::new(kind::CONTINUATION, 0, 1, [])],
    ),
    ("PING", Some("pings"), Vec::new, |_| vec![Frame::ping(b"are you?")]),
    ("SETTINGS", Some("settings"), Vec::new, |n| vec![Frame::settings(&[(INITIAL_WINDOW_SIZE, 1_000 + n)])]),
    ("PRIORITY", Some("priorities"), Vec::new, |_| vec![Frame::new(kind::PRIORITY, 0, 1, [0, 0, 0, 0, 1])]),
    ("frames of no meaning", Some("unknown_frames"), Vec::new, |_| vec![Frame::new(0xbe, 0, 0, [0; 16])]),
    ("empty DATA", None, || vec![open(1)], |_| vec![Frame::new(kind::DATA, 0, 1, [])]),
    ("windows opened byte by byte", Some("window_updates"), || vec![get(1)], |_| vec![Frame::window(1, 1), Frame::window(0, 1)]),
];

#[test]
fn whoever_sends_frames_without_end_is_told_to_calm_down_and_nobody_else_notices() {
    let mut world = World::with(origin(), |_| {});
    for (name, reason, begin, again) in ATTACKS {
        let counted = reason.map(|reason| (reason, floods(&world, reason)));
        beside_a_victim(&mut world, |world| {
            let mut connection = Http2::connect(world.address(), HOST);
            connection.write(&begin()).expect("it takes the beginning");
            assert_eq!(flood(&mut connection, again), Some(ENHANCE_YOUR_CALM), "{name}");
        });
        if let Some((reason, before)) = counted {
            eventually(&format!("{name} is counted"), || (floods(&world, reason) == before + 1).then_some(()));
        }
    }
}

#[test]
fn streams_that_are_reset_once_they_are_served_have_a_budget_too() {
    let mut world = World::with(origin(), |_| {});
    beside_a_victim(&mut world, |world| {
        let mut connection = Http2::connect(world.address(), HOST);
        let end = (0..100).find_map(|round| {
            let streams: Vec<u32> = (0..100).map(|n| 200 * round + 2 * n + 1).collect();
            let mut frames: Vec<Frame> = streams.iter().map(|stream| get(*stream)).collect();
            frames.push(Frame::ping(b"begun all"[..8].try_into().unwrap()));
            let _ = connection.write(&frames);
            // Answered after the streams before it were taken on.
            let seen = connection.until(|frame| frame.is(kind::PING, flag::ACK) || frame.kind == kind::GOAWAY)?;
            let _ = connection.write(&streams.iter().map(|stream| Frame::reset(*stream, 8)).collect::<Vec<_>>());
            (seen.kind == kind::GOAWAY).then(|| seen.code())
        });
        assert_eq!(end, Some(ENHANCE_YOUR_CALM));
    });
    eventually("it is counted", || (floods(&world, "resets") == 1).then_some(()));
}

#[test]
fn a_head_that_unfolds_to_many_times_its_size_fills_no_memory() {
    // One entry of nearly the whole dynamic table, then its index again and again: one byte for 4,000.
    let entry = [&[0x40][..], &[1, b'x', 0x7f, 0x81, 0x1e], &[b'a'; 4_000]].concat();
    let bomb = [block(&fields()), entry, vec![0xbe; 12_000]].concat();
    let bombs = |n: u32| vec![Frame::new(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 2 * n + 1, bomb.clone())];
    let mut world = World::with(origin(), |_| {});
    beside_a_victim(&mut world, |world| {
        let mut connection = Http2::connect(world.address(), HOST);
        assert_eq!(flood(&mut connection, bombs), Some(ENHANCE_YOUR_CALM));
    });
    // Nor before it has accepted our settings.
    beside_a_victim(&mut world, |world| {
        let mut connection = Http2::raw(world.address(), HOST);
        connection.write_raw(&[PREFACE, &Frame::settings(&[]).bytes()].concat()).expect("it takes the preface");
        assert_eq!(flood(&mut connection, bombs), Some(ENHANCE_YOUR_CALM));
    });
}

#[test]
fn answers_that_nobody_takes_hold_a_bounded_part_of_them() {
    let large = Origin::with(|request: &Received| match request.header("x-victim") {
        Some(_) => Reply::Ok(Vec::new(), b"served".to_vec()),
        None => Reply::Ok(Vec::new(), vec![b'a'; 4 << 20]),
    });
    let mut world = World::with(large, |_| {});
    beside_a_victim(&mut world, |world| {
        let mut connection = Http2::with_settings(world.address(), HOST, &[(INITIAL_WINDOW_SIZE, 1)]);
        connection.write(&(0..100).map(|n| get(2 * n + 1)).collect::<Vec<_>>()).expect("it takes the requests");
        for _ in 0..100 {
            connection.until(|frame| frame.kind == kind::DATA).expect("as much as the window lets through");
        }
    });
}

/// A platform that waits a moment only for what a client owes.
fn impatient() -> World {
    World::with(origin(), |folder| {
        let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        let policy = "---\nkind: SecurityPolicy\nname: impatient\nrequest: { head_timeout: 2s }\n";
        std::fs::write(folder.join("platform.yaml"), format!("{text}\n{policy}")).unwrap();
    })
}

#[test]
fn a_client_that_does_nothing_is_let_go() {
    let world = impatient();
    for (name, bytes) in [("silence", Vec::new()), ("half a preface", PREFACE[..10].to_vec()), ("a preface", PREFACE.to_vec())] {
        let mut connection = Http2::raw(world.address(), HOST);
        connection.write_raw(&bytes).expect("it is taken");
        // Half a preface may still become HTTP/1.1; whoever is answered in it is let go as well.
        let mut end = connection.until(|frame| frame.kind == kind::GOAWAY);
        assert_eq!(end.take().map(|frame| frame.code()), (name == "a preface").then_some(SETTINGS_TIMEOUT), "{name}");
    }
}

#[test]
fn a_client_that_ends_no_head_is_let_go_although_others_of_its_streams_are_served() {
    let world = impatient();
    let mut connection = Http2::connect(world.address(), HOST);
    let half = Frame::new(kind::HEADERS, 0, 3, block(&fields()));
    connection.write(&[get(1), half]).expect("it is taken");
    let end = connection.until(|frame| frame.kind == kind::GOAWAY).expect("a last word");
    assert_eq!(end.code(), SETTINGS_TIMEOUT);
    eventually("it is counted", || (floods(&world, "late") == 1).then_some(()));
}

#[test]
fn a_client_may_connect_long_before_it_asks() {
    let world = impatient();
    let mut connection = Http2::connect(world.address(), HOST);
    // Longer than a head may take: seen by one that began later and was let go for it.
    let mut silent = Http2::raw(world.address(), HOST);
    assert_eq!(silent.until(|_| true), None);
    let request = Frame::headers(1, &[fields(), vec![("x-victim", "1")]].concat());
    connection.write(&[request]).expect("it is open");
    connection.until(|frame| frame.is(kind::DATA, flag::END_STREAM)).expect("an answer");
}
