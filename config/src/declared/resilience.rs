//! Resilience of an upstream: when a request is sent again.

use super::reader::{Item, Outcome, wrong};
use super::schema::{self, Schema, optional};
use super::value;
use crate::text::Value;
use serde_json::json;
use std::fmt;

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
        map.finish();
        let mut on: Vec<Reason> = on?.map_or_else(|| Self::ON.to_vec(), value::bare);
        // The order in which they are written means nothing.
        on.sort_unstable();
        Ok(Self {
            attempts: attempts?.unwrap_or(Self::ATTEMPTS),
            on,
            budget_percent: budget_percent?.unwrap_or(Self::BUDGET_PERCENT),
            body_bytes_max: body_bytes_max?.unwrap_or(Self::BODY_BYTES_MAX),
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
        ];
        schema::object("When a request that failed is sent again: idempotent methods only, unless nothing was sent.", fields)
    }
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
