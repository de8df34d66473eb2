//! One reading of a folder after another: what changed since the last one, as an offer.
//!
//! Only files whose stamp changed are read, and only those whose bytes changed are parsed. What cannot be read takes nothing
//! away: a document is removed when its file was read without mistakes and without it, or is gone. A document that stands in two
//! files counts in neither, or the order of reading would decide.

use super::super::Map;
use super::file::{self, Contents, Digest, Due, KEY_FILE_BYTES_MAX, Reading, digest};
use super::list::{Listing, Stamp, list};
use crate::clock::{Clock, Origin as ClockOrigin};
use bulkhead_config::compile::misplaced_key_set;
use bulkhead_config::declared::{DocumentId, Origin};
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics, Span};
use bulkhead_config::protocol::{Broken, Offer, Put};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Documents of one unreadable file that are named one by one; of more, the file is named.
const NAMED_MAX: usize = 64;

/// What is known of a folder.
pub(crate) struct Scan {
    root: PathBuf,
    files: BTreeMap<Arc<Path>, Seen>,
    /// In which files a document stands.
    holders: Map<DocumentId, Vec<Arc<Path>>>,
    /// Documents that stand in several.
    rivals: BTreeSet<DocumentId>,
    keys: BTreeMap<Arc<str>, KeyFile>,
    /// What was last told to be broken.
    broken: Vec<Broken>,
    clock: Clock,
    is_first: bool,
}

/// A file as it was last read.
struct Seen {
    /// As the user named the folder, and the path within it.
    shown: Arc<str>,
    /// `None`: it is read again, whatever its stamp.
    stamp: Option<Stamp>,
    /// `None`: it could not be read.
    digest: Option<Digest>,
    /// By identity.
    holds: Vec<(DocumentId, Held)>,
    mistakes: Diagnostics,
    /// Files that its documents name: key sets, certificates, keys.
    keys: Vec<Arc<str>>,
}

/// How a file holds a document.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Held {
    /// It was read.
    Good { digest: Digest, span: Span },
    /// It was recognised, with mistakes.
    Broken,
    /// It was there, and mistakes in the file leave open whether it is gone.
    Hidden,
}

/// A file that documents name.
#[derive(Default)]
struct KeyFile {
    stamp: Option<Stamp>,
    /// What was last told of it; the inner `None`: that it cannot be read.
    told: Option<Option<Digest>>,
    trouble: Option<String>,
}

/// What one reading finds.
#[derive(Default)]
struct Round {
    /// Documents to tell anew.
    touched: Vec<DocumentId>,
    /// Documents of the files that were parsed.
    fresh: Map<Arc<Path>, Map<DocumentId, Put>>,
}

impl Scan {
    /// Knows nothing yet of the folder (or single file) `root`.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            files: BTreeMap::new(),
            holders: Map::default(),
            rivals: BTreeSet::new(),
            keys: BTreeMap::new(),
            broken: Vec::new(),
            clock: Clock::new(ClockOrigin::begin()),
            is_first: true,
        }
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Reads the folder: what changed since the last reading, `None` when nothing did. `enter` is called for each directory
    /// before what is in it is looked at.
    pub(crate) fn read(&mut self, enter: &mut dyn FnMut(&Path, &Metadata)) -> Option<Offer> {
        self.clock.correct();
        let mut listing = list(&self.root, enter);
        self.doubt(&mut listing);
        let mut round = Round::default();
        self.refresh(listing.files.iter().map(|(path, stamp)| (&**path, *stamp)), &mut round);
        self.forget_gone(&listing, &mut round);
        self.reread_holders(&listing, &mut round);

        let mut offer = Offer { complete: std::mem::take(&mut self.is_first), ..Offer::default() };
        self.tell_documents(round, &mut offer);
        self.tell_keys(enter, &mut offer);
        let broken = self.all_broken(&listing);
        let before = std::mem::replace(&mut self.broken, broken);
        let (broken, mut is_news) = news(&before, &self.broken);
        offer.broken = broken;
        is_news |= offer.complete || !offer.put.is_empty() || !offer.remove.is_empty() || !offer.files.is_empty();
        is_news.then_some(offer)
    }

    /// Everything gone at once is a lost mount or a copy under way far more often than a wish to serve nobody: then nothing is gone.
    fn doubt(&self, listing: &mut Listing) {
        let was_folder_with_files = self.files.keys().any(|path| **path != *self.root);
        let is_empty = listing.files.is_empty() && listing.unlisted.is_empty();
        let is_file = listing.files.contains_key(&self.root);
        if was_folder_with_files && (is_empty || is_file) {
            let why = if is_file { "it was a folder and is a file now" } else { "no file of documents is in it any more" };
            listing.unlisted.push((self.root.clone(), why.to_owned()));
        }
    }

    /// Reads files that may have changed, and parses those that did.
    fn refresh<'p>(&mut self, files: impl Iterator<Item = (&'p Path, Stamp)>, round: &mut Round) {
        let now_ms = self.clock.now().unix_ms;
        let due: Vec<Due<'_>> = files.filter_map(|(path, stamp)| Due::of(path, stamp, self.files.get(path))).collect();
        for (due, read) in due.iter().zip(file::read_all(&due)) {
            let stamp = due.stamp.is_settled(now_ms).then_some(due.stamp);
            match (read, self.files.get_mut(due.path)) {
                (Reading { digest, contents: Some(contents) }, _) => {
                    let seen = Seen { stamp, digest, ..Seen::of(Arc::clone(&due.shown), &contents) };
                    self.learn(due.path, seen, contents, round);
                }
                (Reading { contents: None, .. }, Some(seen)) => seen.stamp = stamp,
                // What nothing is known of is never the same.
                (Reading { contents: None, .. }, None) => {}
            }
        }
    }

    /// Takes over what a file holds now.
    fn learn(&mut self, path: &Path, mut seen: Seen, contents: Contents, round: &mut Round) {
        let path: Arc<Path> = path.into();
        let before = self.files.remove(&path);
        if let Some(before) = &before {
            seen.keep(before, contents.hides);
        }
        let old = before.map(|seen| seen.holds).unwrap_or_default();
        for (id, held) in &seen.holds {
            match find(&old, id) {
                Some(known) if known == held => {}
                Some(_) => {
                    round.touched.push(id.clone());
                }
                None => {
                    self.holders.entry(id.clone()).or_default().push(Arc::clone(&path));
                    round.touched.push(id.clone());
                }
            }
        }
        for (id, _) in old {
            if find(&seen.holds, &id).is_none() {
                self.let_go(&path, id, round);
            }
        }
        round.fresh.insert(Arc::clone(&path), contents.puts.into_iter().map(|put| (put.document.id.clone(), put)).collect());
        self.files.insert(path, seen);
    }

    /// A file no longer holds a document.
    fn let_go(&mut self, path: &Path, id: DocumentId, round: &mut Round) {
        if let Some(holders) = self.holders.get_mut(&id) {
            holders.retain(|holder| **holder != *path);
        }
        round.touched.push(id);
    }

    /// Files that are not there any more take their documents along.
    fn forget_gone(&mut self, listing: &Listing, round: &mut Round) {
        let gone = |path: &Path| !listing.files.contains_key(path) && !listing.may_hide(path);
        let gone: Vec<Arc<Path>> = self.files.keys().filter(|path| gone(path)).cloned().collect();
        for path in gone {
            for (id, _) in self.files.remove(&path).map(|seen| seen.holds).unwrap_or_default() {
                self.let_go(&path, id, round);
            }
        }
    }

    /// Where a rival is gone, the file that is left tells its document, which nobody kept.
    fn reread_holders(&mut self, listing: &Listing, round: &mut Round) {
        loop {
            let unread = |id: &DocumentId| match self.holders.get(id).map(Vec::as_slice) {
                Some([only]) if !round.fresh.contains_key(only) => Some(Arc::clone(only)),
                _ => None,
            };
            let paths: BTreeSet<Arc<Path>> = round.touched.iter().filter_map(unread).collect();
            if paths.is_empty() {
                return;
            }
            for path in paths {
                if let Some(seen) = self.files.get_mut(&path) {
                    (seen.stamp, seen.digest) = (None, None);
                }
                match listing.files.get(&*path) {
                    Some(stamp) => self.refresh(std::iter::once((&*path, *stamp)), round),
                    None => {
                        round.fresh.insert(path, Map::default());
                    }
                }
            }
        }
    }

    /// Puts and removes what was touched.
    fn tell_documents(&mut self, mut round: Round, offer: &mut Offer) {
        // In one order, whatever order the files came in. They come in runs that are sorted already.
        round.touched.sort();
        round.touched.dedup();
        for id in round.touched {
            let holders = self.holders.get(&id).map_or(&[][..], Vec::as_slice);
            if holders.len() > 1 {
                self.rivals.insert(id);
                continue;
            }
            self.rivals.remove(&id);
            match holders.first() {
                Some(only) => offer.put.extend(round.fresh.get_mut(only).and_then(|puts| puts.remove(&id))),
                None => {
                    self.holders.remove(&id);
                    offer.remove.push(id);
                }
            }
        }
    }

    /// Reads the files that documents name and that may have changed.
    fn tell_keys(&mut self, enter: &mut dyn FnMut(&Path, &Metadata), offer: &mut Offer) {
        let named: BTreeSet<Arc<str>> = self.files.values().flat_map(|seen| seen.keys.iter().cloned()).collect();
        self.keys.retain(|name, _| named.contains(name));
        let now_ms = self.clock.now().unix_ms;
        for name in named {
            let path = Path::new(&*name);
            if let Some((folder, metadata)) = path.parent().and_then(|folder| Some((folder, here(folder).metadata().ok()?))) {
                enter(here(folder), &metadata);
            }
            let key = self.keys.entry(Arc::clone(&name)).or_default();
            let stamp = path.metadata().ok().map(|metadata| Stamp::of(&metadata));
            if stamp.is_some() && key.stamp == stamp {
                continue;
            }
            key.stamp = stamp.filter(|stamp| stamp.is_settled(now_ms));
            let read = file::bytes(path, KEY_FILE_BYTES_MAX);
            let told = read.as_ref().ok().map(|bytes| digest(bytes));
            if key.told != Some(told) {
                key.told = Some(told);
                offer.files.push((name, read.as_ref().ok().map(|bytes| bytes.as_slice().into())));
            }
            key.trouble = read.err().map(|why| why.to_string());
        }
    }

    /// Everything that cannot be read, in the order of files.
    fn all_broken(&self, listing: &Listing) -> Vec<Broken> {
        let is_key_set = |seen: &Seen| !seen.mistakes.is_empty() && self.keys.contains_key(&seen.shown);
        let broken = |seen: &Seen| match is_key_set(seen) {
            true => vec![Broken { file: Arc::clone(&seen.shown), id: None, diagnostics: one(misplaced_key_set(&seen.shown)) }],
            false => seen.broken(),
        };
        let mut all: Vec<Broken> = self.files.values().flat_map(broken).collect();
        for id in &self.rivals {
            let holders = self.holders.get(id).map_or(&[][..], Vec::as_slice);
            let origins: Vec<Origin> = holders.iter().filter_map(|path| self.files.get(path)?.origin(id)).collect();
            let rivalry = |origin: &Origin| one(file::rivalry(id, origin, &origins));
            all.extend(origins.iter().map(|origin| Broken {
                file: Arc::clone(&origin.file),
                id: Some(id.clone()),
                diagnostics: rivalry(origin),
            }));
        }
        for (path, why) in &listing.unlisted {
            let shown: Arc<str> = path.to_string_lossy().into();
            all.push(Broken { diagnostics: one(file::unreadable(&shown, why)), file: shown, id: None });
        }
        for (name, key) in &self.keys {
            if let Some(why) = &key.trouble {
                all.push(Broken { file: Arc::clone(name), id: None, diagnostics: one(keys_unreadable(name, why)) });
            }
        }
        all.sort_by(|a, b| (&a.file, &a.id).cmp(&(&b.file, &b.id)));
        all
    }
}

impl Seen {
    /// What a parsed file holds.
    fn of(shown: Arc<str>, contents: &Contents) -> Self {
        let good = contents
            .puts
            .iter()
            .map(|put| (put.document.id.clone(), Held::Good { digest: digest(put.text.as_bytes()), span: put.document.origin.span }));
        let broken = contents.broken.iter().map(|id| (id.clone(), Held::Broken));
        let mut holds: Vec<(DocumentId, Held)> = good.chain(broken).collect();
        holds.sort_by(|(a, _), (b, _)| a.cmp(b));
        holds.dedup_by(|(a, _), (b, _)| a == b);
        Self { shown, stamp: None, digest: None, holds, mistakes: contents.mistakes.clone(), keys: contents.names() }
    }

    /// Keeps what an earlier reading found and this one could not see: documents, and key sets that their last good versions
    /// name.
    fn keep(&mut self, before: &Seen, hides: bool) {
        if hides {
            let unseen = before.holds.iter().map(|(id, _)| id).filter(|id| find(&self.holds, id).is_none());
            let unseen: Vec<_> = unseen.map(|id| (id.clone(), Held::Hidden)).collect();
            self.holds.extend(unseen);
            self.holds.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        if self.holds.iter().any(|(_, held)| !matches!(held, Held::Good { .. })) {
            self.keys.extend(before.keys.iter().cloned());
            self.keys.sort();
            self.keys.dedup();
        }
    }

    /// Where a document stands in this file.
    fn origin(&self, id: &DocumentId) -> Option<Origin> {
        let span = match find(&self.holds, id)? {
            Held::Good { span, .. } => *span,
            Held::Broken | Held::Hidden => {
                self.mistakes.iter().find(|mistake| file::is_about(mistake, id)).map(|mistake| mistake.span).unwrap_or_default()
            }
        };
        Some(Origin { file: Arc::clone(&self.shown), span })
    }

    /// What is wrong in this file, document by document where that can be told.
    fn broken(&self) -> Vec<Broken> {
        let with = |state: Held| self.holds.iter().filter(move |(_, held)| *held == state).map(|(id, _)| id);
        let mut all = Vec::new();
        let mut others: Vec<&Diagnostic> = self.mistakes.iter().collect();
        for id in with(Held::Broken) {
            let (about, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(|mistake| file::is_about(mistake, id));
            others = rest;
            all.push(self.is_broken(Some(id), &about));
        }
        let hidden: Vec<&DocumentId> = with(Held::Hidden).take(NAMED_MAX + 1).collect();
        if others.is_empty() && !hidden.is_empty() {
            others.extend(self.mistakes.iter());
        }
        if hidden.is_empty() || hidden.len() > NAMED_MAX {
            all.extend((!others.is_empty()).then(|| self.is_broken(None, &others)));
        } else {
            all.extend(hidden.into_iter().map(|id| self.is_broken(Some(id), &others)));
        }
        all
    }

    fn is_broken(&self, id: Option<&DocumentId>, mistakes: &[&Diagnostic]) -> Broken {
        let mut diagnostics = Diagnostics::new();
        for mistake in mistakes {
            diagnostics.push((*mistake).clone());
        }
        Broken { file: Arc::clone(&self.shown), id: id.cloned(), diagnostics }
    }
}

/// What to say of what cannot be read, and whether any of it is news. What is wrong with a document is said as a whole whenever
/// any of it changed; what is wrong with a file always, because a document that is put out of it counts as its recovery.
fn news(before: &[Broken], now: &[Broken]) -> (Vec<Broken>, bool) {
    let (before, now) = (by_subject(before), by_subject(now));
    let mut is_news = false;
    let mut said = Vec::new();
    for (subject, entries) in &now {
        let is_same = before.get(subject).is_some_and(|known| same(known, entries));
        is_news |= !is_same;
        if !is_same || matches!(subject, Subject::File(_)) {
            said.extend(entries.iter().map(|broken| (*broken).clone()));
        }
    }
    for subject in before.keys().filter(|subject| !now.contains_key(subject)) {
        is_news = true;
        // The recovery of a document is told by putting or removing it.
        if let Subject::File(file) = subject {
            said.push(Broken { file: Arc::clone(file), id: None, diagnostics: Diagnostics::new() });
        }
    }
    (said, is_news)
}

/// What an entry of what is broken is about.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Subject<'a> {
    Document(&'a DocumentId),
    File(&'a Arc<str>),
}

fn by_subject(all: &[Broken]) -> BTreeMap<Subject<'_>, Vec<&Broken>> {
    let mut subjects: BTreeMap<Subject<'_>, Vec<&Broken>> = BTreeMap::new();
    for broken in all {
        let subject = broken.id.as_ref().map_or(Subject::File(&broken.file), Subject::Document);
        subjects.entry(subject).or_default().push(broken);
    }
    subjects
}

fn same(a: &[&Broken], b: &[&Broken]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.file == b.file && a.diagnostics == b.diagnostics)
}

/// Looks up a sorted list.
fn find<'a>(holds: &'a [(DocumentId, Held)], id: &DocumentId) -> Option<&'a Held> {
    let at = holds.binary_search_by(|(known, _)| known.cmp(id)).ok()?;
    holds.get(at).map(|(_, held)| held)
}

/// The folder of a file that was named without one.
fn here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

impl<'p> Due<'p> {
    /// Unless the file is as it was read.
    fn of(path: &'p Path, stamp: Stamp, known: Option<&Seen>) -> Option<Self> {
        if known.is_some_and(|seen| seen.stamp == Some(stamp)) {
            return None;
        }
        let shown = known.map_or_else(|| path.to_string_lossy().into(), |seen| Arc::clone(&seen.shown));
        Some(Due { path, stamp, shown, known: known.and_then(|seen| seen.digest) })
    }
}

fn one(mistake: Diagnostic) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    diagnostics.push(mistake);
    diagnostics
}

fn keys_unreadable(name: &Arc<str>, why: &str) -> Diagnostic {
    file::mistake(
        name,
        format!("documents name it, and it cannot be read: {why}"),
        "what was read from it last is still used, if anything was",
    )
}
