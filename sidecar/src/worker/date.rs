//! Date: the field of that name, for answers that have none (RFC 9110 section 6.6.1).
//!
//! Cost: per answer without one; a copy of 29 bytes. Made anew once a turn of the wheel at most.

use http::HeaderValue;
use std::cell::RefCell;

/// The last date that was written, and the turn of the wheel it was made at.
#[derive(Debug, Default)]
pub(super) struct Date {
    last: RefCell<Option<(u64, HeaderValue)>>,
}

impl Date {
    pub(super) fn at(&self, turn: u64, unix_ms: impl FnOnce() -> u64) -> HeaderValue {
        let mut last = self.last.borrow_mut();
        match &*last {
            Some((made, value)) if *made == turn => value.clone(),
            _ => {
                let value = format(unix_ms());
                *last = Some((turn, value.clone()));
                value
            }
        }
    }
}

/// IMF-fixdate, as in `Sun, 06 Nov 1994 08:49:37 GMT`.
fn format(unix_ms: u64) -> HeaderValue {
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    let time = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let text = time.and_then(|time| printer.timestamp_to_rfc9110_string(&time).ok());
    // A clock before 1970 or after 9999 has no date to give.
    text.and_then(|text| HeaderValue::try_from(text).ok()).unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_as_the_standard_writes_it_and_changes_with_the_wheel() {
        let date = Date::default();
        assert_eq!(date.at(1, || 784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date.at(1, || 784_111_778_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date.at(2, || 784_111_778_000), "Sun, 06 Nov 1994 08:49:38 GMT");
    }
}
