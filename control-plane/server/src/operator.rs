//! Operators: who may ask the control plane for something, and how they prove who they are.
//!
//! An operator is proved by a token (`bo1.<id>.<secret>`, of which only the SHA-256 is kept) and has one role; a tenant-admin and a
//! viewer may be held to one tenant. What a role may do stands in `operation.rs`, one line an operation.
//! Absent on purpose: passwords and sessions; whoever has a console in a browser brings a token too.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulkhead_config::name::{NotAName, TenantId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What an operator is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Everything.
    PlatformAdmin,
    /// The documents of one tenant, within what the platform lets tenants say.
    TenantAdmin,
    /// Reads documents and states, of everybody or of one tenant.
    Viewer,
    /// Reads documents, states and the audit trail.
    Auditor,
}

impl Role {
    /// Every role, the mightiest first.
    pub const ALL: [Role; 4] = [Role::PlatformAdmin, Role::TenantAdmin, Role::Viewer, Role::Auditor];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::PlatformAdmin => "platform-admin",
            Role::TenantAdmin => "tenant-admin",
            Role::Viewer => "viewer",
            Role::Auditor => "auditor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no role of operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role of an operator; one of platform-admin, tenant-admin, viewer, auditor")]
pub struct NotARole(String);

impl FromStr for Role {
    type Err = NotARole;
    fn from_str(text: &str) -> Result<Self, NotARole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| NotARole(text.to_owned()))
    }
}

/// Who asks. Only [`Operators::prove`] and whoever embeds the control plane make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Its name, as the audit trail tells it.
    pub name: Arc<str>,
    /// What it is for.
    pub role: Role,
    /// The only tenant it may ask about.
    pub tenant: Option<TenantId>,
    /// How it proved itself: `token ID`, `certificate`, `in process`.
    pub proof: Arc<str>,
}

impl Operator {
    /// Whoever embeds the control plane: the watched folder, `up` itself.
    #[must_use]
    pub fn embedded(name: &str) -> Self {
        Self { name: name.into(), role: Role::PlatformAdmin, tenant: None, proof: "in process".into() }
    }

    /// Whether what belongs to this tenant (`None`: to the platform) is any of its business.
    #[must_use]
    pub fn may_know_of(&self, tenant: Option<&TenantId>) -> bool {
        self.tenant.is_none() || self.tenant.as_ref() == tenant
    }
}

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its public part.
    pub id: Arc<str>,
    /// SHA-256 of the whole text.
    pub sha256: [u8; 32],
    /// Whom it proves.
    pub name: Arc<str>,
    /// With which role.
    pub role: Role,
    /// Held to which tenant.
    pub tenant: Option<TenantId>,
    /// When it was made, in seconds since 1970-01-01 UTC.
    pub created: i64,
    /// From when on it proves nothing, in seconds since 1970-01-01 UTC.
    pub expires: Option<i64>,
}

/// Why a kept token cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadToken {
    /// Not JSON, or a field is missing.
    #[error("a stored token lacks `{0}`")]
    Lacks(&'static str),
    /// A role that this version does not know.
    #[error(transparent)]
    Role(#[from] NotARole),
    /// No tenant's name.
    #[error("a stored token is held to a tenant that cannot be: {0}")]
    Tenant(#[from] NotAName),
}

/// Why a credential proves nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unproved {
    /// It has not the form of a token.
    Malformed,
    /// Nobody has it, or it was revoked.
    Unknown,
    /// It was good once.
    Expired,
}

/// Characters of a token's public part.
const ID_BYTES: usize = 9;
/// Random bytes of a token's secret.
const SECRET_BYTES: usize = 32;
/// What every token of an operator begins with.
pub const TOKEN_PREFIX: &str = "bo1.";

/// All tokens there are.
#[derive(Debug, Default)]
pub struct Operators {
    tokens: BTreeMap<Arc<str>, Token>,
}

/// A token that was just made; the text is shown once.
#[derive(Debug)]
pub struct Minted {
    /// What is kept.
    pub token: Token,
    /// What its holder presents.
    pub text: String,
}

/// What a new token shall prove.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whom.
    pub name: Arc<str>,
    /// With which role.
    pub role: Role,
    /// Held to which tenant.
    pub tenant: Option<TenantId>,
    /// Until when, in seconds since 1970-01-01 UTC.
    pub expires: Option<i64>,
}

impl Wanted {
    /// Makes a token. `None` when the system gives no random numbers.
    #[must_use]
    pub fn mint(self, now: i64) -> Option<Minted> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        aws_lc_rs::rand::fill(&mut id).ok()?;
        aws_lc_rs::rand::fill(&mut secret).ok()?;
        let id = URL_SAFE_NO_PAD.encode(id);
        let text = format!("{TOKEN_PREFIX}{id}.{}", URL_SAFE_NO_PAD.encode(secret));
        let Wanted { name, role, tenant, expires } = self;
        let token = Token { id: id.into(), sha256: sha256(text.as_bytes()), name, role, tenant, created: now, expires };
        Some(Minted { token, text })
    }
}

impl Operators {
    /// Enters a token.
    pub fn insert(&mut self, token: Token) {
        self.tokens.insert(Arc::clone(&token.id), token);
    }

    /// Takes one away; whether there was one.
    pub fn remove(&mut self, id: &str) -> bool {
        self.tokens.remove(id).is_some()
    }

    /// Every token, by id.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.values()
    }

    /// One token.
    #[must_use]
    pub fn token(&self, id: &str) -> Option<&Token> {
        self.tokens.get(id)
    }

    /// Whom a presented text proves at a moment.
    ///
    /// # Errors
    /// Why it proves nobody. Who asks is not told which of them it was, beyond that it has expired.
    pub fn prove(&self, presented: &str, now: i64) -> Result<Operator, Unproved> {
        let (id, secret) = presented.strip_prefix(TOKEN_PREFIX).and_then(|rest| rest.split_once('.')).ok_or(Unproved::Malformed)?;
        // What cannot be a secret is not hashed.
        if secret.len() != 43 {
            return Err(Unproved::Malformed);
        }
        let token = self.tokens.get(id).ok_or(Unproved::Unknown)?;
        if verify_slices_are_equal(&sha256(presented.as_bytes()), &token.sha256).is_err() {
            return Err(Unproved::Unknown);
        }
        if token.expires.is_some_and(|expires| expires <= now) {
            return Err(Unproved::Expired);
        }
        let Token { id, name, role, tenant, .. } = token;
        Ok(Operator { name: Arc::clone(name), role: *role, tenant: tenant.clone(), proof: format!("token {id}").into() })
    }
}

impl Token {
    /// As it may be shown; the digest stays here.
    #[must_use]
    pub fn shown(&self) -> Value {
        json!({
            "id": &*self.id,
            "name": &*self.name,
            "role": self.role.as_str(),
            "tenant": self.tenant.as_ref().map(TenantId::as_str),
            "created": moment(self.created),
            "expires": self.expires.map(moment),
        })
    }

    /// As it is kept.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let kept = json!({
            "id": &*self.id,
            "sha256": URL_SAFE_NO_PAD.encode(self.sha256),
            "name": &*self.name,
            "role": self.role.as_str(),
            "tenant": self.tenant.as_ref().map(TenantId::as_str),
            "created": self.created,
            "expires": self.expires,
        });
        kept.to_string().into_bytes()
    }

    /// As it was kept.
    ///
    /// # Errors
    /// What cannot be read of it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadToken> {
        let kept: Value = serde_json::from_slice(bytes).map_err(|_| BadToken::Lacks("its form"))?;
        let text = |key: &'static str| kept.get(key).and_then(Value::as_str).ok_or(BadToken::Lacks(key));
        let digest = URL_SAFE_NO_PAD.decode(text("sha256")?).ok().and_then(|bytes| bytes.try_into().ok());
        Ok(Self {
            id: text("id")?.into(),
            sha256: digest.ok_or(BadToken::Lacks("sha256"))?,
            name: text("name")?.into(),
            role: text("role")?.parse()?,
            tenant: kept.get("tenant").and_then(Value::as_str).map(str::parse).transpose()?,
            created: kept.get("created").and_then(Value::as_i64).ok_or(BadToken::Lacks("created"))?,
            expires: kept.get("expires").and_then(Value::as_i64),
        })
    }
}

/// RFC 3339, UTC.
pub(crate) fn moment(seconds: i64) -> Option<String> {
    jiff::Timestamp::from_second(seconds).ok().map(|moment| moment.to_string())
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn wanted(expires: Option<i64>) -> Wanted {
        Wanted { name: "ops".into(), role: Role::Viewer, tenant: Some("acme".parse().unwrap()), expires }
    }

    #[test]
    fn a_token_proves_whom_it_was_made_for_until_it_expires() {
        let mut operators = Operators::default();
        let minted = wanted(Some(100)).mint(0).unwrap();
        operators.insert(minted.token);
        let operator = operators.prove(&minted.text, 99).unwrap();
        assert_eq!((&*operator.name, operator.role), ("ops", Role::Viewer));
        assert_eq!(operators.prove(&minted.text, 100), Err(Unproved::Expired));
    }

    #[test]
    fn a_token_that_differs_in_one_character_proves_nobody() {
        let mut operators = Operators::default();
        let minted = wanted(None).mint(0).unwrap();
        operators.insert(minted.token);
        for at in 0..minted.text.len() {
            let mut other = minted.text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert!(operators.prove(std::str::from_utf8(&other).unwrap(), 0).is_err(), "changed at {at}");
        }
        assert!(operators.prove(&format!("{}A", minted.text), 0).is_err());
        assert!(operators.prove("", 0).is_err());
    }

    #[test]
    fn what_is_kept_of_a_token_reads_the_same_and_holds_no_secret() {
        let minted = wanted(Some(7)).mint(1).unwrap();
        let kept = minted.token.to_bytes();
        assert_eq!(Token::from_bytes(&kept).unwrap(), minted.token);
        let secret = minted.text.rsplit('.').next().unwrap();
        assert!(!String::from_utf8(kept).unwrap().contains(secret));
        assert!(!minted.token.shown().to_string().contains("sha256"));
    }
}
