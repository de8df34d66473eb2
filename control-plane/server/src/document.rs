//! One stored document: the text an operator wrote, what it says whatever its layout, and which revision it is of.

use crate::operator::sha256;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulkhead_config::declared::{Document, DocumentId, Kind, Origin, read_document};
use bulkhead_config::diagnostic::Diagnostics;
use bulkhead_config::text::{self, Budget, Node};
use serde_json::{Map, Value, json};
use std::fmt;
use std::sync::Arc;

/// Who declares a document; nobody else changes it by accident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Whoever writes through the API.
    Api,
    /// The watched folder, in which it stands in this file.
    Files(Arc<str>),
}

/// A version of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Which document.
    pub id: DocumentId,
    /// As it was written: YAML or JSON, one document. `None`: this version says that it was removed.
    pub text: Option<Arc<str>>,
    /// Of which revision it is.
    pub revision: u64,
    /// The revision that created the document.
    pub created: u64,
    /// Who declares it.
    pub owner: Owner,
    /// Which operator wrote it.
    pub by: Arc<str>,
    /// When, in seconds since 1970-01-01 UTC.
    pub at: i64,
}

/// What a document says, whatever its layout: SHA-256 of its JSON with sorted keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content([u8; 32]);

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Content {
    /// Of a text that holds one document.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(sha256(to_json(text).to_string().as_bytes()))
    }
}

/// A stored version that this program cannot read.
#[derive(Debug, thiserror::Error)]
#[error("a stored version of {id} lacks `{what}`")]
pub struct BadVersion {
    id: Arc<str>,
    what: &'static str,
}

/// The entity tag of the version that a revision made.
#[must_use]
pub fn tag(incarnation: u64, revision: u64) -> String {
    format!("\"{incarnation}.{revision}\"")
}

/// What one document says, as JSON. `null` for a text that is none; what is stored was read before.
#[must_use]
pub fn to_json(text: &str) -> Value {
    let read = text::read("document.yaml", text, Budget::FILE);
    read.trees.into_iter().next().and_then(|tree| tree.root).map_or(Value::Null, |root| json_of(&root))
}

fn json_of(node: &Node) -> Value {
    match &node.value {
        text::Value::Null => Value::Null,
        text::Value::Bool(truth) => (*truth).into(),
        text::Value::Int(number) => (*number).into(),
        text::Value::Float(number) => (*number).into(),
        text::Value::Str(text) => (**text).into(),
        text::Value::List(list) => list.iter().map(json_of).collect(),
        text::Value::Map(entries) => entries.iter().map(|(key, node)| (key.text.to_string(), json_of(node))).collect::<Map<_, _>>().into(),
    }
}

impl Version {
    /// The entity tag of this version (RFC 9110 section 8.8.3).
    #[must_use]
    pub fn etag(&self, incarnation: u64) -> String {
        tag(incarnation, self.revision)
    }

    /// The document, read again.
    ///
    /// # Errors
    /// Every mistake: it was written for another version of this program.
    pub fn document(&self) -> Result<Arc<Document>, Diagnostics> {
        let mut document = read_document(&self.file(), self.text.as_deref().unwrap_or_default())?;
        let origin = Origin { file: self.file(), span: document.origin.span };
        Arc::make_mut(&mut document).origin = origin;
        Ok(document)
    }

    /// Where diagnostics say that it stands.
    #[must_use]
    pub fn file(&self) -> Arc<str> {
        match &self.owner {
            Owner::Files(file) => Arc::clone(file),
            Owner::Api => self.id.to_string().into(),
        }
    }

    /// As it is kept.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let file = match &self.owner {
            Owner::Api => None,
            Owner::Files(file) => Some(&**file),
        };
        let kept = json!({
            "text": self.text.as_deref(),
            "revision": self.revision,
            "created": self.created,
            "file": file,
            "by": &*self.by,
            "at": self.at,
        });
        kept.to_string().into_bytes()
    }

    /// As it was kept under a document's key.
    ///
    /// # Errors
    /// What is missing in it.
    pub fn from_bytes(id: DocumentId, bytes: &[u8]) -> Result<Self, BadVersion> {
        let lacks = |what| BadVersion { id: id.to_string().into(), what };
        let kept: Value = serde_json::from_slice(bytes).map_err(|_| lacks("its form"))?;
        let number = |key: &'static str| kept.get(key).and_then(Value::as_u64).ok_or(lacks(key));
        let shared = |key: &str| kept.get(key).and_then(Value::as_str).map(Arc::<str>::from);
        let (revision, created) = (number("revision")?, number("created")?);
        Ok(Self {
            text: shared("text"),
            revision,
            created,
            owner: shared("file").map_or(Owner::Api, Owner::Files),
            by: shared("by").ok_or(lacks("by"))?,
            at: kept.get("at").and_then(Value::as_i64).ok_or(lacks("at"))?,
            id,
        })
    }
}

/// A document's identity as part of a key: `Role/acme_corp/auditor`, `Plan//free`. No name holds a slash.
#[must_use]
pub fn key_of(id: &DocumentId) -> String {
    format!("{}/{}/{}", id.kind, id.tenant.as_ref().map_or("", |tenant| tenant.as_str()), id.name)
}

/// The identity that a part of a key names.
#[must_use]
pub fn id_of(key: &str) -> Option<DocumentId> {
    let mut parts = key.split('/');
    let kind: Kind = parts.next()?.parse().ok()?;
    let tenant = match parts.next()? {
        "" => None,
        tenant => Some(tenant.parse().ok()?),
    };
    let name = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(DocumentId { kind, tenant, name })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const PLAN: &str = "kind: Plan\nname: free # for everybody\napi_quota_per_hour: 10\n";

    fn version(id: DocumentId, text: Option<&str>) -> Version {
        let owner = Owner::Files("plans.yaml".into());
        Version { id, text: text.map(Into::into), revision: 7, created: 3, owner, by: "ops".into(), at: 1_700_000_000 }
    }

    #[test]
    fn a_version_reads_as_it_was_kept() {
        let id = read_document("plans.yaml", PLAN).unwrap().id.clone();
        for text in [Some(PLAN), None] {
            let version = version(id.clone(), text);
            assert_eq!(Version::from_bytes(id.clone(), &version.to_bytes()).unwrap(), version);
        }
        assert!(Version::from_bytes(id, b"{}").is_err());
    }

    #[test]
    fn layout_and_comments_are_no_content() {
        let same = r#"{"api_quota_per_hour":10,"name":"free","kind":"Plan"}"#;
        assert_eq!(Content::of(PLAN), Content::of(same));
        assert_ne!(Content::of(PLAN), Content::of(&PLAN.replace("10", "11")));
    }

    #[test]
    fn an_identity_is_found_again_in_its_key() {
        for text in ["Role/acme_corp/auditor", "Plan//free", "Tenant//globex"] {
            assert_eq!(key_of(&id_of(text).unwrap()), text);
        }
        for text in ["", "Role", "Role/acme", "Role/acme/a/b", "Thing//a", "Role/A/b"] {
            assert!(id_of(text).is_none(), "{text}");
        }
    }
}
