//! Several endpoints: by name, by address, and what becomes of those that change while requests are on their way.

use crate::support::{Client, World, upstream_on, within};
use arc_swap::ArcSwapOption;
use bulkhead_sidecar::request::upstream::resolve::Lookup;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

const ASK: &str = "GET /public/x HTTP/1.1\nHost: acme.test\n\n";

/// What a name resolves to, changed by the test.
#[derive(Clone, Default)]
struct Zone(Arc<ArcSwapOption<Vec<IpAddr>>>);

impl Zone {
    fn of(last: &[u8]) -> Self {
        let zone = Self::default();
        zone.is(last);
        zone
    }

    /// The name has these addresses from now on: 127.0.0.N.
    fn is(&self, last: &[u8]) {
        self.0.store(Some(Arc::new(last.iter().map(|last| Ipv4Addr::new(127, 0, 0, *last).into()).collect())));
    }

    /// Nobody knows the name from now on.
    fn fails(&self) {
        self.0.store(None);
    }

    fn lookup(&self) -> Lookup {
        let zone = self.clone();
        Lookup::new(move |name| match zone.0.load_full() {
            Some(addresses) if name == "app.test" => Ok(addresses.to_vec()),
            _ => Err(io::Error::other("no such name")),
        })
    }
}

/// Listens on one port of 127.0.0.1, 127.0.0.2 and 127.0.0.3; each answers with its own address, and closes.
async fn three() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = first.local_addr().unwrap().port();
        let more = [2, 3].map(|last| SocketAddr::from(([127, 0, 0, last], port)));
        let (Ok(second), Ok(third)) = (TcpListener::bind(more[0]).await, TcpListener::bind(more[1]).await) else { continue };
        for listener in [first, second, third] {
            let own = listener.local_addr().unwrap().ip().to_string();
            upstream_on(listener, move |connection| answers(connection, own.clone()));
        }
        return port;
    }
}

async fn answers(mut connection: Client, text: String) {
    while connection.head().await.is_some() {
        connection.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())).await;
    }
}

/// Who answers so many requests, and how many each.
async fn asked(world: &World, times: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut client = world.client().await;
    for _ in 0..times {
        client.send(ASK).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        *counts.entry(answer.body).or_default() += 1;
    }
    counts
}

/// Asks until exactly these answer.
async fn until_answered_by(world: &World, last: &[u8]) {
    let meant: Vec<String> = last.iter().map(|last| format!("127.0.0.{last}")).collect();
    within(async {
        while asked(world, 30).await.into_keys().collect::<Vec<_>>() != meant {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn every_address_of_a_name_is_an_endpoint_and_gets_its_share() {
    let world = World::resolving(Zone::of(&[1, 2, 3]).lookup(), &[format!("app.test:{}", three().await)], "").await;
    let counts = asked(&world, 300).await;
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert!(counts.values().all(|count| (90..=110).contains(count)), "{counts:?}");
}

#[tokio::test]
async fn addresses_that_come_and_go_are_followed() {
    let zone = Zone::of(&[1]);
    let world = World::resolving(zone.lookup(), &[format!("app.test:{}", three().await)], "refresh: 50ms").await;
    until_answered_by(&world, &[1]).await;
    zone.is(&[2, 3]);
    until_answered_by(&world, &[2, 3]).await;
    zone.is(&[1, 3]);
    until_answered_by(&world, &[1, 3]).await;
}

#[tokio::test]
async fn a_resolver_that_fails_takes_no_address_away() {
    let zone = Zone::of(&[1, 2]);
    let world = World::resolving(zone.lookup(), &[format!("app.test:{}", three().await)], "refresh: 50ms").await;
    until_answered_by(&world, &[1, 2]).await;
    zone.fails();
    world.log_with("log.jsonl", &["cannot be resolved", "app.test", "no such name"]).await;
    assert_eq!(asked(&world, 30).await.len(), 2);
    zone.is(&[2]);
    world.log_with("log.jsonl", &["can be resolved again", "app.test"]).await;
    until_answered_by(&world, &[2]).await;
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_an_error_of_dns_until_somebody_does() {
    let zone = Zone::default();
    let world = World::resolving(zone.lookup(), &[format!("app.test:{}", three().await)], "refresh: 50ms").await;
    let answer = world.ask(ASK).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unreachable"));
    assert!(answer.head.contains("error=dns_error"), "{}", answer.head);
    zone.is(&[3]);
    within(async {
        while world.ask(ASK).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_resolver_that_hangs_is_waited_for_as_long_as_for_a_connection() {
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let lookup = Lookup::new(move |_| {
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(io::Error::other("no such name"))
    });
    let world = World::resolving(lookup, &["app.test:80".to_owned()], "connect_timeout: 100ms").await;
    let answer = world.ask(ASK).await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"));
    assert!(answer.head.contains("error=dns_timeout"), "{}", answer.head);
    is_over.store(true, Ordering::Relaxed);
}
