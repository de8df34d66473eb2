//! Takes one offer after another: compiles it, settles what may be served, writes that down, swaps it in.
//!
//! Runs where it may take its time, one call at a time; workers only ever see the result. A start first restores what was
//! served last and then takes what is declared now as a change of it, so that whatever protects a running process from a bad
//! change protects a start from one that was made meanwhile.

use super::contain::Contained;
use super::key_files::KeyFiles;
use super::last_good::{Entry, LastGood, Text, Texts};
use super::{KeyReader, Live, Map, Policy};
use crate::clock::Now;
use crate::identity::{Kept, Wants};
use bulkhead_config::compile::{Mode, Outcome};
use bulkhead_config::declared::DocumentId;
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics, Span};
use bulkhead_config::protocol::{Broken, Offer, Part, Put, Quarantined, Report, Serving};
use bulkhead_config::snapshot::Epoch;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

/// What stands between the source of policy and the workers.
pub(super) struct Receiver {
    catalogue: Contained,
    last_good: LastGood,
    /// Every document as it was last read, by part.
    declared: Map<Part, Texts>,
    keys: KeyFiles,
    /// Reads a key set that only an earlier version names.
    read_keys: KeyReader,
    live: Arc<Live>,
    quarantined: Arc<[Quarantined]>,
    has_begun: bool,
}

/// What became of an offer, or of the passing of time.
#[derive(Debug)]
pub(super) struct Change {
    /// What the source is told.
    pub(super) report: Report,
    /// What was served before, if something else is served now; to be dropped where nobody waits for it.
    pub(super) retired: Option<Arc<Policy>>,
    /// In quarantine since this change, or for another reason than before.
    pub(super) fallen: Vec<Quarantined>,
    /// No longer in quarantine.
    pub(super) risen: Vec<Part>,
    /// What is odd, but served.
    pub(super) warnings: Diagnostics,
}

impl Receiver {
    /// Goes on after the last revision that an earlier process served.
    pub(super) fn new(live: Arc<Live>, mode: Mode, last_good: LastGood, read_keys: KeyReader, keys: KeyFiles) -> Self {
        let epoch = Epoch { incarnation: 1, revision: last_good.revision() };
        Self {
            catalogue: Contained::since(epoch, mode),
            last_good,
            declared: Map::default(),
            keys,
            read_keys,
            live,
            quarantined: Arc::new([]),
            has_begun: false,
        }
    }

    /// What may be served, and what is on trial.
    pub(super) fn last_good(&self) -> &LastGood {
        &self.last_good
    }

    /// Leaves the data directory to another process. Nothing may be taken in until it is taken back.
    pub(super) fn let_go(&mut self, now: Now) {
        self.last_good.let_go(now);
    }

    /// Has the data directory again.
    pub(super) fn take_back(&mut self, now: Now) {
        self.last_good.take_back(now);
    }

    /// Makes what was written down survive the machine. To be called after every change: nobody waits for the disk.
    pub(super) fn sync(&mut self, now: Now) {
        self.last_good.sync(now);
    }

    /// Takes an offer. What it declares is served when this returns, but for what is in quarantine.
    pub(super) fn take(&mut self, offer: Offer, now: Now) -> Change {
        if std::mem::replace(&mut self.has_begun, true) { self.change(offer, now) } else { self.begin(offer, now) }
    }

    /// Takes in a key set that was fetched; `set` is `None` where it is what it was. Nothing where no document names it any more.
    pub(super) fn take_fetched(&mut self, name: &Arc<str>, set: Option<Arc<[u8]>>, kept: Kept, now: Now) -> Option<Change> {
        let offer = Offer { files: vec![(Arc::clone(name), set.clone())], ..Offer::default() };
        self.keys.fetched(name, set, kept).then(|| self.change(offer, now))
    }

    /// Who is to be asked, if that is news.
    pub(super) fn newly_wanted(&mut self) -> Option<Wants> {
        self.keys.newly_wanted()
    }

    /// Does what is due: versions that have been served for long enough are good, those that were withheld for as long are
    /// served again.
    pub(super) fn tick(&mut self, now: Now) -> Option<Change> {
        let held: HashSet<&Part> = self.quarantined.iter().filter(|part| part.serving == Serving::Held).map(|part| &part.part).collect();
        let settled = self.last_good.ledger.settle(now, |part| held.contains(part));
        let revision = self.revision();
        self.last_good.record(&settled, revision, now);
        let due = self.last_good.ledger.due(now);
        NonZeroUsize::new(due.len()).map(|together| self.retry(&due, together, now))
    }

    /// The first offer. What was served last is restored, then what the offer says is taken as a change of it.
    fn begin(&mut self, offer: Offer, now: Now) -> Change {
        self.declare(&offer.put, &[]);
        self.keys.take(&offer.files);
        self.keep_unread(&offer.broken);
        let known: Vec<Part> = self.last_good.ledger.parts().map(|(part, _)| part.clone()).collect();
        let mut news = self.forget_gone(known);

        // On the first start there is nothing but what is declared.
        let (base, mut puts) = match self.last_good.is_first_start() {
            true => (offer.put, None),
            false => {
                let mut puts = offer.put.into_iter().map(|put| (put.document.id.clone(), put)).collect();
                (self.served_last(&mut puts), Some(puts))
            }
        };
        let missing = self.keys.missing(&base).into_iter().map(|name| (Arc::clone(&name), (self.read_keys)(&name)));
        let missing: Vec<_> = missing.collect();
        self.keys.take(&missing);
        self.keys.restore_fetched();
        let base = Offer { complete: true, put: base, ..Offer::default() };
        let restored = self.catalogue.apply(&base);
        let withheld = self.withheld();
        if !withheld.is_empty() {
            self.catalogue.hold(withheld);
        }
        let (put, remove) = puts.as_mut().map_or_else(Default::default, |puts| self.differing(puts, &base.put));
        let rest = Offer { complete: false, put, remove, broken: offer.broken, files: offer.files, epoch: offer.epoch };
        let served = self.catalogue.apply(&rest);

        if self.last_good.is_first_start() {
            news.extend(self.trust(&served));
        } else {
            news.extend(self.earn(self.declared.keys().cloned().collect(), &served, now));
        }
        self.last_good.ledger.serving(now);
        self.publish(Outcome { changed: union(restored.changed, &served.changed), ..served }, &news, now)
    }

    /// Any later offer.
    fn change(&mut self, offer: Offer, now: Now) -> Change {
        let offer = self.spelled_out(offer);
        let mut touched = self.declare(&offer.put, &offer.remove);
        self.keys.take(&offer.files);
        let mut news = self.forget_gone(touched.iter().cloned());
        let mut outcome = self.catalogue.apply(&offer);
        // Documents that were withheld or failed the compiler, and are others now.
        let changed = touched.iter().filter(|part| self.catalogue.is_held(part) && self.may_serve(part)).cloned().collect::<Vec<_>>();
        if !changed.is_empty() {
            let released = self.catalogue.release(&changed);
            outcome = Outcome { changed: union(outcome.changed, &released.changed), ..released };
        }
        // What was in quarantine may be served now, because what it rests on is.
        touched.extend(self.quarantined.iter().map(|quarantined| quarantined.part.clone()));
        news.extend(self.earn(touched, &outcome, now));
        self.publish(outcome, &news, now)
    }

    /// Serves again what was withheld.
    fn retry(&mut self, due: &[Part], together: NonZeroUsize, now: Now) -> Change {
        for part in due {
            self.last_good.ledger.retried(part, together, now);
        }
        // Before they are served: should this process die of them, the next one has to know.
        let revision = self.revision();
        self.last_good.record(due, revision, now);
        let outcome = self.catalogue.release(due);
        let refused: Vec<Part> = due.iter().filter(|part| is_among(&outcome.quarantined, part)).cloned().collect();
        for part in &refused {
            self.last_good.ledger.refuse(part);
        }
        self.publish(outcome, &refused, now)
    }

    /// Swaps in what was compiled, once it is written down.
    fn publish(&mut self, outcome: Outcome, news: &[Part], now: Now) -> Change {
        if outcome.quarantined.is_empty() && self.last_good.ledger.trial_count() == 0 {
            self.keys.forget_unnamed();
        }
        let mut quarantined = outcome.quarantined;
        let tls = Arc::clone(self.keys.tls(outcome.snapshot.platform(), now.unix()));
        // A file that is said to be unreadable now is not blamed for what stood in it when it last was readable too.
        let is_new = |keys: &Quarantined| !is_among(&quarantined, &keys.part);
        let keys: Vec<Quarantined> = self.keys.quarantined().filter(is_new).collect();
        quarantined.extend(keys);
        let quarantined: Arc<[Quarantined]> = quarantined.into();
        let before = std::mem::replace(&mut self.quarantined, Arc::clone(&quarantined));
        let epoch = outcome.snapshot.epoch();
        self.last_good.record(news, epoch.revision, now);
        let policy = Policy {
            snapshot: outcome.snapshot,
            keys: Arc::clone(self.keys.keys()),
            tls,
            quarantined: Arc::clone(&quarantined),
            since_unix_ms: now.unix_ms,
        };
        let retired = (!policy.is_same(&self.live.load())).then(|| self.live.swap(Arc::new(policy)));

        let known: HashMap<&Part, &Diagnostics> = before.iter().map(|known| (&known.part, &known.diagnostics)).collect();
        let fallen = quarantined.iter().filter(|new| known.get(&new.part) != Some(&&new.diagnostics)).cloned().collect();
        let parts: HashSet<&Part> = quarantined.iter().map(|quarantined| &quarantined.part).collect();
        let risen = before.iter().map(|known| &known.part).filter(|part| !parts.contains(part)).cloned().collect();
        let changed = outcome.changed.into_iter().filter(|part| !parts.contains(part));
        // The platform is declared whatever it holds: what is left of it is what is served.
        let (gone, accepted) = changed.partition(|part| *part != Part::Platform && !self.declared.contains_key(part));
        let report = Report { epoch, accepted, gone, quarantined: quarantined.to_vec() };
        let mut warnings = outcome.warnings;
        warnings.append(self.keys.warnings());
        Change { report, retired, fallen, risen, warnings }
    }

    fn revision(&self) -> u64 {
        self.live.load().snapshot.epoch().revision
    }
}

/// What is declared, and how it stands to what was served.
impl Receiver {
    /// Takes in documents that were read or are gone. The parts they belong to.
    fn declare<'a>(&mut self, put: impl IntoIterator<Item = &'a Put>, remove: &[DocumentId]) -> BTreeSet<Part> {
        let mut edits: Map<Part, (Vec<Text>, Vec<&DocumentId>)> = Map::default();
        for put in put {
            self.keys.declare(put);
            edits.entry(Part::of(&put.document.id)).or_default().0.push(Text::of(put));
        }
        for id in remove {
            self.keys.remove(id);
            edits.entry(Part::of(id)).or_default().1.push(id);
        }
        let mut touched = BTreeSet::new();
        for (part, (put, remove)) in edits {
            let texts = self.declared.entry(part.clone()).or_default();
            *texts = texts.with(put, &remove);
            touched.insert(part);
        }
        touched
    }

    /// At a start, documents that cannot be read now are declared as they were last read by an earlier process.
    fn keep_unread(&mut self, broken: &[Broken]) {
        let ids: HashSet<&DocumentId> = broken.iter().filter_map(|broken| broken.id.as_ref()).collect();
        let files: HashSet<&str> = broken.iter().filter(|broken| broken.id.is_none()).map(|broken| &*broken.file).collect();
        if ids.is_empty() && files.is_empty() {
            return;
        }
        for (part, entry) in self.last_good.ledger.parts() {
            let Some(before) = entry.declared() else { continue };
            let declared = self.declared.get(part).cloned().unwrap_or_default();
            let unread = |text: &&Text| (ids.contains(&text.id) || stands_in(&text.file, &files)) && !declared.has(&text.id);
            let unread: Vec<Text> = before.iter().filter(unread).cloned().collect();
            if !unread.is_empty() {
                self.declared.insert(part.clone(), declared.with(unread, &[]));
            }
        }
    }

    /// Lets go of those of these parts that are declared no more. Those that were known.
    fn forget_gone(&mut self, parts: impl IntoIterator<Item = Part>) -> Vec<Part> {
        let is_gone = |part: &Part| self.declared.get(part).is_none_or(Texts::is_empty);
        let gone: Vec<Part> = parts.into_iter().filter(is_gone).collect();
        for part in &gone {
            self.declared.remove(part);
        }
        gone.into_iter().filter(|part| self.last_good.ledger.gone(part)).collect()
    }

    /// What earlier processes served last of the parts that are still declared: their own documents where they changed since.
    fn served_last(&self, puts: &mut Map<DocumentId, Put>) -> Vec<Put> {
        let mut base = Vec::new();
        for part in self.declared.keys() {
            let served = self.last_good.ledger.entry(part).and_then(Entry::served);
            for text in served.into_iter().flat_map(Texts::iter) {
                match puts.get(&text.id) {
                    Some(put) if put.text == text.text => base.extend(puts.remove(&text.id)),
                    // What another version of this program wrote may be unreadable: then nothing is restored of it.
                    _ => base.extend(text.read().ok()),
                }
            }
        }
        base
    }

    /// Documents that are declared otherwise than in the base, and those of the base that are declared no more.
    fn differing(&self, puts: &mut Map<DocumentId, Put>, base: &[Put]) -> (Vec<Put>, Vec<DocumentId>) {
        let based: Map<&DocumentId, &Arc<str>> = base.iter().map(|put| (&put.document.id, &put.text)).collect();
        let texts = self.declared.values().flat_map(Texts::iter);
        let differing = texts.filter(|text| based.get(&text.id) != Some(&&text.text));
        let put = differing.filter_map(|text| puts.remove(&text.id).or_else(|| text.read().ok())).collect();
        (put, based.into_keys().filter(|id| !self.is_declared(id)).cloned().collect())
    }

    /// A complete offer as a change of what is declared.
    fn spelled_out(&self, mut offer: Offer) -> Offer {
        if std::mem::take(&mut offer.complete) {
            let mut stays: HashSet<&DocumentId> = offer.put.iter().map(|put| &put.document.id).collect();
            stays.extend(offer.broken.iter().filter_map(|broken| broken.id.as_ref()));
            let files: HashSet<&str> = offer.broken.iter().filter(|broken| broken.id.is_none()).map(|broken| &*broken.file).collect();
            let gone = |text: &&Text| !stays.contains(&text.id) && !stands_in(&text.file, &files);
            offer.remove = self.declared.values().flat_map(Texts::iter).filter(gone).map(|text| text.id.clone()).collect();
        }
        offer
    }

    fn is_declared(&self, id: &DocumentId) -> bool {
        self.declared.get(&Part::of(id)).is_some_and(|texts| texts.has(id))
    }

    /// Whether nothing speaks against serving what is declared of a part.
    fn may_serve(&self, part: &Part) -> bool {
        self.declared.get(part).is_none_or(|texts| self.last_good.ledger.may_serve(part, texts))
    }

    /// Parts whose declared version is withheld, and why.
    fn withheld(&self) -> Vec<(Part, Diagnostics)> {
        let held = self.last_good.ledger.trials().filter(|(part, _, _)| !self.may_serve(part));
        held.filter_map(|(part, _, phase)| Some((part.clone(), withheld(self.declared.get(part)?, phase.why_not()?)))).collect()
    }

    /// Notes in the ledger what is served of these parts now. Those for which that is news.
    fn earn(&mut self, parts: BTreeSet<Part>, outcome: &Outcome, now: Now) -> Vec<Part> {
        let quarantined: HashSet<&Part> = outcome.quarantined.iter().map(|quarantined| &quarantined.part).collect();
        let changed: HashSet<&Part> = outcome.changed.iter().collect();
        let ledger = &mut self.last_good.ledger;
        let mut is_news = |part: &Part| {
            let Some(texts) = self.declared.get(part).filter(|_| !quarantined.contains(part)) else { return false };
            if changed.contains(part) { ledger.activate(part, texts, now) } else { ledger.restate(part, texts) }
        };
        parts.into_iter().filter(|part| is_news(part)).collect()
    }

    /// What the very first start serves is good: there is nothing to fall back on.
    fn trust(&mut self, outcome: &Outcome) -> Vec<Part> {
        let quarantined: HashSet<&Part> = outcome.quarantined.iter().map(|quarantined| &quarantined.part).collect();
        let served: Vec<_> = self.declared.iter().filter(|(part, _)| !quarantined.contains(part)).collect();
        for (part, texts) in &served {
            self.last_good.ledger.trust((*part).clone(), (*texts).clone());
        }
        served.into_iter().map(|(part, _)| part.clone()).collect()
    }
}

/// That a version is held back, at its first document.
fn withheld(texts: &Texts, why: &str) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    if let Some(first) = texts.iter().next() {
        diagnostics.push(Diagnostic {
            file: Arc::clone(&first.file),
            span: Span { line: first.line, column: 1 },
            document: Some(first.id.to_string().into()),
            pointer: "".into(),
            message: why.to_owned(),
            expected: None,
            found: None,
            hint: Some("change the document to have it served anew".to_owned()),
        });
    }
    diagnostics
}

/// Whether a file is one of these, or stands in a folder that is.
fn stands_in(file: &str, files: &HashSet<&str>) -> bool {
    Path::new(file).ancestors().any(|above| above.to_str().is_some_and(|above| files.contains(above)))
}

fn is_among(quarantined: &[Quarantined], part: &Part) -> bool {
    quarantined.iter().any(|known| known.part == *part)
}

fn union(mut parts: Vec<Part>, more: &[Part]) -> Vec<Part> {
    parts.extend_from_slice(more);
    parts.sort();
    parts.dedup();
    parts
}
