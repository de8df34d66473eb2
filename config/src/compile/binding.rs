//! Who holds which roles: bindings matched against a proven principal.
//!
//! Cost: once per token or key and policy; the result is remembered with the credential.

use crate::declared::Subject;
use crate::declared::role::ClaimValue;
use crate::snapshot::{Credential, Policy, Principal, RoleSet, Scope};
use crate::text::Value;

/// Roles that the bindings of a policy give a principal.
pub(crate) fn roles_of(policy: &Policy, principal: &Principal) -> RoleSet {
    policy
        .bindings
        .iter()
        .filter(|binding| binding.subjects.iter().any(|subject| means(subject, binding.scope, principal)))
        .fold(RoleSet::EMPTY, |held, binding| held.union(binding.grants))
}

/// Whether a subject of a binding means this principal.
fn means(subject: &Subject, bound_by: Scope, principal: &Principal) -> bool {
    match (subject, &principal.credential) {
        // A tenant's own issuer may claim what it likes: only the tenant's own bindings listen to it.
        (Subject::Claim(_) | Subject::User(_), Credential::Token { scope: Scope::Tenant, .. }) if bound_by == Scope::Platform => false,
        (Subject::Claim(wanted), Credential::Token { claims, .. }) => wanted.iter().all(|(name, value)| claim_holds(claims, name, value)),
        (Subject::User(user), Credential::Token { .. }) => **user == *principal.user,
        (Subject::ApiKey(id), Credential::ApiKey(used)) => id == used,
        (Subject::ApiKey(_), Credential::Token { .. }) | (_, Credential::ApiKey(_)) => false,
    }
}

/// Whether a claim equals a value, or is a list that holds it.
fn claim_holds(claims: &Value, name: &str, wanted: &ClaimValue) -> bool {
    let Value::Map(entries) = claims else { return false };
    let Some((_, found)) = entries.iter().find(|(key, _)| &*key.text == name) else { return false };
    match &found.value {
        Value::List(items) => items.iter().any(|item| equals(&item.value, wanted)),
        value => equals(value, wanted),
    }
}

fn equals(found: &Value, wanted: &ClaimValue) -> bool {
    match (found, wanted) {
        (Value::Str(found), ClaimValue::Str(wanted)) => **found == **wanted,
        (Value::Int(found), ClaimValue::Int(wanted)) => found == wanted,
        (Value::Bool(found), ClaimValue::Bool(wanted)) => found == wanted,
        _ => false,
    }
}
