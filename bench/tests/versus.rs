//! `bulkhead-bench versus` as its user meets it: names, exit codes, and nothing left running.
#![expect(clippy::unwrap_used, reason = "tests")]

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

fn versus(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-bench"));
    command.arg("versus").args(arguments);
    command
}

fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A source tree whose harness does what `compare` and `install` say.
fn repo(compare: &str, install: &str) -> tempfile::TempDir {
    let repo = tempfile::tempdir().unwrap();
    let folder = repo.path().join("bench/versus");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("compare.py"), compare).unwrap();
    fs::write(folder.join("install.sh"), install).unwrap();
    repo
}

#[test]
fn a_misspelt_scenario_or_peer_is_wrong_usage_and_the_known_ones_are_named() {
    for (arguments, known) in [(["--scenario", "plian"], "plain"), (["--only", "haprox"], "haproxy")] {
        let output = versus(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", message(&output));
        assert!(message(&output).starts_with("error: no ") && message(&output).contains(known), "{}", message(&output));
    }
}

#[test]
fn the_list_names_the_scenarios_and_peers_of_the_defaults() {
    let output = versus(&["--list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", message(&output));
    let list = String::from_utf8(output.stdout).unwrap();
    for name in ["plain", "full", "cold", "haproxy-jwtcache", "envoy-jwtcache", "nginx", "pingora"] {
        assert!(list.contains(name), "{name} is not in\n{list}");
    }
}

#[test]
fn a_folder_that_is_no_source_tree_is_told_from_wrong_usage() {
    let empty = tempfile::tempdir().unwrap();
    let output = versus(&["--repo", empty.path().to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(message(&output).contains("--repo DIR"), "{}", message(&output));
}

#[test]
fn what_the_installer_finds_absent_is_told_from_its_failure() {
    for (install, code) in [("echo missing: wrk >&2; exit 69", 69), ("exit 3", 70)] {
        let repo = repo("", install);
        let output = versus(&["--repo", repo.path().to_str().unwrap()]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{install}: {}", message(&output));
    }
}

#[test]
fn a_signal_ends_a_step_with_everything_it_started() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let started = tempfile::tempdir().unwrap();
        let pids = started.path().join("pids");
        let repo = repo("", &format!("sleep 600 & echo $$ $! > {0}.new; mv {0}.new {0}; wait", pids.display()));
        let mut versus = versus(&["--repo", repo.path().to_str().unwrap()]).stderr(Stdio::null()).spawn().unwrap();
        until(|| pids.exists());
        kill_process(Pid::from_child(&versus), signal).unwrap();
        assert_eq!(versus.wait().unwrap().code(), Some(130), "{signal:?}");
        for pid in fs::read_to_string(&pids).unwrap().split_whitespace() {
            until(|| has_ended(pid));
        }
    }
}

/// Gone, or a zombie that whoever inherited it has not collected yet.
fn has_ended(pid: &str) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'),
        Err(_) => true,
    }
}

/// Waits for what must come; how long it takes says nothing.
fn until(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited a minute in vain");
        sleep(Duration::from_millis(10));
    }
}
