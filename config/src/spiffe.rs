//! SPIFFE ids: names of workloads, `spiffe://trust-domain/path`, as certificates carry them.
//!
//! Read as strictly as the standard writes them (SPIFFE-ID section 2): what could be read in two ways names nobody.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Bytes of an id at most. The standard has 2,048; here it becomes what `sub` of a token is: a log field, a header, the key of a budget.
const BYTES_MAX: usize = 255;
const SCHEME: &str = "spiffe://";

/// The id of a workload: it has a path, because an id without one is its trust domain's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId(Arc<str>);

/// Whose ids these are: the name of the authority that certifies them, and what an id has between `spiffe://` and its path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// Which ids are meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpiffePattern {
    /// One.
    Exact(SpiffeId),
    /// All whose path begins with these whole segments; ends with `/`.
    Below(Arc<str>),
}

/// A text that is no SPIFFE id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotASpiffeId {
    /// Another scheme, or none.
    #[error("it does not begin with `spiffe://`")]
    Scheme,
    /// More bytes than an id may have.
    #[error("it is longer than 255 bytes")]
    Length,
    /// No trust domain, or one of other characters than `a-z 0-9 . _ -`.
    #[error("its trust domain is none: some of a-z, 0-9, `.`, `_` and `-`")]
    Domain,
    /// No path, or one with empty segments, `.`, `..`, or other characters than `A-Z a-z 0-9 . _ -`.
    #[error("its path is none: segments of A-Z, a-z, 0-9, `.`, `_` and `-`, none of them empty, `.` or `..`")]
    Path,
}

impl SpiffeId {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text itself, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// What it names within this trust domain, without a leading `/`; none when it is another domain's.
    #[must_use]
    pub fn path_in(&self, domain: &TrustDomain) -> Option<&str> {
        self.0.strip_prefix(SCHEME)?.strip_prefix(&*domain.0)?.strip_prefix('/')
    }
}

impl TrustDomain {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the domain itself, which stands in certificates of its authority.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }

    /// The id of this path in it.
    ///
    /// # Errors
    /// When the path is none, or both are too long together.
    pub fn id(&self, path: &str) -> Result<SpiffeId, NotASpiffeId> {
        format!("{SCHEME}{}/{path}", self.0).parse()
    }
}

impl SpiffePattern {
    /// Whether this id is meant.
    #[must_use]
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match self {
            SpiffePattern::Exact(exact) => exact == id,
            SpiffePattern::Below(prefix) => id.0.strip_prefix(&**prefix).is_some_and(|rest| !rest.is_empty()),
        }
    }

    /// How much of an id it settles: the more, the closer it means it.
    #[must_use]
    pub fn exactness(&self) -> usize {
        match self {
            SpiffePattern::Exact(_) => usize::MAX,
            SpiffePattern::Below(prefix) => prefix.len(),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpiffePattern::Exact(id) => id.fmt(f),
            SpiffePattern::Below(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl FromStr for SpiffeId {
    type Err = NotASpiffeId;

    fn from_str(text: &str) -> Result<Self, NotASpiffeId> {
        check(text)?;
        Ok(Self(text.into()))
    }
}

impl FromStr for TrustDomain {
    type Err = NotASpiffeId;

    fn from_str(text: &str) -> Result<Self, NotASpiffeId> {
        // Whole, with any path; what has a path of its own is more than a domain.
        check(&format!("{SCHEME}{text}/x"))?;
        if text.contains('/') { Err(NotASpiffeId::Domain) } else { Ok(Self(text.into())) }
    }
}

impl FromStr for SpiffePattern {
    type Err = NotASpiffeId;

    /// An id, or one whose last segment is `*`.
    fn from_str(text: &str) -> Result<Self, NotASpiffeId> {
        let Some(prefix) = text.strip_suffix('*').filter(|prefix| prefix.ends_with('/')) else {
            return text.parse().map(SpiffePattern::Exact);
        };
        // Whole, with any name in place of the star.
        check(&format!("{prefix}x"))?;
        Ok(SpiffePattern::Below(prefix.into()))
    }
}

fn check(text: &str) -> Result<(), NotASpiffeId> {
    if text.len() > BYTES_MAX {
        return Err(NotASpiffeId::Length);
    }
    let rest = text.strip_prefix(SCHEME).ok_or(NotASpiffeId::Scheme)?;
    let (domain, path) = rest.split_once('/').ok_or(NotASpiffeId::Path)?;
    let is_sign = |b: u8| matches!(b, b'.' | b'_' | b'-');
    if domain.is_empty() || !domain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || is_sign(b)) {
        return Err(NotASpiffeId::Domain);
    }
    let is_segment =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(|b| b.is_ascii_alphanumeric() || is_sign(b));
    if path.split('/').all(is_segment) { Ok(()) } else { Err(NotASpiffeId::Path) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_the_standard_does_not_write_so_is_no_id() {
        for (text, read) in [
            ("spiffe://acme.test/ns/prod/sa/web", Ok(())),
            ("spiffe://acme.test/Web_1", Ok(())),
            ("https://acme.test/web", Err(NotASpiffeId::Scheme)),
            ("SPIFFE://acme.test/web", Err(NotASpiffeId::Scheme)),
            ("spiffe://acme.test", Err(NotASpiffeId::Path)),
            ("spiffe://acme.test/", Err(NotASpiffeId::Path)),
            ("spiffe:///web", Err(NotASpiffeId::Domain)),
            ("spiffe://Acme.test/web", Err(NotASpiffeId::Domain)),
            ("spiffe://acme.test:8443/web", Err(NotASpiffeId::Domain)),
            ("spiffe://u@acme.test/web", Err(NotASpiffeId::Domain)),
            ("spiffe://acme.test/a//b", Err(NotASpiffeId::Path)),
            ("spiffe://acme.test/a/../b", Err(NotASpiffeId::Path)),
            ("spiffe://acme.test/a/", Err(NotASpiffeId::Path)),
            ("spiffe://acme.test/a%2Fb", Err(NotASpiffeId::Path)),
            ("spiffe://acme.test/a?b", Err(NotASpiffeId::Path)),
            ("spiffe://acme.test/*", Err(NotASpiffeId::Path)),
        ] {
            assert_eq!(text.parse::<SpiffeId>().map(|_| ()), read, "{text}");
        }
        assert_eq!(format!("spiffe://a/{}", "x".repeat(255)).parse::<SpiffeId>(), Err(NotASpiffeId::Length));
    }

    #[test]
    fn a_trust_domain_names_its_own_ids_and_no_others() {
        let domain: TrustDomain = "acme.test".parse().unwrap();
        let id = domain.id("sidecar/web-1").unwrap();
        assert_eq!((id.as_str(), domain.uri().as_str()), ("spiffe://acme.test/sidecar/web-1", "spiffe://acme.test"));
        assert_eq!(id.path_in(&domain), Some("sidecar/web-1"));
        for other in ["acme", "acme.tes", "acme.test.evil", "test"] {
            assert_eq!(id.path_in(&other.parse().unwrap()), None, "{other}");
        }
        for text in ["", "Acme", "acme/test", "acme:1", "acme test", "acme/", "/"] {
            assert!(text.parse::<TrustDomain>().is_err(), "{text}");
        }
        assert!(domain.id("a//b").is_err() && domain.id("").is_err());
    }

    #[test]
    fn a_star_stands_for_whole_segments_below_and_nothing_else() {
        let matches = |pattern: &str, id: &str| pattern.parse::<SpiffePattern>().unwrap().matches(&id.parse().unwrap());
        assert!(matches("spiffe://a/ns/prod/*", "spiffe://a/ns/prod/web"));
        assert!(matches("spiffe://a/ns/prod/*", "spiffe://a/ns/prod/sa/web"));
        assert!(matches("spiffe://a/*", "spiffe://a/web"));
        assert!(!matches("spiffe://a/ns/prod/*", "spiffe://a/ns/production"));
        assert!(!matches("spiffe://a/ns/prod/*", "spiffe://a/ns/prod"));
        assert!(!matches("spiffe://a/*", "spiffe://ab/web"));
        assert!(!matches("spiffe://a/web", "spiffe://a/web/x"));
        for text in ["spiffe://a*", "spiffe://*", "spiffe://*/web", "spiffe://a/we*", "spiffe://a/*/web", "*"] {
            assert!(text.parse::<SpiffePattern>().is_err(), "{text}");
        }
        let pattern: SpiffePattern = "spiffe://a/ns/*".parse().unwrap();
        assert_eq!(pattern.to_string(), "spiffe://a/ns/*");
    }
}
