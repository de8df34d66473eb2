//! Course: which offers lead on from where this sidecar is. Pure.
//!
//! INVARIANT (never back): within one incarnation the revision never falls, across restarts too; a restored control plane comes with a
//! higher incarnation, and with everything. Whoever replays an old offer, signed as it is, turns nothing back.

use bulkhead_config::snapshot::Epoch;

/// How far this sidecar is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Course {
    /// What it was given last, by this process or an earlier one.
    reached: Option<Epoch>,
    /// Whether this process was given that: only then is a change of it of use.
    is_here: bool,
}

/// Why an offer leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OffCourse {
    /// It is older.
    #[error(
        "the offer of epoch {}.{} is older than {}.{}, which was served already; restore a control plane under a higher incarnation",
        .0.incarnation, .0.revision, .1.incarnation, .1.revision
    )]
    Older(Epoch, Epoch),
    /// It changes something else.
    #[error("the offer changes another state than the one that is served")]
    OtherBase,
}

impl Course {
    /// Goes on after an earlier process.
    pub(super) fn after(reached: Option<Epoch>) -> Self {
        Self { reached, is_here: false }
    }

    /// What the control plane may change; nothing where it has to say everything.
    pub(super) fn resumes(&self) -> Option<Epoch> {
        self.reached.filter(|_| self.is_here)
    }

    /// Goes on with an offer.
    ///
    /// # Errors
    /// It leads elsewhere. Nothing is changed then.
    pub(super) fn take(&mut self, base: Option<Epoch>, epoch: Epoch) -> Result<(), OffCourse> {
        if let Some(reached) = self.reached.filter(|reached| epoch < *reached) {
            return Err(OffCourse::Older(epoch, reached));
        }
        match (base, self.resumes()) {
            (None, _) => {}
            // From an earlier state of the same incarnation: it names all that changed since, and so all that changed since ours.
            (Some(base), Some(here)) if base.incarnation == here.incarnation && epoch.incarnation == base.incarnation && base <= here => {}
            _ => return Err(OffCourse::OtherBase),
        }
        *self = Self { reached: Some(epoch), is_here: true };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(incarnation: u64, revision: u64) -> Epoch {
        Epoch { incarnation, revision }
    }

    #[test]
    fn the_way_leads_on_and_never_back() {
        for (reached, is_here, base, epoch, goes) in [
            (None, false, None, at(1, 1), true),
            (None, false, Some(at(1, 1)), at(1, 2), false),
            (Some(at(1, 5)), true, Some(at(1, 5)), at(1, 6), true),
            (Some(at(1, 5)), true, Some(at(1, 3)), at(1, 6), true),
            (Some(at(1, 5)), true, Some(at(1, 6)), at(1, 7), false),
            (Some(at(1, 5)), true, Some(at(1, 3)), at(1, 4), false),
            (Some(at(1, 5)), true, None, at(1, 4), false),
            (Some(at(1, 5)), false, None, at(1, 4), false),
            (Some(at(1, 5)), false, None, at(1, 5), true),
            (Some(at(1, 5)), false, Some(at(1, 5)), at(1, 6), false),
            (Some(at(1, 5)), true, Some(at(1, 5)), at(2, 1), false),
            (Some(at(1, 5)), true, None, at(2, 1), true),
            (Some(at(2, 1)), true, None, at(1, 9), false),
        ] {
            let mut course = Course { reached, is_here };
            let taken = course.take(base, epoch);
            assert_eq!(taken.is_ok(), goes, "{reached:?} {is_here} {base:?} {epoch:?}: {taken:?}");
            assert_eq!(course.reached, if goes { Some(epoch) } else { reached });
        }
    }

    #[test]
    fn a_new_process_asks_for_everything() {
        assert_eq!(Course::after(Some(at(1, 5))).resumes(), None);
        let mut course = Course::after(Some(at(1, 5)));
        assert!(course.take(None, at(1, 7)).is_ok());
        assert_eq!(course.resumes(), Some(at(1, 7)));
    }
}
