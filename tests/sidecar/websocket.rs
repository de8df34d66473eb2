//! WebSockets through the sidecar: with a library on both sides, and with a browser.

use bulkhead_tests::{Client, Origin, Process, World, eventually};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeError;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket, accept_hdr};

/// What the service saw of its clients.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    /// Fields of a handshake.
    Asked(Vec<(String, String)>),
    /// A close frame, or the end without one.
    Closed(Option<(u16, String)>),
}

/// A service that answers text and binary messages with themselves, speaks `chat.v2`, and tells what it saw.
fn echo() -> (Origin, Receiver<Seen>) {
    let (tell, seen) = channel();
    let tell = Mutex::new(tell);
    let origin = Origin::speaking(move |stream| {
        let tell = tell.lock().unwrap().clone();
        #[expect(clippy::result_large_err, reason = "the library's callback has this type")]
        let handshake = |request: &Request, mut response: Response| {
            let fields = request.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
            let _ = tell.send(Seen::Asked(fields.collect()));
            if request.headers().contains_key("sec-websocket-protocol") {
                response.headers_mut().insert("sec-websocket-protocol", "chat.v2".parse().unwrap());
            }
            Ok(response)
        };
        // Somebody may have come for something else.
        let Ok(mut socket) = accept_hdr(stream, handshake) else { return };
        loop {
            match socket.read() {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => drop(socket.send(message)),
                Ok(Message::Close(frame)) => {
                    let _ = tell.send(Seen::Closed(frame.map(|frame| (frame.code.into(), frame.reason.to_string()))));
                }
                Ok(_) => {}
                Err(tungstenite::Error::ConnectionClosed) => return,
                Err(_) => return drop(tell.send(Seen::Closed(None))),
            }
        }
    });
    (origin, seen)
}

/// A client of that tenant, or what it was answered instead.
fn open(world: &World, host: &str, tenant: &str, protocols: &str) -> Result<(WebSocket<TcpStream>, http::HeaderMap), (u16, String)> {
    let mut request = format!("ws://{host}/v1/items").into_client_request().unwrap();
    let fields = request.headers_mut();
    fields.insert("authorization", format!("Bearer {}", world.issuer.token(tenant, &["reader"])).parse().unwrap());
    if !protocols.is_empty() {
        fields.insert("sec-websocket-protocol", protocols.parse().unwrap());
    }
    let stream = TcpStream::connect(world.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    match tungstenite::client(request, stream) {
        Ok((socket, response)) => Ok((socket, response.headers().clone())),
        Err(HandshakeError::Failure(tungstenite::Error::Http(response))) => {
            Err((response.status().as_u16(), String::from_utf8(response.into_body().unwrap_or_default()).unwrap()))
        }
        Err(why) => panic!("{why}"),
    }
}

fn closed(socket: &mut WebSocket<TcpStream>) -> (u16, String) {
    loop {
        match socket.read().unwrap() {
            Message::Close(Some(CloseFrame { code, reason })) => return (code.into(), reason.to_string()),
            Message::Close(None) => panic!("a close without a status"),
            _ => {}
        }
    }
}

/// The next close that the service saw.
fn close_seen(seen: &Receiver<Seen>) -> Option<(u16, String)> {
    loop {
        if let Seen::Closed(frame) = seen.recv_timeout(Duration::from_secs(30)).unwrap() {
            return frame;
        }
    }
}

#[test]
fn messages_of_any_size_pings_and_closes_go_both_ways() {
    let (origin, seen) = echo();
    let world = World::with(origin, |_| {});
    let (mut socket, _) = open(&world, "acme.localhost", "acme_corp", "").unwrap();
    for size in [0, 125, 126, 65_536, 8 << 20] {
        let sent = Message::binary((0..size).map(|at: u32| at.to_le_bytes()[0]).collect::<Vec<u8>>());
        socket.send(sent.clone()).unwrap();
        assert!(socket.read().unwrap() == sent, "{size} bytes came back otherwise");
    }
    socket.send(Message::text("grüß dich")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("grüß dich"));
    socket.send(Message::Ping(b"there?".to_vec().into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong(b"there?".to_vec().into()));
    socket.close(Some(CloseFrame { code: CloseCode::Normal, reason: "done".into() })).unwrap();
    assert_eq!(closed(&mut socket), (1000, "done".to_owned()), "the service's own answer");
    assert_eq!(close_seen(&seen), Some((1000, "done".to_owned())));
}

#[test]
fn the_handshake_passes_as_it_is_and_the_service_chooses_the_subprotocol() {
    let (origin, seen) = echo();
    let world = World::with(origin, |_| {});
    let (_socket, answer) = open(&world, "acme.localhost", "acme_corp", "chat.v1, chat.v2").unwrap();
    assert_eq!(answer["sec-websocket-protocol"], "chat.v2");
    let Seen::Asked(fields) = seen.recv_timeout(Duration::from_secs(30)).unwrap() else { panic!("no handshake") };
    let of = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(of("sec-websocket-protocol"), Some("chat.v1, chat.v2"));
    assert_eq!(of("sec-websocket-version"), Some("13"));
    assert_eq!(of("x-bulkhead-tenant"), Some("acme_corp"));
    // What proves that both sides mean the same handshake: the library has checked it against the key it sent.
    assert!(answer.contains_key("sec-websocket-accept") && of("sec-websocket-key").is_some());
}

#[test]
fn who_may_not_connect_is_told_why_before_the_protocol_changes() {
    let (origin, seen) = echo();
    let world = World::with(origin, |_| {});
    let (status, body) = open(&world, "globex.localhost", "acme_corp", "").unwrap_err();
    let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, problem["code"].as_str()), (403, Some("other_tenant")), "{problem}");
    assert!(seen.try_recv().is_err(), "the service hears nothing of it");
}

#[test]
fn when_the_tenant_is_suspended_both_sides_get_a_close_frame_that_says_so() {
    let (origin, seen) = echo();
    let world = World::with(origin, |_| {});
    let (mut kept, _) = open(&world, "acme.localhost", "acme_corp", "").unwrap();
    let (mut ended, _) = open(&world, "globex.localhost", "globex", "").unwrap();
    ended.send(Message::text("hello")).unwrap();
    assert_eq!(ended.read().unwrap(), Message::text("hello"));
    world.write("tenants/globex.yaml", &world.read("tenants/globex.yaml").replace("name: Globex", "name: Globex\nstate: suspended"));
    assert_eq!(closed(&mut ended), (1008, "tenant_suspended".to_owned()));
    assert_eq!(close_seen(&seen), Some((1008, "tenant_suspended".to_owned())));
    kept.send(Message::text("still here")).unwrap();
    assert_eq!(kept.read().unwrap(), Message::text("still here"), "the other tenant's goes on");
    let (status, body) = open(&world, "globex.localhost", "globex", "").unwrap_err();
    assert!(status == 403 && body.contains("tenant_suspended"), "{status} {body}");
}

#[test]
fn a_drain_says_goodbye_and_waits_for_no_deadline() {
    let (origin, seen) = echo();
    let mut world = World::with_arguments(origin, &["--drain-deadline", "1h"], |_| {});
    let (mut socket, _) = open(&world, "acme.localhost", "acme_corp", "").unwrap();
    world.process().signal("TERM");
    assert_eq!(closed(&mut socket).0, 1001);
    // The library answers the close, as a browser would, and the service hears it.
    while socket.read().is_ok() {}
    assert_eq!(close_seen(&seen).map(|(code, _)| code), Some(1001));
    assert_eq!(world.process().wait().code(), Some(0), "{}", world.log());
}

/// What the page does; `HERE` is where it tells what it saw.
const PAGE: &str = r#"<!doctype html><script>
  const tell = what => new Image().src = 'HERE/told?' + encodeURIComponent(what);
  const socket = new WebSocket('ws://' + location.host + '/ws/echo', ['chat.v1', 'chat.v2']);
  socket.binaryType = 'arraybuffer';
  socket.onopen = () => { tell('open ' + socket.protocol); socket.send('hello'); };
  socket.onmessage = ({ data }) => {
    tell('message ' + (data.byteLength ?? data));
    if (data === 'hello') socket.send(new Uint8Array(1 << 20));
  };
  socket.onclose = ({ code, reason }) => tell('close ' + code + ' ' + reason);
</script>"#;

#[test]
fn a_browser_opens_one_and_is_told_why_it_is_closed() {
    let chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].into_iter().find(|path| std::path::Path::new(path).exists());
    let chromium = chromium.expect("no Chromium; run: apt-get install --no-install-recommends chromium");
    let told = Arc::new(Mutex::new(Vec::new()));
    let hearing = Arc::clone(&told);
    let beside = Origin::with(move |request| {
        hearing.lock().unwrap().push(request.target().to_owned());
        bulkhead_tests::Reply::Ok(vec![], Vec::new())
    });
    let page = PAGE.replace("HERE", &format!("http://{}", beside.address()));
    let (sockets, _seen) = echo();
    let pages = Origin::with(move |_| bulkhead_tests::Reply::Ok(vec![("content-type".into(), "text/html".into())], page.clone().into()));
    let pages_at = pages.address();
    let world = World::with(sockets, |folder| {
        let platform = std::fs::read_to_string(folder.join("platform.yaml")).unwrap();
        // A browser cannot add a credential to a WebSocket's handshake.
        let platform = platform
            .replace("    endpoints: [", &format!("    endpoints: [\"http://{pages_at}\"]\n  - name: sockets\n    endpoints: ["))
            .replace("  - name: health\n", "  - { name: page, path: /page, access: public, upstream: app }\n  - { name: ws, path: \"/ws/**\", access: public, upstream: sockets }\n  - name: health\n")
            .replace("  - name: items\n", "  - name: items\n    upstream: app\n")
            .replace("  - name: item\n", "  - name: item\n    upstream: app\n")
            .replace("  - name: reports\n    path: /v1/reports\n", "  - name: reports\n    path: /v1/reports\n    upstream: app\n")
            .replace("    path: /healthz\n", "    path: /healthz\n    upstream: app\n")
            .replace("    path: /v1/admin/**\n", "    path: /v1/admin/**\n    upstream: app\n");
        std::fs::write(folder.join("platform.yaml"), platform).unwrap();
    });
    assert_eq!(Client::new(world.address(), "acme.localhost").get("/page").verdict(), "200");
    let profile = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(chromium);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--remote-debugging-port=0"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://acme.localhost:{}/page", world.address().port()));
    let _browser = Process::start(command, &profile.path().join("logs"));
    let hears = |what: &str| {
        let what = format!("/told?{what}");
        eventually(&what, || told.lock().unwrap().contains(&what).then_some(()));
    };
    hears("open%20chat.v2");
    hears("message%20hello");
    hears("message%201048576");
    world
        .write("tenants/acme_corp.yaml", &world.read("tenants/acme_corp.yaml").replace("plan: premium", "plan: premium\nstate: suspended"));
    hears("close%201008%20tenant_suspended");
}
