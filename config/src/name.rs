//! Names: text that identifies something, parsed once and valid ever after.
//!
//! Every name fits a path, a cache key, a metric label and a log line as it is, so nobody downstream escapes or re-checks it.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name of anything, in bytes (a DNS label, so that a tenant can be one).
pub const NAME_BYTES_MAX: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    /// Nothing was written.
    #[error("it is empty")]
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes, or 253 for a host.
    #[error("it has {0} bytes, more than the {1} allowed")]
    TooLong(usize, usize),
    /// A character outside the alphabet, and where it stands (1 is the first).
    #[error("it has `{0}` as character {1}; allowed are a-z, 0-9, `_` and `-`, and a letter or digit comes first")]
    Character(char, usize),
    /// A host that is no DNS name, or an address where a name is needed.
    #[error("`{0}` is not a host name: labels of a-z, 0-9 and `-`, joined by dots, without port")]
    Host(String),
}

/// Checks the alphabet shared by all names: `a-z 0-9 _ -`, a letter or digit first.
fn check(text: &str) -> Result<(), NotAName> {
    if text.is_empty() {
        return Err(NotAName::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NotAName::TooLong(text.len(), NAME_BYTES_MAX));
    }
    for (at, c) in text.chars().enumerate() {
        let good = c.is_ascii_lowercase() || c.is_ascii_digit() || (at > 0 && (c == '_' || c == '-'));
        if !good {
            return Err(NotAName::Character(c, at + 1));
        }
    }
    Ok(())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        ///
        /// 1 to 63 of `a-z 0-9 _ -`, a letter or digit first. Cloning shares the text.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = NotAName;
            fn from_str(text: &str) -> Result<Self, NotAName> {
                check(text)?;
                Ok(Self(text.into()))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )*};
}

names! {
    /// Name of a tenant (`tenant_id`).
    TenantId
    /// Name of a plan.
    PlanName
    /// Name of a role, within its scope (the platform, or one tenant).
    RoleName
    /// Name of a route, unique within its service.
    RouteName
    /// Name of a service.
    ServiceName
    /// Name of an upstream, unique within its service.
    UpstreamName
    /// Name of a listener, unique within its service.
    ListenerName
    /// Name of one limit of a quota policy.
    LimitName
    /// A feature that a tenant may have and a route may demand.
    Feature
    /// Id of an API key, unique within its tenant.
    KeyId
    /// Name of a sidecar, unique within its trust domain.
    SidecarName
    /// Name of somebody who operates a control plane.
    OperatorName
    /// Name of a document of any kind (for a Tenant: its `tenant_id`).
    DocumentName
}

/// A Tenant document is named by its `tenant_id`; both follow the same alphabet.
impl From<&DocumentName> for TenantId {
    fn from(name: &DocumentName) -> Self {
        Self(Arc::clone(&name.0))
    }
}

/// The Tenant document of a tenant.
impl From<&TenantId> for DocumentName {
    fn from(tenant: &TenantId) -> Self {
        Self(Arc::clone(&tenant.0))
    }
}

/// A host name as requests are compared with it: lower case, without port and without the trailing dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Arc<str>);

impl Host {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Host {
    type Err = NotAName;

    /// Takes a DNS name in any case, with or without one trailing dot; no port, no address literal.
    fn from_str(text: &str) -> Result<Self, NotAName> {
        let bare = text.strip_suffix('.').unwrap_or(text);
        if bare.is_empty() {
            return Err(NotAName::Empty);
        }
        if bare.len() > 253 {
            return Err(NotAName::TooLong(bare.len(), 253));
        }
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // A name whose last label is all digits would be read as an IPv4 address by some peers and as a name by others.
        let numeric = bare.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if numeric || !bare.split('.').all(label) {
            return Err(NotAName::Host(text.to_owned()));
        }
        Ok(Self(bare.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}
impl Borrow<str> for Host {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_fits_paths_keys_and_labels() {
        for good in ["acme_corp", "tenant-a", "0", "a", &"x".repeat(63)] {
            assert_eq!(good.parse::<TenantId>().unwrap().as_str(), good);
        }
        for bad in ["", "_a", "-a", "Acme", "a b", "a/b", "ä", "a.b", &"x".repeat(64)] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_compare_in_lower_case_without_the_trailing_dot() {
        assert_eq!("Acme.LocalHost.".parse::<Host>().unwrap().as_str(), "acme.localhost");
        for bad in ["", ".", "a..b", "-a.b", "a:80", "127.0.0.1", "[::1]", "a_b.1", "a b", "a/b"] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }
}
