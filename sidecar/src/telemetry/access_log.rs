//! The access log: one JSON line per request, composed by the worker, written by a thread of its own.
//!
//! Cost: per request; about 400 bytes appended to the worker's buffer, no allocation once it has grown. A buffer is handed over
//! when it holds 32 KiB or at the worker's tick, through a bounded channel, and comes back empty; what the writer cannot keep up
//! with is dropped, and counted line by line.
//! Absent on purpose: query strings and header fields, which may hold secrets.

use crate::telemetry::decisions::DecisionId;
use crate::telemetry::json;
use crate::telemetry::log::{Level, Log};
use crate::telemetry::spool::{Dropped, Lines, Sink, Spool, SpoolError};
use crate::telemetry::stamp::Stamp;
use bulkhead_config::name::{RoleName, RouteName, TenantId};
use bulkhead_config::snapshot::{Epoch, Policy, RoleSet};
use std::io::Write;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// What is told of one request.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// When it ended, in milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
    /// From its head to the end of its answer.
    pub latency: Duration,
    /// Whose it is, once somebody named a tenant that exists.
    pub tenant: Option<&'a TenantId>,
    /// How it ended.
    pub outcome: Outcome<'a>,
    /// Code of what would have refused it, where that was only recorded.
    pub shadow: Option<&'static str>,
    /// Its method.
    pub method: &'a str,
    /// Its path as it was matched, without the query.
    pub path: &'a str,
    /// The host it names, in ASCII.
    pub host: Option<&'a [u8]>,
    /// The route it took.
    pub route: Option<&'a RouteName>,
    /// Who it was proved to come from.
    pub user: Option<&'a str>,
    /// The roles they hold, in the table that names them.
    pub roles: Option<(&'a Policy, RoleSet)>,
    /// Under which `bulkhead explain` finds it.
    pub decision: DecisionId,
    /// Trace id of `traceparent`: digits of base 16.
    pub trace_id: Option<&'a [u8]>,
    /// The client's address.
    pub source: IpAddr,
    /// Where it went: the endpoint as declared.
    pub upstream: Option<&'a str>,
    /// The path it went up with, where its route rewrites it.
    pub upstream_path: Option<&'a str>,
    /// The host, likewise.
    pub upstream_host: Option<&'a str>,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// The policy it was decided under.
    pub epoch: Epoch,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The upstream answered.
    Served(u16),
    /// We answered: status, and code of the problem.
    Refused(u16, &'a str),
    /// The answer of this status was ended by us: the request would be refused by now, with a problem of this code.
    Ended(u16, &'a str),
    /// The client left before an answer began.
    Left,
}

/// The log; clones share the thread.
#[derive(Debug, Clone)]
pub struct AccessLog {
    spool: Option<Spool>,
}

impl AccessLog {
    /// Begins the log; `log` is told when lines were dropped.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not be started.
    pub fn start(sink: Sink, log: &Log) -> Result<Self, SpoolError> {
        let log = log.clone();
        let tell = move |lines: u64| {
            let why = "lines of the access log were dropped: requests come faster than its sink takes them";
            log.warn("core.access", None, why, &[("dropped", lines.into())]);
            None
        };
        Ok(Self { spool: Some(Spool::start("access", sink, QUEUE_BUFFERS, Box::new(tell))?) })
    }

    /// A log that takes nothing.
    #[must_use]
    pub fn off() -> Self {
        Self { spool: None }
    }

    /// The buffer of one worker.
    #[must_use]
    pub fn buffer(&self) -> AccessLogBuffer {
        let (home, empty) = sync_channel(BUFFERS_KEPT);
        AccessLogBuffer { spool: self.spool.clone(), lines: Vec::new(), count: 0, stamp: Stamp::new(), home, empty }
    }

    /// Lines that were dropped.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.spool.as_ref().map(|spool| spool.dropped().clone()).unwrap_or_default()
    }

    /// Waits until everything handed over before is written, or until the deadline has passed; tells which.
    pub async fn flush(&self, deadline: Duration) -> bool {
        match &self.spool {
            Some(spool) => spool.flush(deadline).await,
            None => true,
        }
    }
}

/// Lines of one worker that wait to be handed over. Dropping it hands them over.
#[derive(Debug)]
pub struct AccessLogBuffer {
    spool: Option<Spool>,
    lines: Vec<u8>,
    count: u64,
    stamp: Stamp,
    /// Full buffers carry it along; the writer puts them back through it.
    home: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
}

/// A buffer is handed over from this size on.
const BUFFER_BYTES: usize = 32 << 10;
/// Full buffers that may wait for the disk, from all workers together.
const QUEUE_BUFFERS: usize = 64;
/// Empty buffers kept for a worker.
const BUFFERS_KEPT: usize = 4;

impl AccessLogBuffer {
    /// Whether anybody wants lines.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.spool.is_some()
    }

    /// Appends one line.
    pub fn append(&mut self, entry: &Entry<'_>) {
        if self.spool.is_none() {
            return;
        }
        compose(&mut self.lines, self.stamp.at(entry.unix_ms), entry);
        self.count += 1;
        if self.lines.len() >= BUFFER_BYTES {
            self.hand_over();
        }
    }

    /// Hands over what waits; at each tick of the worker, so that no line is older than that.
    pub fn hand_over(&mut self) {
        let Some(spool) = self.spool.as_ref().filter(|_| self.count > 0) else { return };
        let lines = Lines { bytes: std::mem::take(&mut self.lines), count: self.count, home: Some(self.home.clone()) };
        self.count = 0;
        self.lines = match spool.hand_over(lines) {
            Ok(()) => self.empty.try_recv().unwrap_or_default(),
            Err(emptied) => emptied,
        };
    }
}

impl Drop for AccessLogBuffer {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// One line. Members that are not known are left out, except the six that every line begins with.
fn compose(line: &mut Vec<u8>, timestamp: &[u8], entry: &Entry<'_>) {
    let (level, message, status) = match entry.outcome {
        Outcome::Served(status) => (level(status), "request served", Some(status)),
        Outcome::Refused(status, _) => (level(status), "request refused", Some(status)),
        Outcome::Ended(status, _) => (Level::Info, "stream revoked", Some(status)),
        Outcome::Left => (Level::Info, "client left", None),
    };
    bytes(line, "{\"timestamp\":\"");
    line.extend_from_slice(timestamp);
    bytes(line, "\",\"level\":\"");
    bytes(line, level.as_str());
    bytes(line, "\",\"component\":\"core.access\",\"tenant_id\":");
    match entry.tenant {
        Some(tenant) => json::string(line, tenant.as_str()),
        None => bytes(line, "null"),
    }
    bytes(line, ",\"message\":\"");
    bytes(line, message);
    bytes(line, "\",\"latency_ms\":");
    json::millis(line, entry.latency);
    text(line, ",\"method\":", Some(entry.method));
    text(line, ",\"path\":", Some(entry.path));
    text(line, ",\"route\":", entry.route.map(RouteName::as_str));
    if let Some(status) = status {
        number(line, ",\"status\":", status.into());
    }
    if let Outcome::Refused(_, code) | Outcome::Ended(_, code) = entry.outcome {
        text(line, ",\"code\":", Some(code));
    }
    if entry.shadow.is_some() {
        bytes(line, ",\"shadow\":\"would refuse\"");
        text(line, ",\"shadow_code\":", entry.shadow);
    }
    text(line, ",\"user\":", entry.user);
    if let Some((policy, held)) = entry.roles {
        roles(line, policy.roles().iter().enumerate().filter(|(bit, _)| held.has(*bit)).map(|(_, role)| &role.name));
    }
    bytes(line, ",\"decision_id\":\"");
    line.extend_from_slice(&entry.decision.text());
    bytes(line, "\"");
    text(line, ",\"trace_id\":", entry.trace_id);
    bytes(line, ",\"source\":\"");
    address(line, entry.source);
    bytes(line, "\"");
    text(line, ",\"host\":", entry.host);
    text(line, ",\"upstream\":", entry.upstream);
    text(line, ",\"upstream_path\":", entry.upstream_path);
    text(line, ",\"upstream_host\":", entry.upstream_host);
    number(line, ",\"bytes_in\":", entry.bytes_in);
    number(line, ",\"bytes_out\":", entry.bytes_out);
    number(line, ",\"epoch\":", entry.epoch.revision);
    bytes(line, "}\n");
}

/// A client's mistake is a normal day; an answer of 5xx is not.
fn level(status: u16) -> Level {
    if status < 500 { Level::Info } else { Level::Warn }
}

fn bytes(line: &mut Vec<u8>, text: &str) {
    line.extend_from_slice(text.as_bytes());
}

/// A member, if there is one; `name` is written as it is, comma and colon included. Bytes are those of a text that nobody need prove
/// again to be one.
fn text<T: AsRef<[u8]> + ?Sized>(line: &mut Vec<u8>, name: &str, text: Option<&T>) {
    if let Some(text) = text {
        bytes(line, name);
        json::string(line, text);
    }
}

fn number(line: &mut Vec<u8>, name: &str, number: u64) {
    bytes(line, name);
    json::whole(line, number);
}

/// Formatting costs more than the rest of a line, so the common kind of address does without.
fn address(line: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    bytes(line, ".");
                }
                json::whole(line, octet.into());
            }
        }
        IpAddr::V6(v6) => {
            let _ = write!(line, "{v6}"); // a Vec takes everything
        }
    }
}

fn roles<'a>(line: &mut Vec<u8>, names: impl Iterator<Item = &'a RoleName>) {
    bytes(line, ",\"roles\":[");
    for (at, name) in names.enumerate() {
        if at > 0 {
            bytes(line, ",");
        }
        json::string(line, name.as_str());
    }
    bytes(line, "]");
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::telemetry::decisions::{Decisions, Ids};
    use crate::telemetry::spool::tests::{Gate, Page, wait_for_writer};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn entry(decision: DecisionId) -> Entry<'static> {
        Entry {
            unix_ms: 1_795_632_660_007,
            latency: Duration::from_micros(2_500),
            tenant: None,
            outcome: Outcome::Served(200),
            shadow: None,
            method: "GET",
            path: "/v1/items",
            host: None,
            route: None,
            user: None,
            roles: None,
            decision,
            trace_id: None,
            source: [192, 0, 2, 1].into(),
            upstream: None,
            upstream_path: None,
            upstream_host: None,
            bytes_in: 0,
            bytes_out: 17,
            epoch: Epoch { incarnation: 1, revision: 42 },
        }
    }

    fn decision() -> DecisionId {
        Decisions::<()>::new(Ids::new().unwrap(), 0).name()
    }

    fn log() -> Log {
        Log::start(Sink::Other(Box::new(std::io::sink())), Level::Info).unwrap()
    }

    #[tokio::test]
    async fn a_line_has_the_six_promised_members_first_and_says_what_is_known() {
        let page = Page::default();
        let access = AccessLog::start(page.sink(), &log()).unwrap();
        let mut buffer = access.buffer();
        let (tenant, route) = ("acme_corp".parse().unwrap(), "items".parse().unwrap());
        let decision = decision();
        buffer.append(&Entry {
            tenant: Some(&tenant),
            route: Some(&route),
            outcome: Outcome::Refused(403, "not_permitted"),
            upstream: Some("[::1]:80"),
            ..entry(decision)
        });
        buffer.hand_over();
        assert!(access.flush(wait_for_writer()).await);
        assert_eq!(
            page.text(),
            format!(
                "{{\"timestamp\":\"2026-11-25T18:51:00.007Z\",\"level\":\"INFO\",\"component\":\"core.access\",\
                 \"tenant_id\":\"acme_corp\",\"message\":\"request refused\",\"latency_ms\":2.500,\"method\":\"GET\",\
                 \"path\":\"/v1/items\",\"route\":\"items\",\"status\":403,\"code\":\"not_permitted\",\
                 \"decision_id\":\"{decision}\",\"source\":\"192.0.2.1\",\"upstream\":\"[::1]:80\",\"bytes_in\":0,\
                 \"bytes_out\":17,\"epoch\":42}}\n"
            )
        );
    }

    proptest! {
        #[test]
        fn every_line_parses_back_to_what_went_in(
            texts in prop::collection::vec(any::<String>(), 6),
            status in 100u16..600,
            numbers in any::<[u64; 3]>(),
            source in any::<IpAddr>(),
        ) {
            let [method, path, host, user, trace, code] = <[String; 6]>::try_from(texts).unwrap();
            let decision = decision();
            let [bytes_in, bytes_out, revision] = numbers;
            let mut line = Vec::new();
            compose(&mut line, b"2026-11-25T18:51:00.007Z", &Entry {
                outcome: Outcome::Refused(status, &code),
                method: &method,
                path: &path,
                host: Some(host.as_bytes()),
                user: Some(&user),
                trace_id: Some(trace.as_bytes()),
                source,
                upstream: Some(&host),
                upstream_path: Some(&path),
                upstream_host: Some(&host),
                bytes_in,
                bytes_out,
                epoch: Epoch { incarnation: 1, revision },
                ..entry(decision)
            });
            let text = std::str::from_utf8(&line).unwrap().strip_suffix('\n').unwrap();
            prop_assert!(!text.contains('\n'));
            let read: Value = serde_json::from_str(text).unwrap();
            prop_assert_eq!(read, json!({
                "timestamp": "2026-11-25T18:51:00.007Z", "level": if status < 500 { "INFO" } else { "WARN" },
                "component": "core.access", "tenant_id": null, "message": "request refused", "latency_ms": 2.5,
                "method": method, "path": path, "status": status, "code": code, "user": user,
                "decision_id": decision.to_string(), "trace_id": trace, "source": source.to_string(), "host": host,
                "upstream": host, "upstream_path": path, "upstream_host": host, "bytes_in": bytes_in, "bytes_out": bytes_out, "epoch": revision,
            }));
        }
    }

    #[test]
    fn roles_are_listed_by_name() {
        let names: Vec<RoleName> = ["reader", "editor"].iter().map(|name| name.parse().unwrap()).collect();
        for (held, text) in [(0, ",\"roles\":[]"), (2, ",\"roles\":[\"reader\",\"editor\"]")] {
            let mut line = Vec::new();
            roles(&mut line, names.iter().take(held));
            assert_eq!(std::str::from_utf8(&line).unwrap(), text);
        }
    }

    #[tokio::test]
    async fn lines_are_written_or_counted_as_dropped_and_never_both() {
        let page = Page::default();
        let (sink, at_gate, open) = Gate::before(&page);
        let access = AccessLog::start(sink, &log()).unwrap();
        let mut buffer = access.buffer();
        let decision = decision();
        buffer.append(&entry(decision));
        buffer.hand_over();
        at_gate.recv().unwrap();
        // The writer stands before its sink: from here on buffers wait, until there are more than may wait.
        let more = 20_000;
        for _ in 0..more {
            buffer.append(&entry(decision));
        }
        let waiting = buffer.count;
        drop(buffer);
        let dropped = access.dropped().lines();
        assert!(dropped > waiting && dropped < more, "{dropped}");
        drop(open);
        assert!(access.flush(wait_for_writer()).await);
        assert_eq!(u64::try_from(page.text().lines().count()).unwrap() + dropped, 1 + more);
    }

    #[tokio::test]
    async fn a_log_that_is_off_takes_nothing() {
        let access = AccessLog::off();
        let mut buffer = access.buffer();
        buffer.append(&entry(decision()));
        assert_eq!((buffer.count, buffer.lines.len()), (0, 0));
        assert!(access.flush(Duration::ZERO).await);
        assert_eq!(access.dropped().lines(), 0);
    }
}
