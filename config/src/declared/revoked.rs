//! What an Identity takes back: credentials that would be good, and prove nobody any more.

use super::read::{Head, Scope};
use super::reader::{Item, Map, Outcome, wrong};
use super::schema::{self, Schema, optional};
use super::value;
use crate::diagnostic::Spanned;
use crate::name::KeyId;
use crate::unit::UnixSeconds;
use serde_json::json;

/// What is revoked. A tenant revokes what proves somebody to be of it, the platform what its own issuers proved.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Revoked {
    /// Tokens, by their id (`jti`).
    pub tokens: Vec<String>,
    /// Whoever comes as one of these users: `sub` of a token, id of an API key, user of a workload.
    pub users: Vec<String>,
    /// API keys; only within a tenant.
    pub api_keys: Vec<Spanned<KeyId>>,
    /// Tokens that were issued earlier (`iat`), or do not say when.
    pub issued_before: Option<UnixSeconds>,
}

impl Revoked {
    /// Whether nothing is.
    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.users.is_empty() && self.api_keys.is_empty() && self.issued_before.is_none()
    }

    pub(super) fn read(head: &Head<'_>, item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let tokens = map.optional("tokens", |item| value::set(item, "token", value::line(255)));
        let users = map.optional("users", |item| value::set(item, "user", value::line(255)));
        let api_keys = Self::api_keys(head, &mut map);
        let issued_before = map.optional("issued_before", value::moment);
        map.finish();
        Ok(Self {
            tokens: value::bare(tokens?.unwrap_or_default()),
            users: value::bare(users?.unwrap_or_default()),
            api_keys: api_keys?,
            issued_before: issued_before?,
        })
    }

    fn api_keys(head: &Head<'_>, map: &mut Map<'_>) -> Outcome<Vec<Spanned<KeyId>>> {
        if head.scope == Scope::Platform {
            let complaint = wrong("API keys are revoked only in a tenant's documents");
            map.forbidden("api_keys", complaint.hint("add `tenant:`; a key belongs to one tenant"));
        }
        map.optional("api_keys", value::names).map(Option::unwrap_or_default)
    }
}

impl Revoked {
    pub(super) fn schema() -> Schema {
        let token = schema::line("The id of a token (`jti`).", 255);
        let user = schema::line("A user.", 255);
        let before = schema::text(
            "Tokens that were issued earlier (`iat`), or do not say when (RFC 3339).",
            schema::MOMENT,
            &["2027-06-30T00:00:00Z"],
        );
        let fields = vec![
            optional("tokens", schema::set_of("Tokens, by their id (`jti`).", token)),
            optional("users", schema::set_of("Whoever comes as one of these: `sub`, id of an API key, user of a workload.", user)),
            optional("api_keys", schema::names("API keys of the tenant, by their id.")),
            optional("issued_before", before),
        ];
        schema::object("Credentials that prove nobody any more, however good they are.", fields)
    }

    /// What a platform-wide document may not say.
    pub(super) fn schema_of_platform() -> Schema {
        schema::without(&["api_keys"])
    }

    /// That it says something.
    pub(super) fn schema_of_some() -> Schema {
        let filled = |key: &str| json!({ "required": [key], "properties": { key: { "minItems": 1 } } });
        let some = [filled("tokens"), filled("users"), filled("api_keys"), json!({ "required": ["issued_before"] })];
        json!({ "required": ["revoked"], "properties": { "revoked": { "anyOf": some } } })
    }
}
