//! What is revoked within one scope, ready to be looked up.
//!
//! Cost: per verification; a binary search in each list. What is remembered is looked up once when the policy has changed.

use crate::name::KeyId;
use crate::unit::UnixSeconds;

/// What is revoked within one scope. Absent where nothing is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revoked {
    /// Sorted.
    tokens: Vec<Box<str>>,
    /// Sorted.
    users: Vec<Box<str>>,
    /// Sorted.
    api_keys: Vec<KeyId>,
    issued_before: Option<UnixSeconds>,
}

impl Revoked {
    /// All that several documents say.
    pub(crate) fn of<'a>(declared: impl Iterator<Item = &'a crate::declared::Revoked>) -> Option<Self> {
        let mut all = Self::default();
        for one in declared {
            all.tokens.extend(one.tokens.iter().map(|token| token.as_str().into()));
            all.users.extend(one.users.iter().map(|user| user.as_str().into()));
            all.api_keys.extend(one.api_keys.iter().map(|key| key.value.clone()));
            all.issued_before = all.issued_before.max(one.issued_before);
        }
        all.tokens.sort();
        all.users.sort();
        all.api_keys.sort();
        (all != Self::default()).then_some(all)
    }

    /// Whether the token of this id is.
    #[must_use]
    pub fn has_token(&self, id: &str) -> bool {
        self.tokens.binary_search_by(|known| (**known).cmp(id)).is_ok()
    }

    /// Whether whoever comes as this user is.
    #[must_use]
    pub fn has_user(&self, user: &str) -> bool {
        self.users.binary_search_by(|known| (**known).cmp(user)).is_ok()
    }

    /// Whether an API key is.
    #[must_use]
    pub fn has_api_key(&self, id: &KeyId) -> bool {
        self.api_keys.binary_search(id).is_ok()
    }

    /// Tokens that were issued before this moment, or do not say when, are.
    #[must_use]
    pub fn issued_before(&self) -> Option<UnixSeconds> {
        self.issued_before
    }
}
