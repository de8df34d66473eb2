//! The keyring: opened once with the key-encryption key, then asked for keys; each change is written before it counts.
//!
//! Several processes may hold one keyring. Each change is put over the version it was made from; who comes second reads what the first
//! has put and begins anew, so that two that need the first key of a tenant agree on one.

mod state;
mod rewrap;
#[cfg(test)]
mod tests;

use crate::ca::Authority;
use crate::entry::{Damage, Held, KeyName, Material, NoRandomness, Purpose, State};
use crate::kek::{KekError, KekSource};
use crate::storage::{PUT_MAX, Put, Storage, StorageError};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use bulkhead_config::name::TenantId;
use bulkhead_config::seal::{CannotSeal, Fingerprint, Key, Signature};
use bulkhead_config::spiffe::TrustDomain;
use bulkhead_config::unit::UnixSeconds;
use state::Ring;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};

/// How often a change is begun anew because others came first. Each time one of them has got on.
const TRIES: usize = 16;

/// Keys, and where they rest.
pub struct Keyring {
    storage: Box<dyn Storage>,
    kek: Key,
    /// What is known. Written by whoever has the turn; never locked across a wait.
    ring: RwLock<Ring>,
    /// One change at a time in this process, so that its own changes do not run into each other.
    turn: tokio::sync::Mutex<()>,
}

/// A key of a tenant, with which to seal or open.
#[derive(Debug, Clone)]
pub struct DataKey {
    /// Which version.
    pub version: u32,
    /// The key.
    pub key: Key,
}

/// What may be told of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which one.
    pub name: KeyName,
    /// What it is told from others by; stands in all that it sealed or signed.
    pub fingerprint: Fingerprint,
    /// When it was made.
    pub created: UnixSeconds,
    /// What it may do.
    pub state: State,
    /// The public half, of keys that sign.
    pub public: Option<[u8; 32]>,
}

/// Why a keyring does not open, or a key is not given.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The storage said so.
    #[error("the keyring cannot be read or written")]
    Storage(#[from] StorageError),
    /// There is no key-encryption key.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// The key-encryption key is another than the keyring was sealed with.
    #[error(
        "the keyring is sealed with key {sealed}, and the key-encryption key given is {given}; set core.security.encryption_key to the \
         former one, or change it by a rewrap, which needs both"
    )]
    OtherKek {
        /// The one that is needed.
        sealed: Fingerprint,
        /// The one that was given.
        given: Fingerprint,
    },
    /// An entry is not what was written.
    #[error("the keyring's entry `{entry}` cannot be used; restore the keyring from a backup")]
    Damaged {
        /// Its name.
        entry: String,
        /// What is wrong with it.
        #[source]
        cause: Damage,
    },
    /// A change of the key-encryption key was cut off.
    #[error("the keyring's entry `{entry}` is sealed with key {sealed} already; a rewrap was cut off, run it again with both keys")]
    HalfRewrapped {
        /// The first such entry.
        entry: String,
        /// The key that was to come.
        sealed: Fingerprint,
    },
    /// Entries are gone, or came from elsewhere.
    #[error("the keyring has {found} keys and wrote {written}; some were lost, restore it from a backup")]
    Incomplete {
        /// How many there should be.
        written: u64,
        /// How many there are.
        found: u64,
    },
    /// Others change it all the time.
    #[error("others changed the keyring {TRIES} times meanwhile; try again")]
    Busy,
    /// There is no such key.
    #[error("there is no key {0}")]
    Absent(KeyName),
    /// What is in use cannot be revoked.
    #[error("key {0} is the active one; rotate `{purpose}` first, then revoke it", purpose = .0.purpose)]
    InUse(KeyName),
    /// Versions have an end.
    #[error("`{0}` has no versions left")]
    Exhausted(Purpose),
    /// The library failed.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// Nothing that happens to entries this small.
    #[error(transparent)]
    Seal(#[from] CannotSeal),
}

/// Why a signature counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// No key of this fingerprint counts for this purpose: it is another keyring's, for something else, or revoked.
    #[error("it is signed with key {0}, which is not, or no more, a key for this; have it signed again")]
    Key(Fingerprint),
    /// The bytes are not what that key signed.
    #[error("key {0} did not sign this: it was changed since, or the signature was; have it signed again")]
    Signature(Fingerprint),
}

/// How a keyring was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// There was none: this is its first start.
    Made,
    /// It was there.
    Found,
}

/// What is to be written: keys by name, none where one goes away.
type Change = BTreeMap<KeyName, Option<Held>>;

impl Keyring {
    /// Opens what rests in the storage, or makes a keyring where there is none.
    ///
    /// # Errors
    /// When the key-encryption key is absent or another one, when entries are damaged or lost. None of these makes a new key.
    pub async fn open(storage: Box<dyn Storage>, source: &KekSource, now: UnixSeconds) -> Result<(Self, Open), KeyringError> {
        let entries = storage.load().await?;
        let found = if entries.entries.is_empty() { Open::Made } else { Open::Found };
        // The key is on its disk before anything is sealed with it.
        let kek = source.key(state::sealed_with(&entries)?)?;
        let ring = Ring::open(&kek, &entries)?;
        let keyring = Self { storage, kek, ring: RwLock::new(ring), turn: tokio::sync::Mutex::new(()) };
        keyring.ensure(&[Purpose::Snapshots, Purpose::Tokens], now).await?;
        Ok((keyring, found))
    }

    /// The key that seals for a tenant now; made when it has none.
    ///
    /// # Errors
    /// When it has to be made and cannot be written.
    pub async fn data_key(&self, tenant: &TenantId, now: UnixSeconds) -> Result<DataKey, KeyringError> {
        let purpose = Purpose::Data(tenant.clone());
        loop {
            if let Some((version, held)) = self.ring().active(&purpose)
                && let Material::Sealing(key) = &*held.material
            {
                return Ok(DataKey { version, key: key.clone() });
            }
            self.ensure(std::slice::from_ref(&purpose), now).await?;
        }
    }

    /// Makes the first keys of those among these tenants that have none, many at a time.
    ///
    /// # Errors
    /// When they cannot be written. Some may have been; asking again makes the others.
    pub async fn make_data_keys(&self, tenants: &[TenantId], now: UnixSeconds) -> Result<(), KeyringError> {
        let purposes: Vec<Purpose> = tenants.iter().cloned().map(Purpose::Data).collect();
        self.ensure(&purposes, now).await
    }

    /// The key of a tenant that sealed something, by the fingerprint that stands there; none when it was revoked, or never was the
    /// tenant's.
    #[must_use]
    pub fn opening_key(&self, tenant: &TenantId, fingerprint: Fingerprint) -> Option<Key> {
        let ring = self.ring();
        let held = ring.usable(&Purpose::Data(tenant.clone())).find(|(_, held)| held.material.fingerprint() == fingerprint)?.1;
        match &*held.material {
            Material::Sealing(key) => Some(key.clone()),
            Material::Signing(_) | Material::Certifying(_) => None,
        }
    }

    /// The authority that certifies who belongs to a trust domain; made when there is none, replaced a year before it ends.
    ///
    /// # Errors
    /// When it has to be made and cannot be written.
    pub async fn authority(&self, domain: &TrustDomain, now: UnixSeconds) -> Result<Authority, KeyringError> {
        let purpose = Purpose::Authority(domain.clone());
        loop {
            if let Some(authority) = self.ring().authority(&purpose, domain, now)? {
                return Ok(authority);
            }
            self.change(|ring| ring.renewed(&purpose, now)).await?;
        }
    }

    /// Signs what goes to sidecars.
    ///
    /// # Errors
    /// When the library fails.
    pub fn sign_snapshot(&self, bytes: &[u8]) -> Result<Signature, KeyringError> {
        self.sign(&Purpose::Snapshots, bytes)
    }

    /// Signs a token of the control plane's own.
    ///
    /// # Errors
    /// When the library fails.
    pub fn sign_token(&self, bytes: &[u8]) -> Result<Signature, KeyringError> {
        self.sign(&Purpose::Tokens, bytes)
    }

    /// Whether a key of this purpose, that still counts, signed these bytes.
    ///
    /// # Errors
    /// Which of the two it is that does not hold.
    pub fn verify(&self, purpose: &Purpose, bytes: &[u8], signature: &Signature) -> Result<(), NotVerified> {
        let ring = self.ring();
        let mut public = ring.usable(purpose).filter_map(|(_, held)| held.material.public());
        let key = public.find(|key| Fingerprint::of_public_key(key) == signature.key).ok_or(NotVerified::Key(signature.key))?;
        UnparsedPublicKey::new(&ED25519, key).verify(bytes, &signature.bytes).map_err(|_| NotVerified::Signature(signature.key))
    }

    /// A new version for new work; the one so far goes on opening and verifying.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn rotate(&self, purpose: &Purpose, now: UnixSeconds) -> Result<KeyName, KeyringError> {
        let made = Held { created: now, state: State::Active, material: purpose.make(now)?.into() };
        let change = self.change(|ring| ring.rotated(purpose, &made).map(Some)).await?;
        // The highest version of the change is the new one.
        change.into_keys().next_back().ok_or_else(|| KeyringError::Exhausted(purpose.clone()))
    }

    /// Ends a version: what it sealed or signed counts no more, here and, once told, anywhere.
    ///
    /// # Errors
    /// When it is the active one, or there is none such, or it cannot be written.
    pub async fn revoke(&self, name: &KeyName) -> Result<(), KeyringError> {
        self.change(|ring| ring.revoked(name)).await.map(drop)
    }

    /// Removes all keys of a tenant, and with them whatever was sealed for it, wherever copies of that may be.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn forget(&self, tenant: &TenantId) -> Result<(), KeyringError> {
        let purpose = Purpose::Data(tenant.clone());
        loop {
            // In parts, as a tenant may have more versions than one put takes; the newest last, so that none is made meanwhile.
            let change = self.change(|ring| Ok(ring.forgotten(&purpose))).await?;
            if change.is_empty() {
                return Ok(());
            }
        }
    }

    /// Reads anew what rests in the storage, when somebody else has put there.
    ///
    /// # Errors
    /// As [`Keyring::open`]; what was known stays.
    pub async fn reload(&self) -> Result<(), KeyringError> {
        let _turn = self.turn.lock().await;
        self.read_anew().await
    }

    /// Every key, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        self.ring().list()
    }

    /// Public keys that verify snapshots, or tokens: those that are not revoked.
    #[must_use]
    pub fn public_keys(&self, purpose: &Purpose) -> Vec<[u8; 32]> {
        self.ring().usable(purpose).filter_map(|(_, held)| held.material.public()).collect()
    }

    /// Which key-encryption key seals it.
    #[must_use]
    pub fn kek(&self) -> Fingerprint {
        self.kek.fingerprint()
    }

    fn sign(&self, purpose: &Purpose, bytes: &[u8]) -> Result<Signature, KeyringError> {
        let material = self.ring().active(purpose).map(|(_, held)| held.material.clone());
        match material.as_deref() {
            Some(Material::Signing(key)) => key.sign(bytes).ok_or(KeyringError::NoRandomness(NoRandomness)),
            _ => Err(KeyringError::Absent(KeyName { purpose: purpose.clone(), version: 1 })),
        }
    }

    /// Makes first keys where there are none.
    async fn ensure(&self, purposes: &[Purpose], now: UnixSeconds) -> Result<(), KeyringError> {
        for purposes in purposes.chunks(PUT_MAX - 1) {
            self.change(|ring| {
                let absent = purposes.iter().filter(|purpose| ring.active(purpose).is_none());
                let made = absent.map(|purpose| {
                    let held = Held { created: now, state: State::Active, material: purpose.make(now)?.into() };
                    Ok((ring.next(purpose)?, Some(held)))
                });
                let change: Change = made.collect::<Result<_, KeyringError>>()?;
                Ok(Some(change).filter(|change| !change.is_empty()))
            })
            .await?;
        }
        Ok(())
    }

    /// Plans a change on what is known, writes it, and knows it then. Nothing is written when nothing is planned.
    async fn change(&self, plan: impl Fn(&Ring) -> Result<Option<Change>, KeyringError>) -> Result<Change, KeyringError> {
        let _turn = self.turn.lock().await;
        for _ in 0..TRIES {
            let planned = {
                let ring = self.ring();
                plan(&ring)?.map(|change| ring.sealed(&self.kek, &change).map(|sealed| (change, sealed, ring.version()))).transpose()?
            };
            let Some((change, sealed, seen)) = planned else { return Ok(Change::new()) };
            match self.storage.put(sealed, seen).await? {
                Put::Done(version) => {
                    self.ring.write().unwrap_or_else(PoisonError::into_inner).apply(&change, version);
                    return Ok(change);
                }
                Put::Moved => self.read_anew().await?,
            }
        }
        Err(KeyringError::Busy)
    }

    async fn read_anew(&self) -> Result<(), KeyringError> {
        let ring = Ring::open(&self.kek, &self.storage.load().await?)?;
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        Ok(())
    }

    fn ring(&self) -> std::sync::RwLockReadGuard<'_, Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring(sealed with {})", self.kek.fingerprint())
    }
}
