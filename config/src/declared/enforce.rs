//! `enforce`: whether a document refuses, or only records what it would refuse.
//!
//! A tenant's own documents cannot say `shadow`: what the platform asks of a tenant is not the tenant's to suspend. The platform
//! puts a tenant in shadow as a whole, in its Tenant document. Nor can a SecurityPolicy: sizes and time-outs protect everybody
//! behind the sidecar, also while it is being tried.

use super::read::{Head, Scope};
use super::reader::{Item, Map, Outcome, wrong};
use super::schema::{self, Schema};
use super::value;
use serde_json::json;

/// Whether a document refuses or only records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Enforce {
    /// It refuses.
    #[default]
    Enforce,
    /// It records what it would refuse, and lets it through.
    Shadow,
}

const FIELD: &str = "enforce";
const WORDS: [(&str, Enforce); 2] = [("enforce", Enforce::Enforce), ("shadow", Enforce::Shadow)];

impl Enforce {
    /// Whether it only records.
    #[must_use]
    pub fn is_shadow(self) -> bool {
        self == Enforce::Shadow
    }

    /// The field of what belongs to the platform, whoever it is about.
    pub(super) fn read(map: &mut Map<'_>) -> Outcome<Self> {
        Ok(map.optional(FIELD, |item| value::word(item, &WORDS))?.unwrap_or_default())
    }

    /// The field of a kind that a tenant can have too.
    pub(super) fn read_of(head: &Head<'_>, map: &mut Map<'_>) -> Outcome<Self> {
        let scope = head.scope;
        let read = map.optional(FIELD, |item| {
            let complaint = || wrong("`enforce: shadow` stands only in platform-wide documents");
            let hint = "to put the whole tenant in shadow, write `enforce: shadow` in its Tenant document";
            refuse_shadow(item, scope == Scope::Tenant, || complaint().hint(hint))
        });
        Ok(read?.unwrap_or_default())
    }

    /// The field of a kind of which nothing can be in shadow.
    pub(super) fn read_always(map: &mut Map<'_>) -> Outcome<Self> {
        let read = map.optional(FIELD, |item| {
            let complaint = || wrong("a SecurityPolicy cannot be in shadow: sizes, time-outs and trusted hops always hold");
            refuse_shadow(item, true, || complaint().hint("leave `enforce` out, and write bounds that today's requests keep"))
        });
        Ok(read?.unwrap_or_default())
    }

    pub(super) fn schema() -> Schema {
        schema::word("Whether it refuses, or only records what it would refuse (`shadow`; platform-wide only).", &["enforce", "shadow"])
    }

    /// What a document may say that cannot be in shadow.
    pub(super) fn schema_always() -> Schema {
        schema::word("Whether it refuses.", &["enforce"])
    }

    /// What a tenant's documents must not say, as a rule between their fields.
    pub(super) fn schema_of_tenant() -> Schema {
        json!({ "const": "enforce" })
    }
}

fn refuse_shadow(item: &Item<'_>, is_refused: bool, complaint: impl FnOnce() -> super::reader::Complaint) -> Outcome<Enforce> {
    match value::word(item, &WORDS)? {
        Enforce::Shadow if is_refused => Err(item.refuse(complaint())),
        enforce => Ok(enforce),
    }
}
