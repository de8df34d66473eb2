//! The way of a change: authorise → check what it expects → compile → commit with its audit entry and events → publish.
//!
//! One change at a time, and each is finished once it is begun, whoever waits for it. The compiler is the sidecars' own, so what is
//! committed here is accepted there; a change that would put anything into quarantine is refused whole.
//! Absent on purpose: a way to write without these steps. The watched folder goes through here too.

use crate::archive::{Archive, ArchiveError, Commit};
use crate::audit::{Attempt, Decision, From, Tip, Touched};
use crate::document::{Content, Owner, Version};
use crate::event::{self, Became};
use crate::operator::{Operator, Role, Token};
use crate::shelf::Shelf;
use arc_swap::ArcSwap;
use bulkhead_config::compile::Catalogue;
use bulkhead_config::declared::{Document, DocumentId};
use bulkhead_config::diagnostic::Diagnostics;
use bulkhead_config::protocol::{Offer, Part, Put};
use bulkhead_config::snapshot::{Epoch, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{Mutex, broadcast, watch};

mod authorise;
mod compile;

pub use authorise::Denied;
use compile::Desk;

/// Documents of one change.
pub const EDITS_MAX: usize = 5_000;

/// Changes that whoever follows them may lag behind.
const COMMITTED_MAX: usize = 64;

/// What somebody wants.
#[derive(Debug, Clone)]
pub struct Change {
    /// Who.
    pub by: Operator,
    /// From where.
    pub from: From,
    /// By which operation of the API.
    pub action: Arc<str>,
    /// Each document once.
    pub edits: Vec<Edit>,
    /// Whether it is only tried.
    pub dry_run: bool,
    /// A name under which the same change is not done twice.
    pub idempotency: Option<Idempotency>,
}

/// A name that whoever asks gave to a request, so that it can be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The name.
    pub key: Arc<str>,
    /// SHA-256 of what was asked for: under one name stands one request.
    pub request: [u8; 32],
}

/// What shall become of one document.
#[derive(Debug, Clone)]
pub struct Edit {
    /// Which.
    pub id: DocumentId,
    /// As it shall be; `None`: gone.
    pub to: Option<Put>,
    /// Who declares it.
    pub owner: Owner,
    /// What must be true of it now.
    pub expects: Expects,
}

/// What must be true of a document before it is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expects {
    /// Nothing.
    Anything,
    /// It is not there.
    Absent,
    /// It is there.
    Present,
    /// It is this version, by its entity tag.
    Tag(Arc<str>),
}

/// What was done.
#[derive(Debug, Clone)]
pub struct Done {
    /// What is declared now.
    pub epoch: Epoch,
    /// What became of each document, in the order of the edits.
    pub documents: Vec<Outcome>,
    /// What is odd, but keeps nothing from being served.
    pub warnings: Diagnostics,
    /// Whether nothing was changed, because it was only tried.
    pub dry_run: bool,
    /// Whether it was done earlier, under the same name.
    pub replayed: bool,
}

/// A change that was made.
#[derive(Debug)]
pub struct Committed {
    /// What was declared by it.
    pub epoch: Epoch,
    /// The documents that it changed.
    pub edits: Vec<Edit>,
}

/// What became of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which.
    pub id: DocumentId,
    /// What.
    pub became: Became,
    /// The revision of its newest version.
    pub revision: u64,
}

/// Why nothing was done.
#[derive(Debug)]
pub enum Refused {
    /// Who asks may not.
    Denied(Denied),
    /// It is there already.
    Exists(DocumentId),
    /// It is not there.
    NotFound(DocumentId),
    /// It is another version than expected; with the tag of the one that is there.
    OtherVersion(DocumentId, Option<String>),
    /// It stands in a watched folder, in this file.
    OwnedByFile(DocumentId, Arc<str>),
    /// More documents than one change may have.
    TooMany(usize),
    /// Mistakes, all of them.
    Mistakes(Diagnostics),
    /// The name was used for another request.
    OtherRequest,
    /// It cannot be stored.
    Store(ArchiveError),
    /// A defect of ours.
    Defect,
}

/// Takes changes.
pub struct Changer {
    shelf: Arc<Shelf>,
    desk: Mutex<Desk>,
    archive: Arc<Archive>,
    epochs: watch::Sender<Epoch>,
    done: broadcast::Sender<Arc<Committed>>,
    snapshot: ArcSwap<Snapshot>,
    now: fn() -> i64,
}

/// What changes are made of, once they are known to be needed.
struct Plan {
    changed: Vec<Planned>,
    outcomes: Vec<Outcome>,
}

/// One document that will not be what it was.
struct Planned {
    before: Option<Arc<Version>>,
    edit: Edit,
    became: Became,
}

impl Changer {
    /// Over what the store holds.
    pub(crate) fn new(shelf: Arc<Shelf>, archive: Arc<Archive>, tip: Tip, catalogue: Catalogue, now: fn() -> i64) -> Self {
        let snapshot = ArcSwap::new(Arc::clone(catalogue.snapshot()));
        let (epochs, _) = watch::channel(shelf.epoch());
        let (done, _) = broadcast::channel(COMMITTED_MAX);
        Self { shelf, desk: Mutex::new(Desk::new(catalogue, tip)), archive, epochs, done, snapshot, now }
    }

    /// What is declared, document by document.
    #[must_use]
    pub fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// What is declared, compiled.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Wakes on each revision.
    #[must_use]
    pub fn epochs(&self) -> watch::Receiver<Epoch> {
        self.epochs.subscribe()
    }

    /// Every change from now on, as it was made. Who falls behind by more than a few reads the shelf anew.
    #[must_use]
    pub fn committed(&self) -> broadcast::Receiver<Arc<Committed>> {
        self.done.subscribe()
    }

    /// Does a change, or nothing of it.
    ///
    /// # Errors
    /// Why nothing was done.
    pub async fn submit(self: &Arc<Self>, change: Change) -> Result<Done, Refused> {
        // In a task of its own: whoever asked may hang up, and a change that is compiled but not committed must not stay so.
        let changer = Arc::clone(self);
        let done = tokio::spawn(async move { changer.work(change).await });
        done.await.unwrap_or(Err(Refused::Defect))
    }

    async fn work(&self, change: Change) -> Result<Done, Refused> {
        if change.edits.len() > EDITS_MAX {
            return Err(Refused::TooMany(change.edits.len()));
        }
        let mut desk = self.desk.lock().await;
        // Before anything is told of what there is.
        if let Err(denied) = authorise::check(&change, &self.shelf, &self.snapshot.load()) {
            self.note_denied(&mut desk, &change, &denied).await?;
            return Err(Refused::Denied(denied));
        }
        if let Some(done) = self.replay(&change).await? {
            return Ok(done);
        }
        let Plan { changed, outcomes } = self.plan(&change)?;
        if changed.is_empty() {
            if let (false, Some(idempotency)) = (change.dry_run, &change.idempotency) {
                let answer = kept_answer(&change, idempotency, &outcomes, self.shelf.epoch(), (self.now)());
                self.archive.keep(self.shelf.epoch(), desk.tip, answer).await.map_err(Refused::Store)?;
            }
            let warnings = Diagnostics::new();
            return Ok(Done { epoch: self.shelf.epoch(), documents: outcomes, warnings, dry_run: change.dry_run, replayed: false });
        }
        let warnings = desk.try_out(&changed, change.dry_run).await?;
        if change.dry_run {
            return Ok(Done { epoch: self.shelf.epoch(), documents: outcomes, warnings, dry_run: true, replayed: false });
        }
        let epoch = match self.commit(&mut desk, &change, &changed, &outcomes).await {
            Ok(epoch) => epoch,
            Err(why) => {
                desk.take_back(&changed).await?;
                return Err(Refused::Store(why));
            }
        };
        self.snapshot.store(desk.snapshot());
        // After the shelf and the snapshot: whoever is woken finds both.
        self.epochs.send_replace(epoch);
        // Nobody may listen.
        let _ = self.done.send(Arc::new(Committed { epoch, edits: changed.into_iter().map(|planned| planned.edit).collect() }));
        let at = |outcome: Outcome| Outcome { revision: revision_of(&outcome, epoch), ..outcome };
        Ok(Done { epoch, documents: outcomes.into_iter().map(at).collect(), warnings, dry_run: false, replayed: false })
    }

    /// What a change comes to: what it expects is held against what is there.
    fn plan(&self, change: &Change) -> Result<Plan, Refused> {
        let incarnation = self.shelf.epoch().incarnation;
        let mut plan = Plan { changed: Vec::new(), outcomes: Vec::with_capacity(change.edits.len()) };
        for edit in &change.edits {
            let before = self.shelf.get(&edit.id);
            expected(edit, before.as_deref(), incarnation)?;
            let became = became(edit, before.as_deref());
            plan.outcomes.push(Outcome { id: edit.id.clone(), became, revision: before.as_ref().map_or(0, |version| version.revision) });
            if became != Became::Unchanged {
                plan.changed.push(Planned { before, edit: edit.clone(), became });
            }
        }
        Ok(plan)
    }

    async fn commit(&self, desk: &mut Desk, change: &Change, changed: &[Planned], outcomes: &[Outcome]) -> Result<Epoch, ArchiveError> {
        let at = (self.now)();
        let now = self.shelf.epoch();
        let epoch = Epoch { revision: now.revision + 1, ..now };
        let versions: Vec<Version> = changed.iter().map(|planned| planned.version(change, epoch.revision, at)).collect();
        let events = versions.iter().zip(changed).enumerate();
        let events = events.map(|(number, (version, planned))| event::of(version, planned.became, epoch, number)).collect();
        let mut tip = desk.tip;
        let attempt = attempt(change, changed.iter().map(Planned::touched).collect(), Ok(epoch.revision), at);
        let audit = attempt.follow(&mut tip);
        let answer = change.idempotency.as_ref().map(|idempotency| kept_answer(change, idempotency, outcomes, epoch, at));
        self.archive.commit(Commit { epoch, versions: &versions, audit, tip, events, answer }).await?;
        desk.tip = tip;
        self.shelf.enter(epoch.revision, versions);
        Ok(epoch)
    }

    /// What was answered when the same request came first.
    async fn replay(&self, change: &Change) -> Result<Option<Done>, Refused> {
        let Some(idempotency) = change.idempotency.as_ref().filter(|_| !change.dry_run) else { return Ok(None) };
        let kept = self.archive.answer(&change.by.proof, &idempotency.key).await.map_err(Refused::Store)?;
        let Some(kept) = kept else { return Ok(None) };
        if kept.request != idempotency.request {
            return Err(Refused::OtherRequest);
        }
        let (epoch, documents) = (kept.epoch, kept.documents);
        Ok(Some(Done { epoch, documents, warnings: Diagnostics::new(), dry_run: false, replayed: true }))
    }

    async fn note_denied(&self, desk: &mut Desk, change: &Change, denied: &Denied) -> Result<(), Refused> {
        let touched = change.edits.iter().map(|edit| Touched {
            id: edit.id.clone(),
            became: if edit.to.is_some() { Became::Changed } else { Became::Removed },
            before: None,
            after: edit.to.as_ref().map(|put| Content::of(&put.text)),
        });
        let attempt = attempt(change, touched.collect(), Err(denied.to_string()), (self.now)());
        self.append(desk, &attempt).await
    }

    /// Writes down an attempt that changes no document.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn note(self: &Arc<Self>, attempt: Attempt) -> Result<(), Refused> {
        // As above: an entry that is stored and not counted here would end all writing.
        let changer = Arc::clone(self);
        let noted = tokio::spawn(async move {
            let mut desk = changer.desk.lock().await;
            changer.append(&mut desk, &attempt).await
        });
        noted.await.unwrap_or(Err(Refused::Defect))
    }

    /// Enters a token of an operator in the store, or takes it away. To be finished once it is begun, whoever waits for it.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub(crate) async fn token(&self, id: &str, token: Option<&Token>, attempt: Attempt) -> Result<(), Refused> {
        let mut desk = self.desk.lock().await;
        let mut tip = desk.tip;
        let entry = Attempt { at: (self.now)(), ..attempt }.follow(&mut tip);
        self.archive.token(self.shelf.epoch(), id, token, entry, tip).await.map_err(Refused::Store)?;
        desk.tip = tip;
        Ok(())
    }

    async fn append(&self, desk: &mut Desk, attempt: &Attempt) -> Result<(), Refused> {
        let mut tip = desk.tip;
        let entry = attempt.follow(&mut tip);
        self.archive.append(self.shelf.epoch(), entry, tip).await.map_err(Refused::Store)?;
        desk.tip = tip;
        Ok(())
    }
}

impl Planned {
    fn version(&self, change: &Change, revision: u64, at: i64) -> Version {
        Version {
            id: self.edit.id.clone(),
            text: self.edit.to.as_ref().map(|put| Arc::clone(&put.text)),
            revision,
            created: self.before.as_ref().map_or(revision, |version| version.created),
            owner: self.edit.owner.clone(),
            by: Arc::clone(&change.by.name),
            at,
        }
    }

    fn touched(&self) -> Touched {
        let content = |text: &Arc<str>| Content::of(text);
        Touched {
            id: self.edit.id.clone(),
            became: self.became,
            before: self.before.as_ref().and_then(|version| version.text.as_ref()).map(content),
            after: self.edit.to.as_ref().map(|put| content(&put.text)),
        }
    }
}

fn attempt(change: &Change, documents: Vec<Touched>, ended: Result<u64, String>, at: i64) -> Attempt {
    Attempt {
        operator: Some(change.by.clone()),
        from: change.from.clone(),
        action: Arc::clone(&change.action),
        decision: if ended.is_ok() { Decision::Allowed } else { Decision::Denied },
        documents,
        revision: ended.as_ref().ok().copied(),
        reason: ended.err(),
        at,
    }
}

fn kept_answer(change: &Change, idempotency: &Idempotency, outcomes: &[Outcome], epoch: Epoch, at: i64) -> crate::archive::Answer {
    let at_epoch = |outcome: &Outcome| Outcome { revision: revision_of(outcome, epoch), ..outcome.clone() };
    crate::archive::Answer {
        // Not the name: that of two operators may be the same.
        operator: Arc::clone(&change.by.proof),
        key: Arc::clone(&idempotency.key),
        request: idempotency.request,
        epoch,
        documents: outcomes.iter().map(at_epoch).collect(),
        at,
    }
}

fn revision_of(outcome: &Outcome, epoch: Epoch) -> u64 {
    if outcome.became == Became::Unchanged { outcome.revision } else { epoch.revision }
}

/// Whether a document is as an edit expects it, and the edit's owner may change it.
fn expected(edit: &Edit, before: Option<&Version>, incarnation: u64) -> Result<(), Refused> {
    let id = || edit.id.clone();
    match (&edit.expects, before) {
        (Expects::Absent, Some(_)) => return Err(Refused::Exists(id())),
        (Expects::Present, None) => return Err(Refused::NotFound(id())),
        (Expects::Tag(tag), there) => {
            let there = there.map(|version| version.etag(incarnation));
            if there.as_deref() != Some(&**tag) {
                return Err(Refused::OtherVersion(id(), there));
            }
        }
        _ => {}
    }
    match before.map(|version| &version.owner) {
        Some(Owner::Files(file)) if edit.owner == Owner::Api => Err(Refused::OwnedByFile(id(), Arc::clone(file))),
        _ => Ok(()),
    }
}

fn became(edit: &Edit, before: Option<&Version>) -> Became {
    let there = before.and_then(|version| version.text.as_ref().map(|text| (text, &version.owner)));
    match (&edit.to, there) {
        (None, None) => Became::Unchanged,
        (None, Some(_)) => Became::Removed,
        (Some(_), None) => Became::Created,
        (Some(put), Some((text, owner))) => {
            let same = put.text == *text || Content::of(&put.text) == Content::of(text);
            if same && *owner == edit.owner { Became::Unchanged } else { Became::Changed }
        }
    }
}

/// An edit as the compiler takes it.
fn offer<'a>(put: impl IntoIterator<Item = Put>, remove: impl IntoIterator<Item = &'a DocumentId>) -> Offer {
    Offer { put: put.into_iter().collect(), remove: remove.into_iter().cloned().collect(), ..Offer::default() }
}

/// Parts that documents belong to.
fn parts_of<'a>(ids: impl IntoIterator<Item = &'a DocumentId>) -> BTreeSet<Part> {
    ids.into_iter().map(Part::of).collect()
}

/// What an operator writes, by tenant; for those who may write for one only.
fn by_tenant(edits: &[Edit]) -> BTreeMap<Option<&str>, Vec<&Edit>> {
    let mut all: BTreeMap<Option<&str>, Vec<&Edit>> = BTreeMap::new();
    for edit in edits {
        all.entry(edit.id.tenant.as_ref().map(|tenant| tenant.as_str())).or_default().push(edit);
    }
    all
}

/// The document of an edit.
fn document(edit: &Edit) -> Option<&Arc<Document>> {
    edit.to.as_ref().map(|put| &put.document)
}

/// Whether an operator writes as the platform.
fn is_platform(operator: &Operator) -> bool {
    operator.role == Role::PlatformAdmin && operator.tenant.is_none()
}
