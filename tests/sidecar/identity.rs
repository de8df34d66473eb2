//! Who is who while identities change: several issuers side by side, revocations, and an issuer that rotates and dies under load.

use aws_lc_rs::digest::{SHA256, digest};
use bulkhead_tests::{Algorithm, Client, Issuer, KeyServer, Mood, Origin, World, eventually};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// The secret of every key here.
const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn api_key(tenant: &str, id: &str) -> String {
    format!("bk1.{tenant}.{id}.{SECRET}")
}

/// A document with these keys of a tenant, and a binding that makes them readers.
fn keys_of(tenant: &str, ids: &[&str]) -> String {
    let key = |id: &&str| {
        let hash: String = digest(&SHA256, api_key(tenant, id).as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("  - {{ id: {id}, sha256: {hash} }}\n")
    };
    let subjects: Vec<String> = ids.iter().map(|id| format!("{{ api_key: {id} }}")).collect();
    format!(
        "kind: Identity\ntenant: {tenant}\nname: keys\napi_keys:\n{}---\nkind: RoleBinding\ntenant: {tenant}\nname: keys_read\nrole: \
         reader\nsubjects: [{}]\n",
        ids.iter().map(key).collect::<String>(),
        subjects.join(", "),
    )
}

fn identity_of(scope: &str, what: &str) -> String {
    format!("kind: Identity\n{scope}name: taken_back\n{what}\n")
}

fn read(client: &Client) -> String {
    client.get("/v1/items").verdict()
}

fn revision(world: &World) -> u64 {
    world.policy()["epoch"]["revision"].as_u64().unwrap()
}

#[test]
fn each_issuer_proves_what_its_document_says_and_no_more() {
    let (first, second, partner) =
        (Issuer::new("https://a.example"), Issuer::new("https://b.example"), Issuer::new("https://partner.example"));
    let world = World::with(Origin::start(), |folder| {
        let declared = |issuer: &str, file: &str, more: &str| {
            format!("  - {{ issuer: \"{issuer}\", audiences: [demo], algorithms: [EdDSA], jwks: {{ file: {file} }}{more} }}\n")
        };
        for (file, issuer) in [("a.jwks", &first), ("b.jwks", &second), ("partner.jwks", &partner)] {
            std::fs::write(folder.join(file), issuer.jwks()).unwrap();
        }
        let own = [declared("https://a.example", "a.jwks", ""), declared("https://b.example", "b.jwks", "")].concat();
        std::fs::write(folder.join("own.yaml"), format!("kind: Identity\ntenant: globex\nname: own\njwt:\n{own}")).unwrap();
        let partners = declared("https://partner.example", "partner.jwks", ", tenant_claim: tenant");
        std::fs::write(folder.join("partner.yaml"), format!("kind: Identity\nname: partner\njwt:\n{partners}")).unwrap();
    });
    // The roles of a tenant's own issuer count for the tenant's own bindings only, and there is none.
    for (issuer, tenant, host, verdict) in [
        (&world.issuer, "acme_corp", "acme.localhost", "200"),
        (&world.issuer, "globex", "globex.localhost", "200"),
        (&world.issuer, "globex", "acme.localhost", "403 other_tenant"),
        (&partner, "acme_corp", "acme.localhost", "200"),
        (&partner, "globex", "globex.localhost", "200"),
        (&first, "globex", "globex.localhost", "403 not_permitted"),
        (&second, "globex", "globex.localhost", "403 not_permitted"),
        // What they claim of tenants counts for nothing: at another tenant's host nobody knows them.
        (&first, "acme_corp", "globex.localhost", "403 not_permitted"),
        (&first, "acme_corp", "acme.localhost", "401 invalid_token"),
        (&second, "acme_corp", "acme.localhost", "401 invalid_token"),
    ] {
        let token = issuer.token(tenant, &["reader"]);
        assert_eq!(read(&world.client(host).bearer(&token)), verdict, "{tenant} at {host}");
    }
    // Keys of one issuer verify nothing of another, whatever `iss` says.
    let mut claims = first.claims("globex", &["reader"]);
    claims["iss"] = json!("https://b.example");
    let crossed = first.sign(Algorithm::EdDsa, &claims);
    let answer = world.client("globex.localhost").bearer(&crossed).get("/v1/items");
    assert_eq!(
        (answer.verdict().as_str(), &answer.json()["detail"]),
        ("401 invalid_token", &json!("The token's signature is not its issuer's."))
    );
}

#[test]
fn what_is_revoked_proves_nobody_from_then_on_and_everybody_else_goes_on() {
    let world =
        World::with(Origin::start(), |folder| std::fs::write(folder.join("keys.yaml"), keys_of("acme_corp", &["good", "leaked"])).unwrap());
    let token = |sub: &str, jti: &str, age: i64| {
        let mut claims = world.issuer.claims("acme_corp", &["reader"]);
        (claims["sub"], claims["jti"]) = (json!(sub), json!(jti));
        claims["iat"] = json!(jiff::Timestamp::now().as_second() - age);
        world.client("acme.localhost").bearer(&world.issuer.sign(Algorithm::EdDsa, &claims))
    };
    let key = |id: &str| world.client("acme.localhost").with("x-api-key", &api_key("acme_corp", id));
    let (ana, stolen, mallory, old) =
        (token("ana", "t-1", 0), token("ana", "t-2", 0), token("mallory", "t-3", 0), token("ana", "t-4", 7_200));
    let all =
        [("ana", &ana), ("stolen", &stolen), ("mallory", &mallory), ("old", &old), ("good", &key("good")), ("leaked", &key("leaked"))];
    let an_hour_ago = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - 3_600).unwrap();
    for (scope, what, taken_back, told) in [
        ("tenant: acme_corp\n", "revoked: { tokens: [t-2] }".to_owned(), "stolen", "401 invalid_token"),
        ("", "revoked: { tokens: [t-2] }".to_owned(), "stolen", "401 invalid_token"),
        ("tenant: acme_corp\n", "revoked: { users: [mallory] }".to_owned(), "mallory", "401 invalid_token"),
        ("tenant: acme_corp\n", "revoked: { api_keys: [leaked] }".to_owned(), "leaked", "401 invalid_api_key"),
        ("tenant: acme_corp\n", format!("revoked: {{ issued_before: {an_hour_ago} }}"), "old", "401 invalid_token"),
        ("tenant: globex\n", "revoked: { users: [ana, mallory, leaked] }".to_owned(), "nobody here", ""),
    ] {
        for (name, client) in &all {
            eventually("it is good again, and remembered", || (read(client) == "200").then_some(()));
            assert_eq!(read(client), "200", "{name}");
        }
        let before = revision(&world);
        world.write("taken_back.yaml", &identity_of(scope, &what));
        let victim = all.iter().find(|(name, _)| *name == taken_back);
        if let Some((_, client)) = victim {
            eventually("it is revoked", || (read(client) == told).then_some(()));
            let problem = client.get("/v1/items").json();
            assert!(problem["detail"].as_str().unwrap().contains("revoked"), "{problem}");
        } else {
            eventually("it is live", || (revision(&world) > before).then_some(()));
        }
        for (name, client) in all.iter().filter(|(name, _)| *name != taken_back) {
            assert_eq!(read(client), "200", "{name} after {what}");
        }
        std::fs::remove_file(world.documents().join("taken_back.yaml")).unwrap();
    }
}

/// Clients that send requests without pause until they are dropped.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<String>>>,
    served: Arc<AtomicUsize>,
}

impl Load {
    fn of(clients: &[Client]) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let one = |client: &Client| {
            let (client, stop, served) = (client.clone(), Arc::clone(&stop), Arc::clone(&served));
            std::thread::spawn(move || {
                let mut connection = client.connect();
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match connection.try_send("GET", "/v1/items", b"") {
                        Ok(answer) if answer.status == 200 => drop(served.fetch_add(1, Ordering::Relaxed)),
                        Ok(answer) => failed.push(answer.text()),
                        Err(why) => {
                            failed.push(why.to_string());
                            break;
                        }
                    }
                }
                failed
            })
        };
        let threads = clients.iter().map(one).collect();
        Self { stop, threads, served }
    }

    /// Waits until that many more requests were served.
    fn goes_on(&self, more: usize) {
        let until = self.served.load(Ordering::Relaxed) + more;
        eventually("the load goes on", || (self.served.load(Ordering::Relaxed) >= until).then_some(()));
    }

    /// Ends it: how many were served, and every answer that was not as it should be.
    fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (self.served.load(Ordering::Relaxed), failed)
    }
}

/// The demo, whose issuer publishes its keys at `server`, looked at every second.
fn fetching(server: &KeyServer, folder: &Path) {
    let text = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
    let text = text.replace("{ file: issuer.jwks.json }", &format!("{{ url: \"{}\", refresh: 1s }}", server.url()));
    // The load is more than the demo's tenants may ask for.
    let text: Vec<&str> = text.split("\n---\n").filter(|document| !document.contains("kind: QuotaPolicy")).collect();
    let text = text.join("\n---\n");
    std::fs::write(folder.join("platform.yaml"), text).unwrap();
    let tenant = folder.join("tenants/acme_corp.yaml");
    let text = std::fs::read_to_string(&tenant).unwrap();
    let unlimited = text.replace("api_quota_per_hour: 50000", "api_quota_per_hour: 1000000000");
    assert_ne!(unlimited, text);
    std::fs::write(tenant, unlimited).unwrap();
    server.publish(std::fs::read_to_string(folder.join("issuer.jwks.json")).unwrap());
}

#[test]
fn an_issuer_that_rotates_its_keys_and_dies_costs_known_keys_no_request_and_new_ones_a_bounded_few() {
    let server = KeyServer::start();
    let world = World::with(Origin::start(), |folder| fetching(&server, folder));
    let reader = |issuer: &Issuer| world.client("acme.localhost").bearer(&issuer.token("acme_corp", &["reader"]));
    let known: Vec<Client> = (0..4).map(|_| reader(&world.issuer)).collect();
    eventually("the keys are fetched", || (read(&known[0]) == "200").then_some(()));

    let load = Load::of(&known);
    load.goes_on(200);
    let second = world.issuer.rotated();
    server.publish(Issuer::jwks_of(&[&world.issuer, &second]));
    // The first token of the new key has the issuer asked, or finds what was fetched meanwhile.
    assert_eq!(read(&reader(&second)), "200");
    load.goes_on(200);

    server.becomes(Mood::Dead);
    let third = second.rotated();
    server.publish(Issuer::jwks_of(&[&world.issuer, &second, &third]));
    let asked = server.asked().len();
    eventually("it is asked in vain", || (server.asked().len() >= asked + 2).then_some(()));
    for _ in 0..20 {
        assert_eq!(read(&reader(&second)), "200");
        assert_eq!(read(&reader(&third)), "503 keys_unavailable");
    }
    load.goes_on(200);

    server.becomes(Mood::Well);
    eventually("the newest key is known once the issuer is back", || (read(&reader(&third)) == "200").then_some(()));
    load.goes_on(200);
    let (served, failed) = load.end();
    assert!(failed.is_empty(), "of {served} requests with known keys these failed: {failed:#?}");

    // The old key is withdrawn: its tokens end, the others go on.
    let load = Load::of(&[reader(&second), reader(&third)]);
    server.publish(Issuer::jwks_of(&[&second, &third]));
    eventually("the old key proves nothing more", || (read(&known[0]) == "401 invalid_token").then_some(()));
    load.goes_on(200);
    let (served, failed) = load.end();
    assert!(failed.is_empty(), "of {served} requests with known keys these failed: {failed:#?}");
}

/// A WebSocket by an API key.
fn socket(world: &World, id: &str) -> WebSocket<std::net::TcpStream> {
    let mut request = "ws://acme.localhost/v1/items".into_client_request().unwrap();
    request.headers_mut().insert("x-api-key", api_key("acme_corp", id).parse().unwrap());
    let stream = std::net::TcpStream::connect(world.address()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    tungstenite::client(request, stream).unwrap().0
}

#[test]
fn the_websocket_of_a_revoked_key_is_closed_and_says_why_and_the_others_stay() {
    let echo = Origin::speaking(|stream| {
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        while let Ok(message) = socket.read() {
            if message.is_text() && socket.send(message).is_err() {
                return;
            }
        }
    });
    let world = World::with(echo, |folder| std::fs::write(folder.join("keys.yaml"), keys_of("acme_corp", &["good", "leaked"])).unwrap());
    let (mut good, mut leaked) = (socket(&world, "good"), socket(&world, "leaked"));
    let echoes = |socket: &mut WebSocket<std::net::TcpStream>| {
        socket.send(Message::text("hello")).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text("hello"));
    };
    echoes(&mut good);
    echoes(&mut leaked);
    world.write("taken_back.yaml", &identity_of("tenant: acme_corp\n", "revoked: { api_keys: [leaked] }"));
    let Message::Close(Some(frame)) = leaked.read().unwrap() else { panic!("it is closed") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1_008, "invalid_api_key"));
    echoes(&mut good);
    let line = eventually("its end is written down", || {
        let text = std::fs::read_to_string(world.documents().parent().unwrap().join("access.jsonl")).ok()?;
        let line = text.lines().find(|line| line.contains("stream revoked"))?.to_owned();
        serde_json::from_str::<Value>(&line).ok()
    });
    assert_eq!(line["code"], "invalid_api_key", "{line}");
}

#[test]
fn the_last_use_of_every_key_is_told_whichever_worker_saw_it() {
    let world = World::with_arguments(Origin::start(), &["--workers", "2"], |folder| {
        std::fs::write(folder.join("keys.yaml"), keys_of("acme_corp", &["used", "idle", "leaked"])).unwrap();
        let revoked = identity_of("tenant: acme_corp\n", "revoked: { api_keys: [leaked] }");
        std::fs::write(folder.join("taken_back.yaml"), revoked).unwrap();
    });
    let told = |id: &str| {
        let told = world.admin("GET", "/api-keys?tenant=acme_corp", "").json();
        told["api_keys"].as_array().unwrap().iter().find(|key| key["id"] == id).unwrap().clone()
    };
    let uses = |id: &str| world.client("acme.localhost").with("x-api-key", &api_key("acme_corp", id));
    assert_eq!(told("used")["seconds_since_use"], Value::Null);
    for _ in 0..4 {
        assert_eq!(read(&uses("used")), "200");
    }
    assert!(told("used")["seconds_since_use"].is_u64(), "{}", told("used"));
    // A guess is no use, nor is a key that was taken back.
    let guess = world.client("acme.localhost").with("x-api-key", &format!("bk1.acme_corp.idle.{}", "B".repeat(42) + "A"));
    assert_eq!((read(&guess), read(&uses("leaked"))), ("401 invalid_api_key".to_owned(), "401 invalid_api_key".to_owned()));
    assert_eq!(told("idle")["seconds_since_use"], Value::Null);
    assert_eq!((&told("leaked")["seconds_since_use"], &told("leaked")["is_revoked"]), (&Value::Null, &json!(true)));
}
