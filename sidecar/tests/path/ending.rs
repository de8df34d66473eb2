//! How connections, listeners and the process end.

use crate::support::{Client, World, echo, nobody, upstream, within};
use bulkhead_sidecar::policy::Folder;
use std::time::Duration;
use tokio::sync::watch;

#[tokio::test]
async fn a_drain_finishes_what_is_being_answered_and_takes_nothing_new() {
    let (go, gone) = watch::channel(false);
    let waits = upstream(move |mut connection| {
        let mut gone = gone.clone();
        async move {
            while connection.head().await.is_some() {
                let _ = gone.wait_for(|gone| *gone).await;
                connection.send("HTTP/1.1 200 OK\nContent-Length: 2\n\nok").await;
            }
        }
    })
    .await;
    let world = World::start(&[waits], "", "").await;
    let address = world.address();
    let (mut busy, mut idle) = (world.client().await, world.client().await);
    busy.send("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await;
    world.log_with("log.jsonl", &["a listener is open"]).await;
    // The request is with the upstream before the drain begins: its connection shows it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let World { sidecar, documents: _documents, data } = world;
    let drained = tokio::spawn(sidecar.drain(Duration::from_secs(10)));
    assert!(idle.ends().await, "a connection that asks nothing is let go");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
    go.send(true).unwrap();
    let answer = busy.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert!(answer.head.to_ascii_lowercase().contains("connection: close"), "{}", answer.head);
    assert!(busy.ends().await);
    assert_eq!(within(drained).await.unwrap().cut, 0);
    assert!(!data.path().join("addresses.json").exists());
    assert!(std::fs::read_to_string(data.path().join("access.jsonl")).unwrap().contains("/public/x"));
}

#[tokio::test]
async fn a_request_on_its_way_is_answered_although_the_drain_has_begun() {
    let world = World::start(&[echo().await], "", "").await;
    let mut kept = world.client().await;
    kept.send("GET /public/1 HTTP/1.1\nHost: acme.test\n\n").await;
    assert_eq!(kept.answer().await.status, 200);
    let World { sidecar, documents: _documents, data: _data } = world;
    let drained = tokio::spawn(sidecar.drain(Duration::from_secs(10)));
    tokio::time::sleep(Duration::from_millis(50)).await;
    kept.send("GET /public/2 HTTP/1.1\nHost: acme.test\n\n").await;
    assert_eq!(kept.answer().await.status, 200);
    assert!(kept.ends().await);
    assert_eq!(within(drained).await.unwrap().cut, 0);
}

#[tokio::test]
async fn what_outlasts_the_deadline_is_cut_and_counted() {
    let silent = upstream(|mut connection| async move { while connection.head().await.is_some() {} }).await;
    let world = World::start(&[silent], "", "").await;
    let mut client = world.client().await;
    client.send("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let drained = within(world.sidecar.drain(Duration::from_millis(200))).await;
    assert_eq!(drained.cut, 1);
}

/// Until somebody listens there.
async fn reached(address: std::net::SocketAddr) -> Client {
    within(async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    Client::to(address).await
}

#[tokio::test]
async fn a_listener_whose_new_address_cannot_be_had_stays_where_it_is_until_it_can() {
    let origin = echo().await;
    let world = World::start(&[origin], "", "").await;
    let (old, taken) = (world.address(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let new = taken.local_addr().unwrap();
    let at = |address: &str| World::text(&[origin], "", "").replace("127.0.0.1:0", address);
    std::fs::write(world.documents.path().join("all.yaml"), at(&new.to_string())).unwrap();
    world.log_with("log.jsonl", &["cannot listen on", &new.to_string()]).await;
    let get = "GET /public/x HTTP/1.1\nHost: acme.test\n\n";
    assert_eq!(world.ask(get).await.status, 200);
    drop(taken);
    let mut client = reached(new).await;
    client.send(get).await;
    assert_eq!(client.answer().await.status, 200);
    assert!(tokio::net::TcpStream::connect(old).await.is_err(), "it has moved");
    // The same port on all interfaces can only be had when the one on one of them is let go.
    let everywhere = format!("0.0.0.0:{}", new.port());
    std::fs::write(world.documents.path().join("all.yaml"), at(&everywhere)).unwrap();
    world.log_with("log.jsonl", &["a listener is open", &everywhere]).await;
    let mut client = reached(new).await;
    client.send(get).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn listeners_follow_the_documents_without_touching_the_others() {
    let origin = echo().await;
    let world = World::start(&[origin], "", "").await;
    let mut kept = world.client().await;
    kept.send("GET /public/1 HTTP/1.1\nHost: acme.test\n\n").await;
    assert_eq!(kept.answer().await.status, 200);
    let second = format!(
        "---\nkind: Service\nname: second\nlisteners:\n  - {{ name: http, address: \"127.0.0.1:0\" }}\n\
         upstreams:\n  - {{ name: app, endpoints: [\"http://{origin}\"] }}\n\
         routes:\n  - {{ name: all, path: \"/**\", access: public }}\n"
    );
    let file = world.documents.path().join("second.yaml");
    std::fs::write(&file, second.trim_start_matches("---\n")).unwrap();
    let address = within(async {
        loop {
            let text = std::fs::read_to_string(world.data.path().join("addresses.json")).unwrap_or_default();
            let addresses: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let listeners = addresses.get("listeners").and_then(|l| l.as_array()).cloned().unwrap_or_default();
            let found = listeners.iter().find(|listener| listener.get("service").is_some_and(|service| service == "second"));
            if let Some(address) = found.and_then(|listener| listener.get("address")?.as_str()?.parse().ok()) {
                break address;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let mut client = Client::to(address).await;
    client.send("GET /anything HTTP/1.1\nHost: acme.test\n\n").await;
    assert_eq!(client.answer().await.status, 200);
    std::fs::remove_file(&file).unwrap();
    assert!(client.ends().await, "a listener that is gone takes its connections along");
    kept.send("GET /public/2 HTTP/1.1\nHost: acme.test\n\n").await;
    assert_eq!(kept.answer().await.status, 200, "the other listener's connections go on");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let (documents, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let text = World::text(&[nobody().await], "", "").replace("127.0.0.1:0", &address.to_string());
    std::fs::write(documents.path().join("all.yaml"), text).unwrap();
    let source = Folder::watch(documents.path()).unwrap();
    let error = bulkhead_sidecar::start(World::settings(1, &data), source).await.unwrap_err().to_string();
    for word in [&address.to_string(), "`http`", "`demo`", "another process has it"] {
        assert!(error.contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_second_sidecar_on_the_same_data_directory_is_refused() {
    let world = World::start(&[nobody().await], "", "").await;
    let source = Folder::watch(world.documents.path()).unwrap();
    let error = bulkhead_sidecar::start(World::settings(1, &world.data), source).await.unwrap_err().to_string();
    assert!(error.contains("is running with the data directory"), "{error}");
}
