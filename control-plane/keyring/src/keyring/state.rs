//! What a keyring knows: keys by purpose and version, opened. Pure: changes are planned here, and known once they were written.

use super::{Change, Damage, KeyringError, Listed};
use crate::ca::Authority;
use crate::ca::root::Root;
use crate::entry::{Held, KeyName, Material, NoRandomness, Purpose, State, random};
use crate::storage::{Entries, HEAD, PUT_MAX, Puts, Version};
use bulkhead_config::seal::{CannotOpen, CannotSeal, Fingerprint, Key, Place, Sealed, Writer, WriterId};
use bulkhead_config::spiffe::TrustDomain;
use bulkhead_config::unit::UnixSeconds;
use std::collections::BTreeMap;

/// Where the head belongs. It is the check value of the key-encryption key, and knows how many keys there are.
const HEAD_PLACE: Place<'static> = Place { tenant: None, kind: "keyring", name: HEAD, epoch: 0 };

/// Keys of a keyring, at one version of its storage.
#[derive(Debug, Default)]
pub(super) struct Ring {
    version: Version,
    keys: BTreeMap<Purpose, BTreeMap<u32, Held>>,
}

impl Ring {
    /// All entries, opened; one that cannot be is an error, since what it sealed would be lost silently.
    pub(super) fn open(kek: &Key, entries: &Entries) -> Result<Self, KeyringError> {
        let mut ring = Self { version: entries.version, keys: BTreeMap::new() };
        if entries.entries.is_empty() {
            return Ok(ring);
        }
        check_count(entries, open_head(kek, entries)?)?;
        for (entry, bytes) in keys_of(entries) {
            let damaged = |cause| KeyringError::Damaged { entry: entry.clone(), cause };
            let name: KeyName = entry.parse().map_err(|cause| damaged(Damage::Name(cause)))?;
            let held = Held::open(&name, kek, bytes).map_err(|cause| match cause {
                // The head was opened with this key, so this entry is ahead of it.
                Damage::Closed(CannotOpen::OtherKey { sealed, .. }) => KeyringError::HalfRewrapped { entry: entry.clone(), sealed },
                cause => damaged(cause),
            })?;
            ring.keys.entry(name.purpose).or_default().insert(name.version, held);
        }
        Ok(ring)
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// The newest version that makes new things.
    pub(super) fn active(&self, purpose: &Purpose) -> Option<(u32, &Held)> {
        self.versions(purpose).rev().find(|(_, held)| held.state == State::Active)
    }

    /// Versions that count.
    pub(super) fn usable(&self, purpose: &Purpose) -> impl Iterator<Item = (u32, &Held)> {
        self.versions(purpose).filter(|(_, held)| held.state != State::Revoked)
    }

    /// The authority of a domain, believed by whoever believes one of its versions that count; none when another one is due.
    pub(super) fn authority(&self, purpose: &Purpose, domain: &TrustDomain, now: UnixSeconds) -> Result<Option<Authority>, NoRandomness> {
        let Some((newest, root)) = self.active(purpose).and_then(as_root).filter(|(_, root)| !root.is_ending(now)) else { return Ok(None) };
        let older = self.usable(purpose).filter_map(as_root).filter(|(version, _)| *version != newest).map(|(_, root)| root);
        root.authority(domain, older, now).map(Some).ok_or(NoRandomness)
    }

    /// Another authority, when one is due.
    pub(super) fn renewed(&self, purpose: &Purpose, now: UnixSeconds) -> Result<Option<Change>, KeyringError> {
        if self.active(purpose).and_then(as_root).is_some_and(|(_, root)| !root.is_ending(now)) {
            return Ok(None);
        }
        let made = Held { created: now, state: State::Active, material: purpose.make(now)?.into() };
        self.rotated(purpose, &made).map(Some)
    }

    /// The name of the version to come.
    pub(super) fn next(&self, purpose: &Purpose) -> Result<KeyName, KeyringError> {
        let last = self.versions(purpose).next_back().map_or(0, |(version, _)| version);
        let version = last.checked_add(1).ok_or_else(|| KeyringError::Exhausted(purpose.clone()))?;
        Ok(KeyName { purpose: purpose.clone(), version })
    }

    /// `made` comes, and whatever was active retires.
    pub(super) fn rotated(&self, purpose: &Purpose, made: &Held) -> Result<Change, KeyringError> {
        let active = self.versions(purpose).filter(|(_, held)| held.state == State::Active);
        let retire = |(version, held): (u32, &Held)| {
            (KeyName { purpose: purpose.clone(), version }, Some(Held { state: State::Retiring, ..held.clone() }))
        };
        let mut change: Change = active.map(retire).collect();
        change.insert(self.next(purpose)?, Some(made.clone()));
        Ok(change)
    }

    /// A version ends; nothing when it has.
    pub(super) fn revoked(&self, name: &KeyName) -> Result<Option<Change>, KeyringError> {
        let held = self.keys.get(&name.purpose).and_then(|versions| versions.get(&name.version));
        let held = held.ok_or_else(|| KeyringError::Absent(name.clone()))?;
        match held.state {
            State::Active => Err(KeyringError::InUse(name.clone())),
            State::Revoked => Ok(None),
            State::Retiring => Ok(Some([(name.clone(), Some(Held { state: State::Revoked, ..held.clone() }))].into())),
        }
    }

    /// Versions go away, the oldest first and as many as one put takes; nothing when there are none.
    pub(super) fn forgotten(&self, purpose: &Purpose) -> Option<Change> {
        let oldest = self.versions(purpose).take(PUT_MAX - 1);
        let change: Change = oldest.map(|(version, _)| (KeyName { purpose: purpose.clone(), version }, None)).collect();
        Some(change).filter(|change| !change.is_empty())
    }

    /// A change as it is put: entries, and the head that counts them.
    pub(super) fn sealed(&self, kek: &Key, change: &Change) -> Result<Puts, KeyringError> {
        // Its own for each put, so that it never wears out.
        let writer = kek.writer(WriterId::drawn(*random()?));
        let mut count = self.keys.values().map(|versions| versions.len() as u64).sum::<u64>();
        let mut sealed = Puts::new();
        for (name, held) in change {
            let known = self.keys.get(&name.purpose).is_some_and(|versions| versions.contains_key(&name.version));
            count = count + u64::from(held.is_some()) - u64::from(known);
            sealed.insert(name.to_string(), held.as_ref().map(|held| held.seal(name, &writer)).transpose()?);
        }
        sealed.insert(HEAD.to_owned(), Some(seal_head(&writer, count)?));
        Ok(sealed)
    }

    /// Knows a change that was put.
    pub(super) fn apply(&mut self, change: &Change, version: Version) {
        self.version = version;
        for (name, held) in change {
            let versions = self.keys.entry(name.purpose.clone()).or_default();
            match held {
                Some(held) => versions.insert(name.version, held.clone()),
                None => versions.remove(&name.version),
            };
            if versions.is_empty() {
                self.keys.remove(&name.purpose);
            }
        }
    }

    pub(super) fn list(&self) -> Vec<Listed> {
        let named = |purpose: &Purpose, version: &u32| KeyName { purpose: purpose.clone(), version: *version };
        let versions =
            self.keys.iter().flat_map(|(purpose, versions)| versions.iter().map(move |(version, held)| (purpose, version, held)));
        versions
            .map(|(purpose, version, held)| Listed {
                name: named(purpose, version),
                fingerprint: held.material.fingerprint(),
                created: held.created,
                state: held.state,
                public: held.material.public(),
            })
            .collect()
    }

    fn versions(&self, purpose: &Purpose) -> impl DoubleEndedIterator<Item = (u32, &Held)> {
        self.keys.get(purpose).into_iter().flatten().map(|(version, held)| (*version, held))
    }
}

fn as_root((version, held): (u32, &Held)) -> Option<(u32, &Root)> {
    match &*held.material {
        Material::Certifying(root) => Some((version, root)),
        Material::Sealing(_) | Material::Signing(_) => None,
    }
}

/// The key-encryption key that sealed these entries; none when there are none.
pub(super) fn sealed_with(entries: &Entries) -> Result<Option<Fingerprint>, KeyringError> {
    if entries.entries.is_empty() { Ok(None) } else { Ok(Some(head(entries)?.key())) }
}

/// How many keys were written, by the head, which proves the key as well.
pub(super) fn open_head(kek: &Key, entries: &Entries) -> Result<u64, KeyringError> {
    let plain = kek.open(&HEAD_PLACE, &head(entries)?).map_err(|cause| match cause {
        CannotOpen::OtherKey { sealed, held } => KeyringError::OtherKek { sealed, given: held },
        cause => damaged_head(Damage::Closed(cause)),
    })?;
    (*plain).as_slice().try_into().map(u64::from_be_bytes).map_err(|_| damaged_head(Damage::Unknown))
}

pub(super) fn seal_head(writer: &Writer, count: u64) -> Result<Vec<u8>, CannotSeal> {
    writer.seal(&HEAD_PLACE, &count.to_be_bytes()).map(Sealed::into_bytes)
}

/// Entries that are keys.
pub(super) fn keys_of(entries: &Entries) -> impl Iterator<Item = (&String, &Vec<u8>)> {
    entries.entries.iter().filter(|(name, _)| *name != HEAD)
}

pub(super) fn check_count(entries: &Entries, written: u64) -> Result<(), KeyringError> {
    let found = keys_of(entries).count() as u64;
    if found == written { Ok(()) } else { Err(KeyringError::Incomplete { written, found }) }
}

fn head(entries: &Entries) -> Result<Sealed<&[u8]>, KeyringError> {
    let bytes = entries.entries.get(HEAD).ok_or_else(|| damaged_head(Damage::Absent))?;
    Sealed::parse(bytes.as_slice()).map_err(|cause| damaged_head(Damage::Form(cause)))
}

fn damaged_head(cause: Damage) -> KeyringError {
    KeyringError::Damaged { entry: HEAD.to_owned(), cause }
}
