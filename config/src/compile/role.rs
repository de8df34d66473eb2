//! Roles into bits: the platform's first, then the tenant's, with inheritance followed and cycles refused.

use super::documents::Documents;
use super::mistake::{Hinted, Mistakes, at, in_document};
use crate::declared::{Document, Role};
use crate::name::RoleName;
use crate::snapshot::{ROLES_MAX, RoleInfo, RoleSet, Scope};
use std::sync::Arc;

/// Every role that one scope sees, by bit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RoleTable {
    pub(super) infos: Arc<[RoleInfo]>,
}

impl RoleTable {
    /// The platform's roles.
    pub(super) fn of_platform(documents: &Documents, mistakes: &mut Mistakes) -> Self {
        Self::extended(&[], documents, Scope::Platform, mistakes)
    }

    /// A tenant's own roles after the platform's, whose bits stay what they are.
    pub(super) fn of_tenant(platform: &RoleTable, documents: &Documents, mistakes: &mut Mistakes) -> Self {
        if documents.roles().next().is_none() {
            return platform.clone();
        }
        Self::extended(&platform.infos, documents, Scope::Tenant, mistakes)
    }

    fn extended(inherited: &[RoleInfo], documents: &Documents, scope: Scope, mistakes: &mut Mistakes) -> Self {
        let room = ROLES_MAX.saturating_sub(inherited.len());
        let own: Vec<_> = documents.roles().collect();
        if let Some((document, _)) = own.get(room) {
            let all = inherited.len() + own.len();
            let message = format!("{all} roles are declared here, more than the {ROLES_MAX} that one tenant can see");
            mistakes.push(in_document(document, "", message).hint("merge roles that are always bound together"));
        }
        let named = own.iter().take(room).map(|(_, role)| RoleInfo {
            name: role.name.clone(),
            scope,
            carries: RoleSet::EMPTY,
            in_shadow: role.enforce.is_shadow(),
        });
        let mut infos: Vec<RoleInfo> = inherited.iter().cloned().chain(named).collect();
        let own = own.get(..room).unwrap_or(&own);
        let edges = edges(&infos, own, mistakes);
        let carried = follow(&infos, inherited.len(), &edges, own, mistakes);
        for (info, carries) in infos.iter_mut().skip(inherited.len()).zip(carried) {
            info.carries = carries;
        }
        Self { infos: infos.into() }
    }

    /// A role by its name: the tenant's own before the platform's.
    pub(super) fn find(&self, name: &RoleName) -> Option<usize> {
        find(&self.infos, name)
    }

    /// Names a mistake may mean.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.infos.iter().map(|info| info.name.as_str())
    }

    /// A role and all it inherits.
    pub(super) fn carries(&self, bit: usize) -> RoleSet {
        self.infos.get(bit).map_or(RoleSet::EMPTY, |info| info.carries)
    }
}

fn find(infos: &[RoleInfo], name: &RoleName) -> Option<usize> {
    let of = |scope| infos.iter().position(|info| info.scope == scope && info.name == *name);
    of(Scope::Tenant).or_else(|| of(Scope::Platform))
}

/// What each own role inherits directly, by bit.
fn edges(infos: &[RoleInfo], own: &[(&Arc<Document>, &Role)], mistakes: &mut Mistakes) -> Vec<Vec<usize>> {
    let mut edges = Vec::with_capacity(own.len());
    for (document, role) in own {
        let mut bits = Vec::with_capacity(role.inherits.len());
        for name in &role.inherits {
            match find(infos, name) {
                Some(bit) => bits.push(bit),
                None => {
                    let others = infos.iter().map(|info| info.name.as_str()).filter(|known| *known != role.name.as_str());
                    let mistake = at(document, name, format!("role `{}` inherits role `{}`, which does not exist", role.name, name.value));
                    mistakes.push(mistake.nearest(name.as_str(), others, "other role"));
                }
            }
        }
        edges.push(bits);
    }
    edges
}

/// What each own role carries: itself and all it inherits. A role that inherits itself is a mistake.
fn follow(
    infos: &[RoleInfo],
    first_own: usize,
    edges: &[Vec<usize>],
    own: &[(&Arc<Document>, &Role)],
    mistakes: &mut Mistakes,
) -> Vec<RoleSet> {
    let mut below = vec![RoleSet::EMPTY; own.len()];
    let carried = |below: &[RoleSet], bit: usize| match bit.checked_sub(first_own) {
        Some(place) => below.get(place).copied().unwrap_or_default().with(bit),
        None => infos.get(bit).map_or(RoleSet::EMPTY, |info| info.carries),
    };
    // Each round carries everything one step further; sets only grow, so it ends.
    loop {
        let next: Vec<RoleSet> =
            edges.iter().map(|bits| bits.iter().fold(RoleSet::EMPTY, |all, &bit| all.union(carried(&below, bit)))).collect();
        if next == below {
            break;
        }
        below = next;
    }
    for (place, (document, role)) in own.iter().enumerate() {
        let bit = first_own + place;
        let returns = |via: &usize| carried(&below, *via).has(bit);
        let Some(way) = edges.get(place).and_then(|bits| bits.iter().position(returns)) else { continue };
        if let Some(name) = role.inherits.get(way) {
            let by_way = if name.value == role.name { String::new() } else { format!(" by way of `{}`", name.value) };
            let mistake = at(document, name, format!("role `{}` inherits itself{by_way}", role.name));
            mistakes.push(mistake.hint("take one of the roles on the way out of `inherits`"));
        }
    }
    below.iter().enumerate().map(|(place, below)| below.with(first_own + place)).collect()
}
