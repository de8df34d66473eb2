//! Promises: whether they hold, how far a ramp may go, and the highest rate.

use super::{load, says, server};
use std::thread;
use std::time::Duration;

#[test]
fn a_promise_decides_how_a_run_ends() {
    let refuses =
        |number: u64, tenant: &str| if number.is_multiple_of(100) { says(tenant).replace("200 OK", "503 No") } else { says(tenant) };
    for (slo, code) in [("p99=30s,failed=1%", 0), ("p99=30s,failed=0.9%", 1), ("p99=30s", 1), ("p50=1us,failed=5%", 1)] {
        let run = load(server(refuses).address, &["--requests", "1000", "--duration", "60s", "--slo", slo]);
        assert_eq!(run.code(), Some(code), "{slo}: {}", run.text());
    }
}

/// A service that takes a twentieth of a second for each request of a connection, behind four connections: eighty a second.
#[test]
fn the_highest_rate_is_what_a_service_can_do_and_each_step_is_shown() {
    let slow = server(|_, tenant| {
        thread::sleep(Duration::from_millis(50));
        says(tenant)
    });
    let four = ["--connections", "4", "--duration", "1s", "--rate", "10", "--timeout", "30s"];
    let run = load(slow.address, &[&four[..], &["--find-max", "--slo", "p50=500ms"]].concat());
    assert_eq!(run.code(), Some(0), "{}", run.text());
    let highest = run.number("/search/highest");
    // Half of those due within a second wait above half a second from a rate of 160 on; a busy machine makes a sleep longer, never shorter.
    assert!((10.0..=170.0).contains(&highest), "{}", run.text());
    let steps = run.result["search"]["steps"].as_array().unwrap().len();
    assert!(steps >= 4 && run.text().matches("/s  p99").count() == steps, "{}", run.text());
}

#[test]
fn a_promise_that_holds_at_no_rate_has_no_highest() {
    let broken = server(|_, tenant| says(tenant).replace("200 OK", "500 No"));
    let run = load(broken.address, &["--find-max", "--slo", "p99=30s", "--rate", "8", "--duration", "500ms"]);
    assert_eq!(run.code(), Some(1), "{}", run.text());
    assert!(run.text().contains("holds at no rate"), "{}", run.text());
}

#[test]
fn a_leak_ends_the_search() {
    let leaky = server(|number, tenant| says(if number == 30 { "c" } else { tenant }));
    let named = ["--tenants", "a,b", "--answer-tenant", "x-tenant", "--rate", "20", "--duration", "1s"];
    let run = load(leaky.address, &[&named[..], &["--find-max", "--slo", "p99=30s,failed=50%"]].concat());
    assert_eq!((run.code(), run.number("/all/leaked")), (Some(1), 1.0), "{}", run.text());
}

#[test]
fn a_ramp_asks_for_what_lies_between_its_rates() {
    let run = load(server(|_, tenant| says(tenant)).address, &["--ramp", "100:500:2s", "--duration", "2s", "--timeout", "60s"]);
    // The mean of its rates, for two seconds; the last is due a moment before the end.
    assert_eq!((run.code(), run.number("/all/asked")), (Some(0), 600.0), "{}", run.text());
}
