//! What a request presents to prove whom it comes from: one bearer token, one API key, or nothing.
//!
//! Cost: per request; two look-ups among the fields. Whether a credential is text is asked only of what is not remembered: what is,
//! is the same, byte by byte, as one that was.
//! Two credentials are refused, not ranked: the next server might rank them the other way round (RFC 6750 section 2).

use super::refused::Refused;
use crate::fields::{Fields, Name, visible};
use http::header::HeaderName;

/// One credential as it came, unverified.
#[derive(Clone, Copy)]
pub enum Presented<'a> {
    /// A token from `Authorization: Bearer`.
    Bearer(&'a [u8]),
    /// An API key.
    ApiKey(&'a [u8]),
}

// A credential is never printed.
impl std::fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Presented::Bearer(_) => "Bearer(…)",
            Presented::ApiKey(_) => "ApiKey(…)",
        })
    }
}

/// The credential that a request presents, if any. `api_key_header` is where the platform takes API keys.
///
/// # Errors
/// More than one credential, or one that is not taken there.
pub fn presented<'a>(headers: &'a Fields, api_key_header: Option<&HeaderName>) -> Result<Option<Presented<'a>>, Refused> {
    let authorization = only(headers.get_all(Name::Authorization), || Refused::RepeatedAuthorization)?;
    let api_key = match api_key_header {
        Some(name) => only(headers.get_named(name), || Refused::RepeatedApiKey { header: name.clone() })?.map(|value| (name, value)),
        None => None,
    };
    match (authorization, api_key) {
        (None, None) => Ok(None),
        (Some(_), Some((name, _))) => Err(Refused::TokenAndApiKey { header: name.clone() }),
        (Some(value), None) => bearer(value, api_key_header).map(|token| Some(Presented::Bearer(token))),
        (None, Some((_, value))) => Ok(Some(Presented::ApiKey(value))),
    }
}

/// The text of a token.
///
/// # Errors
/// It is none.
pub fn text_of_token(token: &[u8]) -> Result<&str, Refused> {
    visible(token).ok_or(Refused::OtherScheme)
}

/// The text of an API key from this header.
pub(super) fn text_of_api_key<'a>(key: &'a [u8], header: Option<&HeaderName>) -> Result<&'a str, Refused> {
    let form = || header.map_or(Refused::ApiKeyMalformed, |header| Refused::ApiKeyForm { header: header.clone() });
    visible(key).ok_or_else(form)
}

/// Whether a value of `Authorization` has an API key in it, in whatever scheme.
#[must_use]
pub fn holds_api_key(value: &[u8]) -> bool {
    let prefix = super::api_key::PREFIX.as_bytes();
    value.windows(prefix.len()).any(|window| window == prefix)
}

/// Whether a header's value is an API key, or begins as one.
#[must_use]
pub fn is_api_key(value: &[u8]) -> bool {
    value.starts_with(super::api_key::PREFIX.as_bytes())
}

/// The scheme of tokens, and the blank behind it.
const BEARER: &[u8] = b"bearer ";

/// The one value of a header.
fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>, repeated: impl FnOnce() -> Refused) -> Result<Option<&'a [u8]>, Refused> {
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(repeated()),
        (value, None) => Ok(value),
    }
}

/// The token of `Bearer <token>`; the scheme in any case, as RFC 9110 section 11.1 has it.
fn bearer<'a>(value: &'a [u8], api_key_header: Option<&HeaderName>) -> Result<&'a [u8], Refused> {
    let (scheme, mut token) = value.split_at_checked(BEARER.len()).ok_or(Refused::OtherScheme)?;
    if !scheme.eq_ignore_ascii_case(BEARER) {
        return Err(Refused::OtherScheme);
    }
    while let Some(rest) = token.strip_prefix(b" ") {
        token = rest;
    }
    if is_api_key(token) {
        return Err(Refused::ApiKeyAsToken { header: api_key_header.cloned() });
    }
    Ok(token)
}
