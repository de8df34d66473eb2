//! What goes up and what comes back.

use crate::support::{Client, KEY, World, echo, upstream, within};

#[tokio::test]
async fn the_upstream_is_told_what_is_proven_and_nothing_a_client_made_up() {
    let world = World::start(&[echo().await], "", "").await;
    let answer = world
        .ask(&format!(
            "GET /v1/items?a=%2F HTTP/1.1\nHost: Acme.Test:80\nX-Api-Key: {KEY}\nX-Bulkhead-Tenant: globex\nX-Bulkhead-Roles: admin\n\
             X-Bulkhead-Anything: 1\nX_Bulkhead_Tenant: globex\nX-Forwarded_For: 203.0.113.66\nX-Forwarded-For: 203.0.113.66\nX-Forwarded-Custom: 1\nForwarded: for=203.0.113.66\n\
             Connection: keep-alive, X-Mine\nX-Mine: 1\nKeep-Alive: timeout=5\nProxy-Authorization: Basic eA==\nAccept: */*\n\n"
        ))
        .await;
    assert_eq!(answer.status, 200);
    let (line, fields) = answer.body.split_once("\r\n").unwrap();
    assert_eq!(line, "GET /v1/items?a=%2F HTTP/1.1");
    for told in [
        "x-bulkhead-tenant: acme\r\n",
        "x-bulkhead-user: ci\r\n",
        "x-bulkhead-roles: reader\r\n",
        "x-bulkhead-decision-id: d-",
        "x-forwarded-for: 127.0.0.1\r\n",
        "forwarded: for=127.0.0.1;proto=http\r\n",
        "traceparent: 00-",
        "host: acme.test:80\r\n",
        "accept: */*\r\n",
    ] {
        assert!(fields.contains(told), "{told} is missing in\n{fields}");
    }
    for kept in ["globex", "admin", "anything", "203.0.113.66", "custom", "mine", "keep-alive", "proxy", KEY] {
        assert!(!fields.to_ascii_lowercase().contains(&kept.to_ascii_lowercase()), "{kept} went up in\n{fields}");
    }
}

#[tokio::test]
async fn nothing_goes_up_as_proven_on_a_public_route() {
    let world = World::start(&[echo().await], "", "").await;
    let answer = world.ask(&format!("GET /public/x HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\nAuthorization: Bearer x\n\n")).await;
    assert_eq!(answer.status, 200);
    for kept in ["x-bulkhead-tenant", "x-bulkhead-user", "x-bulkhead-roles", "authorization", KEY] {
        assert!(!answer.body.contains(kept), "{kept} went up in\n{}", answer.body);
    }
    assert!(answer.body.contains("x-bulkhead-decision-id: d-"));
}

#[tokio::test]
async fn an_api_key_never_goes_up_even_where_authorization_does() {
    let origin = echo().await;
    let more = format!(
        "---\nkind: Service\nname: open\nshared_hosts: []\nlisteners:\n  - {{ name: open, address: \"127.0.0.1:0\" }}\n\
         upstreams:\n  - {{ name: app, endpoints: [\"http://{origin}\"] }}\n\
         routes:\n  - {{ name: open, path: \"/**\", access: public, forward_authorization: true }}\n"
    );
    let world = World::start(&[origin], "", &more).await;
    let open = world.sidecar.addresses().listeners.iter().find(|(entrance, _)| entrance.service.as_str() == "open").unwrap().1;
    for (authorization, goes_up) in [("Basic b3Blbg==", true), (KEY, false)] {
        let mut client = Client::to(open).await;
        client.send(&format!("GET / HTTP/1.1\nHost: acme.test\nAuthorization: Bearer {authorization}\n\n")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.contains(authorization)), (200, goes_up), "{}", answer.body);
    }
}

#[tokio::test]
async fn of_a_tenant_that_is_held_no_credential_is_called_bad() {
    let more = "---\nkind: RoleBinding\ntenant: acme\nname: broken\nrole: nobody\nsubjects: [{ user: ana }]\n";
    let world = World::start(&[echo().await], "", more).await;
    for credential in [format!("X-Api-Key: {KEY}"), "Authorization: Bearer nonsense".to_owned(), "Accept: */*".to_owned()] {
        let answer = world.ask(&format!("GET /v1/items HTTP/1.1\nHost: acme.test\n{credential}\n\n")).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "policy_held"), "{credential}");
    }
}

#[tokio::test]
async fn more_header_fields_than_the_platform_takes_are_refused_over_http2_too() {
    let world = World::start(&[echo().await], "", "---\nkind: SecurityPolicy\nname: few\nrequest: { headers_max: 20 }\n").await;
    let stream = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    let (mut sender, connection) = within(h2::client::handshake(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    for (fields, status) in [(20, 200), (21, 431)] {
        let mut request = http::Request::get("http://acme.test/public/x");
        for number in 0..fields {
            request = request.header(format!("x-{number}"), "1");
        }
        let (response, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(within(response).await.unwrap().status(), status, "{fields} fields");
    }
}

#[tokio::test]
async fn what_concerns_the_upstreams_hop_does_not_come_back() {
    let origin = upstream(|mut connection| async move {
        while connection.head().await.is_some() {
            connection
                .send("HTTP/1.1 200 OK\nConnection: keep-alive, X-Hop\nKeep-Alive: timeout=5\nX-Hop: 1\nX-Kept: 1\nContent-Length: 2\n\nok")
                .await;
        }
    })
    .await;
    let world = World::start(&[origin], "", "").await;
    let answer = world.ask("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await;
    let head = answer.head.to_ascii_lowercase();
    assert!(head.contains("x-kept: 1") && answer.body == "ok");
    for gone in ["keep-alive", "x-hop", "connection"] {
        assert!(!head.contains(gone), "{gone} came back in\n{head}");
    }
}

#[tokio::test]
async fn a_head_is_answered_without_a_body_and_with_its_length() {
    let world = World::start(&[echo().await], "", "").await;
    let mut client = world.client().await;
    for (path, status) in [("/v1/items", 401), ("/nowhere//", 400)] {
        client.send(&format!("HEAD {path} HTTP/1.1\nHost: acme.test\n\n")).await;
        let answer = client.answer_to("HEAD").await;
        assert_eq!(answer.status, status);
        let length = answer.head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        assert!(length.parse::<usize>().unwrap() > 100, "{length}");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let origin = upstream(|mut connection| async move {
        while let Some(head) = connection.head().await {
            let body = connection.body_of(&head).await;
            let text = format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n{:x}\r\n{body}\r\n0\r\nX-Sum: 7\r\n\r\n",
                body.len()
            );
            connection.send(&text).await;
        }
    })
    .await;
    let world = World::start(&[origin], "", "").await;
    let mut client = world.client().await;
    client
        .send(
            "POST /public/x HTTP/1.1\r\nHost: acme.test\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
             Trailer: X-Digest, X-Bulkhead-Tenant\r\n\r\n3\r\nabc\r\n0\r\nX-Digest: 1\r\nX-Bulkhead-Tenant: globex\r\n\r\n",
        )
        .await;
    let answer = client.answer().await;
    assert!(answer.body.to_ascii_lowercase().contains("abcx-digest: 1"), "{}", answer.body);
    assert!(answer.body.to_ascii_lowercase().contains("x-sum: 7"), "{}", answer.body);
    assert!(!answer.body.contains("globex"), "a trailer says what only we say in\n{}", answer.body);
}

#[tokio::test]
async fn a_changed_protocol_becomes_a_tunnel() {
    let origin = upstream(|mut connection| async move {
        let head = connection.head().await.unwrap().to_ascii_lowercase();
        assert!(head.contains("connection: upgrade") && head.contains("upgrade: websocket"), "{head}");
        connection.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nearly").await;
        let said = connection.bytes(9).await;
        connection.send_raw(&said).await;
    })
    .await;
    let world = World::start(&[origin], "", "").await;
    let mut client = world.client().await;
    client.send("GET /public/socket HTTP/1.1\r\nHost: acme.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhasty").await;
    let head = client.head().await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
    client.send_raw(b"more").await;
    assert_eq!(client.bytes(14).await, b"earlyhastymore");
    assert!(client.ends().await);
    drop(client);
    let line = world.log_with("access.jsonl", &["/public/socket"]).await;
    assert!(line.contains("\"status\":101") && line.contains("\"bytes_in\":9") && line.contains("\"bytes_out\":14"), "{line}");
}

#[tokio::test]
async fn the_service_as_a_whole_is_asked_about_by_whoever_proves_a_tenant() {
    let world = World::start(&[echo().await], "", "").await;
    for (head, status) in [
        ("OPTIONS * HTTP/1.1\nHost: acme.test\n\n".to_owned(), 401),
        (format!("OPTIONS * HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\n\n"), 204),
        (format!("OPTIONS * HTTP/1.1\nHost: shared.test\nX-Api-Key: {KEY}\n\n"), 204),
        (format!("GET * HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\n\n"), 400),
    ] {
        let answer = world.ask(&head).await;
        assert_eq!(answer.status, status, "{head}");
        assert_eq!(answer.head.contains("allow: GET"), status == 204, "{}", answer.head);
    }
}

#[tokio::test]
async fn what_is_no_request_is_answered_with_a_reason() {
    let world = World::start(&[echo().await], "", "").await;
    for (raw, code) in [
        (&b"\x16\x03\x01\x02\x00 nonsense\r\n\r\n"[..], "ambiguous_request"),
        (b"GET / HTTP/1.1\r\n\r\n", "ambiguous_request"),
        (b"GET / HTTP/1.1\r\nHost: acme.test\r\nHost: acme.test\r\n\r\n", "ambiguous_request"),
        (b"GET /a/../b HTTP/1.1\r\nHost: acme.test\r\n\r\n", "ambiguous_request"),
        (b"GET http://other.test/ HTTP/1.1\r\nHost: acme.test\r\n\r\n", "ambiguous_request"),
        (b"POST / HTTP/1.1\r\nHost: acme.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "ambiguous_request"),
    ] {
        let mut client = world.client().await;
        client.send_raw(raw).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{}", String::from_utf8_lossy(raw));
    }
    let mut client = world.client().await;
    client.send_raw(format!("GET /public/x HTTP/1.1\r\nHost: acme.test\r\nX: {}\r\n\r\n", "a".repeat(40_000)).as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (431, "head_too_large"));
    assert!(client.ends().await);
}

#[tokio::test]
async fn two_requests_at_once_on_a_connection_are_answered_in_order() {
    let world = World::start(&[echo().await], "", "").await;
    let mut client = world.client().await;
    client
        .send_raw(b"GET /public/1 HTTP/1.1\r\nHost: acme.test\r\n\r\nGET /public/2 HTTP/1.1\r\nHost: acme.test\r\n\r\nNONSENSE\r\n\r\n")
        .await;
    for path in ["/public/1", "/public/2"] {
        let answer = client.answer().await;
        assert!(answer.status == 200 && answer.body.starts_with(&format!("GET {path} ")), "{}", answer.body);
    }
    assert_eq!(client.answer().await.status, 400);
    assert!(client.ends().await);
}

#[tokio::test]
async fn http2_comes_in_on_the_same_port_and_its_cookies_go_up_as_one() {
    let world = World::start(&[echo().await], "", "").await;
    let stream = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    let (mut sender, connection) = within(h2::client::handshake(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let request = http::Request::get("http://acme.test/public/x").header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    let mut response = within(response).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = within(response.body_mut().data()).await.unwrap().unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains("cookie: a=1; b=2\r\n") && text.contains("host: acme.test\r\n"), "{text}");
}

#[tokio::test]
async fn grpc_goes_up_as_http2() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.uri().authority().unwrap().as_str(), "acme.test");
            assert_eq!(request.headers().get("te").unwrap(), "trailers");
            let mut send = respond.send_response(http::Response::new(()), false).unwrap();
            send.send_data("hello".into(), false).unwrap();
            let trailers = http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
            send.send_trailers(trailers).unwrap();
        }
    });
    let world = World::start(&[origin], "", "").await;
    let stream = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    let (sender, connection) = within(h2::client::handshake(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    // Several at once: they share one connection to the upstream, which takes only one.
    let mut sender = within(sender.ready()).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let request =
            http::Request::post("http://acme.test/public/call").header("content-type", "application/grpc").header("te", "trailers");
        waiting.push(sender.send_request(request.body(()).unwrap(), true).unwrap().0);
    }
    for response in waiting {
        let mut body = within(response).await.unwrap().into_body();
        assert_eq!(within(body.data()).await.unwrap().unwrap(), "hello");
        let trailers = within(body.trailers()).await.unwrap().unwrap();
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    }
}

#[tokio::test]
async fn several_workers_serve_one_listener() {
    let world = World::with_workers(3, &[echo().await], "", "").await;
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..9 {
        clients.push(world.client().await);
    }
    for client in &mut clients {
        client.send("GET /public/x HTTP/1.1\nHost: acme.test\n\n").await;
        assert_eq!(client.answer().await.status, 200);
    }
}
