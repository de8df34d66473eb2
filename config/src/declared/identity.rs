//! Kind `Identity`: who may prove to be whom.

use crate::diagnostic::Spanned;
use crate::name::KeyId;
use crate::unit::UnixSeconds;

/// Token issuers and API keys, of the platform or of one tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// Issuers of tokens.
    pub jwt: Vec<JwtIssuer>,
    /// Header that carries API keys; platform-wide only. Lower case.
    pub api_key_header: Option<Spanned<String>>,
    /// API keys; only within a tenant.
    pub api_keys: Vec<ApiKey>,
}

/// Signature algorithms of tokens (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
}

/// One issuer of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct JwtIssuer {
    /// `iss`, compared byte by byte.
    pub issuer: Spanned<String>,
    /// One of them must be in `aud`.
    pub audiences: Vec<String>,
    /// What its tokens may be signed with (RFC 8725 section 3.1).
    pub algorithms: Vec<Algorithm>,
    /// Its keys.
    pub jwks: Spanned<Jwks>,
    /// Claim that names the tenant: required platform-wide, forbidden within a tenant.
    pub tenant_claim: Option<Spanned<String>>,
    /// Accepted difference of clocks in seconds.
    pub leeway_seconds: u32,
    /// Passes `Authorization` on to the upstream.
    pub forward: bool,
}

/// Where an issuer's keys (RFC 7517) come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Jwks {
    /// A file, beside the document that names it.
    File(String),
}

/// One API key, known by its hash.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    /// Its id.
    pub id: Spanned<KeyId>,
    /// SHA-256 of the key's whole text.
    pub sha256: [u8; 32],
    /// It is refused from then on.
    pub expires: Option<UnixSeconds>,
}
