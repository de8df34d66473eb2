//! Keys of an issuer from its URL: found, rotated, withdrawn, and what of an outage anybody notices.

use bulkhead_tests::{Issuer, KeyServer, Mood, Origin, Pki, World, eventually};
use std::path::Path;

/// The demo, whose issuer publishes its keys at `server`; `more` stands beside the URL.
fn world(server: &KeyServer, more: &str) -> World {
    World::with(Origin::start(), |folder| {
        server.publish(std::fs::read_to_string(folder.join("issuer.jwks.json")).unwrap());
        std::fs::remove_file(folder.join("issuer.jwks.json")).unwrap();
        asks(folder, &server.url(), more);
    })
}

fn asks(folder: &Path, url: &str, more: &str) {
    let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
    let asks = text.replace("{ file: issuer.jwks.json }", &format!("{{ url: \"{url}\"{more} }}"));
    assert_ne!(text, asks);
    std::fs::write(folder.join("platform.yaml"), asks).unwrap();
}

fn verdict(world: &World, issuer: &Issuer) -> String {
    world.client("acme.localhost").bearer(&issuer.token("acme_corp", &["reader"])).get("/v1/items").verdict()
}

/// What is wrong with the one key set that is fetched.
fn trouble(world: &World) -> Option<String> {
    world.policy()["key_sets"][0]["trouble"].as_str().map(str::to_owned)
}

#[test]
fn the_first_request_waits_for_the_keys_and_a_new_key_is_found_by_the_first_token_that_names_it() {
    let server = KeyServer::start();
    let world = world(&server, "");
    assert_eq!(verdict(&world, &world.issuer), "200");
    let next = world.issuer.rotated();
    server.publish(Issuer::jwks_of(&[&world.issuer, &next]));
    assert_eq!(verdict(&world, &next), "200", "asked for at once");
    assert_eq!(verdict(&world, &world.issuer), "200");
    let asked = server.asked();
    assert!(asked.len() <= 3, "{asked:#?}");
    assert!(asked[0].starts_with("GET /jwks.json HTTP/1.1\r\n") && asked[0].contains("host: localhost:"), "{}", asked[0]);
    let metrics = world.probe("/metrics").text();
    assert!(metrics.contains("bulkhead_key_set_looks_total{result=\"changed\"} 2"), "{metrics}");
    assert!(metrics.contains("bulkhead_key_set_last_fetched_seconds{key_set=\"http://localhost:"), "{metrics}");
}

#[test]
fn a_key_that_the_issuer_does_not_have_is_refused_and_however_many_are_made_up_it_is_asked_a_few_times() {
    let server = KeyServer::start();
    let world = world(&server, "");
    assert_eq!(verdict(&world, &world.issuer), "200");
    let before = server.asked().len();
    for _ in 0..30 {
        let mut stranger = world.issuer.rotated();
        stranger = stranger.rotated();
        let answer = world.client("acme.localhost").bearer(&stranger.token("acme_corp", &["admin"])).get("/v1/items");
        assert_eq!(answer.verdict(), "401 invalid_token");
        assert!(answer.json()["where"].as_str().unwrap().contains("kid"), "{}", answer.text());
    }
    // Three at once; a busy machine may take longer than the ten seconds that give one back.
    assert!(server.asked().len() <= before + 5, "{:#?}", server.asked());
    assert_eq!(verdict(&world, &world.issuer), "200");
    assert!(world.origin.received().len() == 2);
}

#[test]
fn an_outage_takes_no_known_key_away_not_even_over_a_restart_and_new_ones_are_told_to_come_back() {
    let server = KeyServer::start();
    let mut world = world(&server, ", refresh: 1s");
    assert_eq!(verdict(&world, &world.issuer), "200");
    for mood in [
        Mood::Dead,
        Mood::Says(b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n".to_vec()),
        Mood::Says(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"keys\":}".to_vec()),
        Mood::Says(b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{\"keys\":[]}".to_vec()),
        Mood::Says(b"HTTP/1.1 302 Found\r\nlocation: http://localhost/\r\ncontent-length: 0\r\n\r\n".to_vec()),
        Mood::Says(format!("HTTP/1.1 200 OK\r\ncontent-length: 1100000\r\n\r\n{}", " ".repeat(1_100_000)).into_bytes()),
    ] {
        server.becomes(mood.clone());
        let (asked, before) = (server.asked().len(), trouble(&world));
        let told = eventually("the outage is told", || {
            trouble(&world).filter(|told| server.asked().len() > asked && Some(told) != before.as_ref())
        });
        assert!(!told.is_empty());
        assert_eq!(verdict(&world, &world.issuer), "200", "{told}");
    }
    server.becomes(Mood::Dead);
    world.process().signal("TERM");
    world.process().wait();
    world.restart();
    assert_eq!(verdict(&world, &world.issuer), "200", "the keys were kept");
    let next = world.issuer.rotated();
    let answer = world.client("acme.localhost").bearer(&next.token("acme_corp", &["reader"])).get("/v1/items");
    assert_eq!(answer.verdict(), "503 keys_unavailable");
    assert_eq!(answer.header("retry-after"), Some("10"));
    assert!(world.log().contains("a key set cannot be fetched; the keys that are known are used on"), "{}", world.log());

    server.publish(Issuer::jwks_of(&[&world.issuer, &next]));
    server.becomes(Mood::Well);
    eventually("the new key is known once the issuer is back", || (verdict(&world, &next) == "200").then_some(()));
    assert_eq!(trouble(&world), None);
}

#[test]
fn a_key_that_its_issuer_withdraws_proves_nothing_more() {
    let server = KeyServer::start();
    server.with_field("cache-control", "max-age=3600");
    let world = world(&server, ", refresh: 1s");
    assert_eq!(verdict(&world, &world.issuer), "200");
    let next = world.issuer.rotated();
    server.publish(next.jwks());
    eventually("the key is withdrawn", || (verdict(&world, &world.issuer) == "401 invalid_token").then_some(()));
    assert_eq!(verdict(&world, &next), "200");
    let asked = server.asked().len();
    eventually("what did not change is not sent again", || {
        server.asked()[asked..].iter().any(|head| head.contains("if-none-match: \"v2\"")).then_some(())
    });
}

#[test]
fn without_its_keys_an_issuers_tokens_are_neither_accepted_nor_refused() {
    let server = KeyServer::start();
    server.becomes(Mood::Silent);
    let world = world(&server, "");
    assert_eq!(verdict(&world, &world.issuer), "503 keys_unavailable");
    assert_eq!(world.client("acme.localhost").get("/healthz").verdict(), "200");
}

#[test]
fn over_tls_whoever_the_document_believes_may_vouch_for_the_issuer_and_nobody_else() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = KeyServer::over_tls(&pki.certify(&["localhost"]));
    let world = World::with(Origin::start(), |folder| {
        server.publish(std::fs::read_to_string(folder.join("issuer.jwks.json")).unwrap());
        std::fs::write(folder.join("idp.pem"), other.pem()).unwrap();
        asks(folder, &server.url(), ", roots: { file: idp.pem }");
    });
    assert_eq!(verdict(&world, &world.issuer), "503 keys_unavailable");
    assert!(trouble(&world).unwrap().contains("certificate is not accepted"), "{:?}", trouble(&world));
    assert!(server.asked().is_empty(), "no byte of a request before its certificate was accepted");

    world.write("idp.pem", pki.pem());
    eventually("the keys are fetched", || (verdict(&world, &world.issuer) == "200").then_some(()));
    assert_eq!(trouble(&world), None);
}

#[test]
fn what_one_tenant_believes_of_a_url_changes_nothing_for_others() {
    let pki = Pki::new();
    let server = KeyServer::over_tls(&pki.certify(&["localhost"]));
    let world = World::with(Origin::start(), |folder| {
        server.publish(std::fs::read_to_string(folder.join("issuer.jwks.json")).unwrap());
        // The platform believes whom this system trusts, which is not the test's authority.
        asks(folder, &server.url(), "");
        std::fs::write(folder.join("idp.pem"), pki.pem()).unwrap();
        let own = format!(
            "kind: Identity\ntenant: globex\nname: own\njwt:\n  - {{ issuer: \"https://own.example\", audiences: [demo], \
             algorithms: [EdDSA], jwks: {{ url: \"{}\", roots: {{ file: idp.pem }} }} }}\n",
            server.url()
        );
        std::fs::write(folder.join("own.yaml"), own).unwrap();
    });
    eventually("the tenant's set is fetched", || {
        let sets = world.policy()["key_sets"].as_array().cloned().unwrap_or_default();
        (sets.len() == 2 && sets.iter().any(|set| set["age_seconds"].is_u64())).then_some(())
    });
    assert_eq!(verdict(&world, &world.issuer), "503 keys_unavailable");
}
