//! Resilience of an upstream: when a request is sent again, and which endpoints are left alone for a while.

use super::reader::{Item, Outcome, wrong};
use super::schema::{self, Schema, optional, required};
use super::value;
use crate::text::Value;
use serde_json::json;
use std::fmt;
use std::time::Duration;

/// When a request that failed is sent again, beyond what was lost without a trace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Retry {
    /// How often, after the first time.
    pub attempts: u8,
    /// For which reasons.
    pub on: Vec<Reason>,
    /// How many retries may come on a hundred requests.
    pub budget_percent: u8,
    /// Bytes of a body that are kept to be sent again; a request with a larger one is sent once.
    pub body_bytes_max: u64,
    /// How long an endpoint may leave a request unanswered before another is asked the same.
    pub hedge_after: Option<Duration>,
}

/// When an endpoint that fails is left alone for a while.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Outlier {
    /// Failures in a row.
    pub failures: u8,
    /// How long the first time; the second time twice as long, the third three times.
    pub ejection_time: Duration,
    /// How long at most.
    pub ejection_time_max: Duration,
    /// How many of a hundred endpoints at once.
    pub ejected_max_percent: u8,
}

/// How endpoints are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// What it is asked.
    pub question: Question,
    /// From one question to the next.
    pub interval: Duration,
    /// To its answer, the connection included.
    pub timeout: Duration,
    /// Good answers in a row after which an endpoint is used again.
    pub healthy: u8,
    /// Bad ones after which it is not.
    pub unhealthy: u8,
}

/// What an endpoint is asked, and which answer says that it is well.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// GET of this path and query: 2xx.
    Get(String),
    /// `grpc.health.v1.Health/Check` of this service, of the whole server where it has no name: `SERVING`.
    Grpc(String),
}

/// How much an endpoint is asked for at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Requests that it is answering, over all workers.
    pub in_flight: u32,
    /// Requests that wait while every endpoint is full; those beyond are refused at once.
    pub pending: u32,
}

/// How many requests at once an endpoint is asked for by one worker, as it gets slower or faster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AdaptiveConcurrency {
    /// No fewer.
    pub min: u32,
    /// No more.
    pub max: u32,
    /// How many hundredths longer than at best an answer may take before there are fewer.
    pub tolerance_percent: u8,
}

/// Why a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// There was no connection.
    ConnectFailure,
    /// The connection broke before anything came back.
    Reset,
    /// The answer has this status.
    Status(u16),
}

impl Reason {
    const CONNECT_FAILURE: &str = "connect_failure";
    const RESET: &str = "reset";
    /// Statuses that say nothing of the request itself.
    const STATUSES: [u16; 5] = [429, 500, 502, 503, 504];
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::ConnectFailure => f.write_str(Self::CONNECT_FAILURE),
            Reason::Reset => f.write_str(Self::RESET),
            Reason::Status(status) => write!(f, "{status}"),
        }
    }
}

impl Retry {
    const ATTEMPTS: u8 = 1;
    const ATTEMPTS_MAX: u8 = 5;
    const ON: [Reason; 2] = [Reason::ConnectFailure, Reason::Reset];
    const BUDGET_PERCENT: u8 = 20;
    const BODY_BYTES_MAX: u64 = 64 << 10;
    /// A body is held in memory while its request is on its way.
    const BODY_BYTES_MOST: u64 = 1 << 20;

    pub(super) fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let attempts = map.optional("attempts", small(1..=Self::ATTEMPTS_MAX));
        let on = map.optional("on", |item| value::some_set(item, "reason", reason));
        let budget_percent = map.optional("budget", value::percent);
        let body_bytes_max = map.optional("body_bytes_max", |item| {
            let bytes = value::size(item)?;
            let complaint = || wrong(format!("{} is larger than 1MiB", item.label())).expected("a size up to `1MiB`");
            if bytes > Self::BODY_BYTES_MOST { Err(item.refuse(complaint())) } else { Ok(bytes) }
        });
        let hedge_after = map.optional("hedge_after", value::some_duration);
        map.finish();
        let mut on: Vec<Reason> = on?.map_or_else(|| Self::ON.to_vec(), value::bare);
        // The order in which they are written means nothing.
        on.sort_unstable();
        Ok(Self {
            attempts: attempts?.unwrap_or(Self::ATTEMPTS),
            on,
            budget_percent: budget_percent?.unwrap_or(Self::BUDGET_PERCENT),
            body_bytes_max: body_bytes_max?.unwrap_or(Self::BODY_BYTES_MAX),
            hedge_after: hedge_after?,
        })
    }

    pub(super) fn schema() -> Schema {
        let reasons: Vec<Schema> = [json!(Reason::CONNECT_FAILURE), json!(Reason::RESET)]
            .into_iter()
            .chain(Reason::STATUSES.map(|status| json!(status)))
            .collect();
        let reason =
            json!({ "enum": reasons, "description": "Why: no connection, one that broke without an answer, or the answer's status." });
        let fields = vec![
            optional("attempts", schema::whole("How often, after the first time; left out: 1.", &(1..=u32::from(Self::ATTEMPTS_MAX)))),
            optional("on", schema::some(schema::set_of("For which reasons; left out: connect_failure, reset.", reason))),
            optional("budget", schema::percent("How many retries may come on the requests of ten seconds; left out: 20%.")),
            optional("body_bytes_max", schema::size("Bytes of a body kept to be sent again, up to 1MiB; left out: 64KiB.")),
            optional("hedge_after", schema::duration("Silence after which another endpoint is asked the same; left out: never.")),
        ];
        schema::object("When a request that failed is sent again: idempotent methods only, unless nothing was sent.", fields)
    }
}

impl Outlier {
    const FAILURES: u8 = 5;
    const EJECTION_TIME: Duration = Duration::from_secs(10);
    const EJECTION_TIME_MAX: Duration = Duration::from_secs(300);
    const EJECTED_MAX_PERCENT: u8 = 50;

    pub(super) fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let failures = map.optional("failures", small(1..=100));
        let ejection_time = map.optional("ejection_time", value::some_duration);
        let ejection_time_max = map.optional("ejection_time_max", value::some_duration);
        let ejected_max_percent = map.optional("ejected_max", value::percent);
        map.finish();
        Ok(Self {
            failures: failures?.unwrap_or(Self::FAILURES),
            ejection_time: ejection_time?.unwrap_or(Self::EJECTION_TIME),
            ejection_time_max: ejection_time_max?.unwrap_or(Self::EJECTION_TIME_MAX),
            ejected_max_percent: ejected_max_percent?.unwrap_or(Self::EJECTED_MAX_PERCENT),
        })
    }

    pub(super) fn schema() -> Schema {
        let fields = vec![
            optional("failures", schema::whole("Failures in a row: no connection, no whole head, 5xx; left out: 5.", &(1..=100))),
            optional("ejection_time", schema::some_duration("How long the first time, then twice, three times; left out: 10s.")),
            optional("ejection_time_max", schema::some_duration("How long at most; left out: 5m.")),
            optional("ejected_max", schema::percent("How many endpoints at once; left out: 50%.")),
        ];
        schema::object("When an endpoint that fails is left alone for a while.", fields)
    }
}

impl HealthCheck {
    const INTERVAL: Duration = Duration::from_secs(5);
    const TIMEOUT: Duration = Duration::from_secs(1);
    const HEALTHY: u8 = 2;
    const UNHEALTHY: u8 = 3;

    pub(super) fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let path = map.optional("path", target);
        let service = map.optional("grpc_service", grpc_service);
        let interval = map.optional("interval", |item| {
            let interval = value::some_duration(item)?;
            let complaint = || wrong(format!("{} is shorter than 100ms", item.label())).expected("a duration from `100ms` up");
            if interval < Duration::from_millis(100) { Err(item.refuse(complaint())) } else { Ok(interval) }
        });
        let timeout = map.optional("timeout", value::some_duration);
        let healthy = map.optional("healthy", small(1..=100));
        let unhealthy = map.optional("unhealthy", small(1..=100));
        map.finish();
        let question = match (path?, service?) {
            (Some(path), None) => Question::Get(path),
            (None, Some(service)) => Question::Grpc(service),
            _ => {
                let complaint = wrong(format!("{} says not in one way what an endpoint is asked", item.label()));
                let expected = "exactly one of `path`, such as `/healthz`, and `grpc_service`, such as `\"\"` for the whole server";
                return Err(item.refuse(complaint.expected(expected)));
            }
        };
        Ok(Self {
            question,
            interval: interval?.unwrap_or(Self::INTERVAL),
            timeout: timeout?.unwrap_or(Self::TIMEOUT),
            healthy: healthy?.unwrap_or(Self::HEALTHY),
            unhealthy: unhealthy?.unwrap_or(Self::UNHEALTHY),
        })
    }

    pub(super) fn schema() -> Schema {
        let path = schema::text("Path, and query, of the GET that a well endpoint answers with 2xx.", r##"^/[!"$-~]*$"##, &["/healthz"]);
        let service = "Service that `grpc.health.v1.Health/Check` is asked about, over HTTP/2; empty: the whole server. Well is SERVING.";
        let fields = vec![
            optional("path", path),
            optional("grpc_service", schema::text(service, r"^[A-Za-z0-9_.]*$", &["", "shop.v1.Cart"])),
            optional("interval", schema::some_duration("From one question to the next, from 100ms up; left out: 5s.")),
            optional("timeout", schema::some_duration("To its answer, the connection included; left out: 1s.")),
            optional("healthy", schema::whole("Good answers in a row after which an endpoint is used again; left out: 2.", &(1..=100))),
            optional("unhealthy", schema::whole("Bad ones after which it is not; left out: 3.", &(1..=100))),
        ];
        let object = schema::object("How endpoints are asked, as requests are, whether they are well.", fields);
        schema::with(object, "oneOf", json!([{ "required": ["path"] }, { "required": ["grpc_service"] }]))
    }
}

impl Limits {
    const RANGE: std::ops::RangeInclusive<u32> = 1..=1_000_000;
    const PENDING: std::ops::RangeInclusive<u32> = 0..=100_000;

    pub(super) fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let in_flight = map.required("in_flight", value::whole(Self::RANGE));
        let pending = map.optional("pending", value::whole(Self::PENDING));
        map.finish();
        Ok(Self { in_flight: in_flight?, pending: pending?.unwrap_or_default() })
    }

    pub(super) fn schema() -> Schema {
        let fields = vec![
            required("in_flight", schema::whole("Requests that one endpoint is answering, over all workers.", &Self::RANGE)),
            optional(
                "pending",
                schema::whole("Requests that wait, up to connect_timeout, while all are full; left out: 0.", &Self::PENDING),
            ),
        ];
        schema::object("How much an endpoint is asked for at once; beyond it is 503 `upstream_overloaded`.", fields)
    }
}

impl AdaptiveConcurrency {
    const RANGE: std::ops::RangeInclusive<u32> = 1..=1_000_000;
    const MIN: u32 = 4;
    const MAX: u32 = 1_000;
    const TOLERANCE_PERCENT: u8 = 50;

    pub(super) fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let min = map.optional("min", value::whole(Self::RANGE));
        let max = map.optional("max", value::whole(Self::RANGE));
        let tolerance_percent = map.optional("tolerance", value::percent);
        map.finish();
        let (min, max) = (min?.unwrap_or(Self::MIN), max?.unwrap_or(Self::MAX));
        if min > max {
            let complaint = wrong(format!("`min`, which is {min}, is larger than `max`, which is {max}"));
            let hint = format!("left out, `min` is {} and `max` is {}", Self::MIN, Self::MAX);
            return Err(item.refuse(complaint.expected("a `min` that is not larger than `max`").hint(hint)));
        }
        Ok(Self { min, max, tolerance_percent: tolerance_percent?.unwrap_or(Self::TOLERANCE_PERCENT) })
    }

    pub(super) fn schema() -> Schema {
        let fields = vec![
            optional("min", schema::whole("Requests that one worker always sends at once, and begins with; left out: 4.", &Self::RANGE)),
            optional("max", schema::whole("Requests that one worker sends at once at most; left out: 1000.", &Self::RANGE)),
            optional("tolerance", schema::percent("How much longer than at best an answer may take; left out: 50%.")),
        ];
        let text = "How many requests at once an endpoint is asked for: fewer as it gets slower; beyond it is 503 `upstream_overloaded`.";
        schema::object(text, fields)
    }
}

/// A path with its query, as a request has them.
fn target(item: &Item<'_>) -> Outcome<String> {
    let text = value::string(item)?;
    let is_target = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let complaint = || wrong(format!("{} is no path of a request", item.label())).expected("a path such as `/healthz`");
    if is_target { Ok(text.to_string()) } else { Err(item.refuse(complaint())) }
}

/// The full name of a gRPC service, or nothing.
fn grpc_service(item: &Item<'_>) -> Outcome<String> {
    let text = value::string(item)?;
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
    let complaint = || wrong(format!("{} is no name of a gRPC service", item.label())).expected("a name such as `shop.v1.Cart`, or `\"\"`");
    if is_name { Ok(text.to_string()) } else { Err(item.refuse(complaint())) }
}

fn reason(item: &Item<'_>) -> Outcome<Reason> {
    match item.value() {
        Value::Int(status) => {
            let known = Reason::STATUSES.into_iter().find(|known| i128::from(*known) == i128::from(*status));
            let complaint = || wrong(format!("an answer of status {status} says that asking again is no use"));
            known.map(Reason::Status).ok_or_else(|| item.refuse(complaint().expected("one of 429, 500, 502, 503, 504")))
        }
        _ => value::word(item, &[(Reason::CONNECT_FAILURE, Reason::ConnectFailure), (Reason::RESET, Reason::Reset)]),
    }
}

/// A small whole number in a range.
fn small(range: std::ops::RangeInclusive<u8>) -> impl Fn(&Item<'_>) -> Outcome<u8> {
    let most = *range.end();
    let read = value::whole(u32::from(*range.start())..=u32::from(most));
    // Within the range, so it fits.
    move |item| read(item).map(|number| u8::try_from(number).unwrap_or(most))
}
