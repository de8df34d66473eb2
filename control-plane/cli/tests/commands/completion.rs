//! `bulkhead completion`.

use crate::support::Home;
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn every_shell_gets_a_script_that_names_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = Home::new().bulkhead(&["completion", shell]);
        assert_eq!(said.code, 0, "{said:?}");
        for command in ["validate", "api-key"] {
            assert!(said.stdout.contains(command), "{shell} knows no {command}");
        }
    }
}

#[test]
fn bash_takes_the_script_and_completes_a_command() {
    let script = Home::new().bulkhead(&["completion", "bash"]).stdout;
    let mut bash = Command::new("bash").arg("--norc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let ask = "COMP_WORDS=(bulkhead val); COMP_CWORD=1; _bulkhead bulkhead val bulkhead; echo \"${COMPREPLY[*]}\"\n";
    bash.stdin.take().unwrap().write_all(format!("{script}\n{ask}").as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "validate");
}
