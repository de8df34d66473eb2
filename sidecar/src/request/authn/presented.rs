//! What a request presents to prove whom it comes from: one bearer token, one API key, or nothing.
//!
//! Cost: per request; two look-ups among the fields.
//! Two credentials are refused, not ranked: the next server might rank them the other way round (RFC 6750 section 2).

use super::refused::Refused;
use crate::fields::{Fields, Name, visible};
use http::header::HeaderName;

/// One credential, unverified.
#[derive(Clone, Copy)]
pub enum Presented<'a> {
    /// A token from `Authorization: Bearer`.
    Bearer(&'a str),
    /// The text of an API key.
    ApiKey(&'a str),
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
        (None, Some((name, value))) => match visible(value) {
            Some(text) => Ok(Some(Presented::ApiKey(text))),
            None => Err(Refused::ApiKeyForm { header: name.clone() }),
        },
    }
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

/// The one value of a header.
fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>, repeated: impl FnOnce() -> Refused) -> Result<Option<&'a [u8]>, Refused> {
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(repeated()),
        (value, None) => Ok(value),
    }
}

/// The token of `Bearer <token>`; the scheme in any case, as RFC 9110 section 11.1 has it.
fn bearer<'a>(value: &'a [u8], api_key_header: Option<&HeaderName>) -> Result<&'a str, Refused> {
    let Some((scheme, token)) = visible(value).and_then(|text| text.split_once(' ')) else { return Err(Refused::OtherScheme) };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refused::OtherScheme);
    }
    let token = token.trim_start_matches(' ');
    if token.starts_with(super::api_key::PREFIX) {
        return Err(Refused::ApiKeyAsToken { header: api_key_header.cloned() });
    }
    Ok(token)
}
