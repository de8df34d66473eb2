//! Conditions of rules: what a request must be beside its method and path.
//!
//! A condition is compiled where documents are read; per request it reads what [`Asked`] shows and the claims of a token.
//! What cannot be said of a request (a field that stands twice, a claim that is not there) is `None`: it never helps anybody, so
//! a rule that allows does not match then, and one that denies does.
//!
//! Cost: per request on a route with conditions; no lock, no allocation for matchers.

mod asked;
mod matcher;
mod cel;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;

use asked::QUERY_BYTES_MAX;
pub use asked::{Asked, Fields, Found, Kept, NOTHING, VALUE_BYTES_MAX};
pub(crate) use asked::{decoded, parameter};
pub use cel::{Condition, Fault};
pub(crate) use cel::{Inquiry, PATTERN_BYTES_MAX, Pattern};
pub use matcher::Matchers;
pub(crate) use matcher::{ANY_OF_MAX, ClaimTest, FieldTest, MATCHERS_MAX, Matcher, Named};

use crate::decide::Facts;
use crate::snapshot::{Credential, Scope};
use crate::text::{Key, Node, Value};

/// The claims that a rule may count: a platform's rule counts those of platform issuers only, as a tenant's own issuer may claim
/// what it likes.
pub(crate) fn claims<'a>(facts: &Facts<'a>, scope: Scope) -> &'a [(Key, Node)] {
    match facts.principal {
        Some((principal, _)) => match &principal.credential {
            Credential::Token { scope: Scope::Tenant, .. } if scope == Scope::Platform => &[],
            Credential::Token { claims, .. } => match &**claims {
                Value::Map(entries) => entries,
                _ => &[],
            },
            Credential::ApiKey(_) | Credential::Certificate(_) => &[],
        },
        None => &[],
    }
}
