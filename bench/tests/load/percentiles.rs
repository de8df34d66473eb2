//! What the load tells, computed again from every single answer by a program that shares nothing with it.

use super::{Run, load, says, server};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

/// Answers after anything from nothing to twenty milliseconds, so that percentiles lie far apart.
fn slow_at_times() -> SocketAddr {
    let answers = |number: u64, tenant: &str| {
        thread::sleep(Duration::from_micros(number * 7_919 % 2_000 * (number % 11)));
        says(tenant)
    };
    server(answers).address
}

fn computed_again(samples: &Path, result: &Path) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/percentiles.py");
    let ended = Command::new("python3").arg(script).args([samples, result]).output();
    ended.unwrap_or_else(|cause| panic!("python3 does not start ({cause}): `./test` installs it, or `apt-get install python3`"))
}

fn sampled(arguments: &[&str], check: impl FnOnce(&Run, &Path, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    let [samples, result] = ["samples.csv", "result.json"].map(|name| folder.path().join(name));
    let to_file = ["--samples", samples.to_str().unwrap()];
    let run = load(slow_at_times(), &[&to_file[..], arguments].concat());
    fs::write(&result, run.result.to_string()).unwrap();
    check(&run, &samples, &result);
}

#[test]
fn percentiles_are_those_of_all_samples_within_two_hundredths() {
    for pace in [&["--connections", "8", "--requests", "2000", "--duration", "60s"][..], &["--rate", "500", "--duration", "2s"]] {
        sampled(&[pace, &["--tenants", "a=3,b"]].concat(), |run, samples, result| {
            assert_eq!(run.code(), Some(0), "{}", run.text());
            let again = computed_again(samples, result);
            assert!(again.status.success(), "{}{}", String::from_utf8_lossy(&again.stdout), String::from_utf8_lossy(&again.stderr));
            let lines = fs::read_to_string(samples).unwrap().lines().count() as f64;
            assert_eq!(lines - 1.0, run.number("/all/asked"));
        });
    }
}

/// The check itself can fail: a figure moved by three hundredths, and a count by one, are found.
#[test]
fn a_figure_that_is_off_is_found() {
    sampled(&["--requests", "200", "--duration", "60s"], |run, samples, result| {
        for (at, factor) in [("/all/latency/p99", 1.03), ("/tenants/-/service/p50", 0.97), ("/lag/max", 1.03)] {
            let mut off = run.result.clone();
            let figure = off.pointer_mut(at).unwrap();
            *figure = (figure.as_f64().unwrap() * factor).into();
            fs::write(result, off.to_string()).unwrap();
            assert_eq!(computed_again(samples, result).status.code(), Some(1), "{at}");
        }
        let mut off = run.result.clone();
        *off.pointer_mut("/all/statuses/200").unwrap() = 199.into();
        fs::write(result, off.to_string()).unwrap();
        assert_eq!(computed_again(samples, result).status.code(), Some(1));
    });
}
