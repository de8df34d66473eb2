//! A new process takes the place of the running one: nobody is refused, nothing is lost, and what fails changes nothing.

use bulkhead_tests::{Client, Origin, Reply, World, eventually};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Requests that one client makes at most.
const REQUESTS_MAX: usize = 20_000;
/// What the old process says at the end of a hand-over.
const GOES: &str = "another process has taken over";
const STAYS: &str = "nobody took over";

/// A hand-over to its end.
fn hand_over(world: &mut World) {
    let new = world.successor(&[]);
    let mut old = world.follow(new);
    assert_eq!(old.wait().code(), Some(0), "{}", world.log());
    still_runs(world);
}

fn still_runs(world: &mut World) {
    let ended = world.process().ended();
    assert!(ended.is_none(), "{ended:?}\n{}", world.log());
}

/// Asks until told to stop, on a connection for each request. How often it was answered.
fn ask_anew(client: &Client, stop: &AtomicBool) -> usize {
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) && answered < REQUESTS_MAX {
        assert_eq!(client.get("/healthz").status, 200);
        answered += 1;
    }
    answered
}

/// Asks until told to stop, on a connection that is kept until the sidecar ends it.
fn ask_on(client: &Client, stop: &AtomicBool) -> usize {
    let (mut connection, mut answered) = (client.connect(), 0);
    while !stop.load(Ordering::Relaxed) && answered < REQUESTS_MAX {
        // A client that was not given a processor for long may find it ended in silence.
        if has_ended(connection.stream()) {
            connection = client.connect();
        }
        let answer = connection.send("GET", "/healthz", b"");
        assert_eq!(answer.status, 200);
        answered += 1;
        if answer.header("connection").is_some_and(|value| value == "close") {
            connection = client.connect();
        }
    }
    answered
}

fn has_ended(stream: &std::net::TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let ended = stream.peek(&mut [0]).is_ok_and(|read| read == 0);
    stream.set_nonblocking(false).unwrap();
    ended
}

#[test]
fn ten_hand_overs_under_load_fail_no_request_and_refuse_no_connection() {
    for workers in ["1", "2"] {
        let mut world = World::with_arguments(Origin::start(), &["--workers", workers], |_| {});
        let (client, address) = (world.client("acme.localhost"), world.address());
        let stop = AtomicBool::new(false);
        let answered = std::thread::scope(|scope| {
            // Told to stop also when a hand-over fails, or the clients would be waited for.
            let _stop = OnDrop(&stop);
            let (client, stop) = (&client, &stop);
            let anew: Vec<_> = (0..2).map(|_| scope.spawn(move || ask_anew(client, stop))).collect();
            let on: Vec<_> = (0..2).map(|_| scope.spawn(move || ask_on(client, stop))).collect();
            for _ in 0..5 {
                hand_over(&mut world);
            }
            stop.store(true, Ordering::Relaxed);
            anew.into_iter().chain(on).map(|client| client.join().unwrap()).sum::<usize>()
        });
        assert_eq!(world.origin.received().len(), answered, "each request reached the origin once");
        assert_eq!(world.address(), address);
        assert_eq!(world.probe("/readyz").status, 200);
        assert!(!world.log().contains("did not end in order"), "{}", world.log());
    }
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_the_old_process_answers_is_finished_while_the_new_one_serves() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let opening = Arc::clone(&gate);
    let waiting = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&waiting);
    let origin = Origin::with(move |request| {
        if request.target() == "/v1/items/slow" {
            counting.fetch_add(1, Ordering::Relaxed);
            let (open, changed) = &*gate;
            let _open = changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap();
        }
        Reply::Ok(vec![], b"finished".to_vec())
    });
    let mut world = World::with(origin, |_| {});
    let client = world.user("acme_corp", &["reader"]);
    let slow: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || client.get("/v1/items/slow"))
        })
        .collect();
    eventually("all eight are with the origin", || (waiting.load(Ordering::Relaxed) == 8).then_some(()));
    let new = world.successor(&[]);
    let mut old = world.follow(new);
    eventually("the new one has taken over", || world.log().contains(GOES).then_some(()));
    assert_eq!(client.get("/v1/items").status, 200);
    assert!(old.ended().is_none(), "it waits for what is in flight");
    {
        let (open, changed) = &*opening;
        *open.lock().unwrap() = true;
        changed.notify_all();
    }
    for request in slow {
        let answer = request.join().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "finished"));
    }
    assert_eq!(old.wait().code(), Some(0), "{}", world.log());
    still_runs(&mut world);
}

#[test]
fn the_new_process_has_the_data_directory_and_follows_the_documents() {
    let mut world = World::start();
    let probes = world.probes();
    hand_over(&mut world);
    assert_eq!(world.probes(), probes);
    in_charge(&mut world, "first");
    hand_over(&mut world);
    in_charge(&mut world, "second");
    world.process().signal("TERM");
    assert_eq!(world.process().wait().code(), Some(0));
    for left in ["addresses.json", "admin.sock", "hand-over.sock", "policy/running"] {
        assert!(!world.data().join(left).exists(), "{left}");
    }
    world.restart();
    assert!(!world.log().contains("did not end in order"), "{}", world.log());
}

/// The process serves, answers operators, and an edit is live: globex has one more host.
fn in_charge(world: &mut World, edit: &str) {
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").status, 200);
    let text = world.read("tenants/globex.yaml");
    let hosts = text.lines().find(|line| line.starts_with("hosts: [")).unwrap();
    world.write("tenants/globex.yaml", &text.replace(hosts, &format!("hosts: [globex.localhost, {edit}.localhost]")));
    let client = world.client(&format!("{edit}.localhost")).bearer(&world.issuer.token("globex", &["reader"]));
    eventually("the edit is live", || (client.get("/v1/items").status == 200).then_some(()));
    assert_eq!(world.admin("GET", "/status", "").status, 200);
    let names = ["addresses.json", "hand-over.sock", "policy/running"];
    eventually("the data directory is in use", || names.iter().all(|name| world.data().join(name).exists()).then_some(()));
    still_runs(world);
}

/// Ends a new process that holds still at some step, and shows that the old one goes on.
fn dies_at(step: &str, hold_still: impl FnOnce(&Path)) {
    let mut world = World::start();
    let aside = world.data().with_file_name("aside");
    std::fs::create_dir_all(aside.join("policy")).unwrap();
    hold_still(&aside);
    let mut new = world.successor(&["--data-dir", aside.to_str().unwrap()]);
    eventually("the old one has left its data directory", || (!world.data().join("admin.sock").exists()).then_some(()));
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").status, 200, "{step}");
    assert_eq!(world.probe("/readyz").status, 200, "{step}");
    new.kill();
    eventually("the old one has it back", || world.data().join("admin.sock").exists().then_some(()));
    in_charge(&mut world, "after");
    hand_over(&mut world);
    in_charge(&mut world, "again");
    assert!(!world.log().contains("did not end in order"), "{}", world.log());
}

/// Whoever opens it waits for somebody at its other end.
fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().expect("mkfifo(1) exists (apt-get install coreutils)");
    assert!(made.success());
}

#[test]
fn a_new_process_that_dies_before_it_locks_its_directory_changes_nothing() {
    dies_at("the lock", |aside| pipe(&aside.join("admin.lock")));
}

#[test]
fn a_new_process_that_dies_before_it_has_a_policy_changes_nothing() {
    dies_at("the policy", |aside| pipe(&aside.join("policy/journal")));
}

/// Killed at whatever step it is at: then either it had taken over, or the old one is in charge.
#[test]
fn a_new_process_that_dies_in_the_same_directory_leaves_one_in_charge_or_had_taken_over() {
    let mut world = World::start();
    for (round, seen) in ["hand-over.sock", "admin.sock", "policy/running"].into_iter().enumerate() {
        let mut new = world.successor(&[]);
        let path = world.data().join(seen);
        eventually("the old one leaves", || (!path.exists() || world.process().ended().is_some()).then_some(()));
        new.kill();
        eventually("the old one decides", || {
            let log = world.log();
            (log.matches(GOES).count() + log.matches(STAYS).count() > round).then_some(())
        });
        let log = world.log();
        if log.rfind(GOES) > log.rfind(STAYS) {
            assert_eq!(world.process().wait().code(), Some(0), "{log}");
            world.restart();
        }
        in_charge(&mut world, &format!("round-{round}"));
    }
}

#[test]
fn a_new_process_that_cannot_serve_says_why_and_leaves_the_old_one_in_charge() {
    let mut world = World::start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (arguments, code) in [
        (["--probe-address", &taken.local_addr().unwrap().to_string()], 69),
        (["--documents", "/nowhere/documents"], 69),
        (["--workers", "none"], 64),
    ] {
        let mut new = world.successor(&arguments);
        assert_eq!(new.wait().code(), Some(code), "{arguments:?}\n{}", world.log());
        still_runs(&mut world);
    }
    eventually("the old one has its directory back", || world.data().join("admin.sock").exists().then_some(()));
    in_charge(&mut world, "after");
}

#[test]
fn where_nobody_runs_there_is_nothing_to_take_over() {
    let mut world = World::start();
    world.process().signal("TERM");
    assert_eq!(world.process().wait().code(), Some(0));
    let mut new = world.successor(&[]);
    assert_eq!(new.wait().code(), Some(69));
    assert!(world.log().contains("no sidecar can be taken over"), "{}", world.log());
}

#[test]
fn who_cannot_take_over_is_told_so_or_let_go_and_holds_nobody_up() {
    let mut world = World::start();
    let path = world.data().join("hand-over.sock");
    let door = || {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    };
    eventually("the door is open", || path.exists().then_some(()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut later = door();
    later.write_all(b"{\"take_over\":2,\"by\":\"2.0.0\"}\n").unwrap();
    let mut said = String::new();
    later.read_to_string(&mut said).unwrap();
    assert!(said.contains("refused") && said.contains("2.0.0"), "{said}");
    let mut garbled = door();
    garbled.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(garbled.read(&mut [0]).unwrap_or(0), 0);
    let _silent = door();
    assert_eq!(world.admin("GET", "/status", "").status, 200, "nobody has left anything");
    hand_over(&mut world);
}
