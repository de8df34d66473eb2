//! What `up` says once it serves: where everything is, and what to try.

use super::tries::Try;
use crate::output::{BAD, FAINT, GOOD, HINT, STRONG, WARN, paint};
use clap::builder::styling::Style;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything worth saying.
pub(super) struct Banner {
    pub(super) environment: &'static str,
    pub(super) took: Duration,
    /// Service, listener, address.
    pub(super) listeners: Vec<Serving>,
    /// Where the demo service listens, if it runs.
    pub(super) demo: Option<SocketAddr>,
    /// Where the demo's requests go instead.
    pub(super) upstream: Option<String>,
    pub(super) probes: SocketAddr,
    /// The API of the control plane.
    pub(super) api: SocketAddr,
    pub(super) data_dir: PathBuf,
    pub(super) documents: PathBuf,
    pub(super) access_log: Option<PathBuf>,
    pub(super) log: Option<PathBuf>,
    /// What somebody should know before they wonder.
    pub(super) warnings: Vec<String>,
    pub(super) tries: Vec<Try>,
}

/// A listener that is open.
pub(super) struct Serving {
    pub(super) service: String,
    pub(super) listener: String,
    /// How a client's URL begins.
    pub(super) scheme: &'static str,
    pub(super) address: SocketAddr,
}

impl Serving {
    fn json(&self) -> Value {
        json!({ "service": self.service, "name": self.listener, "scheme": self.scheme, "address": self.address })
    }
}

impl Banner {
    /// For people: headings, then lines that a shell takes as they are.
    pub(super) fn text(&self) -> String {
        let mut text = Text(format!("{} {}\n\n", paint(STRONG, format_args!("bulkhead {}", self.environment)), self.ready()));
        for Serving { service, listener, scheme, address } in &self.listeners {
            text.line("serving", format!("{scheme}://{address}"), &format!("listener {listener} of service {service}"));
        }
        if self.listeners.is_empty() {
            text.line("serving", "nothing", "no Service without mistakes declares a listener; `bulkhead status` says more");
        }
        match (self.demo, &self.upstream) {
            (_, Some(upstream)) => text.line("upstream", upstream, "instead of the demo service's"),
            (Some(demo), None) => text.line("upstream", format!("http://{demo}"), "the bundled demo service"),
            (None, None) => {}
        }
        text.line("probes", format!("http://{}", self.probes), "/livez, /startupz, /readyz, /metrics");
        text.line("API", format!("http://{}", self.api), "the control plane: /v1, /docs, /openapi.json; token in DIR/admin.token");
        text.line("documents", self.documents.display(), "an edit is live within a second");
        text.line("data", self.data_dir.display(), "admin socket, last good policy, tokens");
        if let Some(log) = &self.access_log {
            text.line("access log", log.display(), "");
        }
        if let Some(log) = &self.log {
            text.line("log", log.display(), "");
        }
        for warning in &self.warnings {
            text.note(WARN, "warning", warning);
        }
        text.tries(&self.tries);
        text.0
    }

    fn ready(&self) -> String {
        let (style, state) = if self.listeners.is_empty() { (BAD, "runs and serves nothing") } else { (GOOD, "is ready") };
        format!("{} {}", paint(style, state), paint(FAINT, format_args!("after {} ms", self.took.as_millis())))
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let listeners = self.listeners.iter();
        let tries = self.tries.iter();
        json!({
            "environment": self.environment,
            "listeners": listeners.map(Serving::json).collect::<Vec<_>>(),
            "demo": self.demo,
            "upstream": self.upstream,
            "probes": self.probes,
            "api": self.api,
            "data_dir": self.data_dir,
            "documents": self.documents,
            "access_log": self.access_log,
            "log": self.log,
            "warnings": self.warnings,
            "try": tries.map(|one| json!({ "status": one.status, "shows": one.shows, "line": one.line })).collect::<Vec<_>>(),
        })
    }
}

struct Text(String);

// Writing to a String cannot fail.
impl Text {
    fn line(&mut self, what: &str, value: impl std::fmt::Display, remark: &str) {
        let remark = if remark.is_empty() { String::new() } else { format!("  {}", paint(FAINT, remark)) };
        let _ = writeln!(self.0, "  {} {value}{remark}", paint(FAINT, format_args!("{what:<11}")));
    }

    fn note(&mut self, style: Style, label: &str, note: &str) {
        let _ = writeln!(self.0, "\n{}: {note}", paint(style, label));
    }

    /// Comments in between, so that all of it can be pasted at once.
    fn tries(&mut self, tries: &[Try]) {
        if tries.is_empty() {
            return;
        }
        let _ = writeln!(self.0, "\n{} in another terminal; every line works as it stands:", paint(STRONG, "Try it"));
        for Try { status, shows, line } in tries {
            let status = status.map(|status| format!("{status}: ")).unwrap_or_default();
            let _ = writeln!(self.0, "\n{}\n{line}", paint(HINT, format_args!("# {status}{shows}")));
        }
        let _ = writeln!(self.0, "\n{}", paint(FAINT, "Ctrl-C drains and stops."));
    }
}
