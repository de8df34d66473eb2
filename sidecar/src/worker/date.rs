//! Date: the field of that name, for answers that have none (RFC 9110 section 6.6.1).
//!
//! Cost: per answer without one; a copy of 29 bytes. Made anew once a turn of the wheel at most.

use std::cell::RefCell;

/// The last date that was written, and the turn of the wheel it was made at.
#[derive(Debug, Default)]
pub(super) struct Date {
    last: RefCell<Option<(u64, String)>>,
}

impl Date {
    /// Appends the field.
    pub(super) fn write(&self, out: &mut Vec<u8>, turn: u64, unix_ms: impl FnOnce() -> u64) {
        let mut last = self.last.borrow_mut();
        if last.as_ref().is_none_or(|(made, _)| *made != turn) {
            *last = Some((turn, format!("date: {}\r\n", format(unix_ms()))));
        }
        if let Some((_, line)) = &*last {
            out.extend_from_slice(line.as_bytes());
        }
    }
}

/// IMF-fixdate, as in `Sun, 06 Nov 1994 08:49:37 GMT`.
fn format(unix_ms: u64) -> String {
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    let time = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let text = time.and_then(|time| printer.timestamp_to_rfc9110_string(&time).ok());
    // A clock before 1970 or after 9999 has no date to give.
    text.unwrap_or_else(|| "Thu, 01 Jan 1970 00:00:00 GMT".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_as_the_standard_writes_it_and_changes_with_the_wheel() {
        let date = Date::default();
        for (turn, now, told) in [(1, 784_111_777_000, 37), (1, 784_111_778_000, 37), (2, 784_111_778_000, 38)] {
            let mut out = Vec::new();
            date.write(&mut out, turn, || now);
            assert_eq!(String::from_utf8_lossy(&out), format!("date: Sun, 06 Nov 1994 08:49:{told} GMT\r\n"));
        }
    }
}
