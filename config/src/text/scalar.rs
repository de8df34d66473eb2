//! Plain scalars by the core schema of YAML 1.2.2 (section 10.3.2), and no other: `yes`, `1_000` and `1:30` are strings.

use super::{Fault, Value};

/// What a plain scalar means.
///
/// # Errors
/// Numbers that are not finite: no document and no setting can mean one.
pub(super) fn plain(text: &str) -> Result<Value, Fault> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    number(text).unwrap_or_else(|| Ok(Value::Str(text.into())))
}

/// The number a text is, if it is one.
fn number(text: &str) -> Option<Result<Value, Fault>> {
    let bare = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(bare, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(Err(Fault::NotFinite { written: text.to_owned() }));
    }
    if let Some(value) = based(text) {
        return Some(value);
    }
    let first = bare.as_bytes().first()?;
    if !(first.is_ascii_digit() || *first == b'.') {
        return None;
    }
    if bare.bytes().all(|b| b.is_ascii_digit())
        && let Ok(whole) = text.parse()
    {
        return Some(Ok(Value::Int(whole)));
    }
    is_float(bare).then(|| finite(text))
}

/// `0o17` and `0x1f`; they take no sign.
fn based(text: &str) -> Option<Result<Value, Fault>> {
    let (digits, base) = match (text.strip_prefix("0o"), text.strip_prefix("0x")) {
        (Some(digits), _) => (digits, 8),
        (_, Some(digits)) => (digits, 16),
        _ => return None,
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return None;
    }
    // Beyond 64 bits nothing in a document or a setting is meant.
    Some(i64::from_str_radix(digits, base).map(Value::Int).map_err(|_| Fault::NotFinite { written: text.to_owned() }))
}

/// `( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn is_float(bare: &str) -> bool {
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match bare.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (bare, None),
    };
    let mantissa_good = match mantissa.split_once('.') {
        Some((whole, fraction)) => all_digits(whole) && all_digits(fraction) && !(whole.is_empty() && fraction.is_empty()),
        None => all_digits(mantissa) && !mantissa.is_empty(),
    };
    mantissa_good && exponent.is_none_or(|digits| all_digits(digits) && !digits.is_empty())
}

/// A decimal number, unless it is too large.
pub(super) fn finite(text: &str) -> Result<Value, Fault> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Value::Float(number)),
        _ => Err(Fault::NotFinite { written: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(text: &str) -> String {
        plain(text).map_or_else(|fault| fault.to_string(), |value| format!("{value:?}"))
    }

    #[test]
    fn a_plain_scalar_means_what_the_core_schema_says() {
        for (written, meant) in [
            ("", "Null"),
            ("~", "Null"),
            ("Null", "Null"),
            ("nULL", r#"Str("nULL")"#),
            ("TRUE", "Bool(true)"),
            ("false", "Bool(false)"),
            ("yes", r#"Str("yes")"#),
            ("off", r#"Str("off")"#),
            ("0", "Int(0)"),
            ("-7", "Int(-7)"),
            ("+7", "Int(7)"),
            ("007", "Int(7)"),
            ("0o17", "Int(15)"),
            ("0x1F", "Int(31)"),
            ("-0x1F", r#"Str("-0x1F")"#),
            ("0o8", r#"Str("0o8")"#),
            ("0b1", r#"Str("0b1")"#),
            ("1_000", r#"Str("1_000")"#),
            ("1:30", r#"Str("1:30")"#),
            ("1.", "Float(1.0)"),
            (".5", "Float(0.5)"),
            ("-1.5e3", "Float(-1500.0)"),
            ("1e3", "Float(1000.0)"),
            ("1e", r#"Str("1e")"#),
            (".", r#"Str(".")"#),
            ("-", r#"Str("-")"#),
            ("5s", r#"Str("5s")"#),
            ("127.0.0.1", r#"Str("127.0.0.1")"#),
            ("9223372036854775807", "Int(9223372036854775807)"),
            ("9223372036854775808", "Float(9.223372036854776e18)"),
            ("2027-06-30", r#"Str("2027-06-30")"#),
        ] {
            assert_eq!(meaning(written), meant, "{written}");
        }
    }

    #[test]
    fn a_number_that_is_not_finite_is_refused() {
        for written in [".inf", "-.Inf", "+.INF", ".nan", ".NaN", "1e999", "-1e999", "0xffffffffffffffffff"] {
            assert!(plain(written).is_err(), "{written}");
        }
        assert_eq!(meaning("-.nan"), r#"Str("-.nan")"#);
    }
}
