//! Declared documents into the snapshot: all mistakes of a part at once, all or nothing for each part.
//!
//! The same documents give the same snapshot: no clock, no chance, no order of arrival. Only what a change touches is compiled
//! again: a tenant's documents its slice, the platform's the plans and every tenant that has policy of its own.
//! A part with mistakes stays on its last good version alone (quarantine) and every other part goes on.

use crate::declared::{Document, DocumentId};
use crate::diagnostic::Diagnostics;
use crate::name::{Host, TenantId};
use crate::protocol::{Broken, Offer, Part, Quarantined};
use crate::snapshot::{Epoch, Index, Shadow, Slice, Snapshot};
use documents::Kept;
use platform::Ground;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod documents;
mod mistake;
mod platform;
mod service;
mod identity;
mod role;
mod pattern;
mod rule;
pub(crate) mod binding;
mod limit;
mod security;
mod feature;
mod tenant;
mod settle;

pub use identity::{Holds, Named, files_of, introspection_of, key_urls_of, misplaced_key_set, resolve};

/// A map whose order nobody sees: what leaves here is sorted.
type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::FixedState>;

/// What a change made of the snapshot.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The snapshot to serve from now on.
    pub snapshot: Arc<Snapshot>,
    /// Parts whose documents changed what is served, sorted. A tenant that is served otherwise only because the platform
    /// changed is not listed.
    pub changed: Vec<Part>,
    /// Every part in quarantine, with what is served instead.
    pub quarantined: Vec<Quarantined>,
    /// What is odd in the documents of all parts, but keeps none from being served.
    pub warnings: Diagnostics,
}

/// How what is declared is meant in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// As it is written.
    #[default]
    AsDeclared,
    /// In shadow, all of it.
    Shadow,
}

impl Mode {
    fn shadow(self) -> Shadow {
        Shadow::all_if(self == Mode::Shadow)
    }
}

/// All documents there are, and what is served of them.
///
/// A call first takes in what it is told, then compiles, then puts the result in place. So after a panic in the middle (a defect
/// of ours) it stands as before with the change taken in; [`Catalogue::hold`] then keeps the part in question on its last good
/// version without compiling it again.
#[derive(Debug)]
pub struct Catalogue {
    platform: PlatformPart,
    tenants: Map<TenantId, TenantPart>,
    /// Tenants that claim a host in what is declared of them now, sorted.
    claims: Map<Host, Vec<TenantId>>,
    /// Files whose documents cannot be told apart.
    files: BTreeMap<Arc<str>, Diagnostics>,
    /// What must be compiled before the next outcome.
    touched: Touched,
    quarantine: BTreeMap<Part, Quarantined>,
    warnings: BTreeMap<Part, Diagnostics>,
    mode: Mode,
    /// The last epoch that an offer named; with it nothing is counted here.
    told: Option<Epoch>,
    snapshot: Arc<Snapshot>,
}

/// What is declared of one part, and why it may not be served as it is.
#[derive(Debug, Default)]
struct Declared {
    /// Every document as it was last read without mistakes.
    wanted: Arc<Kept>,
    /// Documents that are there but cannot be read.
    broken: BTreeMap<DocumentId, Diagnostics>,
    /// Why it is kept from being served, by [`Catalogue::hold`].
    held: Option<Diagnostics>,
}

#[derive(Debug)]
struct PlatformPart {
    declared: Declared,
    /// Whether `ground` was ever compiled from documents.
    ever_good: bool,
    /// The last good version.
    ground: Arc<Ground>,
}

#[derive(Debug, Default)]
struct TenantPart {
    declared: Declared,
    good: Option<Good>,
    served: Option<Arc<Slice>>,
}

/// The last good version of a tenant.
#[derive(Debug, Clone)]
struct Good {
    documents: Arc<Kept>,
    slice: Arc<Slice>,
}

#[derive(Debug, Default)]
struct Touched {
    platform: bool,
    tenants: BTreeSet<TenantId>,
}

impl Catalogue {
    /// Nothing declared yet, at revision 0.
    #[must_use]
    pub fn new() -> Self {
        Self::since(Epoch { incarnation: 1, revision: 0 })
    }

    /// Nothing declared yet; revisions go on from here.
    #[must_use]
    pub fn since(epoch: Epoch) -> Self {
        let ground = Arc::new(Ground::empty());
        let platform = Arc::clone(&ground.platform);
        let snapshot = Snapshot { epoch, platform, tenants: Index::new(), hosts: Index::new() };
        Self {
            platform: PlatformPart { declared: Declared::default(), ever_good: false, ground },
            tenants: Map::default(),
            claims: Map::default(),
            files: BTreeMap::new(),
            // Even with no documents there is a platform: an empty one.
            touched: Touched { platform: true, tenants: BTreeSet::new() },
            quarantine: BTreeMap::new(),
            warnings: BTreeMap::new(),
            mode: Mode::default(),
            told: None,
            snapshot: Arc::new(snapshot),
        }
    }

    /// The same, and what it is told from now on is meant so.
    #[must_use]
    pub fn in_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// What is served now.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Takes in a change and compiles what it touches.
    pub fn apply(&mut self, offer: &Offer) -> Outcome {
        self.take_in(offer);
        self.settle()
    }

    /// Keeps parts on their last good versions, or out of service where there is none, whatever is declared of them, until
    /// [`Catalogue::release`]. With each part comes why.
    pub fn hold(&mut self, parts: impl IntoIterator<Item = (Part, Diagnostics)>) -> Outcome {
        for (part, reasons) in parts {
            self.edit(&part, |declared| declared.held = Some(reasons));
        }
        self.settle()
    }

    /// Lets parts be served as declared again.
    pub fn release(&mut self, parts: &[Part]) -> Outcome {
        for part in parts {
            self.edit(part, |declared| declared.held = None);
        }
        self.settle()
    }

    fn take_in(&mut self, offer: &Offer) {
        self.told = offer.epoch.or(self.told);
        let (put, broken) = sorted_out(offer);
        // Part by part, so that a tenant with many documents is changed once.
        let mut edits: Map<Part, Vec<Edit>> = Map::default();
        if offer.complete {
            for (part, edit) in self.all_but(&put, &broken) {
                edits.entry(part).or_default().push(edit);
            }
            self.files.clear();
        }
        for id in offer.remove.iter().filter(|id| !put.contains_key(id)) {
            edits.entry(Part::of(id)).or_default().push(Edit::Remove(id.clone()));
        }
        for (id, document) in put {
            self.files.remove(&document.origin.file);
            edits.entry(Part::of(id)).or_default().push(Edit::Put(Arc::clone(document)));
        }
        for (id, diagnostics) in broken.documents {
            edits.entry(Part::of(&id)).or_default().push(Edit::Break(id, diagnostics));
        }
        for (part, edits) in edits {
            self.edit(&part, |declared| declared.take(edits));
        }
        for (file, diagnostics) in broken.files {
            match diagnostics.is_empty() {
                true => self.files.remove(&file),
                false => self.files.insert(file, diagnostics),
            };
        }
    }

    /// What a complete offer does not hold. What stood in a file that cannot be read may still be there, so it stays.
    fn all_but(&self, put: &Map<&DocumentId, &Arc<Document>>, broken: &Unreadable) -> Vec<(Part, Edit)> {
        let is_there = |id: &DocumentId| put.contains_key(id) || broken.documents.contains_key(id);
        let may_be_there = |document: &Document| is_there(&document.id) || broken.files.contains_key(&document.origin.file);
        let mut edits = Vec::new();
        for part in self.tenants.values().map(|part| &part.declared).chain([&self.platform.declared]) {
            let documents = part.wanted.documents();
            let gone = documents.iter().filter(|document| !may_be_there(document));
            edits.extend(gone.map(|document| (Part::of(&document.id), Edit::Remove(document.id.clone()))));
            let mended = part.broken.keys().filter(|id| !is_there(id));
            edits.extend(mended.map(|id| (Part::of(id), Edit::Break(id.clone(), Diagnostics::new()))));
        }
        edits
    }

    /// Changes what is declared of a part, and notes what must be compiled for it.
    fn edit(&mut self, part: &Part, edit: impl FnOnce(&mut Declared)) {
        match part {
            Part::Platform => {
                edit(&mut self.platform.declared);
                self.touched.platform = true;
            }
            Part::Tenant(tenant) => {
                let declared = &mut self.tenants.entry(tenant.clone()).or_default().declared;
                let before = Arc::clone(&declared.wanted);
                edit(declared);
                let after = Arc::clone(&declared.wanted);
                self.claim(tenant, &before, &after);
                self.touched.tenants.insert(tenant.clone());
            }
            // Its documents are not known; those of them that were read before belong to their own parts.
            Part::File(_) => {}
        }
    }

    /// Keeps the index of claimed hosts, and touches whoever else claims a host that this tenant lets go.
    fn claim(&mut self, tenant: &TenantId, before: &Kept, after: &Kept) {
        for host in before.hosts() {
            let Some(claimants) = self.claims.get_mut(host) else { continue };
            claimants.retain(|claimant| claimant != tenant);
            self.touched.tenants.extend(claimants.iter().cloned());
            if claimants.is_empty() {
                self.claims.remove(host);
            }
        }
        for host in after.hosts() {
            let claimants = self.claims.entry(host.clone()).or_default();
            if let Err(at) = claimants.binary_search(tenant) {
                claimants.insert(at, tenant.clone());
            }
        }
    }
}

impl Default for Catalogue {
    fn default() -> Self {
        Self::new()
    }
}

impl Declared {
    fn take(&mut self, edits: Vec<Edit>) {
        let mut wanted = self.wanted.documents().into_owned();
        let mut put = Vec::new();
        for edit in edits {
            match edit {
                Edit::Put(document) => {
                    self.broken.remove(&document.id);
                    put.push(document);
                }
                Edit::Remove(id) => {
                    self.broken.remove(&id);
                    wanted.remove(&id);
                }
                Edit::Break(id, diagnostics) if diagnostics.is_empty() => drop(self.broken.remove(&id)),
                Edit::Break(id, diagnostics) => drop(self.broken.insert(id, diagnostics)),
            }
        }
        wanted.put(put);
        self.wanted = Arc::new(Kept::of(wanted));
    }

    /// Why it may not even be compiled.
    fn reasons(&self) -> Diagnostics {
        let mut reasons = Diagnostics::new();
        for diagnostics in self.broken.values().chain(&self.held) {
            reasons.append(diagnostics.clone());
        }
        reasons.sort();
        reasons
    }

    /// Whether nothing is known of it any more.
    fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.broken.is_empty() && self.held.is_none()
    }
}

/// What an offer says of one document.
enum Edit {
    Put(Arc<Document>),
    Remove(DocumentId),
    /// Why it cannot be read; nothing: it can be again.
    Break(DocumentId, Diagnostics),
}

/// What of an offer cannot be read.
struct Unreadable {
    documents: BTreeMap<DocumentId, Diagnostics>,
    files: BTreeMap<Arc<str>, Diagnostics>,
}

/// The documents of an offer by identity, and what cannot be read. A document that stands in two places is in neither: which of
/// them is meant nobody can say, and the order in which they came must not.
fn sorted_out(offer: &Offer) -> (Map<&DocumentId, &Arc<Document>>, Unreadable) {
    let mut broken = Unreadable { documents: BTreeMap::new(), files: BTreeMap::new() };
    for Broken { file, id, diagnostics } in &offer.broken {
        match id {
            Some(id) => broken.documents.entry(id.clone()).or_default().append(diagnostics.clone()),
            None => broken.files.entry(Arc::clone(file)).or_default().append(diagnostics.clone()),
        }
    }
    let mut documents: Vec<&Arc<Document>> = offer.put.iter().map(|put| &put.document).collect();
    documents.sort_by(|a, b| (&a.id, &a.origin).cmp(&(&b.id, &b.origin)));
    let mut put = Map::with_capacity_and_hasher(documents.len(), Default::default());
    for places in documents.chunk_by(|a, b| a.id == b.id) {
        match places {
            [document] => {
                put.insert(&document.id, *document);
            }
            _ => places.iter().for_each(|document| {
                let others = places.iter().filter(|other| other.origin != document.origin);
                let others: Vec<String> = others.map(|other| format!("{}:{}", other.origin.file, other.origin.span.line)).collect();
                let mistake = mistake::in_document(document, "", format!("the same document stands in {} too", others.join(", ")));
                broken.documents.entry(document.id.clone()).or_default().push(mistake);
            }),
        }
    }
    (put, broken)
}

/// What was there before and is the same, else the new one: what hangs on its identity stays good.
fn kept<T: PartialEq>(before: &[Arc<T>], new: T) -> Arc<T> {
    match before.iter().find(|known| ***known == new) {
        Some(known) => Arc::clone(known),
        None => Arc::new(new),
    }
}
