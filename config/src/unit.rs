//! Quantities with their units: `10s`, `32KiB`, `200/s`. A bare number is refused wherever a unit belongs.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// Why a text is not the quantity it should be; the message completes "`…` is not a …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAQuantity {
    /// A number without its unit.
    #[error("the unit is missing; one of {0}")]
    NoUnit(&'static str),
    /// A unit that does not exist here.
    #[error("`{0}` is no unit; one of {1}")]
    Unit(String, &'static str),
    /// No number, a sign, a fraction where none is allowed.
    #[error("`{0}` is not a whole number")]
    Number(String),
    /// Larger than can be meant.
    #[error("it is larger than {0}")]
    TooLarge(&'static str),
}

/// Splits `200ms` into its digits and its unit.
fn split(text: &str) -> Result<(u64, &str), NotAQuantity> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let number = number.parse().map_err(|_| NotAQuantity::Number(text.to_owned()))?;
    Ok((number, unit))
}

const DURATIONS: &str = "ms, s, m, h, d";

/// Reads `250ms`, `10s`, `1m`, `8h`, `30d`; at most 366 days.
///
/// # Errors
/// What is wrong with the text.
pub fn duration(text: &str) -> Result<Duration, NotAQuantity> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "" => return Err(NotAQuantity::NoUnit(DURATIONS)),
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        other => return Err(NotAQuantity::Unit(other.to_owned(), DURATIONS)),
    };
    match number.checked_mul(millis) {
        Some(all) if all <= 366 * 86_400_000 => Ok(Duration::from_millis(all)),
        _ => Err(NotAQuantity::TooLarge("366d")),
    }
}

/// Writes a duration the way [`duration`] reads it.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= size && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    format!("{millis}ms")
}

const SIZES: &str = "B, KiB, MiB, GiB, kB, MB, GB";

/// Reads a size in bytes: `512B`, `32KiB`, `10MiB`, `1GiB` (binary), `64kB`, `10MB`, `1GB` (decimal); at most 1 TiB.
///
/// # Errors
/// What is wrong with the text.
pub fn size(text: &str) -> Result<u64, NotAQuantity> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "" => return Err(NotAQuantity::NoUnit(SIZES)),
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        other => return Err(NotAQuantity::Unit(other.to_owned(), SIZES)),
    };
    match number.checked_mul(factor) {
        Some(bytes) if bytes <= 1 << 40 => Ok(bytes),
        _ => Err(NotAQuantity::TooLarge("1024GiB")),
    }
}

/// Writes a size the way [`size`] reads it.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    for (unit, size) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    format!("{bytes}B")
}

/// A rate: so many in a period, `200/s`, `10/m`, `1000/h`. Never zero: a closed door is written as `requests: 0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PerPeriod {
    /// How many.
    pub count: NonZeroU32,
    /// In how long.
    pub period: Duration,
}

const PERIODS: &str = "/s, /m, /h, /d";

impl FromStr for PerPeriod {
    type Err = NotAQuantity;
    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let (number, unit) = split(text)?;
        let seconds = match unit {
            "" => return Err(NotAQuantity::NoUnit(PERIODS)),
            "/s" => 1,
            "/m" => 60,
            "/h" => 3_600,
            "/d" => 86_400,
            other => return Err(NotAQuantity::Unit(other.to_owned(), PERIODS)),
        };
        let count = u32::try_from(number).map_err(|_| NotAQuantity::TooLarge("4294967295"))?;
        let count = NonZeroU32::new(count).ok_or_else(|| NotAQuantity::Number(text.to_owned()))?;
        Ok(Self { count, period: Duration::from_secs(seconds) })
    }
}

impl fmt::Display for PerPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            60 => "m",
            3_600 => "h",
            86_400 => "d",
            _ => "s",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// How often something may happen. A written 0 is [`Limit::Closed`], never "no limit".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// `unlimited`.
    Unlimited,
    /// `0`: nothing passes.
    Closed,
    /// Any other number.
    AtMost(NonZeroU32),
}

impl From<u32> for Limit {
    fn from(written: u32) -> Self {
        NonZeroU32::new(written).map_or(Limit::Closed, Limit::AtMost)
    }
}

/// Seconds since 1970-01-01T00:00:00Z, as tokens and expiries count them.
pub type UnixSeconds = i64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_its_unit() {
        for (written, meant) in
            [("250ms", Some(250)), ("10s", Some(10_000)), ("1m", Some(60_000)), ("8h", Some(28_800_000)), ("0s", Some(0))]
        {
            assert_eq!(duration(written).ok(), meant.map(Duration::from_millis), "{written}");
        }
        for bad in ["10", "", "s", "-1s", "1.5s", "10 s", "10sec", "400d", "99999999999999999999s", "18446744073709551615d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for written in ["250ms", "10s", "1m", "90s", "8h", "30d", "0ms"] {
            assert_eq!(duration(written).map(show_duration), Ok(written.to_owned()));
        }
        for written in ["0B", "512B", "32KiB", "1536KiB", "10MiB", "2GiB"] {
            assert_eq!(size(written).map(show_size), Ok(written.to_owned()));
        }
    }

    #[test]
    fn sizes_are_binary_with_an_i_and_decimal_without() {
        for (written, meant) in [
            ("512B", Some(512)),
            ("32KiB", Some(32_768)),
            ("10MiB", Some(10 << 20)),
            ("64kB", Some(64_000)),
            ("2000GiB", None),
            ("10", None),
            ("10K", None),
        ] {
            assert_eq!(size(written).ok(), meant, "{written}");
        }
    }

    #[test]
    fn rates_mean_what_is_written() {
        for (written, shown) in
            [("200/s", Some("200/s")), ("10/m", Some("10/m")), ("0/s", None), ("5", None), ("5/w", None), ("9999999999/s", None)]
        {
            assert_eq!(written.parse::<PerPeriod>().ok().map(|r| r.to_string()).as_deref(), shown, "{written}");
        }
    }
}
