//! Why a credential proves nobody: one variant per reason, each with what is wrong, where, and how to fix it.
//!
//! Cost: per refusal.
//! The words go to strangers and into logs: no credential, no claim of one, and nothing of another tenant is in them.

use crate::identity::LOOK_AGAIN;
use bulkhead_config::snapshot::IntrospectionUrl;
use bulkhead_config::text::Budget;
use http::header::HeaderName;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// A part of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The first.
    Header,
    /// The second.
    Claims,
    /// The third.
    Signature,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Part::Header => "header",
            Part::Claims => "claims",
            Part::Signature => "signature",
        })
    }
}

/// What a token was revoked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// Its id.
    Id,
    /// Its user.
    User,
    /// The time at which it was issued.
    Time,
}

impl std::fmt::Display for Because {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Because::Id => "the token was revoked",
            Because::User => "the tokens of this user were revoked",
            Because::Time => "tokens that were issued then were revoked",
        })
    }
}

/// Why a credential proves nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Two `Authorization` fields.
    #[error("`Authorization` stands more than once")]
    RepeatedAuthorization,
    /// Two API key fields.
    #[error("`{header}` stands more than once")]
    RepeatedApiKey {
        /// Where API keys are taken.
        header: HeaderName,
    },
    /// Both kinds of credential.
    #[error("a token and an API key are both presented")]
    TokenAndApiKey {
        /// Where API keys are taken.
        header: HeaderName,
    },
    /// `Basic` and others.
    #[error("`Authorization` is not of the form `Bearer <token>`")]
    OtherScheme,
    /// An API key as a bearer token.
    #[error("an API key is presented as a bearer token")]
    ApiKeyAsToken {
        /// Where API keys are taken, if anywhere.
        header: Option<HeaderName>,
    },

    /// Longer than any token is read.
    #[error("the token has {bytes} bytes, more than the {} allowed", Budget::TOKEN.bytes)]
    TooLong {
        /// How long.
        bytes: usize,
    },
    /// Five parts: a JWE.
    #[error("the token is encrypted (JWE)")]
    Encrypted,
    /// Any other number of parts.
    #[error("a signed token has three parts, joined by dots; this one has {0}")]
    Parts(usize),
    /// Padding, other alphabet, stray bits.
    #[error("the token's {0} is not base64url in its canonical form, without padding")]
    Encoding(Part),
    /// No JSON object.
    #[error("the part `{0}` of the token is not a JSON object")]
    Json(Part),
    /// More nesting or values than anybody needs.
    #[error("the part `{0}` of the token is nested too deep or holds too many values")]
    Excessive(Part),
    /// A name twice in one object.
    #[error("the token's {0} has the same name twice in one object")]
    SameName(Part),
    /// `jwk`, `jku`, `x5u`, `x5c`.
    #[error("the token brings or names the key to verify it with (`{name}`)")]
    BringsKey {
        /// Which of them.
        name: &'static str,
    },
    /// `crit`.
    #[error("the token asks for extensions to be understood (`crit`), and none is")]
    Critical,
    /// `b64`.
    #[error("the token changes how its payload is encoded (`b64`)")]
    Unencoded,
    /// `zip`.
    #[error("the token is compressed (`zip`)")]
    Compressed,
    /// `cty: JWT`.
    #[error("the token wraps another token (`cty`)")]
    Nested,
    /// `typ`.
    #[error("the token is of another type than `JWT` or `at+jwt` (`typ`)")]
    OtherType,
    /// No `alg`, or none that is a string.
    #[error("the token names no algorithm")]
    AlgorithmMissing,
    /// `none`.
    #[error("the token is not signed (`alg: none`)")]
    AlgorithmNone,
    /// `HS256` and the like.
    #[error("the token is signed with a shared secret (`alg: HS…`)")]
    AlgorithmSymmetric,
    /// Any other that is not verified here.
    #[error("the token's algorithm is not verified here")]
    AlgorithmUnknown,
    /// One that its issuer does not use.
    #[error("the token's algorithm is not one that its issuer is declared to use")]
    AlgorithmNotOfIssuer,
    /// `kid` of another form.
    #[error("the token's key id is not a string")]
    KeyIdForm,
    /// No `kid` and several keys.
    #[error("the token names no key, and its issuer has several that fit")]
    KeyIdMissing,
    /// A `kid` that is not in the issuer's set.
    #[error("the token's key is not among its issuer's keys")]
    KeyIdUnknown,
    /// The key is for another algorithm.
    #[error("the token's key is not for the token's algorithm")]
    KeyUnfit,
    /// No `kid` and no key that fits.
    #[error("its issuer has no key for the token's algorithm")]
    NoKey,
    /// A token that does not say itself what it is, while its server cannot be asked.
    #[error("the token says nothing itself, and the server that knows it cannot be asked now")]
    Opaque {
        /// Who is to be asked.
        asked: Arc<IntrospectionUrl>,
    },
    /// Its server does not take it for active.
    #[error("the token is not active, says the server that it is from")]
    Inactive,
    /// A key that is not in the issuer's set as it was last fetched.
    #[error("the token's key is not among those that its issuer is known to have, and the issuer cannot be asked now")]
    NewKey {
        /// Name of the set.
        keys: Arc<str>,
    },
    /// The issuer's key set was never read.
    #[error("the keys of the token's issuer are not there")]
    KeysUnavailable,
    /// The signature is not that of the key.
    #[error("the token's signature is not its issuer's")]
    Signature,

    /// A claim that must be there.
    #[error("the token has no claim `{claim}`")]
    ClaimMissing {
        /// Which.
        claim: &'static str,
    },
    /// A claim of another form.
    #[error("the token's claim `{claim}` is not {expected}")]
    ClaimForm {
        /// Which.
        claim: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// `iss` of nobody declared here.
    #[error("the token's issuer is not known here")]
    IssuerUnknown,
    /// `aud` of others.
    #[error("the token is for other audiences")]
    OtherAudience,
    /// `exp` is past.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is to come.
    #[error("the token is not valid yet (`nbf`)")]
    NotYetValid,
    /// `iat` is to come.
    #[error("the token was issued in the future (`iat`)")]
    IssuedInFuture,
    /// `sub` is empty or long.
    #[error("the token's subject has {bytes} bytes; 1 to 255 are allowed")]
    SubjectLength {
        /// How long.
        bytes: usize,
    },
    /// The claim that names the tenant is not there.
    #[error("the token names no tenant: it has no claim `{claim}`")]
    TenantMissing {
        /// Which.
        claim: Arc<str>,
    },
    /// The claim that names the tenant is no name.
    #[error("the token's claim `{claim}` is not the id of a tenant")]
    TenantForm {
        /// Which.
        claim: Arc<str>,
    },

    /// Bytes that are no text.
    #[error("`{header}` is not visible ASCII")]
    ApiKeyForm {
        /// Where API keys are taken.
        header: HeaderName,
    },
    /// Not `bk1.<tenant>.<id>.<43 base64url characters>`.
    #[error("the API key is not of the form `bk1.<tenant>.<id>.<secret>` with 43 base64url characters of secret")]
    ApiKeyMalformed,
    /// A key of another tenant than the request names.
    #[error("the API key is of another tenant than the one that the request names")]
    ApiKeyOfOtherTenant,
    /// No such id, or another secret.
    #[error("the API key is not known")]
    ApiKeyUnknown,
    /// `expires` is past.
    #[error("the API key has expired")]
    ApiKeyExpired,

    /// No workload of the tenant has its id.
    #[error("the SPIFFE id of the client's certificate is none of a workload of this tenant")]
    CertificateUnknown,
    /// It was good when the connection began.
    #[error("the client's certificate has expired since the connection began")]
    CertificateExpired,

    /// A good token that was taken back.
    #[error("{0}")]
    TokenRevoked(Because),
    /// A good API key that was taken back.
    #[error("the API key was revoked")]
    ApiKeyRevoked,
    /// A good certificate whose user was taken back.
    #[error("the access of this client's certificate was revoked")]
    CertificateRevoked,

    /// Too many verifications failed.
    #[error("too many credentials from this address failed")]
    TooManyFailures {
        /// When to come back.
        retry_after: Duration,
    },
}

/// Whom a refusal is about, which settles its problem and its challenge.
enum About {
    Form,
    Scheme,
    Token,
    ApiKey,
    Certificate,
    Tenant,
    Keys,
    Server,
    Source,
}

impl Refused {
    fn about(&self) -> About {
        match self {
            Refused::RepeatedAuthorization | Refused::RepeatedApiKey { .. } | Refused::TokenAndApiKey { .. } => About::Form,
            Refused::OtherScheme => About::Scheme,
            Refused::ApiKeyAsToken { .. }
            | Refused::ApiKeyForm { .. }
            | Refused::ApiKeyMalformed
            | Refused::ApiKeyUnknown
            | Refused::ApiKeyRevoked
            | Refused::ApiKeyExpired => About::ApiKey,
            Refused::ApiKeyOfOtherTenant => About::Tenant,
            Refused::CertificateUnknown | Refused::CertificateExpired | Refused::CertificateRevoked => About::Certificate,
            Refused::KeysUnavailable | Refused::NewKey { .. } => About::Keys,
            Refused::Opaque { .. } => About::Server,
            Refused::TooManyFailures { .. } => About::Source,
            _ => About::Token,
        }
    }

    /// Whether the credential is good and was taken back.
    #[must_use]
    pub fn is_revocation(&self) -> bool {
        matches!(self, Refused::TokenRevoked(_) | Refused::ApiKeyRevoked | Refused::CertificateRevoked)
    }

    /// Whether a request with it may go on, as one without any credential, where credentials are in shadow: it could not be read in
    /// two ways, and proves no other tenant.
    #[must_use]
    pub fn may_be_passed(&self) -> bool {
        !matches!(self.about(), About::Form | About::Tenant)
    }

    /// Its problem's slug.
    #[must_use]
    pub fn problem_type(&self) -> &'static str {
        match self.about() {
            About::Form => "ambiguous_request",
            About::Scheme => "missing_credential",
            About::Token => "invalid_token",
            About::ApiKey => "invalid_api_key",
            About::Certificate => "certificate_not_accepted",
            About::Tenant => "other_tenant",
            About::Keys => "keys_unavailable",
            About::Server => "introspection_unavailable",
            About::Source => "too_many_failed_authentications",
        }
    }

    /// The same once the issuer was asked: what it did not have then is none of its keys.
    #[must_use]
    pub fn after_a_look(self) -> Self {
        match self {
            Refused::NewKey { .. } => Refused::KeyIdUnknown,
            refused => refused,
        }
    }

    /// `WWW-Authenticate` (RFC 6750 section 3) where the answer is 401.
    #[must_use]
    pub fn www_authenticate(&self) -> Option<Cow<'static, str>> {
        match self.about() {
            About::Scheme | About::ApiKey => Some(Cow::Borrowed(CHALLENGE)),
            About::Token => Some(Cow::Owned(format!("{CHALLENGE}, error=\"invalid_token\", error_description=\"{}\"", quotable(self)))),
            About::Form | About::Certificate | About::Tenant | About::Keys | About::Server | About::Source => None,
        }
    }

    /// `Retry-After`, where waiting helps.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Refused::TooManyFailures { retry_after } => Some(*retry_after),
            Refused::NewKey { .. } => Some(LOOK_AGAIN),
            Refused::Opaque { .. } => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// Where it is wrong: a header, a part of the token, a claim.
    #[must_use]
    pub fn place(&self) -> Cow<'static, str> {
        let claim = |claim: &str| Cow::Owned(format!("header `authorization`, claim `{claim}`"));
        let header = |member: &str| Cow::Owned(format!("header `authorization`, token header `{member}`"));
        match self {
            Refused::RepeatedApiKey { header } | Refused::TokenAndApiKey { header } | Refused::ApiKeyForm { header } => {
                Cow::Owned(format!("header `{header}`"))
            }
            Refused::ApiKeyMalformed
            | Refused::ApiKeyOfOtherTenant
            | Refused::ApiKeyUnknown
            | Refused::ApiKeyExpired
            | Refused::ApiKeyRevoked => Cow::Borrowed("header of the API key"),
            Refused::TokenRevoked(Because::Id) => claim("jti"),
            Refused::TokenRevoked(Because::User) => claim("sub"),
            Refused::TokenRevoked(Because::Time) => claim("iat"),
            Refused::CertificateUnknown | Refused::CertificateExpired | Refused::CertificateRevoked => Cow::Borrowed("client certificate"),
            Refused::BringsKey { name } => header(name),
            Refused::Critical => header("crit"),
            Refused::Unencoded => header("b64"),
            Refused::Compressed => header("zip"),
            Refused::Nested => header("cty"),
            Refused::OtherType => header("typ"),
            Refused::AlgorithmMissing
            | Refused::AlgorithmNone
            | Refused::AlgorithmSymmetric
            | Refused::AlgorithmUnknown
            | Refused::AlgorithmNotOfIssuer
            | Refused::NoKey => header("alg"),
            Refused::KeyIdForm | Refused::KeyIdMissing | Refused::KeyIdUnknown | Refused::KeyUnfit | Refused::NewKey { .. } => {
                header("kid")
            }
            Refused::Encoding(part) | Refused::Json(part) | Refused::Excessive(part) | Refused::SameName(part) => {
                Cow::Owned(format!("header `authorization`, token's {part}"))
            }
            Refused::ClaimMissing { claim: name } | Refused::ClaimForm { claim: name, .. } => claim(name),
            Refused::IssuerUnknown | Refused::KeysUnavailable => claim("iss"),
            Refused::OtherAudience => claim("aud"),
            Refused::Expired => claim("exp"),
            Refused::NotYetValid => claim("nbf"),
            Refused::IssuedInFuture => claim("iat"),
            Refused::SubjectLength { .. } => claim("sub"),
            Refused::TenantMissing { claim: name } | Refused::TenantForm { claim: name } => claim(name),
            Refused::Signature => Cow::Borrowed("header `authorization`, token's signature"),
            Refused::TooManyFailures { .. } => Cow::Borrowed("client address"),
            Refused::RepeatedAuthorization
            | Refused::OtherScheme
            | Refused::ApiKeyAsToken { .. }
            | Refused::TooLong { .. }
            | Refused::Encrypted
            | Refused::Opaque { .. }
            | Refused::Inactive
            | Refused::Parts(_) => Cow::Borrowed("header `authorization`"),
        }
    }

    /// How to fix it.
    #[must_use]
    pub fn fix(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Refused::RepeatedAuthorization | Refused::RepeatedApiKey { .. } => "send it once",
            Refused::TokenAndApiKey { .. } => "send one of them",
            Refused::OtherScheme => "send `Authorization: Bearer` and the token",
            Refused::ApiKeyAsToken { header: Some(header) } | Refused::ApiKeyForm { header } => {
                return Cow::Owned(format!("send the key's text in `{header}`, as `bulkhead api-key new` printed it"));
            }
            Refused::ApiKeyAsToken { header: None } => "ask the operator: no Identity declares an `api_key_header`",
            Refused::TooLong { .. } => "ask the issuer for a token with fewer claims",
            Refused::Encrypted | Refused::Nested | Refused::Compressed | Refused::Unencoded | Refused::Critical => {
                "ask the issuer for a plain signed token (compact JWS)"
            }
            Refused::Excessive(_) => "ask the issuer for a token with fewer and flatter claims",
            Refused::Parts(_) | Refused::Encoding(_) | Refused::Json(_) | Refused::SameName(_) => {
                "send the token exactly as its issuer made it; if it is, the issuer's library is at fault"
            }
            Refused::BringsKey { .. } => "have the issuer leave it out; keys come from the `jwks` of its declaration only",
            Refused::OtherType => "send an access token, not an ID, refresh or logout token",
            Refused::AlgorithmMissing | Refused::AlgorithmNone | Refused::AlgorithmSymmetric | Refused::AlgorithmUnknown => {
                "have the issuer sign with EdDSA, ES256, RS256 or PS256"
            }
            Refused::AlgorithmNotOfIssuer => "have the issuer use a declared one, or the operator add it to the issuer's `algorithms`",
            Refused::KeyIdForm | Refused::KeyIdMissing => "have the issuer name the key in `kid`",
            Refused::KeyIdUnknown => "get a new token; if it is new, the operator's `jwks` lacks the issuer's newest key",
            Refused::KeyUnfit | Refused::NoKey => "have the issuer's `jwks` carry a key for this algorithm (`kty`, `crv`, `alg`)",
            Refused::Opaque { .. } => "try again soon; the operator finds the fault in the log",
            Refused::Inactive => "get a new token: this one has ended, was taken back, or is from elsewhere",
            Refused::KeysUnavailable | Refused::NewKey { .. } => "try again later; the operator finds the fault in `bulkhead status`",
            Refused::Signature => "get a token from the issuer; if it came from there, its `jwks` here is not the one it signs with",
            Refused::ClaimMissing { .. } | Refused::ClaimForm { .. } | Refused::SubjectLength { .. } => {
                "have the issuer set the claim as RFC 7519 section 4.1 has it"
            }
            Refused::IssuerUnknown => "compare `iss` with the issuers that Identity documents declare, for this tenant or platform-wide",
            Refused::OtherAudience => "ask the issuer for a token with one of the declared `audiences` in `aud`",
            Refused::Expired => "get a new token",
            Refused::NotYetValid | Refused::IssuedInFuture => {
                "wait, or set the clocks of the issuer and of this host; the issuer's `leeway` allows for a difference"
            }
            Refused::TenantMissing { .. } | Refused::TenantForm { .. } => "have the issuer put the tenant's id into that claim",
            Refused::ApiKeyMalformed => "send the key's text as `bulkhead api-key new` printed it",
            Refused::ApiKeyOfOtherTenant => "send it to its own tenant's host, or use a key of this tenant",
            Refused::ApiKeyUnknown => "check the key; if it was replaced, use the new one",
            Refused::TokenRevoked(Because::Id | Because::Time) => "get a new token",
            Refused::TokenRevoked(Because::User) | Refused::ApiKeyRevoked | Refused::CertificateRevoked => {
                "ask the operator, whose Identity documents say it under `revoked`"
            }
            Refused::ApiKeyExpired => "use a newer key; `bulkhead api-key new` makes one",
            Refused::CertificateUnknown => "ask for it to be declared under `spiffe` of an Identity of the tenant, or send a token",
            Refused::CertificateExpired => "connect again with a new one",
            Refused::TooManyFailures { .. } => "stop sending credentials that fail, and wait; those that were good before still are",
        })
    }
}

const CHALLENGE: &str = "Bearer realm=\"bulkhead\"";

/// A text as RFC 6750 section 3 allows it between quotes.
fn quotable(refused: &Refused) -> String {
    let text = refused.to_string();
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect()
}
