//! JSON text, appended to a line without a detour through values or allocations.
//!
//! Cost: per request; one pass over each text, no allocation beyond the line's own growth.

use std::time::Duration;

/// Appends `text` in quotes, escaped (RFC 8259 §7). DEL is escaped too: a terminal would act on it.
pub(crate) fn string(line: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    line.push(b'"');
    // Nearly none has anything to escape, and to see that there is none costs less than to look where it is.
    if text.iter().fold(false, |any, byte| any | is_escaped(*byte)) {
        escaped(line, text);
    } else {
        line.extend_from_slice(text);
    }
    line.push(b'"');
}

fn escaped(line: &mut Vec<u8>, mut rest: &[u8]) {
    while let Some(at) = rest.iter().position(|byte| is_escaped(*byte)) {
        let (plain, from) = rest.split_at(at);
        line.extend_from_slice(plain);
        let Some((&special, after)) = from.split_first() else { break };
        escape(line, special);
        rest = after;
    }
    line.extend_from_slice(rest);
}

fn is_escaped(byte: u8) -> bool {
    ESCAPED.get(usize::from(byte)).copied().unwrap_or(false)
}

/// Bytes that are escaped. One look at each byte instead of four comparisons: a line of the access log has nine texts.
const ESCAPED: [bool; 256] = {
    let mut escaped = [false; 256];
    let mut byte = 0;
    while byte < escaped.len() {
        #[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "byte < 256; made by the compiler")]
        {
            escaped[byte] = matches!(byte as u8, ..0x20 | b'"' | b'\\' | 0x7f);
        }
        byte += 1;
    }
    escaped
};

fn escape(line: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' => b"\\\"",
        b'\\' => b"\\\\",
        b'\n' => b"\\n",
        b'\r' => b"\\r",
        b'\t' => b"\\t",
        _ => {
            line.extend_from_slice(b"\\u00");
            line.push(hex(byte >> 4));
            line.push(hex(byte & 0xf));
            return;
        }
    };
    line.extend_from_slice(short);
}

/// The digit of the low four bits.
pub(crate) const fn hex(nibble: u8) -> u8 {
    match nibble & 0xf {
        digit @ 0..=9 => b'0' + digit,
        letter => b'a' + letter - 10,
    }
}

/// The two digits of every byte.
const PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        // Two digits of a number below 256.
        #[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "byte < 256; made by the compiler")]
        {
            pairs[byte] = [hex(byte as u8 >> 4), hex(byte as u8)];
        }
        byte += 1;
    }
    pairs
};

/// Writes bytes as digits, two for each, as far as there is room.
pub(crate) fn write_hex(place: &mut [u8], bytes: &[u8]) {
    for (digits, byte) in place.chunks_exact_mut(2).zip(bytes) {
        if let Some(pair) = PAIRS.get(usize::from(*byte)) {
            digits.copy_from_slice(pair);
        }
    }
}

/// Appends a whole number.
pub(crate) fn whole(line: &mut Vec<u8>, mut number: u64) {
    // As most that are written.
    if let digit @ 0..=9 = number {
        line.push(b'0' + u8::try_from(digit).unwrap_or(0));
        return;
    }
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    line.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

/// Appends a duration in milliseconds to three places: `2.5` is written `2.500`.
pub(crate) fn millis(line: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    whole(line, micros / 1_000);
    line.push(b'.');
    let fraction = micros % 1_000;
    for digit in [fraction / 100, fraction / 10 % 10, fraction % 10] {
        line.push(b'0' + u8::try_from(digit).unwrap_or(0));
    }
}

/// Appends `,"name":`; `name` is one of ours and needs no escape.
pub(crate) fn name(line: &mut Vec<u8>, name: &str) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_reads_back(text in any::<String>()) {
            let mut line = Vec::new();
            string(&mut line, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&line).unwrap(), text);
            prop_assert!(!line.iter().any(|&byte| byte < 0x20 || byte == 0x7f));
        }

        #[test]
        fn every_number_reads_back(number in any::<u64>()) {
            let mut line = Vec::new();
            whole(&mut line, number);
            prop_assert_eq!(std::str::from_utf8(&line).unwrap(), number.to_string());
        }
    }

    #[test]
    fn milliseconds_have_three_places() {
        for (micros, shown) in [(0, "0.000"), (2_500, "2.500"), (7, "0.007"), (61_000_042, "61000.042")] {
            let mut line = Vec::new();
            millis(&mut line, Duration::from_micros(micros));
            assert_eq!(std::str::from_utf8(&line).unwrap(), shown);
        }
    }
}
