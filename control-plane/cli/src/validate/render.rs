//! A mistake the way compilers show it: the message, the place, the line with the part meant, and the way out.

use crate::output::{BAD, FAINT, HINT, STRONG, WARN, paint};
use bulkhead_config::diagnostic::Diagnostic;
use clap::builder::styling::Style;
use std::fmt::Write as _;

/// Longest piece of a source line that is shown; a longer line is cut around the place.
const LINE_CHARS_MAX: usize = 120;
/// What stays visible before the place when a line is cut.
const BEFORE_CHARS: usize = 40;

/// How much a diagnostic weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// What it is about is not served.
    Mistake,
    /// It is served, and perhaps not meant so.
    Warning,
}

/// One diagnostic in several lines, ended by an empty one. `source` is the text of its file, where there is one.
pub(crate) fn diagnostic(weight: Weight, diagnostic: &Diagnostic, source: Option<&str>) -> String {
    let (style, name) = match weight {
        Weight::Mistake => (BAD, "error"),
        Weight::Warning => (WARN, "warning"),
    };
    let mut text = String::new();
    let line = source.and_then(|source| source.lines().nth(diagnostic.span.line.checked_sub(1)? as usize));
    let gutter = diagnostic.span.line.to_string().len();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}{}", paint(style, name), paint(STRONG, format_args!(": {}", printable(&diagnostic.message))));
    let _ = writeln!(text, "{:gutter$}{} {}", "", paint(FAINT, "-->"), place(diagnostic));
    if let Some(line) = line {
        excerpt(&mut text, style, diagnostic, line, gutter);
    } else if let Some(label) = label(diagnostic) {
        let _ = writeln!(text, "{:gutter$} {} {label}", "", paint(FAINT, "="));
    }
    if let Some(hint) = &diagnostic.hint {
        let _ = writeln!(text, "{:gutter$} {} {}: {}", "", paint(FAINT, "="), paint(HINT, "help"), printable(hint));
    }
    text
}

/// `file:line:column (Kind name, /pointer)`.
fn place(diagnostic: &Diagnostic) -> String {
    let mut text = printable(&diagnostic.place());
    let pointer = Some(&*diagnostic.pointer).filter(|pointer| !pointer.is_empty());
    let within: Vec<&str> = diagnostic.document.as_deref().into_iter().chain(pointer).collect();
    if !within.is_empty() {
        let _ = write!(text, " {}", paint(FAINT, format_args!("({})", printable(&within.join(", ")))));
    }
    text
}

/// The line, and below it a mark under the part that is meant.
fn excerpt(text: &mut String, style: Style, diagnostic: &Diagnostic, line: &str, gutter: usize) {
    let at = (diagnostic.span.column as usize).saturating_sub(1);
    let marked = marked_chars(line, at);
    let skipped = if line.chars().count() > LINE_CHARS_MAX { at.saturating_sub(BEFORE_CHARS) } else { 0 };
    let shown: String = line.chars().skip(skipped).take(LINE_CHARS_MAX).collect();
    let cut = if skipped > 0 { "…" } else { "" };
    let indent = at - skipped + cut.chars().count();
    let mark = "^".repeat(marked.min(LINE_CHARS_MAX.saturating_sub(at - skipped)).max(1));
    let (number, bar) = (paint(FAINT, diagnostic.span.line), paint(FAINT, "|"));
    let label = label(diagnostic).map(|label| format!(" {label}")).unwrap_or_default();
    let _ = writeln!(text, "{:gutter$} {bar}", "");
    let _ = writeln!(text, "{number} {bar} {cut}{}", printable(&shown));
    let _ = writeln!(text, "{:gutter$} {bar} {:indent$}{}", "", "", paint(style, format_args!("{mark}{label}")));
}

/// `expected …, found …`.
fn label(diagnostic: &Diagnostic) -> Option<String> {
    let expected = diagnostic.expected.as_ref().map(|expected| format!("expected {expected}"));
    let found = diagnostic.found.as_ref().map(|found| format!("found {found}"));
    let said: Vec<String> = expected.into_iter().chain(found).collect();
    (!said.is_empty()).then(|| printable(&said.join(", ")))
}

/// How many characters the key or scalar at a place has: what a reader would underline.
fn marked_chars(line: &str, at: usize) -> usize {
    let rest: Vec<char> = line.chars().skip(at).collect();
    let quote = rest.first().copied().filter(|first| matches!(first, '"' | '\''));
    if let Some(quote) = quote {
        let closing = rest.iter().skip(1).position(|&c| c == quote);
        return closing.map_or(rest.len(), |inner| inner + 2);
    }
    let ends = |(index, &c): (usize, &char)| match c {
        ',' | '[' | ']' | '{' | '}' => true,
        ':' => rest.get(index + 1).is_none_or(|next| next.is_whitespace()),
        '#' => index > 0 && rest.get(index - 1).is_some_and(|before| before.is_whitespace()),
        _ => false,
    };
    let end = rest.iter().enumerate().position(ends).unwrap_or(rest.len());
    rest.iter().take(end).collect::<String>().trim_end().chars().count()
}

/// Text that cannot steer a terminal: control characters and the marks that reorder text become `?`, a tab one blank.
pub(crate) fn printable(text: &str) -> String {
    let reorders = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() || reorders(c) => '?',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_config::diagnostic::Span;

    fn diagnostic(line: u32, column: u32) -> Diagnostic {
        Diagnostic {
            file: "tenants/acme.yaml".into(),
            span: Span { line, column },
            document: Some("Tenant acme".into()),
            pointer: "/emial".into(),
            message: "`emial` is no field of a Tenant".into(),
            expected: None,
            found: None,
            hint: Some("did you mean `email`?".into()),
        }
    }

    fn plain(diagnostic: &Diagnostic, source: &str) -> String {
        anstream::adapter::strip_str(&super::diagnostic(Weight::Mistake, diagnostic, Some(source))).to_string()
    }

    #[test]
    fn a_mistake_shows_its_line_and_underlines_what_is_meant() {
        let expected = "\
error: `emial` is no field of a Tenant
 --> tenants/acme.yaml:2:3 (Tenant acme, /emial)
  |
2 |   emial: a@b.c
  |   ^^^^^
  = help: did you mean `email`?
";
        assert_eq!(plain(&diagnostic(2, 3), "kind: Tenant\n  emial: a@b.c\n"), expected);
    }

    #[test]
    fn the_mark_covers_one_key_or_one_scalar() {
        for (line, at, marked) in [
            ("name: acme", 0, 4),
            ("name: acme # why", 6, 4),
            ("name: two words # why", 6, 9),
            (r#"{"a": "x, y", "b": 1}"#, 6, 6),
            ("{a: b, c: d}", 4, 1),
            ("address: 127.0.0.1:8080", 9, 14),
            ("short", 9, 0),
        ] {
            assert_eq!(marked_chars(line, at), marked, "{line}");
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let line = format!("{}emial{}", "x".repeat(1_000), "y".repeat(1_000));
        let text = plain(&diagnostic(1, 1_001), &line);
        assert!(text.lines().all(|line| line.chars().count() < 140), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        let (shown, mark) = (lines.get(3).copied().unwrap_or_default(), lines.get(4).copied().unwrap_or_default());
        assert_eq!(shown.find("emial").map(|at| shown.get(..at).unwrap_or_default().chars().count()), mark.find('^'), "{text}");
    }

    #[test]
    fn a_place_outside_the_text_is_told_without_a_line() {
        for (line, column) in [(0, 0), (9, 1), (1, 900)] {
            assert!(plain(&diagnostic(line, column), "kind: Tenant\n").contains("did you mean"));
        }
    }

    #[test]
    fn a_source_line_cannot_steer_the_terminal() {
        let text = super::diagnostic(Weight::Mistake, &diagnostic(1, 1), Some("emial: \u{1b}]0;owned\u{7}\u{202e}"));
        assert!(text.contains("emial: ?]0;owned??"), "{text:?}");
    }
}
