//! What a route does to header fields, on the way up and on the way down.

use crate::support::{Client, KEY, World, http2_client, upstream, within};

/// A sidecar with rules on its routes, in front of an upstream that answers with the head it got as its body.
async fn world() -> World {
    let address = upstream(|mut connection: Client| async move {
        while let Some(head) = connection.head().await {
            let fields = "Server: leaky/1.0\r\nX-Powered-By: x\r\nX-Kept: 1\r\nX-Added: theirs\r\n";
            let length = head.len();
            connection.send_raw(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n{head}").as_bytes()).await;
        }
    })
    .await;
    let up = "request_headers: { set: { x-tenant: \"${tenant}\", x-caller: \"${user}/${route}\", x-env: prod }, \
              add: { x-added: \"${source}\" }, remove: [x-debug] }";
    let down = "response_headers: { set: { server: shop, strict-transport-security: max-age=1 }, \
                add: { x-added: \"${tenant} ${decision_id}\" }, remove: [X-Powered-By] }";
    let text = World::text(&[address], "", "").replace("access: public }", &format!("access: public, {up}, {down} }}"));
    World::with_documents(&text.replace("path: \"/**\" }", &format!("path: \"/**\", {up}, {down} }}"))).await
}

/// Lines of a head under a name.
fn lines<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[tokio::test]
async fn fields_are_removed_set_and_added_on_both_ways() {
    let world = world().await;
    let sent = "X-Debug: 1\nX_Debug: 2\nX-Env: mine\nX-Tenant: globex\nx_tenant: globex\nX-Caller: root\nX-Added: mine\nX-Other: 1";
    let answer = world.ask(&format!("GET /any HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\n{sent}\n\n")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for (name, expected) in [
        ("x-debug", vec![]),
        ("x_debug", vec![]),
        ("x-env", vec!["prod"]),
        ("x-tenant", vec!["acme"]),
        ("x_tenant", vec![]),
        ("x-caller", vec!["ci/all"]),
        ("x-added", vec!["mine", "127.0.0.1"]),
        ("x-other", vec!["1"]),
    ] {
        assert_eq!(lines(&answer.body, name), expected, "{name} in {}", answer.body);
    }
    for (name, expected) in
        [("server", vec!["shop"]), ("x-powered-by", vec![]), ("strict-transport-security", vec!["max-age=1"]), ("x-kept", vec!["1"])]
    {
        assert_eq!(lines(&answer.head, name), expected, "{name} in {}", answer.head);
    }
    let added = lines(&answer.head, "x-added");
    assert!(matches!(added[..], ["theirs", ours] if ours.starts_with("acme d-")), "{}", answer.head);
}

#[tokio::test]
async fn what_nobody_proved_is_not_said_and_what_a_client_says_in_its_place_is_gone() {
    let world = world().await;
    let answer = world.ask("GET /public/x HTTP/1.1\nHost: acme.test\nX-Tenant: globex\nX-Caller: root\n\n").await;
    assert_eq!(lines(&answer.body, "x-tenant"), Vec::<&str>::new(), "{}", answer.body);
    assert_eq!(lines(&answer.body, "x-caller"), Vec::<&str>::new());
    assert_eq!(lines(&answer.body, "x-env"), ["prod"]);
}

#[tokio::test]
async fn rules_hold_over_http2_as_well() {
    let world = world().await;
    let mut sender = http2_client(world.address()).await;
    let request = http::Request::get("http://acme.test/public/x").header("x-debug", "1").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    let response = within(response).await.unwrap();
    assert_eq!(response.headers().get_all("server").iter().collect::<Vec<_>>(), ["shop"]);
    assert_eq!(response.headers().get_all("x-added").iter().count(), 2);
}
