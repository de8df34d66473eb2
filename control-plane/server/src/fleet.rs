//! The fleet: which sidecars there are, what each of them serves, and what it does not take.
//!
//! Bounded: a sidecar that has gone is remembered for an hour, and at most [`SIDECARS_MAX`] of them at all.

use bulkhead_config::diagnostic::Diagnostic;
use bulkhead_config::protocol::{Part, Quarantined, Report, Serving};
use bulkhead_config::snapshot::Epoch;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sidecars that are known at the same time.
pub const SIDECARS_MAX: usize = 10_000;
/// How long one that has gone is remembered, in seconds.
const REMEMBERED: i64 = 3_600;
/// Counters that one sidecar may tell, one a tenant.
const TENANTS_MAX: usize = 10_000;

/// Every sidecar that is known.
#[derive(Debug)]
pub struct Fleet {
    sidecars: Mutex<BTreeMap<Arc<str>, Sidecar>>,
    now: fn() -> i64,
}

/// One sidecar.
#[derive(Debug, Clone)]
struct Sidecar {
    version: String,
    /// How many streams it has; none: it is gone.
    streams: usize,
    since: i64,
    seen: i64,
    serving: Option<Epoch>,
    quarantined: Vec<Quarantined>,
    /// By tenant: requests, refused, upstream errors, since it started.
    counts: BTreeMap<String, [u64; 3]>,
    alerts: Vec<(String, String)>,
}

/// A sidecar's place while its stream is open.
#[derive(Debug)]
pub struct Seat {
    fleet: Arc<Fleet>,
    name: Arc<str>,
}

/// A stream that the fleet has no place for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{SIDECARS_MAX} sidecars are connected, and no more can be")]
pub struct Full;

/// How a document stands on the sidecars.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Sidecars that are connected.
    pub connected: usize,
    /// Those of them that serve it, in this version or a later one.
    pub programmed: usize,
    /// Those that do not yet.
    pub waiting: Vec<Arc<str>>,
    /// Those that do not take it, and why.
    pub quarantined: Vec<(Arc<str>, Vec<Diagnostic>)>,
}

impl Fleet {
    /// Nobody yet.
    #[must_use]
    pub fn new(now: fn() -> i64) -> Arc<Self> {
        Arc::new(Self { sidecars: Mutex::default(), now })
    }

    /// Enters a sidecar for as long as its seat is held. Of two streams under one name both count.
    ///
    /// # Errors
    /// When there are too many.
    pub fn enter(self: &Arc<Self>, name: &str, version: &str, serving: Option<Epoch>) -> Result<Seat, Full> {
        let now = (self.now)();
        let mut sidecars = self.sidecars();
        sidecars.retain(|_, sidecar| sidecar.streams > 0 || now.saturating_sub(sidecar.seen) < REMEMBERED);
        if sidecars.len() >= SIDECARS_MAX && !sidecars.contains_key(name) {
            // Whoever has gone longest makes room; whoever is connected stays.
            let gone = sidecars.iter().filter(|(_, sidecar)| sidecar.streams == 0).min_by_key(|(_, sidecar)| sidecar.seen);
            let gone = gone.map(|(name, _)| Arc::clone(name)).ok_or(Full)?;
            sidecars.remove(&gone);
        }
        let name: Arc<str> = name.into();
        let sidecar = sidecars.entry(Arc::clone(&name)).or_insert_with(|| Sidecar {
            version: String::new(),
            streams: 0,
            since: now,
            seen: now,
            serving: None,
            quarantined: Vec::new(),
            counts: BTreeMap::new(),
            alerts: Vec::new(),
        });
        if sidecar.streams == 0 {
            // What it told before it went holds no more.
            *sidecar = Sidecar { since: now, quarantined: Vec::new(), counts: BTreeMap::new(), alerts: Vec::new(), ..sidecar.clone() };
        }
        sidecar.streams += 1;
        sidecar.seen = now;
        sidecar.serving = serving;
        version.clone_into(&mut sidecar.version);
        Ok(Seat { fleet: Arc::clone(self), name })
    }

    /// How a part stands that was declared by a revision.
    #[must_use]
    pub fn standing(&self, part: &Part, declared: Epoch) -> Standing {
        let mut standing = Standing::default();
        for (name, sidecar) in self.sidecars().iter().filter(|(_, sidecar)| sidecar.streams > 0) {
            standing.connected += 1;
            let held = sidecar.quarantined.iter().find(|held| held.part == *part);
            match held {
                Some(held) => standing.quarantined.push((Arc::clone(name), held.diagnostics.iter().cloned().collect())),
                None if sidecar.serving.is_some_and(|serving| serving.incarnation == declared.incarnation && serving >= declared) => {
                    standing.programmed += 1
                }
                None => standing.waiting.push(Arc::clone(name)),
            }
        }
        standing
    }

    /// All of it, for people and programs.
    #[must_use]
    pub fn shown(&self, declared: Epoch) -> Value {
        let moment = |seconds| crate::operator::moment(seconds);
        let sidecars = self.sidecars();
        let list = sidecars.iter().map(|(name, sidecar)| {
            let behind = sidecar.serving.filter(|serving| serving.incarnation == declared.incarnation);
            json!({
                "name": &**name,
                "version": sidecar.version,
                "connected": sidecar.streams > 0,
                "since": moment(sidecar.since),
                "seen": moment(sidecar.seen),
                "serving": sidecar.serving.map(|epoch| json!({ "incarnation": epoch.incarnation, "revision": epoch.revision })),
                "behind": behind.map(|serving| declared.revision.saturating_sub(serving.revision)),
                "quarantined": sidecar.quarantined.iter().map(quarantined).collect::<Vec<_>>(),
                "alerts": sidecar.alerts.iter().map(|(name, text)| json!({ "name": name, "text": text })).collect::<Vec<_>>(),
            })
        });
        json!({
            "incarnation": declared.incarnation,
            "revision": declared.revision,
            "connected": sidecars.values().filter(|sidecar| sidecar.streams > 0).count(),
            "sidecars": list.collect::<Vec<_>>(),
        })
    }

    /// What the connected sidecars count, summed by tenant: requests, refused, upstream errors.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, [u64; 3]> {
        let mut all: BTreeMap<String, [u64; 3]> = BTreeMap::new();
        for sidecar in self.sidecars().values() {
            for (tenant, counts) in &sidecar.counts {
                let sums = all.entry(tenant.clone()).or_default();
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.saturating_add(*count));
            }
        }
        all
    }

    fn sidecars(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Sidecar>> {
        // Every change under the lock is whole before anything in it can panic.
        self.sidecars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// What became of an offer on this sidecar.
    pub fn report(&self, report: &Report) {
        self.change(|sidecar| {
            sidecar.serving = Some(report.epoch);
            sidecar.quarantined.clone_from(&report.quarantined);
        });
    }

    /// What it counts, and what somebody should look at.
    pub fn telemetry(&self, counts: impl IntoIterator<Item = (String, [u64; 3])>, alerts: Vec<(String, String)>) {
        self.change(|sidecar| {
            sidecar.counts = counts.into_iter().take(TENANTS_MAX).collect();
            sidecar.alerts = alerts;
        });
    }

    /// That it lives.
    pub fn seen(&self) {
        self.change(|_| ());
    }

    fn change(&self, change: impl FnOnce(&mut Sidecar)) {
        let now = (self.fleet.now)();
        if let Some(sidecar) = self.fleet.sidecars().get_mut(&self.name) {
            sidecar.seen = now;
            change(sidecar);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.change(|sidecar| sidecar.streams = sidecar.streams.saturating_sub(1));
    }
}

fn quarantined(held: &Quarantined) -> Value {
    json!({
        "part": held.part.to_string(),
        "serving": match held.serving { Serving::LastGood => "last_good", Serving::Held => "held" },
        "errors": held.diagnostics.iter().map(Diagnostic::to_json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use bulkhead_config::diagnostic::Diagnostics;

    const fn at(revision: u64) -> Epoch {
        Epoch { incarnation: 1, revision }
    }

    fn report(revision: u64, quarantined: Vec<Quarantined>) -> Report {
        Report { epoch: at(revision), accepted: Vec::new(), gone: Vec::new(), quarantined }
    }

    #[test]
    fn a_document_is_programmed_where_its_revision_is_served_and_its_part_is_not_held() {
        let fleet = Fleet::new(|| 0);
        let tenant = Part::Tenant("acme".parse().unwrap());
        let (a, b, c) = (fleet.enter("a", "1", None).unwrap(), fleet.enter("b", "1", None).unwrap(), fleet.enter("c", "1", None).unwrap());
        a.report(&report(7, Vec::new()));
        b.report(&report(6, Vec::new()));
        let held = Quarantined { part: tenant.clone(), diagnostics: Diagnostics::new(), serving: Serving::LastGood };
        c.report(&report(7, vec![held]));
        let standing = fleet.standing(&tenant, at(7));
        assert_eq!((standing.connected, standing.programmed, standing.waiting.len(), standing.quarantined.len()), (3, 1, 1, 1));
        assert_eq!((&*standing.waiting[0], &*standing.quarantined[0].0), ("b", "c"));
        drop(b);
        assert_eq!(fleet.standing(&tenant, at(7)).connected, 2, "who has gone is waited for no more");
        assert_eq!(fleet.shown(at(7))["sidecars"].as_array().unwrap().len(), 3, "and is remembered");
    }

    #[test]
    fn the_sums_are_those_of_all_sidecars() {
        let fleet = Fleet::new(|| 0);
        let (a, b) = (fleet.enter("a", "1", None).unwrap(), fleet.enter("b", "1", None).unwrap());
        a.telemetry([("acme".to_owned(), [5, 1, 0])], Vec::new());
        b.telemetry([("acme".to_owned(), [2, 0, 1]), ("globex".to_owned(), [1, 1, 1])], Vec::new());
        assert_eq!(fleet.counts(), BTreeMap::from([("acme".to_owned(), [7, 1, 1]), ("globex".to_owned(), [1, 1, 1])]));
    }
}
