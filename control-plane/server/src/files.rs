//! The watched folder as an owner named `files`: it creates, changes and prunes its own documents, and no others.
//!
//! A change set through the API is refused whole; a folder is somebody's work in progress, so what is good in it is taken and what is not
//! stays as it was, part by part, and is named. A document that came through the API first is not the folder's to take.

use crate::audit::From;
use crate::change::{Change, Changer, EDITS_MAX, Edit, Expects, Refused};
use crate::document::{Owner, Version};
use crate::operator::Operator;
use bulkhead_config::declared::DocumentId;
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics};
use bulkhead_config::protocol::{Offer, Part, Put};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Everything a folder declares, as it was read last.
#[derive(Debug, Default)]
pub struct Files {
    puts: BTreeMap<DocumentId, Put>,
    /// Documents that are there but cannot be read; their last good version stays.
    broken: HashSet<DocumentId>,
    /// Files of which it is not known what stands in them; what they held stays.
    unreadable: HashSet<Arc<str>>,
}

/// What was not taken of a folder.
#[derive(Debug, Default)]
pub struct Left {
    /// Mistakes, by the part that stays as it was.
    pub mistakes: BTreeMap<Part, Diagnostics>,
    /// Documents that were declared through the API.
    pub foreign: Vec<DocumentId>,
}

impl Files {
    /// Takes in what a folder says has changed.
    pub fn take(&mut self, offer: &Offer) {
        if offer.complete {
            *self = Files::default();
        }
        for id in &offer.remove {
            self.puts.remove(id);
            self.broken.remove(id);
        }
        for put in &offer.put {
            self.broken.remove(&put.document.id);
            self.unreadable.remove(&put.document.origin.file);
            self.puts.insert(put.document.id.clone(), put.clone());
        }
        for broken in &offer.broken {
            let is_mended = broken.diagnostics.is_empty();
            match &broken.id {
                Some(id) if is_mended => drop(self.broken.remove(id)),
                Some(id) => drop(self.broken.insert(id.clone())),
                None if is_mended => drop(self.unreadable.remove(&broken.file)),
                None => drop(self.unreadable.insert(Arc::clone(&broken.file))),
            }
        }
    }

    /// Makes what the store holds of this owner what the folder declares.
    ///
    /// # Errors
    /// When the store takes nothing. What was done by then stays, and the next call goes on from there.
    pub async fn mirror(&self, changer: &Arc<Changer>) -> Result<Left, Refused> {
        let mut left = Left::default();
        let mut edits = self.edits(changer, &mut left);
        // The platform's first: a tenant's documents are about what stands there.
        edits.sort_by_key(|edit| Part::of(&edit.id));
        while !edits.is_empty() {
            let rest = edits.split_off(edits.len().min(EDITS_MAX));
            self.submit(changer, std::mem::replace(&mut edits, rest), &mut left).await?;
        }
        Ok(left)
    }

    /// What is otherwise in the store than in the folder.
    fn edits(&self, changer: &Changer, left: &mut Left) -> Vec<Edit> {
        let shelf = changer.shelf();
        let mut edits = Vec::new();
        for (id, put) in self.puts.iter().filter(|(id, _)| !self.broken.contains(id)) {
            let owner = Owner::Files(Arc::clone(&put.document.origin.file));
            match shelf.get(id) {
                Some(there) if there.owner == Owner::Api => left.foreign.push(id.clone()),
                Some(there) if there.owner == owner && there.text.as_ref() == Some(&put.text) => {}
                _ => edits.push(Edit { id: id.clone(), to: Some(put.clone()), owner, expects: Expects::Anything }),
            }
        }
        let gone = shelf.of_files().into_iter().filter(|version| !self.may_be_there(version));
        edits.extend(gone.map(|version| Edit {
            id: version.id.clone(),
            to: None,
            owner: version.owner.clone(),
            expects: Expects::Anything,
        }));
        edits
    }

    /// Whether the folder may still declare a document.
    fn may_be_there(&self, version: &Version) -> bool {
        let Owner::Files(file) = &version.owner else { return true };
        let is_hidden = || Path::new(&**file).ancestors().filter_map(Path::to_str).any(|above| self.unreadable.contains(above));
        self.puts.contains_key(&version.id) || self.broken.contains(&version.id) || is_hidden()
    }

    /// Has edits done; those of parts with mistakes are left out, and the others tried again.
    async fn submit(&self, changer: &Arc<Changer>, mut edits: Vec<Edit>, left: &mut Left) -> Result<(), Refused> {
        while !edits.is_empty() {
            let change = Change {
                by: Operator::embedded("files"),
                from: From { address: "in process".into(), request_id: "files".into() },
                action: "files".into(),
                edits: edits.clone(),
                dry_run: false,
                idempotency: None,
            };
            let mistakes = match changer.submit(change).await {
                Ok(_) => return Ok(()),
                Err(Refused::Mistakes(mistakes)) => mistakes,
                Err(other) => return Err(other),
            };
            let before = edits.len();
            let by_document: HashMap<String, Part> = edits.iter().map(|edit| (edit.id.to_string(), Part::of(&edit.id))).collect();
            let blamed = blamed(&mistakes, &by_document);
            edits.retain(|edit| !blamed.contains(&Part::of(&edit.id)));
            for mistake in mistakes {
                let document = mistake.document.as_deref();
                let theirs = blamed.iter().find(|part| by_document.get(document.unwrap_or_default()) == Some(part));
                // What names no document that was edited is said once, of the first part.
                if let Some(part) = theirs.or(blamed.first()) {
                    left.mistakes.entry(part.clone()).or_default().push(mistake);
                }
            }
            if edits.len() == before {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Parts whose edits must be left out. Where mistakes name none that was edited (a change of the platform that breaks tenants), it is the
/// platform's.
fn blamed(mistakes: &Diagnostics, by_document: &HashMap<String, Part>) -> BTreeSet<Part> {
    let part = |mistake: &Diagnostic| by_document.get(mistake.document.as_deref()?).cloned();
    let named: BTreeSet<Part> = mistakes.iter().filter_map(part).collect();
    if !named.is_empty() {
        return named;
    }
    let parts: BTreeSet<Part> = by_document.values().cloned().collect();
    if parts.contains(&Part::Platform) { BTreeSet::from([Part::Platform]) } else { parts }
}
