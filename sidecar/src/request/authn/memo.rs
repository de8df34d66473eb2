//! The memo: credentials that this worker verified, or refused, and on what grounds.
//!
//! Cost: per request; one hash of the credential and one comparison (about 50 ns for 700 bytes). When the policy changed since
//! the entry was used last, its grounds are compared once.
//! Keyed by the named tenant and the whole credential: what proves something to one tenant need not to the next, and of two
//! credentials that differ in one bit only one was verified. The hash is keyed at random, so nobody can choose collisions, and
//! a comparison byte by byte tells nothing to who cannot.
//! An entry ends at `exp`, and with its grounds: the declaration of its issuer or API key, or the issuer's keys. Refused ones
//! end after ten seconds as well, and live apart, so that no flood of them pushes out good ones.
//! Bounded by bytes, in which every entry counts with what it holds: about 16 MiB a worker, some 6,000 tokens of ten claims.

use super::api_key;
use super::certificate;
use super::presented::Presented;
use super::refused::Refused;
use super::uses::{LastUse, Uses};
use super::{Against, Verified};
use crate::telemetry::metrics::MemoTally;
use bulkhead_config::name::{KeyId, TenantId};
use bulkhead_config::snapshot::{Algorithm, ApiKey, Epoch, Introspection, Issuer, Workload};
use bulkhead_config::spiffe::SpiffeId;
use bulkhead_config::text::Value;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, Weighter};
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

/// Bytes of verified entries a worker.
const VERIFIED_BYTES_MAX: u64 = 15 << 20;
/// Bytes of refused entries a worker.
const REFUSED_BYTES_MAX: u64 = 1 << 20;
/// What an entry takes beside its credential and claims.
const ENTRY_BYTES: u64 = 512;
/// What a parsed claim takes beside its text.
const CLAIM_BYTES: u64 = 128;
/// How long a refused credential is refused without another look.
const REFUSED_NS: u64 = 10_000_000_000;

/// Remembered credentials of one worker.
#[derive(Debug)]
pub struct Memo {
    verified: Entries<Good>,
    refused: Entries<Bad>,
    uses: Uses,
    tally: MemoTally,
}

type Entries<E> = Cache<Key, E, Bytes, foldhash::fast::RandomState, DefaultLifecycle<Key, E>>;

/// Who was proved, and until when.
#[derive(Debug)]
struct Good {
    verified: Rc<Verified>,
    /// Milliseconds (UTC) from which it is not good any more.
    ends_ms: Option<u64>,
    stands: Stands,
    /// Where its uses are noted, if it is an API key.
    used: Option<LastUse>,
    /// What it takes beside its credential.
    bytes: u64,
}

/// Why nobody was proved, and until when that is said without another look.
#[derive(Debug)]
struct Bad {
    refused: Refused,
    ends_ns: u64,
    stands: Stands,
}

/// What an entry rests on, and the policy by which that was seen last.
#[derive(Debug)]
struct Stands {
    grounds: Grounds,
    seen: Cell<Stamp>,
}

/// What a verification rested on.
#[derive(Debug, Clone)]
pub(super) enum Grounds {
    /// An issuer as declared, and the generation of its key set.
    Token {
        /// The declaration.
        issuer: Arc<Issuer>,
        /// [`super::KeySet`]'s generation.
        keys: u64,
        /// The key.
        key: Rc<KeyUsed>,
    },
    /// Who was asked about a token.
    Introspected {
        /// The declaration.
        declared: Arc<Introspection>,
    },
    /// What was declared under the name of an API key, if anything.
    ApiKey {
        /// The key's tenant.
        tenant: TenantId,
        /// Its id.
        id: KeyId,
        /// The declaration.
        declared: Option<ApiKey>,
    },
    /// The workload that a certificate's id means. Such credentials are kept with their connections, not here.
    Certificate {
        /// The id.
        id: SpiffeId,
        /// The declaration.
        declared: Workload,
    },
}

/// The key that verified a token, so that it is known again in another version of its set.
#[derive(Debug)]
pub(super) struct KeyUsed {
    /// By which the token named it.
    pub(super) id: Option<Arc<str>>,
    /// What it was used with.
    pub(super) algorithm: Algorithm,
    /// The key itself.
    pub(super) bytes: Box<[u8]>,
}

/// A policy: while it is the same, no grounds changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) epoch: Epoch,
    pub(super) keys: u64,
}

/// What the memo knows of a credential.
pub(super) enum Remembered {
    Verified(Rc<Verified>),
    Refused(Refused),
}

impl Memo {
    /// A memo that knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            verified: entries(VERIFIED_BYTES_MAX),
            refused: entries(REFUSED_BYTES_MAX),
            uses: Uses::default(),
            tally: MemoTally::default(),
        }
    }

    /// How it met the credentials presented so far.
    #[must_use]
    pub fn tally(&self) -> MemoTally {
        self.tally
    }

    /// When a tenant's API keys were used last, in milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn api_key_uses(&self, tenant: &TenantId) -> Vec<(KeyId, u64)> {
        self.uses.of_tenant(tenant)
    }

    /// What all entries take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.verified.weight() + self.refused.weight()
    }

    /// What is known of a credential now.
    pub(super) fn recall(&mut self, against: &Against<'_>, presented: Presented<'_>) -> Option<Remembered> {
        let asked = Asked::new(against, presented);
        if let Some(good) = self.verified.get(&asked) {
            if good.stands.hold(against, || good.verified.is_not_revoked(against))
                && good.ends_ms.is_none_or(|ends_ms| against.now.unix_ms < ends_ms)
            {
                self.tally.remembered += 1;
                if let Some(used) = &good.used {
                    used.set(against.now.unix_ms);
                }
                return Some(Remembered::Verified(Rc::clone(&good.verified)));
            }
            self.verified.remove(&asked);
        }
        let bad = self.refused.get(&asked)?;
        if bad.stands.hold(against, || !bad.refused.is_revocation()) && against.now.mono_ns < bad.ends_ns {
            self.tally.refusal_remembered += 1;
            return Some(Remembered::Refused(bad.refused.clone()));
        }
        self.refused.remove(&asked);
        None
    }

    /// Remembers who was proved.
    pub(super) fn remember(
        &mut self,
        against: &Against<'_>,
        presented: Presented<'_>,
        grounds: Grounds,
        verified: Verified,
        ends_ms: Option<u64>,
    ) -> Rc<Verified> {
        self.tally.verified += 1;
        let bytes = ENTRY_BYTES + verified.claims().map_or(0, bytes_of);
        let verified = Rc::new(verified);
        let used = match &grounds {
            Grounds::ApiKey { tenant, id, .. } => self.uses.of_key(tenant, id),
            Grounds::Token { .. } | Grounds::Introspected { .. } | Grounds::Certificate { .. } => None,
        };
        if let Some(used) = &used {
            used.set(against.now.unix_ms);
        }
        let good = Good { verified: Rc::clone(&verified), ends_ms, stands: Stands::new(grounds, against), used, bytes };
        self.verified.insert(Asked::new(against, presented).to_key(), good);
        verified
    }

    /// Remembers why nobody was.
    pub(super) fn remember_refused(&mut self, against: &Against<'_>, presented: Presented<'_>, grounds: Grounds, refused: Refused) {
        self.tally.refused += 1;
        let ends_ns = against.now.mono_ns.saturating_add(REFUSED_NS);
        let bad = Bad { refused, ends_ns, stands: Stands::new(grounds, against) };
        self.refused.insert(Asked::new(against, presented).to_key(), bad);
    }
}

impl Default for Memo {
    fn default() -> Self {
        Self::new()
    }
}

fn entries<E>(bytes_max: u64) -> Entries<E>
where
    Bytes: Weighter<Key, E>,
{
    let items = usize::try_from(bytes_max / ENTRY_BYTES).unwrap_or(0);
    Cache::with(items, bytes_max, Bytes, foldhash::fast::RandomState::default(), DefaultLifecycle::default())
}

impl Stands {
    fn new(grounds: Grounds, against: &Against<'_>) -> Self {
        Self { grounds, seen: Cell::new(against.stamp()) }
    }

    /// `still` is asked where the policy is another one than when it was seen last.
    fn hold(&self, against: &Against<'_>, still: impl FnOnce() -> bool) -> bool {
        let stamp = against.stamp();
        if self.seen.get() == stamp {
            return true;
        }
        let holds = self.grounds.hold(against) && still();
        if holds {
            self.seen.set(stamp);
        }
        holds
    }
}

impl Grounds {
    pub(super) fn hold(&self, against: &Against<'_>) -> bool {
        match self {
            Grounds::Token { issuer, keys, .. } => {
                let now = against.issuer(&issuer.issuer);
                now.is_some_and(|now| now == issuer) && against.keys.set(issuer.keys.name()).is_some_and(|set| set.generation() == *keys)
            }
            Grounds::Introspected { declared } => against.introspection().is_some_and(|now| now == declared),
            Grounds::ApiKey { tenant, id, declared } => api_key::declared(against, tenant, id) == declared.as_ref(),
            Grounds::Certificate { id, declared } => certificate::declared(against, id) == Some(declared),
        }
    }
}

/// A credential as an entry keeps it.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    named: Option<TenantId>,
    is_api_key: bool,
    text: Box<[u8]>,
}

/// A credential as a request asks for it.
#[derive(Debug)]
struct Asked<'a> {
    named: Option<&'a TenantId>,
    is_api_key: bool,
    text: &'a [u8],
}

impl<'a> Asked<'a> {
    fn new(against: &Against<'a>, presented: Presented<'a>) -> Self {
        let (is_api_key, text) = match presented {
            Presented::Bearer(token) => (false, token),
            Presented::ApiKey(key) => (true, key),
        };
        Self { named: against.named_id(), is_api_key, text }
    }

    fn to_key(&self) -> Key {
        Key { named: self.named.cloned(), is_api_key: self.is_api_key, text: self.text.into() }
    }
}

impl Hash for Asked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.named.map(TenantId::as_str).hash(state);
        self.is_api_key.hash(state);
        self.text.hash(state);
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Asked { named: self.named.as_ref(), is_api_key: self.is_api_key, text: &self.text }.hash(state);
    }
}

impl Equivalent<Key> for Asked<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.is_api_key == key.is_api_key && self.named == key.named.as_ref() && *self.text == *key.text
    }
}

/// Weighs an entry by the bytes it keeps.
#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<Key, Good> for Bytes {
    fn weight(&self, key: &Key, good: &Good) -> u64 {
        key.text.len() as u64 + good.bytes
    }
}

impl Weighter<Key, Bad> for Bytes {
    fn weight(&self, key: &Key, _: &Bad) -> u64 {
        key.text.len() as u64 + ENTRY_BYTES
    }
}

/// What parsed claims take, roughly.
fn bytes_of(claims: &Value) -> u64 {
    CLAIM_BYTES
        + match claims {
            Value::Str(text) => text.len() as u64,
            Value::List(items) => items.iter().map(|item| bytes_of(&item.value)).sum(),
            Value::Map(entries) => entries.iter().map(|(key, node)| key.text.len() as u64 + bytes_of(&node.value)).sum(),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
        }
}
