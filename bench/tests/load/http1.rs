//! The load over HTTP/1.1: loops, mixes, checks of what comes, and what is lost.

use super::{COUNTED, load, says, server};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

#[test]
fn a_closed_loop_asks_as_often_as_told_and_keeps_its_connections() {
    let server = server(|_, tenant| says(tenant));
    let run = load(server.address, &[&COUNTED[..], &["--connections", "4"]].concat());
    assert_eq!((run.code(), run.number("/all/asked"), run.number("/all/statuses/200")), (Some(0), 1_000.0, 1_000.0), "{}", run.text());
    assert_eq!((server.requests.load(Ordering::SeqCst), server.connections.load(Ordering::SeqCst)), (1_000, 4));
}

#[test]
fn connections_are_replaced_after_as_many_requests_as_told() {
    let server = server(|_, tenant| says(tenant));
    let run = load(server.address, &[&COUNTED[..], &["--connections", "1", "--requests-per-connection", "10"]].concat());
    assert_eq!((run.code(), server.connections.load(Ordering::SeqCst)), (Some(0), 100), "{}", run.text());
}

#[test]
fn an_open_loop_asks_as_often_as_its_rate_says() {
    let server = server(|_, tenant| says(tenant));
    let run = load(server.address, &["--rate", "500", "--duration", "2s", "--timeout", "60s"]);
    assert_eq!((run.code(), run.number("/all/asked")), (Some(0), 1_000.0), "{}", run.text());
}

#[test]
fn a_mix_gives_each_tenant_its_share() {
    let server = server(|_, tenant| says(tenant));
    let run = load(server.address, &[&COUNTED[..], &["--tenants", "a=7,b=2,c=1", "--answer-tenant", "x-tenant"]].concat());
    assert_eq!(run.code(), Some(0), "{}", run.text());
    // Four standard deviations of a thousand draws; the seed makes them the same in every run.
    for (tenant, share, off) in [("a", 700.0, 58.0), ("b", 200.0, 51.0), ("c", 100.0, 38.0)] {
        let asked = run.number(&format!("/tenants/{tenant}/asked"));
        assert!((asked - share).abs() < off, "{tenant} was asked for {asked} times");
    }
}

#[test]
fn every_second_tells_statuses_and_tenants_apart() {
    let refuses = |_, tenant: &str| if tenant == "b" { says(tenant).replace("200 OK", "429 No") } else { says(tenant) };
    let paced = ["--rate", "300", "--duration", "3s", "--timeout", "60s", "--tenants", "a=2,b"];
    let run = load(server(refuses).address, &paced);
    let seconds = run.result["timeline"].as_array().unwrap();
    assert!(seconds.len() >= 3, "{}", run.text());
    let sum = |at: &str| seconds.iter().filter_map(|second| second.pointer(at)?.as_f64()).sum::<f64>();
    assert!(sum("/answers") > 0.0, "{}", run.text());
    assert_eq!((sum("/statuses/200"), sum("/statuses/429")), (sum("/tenants/a/answers"), sum("/tenants/b/answers")), "{}", run.text());
    assert_eq!((sum("/tenants/a/failed"), sum("/tenants/b/failed")), (0.0, sum("/failed")), "{}", run.text());
}

#[test]
fn one_leak_among_a_thousand_answers_fails_the_run_and_is_shown() {
    let leaky = |number, tenant: &str| says(if number == 500 { "c" } else { tenant });
    let run = load(server(leaky).address, &[&COUNTED[..], &["--tenants", "a,b", "--answer-tenant", "x-tenant"]].concat());
    assert_eq!((run.code(), run.number("/all/leaked"), run.number("/all/failed")), (Some(1), 1.0, 1.0), "{}", run.text());
    assert!(run.text().contains("LEAK") && run.text().contains("names \"c\""), "{}", run.text());
}

#[test]
fn a_tenant_named_beside_the_right_one_is_a_leak() {
    let two = server(|_, tenant| says(tenant).replace("content-length", "x-tenant: c\r\ncontent-length"));
    let run = load(two.address, &[&COUNTED[..], &["--tenants", "a", "--answer-tenant", "x-tenant"]].concat());
    assert_eq!((run.code(), run.number("/all/leaked")), (Some(1), 1_000.0), "{}", run.text());
}

#[test]
fn a_leak_within_the_warm_up_is_one_though_nothing_else_of_it_counts() {
    let leaky = |number, tenant: &str| says(if number == 0 { "b" } else { tenant });
    let paced = ["--rate", "100", "--warm-up", "500ms", "--duration", "500ms", "--timeout", "60s"];
    let run = load(server(leaky).address, &[&paced[..], &["--tenants", "a", "--answer-tenant", "x-tenant"]].concat());
    assert_eq!((run.code(), run.number("/all/leaked"), run.number("/all/asked")), (Some(1), 1.0, 50.0), "{}", run.text());
}

#[test]
fn an_answer_that_nobody_asked_for_fails_the_run() {
    let twice = server(|_, tenant| says(tenant) + &says(tenant));
    let run = load(twice.address, &["--duration", "60s", "--requests", "20", "--connections", "1", "--think", "5ms"]);
    assert!(run.code() == Some(1) && run.number("/all/failed") >= 1.0, "{}", run.text());
}

#[test]
fn a_run_that_ends_by_its_count_is_as_fast_as_it_was_and_not_as_long_as_it_might_have_been() {
    let run = load(server(|_, tenant| says(tenant)).address, &COUNTED);
    // A thousand in sixty seconds would be seventeen.
    assert!(run.number("/answers_per_second") > 17.0, "{}", run.text());
}

#[test]
fn an_answer_that_names_no_tenant_does_not_pass_the_check() {
    let other = server(|_, _| says("a").replace("x-tenant", "x-other"));
    let run = load(other.address, &[&COUNTED[..], &["--tenants", "a", "--answer-tenant", "x-tenant"]].concat());
    assert_eq!((run.code(), run.number("/all/unnamed")), (Some(1), 1_000.0), "{}", run.text());
}

#[test]
fn a_status_is_expected_or_fails_the_run() {
    let refuses =
        |number: u64, tenant: &str| if number.is_multiple_of(10) { says(tenant).replace("200 OK", "429 No") } else { says(tenant) };
    for (expect, code, unexpected) in [("200", 1, 100.0), ("200,429", 0, 0.0)] {
        let run = load(server(refuses).address, &[&COUNTED[..], &["--expect", expect]].concat());
        assert_eq!(
            (run.code(), run.number("/all/unexpected"), run.number("/all/statuses/429")),
            (Some(code), unexpected, 100.0),
            "{expect}"
        );
    }
}

#[test]
fn what_has_no_answer_is_counted_by_its_kind() {
    let hangs_up = |number: u64, tenant: &str| if number.is_multiple_of(10) { String::new() } else { says(tenant) };
    let run = load(server(hangs_up).address, &COUNTED);
    assert_eq!((run.code(), run.number("/all/lost/closed"), run.number("/all/asked")), (Some(1), 100.0, 1_000.0), "{}", run.text());

    let run = load(server(|_, _| "SSH-2.0\r\n\r\n".to_owned()).address, &["--requests", "5", "--duration", "60s"]);
    assert_eq!((run.code(), run.number("/all/lost/malformed")), (Some(1), 5.0), "{}", run.text());

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = load(nobody, &["--requests", "5", "--duration", "60s"]);
    assert_eq!((run.code(), run.number("/all/lost/connect")), (Some(1), 5.0), "{}", run.text());

    let half = |_, _: &str| "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_owned();
    let run = load(server(half).address, &["--requests", "5", "--duration", "60s", "--timeout", "100ms"]);
    assert_eq!((run.code(), run.number("/all/lost/timeout")), (Some(1), 5.0), "{}", run.text());
}

/// One stall of two seconds, of four in which requests are due: half of them were due while nothing was answered.
#[test]
fn a_stall_is_charged_for_all_who_would_have_come_meanwhile() {
    let stalls = |number, tenant: &str| {
        if number == 100 {
            thread::sleep(Duration::from_secs(2));
        }
        says(tenant)
    };
    let run = load(server(stalls).address, &["--connections", "1", "--rate", "200", "--duration", "4s", "--timeout", "60s"]);
    assert_eq!((run.code(), run.number("/all/asked")), (Some(0), 800.0), "{}", run.text());
    assert!(run.number("/all/latency/p90") > 1_000_000.0, "the tenth that waited longest is not told: {}", run.text());

    // The closed loop, by its nature, charges the stall to one request alone.
    let run = load(server(stalls).address, &["--connections", "1", "--requests", "800", "--duration", "60s"]);
    assert_eq!(run.code(), Some(0), "{}", run.text());
    assert!(run.number("/all/latency/max") > 1_900_000.0 && run.number("/all/latency/p99") < 1_000_000.0, "{}", run.text());
}

#[test]
fn wrong_usage_is_told_from_a_failed_run() {
    for wrong in [
        &["--rate", "0"][..],
        &["--tenants", "a=-1"],
        &["--tenants", "a,a"],
        &["--answer-tenant", "x-tenant"],
        &["--header", "Host: a"],
        &["--duration", "10"],
        &["--ramp", "1:2"],
        &["--insecure"],
        &["--streams", "2"],
        &["--grpc"],
    ] {
        let run = load(SocketAddr::from(([127, 0, 0, 1], 9)), wrong);
        assert_eq!(run.code(), Some(2), "{wrong:?}: {}", run.text());
    }
}
