//! The load beside wrk, as `--self-test --wrk` shows it.

use std::process::{Command, Output};

fn self_test(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-bench"));
    command.args(["load", "--self-test", "--wrk", "1", "--duration", "1s", "--connections", "16"]).args(arguments).output().unwrap()
}

/// Milliseconds of a duration as the table has it.
fn millis(number: &str, unit: &str) -> f64 {
    let scale = match unit {
        "µs" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        _ => panic!("{unit} is no unit"),
    };
    number.parse::<f64>().unwrap() * scale
}

/// Whether the two agree is for a machine at rest to say. That neither tells a time shorter than the server took holds on any.
#[test]
fn both_tell_what_a_server_took_and_code_1_says_that_they_differ() {
    let ended = self_test(&[]);
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_ne!(
        ended.status.code(),
        Some(69),
        "wrk is absent: `./test` installs it, or `apt-get install wrk`: {}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let code = if text.contains("the two agree within 2 %") { 0 } else { 1 };
    assert_eq!(ended.status.code(), Some(code), "{text}{}", String::from_utf8_lossy(&ended.stderr));
    let (_, held) = text.split_once("a server that takes").unwrap();
    // Evenly from 5 to 45 ms, less a hundredth for the grain of a second's answers and for a sketch.
    for (name, least) in [("p50", 25.0), ("p75", 35.0), ("p90", 41.0), ("p99", 44.6)] {
        let row: Vec<_> = held.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().collect();
        for told in [millis(row[1], row[2]), millis(row[3], row[4])] {
            assert!(told > least * 0.97, "{name} is {told} ms: {text}");
        }
    }
}

#[test]
fn an_absent_wrk_is_told_with_what_brings_it() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-bench"));
    let nowhere = tempfile::tempdir().unwrap();
    let ended = command.args(["load", "--self-test", "--wrk", "1", "--duration", "1s"]).env("PATH", nowhere.path()).output().unwrap();
    assert_eq!(ended.status.code(), Some(69));
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(told.contains("wrk") && told.contains("apt-get install wrk"), "{told}");
}
