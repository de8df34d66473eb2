//! What is declared now, in memory: every document in its newest version, and which of them the last revisions changed.
//!
//! Readers take a short lock and share what they read; only `change.rs` enters something. What a sidecar lacks is told from here, without
//! a look at the store.

use crate::document::Version;
use bulkhead_config::declared::{DocumentId, Kind};
use bulkhead_config::name::TenantId;
use bulkhead_config::snapshot::Epoch;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

/// Documents changed lately that are remembered: who lags further behind gets everything.
const RECENT_MAX: usize = 65_536;

/// Every document.
#[derive(Debug)]
pub struct Shelf {
    inside: RwLock<Inside>,
}

#[derive(Debug)]
struct Inside {
    epoch: Epoch,
    documents: BTreeMap<DocumentId, Arc<Version>>,
    /// What each of the last revisions changed, the oldest first.
    recent: VecDeque<(u64, Vec<DocumentId>)>,
    /// How many documents `recent` names.
    remembered: usize,
    /// The last revision of which it is no longer known what it changed.
    forgotten: u64,
}

/// What to do to have what is declared at `epoch`.
#[derive(Debug, Clone)]
pub struct Delta {
    /// From which state it starts; `None`: from nothing, so what it does not name is gone.
    pub base: Option<Epoch>,
    /// Where it leads.
    pub epoch: Epoch,
    /// New or changed documents.
    pub put: Vec<Arc<Version>>,
    /// Documents that are gone.
    pub remove: Vec<DocumentId>,
}

/// Some documents, and where the next page begins.
#[derive(Debug)]
pub struct Page {
    /// In the order of their identities.
    pub versions: Vec<Arc<Version>>,
    /// The last of them, when there are more.
    pub next: Option<DocumentId>,
}

impl Shelf {
    /// With what the store holds.
    #[must_use]
    pub fn new(epoch: Epoch, documents: impl IntoIterator<Item = Version>) -> Self {
        let documents = documents.into_iter().map(|version| (version.id.clone(), Arc::new(version))).collect();
        let inside = Inside { epoch, documents, recent: VecDeque::new(), remembered: 0, forgotten: epoch.revision };
        Self { inside: RwLock::new(inside) }
    }

    /// What is declared now.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.read(|inside| inside.epoch)
    }

    /// One document.
    #[must_use]
    pub fn get(&self, id: &DocumentId) -> Option<Arc<Version>> {
        self.read(|inside| inside.documents.get(id).cloned())
    }

    /// Every document.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Version>> {
        self.read(|inside| inside.documents.values().cloned().collect())
    }

    /// How many documents there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read(|inside| inside.documents.len())
    }

    /// Whether nothing is declared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Documents of one kind, the platform's or one tenant's, after a place, at most `limit`.
    #[must_use]
    pub fn page(&self, kind: Kind, tenant: Option<&TenantId>, after: Option<&DocumentId>, limit: usize) -> Page {
        self.read(|inside| {
            let is_meant = |id: &DocumentId| id.kind == kind && id.tenant.as_ref() == tenant;
            let from = match after {
                Some(after) => Bound::Excluded(after.clone()),
                // Before every name: `0` alone sorts first among names.
                None => match "0".parse() {
                    Ok(name) => Bound::Included(DocumentId { kind, tenant: tenant.cloned(), name }),
                    Err(_) => Bound::Unbounded,
                },
            };
            // Identities sort by kind, then tenant: what is meant stands together.
            let matching = inside.documents.range((from, Bound::Unbounded));
            let mut found = matching.skip_while(|(id, _)| !is_meant(id)).take_while(|(id, _)| is_meant(id));
            let versions: Vec<Arc<Version>> = found.by_ref().take(limit).map(|(_, version)| Arc::clone(version)).collect();
            let next = found.next().and(versions.last()).map(|last| last.id.clone());
            Page { versions, next }
        })
    }

    /// Documents that stand in a watched folder.
    #[must_use]
    pub fn of_files(&self) -> Vec<Arc<Version>> {
        use crate::document::Owner;
        self.read(|inside| inside.documents.values().filter(|version| matches!(version.owner, Owner::Files(_))).cloned().collect())
    }

    /// Whether it is known what has changed since a state.
    #[must_use]
    pub fn knows(&self, have: Epoch) -> bool {
        self.read(|inside| inside.knows(have))
    }

    /// How to come from a state to the one that is declared now.
    #[must_use]
    pub fn since(&self, have: Option<Epoch>) -> Delta {
        self.read(|inside| match have.filter(|have| inside.knows(*have)) {
            Some(base) => inside.since(base),
            None => Delta { base: None, epoch: inside.epoch, put: inside.documents.values().cloned().collect(), remove: Vec::new() },
        })
    }

    /// Enters what a revision changed.
    pub(crate) fn enter(&self, revision: u64, changed: Vec<Version>) {
        let mut inside = self.inside.write().unwrap_or_else(PoisonError::into_inner);
        let ids: Vec<DocumentId> = changed.iter().map(|version| version.id.clone()).collect();
        for version in changed {
            match version.text {
                Some(_) => inside.documents.insert(version.id.clone(), Arc::new(version)),
                None => inside.documents.remove(&version.id),
            };
        }
        inside.epoch.revision = revision;
        inside.remembered += ids.len();
        inside.recent.push_back((revision, ids));
        while inside.remembered > RECENT_MAX {
            let Some((forgotten, ids)) = inside.recent.pop_front() else { break };
            inside.remembered -= ids.len();
            inside.forgotten = forgotten;
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Inside) -> T) -> T {
        // Every change under the lock is whole before anything in it can panic.
        read(&self.inside.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inside {
    fn knows(&self, have: Epoch) -> bool {
        have.incarnation == self.epoch.incarnation && (self.forgotten..=self.epoch.revision).contains(&have.revision)
    }

    fn since(&self, base: Epoch) -> Delta {
        let newer = self.recent.iter().rev().take_while(|(revision, _)| *revision > base.revision);
        let ids: BTreeSet<&DocumentId> = newer.flat_map(|(_, ids)| ids).collect();
        let mut delta = Delta { base: Some(base), epoch: self.epoch, put: Vec::new(), remove: Vec::new() };
        for id in ids {
            match self.documents.get(id) {
                Some(version) => delta.put.push(Arc::clone(version)),
                None => delta.remove.push(id.clone()),
            }
        }
        delta
    }
}
