//! The files that documents name: their contents, and what is read from them: keys of issuers, and what TLS needs.
//!
//! A set that cannot be read any more keeps its last good keys; one that no document names is forgotten once nothing is served
//! that was declared earlier, since what is served in place of a mistake may name another file.

use crate::request::authn::{KeyFinding, Keys};
use crate::tls::{self, Tls};
use bulkhead_config::compile::{Holds, files_of};
use bulkhead_config::declared::DocumentId;
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics, Span};
use bulkhead_config::name::ServiceName;
use bulkhead_config::protocol::{Contents, Part, Put, Quarantined, Serving};
use bulkhead_config::snapshot::Platform;
use bulkhead_config::unit::UnixSeconds;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Files by the names that the compiled policy asks for.
#[derive(Default)]
pub(super) struct KeyFiles {
    contents: HashMap<Arc<str>, Arc<[u8]>>,
    /// Those that are key sets, whatever else they are.
    key_sets: HashSet<Arc<str>>,
    keys: Arc<Keys>,
    findings: Vec<KeyFinding>,
    tls: Arc<Tls>,
    tls_findings: tls::Findings,
    /// A service whose upstreams are replaced by an endpoint with TLS.
    instead: Option<ServiceName>,
    /// Which documents name which files.
    named: HashMap<DocumentId, Vec<Arc<str>>>,
}

impl KeyFiles {
    /// The keys of all issuers.
    pub(super) fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// For a process that has an endpoint with TLS in place of those that this service declares.
    pub(super) fn new(instead: Option<ServiceName>) -> Self {
        Self { instead, ..Self::default() }
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

    /// Makes what TLS needs by what is declared now.
    pub(super) fn tls(&mut self, platform: &Platform, now: UnixSeconds) -> &Arc<Tls> {
        (self.tls, self.tls_findings) = Tls::load(platform, self.instead.as_ref(), &self.contents, &self.tls, now);
        &self.tls
    }

    /// Notes what a document names. To be called before the files are taken.
    pub(super) fn declare(&mut self, put: &Put) {
        let names = self.learn(put);
        if names.is_empty() {
            self.named.remove(&put.document.id);
        } else {
            self.named.insert(put.document.id.clone(), names);
        }
    }

    /// Names of the files of a document; those of key sets are known as such from now on.
    fn learn(&mut self, put: &Put) -> Vec<Arc<str>> {
        let named = files_of(&put.document);
        let mut is_new = false;
        for one in named.iter().filter(|one| one.holds == Holds::KeySet) {
            is_new |= self.key_sets.insert(Arc::clone(&one.file)) && self.contents.contains_key(&one.file);
        }
        if is_new {
            self.load();
        }
        named.into_iter().map(|one| one.file).collect()
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
        self.key_sets.retain(|name| named.contains(name));
        if self.contents.len() != before {
            self.load();
        }
    }

    /// Names that documents ask for and nobody has offered.
    pub(super) fn missing<'a>(&mut self, puts: impl IntoIterator<Item = &'a Put>) -> Vec<Arc<str>> {
        let names: Vec<Arc<str>> = puts.into_iter().flat_map(|put| self.learn(put)).collect();
        names.into_iter().filter(|name| !self.contents.contains_key(name)).collect()
    }

    /// Files that are not taken over.
    pub(super) fn quarantined(&self) -> impl Iterator<Item = Quarantined> {
        let quarantined =
            |file: &Arc<str>, diagnostics| Quarantined { part: Part::File(Arc::clone(file)), diagnostics, serving: Serving::LastGood };
        let sets = self.findings.iter().filter(|finding| finding.key.is_none());
        let sets = sets.map(move |finding| quarantined(&finding.file, diagnostics(finding)));
        let mut refused: BTreeMap<&Arc<str>, Diagnostics> = BTreeMap::new();
        for one in &self.tls_findings.refused {
            refused.entry(&one.file).or_default().push(one.clone());
        }
        sets.chain(refused.into_iter().map(move |(file, diagnostics)| quarantined(file, diagnostics)))
    }

    /// Keys that are left out of sets, and certificates that are odd.
    pub(super) fn warnings(&self) -> Diagnostics {
        let mut warnings = self.tls_findings.warnings.clone();
        for finding in self.findings.iter().filter(|finding| finding.key.is_some()) {
            warnings.append(diagnostics(finding));
        }
        warnings
    }

    fn load(&mut self) {
        let is_set = |(name, _): &(&Arc<str>, &Arc<[u8]>)| self.key_sets.contains(*name);
        let sets: HashMap<_, _> = self.contents.iter().filter(is_set).map(|(name, set)| (Arc::clone(name), Arc::clone(set))).collect();
        let (keys, findings) = Keys::load(&sets, Some(&self.keys));
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
