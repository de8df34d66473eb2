//! The application log: what happens to the sidecar itself, as JSON lines, written by a thread of its own.
//!
//! Each line begins with `timestamp`, `level`, `component`, `tenant_id`, `message`, `latency_ms`, in this order. Logging never
//! waits; what does not fit is dropped, counted, and said so in the log. Secrets have a type of their own that no [`Value`] takes.

use crate::telemetry::json;
use crate::telemetry::spool::{Dropped, Lines, Sink, Spool, SpoolError};
use crate::telemetry::stamp::Stamp;
use bulkhead_config::name::TenantId;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Something is broken and needs somebody.
    Error = 1,
    /// Something is not as it should be, and the sidecar copes.
    Warn = 2,
    /// What an operator wants to know on a normal day.
    Info = 3,
    /// For whoever looks for a fault.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

impl Level {
    const ALL: [Level; 5] = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

    /// As it stands in a line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Error => "ERROR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
            Level::Trace => "TRACE",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no log level; one of error, warn, info, debug, trace")]
pub struct NotALevel(String);

impl FromStr for Level {
    type Err = NotALevel;
    fn from_str(text: &str) -> Result<Self, NotALevel> {
        let level = Self::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text));
        level.ok_or_else(|| NotALevel(text.to_owned()))
    }
}

/// What a line may tell besides its message.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// A text, cut to 4 KiB.
    Text(&'a str),
    /// Anything that can be shown, cut likewise.
    Shown(&'a dyn fmt::Display),
    /// A whole number.
    Number(u64),
    /// A yes or no.
    Flag(bool),
    /// A time span, in milliseconds.
    Millis(Duration),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(text)
    }
}
impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Value::Text(text)
    }
}
impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Value::Number(number)
    }
}
impl From<usize> for Value<'_> {
    fn from(number: usize) -> Self {
        Value::Number(u64::try_from(number).unwrap_or(u64::MAX))
    }
}
impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Value::Flag(flag)
    }
}
impl From<Duration> for Value<'_> {
    fn from(duration: Duration) -> Self {
        Value::Millis(duration)
    }
}

/// One line to be.
pub struct Line<'a> {
    /// How much it matters.
    pub level: Level,
    /// Which part speaks: `core.config`, `core.security`, `core.sidecar`.
    pub component: &'static str,
    /// The tenant it is about.
    pub tenant: Option<&'a TenantId>,
    /// A sentence without the values that stand in `more`.
    pub message: &'a dyn fmt::Display,
    /// How long what it tells of took.
    pub latency: Option<Duration>,
    /// What else is known, by name.
    pub more: &'a [(&'static str, Value<'a>)],
}

/// Clones share the level, the queue and the thread.
#[derive(Debug, Clone)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    level: AtomicU8,
    spool: Spool,
}

impl Log {
    /// Begins the log.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not be started.
    pub fn start(sink: Sink, level: Level) -> Result<Self, SpoolError> {
        let spool = Spool::start("application", sink, QUEUE_LINES, Box::new(|lines| Some(drops(lines))))?;
        Ok(Self(Arc::new(Inner { level: AtomicU8::new(level as u8), spool })))
    }

    /// From now on lines of this level and above are written.
    pub fn set_level(&self, level: Level) {
        self.0.level.store(level as u8, Ordering::Relaxed);
    }

    /// Whether lines of this level are written.
    #[must_use]
    pub fn tells(&self, level: Level) -> bool {
        level as u8 <= self.0.level.load(Ordering::Relaxed)
    }

    /// Writes one line.
    pub fn write(&self, line: &Line<'_>) {
        if self.tells(line.level) {
            let lines = Lines { bytes: compose(line), count: 1, home: None };
            let _ = self.0.spool.hand_over(lines); // dropped and counted there
        }
    }

    /// A line that needs somebody.
    pub fn error(
        &self,
        component: &'static str,
        tenant: Option<&TenantId>,
        message: impl fmt::Display,
        more: &[(&'static str, Value<'_>)],
    ) {
        self.write(&Line { level: Level::Error, component, tenant, message: &message, latency: None, more });
    }

    /// A line about what is not as it should be.
    pub fn warn(&self, component: &'static str, tenant: Option<&TenantId>, message: impl fmt::Display, more: &[(&'static str, Value<'_>)]) {
        self.write(&Line { level: Level::Warn, component, tenant, message: &message, latency: None, more });
    }

    /// A line of a normal day.
    pub fn info(&self, component: &'static str, tenant: Option<&TenantId>, message: impl fmt::Display, more: &[(&'static str, Value<'_>)]) {
        self.write(&Line { level: Level::Info, component, tenant, message: &message, latency: None, more });
    }

    /// A line for whoever looks for a fault.
    pub fn debug(
        &self,
        component: &'static str,
        tenant: Option<&TenantId>,
        message: impl fmt::Display,
        more: &[(&'static str, Value<'_>)],
    ) {
        self.write(&Line { level: Level::Debug, component, tenant, message: &message, latency: None, more });
    }

    /// Lines that were dropped.
    #[must_use]
    pub fn dropped(&self) -> &Dropped {
        self.0.spool.dropped()
    }

    /// Waits until everything said before is written, or until the deadline has passed; tells which.
    pub async fn flush(&self, deadline: Duration) -> bool {
        self.0.spool.flush(deadline).await
    }

    /// Turns panics of any thread into lines of this log instead of text on standard error. For the whole process, so it is
    /// for its `main` to call; counting them is for whoever catches them.
    pub fn take_panics(&self) {
        let log = self.clone();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let message = panic.payload_as_str().unwrap_or("a panic without a message");
            let more = [("place", Value::from(&place)), ("thread", thread.name().unwrap_or("unnamed").into())];
            log.error("core.sidecar", None, format_args!("a defect of ours stopped a task: {message}"), &more);
        }));
    }
}

/// Lines that may wait for the disk.
const QUEUE_LINES: usize = 1_024;
/// Longest text in a line.
const TEXT_BYTES_MAX: usize = 4 << 10;

fn compose(line: &Line<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"timestamp\":\"");
    out.extend_from_slice(Stamp::new().at(unix_ms()));
    out.extend_from_slice(b"\",\"level\":\"");
    out.extend_from_slice(line.level.as_str().as_bytes());
    out.push(b'"');
    json::name(&mut out, "component");
    json::string(&mut out, line.component);
    json::name(&mut out, "tenant_id");
    match line.tenant {
        Some(tenant) => json::string(&mut out, tenant.as_str()),
        None => out.extend_from_slice(b"null"),
    }
    json::name(&mut out, "message");
    json::string(&mut out, cut(&line.message.to_string()));
    json::name(&mut out, "latency_ms");
    match line.latency {
        Some(latency) => json::millis(&mut out, latency),
        None => out.extend_from_slice(b"null"),
    }
    for (name, value) in line.more {
        json::name(&mut out, name);
        match value {
            Value::Text(text) => json::string(&mut out, cut(text)),
            Value::Shown(shown) => json::string(&mut out, cut(&shown.to_string())),
            Value::Number(number) => json::whole(&mut out, *number),
            Value::Flag(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
            Value::Millis(duration) => json::millis(&mut out, *duration),
        }
    }
    out.extend_from_slice(b"}\n");
    out
}

fn drops(lines: u64) -> Vec<u8> {
    compose(&Line {
        level: Level::Warn,
        component: "core.sidecar",
        tenant: None,
        message: &"lines of this log were dropped: it was written to faster than its sink takes",
        latency: None,
        more: &[("dropped", lines.into())],
    })
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text)
}

#[expect(clippy::disallowed_methods, reason = "the application log tells of what happens beside the request path")]
fn unix_ms() -> u64 {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::telemetry::spool::tests::{Page, wait_for_writer};

    #[tokio::test]
    async fn every_line_begins_with_the_six_promised_members_in_their_order() {
        let page = Page::default();
        let log = Log::start(page.sink(), Level::Info).unwrap();
        let tenant = "acme_corp".parse().unwrap();
        log.write(&Line {
            level: Level::Info,
            component: "core.config",
            tenant: Some(&tenant),
            message: &"live",
            latency: Some(Duration::from_micros(2_500)),
            more: &[("file", "a\"b".into()), ("documents", 3_usize.into()), ("ok", true.into())],
        });
        assert!(log.flush(wait_for_writer()).await);
        let text = page.text();
        let rest = text.split_once("\",\"level\"").unwrap().1;
        assert_eq!(
            rest,
            ":\"INFO\",\"component\":\"core.config\",\"tenant_id\":\"acme_corp\",\"message\":\"live\",\"latency_ms\":2.500,\
             \"file\":\"a\\\"b\",\"documents\":3,\"ok\":true}\n"
        );
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(line.get("timestamp").unwrap().as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    }

    #[tokio::test]
    async fn the_level_decides_at_run_time_what_is_written() {
        let page = Page::default();
        let log = Log::start(page.sink(), Level::Info).unwrap();
        log.debug("core.sidecar", None, "unheard", &[]);
        log.set_level(Level::Debug);
        log.debug("core.sidecar", None, "heard", &[]);
        log.set_level(Level::Error);
        log.warn("core.sidecar", None, "unheard", &[]);
        assert!(log.flush(wait_for_writer()).await);
        assert_eq!(page.text().lines().count(), 1);
        assert!(page.text().contains("\"message\":\"heard\""));
    }

    #[tokio::test]
    async fn a_long_text_is_cut_between_characters() {
        let page = Page::default();
        let log = Log::start(page.sink(), Level::Info).unwrap();
        log.info("core.sidecar", None, "ä".repeat(4_000) + "end", &[]);
        assert!(log.flush(wait_for_writer()).await);
        let line: serde_json::Value = serde_json::from_str(&page.text()).unwrap();
        assert_eq!(line.get("message").unwrap().as_str().unwrap(), "ä".repeat(2_048));
    }

    #[test]
    fn levels_are_read_in_any_case() {
        for (written, meant) in [("info", Some(Level::Info)), ("WARN", Some(Level::Warn)), ("verbose", None), ("", None)] {
            assert_eq!(written.parse().ok(), meant, "{written}");
        }
    }
}
