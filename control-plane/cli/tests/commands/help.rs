//! Help texts are reviewed: they stand in `tests/golden/` and change only on purpose (`BULKHEAD_GOLDEN=write cargo test -p bulkhead`).

use crate::support::Home;
use std::path::Path;

const COMMANDS: &[&[&str]] = &[
    &[],
    &["up"],
    &["validate"],
    &["explain"],
    &["status"],
    &["shadow"],
    &["shadow", "report"],
    &["config"],
    &["config", "show"],
    &["schema"],
    &["token"],
    &["api-key"],
    &["api-key", "new"],
    &["api-key", "list"],
    &["control-plane"],
    &["apply"],
    &["get"],
    &["delete"],
    &["history"],
    &["diff"],
    &["rollback"],
    &["audit"],
    &["audit", "query"],
    &["audit", "tail"],
    &["audit", "verify"],
    &["events"],
    &["events", "list"],
    &["events", "tail"],
    &["fleet"],
    &["join-token"],
    &["join-token", "new"],
    &["operator-token"],
    &["operator-token", "new"],
    &["operator-token", "list"],
    &["operator-token", "revoke"],
    &["backup"],
    &["restore"],
    &["migrate"],
    &["completion"],
];

#[test]
fn the_help_of_every_command_is_what_was_reviewed() {
    for command in COMMANDS {
        let said = Home::new().bulkhead(&[*command, &["--help"]].concat());
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{command:?}");
        golden(&["bulkhead", &command.join("-")].join("-"), &said.stdout);
    }
}

/// Compares with the reviewed text, or writes it.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{}.txt", name.trim_end_matches('-')));
    if std::env::var_os("BULKHEAD_GOLDEN").is_some_and(|what| what == "write") {
        std::fs::write(&path, text).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, reviewed, "{}: run with BULKHEAD_GOLDEN=write and review the difference", path.display());
}

#[test]
fn a_misspelt_command_or_flag_is_answered_with_the_nearest() {
    for (line, near) in [(&["valdate"][..], "'validate'"), (&["token", "--tennant", "x"], "'--tenant'")] {
        let said = Home::new().bulkhead(line);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.stderr.contains(near), "{said:?}");
    }
}
