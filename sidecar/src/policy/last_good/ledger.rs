//! Which version of each part has earned trust, which is on trial, and which is held back: a pure state machine.
//!
//! A version is good once it was served for a minute. Before that it is on trial: an unclean end makes it a suspect, which is
//! served again (one stray kill hides no edit); a second unclean end within a minute of the start has it withheld, and the
//! last good version is served, or none. Withheld versions are retried together after a minute of serving; when the process
//! dies of that, by halves, until the one that did it is alone: it is condemned, and held until its documents change.
//!
//! What the very first start finds is good at once: there is nothing to fall back on, so holding it would be serving nothing.
//! Absent on purpose: a part that is gone is not on trial. Nothing reads it any more, and a removed tenant must not come back.

use super::super::Map;
use super::texts::Texts;
use crate::clock::Now;
use bulkhead_config::protocol::Part;
use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

/// How long a version must be served to be good, how soon after a start an end counts as caused by it, and how long a start
/// serves before it retries what it withheld: one length, so that a trial is over exactly when it can no longer be blamed.
pub const PROBATION: Duration = Duration::from_secs(60);

const WITHHELD: &str = "this version is withheld: the process died twice soon after it was activated; it is tried again after a while";
const CONDEMNED: &str = "this version is withheld: the process died twice soon after it was activated, and again when it was tried";

/// How the process before this one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// In order, or there was none.
    Clean,
    /// Killed or crashed.
    Unclean,
}

/// Every part that is or was to be served.
#[derive(Debug)]
pub(crate) struct Ledger {
    parts: Map<Part, Entry>,
    /// Parts with a trial.
    trials: BTreeSet<Part>,
    probation: Duration,
    /// Since when this process serves.
    serving: Option<Now>,
}

/// One part.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Entry {
    /// The last version that earned trust.
    pub(crate) good: Option<Texts>,
    /// A later version.
    pub(crate) trial: Option<Trial>,
}

/// A version that has yet to earn trust.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trial {
    pub(crate) texts: Texts,
    pub(crate) phase: Phase,
    /// Since when this process serves it.
    since: Option<Now>,
}

/// How far a trial is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Served, not yet for long enough.
    Probation,
    /// Served again after an unclean end.
    Suspect,
    /// Not served; to be retried together with at most so many others, or with all.
    Withheld { together: Option<NonZeroUsize> },
    /// Served again, together with so many in all.
    Retried { together: NonZeroUsize },
    /// Not served until its documents change.
    Condemned,
}

impl Phase {
    /// Whether the version is served.
    pub(crate) fn is_served(self) -> bool {
        !matches!(self, Phase::Withheld { .. } | Phase::Condemned)
    }

    /// Why the version is not served.
    pub(crate) fn why_not(self) -> Option<&'static str> {
        match self {
            Phase::Withheld { .. } => Some(WITHHELD),
            Phase::Condemned => Some(CONDEMNED),
            Phase::Probation | Phase::Suspect | Phase::Retried { .. } => None,
        }
    }

    /// What a start makes of it.
    fn after(self, end: End) -> Phase {
        match (self, end) {
            (Phase::Probation, End::Unclean) => Phase::Suspect,
            (Phase::Suspect, End::Unclean) => Phase::Withheld { together: None },
            (Phase::Retried { together }, End::Unclean) => match NonZeroUsize::new(together.get() / 2) {
                None => Phase::Condemned,
                // Rounded up, so that two halves are enough.
                Some(_) => Phase::Withheld { together: NonZeroUsize::new(together.get().div_ceil(2)) },
            },
            // Interrupted in order: it starts again from where it stood.
            (Phase::Retried { together }, End::Clean) => Phase::Withheld { together: Some(together) },
            (phase, _) => phase,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Probation => "probation",
            Phase::Suspect => "suspect",
            Phase::Withheld { .. } => "withheld",
            Phase::Retried { .. } => "retried",
            Phase::Condemned => "condemned",
        })
    }
}

impl Entry {
    /// The version that is served.
    pub(crate) fn served(&self) -> Option<&Texts> {
        match &self.trial {
            Some(trial) if trial.phase.is_served() => Some(&trial.texts),
            _ => self.good.as_ref(),
        }
    }

    /// The version that was declared last.
    pub(crate) fn declared(&self) -> Option<&Texts> {
        self.trial.as_ref().map(|trial| &trial.texts).or(self.good.as_ref())
    }
}

impl Trial {
    /// One that an earlier process began.
    pub(crate) fn recorded(texts: Texts, phase: Phase) -> Self {
        Self { texts, phase, since: None }
    }
}

impl Ledger {
    /// What earlier processes recorded, after the end of the last one. With it come the parts whose state that changed.
    pub(crate) fn open(parts: Map<Part, Entry>, end: End, probation: Duration) -> (Self, Vec<Part>) {
        let trials = parts.iter().filter(|(_, entry)| entry.trial.is_some()).map(|(part, _)| part.clone()).collect();
        let mut ledger = Self { parts, trials, probation, serving: None };
        let mut changed = Vec::new();
        for part in &ledger.trials {
            if let Some(trial) = ledger.parts.get_mut(part).and_then(|entry| entry.trial.as_mut()) {
                let after = trial.phase.after(end);
                if after != trial.phase {
                    trial.phase = after;
                    changed.push(part.clone());
                }
            }
        }
        (ledger, changed)
    }

    /// Whether nothing was ever served from here.
    pub(crate) fn is_blank(&self) -> bool {
        self.parts.is_empty()
    }

    /// Every part, in no order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&Part, &Entry)> {
        self.parts.iter()
    }

    /// One part.
    pub(crate) fn entry(&self, part: &Part) -> Option<&Entry> {
        self.parts.get(part)
    }

    /// Parts on trial, in order, and how far they are.
    pub(crate) fn trials(&self) -> impl Iterator<Item = (&Part, &Entry, Phase)> {
        self.trials.iter().filter_map(|part| {
            let entry = self.parts.get(part)?;
            Some((part, entry, entry.trial.as_ref()?.phase))
        })
    }

    /// How many parts are on trial.
    pub(crate) fn trial_count(&self) -> usize {
        self.trials.len()
    }

    /// Whether nothing speaks against serving these documents of a part.
    pub(crate) fn may_serve(&self, part: &Part, texts: &Texts) -> bool {
        let trial = self.parts.get(part).and_then(|entry| entry.trial.as_ref());
        trial.is_none_or(|trial| trial.phase.is_served() || trial.texts != *texts)
    }

    /// These documents are good as they are: the first start's.
    pub(crate) fn trust(&mut self, part: Part, texts: Texts) {
        self.trials.remove(&part);
        self.parts.insert(part, Entry { good: Some(texts), trial: None });
    }

    /// These documents are served from now on. Whether that is news.
    pub(crate) fn activate(&mut self, part: &Part, texts: &Texts, now: Now) -> bool {
        let entry = self.parts.entry(part.clone()).or_default();
        if entry.served() == Some(texts) && entry.declared() == Some(texts) {
            return self.restate(part, texts);
        }
        if entry.good.as_ref() == Some(texts) {
            entry.trial = None;
            self.trials.remove(part);
        } else {
            entry.trial = Some(Trial { texts: texts.clone(), phase: Phase::Probation, since: Some(now) });
            self.trials.insert(part.clone());
        }
        true
    }

    /// A withheld version is served again, together with `together` in all.
    pub(crate) fn retried(&mut self, part: &Part, together: NonZeroUsize, now: Now) {
        if let Some(trial) = self.parts.get_mut(part).and_then(|entry| entry.trial.as_mut()) {
            trial.phase = Phase::Retried { together };
            trial.since = Some(now);
        }
    }

    /// A part is declared no more. Whether it was known.
    pub(crate) fn gone(&mut self, part: &Part) -> bool {
        self.trials.remove(part);
        self.parts.remove(part).is_some()
    }

    /// This process serves from now on: trials of earlier ones begin anew.
    pub(crate) fn serving(&mut self, now: Now) {
        self.serving.get_or_insert(now);
        for part in &self.trials {
            if let Some(trial) = self.parts.get_mut(part).and_then(|entry| entry.trial.as_mut())
                && trial.phase.is_served()
            {
                trial.since.get_or_insert(now);
            }
        }
    }

    /// A part is served as before although its documents are written differently, or elsewhere: they inherit its standing.
    /// Whether that is news.
    pub(crate) fn restate(&mut self, part: &Part, texts: &Texts) -> bool {
        let Some(entry) = self.parts.get_mut(part) else { return false };
        match &mut entry.trial {
            Some(trial) if trial.phase.is_served() => {
                let before = std::mem::replace(&mut trial.texts, texts.clone());
                before != *texts || !before.stand_like(texts)
            }
            trial => {
                let had_trial = trial.take().is_some();
                self.trials.remove(part);
                let before = entry.good.replace(texts.clone());
                had_trial || before.is_none_or(|before| before != *texts || !before.stand_like(texts))
            }
        }
    }

    /// A version on trial turned out to have mistakes: it is not served, so it is on trial no more.
    pub(crate) fn refuse(&mut self, part: &Part) {
        self.trials.remove(part);
        if let Some(entry) = self.parts.get_mut(part) {
            entry.trial = None;
        }
    }

    /// Versions that have been served for long enough: they are good from now on. Those of parts that are held all the same
    /// (for a mistake of something they rest on) were not served, and begin anew.
    pub(crate) fn settle(&mut self, now: Now, is_held: impl Fn(&Part) -> bool) -> Vec<Part> {
        let mut settled = Vec::new();
        for part in &self.trials {
            let Some(entry) = self.parts.get_mut(part) else { continue };
            let Some(trial) = entry.trial.take_if(|trial| is_over(trial, now, self.probation)) else { continue };
            if is_held(part) {
                entry.trial = Some(Trial { since: Some(now), ..trial });
            } else {
                entry.good = Some(trial.texts);
                settled.push(part.clone());
            }
        }
        for part in &settled {
            self.trials.remove(part);
        }
        settled
    }

    /// Withheld versions whose time has come, to be served together. None while others are retried: which of them the process
    /// dies of must show.
    pub(crate) fn due(&self, now: Now) -> Vec<Part> {
        if self.serving.is_none_or(|since| now.since(since) < self.probation) || self.is_retrying() {
            return Vec::new();
        }
        let mut withheld = self.trials().filter_map(|(part, _, phase)| match phase {
            Phase::Withheld { together } => Some((part, together)),
            _ => None,
        });
        let Some((first, together)) = withheld.next() else { return Vec::new() };
        let others = withheld.filter(|(_, others)| *others == together).map(|(part, _)| part);
        std::iter::once(first).chain(others).take(together.map_or(usize::MAX, NonZeroUsize::get)).cloned().collect()
    }

    /// How long until there is something to do.
    pub(crate) fn wait(&self, now: Now) -> Option<Duration> {
        let left = |since: Now| self.probation.saturating_sub(now.since(since));
        let served = self.trials().filter(|(_, _, phase)| phase.is_served());
        let settles = served.filter_map(|(_, entry, _)| entry.trial.as_ref()?.since.map(left)).min();
        let waits = self.trials().any(|(_, _, phase)| matches!(phase, Phase::Withheld { .. })) && !self.is_retrying();
        settles.into_iter().chain(self.serving.filter(|_| waits).map(left)).min()
    }

    fn is_retrying(&self) -> bool {
        self.trials().any(|(_, _, phase)| matches!(phase, Phase::Retried { .. }))
    }
}

/// Whether a trial has lasted long enough.
fn is_over(trial: &Trial, now: Now, probation: Duration) -> bool {
    trial.phase.is_served() && trial.since.is_some_and(|since| now.since(since) >= probation)
}
