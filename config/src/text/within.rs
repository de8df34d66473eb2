//! Where in its file a byte of a string stands: strings are quoted, escaped, folded and indented there.
//!
//! What is not blank is written in the same order in both, one for one, but for escapes; so the visible characters before the
//! place are counted off. No style of YAML or JSON needs more than that.

use super::span;
use crate::diagnostic::Span;

/// The place of a byte of `text`, whose value begins at `start` in the file; `start` itself where it cannot be found.
pub(crate) fn within(source: &str, start: Span, text: &str, byte: usize) -> Span {
    let before = text.get(..text.floor_char_boundary(byte)).unwrap_or_default();
    let visible = before.chars().filter(|c| !c.is_whitespace()).count();
    // A place behind the last character is that character's.
    let Some(last) = text.chars().filter(|c| !c.is_whitespace()).count().checked_sub(1) else { return start };
    Written::at(source, start, text).place(visible.min(last)).unwrap_or(start)
}

/// The written form of a string, from its first character on.
struct Written<'s> {
    rest: std::str::Chars<'s>,
    line: usize,
    column: usize,
    style: Style,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Plain, literal and folded: as it is.
    Bare,
    Single,
    Double,
}

impl<'s> Written<'s> {
    fn at(source: &'s str, start: Span, text: &str) -> Self {
        let (line, column) = (start.line as usize, start.column as usize);
        let mut written = Self { rest: "".chars(), line, column, style: Style::Bare };
        let from_line = source.strip_prefix('\u{feff}').unwrap_or(source).split_inclusive('\n');
        let skipped: usize = from_line.take(line.saturating_sub(1)).map(str::len).sum();
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        written.rest = source.get(skipped..).unwrap_or_default().chars();
        written.column = 1;
        for _ in 1..column {
            written.next();
        }
        // A block's place is its first character, and that may be a quote.
        let begins = text.lines().next().unwrap_or_default().trim();
        if !written.rest.as_str().starts_with(begins) {
            written.open();
        }
        written
    }

    /// Goes behind what only says how the string is written.
    fn open(&mut self) {
        match self.rest.clone().next() {
            Some('\'') => self.style = Style::Single,
            Some('"') => self.style = Style::Double,
            Some('|' | '>') => {
                while self.next().is_some_and(|c| c != '\n') {}
                return;
            }
            _ => return,
        }
        self.next();
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        if next == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(next)
    }

    /// The place of the visible character that has so many before it.
    fn place(mut self, visible: usize) -> Option<Span> {
        let mut left = visible;
        loop {
            let place = span(self.line, self.column);
            let is_visible = self.character()?;
            if is_visible && left == 0 {
                return Some(place);
            }
            left -= usize::from(is_visible);
        }
    }

    /// Goes over one character of the string, or what folds its lines; whether it is a visible one.
    fn character(&mut self) -> Option<bool> {
        let next = self.next()?;
        match (self.style, next) {
            (Style::Single, '\'') => {
                self.next();
                Some(true)
            }
            (Style::Double, '\\') => {
                let escaped = self.next()?;
                let digits = match escaped {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    _ => 0,
                };
                for _ in 0..digits {
                    self.next();
                }
                // An escaped line break joins lines, and the others of these are blanks themselves.
                Some(!matches!(escaped, 'n' | 't' | 'r' | 'v' | 'f' | 'N' | '_' | 'L' | 'P' | ' ' | '\t' | '\n' | '\r'))
            }
            (_, next) => Some(!next.is_whitespace()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Budget, Value, read};

    /// The place of `HERE` in the only string of a document.
    fn place(name: &str, source: &str) -> Option<(u32, u32)> {
        let text = read(name, source, Budget::FILE);
        let root = text.trees.first()?.root.as_ref()?;
        let Value::Map(entries) = &root.value else { return None };
        let (_, node) = entries.first()?;
        let string = node.value.as_str()?;
        let found = within(source, node.span, string, string.find("HERE")?);
        Some((found.line, found.column))
    }

    #[test]
    fn a_byte_is_found_however_its_string_is_written() {
        for (source, meant) in [
            ("k: a == HERE", (1, 9)),
            ("k: HERE", (1, 4)),
            ("k: 'a == \"x\" && HERE'", (1, 17)),
            ("k: 'a == ''x'' && HERE'", (1, 19)),
            ("k: \"a == \\\"x\\\" && HERE\"", (1, 19)),
            ("k: \"a \\u00e4 \\n\\x41 HERE\"", (1, 21)),
            ("k: |\n  a ==\n    HERE\n", (3, 5)),
            ("k: >-\n  a ==\n\n  b && HERE\n", (4, 8)),
            ("k: a ==\n  b && HERE\n", (2, 8)),
            ("k: 'a ==\n\n  b && HERE'\n", (3, 8)),
            ("k: ä == HERE", (1, 9)),
            ("k: |\n  \"a\" == HERE\n", (2, 10)),
            ("# x\n\nk: |2-\n    HERE\n", (4, 5)),
            ("\u{feff}k: a HERE", (1, 6)),
        ] {
            assert_eq!(place("x.yaml", source), Some(meant), "{source}");
        }
        assert_eq!(place("x.json", "{ \"k\":\n \"a \\\"b\\\" \\u0041 HERE\" }"), Some((2, 18)));
    }

    #[test]
    fn what_cannot_be_found_is_where_the_string_begins() {
        let start = Span { line: 9, column: 9 };
        assert_eq!(within("k: v", start, "a HERE", 2), start);
        assert_eq!(within("", start, "", 5), start);
    }
}
