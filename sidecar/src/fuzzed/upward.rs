//! Upward: what an upstream gets for a request is that one request, and of what we add nothing is the client's word.

use super::grammar;
use crate::connection::accept::Presence;
use crate::connection::{Downstream, Entrance};
use crate::deadline::Wheel;
use crate::fields::Fields;
use crate::http1::request::{self, Bounds, Reader};
use crate::http1::write::{self, Framing};
use crate::request::body::Upload;
use crate::request::head::{Head, Received, Target, connection_options};
use crate::request::outgoing::{self, Sending};
use crate::request::trace::Trace;
use crate::request::upstream::Wire;
use crate::worker::Random;
use bulkhead_config::compile::Catalogue;
use bulkhead_config::declared::read_file;
use bulkhead_config::protocol::{Offer, Put};
use bulkhead_config::snapshot::{Route, Scheme, Snapshot};
use bytes::BytesMut;
use http::Method;
use std::sync::Arc;
use std::time::Duration;

const DOCUMENTS: &str = "
kind: Service
name: demo
listeners: [{ name: http, address: '127.0.0.1:0' }]
upstreams: [{ name: app, endpoints: ['http://127.0.0.1:9'] }]
routes: [{ name: all, path: '/**' }]
";
/// Larger than what goes up for any head that was accepted.
const BOUNDS: Bounds = Bounds { bytes: 1 << 20, fields: 4_096 };
const DECISION: &str = "d-9f86d081884c7d65";
/// What we write ourselves, whatever came under these names.
const OURS: [&str; 13] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "cookie",
    "traceparent",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-bulkhead-decision-id",
];
/// What ends here, and who says it to us alone.
const ENDED: [&str; 6] = ["keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "expect", "authorization"];
/// How names begin that are ours to say, or nobody's.
const RESERVED: [&str; 2] = ["x-forwarded-", "x-bulkhead-"];

/// Whether the request has a form in which it goes up at all.
pub(super) fn check(mut received: Received, framing: Framing) -> bool {
    let came = received.headers.clone();
    let Ok(head) = Head::normal(&mut received) else { return false };
    let (method, host) = (head.method.clone(), head.host.value().clone());
    let path = match &head.target {
        Target::Path(path) => path.clone(),
        Target::Service => http::uri::PathAndQuery::from_static("/"),
    };
    let mut wire = Vec::new();
    WORLD.with(|world| write::head(&mut wire, &world.outgoing(head, Wire::Http1).head(), framing));

    let plain = grammar::head(&wire).expect("what goes up is written as the grammar says");
    assert_eq!(plain.length, wire.len(), "a head and not a byte behind it");
    assert_eq!(plain.start, [method.as_str().as_bytes(), path.as_str().as_bytes(), b"HTTP/1.1"]);
    assert_eq!(plain.all("host"), [&host[..]]);
    nothing_is_lost_or_made_up(&came, &plain);
    goes_up_alike_from_there(&wire, framing, (&method, path.as_str(), &host));
    true
}

/// Every field goes up as it came but those that end here, and no other does but ours.
fn nothing_is_lost_or_made_up(came: &Fields, plain: &grammar::Head<'_>) {
    let named: Vec<String> = connection_options(came).map(str::to_ascii_lowercase).collect();
    let goes_up = |name: &str, value: &[u8]| {
        let spelled = name.replace('_', "-");
        let is_reserved = spelled == "x-real-ip" || RESERVED.iter().any(|reserved| spelled.starts_with(reserved));
        let is_ended = ENDED.contains(&name) || named.iter().any(|option| option == name);
        !(OURS.contains(&name) || is_reserved || is_ended || is_of_trace(name) || value.starts_with(b"bk1."))
    };
    let came: Vec<_> = came.iter().collect();
    let expected = came.iter().map(|field| (field.name_str(), field.value)).filter(|(name, value)| goes_up(name, value));
    let expected: Vec<_> = expected.collect();
    let up = plain.fields.iter().map(|(name, value)| (str::from_utf8(name).unwrap(), *value));
    let up: Vec<_> = up.filter(|(name, _)| !(OURS.contains(name) || is_of_trace(name))).collect();
    assert_eq!(up, expected);
    // INVARIANT (only what is proven): nobody was, and nobody vouches for who the client is but the socket.
    assert_eq!(plain.all("x-forwarded-for"), [b"192.0.2.1"]);
    assert_eq!(plain.all("forwarded"), [b"for=192.0.2.1;proto=http"]);
    assert_eq!(plain.all("x-bulkhead-decision-id"), [DECISION.as_bytes()]);
}

/// It goes up behind a trace that came in, and not behind one that begins here.
fn is_of_trace(name: &str) -> bool {
    name == "tracestate"
}

/// A sidecar behind this one reads the same request, and would send the same over HTTP/2.
fn goes_up_alike_from_there(wire: &[u8], framing: Framing, (method, path, host): (&Method, &str, &[u8])) {
    let mut input = BytesMut::from(wire);
    let read = Reader::default().head(&mut input, &mut Fields::default(), BOUNDS);
    let mut read = read.expect("what goes up can be read").expect("and is whole");
    let expected = match framing {
        Framing::Nothing | Framing::Length(0) => request::Framing::Nothing,
        Framing::Length(length) => request::Framing::Length(length),
        Framing::Chunked => request::Framing::Chunked,
    };
    assert_eq!((read.framing, input.len()), (expected, 0));
    let head = Head::normal(&mut read.received).expect("what goes up leaves no second reading");
    let Target::Path(target) = &head.target else { panic!("a path goes up") };
    assert_eq!((&head.method, target.as_str(), &head.host.value()[..]), (method, path, host));
    let mut outgoing = WORLD.with(|world| world.outgoing(head, Wire::Http2));
    // A WebSocket is opened by CONNECT there, and nothing else is.
    let method = if outgoing.upgrades { &Method::CONNECT } else { method };
    let sent = outgoing.to_http2();
    assert_eq!(sent.extensions().get::<hyper::ext::Protocol>().is_some(), outgoing.upgrades);
    assert_eq!(sent.uri().authority().map(|authority| authority.as_str().as_bytes()), Some(host));
    assert_eq!((sent.method(), sent.uri().path_and_query().map(|path| path.as_str())), (method, Some(path)));
}

thread_local! {
    static WORLD: World = World::new();
}

/// A connection of somebody nobody vouches for, and a route for everything.
struct World {
    from: Downstream,
    snapshot: Arc<Snapshot>,
    route: Arc<Route>,
    random: Random,
}

impl World {
    fn new() -> Self {
        let file = read_file("policy.yaml", DOCUMENTS);
        assert!(file.diagnostics.is_empty(), "{}", file.diagnostics);
        let put = file.documents.into_iter().map(|document| Put { document, text: "".into() }).collect();
        let snapshot = Catalogue::new().apply(&Offer { put, ..Offer::default() }).snapshot;
        let route = Arc::clone(snapshot.platform().services()[0].route("/").unwrap());
        let entrance = Entrance { service: "demo".parse().unwrap(), listener: "http".parse().unwrap() };
        let peer = ([192, 0, 2, 1], 4711).into();
        let from =
            Downstream::new(entrance.into(), (peer, Scheme::Http), Presence::of_nobody(), Wheel::new().take(), Duration::from_secs(1));
        Self { from, snapshot, route, random: Random::new().unwrap() }
    }

    fn outgoing(&self, head: Head, wire: Wire) -> Box<outgoing::Outgoing> {
        let sending = Sending {
            from: &self.from,
            platform: self.snapshot.platform(),
            route: &self.route,
            proven: None,
            source: std::net::Ipv4Addr::LOCALHOST.into(),
            is_passed_unproven: false,
            decision: DECISION.parse().unwrap(),
            trace: Trace::of(&head.headers, &self.random),
            wire,
        };
        outgoing::request(head, Upload::Nothing, &sending, Box::new(outgoing::Outgoing::blank(0)))
    }
}
