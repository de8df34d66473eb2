//! The compiler behind a wall: a panic in it (a defect of ours) keeps the parts that cause it from being served anew, and
//! nothing else.
//!
//! Which part it is nobody says, so the parts of the change are held and released again by halves until the one is found.

use bulkhead_config::compile::{Catalogue, Mode, Outcome};
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics, Span};
use bulkhead_config::protocol::{Offer, Part, Quarantined, Serving};
use bulkhead_config::snapshot::{Epoch, Snapshot};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Why a part is held that the compiler fails on.
const DEFECT: &str = "a defect of Bulkhead keeps it from being compiled";

/// What is called of the compiler. It takes in what it is told before it compiles, so that after a panic it can be told to hold
/// what it took in.
pub(super) trait Compiler {
    fn apply(&mut self, offer: &Offer) -> Outcome;
    fn hold(&mut self, parts: Vec<(Part, Diagnostics)>) -> Outcome;
    fn release(&mut self, parts: &[Part]) -> Outcome;
    fn snapshot(&self) -> &Arc<Snapshot>;
}

impl Compiler for Catalogue {
    fn apply(&mut self, offer: &Offer) -> Outcome {
        Catalogue::apply(self, offer)
    }
    fn hold(&mut self, parts: Vec<(Part, Diagnostics)>) -> Outcome {
        Catalogue::hold(self, parts)
    }
    fn release(&mut self, parts: &[Part]) -> Outcome {
        Catalogue::release(self, parts)
    }
    fn snapshot(&self) -> &Arc<Snapshot> {
        Catalogue::snapshot(self)
    }
}

/// A compiler whose panics are caught.
pub(super) struct Contained<C = Catalogue> {
    compiler: C,
    held: BTreeSet<Part>,
    quarantined: Vec<Quarantined>,
}

impl Contained {
    /// Nothing declared yet; revisions go on from here.
    pub(super) fn since(epoch: Epoch, mode: Mode) -> Self {
        Self::new(Catalogue::since(epoch).in_mode(mode))
    }
}

impl<C: Compiler> Contained<C> {
    fn new(compiler: C) -> Self {
        Self { compiler, held: BTreeSet::new(), quarantined: Vec::new() }
    }

    /// Whether a part is kept from being served as declared.
    pub(super) fn is_held(&self, part: &Part) -> bool {
        self.held.contains(part)
    }

    /// Takes in a change.
    pub(super) fn apply(&mut self, offer: &Offer) -> Outcome {
        let outcome = match guarded(|| self.compiler.apply(offer)) {
            Some(outcome) => outcome,
            None => self.contain(&parts_of(offer)),
        };
        self.remember(outcome)
    }

    /// Keeps parts from being served as declared.
    pub(super) fn hold(&mut self, parts: Vec<(Part, Diagnostics)>) -> Outcome {
        let names: Vec<Part> = parts.iter().map(|(part, _)| part.clone()).collect();
        self.held.extend(names.iter().cloned());
        let outcome = match guarded(|| self.compiler.hold(parts)) {
            Some(outcome) => outcome,
            None => self.contain(&names),
        };
        self.remember(outcome)
    }

    /// Lets parts be served as declared again.
    pub(super) fn release(&mut self, parts: &[Part]) -> Outcome {
        for part in parts {
            self.held.remove(part);
        }
        let outcome = match guarded(|| self.compiler.release(parts)) {
            Some(outcome) => outcome,
            None => self.contain(parts),
        };
        self.remember(outcome)
    }

    /// Finds out on which of these parts the compiler fails, and holds them.
    fn contain(&mut self, parts: &[Part]) -> Outcome {
        let parts: Vec<Part> = parts.iter().filter(|part| !self.held.contains(part)).cloned().collect();
        if guarded(|| self.compiler.hold(parts.iter().map(defective).collect())).is_none() {
            return self.as_before(&parts);
        }
        let mut changed = Vec::new();
        if parts.len() > 1 {
            let (these, those) = parts.split_at(parts.len() / 2);
            self.release_by_halves(these, &mut changed);
            self.release_by_halves(those, &mut changed);
        } else {
            self.held.extend(parts.iter().cloned());
        }
        match guarded(|| self.compiler.hold(Vec::new())) {
            Some(outcome) => Outcome { changed, ..outcome },
            None => self.as_before(&parts),
        }
    }

    /// Releases parts that are held, but for those on which the compiler fails.
    fn release_by_halves(&mut self, parts: &[Part], changed: &mut Vec<Part>) {
        if let Some(outcome) = guarded(|| self.compiler.release(parts)) {
            changed.extend(outcome.changed);
            return;
        }
        // Should even this fail, the last call of `contain` fails too, and says so.
        guarded(|| self.compiler.hold(parts.iter().map(defective).collect()));
        if parts.len() > 1 {
            let (these, those) = parts.split_at(parts.len() / 2);
            self.release_by_halves(these, changed);
            self.release_by_halves(those, changed);
        } else {
            self.held.extend(parts.iter().cloned());
        }
    }

    /// Where nothing can be compiled any more everything stays as it is, and says so.
    fn as_before(&self, parts: &[Part]) -> Outcome {
        let mut quarantined = self.quarantined.clone();
        quarantined.retain(|known| !parts.contains(&known.part));
        quarantined.extend(parts.iter().map(|part| {
            let (part, diagnostics) = defective(part);
            Quarantined { part, diagnostics, serving: Serving::LastGood }
        }));
        Outcome { snapshot: Arc::clone(self.compiler.snapshot()), changed: Vec::new(), quarantined, warnings: Diagnostics::new() }
    }

    fn remember(&mut self, outcome: Outcome) -> Outcome {
        self.quarantined.clone_from(&outcome.quarantined);
        outcome
    }
}

/// What it gives, unless it panics.
fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

/// Every part that an offer is about.
fn parts_of(offer: &Offer) -> Vec<Part> {
    let put = offer.put.iter().map(|put| &put.document.id);
    let broken = offer.broken.iter().filter_map(|broken| broken.id.as_ref());
    let parts: BTreeSet<Part> = put.chain(&offer.remove).chain(broken).map(Part::of).collect();
    parts.into_iter().collect()
}

fn defective(part: &Part) -> (Part, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    diagnostics.push(Diagnostic {
        file: part.to_string().into(),
        span: Span { line: 1, column: 1 },
        document: None,
        pointer: "".into(),
        message: DEFECT.to_owned(),
        expected: None,
        found: None,
        hint: Some("please report it with these documents; it is tried again when they change".to_owned()),
    });
    (part.clone(), diagnostics)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use bulkhead_config::declared::read_document;
    use bulkhead_config::protocol::Put;

    /// A compiler with a defect: it panics over documents that say `crash`, unless their part is held.
    struct Defective {
        sound: Catalogue,
        declared: Vec<Part>,
        held: BTreeSet<Part>,
    }

    impl Defective {
        fn compile(&self) {
            if self.declared.iter().any(|part| !self.held.contains(part)) {
                panic!("a defect");
            }
        }
    }

    impl Compiler for Defective {
        fn apply(&mut self, offer: &Offer) -> Outcome {
            for put in &offer.put {
                let part = Part::of(&put.document.id);
                self.declared.retain(|known| *known != part);
                if put.text.contains("crash") {
                    self.declared.push(part);
                }
            }
            self.compile();
            self.sound.apply(offer)
        }
        fn hold(&mut self, parts: Vec<(Part, Diagnostics)>) -> Outcome {
            self.held.extend(parts.iter().map(|(part, _)| part.clone()));
            self.compile();
            self.sound.hold(parts)
        }
        fn release(&mut self, parts: &[Part]) -> Outcome {
            self.held.retain(|part| !parts.contains(part));
            self.compile();
            self.sound.release(parts)
        }
        fn snapshot(&self) -> &Arc<Snapshot> {
            self.sound.snapshot()
        }
    }

    fn tenant(name: &str, title: &str) -> Put {
        let text = format!("tenant_id: {name}\nname: {title}\nemail: a@b.example\n");
        Put { document: read_document("t.yaml", &text).unwrap(), text: text.into() }
    }

    fn offer(put: Vec<Put>) -> Offer {
        Offer { put, ..Offer::default() }
    }

    fn names(outcome: &Outcome) -> Vec<String> {
        outcome.quarantined.iter().map(|quarantined| quarantined.part.to_string()).collect()
    }

    #[test]
    fn a_panic_of_the_compiler_costs_the_parts_that_cause_it_alone() {
        let compiler = Defective { sound: Catalogue::new(), declared: Vec::new(), held: BTreeSet::new() };
        let mut contained = Contained::new(compiler);
        contained.apply(&offer(vec![tenant("t0", "good")]));
        let crowd = (0..50).map(|n| tenant(&format!("t{n}"), if n % 20 == 7 { "crash" } else { "good" }));
        let outcome = contained.apply(&offer(crowd.collect()));
        assert_eq!(names(&outcome), ["tenant t27", "tenant t47", "tenant t7"]);
        assert!(contained.is_held(&Part::Tenant("t7".parse().unwrap())));
        assert!(!contained.is_held(&Part::Tenant("t8".parse().unwrap())));

        // Others go on while those are held.
        assert_eq!(names(&contained.apply(&offer(vec![tenant("t1", "changed")]))).len(), 3);
        // A version without what it fails on is served again.
        contained.apply(&offer(vec![tenant("t7", "good")]));
        let outcome = contained.release(&[Part::Tenant("t7".parse().unwrap())]);
        assert_eq!(names(&outcome), ["tenant t27", "tenant t47"]);
    }
}
