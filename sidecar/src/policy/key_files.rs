//! The key sets that documents name: their contents, and the keys read from them.
//!
//! A set that cannot be read any more keeps its last good keys; one that no document names is forgotten once nothing is served
//! that was declared earlier, since what is served in place of a mistake may name another file.

use crate::request::authn::{KeyFinding, Keys};
use bulkhead_config::compile::files_of;
use bulkhead_config::declared::DocumentId;
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics, Span};
use bulkhead_config::protocol::{Contents, Part, Put, Quarantined, Serving};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Key sets by the names that the compiled policy asks for.
#[derive(Default)]
pub(super) struct KeyFiles {
    contents: HashMap<Arc<str>, Arc<[u8]>>,
    keys: Arc<Keys>,
    findings: Vec<KeyFinding>,
    /// Which documents name which files.
    named: HashMap<DocumentId, Vec<Arc<str>>>,
}

impl KeyFiles {
    /// The keys of all issuers.
    pub(super) fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Takes in contents that are new. What became unreadable is kept as it was; the source has named it.
    pub(super) fn take(&mut self, files: &[(Arc<str>, Contents)]) {
        let mut is_new = false;
        for (name, contents) in files {
            let Some(contents) = contents else { continue };
            is_new |= self.contents.insert(Arc::clone(name), Arc::clone(contents)).as_ref() != Some(contents);
        }
        if is_new {
            self.load();
        }
    }

    /// Notes what a document names.
    pub(super) fn declare(&mut self, put: &Put) {
        let names: Vec<Arc<str>> = files_of(&put.document).collect();
        if names.is_empty() {
            self.named.remove(&put.document.id);
        } else {
            self.named.insert(put.document.id.clone(), names);
        }
    }

    /// A document is declared no more.
    pub(super) fn remove(&mut self, id: &DocumentId) {
        self.named.remove(id);
    }

    /// Forgets what no document names.
    pub(super) fn forget_unnamed(&mut self) {
        let named: HashSet<&Arc<str>> = self.named.values().flatten().collect();
        let before = self.contents.len();
        self.contents.retain(|name, _| named.contains(name));
        if self.contents.len() != before {
            self.load();
        }
    }

    /// Names that documents ask for and nobody has offered.
    pub(super) fn missing<'a>(&self, puts: impl IntoIterator<Item = &'a Put>) -> Vec<Arc<str>> {
        let names = puts.into_iter().flat_map(|put| files_of(&put.document));
        names.filter(|name| !self.contents.contains_key(name)).collect()
    }

    /// Sets that are not taken over.
    pub(super) fn quarantined(&self) -> impl Iterator<Item = Quarantined> {
        self.findings.iter().filter(|finding| finding.key.is_none()).map(|finding| Quarantined {
            part: Part::File(Arc::clone(&finding.file)),
            diagnostics: diagnostics(finding),
            serving: Serving::LastGood,
        })
    }

    /// Keys that are left out of sets.
    pub(super) fn warnings(&self) -> Diagnostics {
        let mut warnings = Diagnostics::new();
        for finding in self.findings.iter().filter(|finding| finding.key.is_some()) {
            warnings.append(diagnostics(finding));
        }
        warnings
    }

    fn load(&mut self) {
        let (keys, findings) = Keys::load(&self.contents, Some(&self.keys));
        self.keys = Arc::new(keys);
        self.findings = findings;
    }
}

fn diagnostics(finding: &KeyFinding) -> Diagnostics {
    let (pointer, message, hint) = match finding.key {
        Some(key) => (format!("/keys/{key}"), format!("the key is left out: {}", finding.fault), None),
        None => {
            let hint = "tokens are verified with the keys that were read last, if any".to_owned();
            (String::new(), format!("the key set is not taken over: {}", finding.fault), Some(hint))
        }
    };
    let mut diagnostics = Diagnostics::new();
    diagnostics.push(Diagnostic {
        file: Arc::clone(&finding.file),
        span: Span { line: 1, column: 1 },
        document: None,
        pointer: pointer.into(),
        message,
        expected: None,
        found: None,
        hint,
    });
    diagnostics
}
