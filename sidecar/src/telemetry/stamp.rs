//! Stamp: the time of a log line as text (RFC 3339, UTC, milliseconds), kept while it stays the same.
//!
//! Cost: per request; a comparison within one millisecond, three digits within one second, the calendar once a second.

/// A time as text, remembered.
#[derive(Debug)]
pub(crate) struct Stamp {
    unix_ms: u64,
    text: [u8; LENGTH],
}

/// Bytes of `2026-11-25T18:51:00.123Z`.
const LENGTH: usize = 24;
/// What is shown for a clock beyond the calendar's end.
const END: &[u8; LENGTH] = b"9999-12-31T23:59:59.000Z";

impl Stamp {
    pub(crate) fn new() -> Self {
        Self { unix_ms: 0, text: *b"1970-01-01T00:00:00.000Z" }
    }

    /// The text of a time; 24 ASCII bytes.
    pub(crate) fn at(&mut self, unix_ms: u64) -> &[u8] {
        if unix_ms != self.unix_ms {
            if unix_ms / 1_000 != self.unix_ms / 1_000 {
                self.text = calendar(unix_ms);
            }
            let millis = unix_ms % 1_000;
            for (place, digit) in self.text.iter_mut().skip(LENGTH - 4).zip([millis / 100, millis / 10 % 10, millis % 10]) {
                *place = b'0' + u8::try_from(digit).unwrap_or(0);
            }
            self.unix_ms = unix_ms;
        }
        &self.text
    }
}

fn calendar(unix_ms: u64) -> [u8; LENGTH] {
    let time = i64::try_from(unix_ms / 1_000).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let text = time.map(|time| format!("{time:.3}"));
    text.and_then(|text| text.into_bytes().try_into().ok()).unwrap_or(*END)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_is_written_in_utc_with_milliseconds() {
        let mut stamp = Stamp::new();
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_632_660_007, "2026-11-25T18:51:00.007Z"),
            (1_795_632_660_120, "2026-11-25T18:51:00.120Z"),
            (1_795_632_661_000, "2026-11-25T18:51:01.000Z"),
            (u64::MAX, "9999-12-31T23:59:59.615Z"),
        ] {
            assert_eq!(std::str::from_utf8(stamp.at(unix_ms)).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn what_was_shown_before_changes_nothing(times in prop::collection::vec(0u64..4_000_000_000_000, 1..20)) {
            let mut kept = Stamp::new();
            for time in times {
                let fresh = Stamp::new().at(time).to_vec();
                prop_assert_eq!(kept.at(time), &fresh[..]);
                let text = std::str::from_utf8(&fresh).unwrap();
                prop_assert_eq!(text.parse::<jiff::Timestamp>().unwrap().as_millisecond(), i64::try_from(time).unwrap());
            }
        }
    }
}
