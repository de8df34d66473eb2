//! The load over HTTP/2, over TLS, and as gRPC.

use super::peer::{STREAMS_MAX, Says, http2, http2_tls, of_tenant};
use super::{COUNTED, Run, load, load_url, says, server};
use h2::Reason;
use http::{HeaderMap, Response};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

const NAMED: [&str; 4] = ["--tenants", "a,b", "--answer-tenant", "x-tenant"];

fn counted(address: SocketAddr, more: &[&str]) -> Run {
    load(address, &[&COUNTED[..], &["--http2"], more].concat())
}

#[test]
fn many_streams_of_one_connection_are_each_answered_for_their_own_tenant() {
    let peer = http2(|came| Says::Whole(of_tenant(came.tenant())));
    let run = counted(peer.address, &[&NAMED[..], &["--connections", "2", "--streams", "6"]].concat());
    assert_eq!((run.code(), run.number("/all/statuses/200"), run.number("/all/failed")), (Some(0), 1_000.0, 0.0), "{}", run.text());
    let [connections, requests] = [&peer.seen.connections, &peer.seen.requests].map(|count| count.load(Ordering::SeqCst));
    assert_eq!((connections, requests), (2, 1_000));
    assert!(peer.seen.most.load(Ordering::SeqCst) > 2, "one stream at a time is not many");
}

#[test]
fn more_streams_than_a_server_allows_wait_for_their_turn() {
    let peer = http2(|came| Says::Whole(of_tenant(came.tenant())));
    let run = counted(peer.address, &["--connections", "1", "--streams", "40"]);
    assert_eq!((run.code(), run.number("/all/statuses/200")), (Some(0), 1_000.0), "{}", run.text());
    assert!(peer.seen.most.load(Ordering::SeqCst) <= u64::from(STREAMS_MAX));
}

#[test]
fn a_leak_is_found_in_a_header_and_in_a_body_of_http2() {
    for names in ["x-tenant", "/tenant"] {
        let peer = http2(|came| Says::Whole(of_tenant(if came.number == 500 { "c" } else { came.tenant() })));
        let run = counted(peer.address, &["--tenants", "a,b", "--answer-tenant", names]);
        assert_eq!((run.code(), run.number("/all/leaked"), run.number("/all/failed")), (Some(1), 1.0, 1.0), "{names}: {}", run.text());
    }
}

#[test]
fn a_body_wider_than_any_window_arrives_whole() {
    let peer = http2(|came| Says::Whole(Response::new(vec![b'.'; came.body.len()])));
    let run = load(peer.address, &["--http2", "--requests", "20", "--duration", "60s", "--body-size", "2000000", "--method", "PUT"]);
    assert_eq!((run.code(), run.number("/all/statuses/200")), (Some(0), 20.0), "{}", run.text());
}

#[test]
fn a_server_that_goes_away_in_peace_costs_no_request() {
    let peer = http2(|came| {
        let answer = of_tenant(came.tenant());
        if came.number % 100 == 50 { Says::Last(answer) } else { Says::Whole(answer) }
    });
    let run = counted(peer.address, &["--connections", "2", "--streams", "4"]);
    assert_eq!((run.code(), run.number("/all/statuses/200")), (Some(0), 1_000.0), "{}", run.text());
    // Ten went away, of which the last ones may not have been followed by another.
    let connections = peer.seen.connections.load(Ordering::SeqCst);
    assert!((8..=12).contains(&connections), "{connections} connections");
}

#[test]
fn a_stream_that_fails_is_counted_by_its_kind_and_others_go_on() {
    for (reason, kind) in [(Reason::INTERNAL_ERROR, "reset"), (Reason::REFUSED_STREAM, "refused")] {
        let peer = http2(move |came| if came.tenant() == "b" { Says::Reset(reason) } else { Says::Whole(of_tenant("a")) });
        let run = counted(peer.address, &["--tenants", "a=9,b=1", "--streams", "4", "--connections", "2"]);
        let lost = run.number(&format!("/tenants/b/lost/{kind}"));
        assert!(lost > 0.0, "{kind}: {}", run.text());
        assert_eq!(
            (run.code(), lost, run.number("/all/failed")),
            (Some(1), run.number("/tenants/b/asked"), lost),
            "{kind}: {}",
            run.text()
        );
        assert_eq!(run.number("/tenants/a/statuses/200"), 1_000.0 - lost, "{kind}: {}", run.text());
    }
}

#[test]
fn a_stream_without_an_answer_is_given_up_when_its_time_is_over() {
    let peer = http2(|came| if came.tenant() == "b" { Says::Never } else { Says::Whole(of_tenant("a")) });
    let run = load(peer.address, &["--http2", "--tenants", "b", "--requests", "5", "--duration", "60s", "--timeout", "100ms"]);
    assert_eq!((run.code(), run.number("/all/lost/timeout")), (Some(1), 5.0), "{}", run.text());
}

#[test]
fn a_server_of_another_protocol_is_told() {
    let one = server(|_, tenant| says(tenant));
    let run = load(one.address, &["--http2", "--requests", "3", "--duration", "60s", "--timeout", "2s"]);
    assert_eq!((run.code(), run.number("/all/failed")), (Some(1), 3.0), "{}", run.text());
}

#[test]
fn over_tls_a_server_is_trusted_by_its_authority_or_not_at_all() {
    let peer = http2_tls(|came| Says::Whole(of_tenant(came.tenant())));
    let (port, authority) = (peer.address.port(), peer.authority.as_ref().unwrap().path().to_str().unwrap());
    let url = format!("https://localhost:{port}/");
    let few = ["--requests", "100", "--duration", "60s", "--connections", "4"];
    for (trust, answered, lost) in [
        (&["--http2", "--ca", authority][..], 100.0, 0.0),
        (&["--http2", "--insecure"], 100.0, 0.0),
        (&["--http2"], 0.0, 100.0),
        (&["--http2", "--ca", authority, "--server-name", "other.test"], 0.0, 100.0),
        // It speaks nothing else.
        (&["--ca", authority], 0.0, 100.0),
    ] {
        let run = load_url(&url, &[&few[..], trust].concat());
        assert_eq!((run.number("/all/statuses/200"), run.number("/all/lost/tls")), (answered, lost), "{trust:?}: {}", run.text());
        assert_eq!(run.code(), Some(if lost > 0.0 { 1 } else { 0 }), "{trust:?}: {}", run.text());
    }
}

/// A service whose calls end with what the message says: one byte, the status.
fn grpc(came: &super::peer::Came) -> Says {
    let [0, 0, 0, 0, 1, status] = came.body[..] else { return Says::Reset(Reason::PROTOCOL_ERROR) };
    let head = Response::builder().header("content-type", "application/grpc");
    let outcome = |trailers: &mut HeaderMap| {
        trailers.insert("grpc-status", status.to_string().parse().unwrap());
        trailers.insert("x-tenant", came.tenant().parse().unwrap());
    };
    match (came.head.uri.path(), &came.head.headers["te"]) {
        ("/no.Outcome/Call", _) => Says::Whole(head.body(vec![0; 5]).unwrap()),
        // What fails at once is told in the head alone.
        (_, te) if te == "trailers" && status != 0 => {
            let mut answer = head.body(Vec::new()).unwrap();
            outcome(answer.headers_mut());
            Says::Whole(answer)
        }
        _ => {
            let mut trailers = HeaderMap::new();
            outcome(&mut trailers);
            Says::Trailed(head.body(vec![0; 5]).unwrap(), trailers)
        }
    }
}

#[test]
fn a_call_ends_as_its_grpc_status_says() {
    let peer = http2(grpc);
    let call = |method: &str, more: &[&str]| {
        let url = format!("http://{}/{method}", peer.address);
        load_url(&url, &[&["--grpc", "--requests", "100", "--duration", "60s"], &NAMED[..], more].concat())
    };
    let run = call("a.Service/Call", &["--message", "hex:00"]);
    assert_eq!((run.code(), run.number("/all/statuses/grpc 0")), (Some(0), 100.0), "{}", run.text());
    let run = call("a.Service/Call", &["--message", "hex:05"]);
    assert_eq!((run.code(), run.number("/all/statuses/grpc 5"), run.number("/all/unexpected")), (Some(1), 100.0, 100.0), "{}", run.text());
    let run = call("a.Service/Call", &["--message", "hex:05", "--expect", "5"]);
    assert_eq!((run.code(), run.number("/all/statuses/grpc 5")), (Some(0), 100.0), "{}", run.text());
    let run = call("no.Outcome/Call", &["--message", "hex:00"]);
    assert_eq!((run.code(), run.number("/all/lost/malformed")), (Some(1), 100.0), "{}", run.text());
}
