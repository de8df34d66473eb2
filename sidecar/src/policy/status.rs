//! What the live policy tells of itself: for `bulkhead status`, the admin socket and the probes.

use super::Policy;
use super::last_good::{LastGood, Phase};
use crate::identity::KeySetFacts;
use arc_swap::{ArcSwap, ArcSwapOption};
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics};
use bulkhead_config::protocol::{Part, Quarantined, Serving};
use serde_json::{Value, json};
use std::sync::Arc;

/// Parts on trial that are named; the others are counted.
const TRIALS_MAX: usize = 1_000;
/// Fetched key sets that are shown.
const KEY_SETS_MAX: usize = 1_000;

/// What is told at the moment. Written beside the path, read by whoever asks.
#[derive(Debug, Default)]
pub struct Status {
    served: ArcSwap<Served>,
    trials: ArcSwap<Trials>,
    restart: ArcSwap<Vec<String>>,
    settings_mistakes: ArcSwapOption<String>,
    key_sets: ArcSwap<Vec<KeySetFacts>>,
}

#[derive(Debug, Default)]
struct Served {
    policy: Option<Facts>,
    source: String,
    warnings: Diagnostics,
}

#[derive(Debug)]
struct Facts {
    incarnation: u64,
    revision: u64,
    since_unix_ms: u64,
    services: usize,
    tenants: usize,
    quarantined: Arc<[Quarantined]>,
}

#[derive(Debug, Default)]
struct Trials {
    list: Vec<(Part, Phase)>,
    count: usize,
    trouble: Option<String>,
}

impl Status {
    /// Settings that were changed and take effect with the next start.
    pub fn needs_restart(&self, keys: Vec<String>) {
        self.restart.store(Arc::new(keys));
    }

    /// Why the settings as they are written now are not taken over, if so.
    pub fn settings_mistakes(&self, mistakes: Option<String>) {
        self.settings_mistakes.store(mistakes.map(Arc::new));
    }

    /// How the key sets are that are fetched.
    pub(crate) fn key_sets(&self, facts: Arc<Vec<KeySetFacts>>) {
        self.key_sets.store(facts);
    }

    /// Everything, as JSON. Ages are counted up to `now_unix_ms`.
    #[must_use]
    pub fn to_json(&self, now_unix_ms: u64) -> Value {
        let (served, trials) = (self.served.load(), self.trials.load());
        let facts = served.policy.as_ref();
        json!({
            "source": served.source,
            "epoch": facts.map(|facts| json!({ "incarnation": facts.incarnation, "revision": facts.revision })),
            "age_seconds": facts.map(|facts| now_unix_ms.saturating_sub(facts.since_unix_ms) / 1_000),
            "services": facts.map(|facts| facts.services),
            "tenants": facts.map(|facts| facts.tenants),
            "quarantined": facts.map_or_else(Vec::new, |facts| facts.quarantined.iter().map(quarantined).collect()),
            "trials": trials.list.iter().map(|(part, phase)| trial(part, *phase)).collect::<Vec<_>>(),
            "trial_count": trials.count,
            "last_good_trouble": trials.trouble,
            "key_sets": self.key_sets.load().iter().take(KEY_SETS_MAX).map(|set| key_set(set, now_unix_ms)).collect::<Vec<_>>(),
            "warnings": served.warnings.iter().map(Diagnostic::to_json).collect::<Vec<_>>(),
            "settings_that_need_a_restart": **self.restart.load(),
            "settings_mistakes": self.settings_mistakes.load().as_deref(),
        })
    }

    pub(super) fn served(&self, policy: &Policy, source: String, warnings: &Diagnostics) {
        let epoch = policy.snapshot.epoch();
        let facts = Facts {
            incarnation: epoch.incarnation,
            revision: epoch.revision,
            since_unix_ms: policy.since_unix_ms,
            services: policy.snapshot.platform().services().len(),
            tenants: policy.snapshot.tenant_count(),
            quarantined: Arc::clone(&policy.quarantined),
        };
        self.served.store(Arc::new(Served { policy: Some(facts), source, warnings: warnings.clone() }));
    }

    pub(super) fn ledger(&self, last_good: &LastGood) {
        let list = last_good.ledger.trials().take(TRIALS_MAX).map(|(part, _, phase)| (part.clone(), phase)).collect();
        let count = last_good.ledger.trial_count();
        self.trials.store(Arc::new(Trials { list, count, trouble: last_good.trouble().map(str::to_owned) }));
    }
}

fn key_set(facts: &KeySetFacts, now_unix_ms: u64) -> Value {
    let age = facts.fetched_unix_ms.map(|at| now_unix_ms.saturating_sub(at) / 1_000);
    json!({ "name": &*facts.name, "age_seconds": age, "trouble": facts.trouble.as_deref() })
}

fn quarantined(quarantined: &Quarantined) -> Value {
    let serving = match quarantined.serving {
        Serving::LastGood => "last_good",
        Serving::Held => "held",
    };
    let mistakes: Vec<Value> = quarantined.diagnostics.iter().map(Diagnostic::to_json).collect();
    json!({ "part": quarantined.part.to_string(), "serving": serving, "instead": quarantined.instead(), "mistakes": mistakes })
}

fn trial(part: &Part, phase: Phase) -> Value {
    json!({ "part": part.to_string(), "phase": phase.to_string() })
}
