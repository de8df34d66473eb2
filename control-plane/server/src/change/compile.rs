//! The desk: the catalogue on which a change is tried out, and taken back when it is not to be.

use super::{Planned, Refused, offer, parts_of};
use crate::audit::Tip;
use bulkhead_config::compile::{Catalogue, Outcome};
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics};
use bulkhead_config::protocol::{Offer, Part, Put, Quarantined};
use bulkhead_config::snapshot::Snapshot;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// What one change at a time works on.
pub(super) struct Desk {
    /// Absent only while it compiles.
    catalogue: Option<Catalogue>,
    quarantined: Vec<Quarantined>,
    /// The end of the audit trail.
    pub(super) tip: Tip,
}

impl Desk {
    pub(super) fn new(mut catalogue: Catalogue, tip: Tip) -> Self {
        // An empty change tells what is in quarantine already.
        let quarantined = catalogue.apply(&Offer::default()).quarantined;
        Self { catalogue: Some(catalogue), quarantined, tip }
    }

    /// What is compiled now.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.catalogue.as_ref().map_or_else(|| Arc::clone(Catalogue::new().snapshot()), |catalogue| Arc::clone(catalogue.snapshot()))
    }

    /// Compiles a change; what is odd in it comes back. It stays on the desk unless it is refused or only tried.
    ///
    /// # Errors
    /// Its mistakes: everything that would be in quarantine because of it.
    pub(super) async fn try_out(&mut self, changed: &[Planned], only_try: bool) -> Result<Diagnostics, Refused> {
        let known: HashSet<Part> = self.quarantined.iter().map(|quarantined| quarantined.part.clone()).collect();
        let touched = parts_of(changed.iter().map(|planned| &planned.edit.id));
        let puts = changed.iter().filter_map(|planned| planned.edit.to.clone());
        let removed = changed.iter().filter(|planned| planned.edit.to.is_none()).map(|planned| &planned.edit.id);
        let outcome = match self.apply(offer(puts, removed)).await {
            Ok(outcome) => outcome,
            Err(defect) => {
                self.take_back(changed).await?;
                return Err(defect);
            }
        };
        let mut mistakes = Diagnostics::new();
        for quarantined in &outcome.quarantined {
            if touched.contains(&quarantined.part) || !known.contains(&quarantined.part) {
                mistakes.append(quarantined.diagnostics.clone());
            }
        }
        mistakes.sort();
        let is_refused = !mistakes.is_empty();
        if is_refused || only_try {
            self.take_back(changed).await?;
        } else {
            self.quarantined = outcome.quarantined;
        }
        if is_refused {
            return Err(Refused::Mistakes(mistakes));
        }
        // Only of what was changed: the others' are not for whoever asks.
        let mut warnings = Diagnostics::new();
        let is_about =
            |warning: &&Diagnostic| warning.document.as_deref().is_some_and(|document| touched.iter().any(|part| is_of(part, document)));
        outcome.warnings.iter().filter(is_about).cloned().for_each(|warning| warnings.push(warning));
        Ok(warnings)
    }

    /// Puts things back as they were before a change.
    ///
    /// # Errors
    /// Never, unless for a defect of ours.
    pub(super) async fn take_back(&mut self, changed: &[Planned]) -> Result<(), Refused> {
        let mut puts = Vec::new();
        let mut created = Vec::new();
        for planned in changed {
            match &planned.before {
                Some(before) => match before.document().ok().zip(before.text.clone()) {
                    Some((document, text)) => puts.push(Put { document, text }),
                    // This version of the program cannot read it, so it was never on the desk, and what was tried goes.
                    None => created.push(&planned.edit.id),
                },
                None => created.push(&planned.edit.id),
            }
        }
        let outcome = self.apply(offer(puts, created)).await?;
        self.quarantined = outcome.quarantined;
        Ok(())
    }

    /// Compiling takes its time, so not on a thread that serves.
    async fn apply(&mut self, offer: Offer) -> Result<Outcome, Refused> {
        let mut catalogue = self.catalogue.take().ok_or(Refused::Defect)?;
        let work = move || {
            // After a panic the catalogue stands as before, with the change taken in; whoever called takes it back.
            let outcome = catch_unwind(AssertUnwindSafe(|| catalogue.apply(&offer)));
            (catalogue, outcome)
        };
        let (catalogue, outcome) = spawn_blocking(work).await.map_err(|_| Refused::Defect)?;
        self.catalogue = Some(catalogue);
        outcome.map_err(|_| Refused::Defect)
    }
}

/// Whether a document, as diagnostics name it (`Role acme/auditor`, `Tenant acme`, `Plan free`), belongs to a part.
fn is_of(part: &Part, document: &str) -> bool {
    let (kind, name) = document.split_once(' ').unwrap_or((document, ""));
    let owner = name.split_once('/').map(|(tenant, _)| tenant).or((kind == "Tenant").then_some(name));
    match part {
        Part::Tenant(tenant) => owner == Some(tenant.as_str()),
        Part::Platform => owner.is_none(),
        Part::File(_) => false,
    }
}
