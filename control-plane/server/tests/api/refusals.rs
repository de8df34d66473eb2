//! What is wrong with a request is said in a problem, and changes nothing.

use crate::support::{ADMIN, Plane};
use http::Method;

/// What is wrong, the request, the status and the code.
type Row<'a> = (&'a str, Method, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str);

#[tokio::test]
async fn each_refusal_is_a_problem_with_a_way_out() {
    let plane = Plane::start().await;
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let wide = "x".repeat(9 << 20);
    let rows: [Row<'_>; 17] = [
        ("no credential", Method::GET, "/v1/plans", "", &[], "", 401, "unauthenticated"),
        ("another scheme", Method::GET, "/v1/plans", "", &[("authorization", "Basic YTpi")], "", 401, "unauthenticated"),
        ("a token of nobody", Method::GET, "/v1/plans", "bo1.x.y", &[], "", 401, "unauthenticated"),
        ("no such path", Method::GET, "/v1/things", ADMIN, &[], "", 404, "not_found"),
        ("no such method", Method::PATCH, "/v1/plans", ADMIN, &[], "", 405, "method_not_allowed"),
        ("no such parameter", Method::GET, "/v1/plans?limmit=3", ADMIN, &[], "", 400, "invalid_parameter"),
        ("a parameter twice", Method::GET, "/v1/plans?limit=3&limit=4", ADMIN, &[], "", 400, "invalid_parameter"),
        ("a page too large", Method::GET, "/v1/plans?limit=100000", ADMIN, &[], "", 400, "invalid_parameter"),
        ("no name", Method::GET, "/v1/plans/Not_A_Name", ADMIN, &[], "", 404, "not_found"),
        ("another media type", Method::POST, "/v1/plans", ADMIN, &[("content-type", "text/xml")], "<a/>", 415, "unsupported_media_type"),
        ("no JSON", Method::POST, "/v1/plans", ADMIN, &[], "{", 422, "invalid_document"),
        ("nothing", Method::POST, "/v1/plans", ADMIN, &[], "", 422, "invalid_document"),
        ("too deep", Method::POST, "/v1/apply", ADMIN, &[], &deep, 422, "invalid_document"),
        ("too large", Method::POST, "/v1/apply", ADMIN, &[], &wide, 413, "body_too_large"),
        ("another kind's path", Method::PUT, "/v1/services/gold", ADMIN, &[], r#"{"kind":"Plan","name":"gold"}"#, 422, "invalid_document"),
        (
            "a file",
            Method::POST,
            "/v1/identities",
            ADMIN,
            &[],
            r#"{"kind":"Identity","name":"i","jwt":[{"issuer":"https://i.example","audience":"a","algorithms":["ES256"],"keys":{"file":"/etc/passwd"}}]}"#,
            422,
            "invalid_document",
        ),
        (
            "a bad condition",
            Method::PUT,
            "/v1/plans/gold",
            ADMIN,
            &[("if-match", "W/\"1\", \"2\"")],
            r#"{"kind":"Plan","name":"gold"}"#,
            400,
            "invalid_parameter",
        ),
    ];
    for (what, method, path, token, headers, body, status, code) in rows {
        let answer = plane.send(method, path, token, headers, body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{what}: {}", answer.text);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{what}");
        assert!(answer.body["fix"].is_string(), "{what} says how to fix it: {}", answer.text);
        assert!(answer.body["request_id"].is_string(), "{what}");
    }
    assert_eq!(plane.get("/v1/revision").await.body["revision"], 0);
}

#[tokio::test]
async fn the_description_names_every_operation() {
    let plane = Plane::start().await;
    let described = plane.send(Method::GET, "/openapi.json", "", &[], "").await;
    assert_eq!(described.body["openapi"], "3.1.0");
    let named: usize = described.body["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
    assert_eq!(named, bulkhead_server::operation::endpoints().len());
    let page = plane.send(Method::GET, "/docs", "", &[], "").await;
    assert!(page.text.contains("<!doctype html>") && !page.text.contains("https://"), "it needs no network");
}

#[tokio::test]
async fn strangers_who_hang_up_stop_nobodys_writing() {
    use tokio::io::AsyncWriteExt as _;
    let plane = Plane::start().await;
    for _ in 0..40 {
        let mut stream = tokio::net::TcpStream::connect(plane.address()).await.unwrap();
        let head = "GET /v1/plans HTTP/1.1\r\nhost: c\r\nauthorization: Bearer bo1.x.0123456789012345678901234567890123456789abc\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // Gone before the attempt is written down.
        drop(stream);
    }
    let written = plane.put("/v1/plans/gold", &serde_json::json!({ "kind": "Plan", "name": "gold" })).await;
    assert_eq!(written.status, 201, "{}", written.text);
}

#[tokio::test]
async fn no_text_that_is_short_proves_anybody() {
    let plane = Plane::start().await;
    for token in [" ", "a", "bo1."] {
        let answer = plane.send(Method::GET, "/v1/whoami", token, &[], "").await;
        assert_eq!(answer.status, 401, "{token:?}");
    }
}
