//! Events: what happened, as CloudEvents 1.0, written in the transaction of their change. An event exists if and only if its change does.

use crate::document::{Version, to_json};
use crate::operator::moment;
use bulkhead_config::declared::Kind;
use bulkhead_config::snapshot::Epoch;
use serde_json::{Map, Value, json};

/// What became of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// There was none.
    Created,
    /// It says something else.
    Changed,
    /// It is gone.
    Removed,
    /// It says what it said.
    Unchanged,
}

impl Became {
    /// As it is shown, and as the type of an event names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Became::Created => "created",
            Became::Changed => "changed",
            Became::Removed => "removed",
            Became::Unchanged => "unchanged",
        }
    }
}

/// `tenant`, `role_binding`: a kind in the type of an event.
fn snake(kind: Kind) -> String {
    let mut out = String::new();
    for letter in kind.as_str().chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// The event of one document's change: `tenant.created.v1`, `role_binding.removed.v1`. `number` tells those of one revision apart.
#[must_use]
pub fn of(version: &Version, became: Became, epoch: Epoch, number: usize) -> Value {
    let tenant = match version.id.kind {
        Kind::Tenant => Some(version.id.name.as_str()),
        _ => version.id.tenant.as_ref().map(|tenant| tenant.as_str()),
    };
    let mut data = json!({ "kind": version.id.kind.as_str(), "name": version.id.name.as_str(), "revision": epoch.revision });
    if let (Kind::Tenant, Some(text)) = (version.id.kind, &version.text)
        && let (Value::Object(declared), Some(data)) = (to_json(text), data.as_object_mut())
    {
        data.extend(declared.into_iter().filter(|(key, _)| ["name", "plan", "email", "locale", "state"].contains(&key.as_str())));
    }
    let mut event = Map::new();
    event.insert("specversion".to_owned(), "1.0".into());
    event.insert("id".to_owned(), format!("{}-{}-{number}", epoch.incarnation, epoch.revision).into());
    event.insert("source".to_owned(), "/bulkhead/control-plane".into());
    event.insert("type".to_owned(), format!("{}.{}.v1", snake(version.id.kind), became.as_str()).into());
    event.insert("subject".to_owned(), version.id.to_string().into());
    event.insert("time".to_owned(), moment(version.at).into());
    event.insert("datacontenttype".to_owned(), "application/json".into());
    if let Some(tenant) = tenant {
        event.insert("tenantid".to_owned(), tenant.into());
    }
    event.insert("data".to_owned(), data);
    Value::Object(event)
}
