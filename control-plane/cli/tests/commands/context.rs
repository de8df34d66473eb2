//! Which bulkhead a command means, and what it says when none is there.

use crate::support::{Home, Said};
use serde_json::json;

/// A command that needs a running bulkhead tells which one it looked for.
fn looked_for(home: &Home, args: &[&str], variables: &[(&str, &str)]) -> Said {
    let said: Said = home.command(&[&["status"], args].concat()).envs(variables.iter().copied()).output().unwrap().into();
    assert_eq!(said.stdout, "");
    said
}

fn with_context(name: &str, data_dir: &str) -> Home {
    let home = Home::new();
    let contexts = json!({ "contexts": { name: { "data_dir": data_dir } } });
    home.write(".config/bulkhead/contexts.json", contexts.to_string());
    home
}

#[test]
fn flag_then_context_flag_then_variable_then_dev_then_default() {
    let home = with_context("dev", "/context-dev");
    let variable = [("BULKHEAD_DATA_DIR", "/variable")];
    for (args, variables, found) in [
        (&["--data-dir", "/flag"][..], &variable[..], "/flag"),
        (&["--context", "dev"], &variable[..], "/context-dev"),
        (&[], &variable[..], "/variable"),
        (&[], &[], "/context-dev"),
    ] {
        let said = looked_for(&home, args, variables);
        assert_eq!(said.code, 69, "{said:?}");
        assert!(said.stderr.contains(&format!("no bulkhead is running on {found}\n")), "{said:?}");
        assert!(said.stderr.contains("help: start one with `bulkhead up`"), "{said:?}");
    }
    let fresh = Home::new();
    let default = fresh.path(".local/share/bulkhead/dev");
    assert!(looked_for(&fresh, &[], &[]).stderr.contains(default.to_str().unwrap()));
    let said = looked_for(&fresh, &[], &[("XDG_DATA_HOME", "/xdg"), ("XDG_CONFIG_HOME", "/nowhere")]);
    assert!(said.stderr.contains("/xdg/bulkhead/dev"), "{said:?}");
}

#[test]
fn an_unknown_context_is_answered_with_the_nearest() {
    let said = looked_for(&with_context("staging", "/x"), &["--context", "stagging"], &[]);
    assert_eq!(said.code, 78);
    assert!(said.stderr.contains("did you mean `staging`?"), "{said:?}");
}

#[test]
fn damaged_contexts_are_named() {
    for damaged in ["", "[]", r#"{"contexts":3}"#, r#"{"contexts":{"dev":{}}}"#] {
        let home = Home::new();
        home.write(".config/bulkhead/contexts.json", damaged);
        let said = looked_for(&home, &[], &[]);
        assert_eq!(said.code, 65, "{damaged}: {said:?}");
        assert!(said.stderr.contains("contexts.json"), "{said:?}");
    }
}

#[test]
fn failures_are_json_where_results_would_be() {
    let said = looked_for(&Home::new(), &["--output", "json"], &[]);
    let failure: serde_json::Value = serde_json::from_str(&said.stderr).unwrap();
    assert_eq!(failure["error"]["exit_code"], 69);
    assert!(failure["error"]["fix"].is_string());
}
