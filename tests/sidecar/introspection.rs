//! Opaque tokens: what their server says of them is what they prove (RFC 7662), and how often it is asked.

use bulkhead_tests::{Client, Origin, Received, Reply, World, eventually};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};

/// A server that knows tokens.
#[derive(Clone)]
struct Server {
    knows: Arc<Mutex<HashMap<String, Value>>>,
    /// Whether it answers, waits, or breaks off.
    mood: Arc<(Mutex<Mood>, Condvar)>,
    origin: Arc<Origin>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Well,
    Holds,
    Dead,
}

impl Server {
    fn start() -> Self {
        let knows: Arc<Mutex<HashMap<String, Value>>> = Arc::default();
        let mood = Arc::new((Mutex::new(Mood::Well), Condvar::new()));
        let (known, moods) = (Arc::clone(&knows), Arc::clone(&mood));
        let origin = Origin::with(move |request| {
            let (mood, changed) = &*moods;
            let mood = changed.wait_while(mood.lock().unwrap(), |mood| *mood == Mood::Holds).unwrap();
            if *mood == Mood::Dead {
                return Reply::Close;
            }
            let answer = known.lock().unwrap().get(&token_of(request)).cloned().unwrap_or(json!({ "active": false }));
            let fields = vec![("content-type".to_owned(), "application/json".to_owned()), ("connection".to_owned(), "close".to_owned())];
            match request.header("authorization").as_deref() {
                // `bulkhead` and `p:w`, each in the encoding of forms.
                Some("Basic YnVsa2hlYWQ6cCUzQXc=") => Reply::Ok(fields, answer.to_string().into_bytes()),
                _ => Reply::RawThenClose(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec()),
            }
        });
        Self { knows, mood, origin: Arc::new(origin) }
    }

    /// What it says of a token from now on.
    fn knows(&self, token: &str, answer: Value) {
        self.knows.lock().unwrap().insert(token.to_owned(), answer);
    }

    fn becomes(&self, mood: Mood) {
        *self.mood.0.lock().unwrap() = mood;
        self.mood.1.notify_all();
    }

    /// How often it was asked about a token.
    fn asked(&self, token: &str) -> usize {
        self.origin.received().iter().filter(|request| token_of(request) == token).count()
    }

    /// A document that names it.
    fn document(&self, scope: &str, more: &str) -> String {
        format!(
            "kind: Identity\n{scope}name: opaque\nintrospection:\n  url: http://{}/introspect\n  client_id: bulkhead\n  client_secret: {{ \
             file: introspection.secret }}\n  audiences: [demo]\n{more}",
            self.origin.address()
        )
    }
}

/// The token that a question is about.
fn token_of(request: &Received) -> String {
    let body = String::from_utf8(request.body.clone()).unwrap();
    let token = body.split('&').find_map(|member| member.strip_prefix("token=")).unwrap_or_default();
    token.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")
}

fn active(tenant: &str, more: Value) -> Value {
    let exp = jiff::Timestamp::now().as_second() + 300;
    let mut answer = json!({ "active": true, "sub": "ana", "aud": "demo", "tenant": tenant, "roles": ["reader"], "exp": exp });
    answer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    answer.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    answer
}

/// The demo beside such a server; `more` stands in its declaration. A token and a user are revoked.
fn world(server: &Server, more: &str) -> World {
    World::with_arguments(Origin::start(), &["--workers", "1"], |folder| {
        let taken_back = "kind: Identity\nname: taken_back\nrevoked: { tokens: [j-1], users: [mallory] }\n";
        std::fs::write(folder.join("taken_back.yaml"), taken_back).unwrap();
        std::fs::write(folder.join("introspection.secret"), "p:w\n").unwrap();
        std::fs::write(folder.join("opaque.yaml"), server.document("", &format!("  tenant_claim: tenant\n{more}"))).unwrap();
    })
}

fn at(world: &World, host: &str, token: &str) -> Client {
    world.client(host).bearer(token)
}

fn verdict(world: &World, token: &str) -> String {
    at(world, "acme.localhost", token).get("/v1/items").verdict()
}

#[test]
fn an_active_token_proves_what_its_server_says_and_is_asked_about_once_while_it_is_remembered() {
    let server = Server::start();
    let world = world(&server, "");
    server.knows("a+b/c=", active("acme_corp", json!({})));
    for _ in 0..10 {
        assert_eq!(verdict(&world, "a+b/c="), "200");
    }
    assert_eq!(server.asked("a+b/c="), 1);
    let question = server.origin.last();
    assert_eq!((question.method(), question.target()), ("POST", "/introspect"));
    assert_eq!(question.header("content-type").as_deref(), Some("application/x-www-form-urlencoded"));
    assert_eq!(String::from_utf8(question.body).unwrap(), "token=a%2Bb%2Fc%3D&token_type_hint=access_token");
    let request = world.origin.last();
    assert_eq!((request.header("x-bulkhead-user").as_deref(), request.header("authorization")), (Some("ana"), None));
    // What it may not do is refused as for anybody.
    assert_eq!(at(&world, "acme.localhost", "a+b/c=").get("/v1/admin/users").verdict(), "403 not_permitted");
    // A token with the form of a JSON Web Token is one; nobody is asked.
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").verdict(), "200");
    assert_eq!(verdict(&world, "a.b.c"), "401 invalid_token");
    assert_eq!(server.origin.received().len(), 1);
    let metrics = world.probe("/metrics").text();
    assert!(metrics.contains("bulkhead_introspections_total{result=\"answered\"} 1"), "{metrics}");
}

#[test]
fn what_its_server_does_not_vouch_for_is_refused_with_its_reason_and_not_asked_about_again_at_once() {
    let server = Server::start();
    let world = world(&server, "");
    let now = jiff::Timestamp::now().as_second();
    let rows = [
        ("unknown", None, "401 invalid_token", "The token is not active, says the server that it is from."),
        (
            "inactive",
            Some(json!({ "active": false, "sub": "ana" })),
            "401 invalid_token",
            "The token is not active, says the server that it is from.",
        ),
        ("expired", Some(active("acme_corp", json!({ "exp": now - 10 }))), "401 invalid_token", "The token has expired."),
        ("early", Some(active("acme_corp", json!({ "nbf": now + 600 }))), "401 invalid_token", "The token is not valid yet (`nbf`)."),
        ("audience", Some(active("acme_corp", json!({ "aud": ["x"] }))), "401 invalid_token", "The token is for other audiences."),
        ("no-audience", Some(active("acme_corp", json!({ "aud": null }))), "401 invalid_token", "The token has no claim `aud`."),
        ("nobody", Some(active("acme_corp", json!({ "sub": null }))), "401 invalid_token", "The token has no claim `sub`."),
        (
            "no-tenant",
            Some(active("", json!({ "tenant": null }))),
            "401 invalid_token",
            "The token names no tenant: it has no claim `tenant`.",
        ),
        (
            "words",
            Some(active("acme_corp", json!({ "active": "true" }))),
            "401 invalid_token",
            "The part `claims` of the token is not a JSON object.",
        ),
        ("taken-back", Some(active("acme_corp", json!({ "jti": "j-1" }))), "401 invalid_token", "The token was revoked."),
        ("mallory", Some(active("acme_corp", json!({ "sub": "mallory" }))), "401 invalid_token", "The tokens of this user were revoked."),
        (
            "other",
            Some(active("globex", json!({}))),
            "403 other_tenant",
            "The credential belongs to another tenant than the one the host names.",
        ),
    ];
    for (token, answer, refused, told) in rows {
        if let Some(answer) = answer {
            server.knows(token, answer);
        }
        for _ in 0..2 {
            let answer = at(&world, "acme.localhost", token).get("/v1/items");
            assert_eq!((answer.verdict().as_str(), &answer.json()["detail"]), (refused, &json!(told)), "{token}");
        }
        assert_eq!(server.asked(token), 1, "{token}");
    }
    assert!(world.origin.received().is_empty());
}

#[test]
fn a_token_that_is_taken_back_at_its_server_ends_when_it_is_not_remembered_any_more() {
    let server = Server::start();
    let world = world(&server, "  remember: 1s\n");
    server.knows("token", active("acme_corp", json!({ "exp": null })));
    assert_eq!(verdict(&world, "token"), "200");
    server.knows("token", json!({ "active": false }));
    eventually("it is asked about again", || (verdict(&world, "token") == "401 invalid_token").then_some(()));
}

#[test]
fn while_the_server_is_away_remembered_tokens_go_on_and_new_ones_are_neither_accepted_nor_refused() {
    let server = Server::start();
    let world = world(&server, "");
    for token in ["old", "new"] {
        server.knows(token, active("acme_corp", json!({})));
    }
    assert_eq!(verdict(&world, "old"), "200");
    server.becomes(Mood::Dead);
    let answer = at(&world, "acme.localhost", "new").get("/v1/items");
    assert_eq!((answer.verdict().as_str(), answer.header("retry-after")), ("503 introspection_unavailable", Some("1")));
    assert_eq!(verdict(&world, "old"), "200");
    assert_eq!(world.user("acme_corp", &["reader"]).get("/v1/items").verdict(), "200");
    eventually("it is told", || world.log().contains("a server cannot be asked about tokens").then_some(()));
    server.becomes(Mood::Well);
    assert_eq!(verdict(&world, "new"), "200", "a failure is not remembered");

    // A secret that is wrong is told, and a new one is taken over at once.
    world.write("introspection.secret", "wrong");
    let mut tokens = 0;
    let mut fresh = || {
        tokens += 1;
        server.knows(&format!("token-{tokens}"), active("acme_corp", json!({})));
        verdict(&world, &format!("token-{tokens}"))
    };
    eventually("the wrong secret is used", || (fresh() == "503 introspection_unavailable").then_some(()));
    world.write("introspection.secret", "p:w");
    eventually("the right one is", || (fresh() == "200").then_some(()));
}

#[test]
fn requests_that_bring_the_same_token_at_once_share_a_question() {
    let server = Server::start();
    let world = world(&server, "");
    server.knows("token", active("acme_corp", json!({})));
    server.becomes(Mood::Holds);
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let client = at(&world, "acme.localhost", "token");
            std::thread::spawn(move || client.get("/v1/items").verdict())
        })
        .collect();
    eventually("it is asked", || (server.origin.connections() == 1).then_some(()));
    server.becomes(Mood::Well);
    for client in clients {
        assert_eq!(client.join().unwrap(), "200");
    }
    // Each worker remembers for itself, and who comes between an answer and its being remembered asks once more: how many do is
    // chance, but those who waited shared one.
    assert!((1..8).contains(&server.asked("token")), "{}", server.asked("token"));
}

#[test]
fn a_tenants_own_server_proves_that_tenant_only_and_comes_before_the_platforms() {
    let (platforms, own) = (Server::start(), Server::start());
    let world = World::with(Origin::start(), |folder| {
        std::fs::write(folder.join("introspection.secret"), "p:w").unwrap();
        std::fs::write(folder.join("opaque.yaml"), platforms.document("", "  tenant_claim: tenant\n")).unwrap();
        let binding = "---\nkind: RoleBinding\ntenant: globex\nname: own\nrole: reader\nsubjects: [{ claim: { roles: reader } }]\n";
        std::fs::write(folder.join("own.yaml"), format!("{}{binding}", own.document("tenant: globex\n", ""))).unwrap();
    });
    own.knows("token", active("acme_corp", json!({})));
    // What it claims of tenants counts for nothing.
    assert_eq!(at(&world, "globex.localhost", "token").get("/v1/items").verdict(), "200");
    assert_eq!(world.origin.last().header("x-bulkhead-tenant").as_deref(), Some("globex"));
    assert_eq!((own.asked("token"), platforms.asked("token")), (1, 0));
    // Elsewhere nobody asks it.
    assert_eq!(verdict(&world, "token"), "401 invalid_token");
    assert_eq!((own.asked("token"), platforms.asked("token")), (1, 1));
}
