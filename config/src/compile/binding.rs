//! Who holds which roles: bindings matched against a proven principal.
//!
//! Cost: once per token or key and policy; the result is remembered with the credential.

use super::documents::Documents;
use super::mistake::{Count, Hinted, Mistakes, at};
use super::role::RoleTable;
use crate::declared::Subject;
use crate::declared::role::ClaimValue;
use crate::name::KeyId;
use crate::snapshot::{ApiKey, Binding, Credential, Place, Policy, Principal, RoleSet, Scope};
use crate::text::Value;
use std::sync::Arc;

/// Subjects that the bindings of one scope may have: each is asked about each new token.
const SUBJECTS_MAX: usize = 20_000;

/// Bindings of one scope. A tenant's looks for its role among its own roles first, then among the platform's.
///
/// Absent on purpose: the bound to `delegable` roles. It is about who may write a tenant's documents, not about what they mean:
/// in a folder the operator writes them all, and the control plane asks it before it stores what a tenant-admin sends.
pub(super) fn compile(
    documents: &Documents,
    scope: Scope,
    roles: &RoleTable,
    api_keys: &[(KeyId, ApiKey)],
    mistakes: &mut Mistakes,
) -> Vec<Binding> {
    let mut bindings = Vec::new();
    let mut count = Count::new("subjects of bindings", SUBJECTS_MAX);
    for (document, binding) in documents.bindings() {
        if !count.add(document, binding.subjects.len(), mistakes) {
            break;
        }
        for subject in &binding.subjects {
            if let Subject::ApiKey(id) = &subject.value
                && !api_keys.iter().any(|(known, _)| known == id)
            {
                // Not a mistake: who revokes a key by taking it out must not be kept on a version in which it is still good.
                let warning = at(document, subject, format!("API key `{id}` does not exist, so nobody is bound by it"));
                mistakes.warn(warning.nearest(id.as_str(), api_keys.iter().map(|(known, _)| known.as_str()), "API key"));
            }
        }
        let Some(role) = roles.find(&binding.role) else {
            let mistake = at(document, &binding.role, format!("role `{}` does not exist", binding.role.value));
            mistakes.push(mistake.nearest(binding.role.as_str(), roles.names(), "role"));
            continue;
        };
        bindings.push(Binding {
            name: document.id.name.clone(),
            place: Place { file: Arc::clone(&document.origin.file), line: document.origin.span.line },
            scope,
            subjects: binding.subjects.iter().map(|subject| subject.value.clone()).collect(),
            role,
            grants: roles.carries(role),
            in_shadow: binding.enforce.is_shadow(),
        });
    }
    bindings
}

/// Roles that the bindings of a policy give a principal.
pub(crate) fn roles_of(policy: &Policy, principal: &Principal) -> RoleSet {
    policy.bindings().filter(|binding| binds(binding, principal)).fold(RoleSet::EMPTY, |held, binding| held.union(binding.grants))
}

/// Whether a binding means this principal.
pub(crate) fn binds(binding: &Binding, principal: &Principal) -> bool {
    binding.subjects.iter().any(|subject| means(subject, binding.scope, principal))
}

/// Whether a subject of a binding means this principal.
fn means(subject: &Subject, bound_by: Scope, principal: &Principal) -> bool {
    match (subject, &principal.credential) {
        // A tenant's own issuer may claim what it likes, and so may a tenant call its workloads: only the tenant's own bindings
        // listen to it.
        (Subject::Claim(_) | Subject::User(_), Credential::Token { scope: Scope::Tenant, .. } | Credential::Certificate(_))
            if bound_by == Scope::Platform =>
        {
            false
        }
        (Subject::Claim(wanted), Credential::Token { claims, .. }) => wanted.iter().all(|(name, value)| claim_holds(claims, name, value)),
        (Subject::User(user), Credential::Token { .. } | Credential::Certificate(_)) => **user == *principal.user,
        (Subject::ApiKey(id), Credential::ApiKey(used)) => id == used,
        (Subject::ApiKey(_), Credential::Token { .. } | Credential::Certificate(_))
        | (Subject::Claim(_), Credential::Certificate(_))
        | (_, Credential::ApiKey(_)) => false,
    }
}

/// Whether a claim equals a value, or is a list that holds it.
fn claim_holds(claims: &Value, name: &str, wanted: &ClaimValue) -> bool {
    let Value::Map(entries) = claims else { return false };
    let Some((_, found)) = entries.iter().find(|(key, _)| &*key.text == name) else { return false };
    match &found.value {
        Value::List(items) => items.iter().any(|item| wanted.equals(&item.value)),
        value => wanted.equals(value),
    }
}
