//! Mistakes with the document and the place they stand at.

use crate::declared::Document;
use crate::diagnostic::{Diagnostic, Diagnostics, Span, Spanned, nearest};
use std::sync::Arc;

/// Known names beyond this many are not searched for the nearest: a hint must not cost a walk over a hundred thousand tenants.
const NEAREST_AMONG_MAX: usize = 4_096;

/// A mistake at a value of a document.
pub(super) fn at<T>(document: &Document, place: &Spanned<T>, message: impl Into<String>) -> Diagnostic {
    new(document, place.span, Arc::clone(&place.pointer), message.into())
}

/// A mistake of a document as a whole, or of a field whose line is not known.
pub(super) fn in_document(document: &Document, pointer: &str, message: impl Into<String>) -> Diagnostic {
    new(document, document.origin.span, pointer.into(), message.into())
}

fn new(document: &Document, span: Span, pointer: Arc<str>, message: String) -> Diagnostic {
    let file = Arc::clone(&document.origin.file);
    let document = Some(document.id.to_string().into());
    Diagnostic { file, span, document, pointer, message, expected: None, found: None, hint: None }
}

/// Counts what documents of one scope hold, up to a bound: what is compiled of it, or asked of it by each request, must not grow
/// with the diligence of whoever writes documents.
#[derive(Debug)]
pub(super) struct Count {
    what: &'static str,
    most: usize,
    found: usize,
}

impl Count {
    pub(super) fn new(what: &'static str, most: usize) -> Self {
        Self { what, most, found: 0 }
    }

    /// Adds what a document holds. Whether the bound still holds; where it is passed is a mistake.
    pub(super) fn add(&mut self, document: &Document, more: usize, mistakes: &mut Mistakes) -> bool {
        let held = self.found <= self.most;
        self.found = self.found.saturating_add(more);
        if held && self.found > self.most {
            let message = format!("with this document there are {} {}, more than the {} allowed", self.found, self.what, self.most);
            mistakes.push(in_document(document, "", message));
        }
        self.found <= self.most
    }
}

/// Gathers mistakes, so that one run shows them all.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    /// What keeps a part from being served.
    pub(super) mistakes: Diagnostics,
    /// What is odd, but means something.
    pub(super) warnings: Diagnostics,
}

impl Mistakes {
    pub(super) fn push(&mut self, mistake: Diagnostic) {
        self.mistakes.push(mistake);
    }

    pub(super) fn warn(&mut self, warning: Diagnostic) {
        self.warnings.push(warning);
    }
}

/// What a mistake may say beyond its message.
pub(super) trait Hinted: Sized {
    /// How to fix it.
    fn hint(self, hint: impl Into<String>) -> Self;

    /// The nearest of the names that are known; where there are none, that.
    fn nearest<'a>(self, written: &str, known: impl IntoIterator<Item = &'a str>, what: &str) -> Self;
}

impl Hinted for Diagnostic {
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn nearest<'a>(self, written: &str, known: impl IntoIterator<Item = &'a str>, what: &str) -> Self {
        let mut known: Vec<&str> = known.into_iter().take(NEAREST_AMONG_MAX + 1).collect();
        if known.len() > NEAREST_AMONG_MAX {
            return self;
        }
        // Sorted, so that the same documents give the same hint.
        known.sort_unstable();
        known.dedup();
        if known.is_empty() {
            return self.hint(format!("no {what} is declared"));
        }
        match nearest(written, known.iter().copied()) {
            Some(name) => self.hint(format!("did you mean `{name}`?")),
            None if known.len() <= 8 => self.hint(format!("known: {}", known.join(", "))),
            None => self,
        }
    }
}
