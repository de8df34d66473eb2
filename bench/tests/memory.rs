//! `bulkhead-bench memory` and `tenants` as their user meets them where nothing can be measured.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// Exit code and last message of a run.
fn bench(command: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bulkhead-bench")).arg(command).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn holding_nothing_is_wrong_usage() {
    for list in ["0", "1000,none", "1000000"] {
        assert_eq!(bench("memory", &["--connections", list]).0, Some(2), "{list}");
    }
    for count in ["0", "many", "1000000"] {
        assert_eq!(bench("tenants", &["--tenants", count]).0, Some(2), "{count}");
    }
}

#[test]
fn a_sidecar_that_is_not_there_is_named_with_what_brings_it() {
    for command in ["memory", "tenants"] {
        let (code, message) = bench(command, &["--sidecar", "/nowhere/bulkhead-sidecar"]);
        let told = "error: /nowhere/bulkhead-sidecar is absent; leave out --sidecar to have it built\n";
        assert_eq!((code, message.as_str()), (Some(69), told));
    }
}

#[test]
fn a_sidecar_that_ends_at_once_is_no_figure() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("sidecar");
    fs::write(&program, "#!/bin/sh\nexit 78\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for command in ["memory", "tenants"] {
        let (code, message) = bench(command, &["--sidecar", program.to_str().unwrap()]);
        assert!(code == Some(70) && message.contains("exit status: 78 before it listens"), "{code:?}: {message}");
    }
}
