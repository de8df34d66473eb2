//! `${VAR}`, `${VAR:-default}` and `$$` in the values of a settings file.
//!
//! On parsed scalars only: what a variable holds is never read as YAML, so it can add no key and end no quote.

use crate::declared::reader::{Complaint, wrong};

/// What a value is once its references are replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// This text.
    Text(String),
    /// The first variable that is not set and has no default.
    Unset(String),
}

/// Whether there is anything to replace.
pub(super) fn has_references(text: &str) -> bool {
    text.contains('$')
}

/// Replaces the references in a value.
pub(super) fn resolve(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Resolved, Complaint> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        resolved.push_str(before);
        if let Some(literal) = after.strip_prefix('$') {
            resolved.push('$');
            rest = literal;
            continue;
        }
        let (reference, behind) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')).ok_or_else(stray)?;
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        if !is_name(name) {
            return Err(wrong("a reference without the name of a variable").expected("`${NAME}` or `${NAME:-default}`"));
        }
        match (variable(name), default) {
            // As in a shell, an empty variable takes the default.
            (Some(value), Some(default)) if value.is_empty() => resolved.push_str(default),
            (Some(value), _) => resolved.push_str(&value),
            (None, Some(default)) => resolved.push_str(default),
            (None, None) => return Ok(Resolved::Unset(name.to_owned())),
        }
        rest = behind;
    }
    resolved.push_str(rest);
    Ok(Resolved::Text(resolved))
}

fn stray() -> Complaint {
    wrong("a `$` that begins no reference").expected("`${NAME}`, `${NAME:-default}`, or `$$` for a dollar sign").hint("write `$$`")
}

/// `[A-Za-z_][A-Za-z0-9_]*`
fn is_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(text: &str) -> Option<Resolved> {
        let variable = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${A}: x".to_owned()),
            _ => None,
        };
        resolve(text, variable).ok()
    }

    #[test]
    fn references_are_replaced_once_and_nothing_else_is_touched() {
        for (written, meant) in [
            ("plain", Some("plain")),
            ("${A}", Some("a")),
            ("x${A}y${A}z", Some("xayaz")),
            ("${B:-b}", Some("b")),
            ("${B:-}", Some("")),
            ("${A:-b}", Some("a")),
            ("${EMPTY}", Some("")),
            ("${EMPTY:-b}", Some("b")),
            ("${B:-redis://localhost:6379}", Some("redis://localhost:6379")),
            ("${TRICK}", Some("${A}: x")),
            ("$$", Some("$")),
            ("$${A}", Some("${A}")),
            ("$A", None),
            ("a$", None),
            ("${A", None),
            ("${}", None),
            ("${1A}", None),
            ("${A-b}", None),
            ("${ A }", None),
        ] {
            assert_eq!(meaning(written), meant.map(|text| Resolved::Text(text.to_owned())), "{written}");
        }
        assert_eq!(meaning("${A}${B}${C}"), Some(Resolved::Unset("B".to_owned())));
    }
}
