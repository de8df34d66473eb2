//! Validity: from when until when a certificate holds.
//!
//! Cost: per certificate read, and per client certificate shown.
//! Reads no further than it must (X.690, RFC 5280 section 4.1): everything else of a certificate, and whether it is one at all, is
//! for the library to say, which does not tell this.

use bulkhead_config::unit::UnixSeconds;

use jiff::tz::TimeZone;

/// When a certificate holds, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: UnixSeconds,
    pub(crate) until: UnixSeconds,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

impl Validity {
    /// Of a certificate in DER.
    pub(crate) fn of(der: &[u8]) -> Option<Self> {
        let certificate = Elements(der).expect(SEQUENCE)?;
        let mut fields = Elements(Elements(certificate).expect(SEQUENCE)?);
        let (tag, _) = fields.next()?;
        // The version may be left out; then this was the serial number already.
        let before = if tag == VERSION { 3 } else { 2 };
        for _ in 0..before {
            fields.next()?;
        }
        let mut times = Elements(fields.expect(SEQUENCE)?);
        Some(Self { from: time(times.next()?)?, until: time(times.next()?)? })
    }
}

/// Elements of DER, one behind the other.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().and_then(|(found, contents)| (found == tag).then_some(contents))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match first {
            0..0x80 => (usize::from(first), rest),
            _ => {
                let count = usize::from(first & 0x7f);
                let (digits, rest) = rest.split_at_checked(count).filter(|_| (1..=4).contains(&count))?;
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, contents))
    }
}

/// `YYMMDDHHMMSSZ` before 2050, `YYYYMMDDHHMMSSZ` from then on.
fn time((tag, text): (u8, &[u8])) -> Option<UnixSeconds> {
    let text = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let pairs: Vec<i16> =
        text.chunks_exact(2).map(|pair| pair.iter().fold(0, |number, digit| 10 * number + i16::from(digit - b'0'))).collect();
    let (year, rest) = match (tag, pairs.as_slice()) {
        (UTC_TIME, [year, rest @ ..]) => (if *year < 50 { 2_000 + year } else { 1_900 + year }, rest),
        (GENERALIZED_TIME, [century, year, rest @ ..]) => (100 * century + year, rest),
        _ => return None,
    };
    let [month, day, hour, minute, second] =
        rest.iter().map(|number| i8::try_from(*number).ok()).collect::<Option<Vec<i8>>>()?.try_into().ok()?;
    let day = jiff::civil::Date::new(year, month, day).ok()?;
    let time = jiff::civil::Time::new(hour, minute, second, 0).ok()?;
    Some(TimeZone::UTC.to_timestamp(day.to_datetime(time)).ok()?.as_second())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use jiff::civil::date;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn made(from: (i32, u8, u8), until: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from.0, from.1, from.2), date_time_ymd(until.0, until.1, until.2));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn seconds(year: i16, month: i8, day: i8) -> UnixSeconds {
        TimeZone::UTC.to_timestamp(date(year, month, day).at(0, 0, 0, 0)).unwrap().as_second()
    }

    #[test]
    fn both_forms_of_a_time_are_read() {
        let der = made((1999, 12, 31), (2100, 2, 28));
        assert_eq!(Validity::of(&der), Some(Validity { from: seconds(1999, 12, 31), until: seconds(2100, 2, 28) }));
    }

    #[test]
    fn what_is_cut_short_anywhere_before_its_times_has_none() {
        let der = made((2020, 1, 1), (2030, 1, 1));
        let needed = (0..der.len()).find(|length| Validity::of(der.get(..*length).unwrap()).is_some());
        assert_eq!(needed, None, "a certificate says how long it is");
        for length in [0, 1, 2, 3] {
            assert_eq!(Validity::of(&vec![0x30; length]), None);
        }
        assert_eq!(Validity::of(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(Validity::of(&[0x30, 0x80]), None);
    }

    #[test]
    fn a_time_that_no_calendar_has_is_none() {
        for (tag, text) in
            [(UTC_TIME, "200230000000Z"), (UTC_TIME, "2001010000Z"), (GENERALIZED_TIME, "20200101000000"), (0, "200101000000Z")]
        {
            assert_eq!(time((tag, text.as_bytes())), None, "{text}");
        }
    }
}
