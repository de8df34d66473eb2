//! What is told while one waits, on a terminal and elsewhere.

use super::{says, server};
use std::net::SocketAddr;
use std::process::{Command, Output};

const LOAD: &str = "--duration 3s --rate 200 --timeout 60s --tenants acme=3,globex --answer-tenant x-tenant";

fn leaky() -> SocketAddr {
    server(|number, tenant| says(if number == 5 { "c" } else { tenant })).address
}

fn line(address: SocketAddr) -> String {
    format!("{} load http://{address}/ --header 'x-for: {{tenant}}' {LOAD}", env!("CARGO_BIN_EXE_bulkhead-bench"))
}

/// A run whose standard error is a terminal, as script(1) makes one.
fn on_a_terminal(kind: &str) -> Output {
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line(leaky()), "/dev/null"]).env("TERM", kind).env_remove("NO_COLOR");
    command.output().unwrap_or_else(|cause| panic!("script does not start ({cause}): `apt-get install bsdutils`"))
}

#[test]
fn a_terminal_shows_the_run_and_is_left_with_the_table_alone() {
    let ended = on_a_terminal("xterm");
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(ended.status.code(), Some(1), "a leak fails the run: {text}");
    let frames: Vec<_> = text.split("\u{1b}[J").skip(1).collect();
    let (last, drawn) = frames.split_last().unwrap();
    let whole = drawn.iter().find(|frame| frame.contains("statuses")).unwrap_or_else(|| panic!("no second is shown: {text}"));
    for word in ["answers ", "200: ", "latency ", "p99 ", "acme ", "globex ", "\u{1b}[1;31mleaked 1"] {
        assert!(whole.contains(word), "{word}: {whole}");
    }
    // What is drawn next goes up over all that stands there.
    let rows = drawn.last().unwrap().matches('\n').count();
    assert!(drawn.last().unwrap().ends_with(&format!("\u{1b}[{rows}F")), "{text:?}");
    assert!(last.contains("LEAK after") && !last.contains("statuses  "), "{last}");
}

#[test]
fn what_cannot_be_drawn_anew_is_not_drawn() {
    let piped = Command::new("sh").args(["-c", &line(leaky())]).env("TERM", "xterm").output().unwrap();
    for ended in [piped, on_a_terminal("dumb")] {
        assert_eq!(ended.status.code(), Some(1));
        let told = [ended.stdout, ended.stderr].concat();
        assert!(!told.contains(&0x1b), "{}", String::from_utf8_lossy(&told));
    }
}
