//! Whether who asks may: which documents are an operator's to write, and how far a tenant's own roles may reach.
//!
//! A tenant-admin writes only what is its tenant's, and only kinds that are a tenant's to say. Its roles and bindings reach no further than
//! the platform's roles marked `delegable`. That is asked of what would be declared afterwards, so that it can neither write such a role,
//! nor bind one that the platform wrote, nor take away the narrow role that hides a wide one of the same name.
//! What else a tenant cannot say (`enforce: shadow`, `share: public`, wider bounds) its documents cannot hold, whoever writes them.

use super::{Change, Edit, by_tenant, document, is_platform};
use crate::document::Version;
use crate::operation::tenants_may_write;
use crate::operator::Role as OperatorRole;
use crate::shelf::Shelf;
use bulkhead_config::condition::Matchers;
use bulkhead_config::declared::role::When;
use bulkhead_config::declared::{Body, Document, DocumentId, Kind, Role, RoleBinding, Rule, Subject};
use bulkhead_config::name::{DocumentName, KeyId, RoleName, TenantId};
use bulkhead_config::path::Relation;
use bulkhead_config::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// What an operator may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Its role writes nothing.
    ReadOnly,
    /// It is another tenant's, or nobody's: for this operator that is the same.
    Unknown(DocumentId),
    /// Only the platform says this.
    Platforms(DocumentId),
    /// It would let somebody do more than the platform lets tenants give.
    Escalation(DocumentId, String),
    /// What the platform wrote, and reaches further than a tenant could have said, hangs on it.
    WrittenByPlatform(DocumentId),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::ReadOnly => f.write_str("the operator's role changes nothing"),
            Denied::Unknown(id) => write!(f, "there is no {id}"),
            Denied::Platforms(id) => write!(f, "{id} is the platform's to say"),
            Denied::Escalation(id, why) => write!(f, "{id} would reach further than a tenant may: {why}"),
            Denied::WrittenByPlatform(id) => {
                write!(f, "{id} decides what the platform has given beyond what a tenant may give")
            }
        }
    }
}

/// Checks a whole change.
pub(super) fn check(change: &Change, shelf: &Shelf, snapshot: &Snapshot) -> Result<(), Denied> {
    if is_platform(&change.by) {
        return Ok(());
    }
    let tenant = match (change.by.role, &change.by.tenant) {
        (OperatorRole::TenantAdmin, Some(tenant)) => tenant,
        _ => return Err(Denied::ReadOnly),
    };
    for edit in &change.edits {
        is_its_own(edit, tenant)?;
    }
    if snapshot.tenant(tenant.as_str()).is_none() {
        return Err(Denied::Unknown(DocumentId { kind: Kind::Tenant, tenant: None, name: name_of(tenant) }));
    }
    let edits = by_tenant(&change.edits).remove(&Some(tenant.as_str())).unwrap_or_default();
    let before = Scope::read(shelf, tenant);
    before.keeps_identities(&edits, shelf)?;
    let after = before.with(&edits);
    after.keeps_within(&before, &edits)
}

/// Whether a document is this tenant's to write. What is not its to know of is told from what is not its to say.
fn is_its_own(edit: &Edit, tenant: &TenantId) -> Result<(), Denied> {
    let id = &edit.id;
    let is_known = match (&id.tenant, id.kind) {
        (Some(theirs), _) => theirs == tenant,
        (None, Kind::Tenant) => id.name.as_str() == tenant.as_str(),
        (None, _) => true,
    };
    if !is_known {
        return Err(Denied::Unknown(id.clone()));
    }
    if id.tenant.is_none() || !tenants_may_write(id.kind) { Err(Denied::Platforms(id.clone())) } else { Ok(()) }
}

/// A tenant's document is named by its id, which follows the same alphabet.
fn name_of(tenant: &TenantId) -> DocumentName {
    DocumentName::from(tenant)
}

/// Roles and bindings as one tenant sees them.
#[derive(Clone, Default)]
struct Scope {
    platform: BTreeMap<RoleName, Arc<Role>>,
    own: BTreeMap<RoleName, Arc<Role>>,
    bindings: BTreeMap<DocumentName, Arc<RoleBinding>>,
}

impl Scope {
    fn read(shelf: &Shelf, tenant: &TenantId) -> Self {
        let all = |kind, tenant: Option<&TenantId>| shelf.page(kind, tenant, None, usize::MAX).versions;
        let documents = |versions: Vec<Arc<Version>>| versions.into_iter().filter_map(|version| version.document().ok());
        let mut scope = Scope::default();
        for document in documents(all(Kind::Role, None)) {
            if let Body::Role(role) = &document.body {
                scope.platform.insert(role.name.clone(), Arc::new((**role).clone()));
            }
        }
        documents(all(Kind::Role, Some(tenant))).for_each(|document| scope.put(&document));
        documents(all(Kind::RoleBinding, Some(tenant))).for_each(|document| scope.put(&document));
        scope
    }

    fn put(&mut self, document: &Arc<Document>) {
        // A packed one must not pass for one that says nothing.
        match &document.unpacked().body {
            Body::Role(role) => drop(self.own.insert(role.name.clone(), Arc::new((**role).clone()))),
            Body::RoleBinding(binding) => drop(self.bindings.insert(document.id.name.clone(), Arc::new((**binding).clone()))),
            _ => {}
        }
    }

    /// As it would be afterwards.
    fn with(&self, edits: &[&Edit]) -> Self {
        let mut after = self.clone();
        for edit in edits {
            match document(edit) {
                Some(document) => after.put(document),
                None if edit.id.kind == Kind::Role => after.own.retain(|name, _| name.as_str() != edit.id.name.as_str()),
                None if edit.id.kind == Kind::RoleBinding => drop(after.bindings.remove(&edit.id.name)),
                None => {}
            }
        }
        after
    }

    /// What a tenant's documents mean by a role: its own, else the platform's.
    fn resolve(&self, name: &RoleName) -> Option<Meant> {
        let own = self.own.get(name).map(|role| Meant::Own(Arc::clone(role)));
        own.or_else(|| self.platform.get(name).map(|role| Meant::Platforms(Arc::clone(role))))
    }

    /// Everything that holding a role means.
    fn closure(&self, name: &RoleName) -> BTreeMap<RoleName, Meant> {
        let mut found = BTreeMap::new();
        let mut open = vec![name.clone()];
        while let Some(name) = open.pop() {
            if found.contains_key(&name) {
                continue;
            }
            let Some(meant) = self.resolve(&name) else { continue };
            // What a platform role inherits is the platform's, whatever the tenant calls its own.
            if let Meant::Own(role) = &meant {
                open.extend(role.inherits.iter().map(|inherited| inherited.value.clone()));
            }
            found.insert(name, meant);
        }
        found
    }

    /// Who somebody is decides what they hold: where the platform has bound a role that reaches further than a tenant may, the tenant
    /// changes no Identity that could make somebody one of those it is bound to.
    fn keeps_identities(&self, edits: &[&Edit], shelf: &Shelf) -> Result<(), Denied> {
        let wide: Vec<&Arc<RoleBinding>> = self.bindings.values().filter(|binding| self.exceeds(&binding.role.value).is_some()).collect();
        for edit in edits.iter().filter(|edit| edit.id.kind == Kind::Identity) {
            let stored = shelf.get(&edit.id).and_then(|version| version.document().ok());
            let mut keys: BTreeSet<KeyId> = BTreeSet::new();
            for document in stored.iter().chain(document(edit)) {
                if let Body::Identity(identity) = &document.body {
                    keys.extend(identity.api_keys.iter().map(|key| key.id.value.clone()));
                }
            }
            let could_be = |subject: &Subject| match subject {
                Subject::ApiKey(key) => keys.contains(key),
                // A token of whatever issuer the tenant names can say it.
                _ => true,
            };
            if wide.iter().any(|binding| binding.subjects.iter().any(|subject| could_be(&subject.value))) {
                return Err(Denied::WrittenByPlatform(edit.id.clone()));
            }
        }
        Ok(())
    }

    /// Whether nothing that these edits touch, or give another meaning, reaches further than a tenant may.
    fn keeps_within(&self, before: &Scope, edits: &[&Edit]) -> Result<(), Denied> {
        let edited: BTreeSet<&DocumentId> = edits.iter().map(|edit| &edit.id).collect();
        // What it could not have written it may not change either.
        for edit in edits {
            let name: Option<RoleName> = edit.id.name.as_str().parse().ok();
            let is_wide = match edit.id.kind {
                Kind::Role => name.is_some_and(|name| before.own.contains_key(&name) && before.exceeds(&name).is_some()),
                Kind::RoleBinding => {
                    before.bindings.get(&edit.id.name).is_some_and(|binding| before.exceeds(&binding.role.value).is_some())
                }
                _ => false,
            };
            if is_wide {
                return Err(Denied::WrittenByPlatform(edit.id.clone()));
            }
        }
        let tenant = edits.first().and_then(|edit| edit.id.tenant.clone());
        let id = |kind, name: &str| name.parse().ok().map(|name| DocumentId { kind, tenant: tenant.clone(), name });
        for name in self.own.keys() {
            let Some(id) = id(Kind::Role, name.as_str()) else { continue };
            self.unless_unchanged(before, name, edited.contains(&id), id)?;
        }
        for (binding, bound) in &self.bindings {
            let Some(id) = id(Kind::RoleBinding, binding.as_str()) else { continue };
            self.unless_unchanged(before, &bound.role.value, edited.contains(&id), id)?;
        }
        Ok(())
    }

    fn unless_unchanged(&self, before: &Scope, role: &RoleName, is_edited: bool, id: DocumentId) -> Result<(), Denied> {
        if !is_edited && self.closure(role) == before.closure(role) {
            return Ok(());
        }
        self.exceeds(role).map_or(Ok(()), |why| Err(Denied::Escalation(id, why)))
    }

    /// How holding a role goes beyond what the platform lets tenants give, if it does.
    fn exceeds(&self, name: &RoleName) -> Option<String> {
        for (name, meant) in self.closure(name) {
            match meant {
                Meant::Platforms(role) if !role.delegable => {
                    return Some(format!("the platform's role `{name}` is not delegable"));
                }
                Meant::Platforms(_) => {}
                Meant::Own(role) => {
                    let uncovered = role.allow.iter().find(|rule| !self.is_delegated(&rule.value));
                    if let Some(rule) = uncovered {
                        let rule = show(&rule.value);
                        return Some(format!("no delegable role of the platform allows all of `{rule}`"));
                    }
                }
            }
        }
        None
    }

    /// Whether a rule allows no more than one rule of a delegable role does. Each of its paths, with each of its methods.
    fn is_delegated(&self, rule: &Rule) -> bool {
        let delegable: Vec<Vec<&Role>> = self.platform.values().filter(|role| role.delegable).map(|role| self.inherited(role)).collect();
        rule.paths.iter().all(|path| {
            delegable.iter().any(|roles| {
                let allows = roles.iter().flat_map(|role| &role.allow);
                let mut denies = roles.iter().flat_map(|role| &role.deny);
                let covers = |theirs: &Rule| {
                    // What tokens of the tenant's own issuers say is the tenant's to choose, so a rule that asks for claims is no bound.
                    let asks = |when: &When| when.condition.is_some() || when.matchers != Matchers::default();
                    let is_free = theirs.when == When::default() || (theirs.when == rule.when && !asks(&theirs.when));
                    is_free && methods_cover(theirs, rule) && theirs.paths.iter().any(|theirs| theirs.relation(path) == Relation::Covers)
                };
                // What the role denies beside it, the tenant's rule would allow again.
                let touches = |deny: &Rule| {
                    let meets = |theirs: &bulkhead_config::path::Pattern| {
                        theirs.relation(path) != Relation::Disjoint || path.relation(theirs) != Relation::Disjoint
                    };
                    deny.paths.iter().any(meets)
                };
                allows.map(|rule| &rule.value).any(covers) && !denies.any(|deny| touches(&deny.value))
            })
        })
    }

    /// A platform role with those it inherits.
    fn inherited<'a>(&'a self, role: &'a Role) -> Vec<&'a Role> {
        let (mut found, mut seen, mut open) = (Vec::new(), BTreeSet::new(), vec![role]);
        while let Some(role) = open.pop() {
            if seen.insert(&role.name) {
                found.push(role);
                open.extend(role.inherits.iter().filter_map(|name| self.platform.get(&name.value)).map(|role| &**role));
            }
        }
        found
    }
}

/// What a name stands for.
#[derive(Clone, PartialEq)]
enum Meant {
    Own(Arc<Role>),
    Platforms(Arc<Role>),
}

/// Whether every method of a rule is one of another's. GET grants HEAD.
fn methods_cover(wide: &Rule, narrow: &Rule) -> bool {
    match (&wide.methods, &narrow.methods) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => {
            narrow.iter().all(|method| wide.contains(method) || (method == "HEAD" && wide.iter().any(|method| method == "GET")))
        }
    }
}

/// A rule in its short form.
fn show(rule: &Rule) -> String {
    let methods = rule.methods.as_ref().map_or_else(|| "*".to_owned(), |methods| methods.join(","));
    let paths: Vec<String> = rule.paths.iter().map(ToString::to_string).collect();
    format!("{methods} {}", paths.join(" "))
}
