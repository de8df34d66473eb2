//! Parts of moments and durations: `now.getHours("Europe/Vienna")`.

use super::value::Value;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A part of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Year,
    /// From 0.
    Month,
    /// From 1.
    Date,
    /// From 0.
    DayOfMonth,
    /// From 0, which is Sunday.
    DayOfWeek,
    /// From 0.
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// Functions by name.
pub(super) const PARTS: [(&str, Part); 10] = [
    ("getFullYear", Part::Year),
    ("getMonth", Part::Month),
    ("getDate", Part::Date),
    ("getDayOfMonth", Part::DayOfMonth),
    ("getDayOfWeek", Part::DayOfWeek),
    ("getDayOfYear", Part::DayOfYear),
    ("getHours", Part::Hours),
    ("getMinutes", Part::Minutes),
    ("getSeconds", Part::Seconds),
    ("getMilliseconds", Part::Milliseconds),
];

impl Part {
    /// Whether durations have it.
    pub(super) fn is_of_durations(self) -> bool {
        matches!(self, Part::Hours | Part::Minutes | Part::Seconds | Part::Milliseconds)
    }

    /// This part of a moment, by the clock of a zone.
    pub(super) fn of_time(self, time: Timestamp, zone: Option<&TimeZone>) -> i64 {
        let local: DateTime = zone.unwrap_or(&TimeZone::UTC).to_datetime(time);
        match self {
            Part::Year => i64::from(local.year()),
            Part::Month => i64::from(local.month()) - 1,
            Part::Date => i64::from(local.day()),
            Part::DayOfMonth => i64::from(local.day()) - 1,
            Part::DayOfWeek => i64::from(local.weekday().to_sunday_zero_offset()),
            Part::DayOfYear => i64::from(local.day_of_year()) - 1,
            Part::Hours => i64::from(local.hour()),
            Part::Minutes => i64::from(local.minute()),
            Part::Seconds => i64::from(local.second()),
            Part::Milliseconds => i64::from(local.millisecond()),
        }
    }

    /// A duration in this unit, of which durations are one; the milliseconds are those beyond the seconds.
    pub(super) fn of_span(self, span: SignedDuration) -> Option<i64> {
        match self {
            Part::Hours => Some(span.as_hours()),
            Part::Minutes => Some(span.as_mins()),
            Part::Seconds => Some(span.as_secs()),
            Part::Milliseconds => Some(i64::from(span.subsec_millis())),
            _ => None,
        }
    }
}

/// A moment as RFC 3339 writes it.
pub(super) fn time(text: &str) -> Option<Value<'static>> {
    // What jiff reads beyond RFC 3339 (a zone in brackets, a blank for the `T`) is refused.
    let is_plain = text.as_bytes().get(10) == Some(&b'T') && text.bytes().all(|b| b.is_ascii_digit() || b"-+:.TZ".contains(&b));
    text.parse().ok().filter(|_| is_plain).map(Value::Time)
}

/// A duration such as `1h30m`, `-1.5h` or `250ms`.
pub(super) fn span(text: &str) -> Option<Value<'static>> {
    let bare = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_plain =
        bare.starts_with(|c: char| c.is_ascii_digit() || c == '.') && bare.bytes().all(|b| b.is_ascii_digit() || b".hmsun".contains(&b));
    if text == "0" {
        return Some(Value::Span(SignedDuration::ZERO));
    }
    if !is_plain {
        return None;
    }
    let mut total = SignedDuration::ZERO;
    let mut rest = bare;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, tail) = rest.split_at_checked(unit_at)?;
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(end)?;
        total = total.checked_add(times(number, unit)?)?;
        rest = tail;
    }
    Some(Value::Span(if text.starts_with('-') { total.checked_neg()? } else { total }))
}

/// So many of a unit, to the nanosecond.
fn times(number: &str, unit: &str) -> Option<SignedDuration> {
    let unit: i128 = match unit {
        "h" => 3_600_000_000_000,
        "m" => 60_000_000_000,
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" => 1_000,
        "ns" => 1,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 || fraction.contains('.') || whole.len() > 18 {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
    let tenths = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let nanoseconds = digits(whole)?.checked_mul(unit)?.checked_add(digits(fraction)?.checked_mul(unit)? / tenths)?;
    let seconds = i64::try_from(nanoseconds / 1_000_000_000).ok()?;
    Some(SignedDuration::new(seconds, i32::try_from(nanoseconds % 1_000_000_000).ok()?))
}
