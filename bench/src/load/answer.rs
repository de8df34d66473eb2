//! An answer, whatever protocol brought it: how it ended, and whose data it says it is.
//!
//! Cost: per answer; a tenant that is the expected one is compared in place and not copied.

use serde_json::Value;
use std::fmt;

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) whose: Whose,
}

/// How an answer says it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    Http(u16),
    /// `grpc-status` of a call whose HTTP status was 200.
    Grpc(u16),
}

impl Status {
    /// Its number, as `--expect` lists it.
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Http(code) | Self::Grpc(code) => code,
        }
    }

    pub(crate) fn is_success(self) -> bool {
        match self {
            Self::Http(code) => (200..300).contains(&code),
            Self::Grpc(code) => code == 0,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(code) => write!(out, "{code}"),
            Self::Grpc(code) => write!(out, "grpc {code}"),
        }
    }
}

/// Whose data an answer says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// It says nothing where one looks, or nobody looks.
    Unsaid,
    /// Its tenant's, wherever it names one.
    AsAsked,
    /// This tenant's, which is not the one that asked.
    Other(String),
}

impl Whose {
    /// What is known of an answer that says this as well: one other tenant among many mentions is a leak.
    #[must_use]
    pub(crate) fn and(self, also: Self) -> Self {
        match (self, also) {
            (Self::Other(tenant), _) | (_, Self::Other(tenant)) => Self::Other(tenant),
            (Self::AsAsked, _) | (_, Self::AsAsked) => Self::AsAsked,
            (Self::Unsaid, Self::Unsaid) => Self::Unsaid,
        }
    }

    fn of(named: &[u8], asked_for: &str) -> Self {
        if named == asked_for.as_bytes() { Self::AsAsked } else { Self::Other(String::from_utf8_lossy(named).into_owned()) }
    }
}

/// Where an answer says whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// In this header, in all its values; with gRPC in trailing metadata as well.
    Header(String),
    /// In its JSON body, at this pointer (RFC 6901).
    Pointer(String),
}

impl Names {
    /// What `headers` say to whoever asked for `asked_for`.
    pub(crate) fn in_headers<'a>(&self, asked_for: &str, headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Whose {
        let Self::Header(name) = self else { return Whose::Unsaid };
        headers
            .filter(|(header, _)| header.eq_ignore_ascii_case(name))
            .fold(Whose::Unsaid, |whose, (_, value)| whose.and(Whose::of(value, asked_for)))
    }

    /// What a body says.
    pub(crate) fn in_body(&self, asked_for: &str, body: &[u8]) -> Whose {
        let Self::Pointer(pointer) = self else { return Whose::Unsaid };
        let body = serde_json::from_slice::<Value>(body).ok();
        let named = body.as_ref().and_then(|body| body.pointer(pointer)).and_then(Value::as_str);
        named.map_or(Whose::Unsaid, |named| Whose::of(named.as_bytes(), asked_for))
    }

    /// Bodies are to be kept until they are whole.
    pub(crate) fn reads_body(&self) -> bool {
        matches!(self, Self::Pointer(_))
    }
}

impl std::str::FromStr for Names {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.starts_with('/') {
            true => Ok(Self::Pointer(text.to_owned())),
            false if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) => {
                Ok(Self::Header(text.to_owned()))
            }
            false => Err("it is neither a header's name (x-tenant) nor a JSON pointer (/tenant/id)".to_owned()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_the_header_is_looked_at() {
        let names: Names = "x-tenant".parse().unwrap();
        let (acme, globex) = (("X-Tenant", &b"acme"[..]), ("x-tenant", &b"globex"[..]));
        for (headers, whose) in [
            (vec![], Whose::Unsaid),
            (vec![("x-other", &b"globex"[..])], Whose::Unsaid),
            (vec![acme, acme], Whose::AsAsked),
            (vec![acme, globex], Whose::Other("globex".to_owned())),
            (vec![globex, acme], Whose::Other("globex".to_owned())),
            (vec![("x-tenant", b"acme, globex")], Whose::Other("acme, globex".to_owned())),
            (vec![("x-tenant", b"")], Whose::Other(String::new())),
        ] {
            assert_eq!(names.in_headers("acme", headers.clone().into_iter()), whose, "{headers:?}");
        }
    }

    #[test]
    fn the_tenant_in_a_body_is_text_at_its_pointer() {
        let names: Names = "/told/tenant".parse().unwrap();
        for (body, whose) in [
            (r#"{"told":{"tenant":"acme"}}"#, Whose::AsAsked),
            (r#"{"told":{"tenant":"globex"}}"#, Whose::Other("globex".to_owned())),
            (r#"{"told":{"tenant":7}}"#, Whose::Unsaid),
            (r#"{"told":"acme"}"#, Whose::Unsaid),
            ("acme", Whose::Unsaid),
        ] {
            assert_eq!(names.in_body("acme", body.as_bytes()), whose, "{body}");
        }
    }
}
