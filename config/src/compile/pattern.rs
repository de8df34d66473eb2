//! Patterns of the conditions of one part: each distinct one is compiled once, and all of them have a bound together.
//!
//! A pattern of thirty bytes can take 64 KiB, so that a bound on documents and rules alone would be none on memory. What is compiled
//! already is taken over from the version before: a change of the platform compiles the tenants again, and their patterns are the same.

use super::Map;
use super::mistake::{Hinted, Mistakes, at};
use crate::condition::{Condition, PATTERN_BYTES_MAX as BYTES_MAX, Pattern};
use crate::declared::Document;
use crate::declared::role::{Rule, When};
use crate::diagnostic::Spanned;
use crate::snapshot::{Asks, CompiledRule, Scope};
use crate::text::show_text;
use std::sync::Arc;

/// Bytes that the compiled patterns of the platform may take together, and those of one tenant.
const PLATFORM_BYTES_MAX: usize = 8 << 20;
const TENANT_BYTES_MAX: usize = 1 << 20;

/// The patterns of one part.
pub(super) struct Patterns<'b> {
    /// The rules of the version before, by route.
    rules_before: &'b [Arc<[CompiledRule]>],
    /// Their patterns by text, gathered when the first one is asked for.
    made_before: Option<Map<&'b str, &'b Arc<Pattern>>>,
    /// By text; nothing for one that is too large.
    known: Map<Arc<str>, Option<Arc<Pattern>>>,
    bytes: usize,
    most: usize,
}

impl<'b> Patterns<'b> {
    pub(super) fn new(scope: Scope, rules_before: &'b [Arc<[CompiledRule]>]) -> Self {
        let most = match scope {
            Scope::Platform => PLATFORM_BYTES_MAX,
            Scope::Tenant => TENANT_BYTES_MAX,
        };
        Self { rules_before, made_before: None, known: Map::default(), bytes: 0, most }
    }

    /// What a rule asks, with its patterns; nothing where it asks nothing. A rule with a mistake is never served, so it may lack some.
    pub(super) fn asks(&mut self, document: &Document, rule: &Spanned<Rule>, text: &str, mistakes: &mut Mistakes) -> Option<Arc<Asks>> {
        if rule.when == When::default() {
            return None;
        }
        let written = rule.when.condition.as_ref().map_or(&[][..], Condition::patterns);
        let mut patterns = Vec::with_capacity(written.len());
        for pattern in written {
            match self.compiled(pattern) {
                Ok(compiled) => patterns.push(compiled),
                Err(Refused::TooLarge) => {
                    let message = format!(
                        "pattern {} of rule `{text}` takes more than {BYTES_MAX} bytes compiled, or too much to compile",
                        show_text(pattern)
                    );
                    mistakes.push(at(document, rule, message).hint(SMALLER));
                }
                Err(Refused::NoRoom { takes, all }) => {
                    let message = format!(
                        "with pattern {} of rule `{text}`, which takes {takes} bytes, all patterns here take {all} bytes compiled, \
                         more than the {} allowed",
                        show_text(pattern),
                        self.most
                    );
                    mistakes.push(at(document, rule, message).hint(format!("equal ones count once; {SMALLER}")));
                }
                Err(Refused::WasFull) => {}
            }
        }
        Some(Arc::new(Asks { when: rule.when.clone(), patterns: patterns.into() }))
    }

    fn compiled(&mut self, text: &Arc<str>) -> Result<Arc<Pattern>, Refused> {
        if let Some(known) = self.known.get(text) {
            return known.clone().ok_or(Refused::TooLarge);
        }
        if self.bytes > self.most {
            return Err(Refused::WasFull);
        }
        let Ok(pattern) = self.before(text).map_or_else(|| Pattern::compile(text).map(Arc::new), Ok) else {
            // What came to nothing took its time: it counts, so that there is an end to it.
            self.bytes = self.bytes.saturating_add(BYTES_MAX);
            self.known.insert(Arc::clone(text), None);
            return Err(Refused::TooLarge);
        };
        self.bytes = self.bytes.saturating_add(pattern.bytes());
        if self.bytes > self.most {
            return Err(Refused::NoRoom { takes: pattern.bytes(), all: self.bytes });
        }
        self.known.insert(Arc::clone(text), Some(Arc::clone(&pattern)));
        Ok(pattern)
    }

    /// What the version before made of a text.
    fn before(&mut self, text: &str) -> Option<Arc<Pattern>> {
        let rules = self.rules_before;
        let made = self.made_before.get_or_insert_with(|| {
            let asks = rules.iter().flat_map(|rules| &**rules).filter_map(|rule| rule.when.as_deref());
            asks.flat_map(|asks| &asks.patterns).map(|pattern| (pattern.text(), pattern)).collect()
        });
        made.get(text).map(|pattern| Arc::clone(pattern))
    }
}

/// Why there is no compiled pattern.
enum Refused {
    TooLarge,
    /// All take too much with this one.
    NoRoom {
        takes: usize,
        all: usize,
    },
    /// They took too much already, which was told.
    WasFull,
}

/// How to write a pattern that takes less.
const SMALLER: &str =
    "repetitions such as `{1,50}`, and several `.*`, make one large; `startsWith`, `endsWith`, `contains` and `in` take nothing";

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use crate::compile::Catalogue;
    use crate::declared::read_file;
    use crate::protocol::{Offer, Put};

    const PLATFORM: &str = "kind: Service\nname: s\nlisteners: [{ name: http, address: 127.0.0.1:0 }]\n\
        upstreams: [{ name: app, endpoints: [\"http://127.0.0.1:1\"] }]\nroutes: [{ name: items, path: /items }]\n";
    const TENANT: &str = "kind: Tenant\ntenant_id: t\nname: T\nemail: t@t.test\nhosts: [t.test]\n";

    fn offer(text: &str) -> Offer {
        let documents = read_file("all", text).documents.into_iter();
        Offer { put: documents.map(|document| Put { document, text: "".into() }).collect(), ..Offer::default() }
    }

    /// The patterns that tenant `t` is served with, one for each rule that has one.
    fn served(catalogue: &Catalogue) -> Vec<Arc<Pattern>> {
        let slice = catalogue.snapshot().tenant("t").unwrap();
        let rules = slice.policy.rules.iter().flat_map(|rules| &**rules);
        rules.flat_map(|rule| rule.when.as_ref().unwrap().patterns.to_vec()).collect()
    }

    #[test]
    fn equal_patterns_are_compiled_once_and_not_again_when_something_else_changes() {
        let rule = |pattern: &str| {
            format!("  - {{ methods: [GET], paths: [/items], when: {{ condition: 'claims.a.matches(\"{pattern}\")' }} }}\n")
        };
        let role = |name: &str| format!("---\nkind: Role\ntenant: t\nname: {name}\nallow:\n{}{}", rule("^a"), rule("^b"));
        let mut catalogue = Catalogue::new();
        let outcome = catalogue.apply(&offer(&format!("{PLATFORM}---\n{TENANT}{}{}", role("one"), role("two"))));
        assert!(outcome.quarantined.is_empty(), "{:?}", outcome.quarantined);
        let first = served(&catalogue);
        let [a, b, again_a, again_b] = first.as_slice() else { panic!("{first:?}") };
        assert!(Arc::ptr_eq(a, again_a) && Arc::ptr_eq(b, again_b) && !Arc::ptr_eq(a, b));
        catalogue.apply(&offer(&PLATFORM.replace("path: /items", "path: '/{any}'")));
        let second = served(&catalogue);
        assert_eq!(second.len(), 4);
        assert!(first.iter().zip(&second).all(|(a, b)| Arc::ptr_eq(a, b)));
    }

    #[test]
    fn patterns_have_room_up_to_a_bound_and_equal_ones_take_it_once() {
        let mut patterns = Patterns::new(Scope::Tenant, &[]);
        // Other texts, and the same automaton.
        let of = |n: usize| -> Arc<str> { format!("a[^x]{{9}}b{}", "(?:)".repeat(n)).into() };
        let one = patterns.compiled(&of(0)).unwrap_or_else(|_| panic!("one has room")).bytes();
        let most = (1..).take_while(|n| patterns.compiled(&of(*n)).is_ok()).count() + 1;
        assert!((most..most + 2).contains(&(TENANT_BYTES_MAX / one)), "{most} of {one} bytes");
        assert!(patterns.compiled(&of(0)).is_ok(), "what is there takes nothing");
        assert!(matches!(patterns.compiled(&of(most + 1)), Err(Refused::WasFull)));
    }

    #[test]
    fn patterns_that_are_too_large_take_room_too_so_that_trying_them_ends() {
        let mut patterns = Patterns::new(Scope::Tenant, &[]);
        let tried =
            (0..).take_while(|n| matches!(patterns.compiled(&format!("[ab]a[ab]{{10}}{n}").into()), Err(Refused::TooLarge))).count();
        assert_eq!(tried, TENANT_BYTES_MAX / BYTES_MAX + 1);
    }
}
