//! Answers that name another tenant than their request's are not delivered.

use crate::support::{Answer, Client, World, upstream};
use std::net::SocketAddr;

/// An upstream with a planted bug: it answers with whatever the path names, whoever asks.
async fn careless() -> SocketAddr {
    upstream(|mut connection: Client| async move {
        while let Some(head) = connection.head().await {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let answer = match path.rsplit('/').next().unwrap_or_default() {
                "mine" => json(r#"{"tenant_id":"acme","secret":"ours"}"#),
                "theirs" => json(r#"{"tenant_id":"globex","secret":"theirs"}"#),
                "late" => json(&format!(r#"{{"filler":"{}","secret":"theirs","tenant_id":"globex"}}"#, "x".repeat(40_000))),
                "twice" => json(r#"{"tenant_id":"acme","secret":"theirs","tenant_id":"globex"}"#),
                "nobody" => json(r#"{"secret":"owned"}"#),
                "broken" => json(r#"{"tenant_id":"acme","secret":"#),
                "large" => json(&format!(r#"{{"tenant_id":"acme","filler":"{}"}}"#, "x".repeat(100_000))),
                "text" => "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nowned".to_owned(),
                "zipped" => json("{}").replace("content-type", "content-encoding: gzip\r\ncontent-type"),
                "part" => json(r#"{"tenant_id":"acme"}"#).replace("200 OK", "206 Partial Content"),
                "empty" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
                "error" => json(r#"{"tenant_id":"globex"}"#).replace("200 OK", "500 Internal Server Error"),
                "chunks" => chunks(&[r#"{"tenant_id":"#, r#""acme","secret":"#, r#""ours"}"#]),
                "their-chunks" => chunks(&[r#"{"secret":"theirs","tenant_id":"#, r#""globex"}"#]),
                "header" => head_naming(&["acme"]),
                "their-header" => head_naming(&["globex"]),
                "two-headers" => head_naming(&["acme", "globex"]),
                "no-header" => head_naming(&[]),
                "head" => head.clone(),
                _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
            };
            let answer = if answer.starts_with("HTTP/1.1") {
                answer
            } else {
                json(&serde_json::json!({ "tenant_id": "acme", "asked": answer }).to_string())
            };
            connection.send_raw(answer.as_bytes()).await;
        }
    })
    .await
}

fn json(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}", text.len())
}

fn chunks(pieces: &[&str]) -> String {
    let pieces: String = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/problem+json\r\ntransfer-encoding: chunked\r\n\r\n{pieces}0\r\n\r\n")
}

fn head_naming(tenants: &[&str]) -> String {
    let fields: String = tenants.iter().map(|tenant| format!("X-Tenant: {tenant}\r\n")).collect();
    format!("HTTP/1.1 200 OK\r\n{fields}content-length: 6\r\n\r\nsecret")
}

/// A sidecar whose public route holds answers against `asked`.
async fn holding(asked: &str) -> World {
    let text = World::text(&[careless().await], "", "");
    let held = text.replace("access: public }", &format!("access: public, response_tenant: {{ {asked} }} }}"));
    assert_ne!(text, held);
    World::with_documents(&held).await
}

async fn ask(world: &World, path: &str) -> Answer {
    world.ask(&format!("GET /public/{path} HTTP/1.1\nHost: acme.test\nAccept-Encoding: gzip\nRange: bytes=0-1\n\n")).await
}

#[tokio::test]
async fn a_body_that_names_another_tenant_stays_here_and_explain_says_where_it_stood() {
    let world = holding("json_pointer: /tenant_id").await;
    for (path, expected) in [
        ("mine", Ok("ours")),
        ("chunks", Ok("ours")),
        ("empty", Ok("")),
        ("theirs", Err("tenant_leak")),
        ("late", Err("tenant_leak")),
        ("twice", Err("tenant_leak")),
        ("error", Err("tenant_leak")),
        ("their-chunks", Err("tenant_leak")),
        ("nobody", Err("tenant_unseen")),
        ("broken", Err("tenant_unseen")),
        ("large", Err("tenant_unseen")),
        ("text", Err("tenant_unseen")),
        ("zipped", Err("tenant_unseen")),
        ("part", Err("tenant_unseen")),
    ] {
        let answer = ask(&world, path).await;
        match expected {
            Ok(body) => assert!(answer.status < 300 && answer.body.contains(body), "{path}: {answer:?}"),
            Err(code) => {
                assert_eq!((answer.status, answer.code().as_str()), (502, code), "{path}");
                assert!(
                    !answer.body.contains("theirs") && !answer.body.contains("globex") && !answer.body.contains("owned"),
                    "{path}: {answer:?}"
                );
            }
        }
    }
    let line = world.log_with("log.jsonl", &["an answer was not delivered", "globex"]).await;
    assert!(line.contains("`/tenant_id` of its body") && line.contains("decision_id"), "{line}");
    let asked = ask(&world, "head").await.body.to_ascii_lowercase();
    assert!(asked.contains("x-forwarded") && !asked.contains("accept-encoding") && !asked.contains("range:"), "{asked}");
}

#[tokio::test]
async fn a_head_that_names_another_tenant_stays_here_with_its_body() {
    let world = holding("header: X-Tenant").await;
    for (path, code) in [("header", ""), ("their-header", "tenant_leak"), ("two-headers", "tenant_leak"), ("no-header", "tenant_unseen")] {
        let answer = ask(&world, path).await;
        if code.is_empty() {
            assert_eq!((answer.status, answer.body.as_str()), (200, "secret"));
        } else {
            assert_eq!((answer.status, answer.code().as_str()), (502, code), "{path}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_seen_passes_where_the_operator_says_so_and_a_leak_never_does() {
    let world = holding("json_pointer: /tenant_id, unseen: pass, body_bytes_max: 32KiB").await;
    for (path, length) in [("nobody", 18), ("broken", 29), ("large", 100_032), ("text", 5), ("mine", 36), ("late", 40_052)] {
        let answer = ask(&world, path).await;
        assert_eq!((answer.status, answer.body.len()), (200, length), "{path}");
    }
    for path in ["theirs", "twice", "their-chunks"] {
        assert_eq!(ask(&world, path).await.code(), "tenant_leak", "{path}");
    }
    let mut client = world.client().await;
    client.send("HEAD /public/theirs HTTP/1.1\nHost: acme.test\n\n").await;
    assert_eq!(client.answer_to("HEAD").await.status, 200, "there is no body to look into");
}

/// As many requests as a careless service serves in a while, on connections that carry the answers of both kinds.
#[tokio::test]
async fn of_a_hundred_thousand_answers_under_load_not_one_leaks() {
    const CONNECTIONS: usize = 10;
    const ROUNDS: usize = 200;
    const AHEAD: usize = 50;
    let world = holding("json_pointer: /tenant_id").await;
    let clients = (0..CONNECTIONS).map(|_| {
        let address = world.address();
        tokio::spawn(async move {
            let mut client = Client::to(address).await;
            let (mut delivered, mut stopped) = (0, 0);
            for _ in 0..ROUNDS {
                let paths = || ["mine", "theirs", "chunks", "their-chunks", "twice"].into_iter().cycle().take(AHEAD);
                let asked: String = paths().map(|path| format!("GET /public/{path} HTTP/1.1\r\nHost: acme.test\r\n\r\n")).collect();
                client.send_raw(asked.as_bytes()).await;
                for path in paths() {
                    let answer = client.answer().await;
                    assert!(!answer.body.contains("theirs") && !answer.body.contains("globex"), "{answer:?}");
                    let is_ours = matches!(path, "mine" | "chunks");
                    assert_eq!(answer.status, if is_ours { 200 } else { 502 }, "{answer:?}");
                    assert_eq!(is_ours, answer.body.contains("ours"), "each answer is that of its own request");
                    if is_ours { delivered += 1 } else { stopped += 1 }
                }
            }
            (delivered, stopped)
        })
    });
    let (mut delivered, mut stopped) = (0, 0);
    for client in clients.collect::<Vec<_>>() {
        let (more, fewer): (usize, usize) = client.await.unwrap();
        delivered += more;
        stopped += fewer;
    }
    assert_eq!((delivered, stopped), (40_000, 60_000));
}
