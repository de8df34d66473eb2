//! Conversions between types, as CEL defines them: what does not fit is a failure, never rounded into range.

use super::moment;
use super::tree::Into;
use super::value::Value;
use std::borrow::Cow;

/// Bytes of a text that may be a number or a moment; a claim may have thousands of digits, which are read one by one.
const TEXT_BYTES_MAX: usize = 256;

/// A value as another type.
pub(super) fn convert<'a>(value: Value<'a>, into: Into) -> Option<Value<'a>> {
    match (into, value) {
        (Into::Text, Value::Text(text)) => Some(Value::Text(text)),
        (_, Value::Text(text)) if text.len() > TEXT_BYTES_MAX => None,
        (Into::Int, Value::Int(number)) => Some(Value::Int(number)),
        (Into::Int, Value::Uint(number)) => i64::try_from(number).ok().map(Value::Int),
        (Into::Int, Value::Double(number)) => whole(number, -9_223_372_036_854_775_808.0, 9_223_372_036_854_775_808.0)
            .and_then(|number| i64::try_from(number).ok())
            .map(Value::Int),
        (Into::Int, Value::Text(text)) => text.parse().ok().map(Value::Int),
        (Into::Int, Value::Time(time)) => Some(Value::Int(time.as_second())),
        (Into::Uint, Value::Uint(number)) => Some(Value::Uint(number)),
        (Into::Uint, Value::Int(number)) => u64::try_from(number).ok().map(Value::Uint),
        (Into::Uint, Value::Double(number)) => {
            whole(number, 0.0, 18_446_744_073_709_551_616.0).and_then(|number| u64::try_from(number).ok()).map(Value::Uint)
        }
        (Into::Uint, Value::Text(text)) => text.parse().ok().map(Value::Uint),
        (Into::Double, Value::Double(number)) => Some(Value::Double(number)),
        #[expect(clippy::cast_precision_loss, reason = "the nearest double is what CEL asks for")]
        (Into::Double, Value::Int(number)) => Some(Value::Double(number as f64)),
        #[expect(clippy::cast_precision_loss, reason = "the nearest double is what CEL asks for")]
        (Into::Double, Value::Uint(number)) => Some(Value::Double(number as f64)),
        (Into::Double, Value::Text(text)) => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Double),
        (Into::Text, Value::Bool(truth)) => owned(truth.to_string()),
        (Into::Text, Value::Int(number)) => owned(number.to_string()),
        (Into::Text, Value::Uint(number)) => owned(number.to_string()),
        (Into::Text, Value::Double(number)) => owned(number.to_string()),
        (Into::Text, Value::Time(time)) => owned(time.to_string()),
        (Into::Text, Value::Span(span)) => owned(format!("{}s", span.as_secs_f64())),
        (Into::Text, Value::Address(address)) => owned(address.to_string()),
        (Into::Time, Value::Text(text)) => moment::time(&text),
        (Into::Time, Value::Int(seconds)) => jiff::Timestamp::from_second(seconds).ok().map(Value::Time),
        (Into::Time, Value::Time(time)) => Some(Value::Time(time)),
        (Into::Span, Value::Text(text)) => moment::span(&text),
        (Into::Span, Value::Span(span)) => Some(Value::Span(span)),
        _ => None,
    }
}

fn owned(text: String) -> Option<Value<'static>> {
    Some(Value::Text(Cow::Owned(text)))
}

/// The whole part of a number in a range, whose end is not in it.
fn whole(number: f64, from: f64, to: f64) -> Option<i128> {
    #[expect(clippy::cast_possible_truncation, reason = "the range is within 128 bits")]
    let whole = (number >= from && number < to).then(|| number.trunc() as i128);
    whole
}
