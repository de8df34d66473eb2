//! Reads the JSON that a running bulkhead answers with. What a newer one says beyond that is left alone.

use bulkhead_config::diagnostic::{Diagnostic, Span};
use serde_json::Value;
use std::sync::Arc;

/// A text, where there is one.
pub(crate) fn text(of: &Value, key: &str) -> Option<String> {
    of.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// A whole number, where there is one.
pub(crate) fn number(of: &Value, key: &str) -> Option<u64> {
    of.get(key).and_then(Value::as_u64)
}

/// A list; none is an empty one.
pub(crate) fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A scalar as people write it: a text without its quotes.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `incarnation.revision`.
pub(crate) fn epoch(of: &Value) -> Option<String> {
    let epoch = of.get("epoch")?;
    Some(format!("{}.{}", number(epoch, "incarnation")?, number(epoch, "revision")?))
}

/// A mistake or warning.
pub(crate) fn diagnostic(of: &Value) -> Diagnostic {
    let shared = |key| text(of, key).map(Arc::from);
    let at = |key| number(of, key).and_then(|count| u32::try_from(count).ok()).unwrap_or_default();
    Diagnostic {
        file: shared("file").unwrap_or_default(),
        span: Span { line: at("line"), column: at("column") },
        document: shared("document"),
        pointer: shared("pointer").unwrap_or_default(),
        message: text(of, "message").unwrap_or_default(),
        expected: text(of, "expected"),
        found: text(of, "found"),
        hint: text(of, "hint"),
    }
}

/// `1 file`, `2 files`, `2 RoleBindings`, `2 Identities`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {what}s"),
    }
}

/// `5 s`, `3 min`, `2 h 5 min`, `4 d 2 h`: as fine as anybody cares for at that size.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn a_span_is_told_as_finely_as_its_size_asks_for() {
        for (seconds, told) in [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3_661, "1 h 1 min"), (90_000, "1 d 1 h")] {
            assert_eq!(span(seconds), told);
        }
    }
}
