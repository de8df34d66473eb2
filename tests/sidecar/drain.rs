//! SIGTERM: requests in flight finish, nothing new is taken, exit code 0.

use bulkhead_tests::{Origin, Reply, World, eventually};
use std::sync::{Arc, Condvar, Mutex};

#[test]
fn requests_in_flight_finish_and_the_process_exits_with_0() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let opening = Arc::clone(&gate);
    let origin = Origin::with(move |_| {
        let (open, changed) = &*gate;
        let _open = changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap();
        Reply::Ok(vec![], b"finished".to_vec())
    });
    let mut world = World::with_arguments(origin, &["--workers", "1"], |_| {});
    let client = world.user("acme_corp", &["reader"]);
    let mut silent = client.connect();
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || client.get("/v1/items"))
        })
        .collect();
    eventually("all eight are with the origin", || (world.origin.received().len() == 8).then_some(()));
    world.process().signal("TERM");
    eventually("nothing new is taken", || std::net::TcpStream::connect(world.address()).is_err().then_some(()));
    // The worker learns of it a moment after the listener is gone; from then on answers say that they are the last.
    assert!(silent.is_closed());
    assert!(world.process().ended().is_none(), "it waits for what is in flight");
    {
        let (open, changed) = &*opening;
        *open.lock().unwrap() = true;
        changed.notify_all();
    }
    for request in waiting {
        let answer = request.join().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "finished"));
        assert_eq!(answer.header("connection"), Some("close"));
    }
    assert_eq!(world.process().wait().code(), Some(0), "{}", world.log());
}

#[test]
fn an_idle_connection_does_not_hold_the_end() {
    let mut world = World::start();
    let mut idle = world.user("acme_corp", &["reader"]).connect();
    assert_eq!(idle.send("GET", "/v1/items", b"").status, 200);
    world.process().signal("TERM");
    assert_eq!(world.process().wait().code(), Some(0), "{}", world.log());
    assert!(idle.is_closed());
}

#[test]
fn what_hangs_is_cut_at_the_deadline() {
    let mut world = World::with_arguments(Origin::with(|_| Reply::Hang), &["--drain-deadline", "200ms"], |_| {});
    let client = world.user("acme_corp", &["reader"]);
    let hanging = std::thread::spawn(move || client.connect().try_send("GET", "/v1/items", b""));
    eventually("it is with the origin", || (world.origin.received().len() == 1).then_some(()));
    world.process().signal("TERM");
    assert_eq!(world.process().wait().code(), Some(0), "{}", world.log());
    let _ = hanging.join().unwrap();
}
