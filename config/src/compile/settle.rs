//! Who is served with what: each touched part as declared, on its last good version, or not at all.
//!
//! INVARIANT (one tenant per host): a host names at most one tenant, and no tenant where it is shared. Of several that claim it,
//! the one that is served with it keeps it; where none is, none gets it. Never the one that came first.

use super::documents::Kept;
use super::mistake::{Hinted, at};
use super::platform::Ground;
use super::tenant::{self, Compiled};
use super::{Catalogue, Good, Map, Outcome, TenantPart, Touched, platform};
use crate::declared::{Kind, TenantState};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::name::{Host, TenantId};
use crate::protocol::{Part, Quarantined, Serving};
use crate::snapshot::{Epoch, Platform, Policy, Slice, SliceState, Snapshot};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

type Hosts = HashSet<Host, foldhash::fast::FixedState>;

/// What becomes of the platform.
enum Verdict {
    /// It was not looked at.
    Untouched,
    Good(Arc<Ground>),
    Bad(Diagnostics),
}

/// What compiling the documents of a tenant came to.
struct Judged {
    /// Why it cannot be served as declared.
    mistakes: Diagnostics,
    compiled: Option<Compiled>,
    /// Whether there is such a tenant at all.
    is_known: bool,
}

/// What a tenant is served with from now on.
struct Settled {
    served: Option<Arc<Slice>>,
    good: Option<Good>,
    mistakes: Diagnostics,
    warnings: Diagnostics,
}

impl Catalogue {
    /// Compiles what was touched and puts the result in place.
    pub(super) fn settle(&mut self) -> Outcome {
        let verdict = self.judge_platform();
        let ground = match verdict {
            Verdict::Good(ground) => Some(ground),
            Verdict::Bad(mistakes) => {
                // Without a Service nothing is served, however good the rest of it is.
                let has_good = self.platform.ever_good && !self.platform.ground.platform.services().is_empty();
                self.quarantine(Part::Platform, mistakes, has_good);
                None
            }
            Verdict::Untouched => None,
        };
        let settled = self.settle_tenants(ground.as_ref());
        self.put_in_place(ground, settled)
    }

    fn judge_platform(&self) -> Verdict {
        // In quarantine it may wait for a host that a tenant lets go.
        let waits = self.quarantine.contains_key(&Part::Platform) && !self.touched.tenants.is_empty();
        if !self.touched.platform && !waits {
            return Verdict::Untouched;
        }
        let reasons = self.platform.declared.reasons();
        if !reasons.is_empty() {
            return Verdict::Bad(reasons);
        }
        let ground = match platform::compile(&self.platform.declared.wanted.documents(), self.mode, &self.platform.ground) {
            Ok(ground) => ground,
            Err(mistakes) => return Verdict::Bad(mistakes),
        };
        match self.shared_hosts_in_use(&ground).into_result(()) {
            Ok(()) => Verdict::Good(Arc::new(ground)),
            Err(mistakes) => Verdict::Bad(mistakes),
        }
    }

    /// Shared hosts of a new platform that a tenant is served with and does not let go.
    fn shared_hosts_in_use(&self, ground: &Ground) -> Diagnostics {
        let wanted = self.platform.declared.wanted.documents();
        let mut mistakes = Diagnostics::new();
        for (document, service) in wanted.services() {
            for host in service.shared_hosts.iter().filter(|host| ground.shared_hosts.contains(&host.value)) {
                let Some(holder) = self.holder(host) else { continue };
                let keeps = self.tenants.get(holder.id()).is_some_and(|part| !part.declared.reasons().is_empty());
                if keeps || self.claims.get(&host.value).is_some_and(|claimants| claimants.contains(holder.id())) {
                    let message = format!("shared host `{}` names tenant `{}`", host.value, holder.id());
                    mistakes.push(at(document, host, message).hint("take it out of one of them; who is served with it keeps it meanwhile"));
                }
            }
        }
        mistakes
    }

    /// The tenant that is served with a host.
    fn holder(&self, host: &Host) -> Option<&Arc<Slice>> {
        self.snapshot.tenant_by_host(host.as_str()).filter(|slice| slice.state() != SliceState::Held)
    }

    /// Compiles the touched tenants; with a new ground, all of them.
    fn settle_tenants(&self, new_ground: Option<&Arc<Ground>>) -> Vec<(TenantId, Settled)> {
        let ground = new_ground.unwrap_or(&self.platform.ground);
        let can_compile = self.platform.ever_good || new_ground.is_some();
        let ids: Vec<TenantId> = match new_ground {
            Some(_) => self.tenants.keys().cloned().collect(),
            None => self.with_rivals(),
        };
        let mut judged = Map::with_capacity_and_hasher(ids.len(), Default::default());
        for id in ids {
            let Some(part) = self.tenants.get(&id) else { continue };
            let verdict = judge(&id, part, can_compile.then_some(ground));
            judged.insert(id, verdict);
        }
        self.settle_hosts(&mut judged, ground);
        let mut carried = Carried { from: &self.platform.ground.platform, to: new_ground, policies: Map::default() };
        let conclude = |(id, verdict): (TenantId, Judged)| {
            let settled = match self.tenants.get(&id) {
                Some(part) => conclude(&id, part, verdict, ground, &mut carried),
                None => Settled { served: None, good: None, mistakes: Diagnostics::new(), warnings: Diagnostics::new() },
            };
            (id, settled)
        };
        judged.into_iter().map(conclude).collect()
    }

    /// The touched tenants, with all that claim or hold a host that one of them claims or holds, and so on.
    fn with_rivals(&self) -> Vec<TenantId> {
        let mut found: BTreeSet<&TenantId> = BTreeSet::new();
        let mut next: Vec<&TenantId> = self.touched.tenants.iter().collect();
        while let Some(id) = next.pop() {
            if !found.insert(id) {
                continue;
            }
            let Some(part) = self.tenants.get(id) else { continue };
            let held = part.good.iter().flat_map(|good| good.slice.hosts());
            for host in part.declared.wanted.hosts().chain(held) {
                next.extend(self.claims.get(host).into_iter().flatten());
                next.extend(self.holder(host).map(|slice| slice.id()));
            }
        }
        found.into_iter().cloned().collect()
    }

    /// Finds who must stay on its last good version because of a host. Who stays keeps the hosts it is served with, which may keep
    /// another from getting them, and so on: the number of those who stay only grows, so the end does not depend on the order.
    fn settle_hosts(&self, judged: &mut Map<TenantId, Judged>, ground: &Ground) {
        let part = |id: &TenantId| self.tenants.get(id);
        let mut next: Vec<&Host> = judged.keys().filter_map(part).flat_map(|part| part.declared.wanted.hosts()).collect();
        let mut staying: BTreeSet<&TenantId> = BTreeSet::new();
        let known = |id: &TenantId| self.tenants.get_key_value(id).map(|(id, _)| id);
        staying.extend(judged.iter().filter(|(_, verdict)| !verdict.mistakes.is_empty()).filter_map(|(id, _)| known(id)));
        let mut losers: BTreeSet<(&Host, &TenantId)> = BTreeSet::new();
        while let Some(host) = next.pop() {
            let Some(claimants) = self.claims.get(host) else { continue };
            let keeper = self.keeper(host, claimants, &staying);
            let is_shared = ground.shared_hosts.contains(host);
            if !is_shared && claimants.len() == 1 && keeper.is_none_or(|keeper| claimants.contains(keeper)) {
                continue;
            }
            for loser in claimants.iter().filter(|id| is_shared || Some(*id) != keeper) {
                losers.insert((host, loser));
                if staying.insert(loser) {
                    next.extend(part(loser).and_then(|part| part.good.as_ref()).into_iter().flat_map(|good| good.slice.hosts()));
                }
            }
        }
        // Told at the end only, when it is certain who keeps what.
        for (host, loser) in losers {
            let Some(claimants) = self.claims.get(host) else { continue };
            let others = claimants.iter().chain(self.keeper(host, claimants, &staying)).filter(|other| *other != loser);
            let mistake = part(loser).and_then(|part| match ground.shared_hosts.contains(host) {
                true => shared(part, host),
                false => self.contested(part, host, others),
            });
            if let (Some(mistake), Some(verdict)) = (mistake, judged.get_mut(loser)) {
                verdict.mistakes.push(mistake);
            }
        }
    }

    /// Who is served with a host and keeps it: because it still claims it, or because it stays on its last good version.
    fn keeper(&self, host: &Host, claimants: &[TenantId], staying: &BTreeSet<&TenantId>) -> Option<&TenantId> {
        self.holder(host).map(|slice| slice.id()).filter(|id| claimants.contains(id) || staying.contains(id))
    }

    /// The mistake of a tenant that claims a host which others claim.
    fn contested<'a>(&self, part: &TenantPart, host: &Host, others: impl Iterator<Item = &'a TenantId>) -> Option<Diagnostic> {
        let place = |id: &TenantId| {
            let (document, tenant) = self.tenants.get(id)?.declared.wanted.tenant()?;
            let written = tenant.hosts.iter().find(|known| known.value == *host);
            let line = written.map_or(document.origin.span.line, |host| host.span.line);
            Some(format!(" ({}:{line})", document.origin.file))
        };
        let mut others: Vec<String> = others.map(|id| format!("tenant `{id}`{}", place(id).unwrap_or_default())).collect();
        others.dedup();
        let (document, tenant) = part.declared.wanted.tenant()?;
        let written = tenant.hosts.iter().find(|known| known.value == *host)?;
        let mistake = at(document, written, format!("host `{host}` is claimed by {} too", others.join(", ")));
        Some(mistake.hint("a host names one tenant: take it out of all but one; who is served with it keeps it meanwhile"))
    }

    fn quarantine(&mut self, part: Part, mut mistakes: Diagnostics, has_good: bool) {
        if mistakes.is_empty() {
            self.quarantine.remove(&part);
            return;
        }
        mistakes.sort();
        let serving = if has_good { Serving::LastGood } else { Serving::Held };
        self.quarantine.insert(part.clone(), Quarantined { part, diagnostics: mistakes, serving });
    }

    /// Puts everything in place at once. Nothing here can fail.
    fn put_in_place(&mut self, ground: Option<Arc<Ground>>, settled: Vec<(TenantId, Settled)>) -> Outcome {
        let mut changed = Vec::new();
        let is_new = ground.is_some();
        if let Some(ground) = ground {
            if !self.platform.ever_good || !ground.means_the_same(&self.platform.ground) {
                changed.push(Part::Platform);
            }
            self.quarantine.remove(&Part::Platform);
            self.platform.ever_good = true;
            self.platform.ground = ground;
        }
        let mut slices = Vec::new();
        let mut hosts = Hosts::default();
        for (id, settled) in settled {
            if let Some(part) = self.tenants.get_mut(&id) {
                hosts.extend(part.declared.wanted.hosts().cloned());
                let served = [part.served.as_ref(), settled.served.as_ref()];
                hosts.extend(served.into_iter().flatten().flat_map(|slice| slice.hosts().iter().cloned()));
                if is_changed(part, &settled) {
                    changed.push(Part::Tenant(id.clone()));
                }
                if !is_same_slice(part.served.as_ref(), settled.served.as_ref()) {
                    slices.push((id.clone(), settled.served.clone()));
                }
                part.served = settled.served;
                part.good = settled.good;
                if part.declared.is_empty() {
                    self.tenants.remove(&id);
                }
            }
            let has_good = self.tenants.get(&id).is_some_and(|part| part.good.is_some());
            self.quarantine(Part::Tenant(id.clone()), settled.mistakes, has_good);
            match settled.warnings.is_empty() {
                true => self.warnings.remove(&Part::Tenant(id)),
                false => self.warnings.insert(Part::Tenant(id), settled.warnings),
            };
        }
        self.touched = Touched::default();
        changed.sort();
        self.publish(is_new, slices, hosts);
        Outcome { snapshot: Arc::clone(&self.snapshot), changed, quarantined: self.quarantined(), warnings: self.all_warnings() }
    }

    /// The next snapshot, if anything in it is new, its epoch included.
    fn publish(&mut self, platform_is_new: bool, slices: Vec<(TenantId, Option<Arc<Slice>>)>, hosts: Hosts) {
        let before = &self.snapshot;
        let hosts: Vec<_> = hosts
            .into_iter()
            .map(|host| (self.named_by(&host).cloned(), host))
            .filter(|(named, host)| !is_same_slice(named.as_ref(), before.tenant_by_host(host.as_str())))
            .map(|(named, host)| (host, named))
            .collect();
        let is_same = !platform_is_new && slices.is_empty() && hosts.is_empty();
        let counted = Epoch { revision: before.epoch.revision + u64::from(!is_same), ..before.epoch };
        let epoch = self.told.unwrap_or(counted);
        if is_same && epoch == before.epoch {
            return;
        }
        self.snapshot = Arc::new(Snapshot {
            epoch,
            platform: Arc::clone(&self.platform.ground.platform),
            tenants: before.tenants.with(slices),
            hosts: before.hosts.with(hosts),
        });
    }

    /// The tenant a host names from now on: who is served with it, else one of those who are held and claim it; then the answer is
    /// the same whoever it is, and the first by name is always the same one.
    fn named_by(&self, host: &Host) -> Option<&Arc<Slice>> {
        if self.platform.ground.shared_hosts.contains(host) {
            return None;
        }
        let claimants = self.claims.get(host).into_iter().flatten();
        let before = self.holder(host).map(|slice| slice.id());
        let served = claimants.chain(before).filter_map(|id| self.tenants.get(id)?.served.as_ref());
        let with_host = served.filter(|slice| slice.hosts().contains(host));
        // A last good version may have a host that its tenant has given up since.
        let gave_up = |id: &TenantId| !self.claims.get(host).is_some_and(|claimants| claimants.contains(id));
        with_host.min_by_key(|slice| (slice.state() == SliceState::Held, gave_up(slice.id()), slice.id()))
    }

    fn quarantined(&self) -> Vec<Quarantined> {
        let files = self.files.iter().map(|(file, diagnostics)| Quarantined {
            part: Part::File(Arc::clone(file)),
            diagnostics: diagnostics.clone(),
            serving: Serving::LastGood,
        });
        self.quarantine.values().cloned().chain(files).collect()
    }

    fn all_warnings(&self) -> Diagnostics {
        let mut all = self.platform.ground.warnings.clone();
        for (document, tenant) in &self.platform.ground.mentions {
            if self.tenants.get(&tenant.value).is_none_or(|part| part.served.is_none()) {
                let warning = at(document, tenant, format!("tenant `{}` does not exist", tenant.value));
                all.push(warning.nearest(tenant.as_str(), self.tenants.keys().map(TenantId::as_str), "tenant"));
            }
        }
        for warnings in self.warnings.values() {
            all.append(warnings.clone());
        }
        all.sort();
        all
    }
}

/// The mistake of a tenant that claims a shared host.
fn shared(part: &TenantPart, host: &Host) -> Option<Diagnostic> {
    let (document, tenant) = part.declared.wanted.tenant()?;
    let written = tenant.hosts.iter().find(|known| known.value == *host)?;
    let mistake = at(document, written, format!("host `{host}` is a shared host of a service, which names no tenant"));
    Some(mistake.hint("take it out of the tenant's `hosts`, or out of the service's `shared_hosts`"))
}

/// Compiles what is declared of a tenant, unless something keeps it from that. Without a good platform nothing can be said about
/// what stands on it, so its absence is no mistake of the tenant's.
fn judge(id: &TenantId, part: &TenantPart, ground: Option<&Arc<Ground>>) -> Judged {
    let declared = &part.declared;
    let has_tenant = declared.wanted.tenant().is_some();
    let is_known = has_tenant || declared.broken.keys().any(|id| id.kind == Kind::Tenant);
    let mut mistakes = declared.reasons();
    let mut compiled = None;
    if let (Some(ground), true) = (ground, mistakes.is_empty() && !declared.is_empty()) {
        match tenant::compile(id, &declared.wanted.documents(), ground, part.good.as_ref().map(|good| &*good.slice)) {
            Ok(result) => compiled = Some(result),
            Err(found) => mistakes = found,
        }
    }
    Judged { mistakes, compiled, is_known }
}

/// What is served of a tenant after what was found.
fn conclude(id: &TenantId, part: &TenantPart, judged: Judged, ground: &Arc<Ground>, carried: &mut Carried<'_>) -> Settled {
    let Judged { mistakes, compiled, is_known } = judged;
    let wanted = &part.declared.wanted;
    if !is_known {
        return Settled { served: None, good: None, mistakes, warnings: Diagnostics::new() };
    }
    if let (Some(Compiled { slice, warnings }), true) = (compiled, mistakes.is_empty()) {
        let slice = Arc::new(slice);
        let good = Some(Good { documents: Arc::clone(wanted), slice: Arc::clone(&slice) });
        return Settled { served: Some(slice), good, mistakes, warnings };
    }
    let good = part.good.as_ref().map(|good| last_good(id, good, wanted, ground, carried));
    let served = match &good {
        Some(good) => tightened(&good.slice, wanted, part.served.as_ref()),
        None => Arc::new(tenant::held(id, wanted, ground)),
    };
    Settled { served: Some(served), good, mistakes, warnings: Diagnostics::new() }
}

/// The last good version of a tenant, compiled again where the platform is another, or carried there if that fails.
fn last_good(id: &TenantId, good: &Good, wanted: &Arc<Kept>, ground: &Arc<Ground>, carried: &mut Carried<'_>) -> Good {
    if carried.to.is_none() {
        return good.clone();
    }
    let again = match Arc::ptr_eq(&good.documents, wanted) {
        // The very documents that have mistakes on the new ground.
        true => None,
        false => tenant::compile(id, &good.documents.documents(), ground, Some(&good.slice)).ok(),
    };
    let slice = match again {
        Some(compiled) => compiled.slice,
        None => good.slice.carried(carried.policy(&good.slice.policy)),
    };
    Good { documents: Arc::clone(&good.documents), slice: Arc::new(slice) }
}

/// The last good slice, in the state that is declared now if that serves nobody: who suspends a tenant means it at once, whatever
/// else is wrong with its documents.
fn tightened(slice: &Arc<Slice>, wanted: &Kept, served: Option<&Arc<Slice>>) -> Arc<Slice> {
    match wanted.tenant().map(|(_, tenant)| tenant.state) {
        Some(state @ (TenantState::Suspended | TenantState::Offboarding)) if slice.state() != SliceState::Declared(state) => {
            let slice = slice.in_state(state);
            served.filter(|served| served.means_the_same(&slice)).map_or_else(|| Arc::new(slice), Arc::clone)
        }
        _ => Arc::clone(slice),
    }
}

/// Policies carried from the platform before to the new one, each once however many tenants share it.
struct Carried<'a> {
    from: &'a Platform,
    to: Option<&'a Arc<Ground>>,
    policies: Map<u64, Arc<Policy>>,
}

impl Carried<'_> {
    fn policy(&mut self, policy: &Arc<Policy>) -> Arc<Policy> {
        let Some(ground) = self.to else { return Arc::clone(policy) };
        let carry = || Arc::new(tenant::carry(policy, self.from, &ground.platform).continuing(Some(policy)));
        Arc::clone(self.policies.entry(policy.id()).or_insert_with(carry))
    }
}

fn is_same_slice(a: Option<&Arc<Slice>>, b: Option<&Arc<Slice>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// Whether a tenant is served otherwise because of its own documents.
fn is_changed(part: &TenantPart, settled: &Settled) -> bool {
    let (before, after) = match (&part.served, &settled.served) {
        (Some(before), Some(after)) => (before, after),
        (None, None) => return false,
        _ => return true,
    };
    if before.means_the_same(after) {
        return false;
    }
    let documents = |good: &Option<Good>| good.as_ref().map(|good| Arc::clone(&good.documents));
    let same_documents = match (documents(&part.good), documents(&settled.good)) {
        (Some(before), Some(after)) => Arc::ptr_eq(&before, &after) || before.declare_the_same(&after),
        (None, None) => true,
        _ => false,
    };
    before.state() != after.state() || !same_documents
}
