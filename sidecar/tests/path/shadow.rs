//! In shadow a request goes on that would be refused, and what may never go on is refused all the same.
#![expect(clippy::indexing_slicing, reason = "tests")]

use crate::support::{Answer, KEY, World, echo, upstream_on, within};
use bulkhead_sidecar::policy::Folder;
use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

/// Tenants beside `acme`, and what may be tried: features, a narrow role, limits.
const MORE: &str = "---
tenant_id: globex
name: Globex
email: g@globex.test
hosts: [globex.test]
state: suspended
---
kind: Identity
tenant: acme
name: narrow
api_keys: [{ id: narrow, sha256: NARROW }]
---
kind: Role
name: only_public
allow: [\"GET /public/**\"]
---
kind: RoleBinding
tenant: acme
name: narrow
role: only_public
subjects: [{ api_key: narrow }]
";

/// A key of `acme` that may do nothing beyond the public route.
const NARROW: &str = "bk1.acme.narrow.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn documents(upstream: SocketAddr, edits: &[(&str, &str)]) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, NARROW.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut text = World::text(&[upstream], "", &MORE.replace("NARROW", &hash));
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    text
}

/// A sidecar that is in shadow as a whole.
async fn in_shadow(edits: &[(&str, &str)]) -> World {
    let (documents_dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(documents_dir.path().join("all.yaml"), documents(echo().await, edits)).unwrap();
    let mut settings = World::settings(1, &data);
    settings.source.flags.push("core.sidecar.shadow=true".to_owned());
    settings.core = settings.source.load().unwrap();
    let sidecar = bulkhead_sidecar::start(settings, Folder::watch(documents_dir.path()).unwrap()).await.unwrap();
    World { sidecar, documents: documents_dir, data }
}

async fn declared(edits: &[(&str, &str)]) -> World {
    World::with_documents(&documents(echo().await, edits)).await
}

fn get(host: &str, path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\nHost: {host}\n{more}\n")
}

fn key(key: &str) -> String {
    format!("x-api-key: {key}\n")
}

/// The head that the upstream got, which it answers with: lower case, without what is ours in every request.
fn went_up(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body.to_ascii_lowercase()
}

#[tokio::test]
async fn what_would_be_refused_goes_on_and_is_written_down_with_its_reason() {
    let quota = (
        "kind: Role\nname: reader\n",
        "kind: QuotaPolicy\nname: few\nlimits: [{ name: one, per: api_key, requests: 1, window: 1h }]\n---\nkind: Role\nname: reader\n",
    );
    let feature = ("path: \"/**\" }", "path: \"/**\" }\n  - { name: video, path: /video, requires_feature: video }");
    let world = in_shadow(&[quota, feature]).await;
    assert_eq!(world.ask(&get("acme.test", "/once", &key(KEY))).await.status, 200);
    for (path, credential, code) in [
        ("/none", String::new(), "missing_credential"),
        ("/unknown", key(&KEY.replace(".ci.", ".xx.")), "invalid_api_key"),
        ("/token", "Authorization: Bearer e30.e30.e30\n".to_owned(), "invalid_token"),
        ("/basic", "Authorization: Basic eA==\n".to_owned(), "missing_credential"),
        ("/narrow", key(NARROW), "not_permitted"),
        ("/video", key(KEY), "feature_required"),
        ("/often", key(KEY), "quota_exceeded"),
    ] {
        let answer = world.ask(&get("acme.test", path, &credential)).await;
        let sent = went_up(&answer);
        let is_proven = credential.contains("x-api-key") && code != "invalid_api_key";
        assert_eq!(sent.contains("x-bulkhead-tenant: acme"), is_proven, "{path}: {sent}");
        assert_eq!(sent.contains("x-bulkhead-"), is_proven, "{path}: {sent}");
        assert!(!answer.head.to_ascii_lowercase().contains("bulkhead") && !answer.head.contains("shadow"), "{}", answer.head);
        let line = world.log_with("access.jsonl", &[&format!("\"path\":\"{path}\""), "\"shadow\":\"would refuse\""]).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["shadow_code"], &line["status"]), (&code.into(), &200.into()), "{line}");
        let told = world.explain(line["decision_id"].as_str().unwrap()).await;
        assert_eq!(
            (&told["verdict"], &told["code"], &told["decision"]["outcome"]),
            (&"shadow".into(), &code.into(), &"shadow".into()),
            "{told}"
        );
    }
    let metrics = world.metrics().await;
    for line in [
        "bulkhead_shadow_refusals_total{code=\"missing_credential\"} 2",
        "bulkhead_shadow_refusals_total{code=\"not_permitted\"} 1",
        "bulkhead_shadow_refusals_total{code=\"quota_exceeded\"} 1",
        "bulkhead_refusals_total{code=\"not_permitted\"} 0",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn what_may_never_go_on_is_refused_in_shadow_too() {
    let bounds = (
        "kind: Role\nname: reader\n",
        "kind: SecurityPolicy\nname: tight\nrequest: { body_bytes_max: 4B, headers_max: 10, head_timeout: 1s, body_idle_timeout: 1s }\n---\nkind: Role\nname: reader\n",
    );
    let world = in_shadow(&[bounds]).await;
    let many: String = (0..12).map(|number| format!("x-{number}: 1\n")).collect();
    for (request, meant) in [
        (get("acme.test", "/a/../b", ""), (400, "ambiguous_request")),
        (get("acme.test", "/a", "Content-Length: 1\nContent-Length: 2\n"), (400, "ambiguous_request")),
        (get("acme.test", "/a", "Authorization: Bearer a\nAuthorization: Bearer b\n"), (400, "ambiguous_request")),
        (get("acme.test", "/a", &format!("Authorization: Bearer a\n{}", key(KEY))), (400, "ambiguous_request")),
        (get("nobody.test", "/a", ""), (404, "unknown_tenant")),
        (get("nobody.test", "/a", &key(KEY)), (404, "unknown_tenant")),
        (get("globex.test", "/a", ""), (403, "tenant_suspended")),
        (get("globex.test", "/a", &key(KEY)), (403, "other_tenant")),
        (get("shared.test", "/a", ""), (401, "missing_credential")),
        (get("shared.test", "/a", "Authorization: Bearer e30.e30.e30\n"), (401, "invalid_token")),
        (get("acme.test", "/a", &many), (431, "head_too_large")),
        ("POST /a HTTP/1.1\nHost: acme.test\nContent-Length: 5\n\n12345".to_owned(), (413, "body_too_large")),
        ("POST /a HTTP/1.1\nHost: acme.test\nContent-Length: 4\n\n1".to_owned(), (408, "body_timeout")),
    ] {
        let answer = world.ask(&request).await;
        assert_eq!((answer.status, &*answer.code()), meant, "{request}");
    }
    let mut slow = world.client().await;
    assert!(slow.send_raw(b"GET /a HTTP/1.1\r\nHost: acme.te").await);
    assert_eq!(slow.answer().await.status, 408);
}

#[tokio::test]
async fn a_document_in_shadow_lets_through_what_it_would_refuse_itself() {
    let narrow = get("acme.test", "/a", &key(NARROW));
    let nobody = get("acme.test", "/a", "");
    let full = get("acme.test", "/a", &key(KEY));
    let limit = |more: &str| {
        format!(
            "kind: QuotaPolicy\nname: few\n{more}limits: [{{ name: none, per: api_key, requests: 0, window: 1h }}]\n---\nkind: Role\nname: reader\n"
        )
    };
    let (tried, enforced) = (limit("enforce: shadow\n"), limit(""));
    for (what, edits, statuses) in [
        ("nothing", vec![], [403, 401, 200]),
        ("the route", vec![("path: \"/**\"", "path: \"/**\", enforce: shadow")], [200, 200, 200]),
        ("the service", vec![("kind: Service\n", "kind: Service\nenforce: shadow\n")], [200, 200, 200]),
        ("the tenant", vec![("tenant_id: acme\n", "tenant_id: acme\nenforce: shadow\n")], [200, 200, 200]),
        ("the identity", vec![("kind: Identity\nname: keys\n", "kind: Identity\nname: keys\nenforce: shadow\n")], [403, 200, 200]),
        ("the role", vec![("name: only_public\n", "name: only_public\nenforce: shadow\n")], [200, 401, 200]),
        ("another role", vec![("name: reader\n", "name: reader\nenforce: shadow\n")], [403, 401, 200]),
        ("a limit of none", vec![("kind: Role\nname: reader\n", &tried)], [403, 401, 200]),
        ("an enforced limit", vec![("kind: Role\nname: reader\n", &enforced)], [403, 401, 429]),
        (
            "the role, beside an enforced limit",
            vec![("kind: Role\nname: reader\n", &enforced), ("name: only_public\n", "name: only_public\nenforce: shadow\n")],
            [429, 401, 429],
        ),
    ] {
        let world = declared(&edits).await;
        for (request, status) in [&narrow, &nobody, &full].into_iter().zip(statuses) {
            assert_eq!(world.ask(request).await.status, status, "{what} in shadow: {request}");
        }
    }
}

#[tokio::test]
async fn a_stream_is_not_ended_by_what_is_in_shadow_but_by_what_is_not() {
    let route = ("path: \"/**\" }", "path: \"/**\", enforce: shadow }\n  - { name: strict, path: \"/strict/**\" }");
    let (go_on, going) = watch::channel(false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream_on(listener, move |mut connection| {
        let mut going = going.clone();
        async move {
            connection.head().await;
            connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n").await;
            going.wait_for(|going| *going).await.unwrap();
            connection.send("1\r\nb\r\n").await;
            std::future::pending().await
        }
    });
    let world = World::with_documents(&documents(upstream, &[route])).await;
    let (mut tried, mut held) = (world.client().await, world.client().await);
    for (client, path) in [(&mut tried, "/tried"), (&mut held, "/strict/held")] {
        client.send(&get("acme.test", path, &key(KEY))).await;
        assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200"));
        assert_eq!(client.bytes(6).await, b"1\r\na\r\n");
    }
    // Both would be refused from now on; who is enforced is ended, at the same look at which the other is not.
    let edit = |edits: &[(&str, &str)]| std::fs::write(world.documents.path().join("all.yaml"), documents(upstream, edits)).unwrap();
    let denied = ("name: reader\nallow", "name: reader\ndeny: [\"* /**\"]\nallow");
    edit(&[route, denied]);
    assert!(held.bytes(1).await.is_empty());
    go_on.send(true).unwrap();
    assert_eq!(tried.bytes(6).await, b"1\r\nb\r\n");
    // In shadow no more.
    edit(&[("path: \"/**\" }", "path: \"/**\" }\n  - { name: strict, path: \"/strict/**\" }"), denied]);
    assert!(tried.bytes(1).await.is_empty());
    world.log_with("access.jsonl", &["stream revoked", "\"path\":\"/tried\"", "denied_by_rule"]).await;
}

impl World {
    /// What `bulkhead explain` says of a decision.
    async fn explain(&self, decision: &str) -> Value {
        self.admin(&format!("/explain?decision={decision}")).await
    }

    /// What the admin answers.
    pub(crate) async fn admin(&self, target: &str) -> Value {
        let mut stream = UnixStream::connect(self.data.path().join("admin.sock")).await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}
