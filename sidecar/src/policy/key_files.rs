//! The files that documents name: their contents, and what is read from them: keys of issuers, and what TLS needs.
//!
//! A set that cannot be read any more keeps its last good keys; one that no document names is forgotten once nothing is served
//! that was declared earlier, since what is served in place of a mistake may name another file.

use super::Map;
use crate::identity::{Kept, KeptSets, Server, Wanted, Wants};
use crate::request::authn::{KeyFinding, Keys};
use crate::tls::{self, Tls};
use bulkhead_config::compile::{Holds, files_of, introspection_of, key_urls_of};
use bulkhead_config::declared::DocumentId;
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics, Span};
use bulkhead_config::name::ServiceName;
use bulkhead_config::protocol::{Contents, Part, Put, Quarantined, Serving};
use bulkhead_config::snapshot::{IntrospectionUrl, KeyUrl, Platform};
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
    /// Which documents name which files and URLs.
    named: Map<DocumentId, Vec<Arc<str>>>,
    /// Key sets that are fetched.
    urls: HashMap<Arc<str>, Arc<KeyUrl>>,
    /// Servers that are asked about tokens.
    servers: HashMap<Arc<str>, Arc<IntrospectionUrl>>,
    /// When and as what they were.
    fetched: HashMap<Arc<str>, Kept>,
    /// Where they are kept; `None`: nowhere.
    kept: Option<KeptSets>,
    /// What is to be fetched has changed.
    wants_anew: bool,
}

impl KeyFiles {
    /// The keys of all issuers.
    pub(super) fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// For a process that has an endpoint with TLS in place of those that this service declares.
    pub(super) fn new(instead: Option<ServiceName>, kept: KeptSets) -> Self {
        Self { instead, kept: Some(kept), ..Self::default() }
    }

    /// Takes in contents that are new. What became unreadable is kept as it was; the source has named it.
    pub(super) fn take(&mut self, files: &[(Arc<str>, Contents)]) {
        let mut is_new = false;
        for (name, contents) in files {
            let Some(contents) = contents else { continue };
            is_new |= self.contents.insert(Arc::clone(name), Arc::clone(contents)).as_ref() != Some(contents);
        }
        if is_new {
            // Among them may be whom to believe.
            self.wants_anew |= files.iter().any(|(name, _)| !self.key_sets.contains(name));
            self.load();
        }
    }

    /// Notes when and as what a set was fetched, before it is taken. Whether a document still names it.
    pub(super) fn fetched(&mut self, name: &Arc<str>, set: Option<Arc<[u8]>>, kept: Kept) -> bool {
        if !self.urls.contains_key(name) {
            return false;
        }
        if let (Some(disk), Some(set)) = (&self.kept, set.as_ref().or_else(|| self.contents.get(name))) {
            // Where that fails, a restart asks the issuer as the very first start did; the trouble of the disk is told elsewhere.
            let _ = disk.write(name, &kept, set);
        }
        self.fetched.insert(Arc::clone(name), kept);
        true
    }

    /// Takes in what an earlier process fetched.
    pub(super) fn restore_fetched(&mut self) {
        let Some(disk) = &self.kept else { return };
        let absent = self.urls.keys().filter(|name| !self.contents.contains_key(*name));
        let found: Vec<_> = absent.filter_map(|name| disk.read(name).map(|found| (Arc::clone(name), found))).collect();
        if found.is_empty() {
            return;
        }
        for (name, (kept, set)) in found {
            self.fetched.insert(Arc::clone(&name), kept);
            self.contents.insert(name, set);
        }
        self.load();
    }

    /// Who is to be asked, if that is news.
    pub(super) fn newly_wanted(&mut self) -> Option<Wants> {
        std::mem::take(&mut self.wants_anew).then(|| {
            let wanted = |url: &Arc<KeyUrl>| Wanted {
                url: Arc::clone(url),
                roots: url.roots.as_ref().and_then(|file| self.contents.get(file).cloned()),
                kept: self.fetched.get(&url.name).cloned(),
            };
            let server = |asked: &Arc<IntrospectionUrl>| Server {
                asked: Arc::clone(asked),
                secret: self.contents.get(&asked.client_secret).cloned(),
                roots: asked.roots.as_ref().and_then(|file| self.contents.get(file).cloned()),
            };
            Wants { key_sets: self.urls.values().map(wanted).collect(), servers: self.servers.values().map(server).collect() }
        })
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

    /// Names of the files and URLs of a document; those of key sets are known as such from now on.
    fn learn(&mut self, put: &Put) -> Vec<Arc<str>> {
        let named = files_of(&put.document);
        let mut is_new = false;
        for one in named.iter().filter(|one| one.holds == Holds::KeySet) {
            is_new |= self.key_sets.insert(Arc::clone(&one.file)) && self.contents.contains_key(&one.file);
        }
        let urls = key_urls_of(&put.document);
        for url in &urls {
            is_new |= self.key_sets.insert(Arc::clone(&url.name)) && self.contents.contains_key(&url.name);
            self.wants_anew |= self.urls.insert(Arc::clone(&url.name), Arc::clone(url)).as_ref() != Some(url);
        }
        let server = introspection_of(&put.document);
        if let Some(server) = &server {
            self.wants_anew |= self.servers.insert(Arc::clone(&server.name), Arc::clone(server)).as_ref() != Some(server);
        }
        if is_new {
            self.load();
        }
        let asked = urls.iter().map(|url| &url.name).chain(server.iter().map(|server| &server.name)).cloned();
        named.into_iter().map(|one| one.file).chain(asked).collect()
    }

    /// A document is declared no more.
    pub(super) fn remove(&mut self, id: &DocumentId) {
        self.named.remove(id);
    }

    /// Forgets what no document names.
    pub(super) fn forget_unnamed(&mut self) {
        let named: HashSet<&Arc<str>> = self.named.values().flatten().collect();
        let before = self.contents.len();
        let kept = self.kept.as_ref();
        self.urls.retain(|name, _| {
            let is_named = named.contains(name);
            if !is_named {
                self.wants_anew = true;
                self.fetched.remove(name);
                if let Some(kept) = kept {
                    kept.forget(name);
                }
            }
            is_named
        });
        self.servers.retain(|name, _| {
            self.wants_anew |= !named.contains(name);
            named.contains(name)
        });
        self.contents.retain(|name, _| named.contains(name));
        self.key_sets.retain(|name| named.contains(name));
        if self.contents.len() != before {
            self.load();
        }
    }

    /// Names that documents ask for and nobody has offered.
    pub(super) fn missing<'a>(&mut self, puts: impl IntoIterator<Item = &'a Put>) -> Vec<Arc<str>> {
        let names: Vec<Arc<str>> = puts.into_iter().flat_map(|put| self.learn(put)).collect();
        let is_asked = |name: &Arc<str>| self.urls.contains_key(name) || self.servers.contains_key(name);
        names.into_iter().filter(|name| !self.contents.contains_key(name) && !is_asked(name)).collect()
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
