//! The audit trail: who did what, from where, and what was refused to whom. Append-only; each entry holds the digest of the one before
//! it, so that whoever takes one out or changes it breaks the chain.

use crate::document::Content;
use crate::event::Became;
use crate::operator::{Operator, moment, sha256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulkhead_config::declared::DocumentId;
use serde_json::{Value, json};
use std::sync::Arc;

/// Where a request came from, and how it is known.
#[derive(Debug, Clone)]
pub struct From {
    /// The peer's address, or `in process`.
    pub address: Arc<str>,
    /// What the answer and the log know the request by.
    pub request_id: Arc<str>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It was done.
    Allowed,
    /// Who asked may not.
    Denied,
}

/// One document of an attempt.
#[derive(Debug, Clone)]
pub struct Touched {
    /// Which.
    pub id: DocumentId,
    /// What became of it, or would have.
    pub became: Became,
    /// What it said before.
    pub before: Option<Content>,
    /// What it says now.
    pub after: Option<Content>,
}

/// One attempt.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Who, if that was proved.
    pub operator: Option<Operator>,
    /// From where.
    pub from: From,
    /// What was asked for, by its name in the API.
    pub action: Arc<str>,
    /// How it ended.
    pub decision: Decision,
    /// Why it was refused.
    pub reason: Option<String>,
    /// What it was about.
    pub documents: Vec<Touched>,
    /// The revision it made.
    pub revision: Option<u64>,
    /// When, in seconds since 1970-01-01 UTC.
    pub at: i64,
}

/// The end of the trail: what the next entry must follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tip {
    /// Entries there are.
    pub length: u64,
    /// Digest of the last one.
    pub digest: [u8; 32],
}

/// One entry as it is kept.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its place in the trail; the first is 1.
    pub number: u64,
    /// JSON.
    pub bytes: Vec<u8>,
}

impl Attempt {
    /// Adds it to a trail.
    #[must_use]
    pub fn follow(&self, tip: &mut Tip) -> Entry {
        let number = tip.length + 1;
        let documents: Vec<Value> = self.documents.iter().map(Touched::to_json).collect();
        let entry = json!({
            "number": number,
            "time": moment(self.at),
            "operator": self.operator.as_ref().map(|operator| &*operator.name),
            "role": self.operator.as_ref().map(|operator| operator.role.as_str()),
            "proof": self.operator.as_ref().map(|operator| &*operator.proof),
            "address": &*self.from.address,
            "request_id": &*self.from.request_id,
            "action": &*self.action,
            "decision": match self.decision { Decision::Allowed => "allowed", Decision::Denied => "denied" },
            "reason": self.reason,
            "documents": documents,
            "revision": self.revision,
            "previous": URL_SAFE_NO_PAD.encode(tip.digest),
        });
        let bytes = entry.to_string().into_bytes();
        *tip = Tip { length: number, digest: sha256(&bytes) };
        Entry { number, bytes }
    }
}

impl Touched {
    fn to_json(&self) -> Value {
        json!({
            "kind": self.id.kind.as_str(),
            "tenant": self.id.tenant.as_ref().map(|tenant| tenant.as_str()),
            "name": self.id.name.as_str(),
            "became": self.became.as_str(),
            "before": self.before.map(|content| content.to_string()),
            "after": self.after.map(|content| content.to_string()),
        })
    }
}

/// Whether entries, in order, are a trail without a gap, and where it breaks.
#[must_use]
pub fn first_break<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Option<u64> {
    let mut tip: Option<Tip> = None;
    for bytes in entries {
        let entry: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let number = entry.get("number").and_then(Value::as_u64).unwrap_or_default();
        let previous = entry.get("previous").and_then(Value::as_str);
        if let Some(tip) = tip {
            let follows = number == tip.length + 1 && previous == Some(URL_SAFE_NO_PAD.encode(tip.digest).as_str());
            if !follows {
                return Some(tip.length + 1);
            }
        }
        tip = Some(Tip { length: number, digest: sha256(bytes) });
    }
    None
}
