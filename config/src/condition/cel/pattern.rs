//! Patterns of `matches`. Where documents are read their syntax is looked at; automata are made where a part is compiled, as one
//! may take a thousand times the bytes of its text, and a part has room for so many (`compile/pattern.rs`).
//!
//! Cost: per request; one look at each byte of a text, no cache, so no lock and no allocation.

use regex_automata::Input;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use std::fmt;
use std::sync::Arc;

/// Bytes that one compiled pattern may take.
pub(crate) const BYTES_MAX: usize = 64 << 10;
/// Bytes that the steps before it may take. The first is small, because the second goes through all of it for each state that it makes:
/// nested repetitions of what may be empty took a hundred times as long as any pattern that somebody meant.
const NFA_BYTES_MAX: usize = 32 << 10;
const WORK_BYTES_MAX: usize = 512 << 10;
/// Bytes of a written pattern.
const TEXT_BYTES_MAX: usize = 256;

/// A pattern, compiled.
pub(crate) struct Pattern {
    text: Arc<str>,
    automaton: dense::DFA<Vec<u32>>,
}

/// A pattern that takes more than [`BYTES_MAX`], or too much to compile.
#[derive(Debug)]
pub(crate) struct TooLarge;

/// Automata are tables of numbers: nobody reads them.
impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

impl Pattern {
    /// Compiles a text whose syntax is good: an automaton that looks at each byte once, so that no text takes long.
    pub(crate) fn compile(text: &Arc<str>) -> Result<Self, TooLarge> {
        let limits = dense::Config::new()
            .start_kind(StartKind::Unanchored)
            .dfa_size_limit(Some(BYTES_MAX))
            .determinize_size_limit(Some(WORK_BYTES_MAX));
        let nfa = thompson::Config::new().utf8(false).nfa_size_limit(Some(NFA_BYTES_MAX));
        let built = dense::Builder::new().syntax(syntax()).thompson(nfa).configure(limits).build(text);
        built.map(|automaton| Self { text: Arc::clone(text), automaton }).map_err(|_| TooLarge)
    }

    /// As it is written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.automaton.memory_usage()
    }

    /// Whether it is somewhere in a text.
    pub(super) fn is_in(&self, text: &str) -> bool {
        // It never quits: no byte was told to make it.
        self.automaton.try_search_fwd(&Input::new(text).earliest(true)).is_ok_and(|found| found.is_some())
    }
}

/// Whether a text is a pattern; else what is wrong with it, and how to fix it.
pub(super) fn is_good(written: &str) -> Result<(), (String, String)> {
    if written.len() > TEXT_BYTES_MAX {
        let message = format!("the pattern has {} bytes, more than the {TEXT_BYTES_MAX} allowed", written.len());
        return Err((message, "look for less, or ask in two parts: `s.matches(\"…\") && s.matches(\"…\")`".to_owned()));
    }
    syntax::parse_with(written, &syntax()).map(drop).map_err(|mistake| {
        let told = mistake.to_string();
        let why = told.rsplit("error: ").next().unwrap_or_default().trim().to_owned();
        (format!("the pattern is none: {why}"), "write a regular expression in RE2's syntax, with classes of ASCII".to_owned())
    })
}

fn syntax() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false).nest_limit(32)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_found_where_it_is() {
        for (text, within, found) in [
            ("^prod-[a-z]+$", "prod-eu", true),
            ("^prod-[a-z]+$", "prod-eu1", false),
            ("b+", "abba", true),
            ("(?i)PROD", "x-prod-1", true),
            ("", "", true),
            ("^ä$", "ä", true),
            (r"^\w$", "ä", false),
            ("a.c", "a\nc", false),
        ] {
            assert_eq!(Pattern::compile(&text.into()).unwrap().is_in(within), found, "{text} in {within}");
        }
    }

    #[test]
    fn what_is_compiled_takes_no_more_than_is_allowed() {
        for (text, fits) in [
            ("a[^x]{9}b", true),
            ("[ab]a[ab]{10}", false),
            ("((a{1,99}){1,99}){1,99}", false),
            // It would be small once it is compiled.
            ("((a;2,69|){1,97}1)0{1,9}", false),
            (r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$", true),
        ] {
            assert_eq!(is_good(text), Ok(()), "{text}");
            assert_eq!(Pattern::compile(&text.into()).is_ok_and(|pattern| pattern.bytes() <= BYTES_MAX), fits, "{text}");
        }
        assert!(is_good(&"a".repeat(256)).is_ok() && is_good(&"a".repeat(257)).is_err());
    }
}
