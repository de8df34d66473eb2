//! One key as it rests: what it is for, which version, since when, in which state, and its secret, all of it sealed.
//!
//! ```text
//! form 1 │ state 1 │ created 8, Unix seconds, big-endian │ length of the secret 4 │ secret │ what is public of it
//! ```
//! An entry needs nothing beside it but the key-encryption key, so that stores move and back up entries without knowing what they are.

use crate::ca::root::Root;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use bulkhead_config::name::TenantId;
use bulkhead_config::seal::{CannotOpen, CannotSeal, Fingerprint, KEY_BYTES, Key, NotSealed, Place, Sealed, Signature, Writer};
use bulkhead_config::spiffe::TrustDomain;
use bulkhead_config::unit::UnixSeconds;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use zeroize::Zeroizing;

const FORM: u8 = 1;

/// What a key is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Seals what one tenant keeps: cached answers, secrets of its documents.
    Data(TenantId),
    /// Signs snapshots, so that sidecars take them from nobody else.
    Snapshots,
    /// Signs the control plane's own tokens.
    Tokens,
    /// Certifies who belongs to a trust domain.
    Authority(TrustDomain),
}

/// One version of a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName {
    /// What it is for.
    pub purpose: Purpose,
    /// Which one; 1 is the first.
    pub version: u32,
}

/// A text that names no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no key; keys are `data/TENANT/VERSION`, `snapshots/VERSION`, `tokens/VERSION` and `authority/DOMAIN/VERSION`")]
pub struct NotAKeyName(String);

/// What a key may still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Seals and opens, signs and verifies.
    Active,
    /// Opens and verifies what is there, and makes nothing new.
    Retiring,
    /// Nothing: what it sealed or signed counts no more.
    Revoked,
}

/// A key in use.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) created: UnixSeconds,
    pub(crate) state: State,
    pub(crate) material: Arc<Material>,
}

/// The key itself.
#[derive(Debug)]
pub(crate) enum Material {
    Sealing(Key),
    Signing(SigningKey),
    Certifying(Root),
}

/// A key of Ed25519.
pub(crate) struct SigningKey {
    seed: Zeroizing<[u8; KEY_BYTES]>,
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

/// Why an entry is not read. None of it says anything of what stands in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It is no sealed value.
    #[error(transparent)]
    Form(#[from] NotSealed),
    /// It does not open.
    #[error(transparent)]
    Closed(#[from] CannotOpen),
    /// It is not there.
    #[error("it is gone")]
    Absent,
    /// It opens, and is not what this release writes.
    #[error("it opens, and what stands in it is not what this release knows; it may be of a newer one")]
    Unknown,
    /// Its name names no key.
    #[error(transparent)]
    Name(#[from] NotAKeyName),
}

/// The library gave no random bytes, which a system that has booted always has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes, so nothing was made; try again")]
pub struct NoRandomness;

/// Random bytes, fit for keys.
pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, NoRandomness> {
    let mut bytes = Zeroizing::new([0; N]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

impl Held {
    /// As it rests.
    pub(crate) fn seal(&self, name: &KeyName, writer: &Writer) -> Result<Vec<u8>, CannotSeal> {
        let (secret, public) = self.material.parts();
        let length = u32::try_from(secret.len()).map_err(|_| CannotSeal::TooLong(secret.len()))?;
        let mut plain = Zeroizing::new(Vec::with_capacity(14 + secret.len() + public.len()));
        plain.extend([FORM, self.state.as_byte()]);
        plain.extend(self.created.to_be_bytes());
        plain.extend(length.to_be_bytes());
        plain.extend(secret);
        plain.extend(public);
        name.at_place(|place| writer.seal(place, &plain)).map(Sealed::into_bytes)
    }

    /// What rests under this name.
    pub(crate) fn open(name: &KeyName, kek: &Key, bytes: &[u8]) -> Result<Self, Damage> {
        let sealed = Sealed::parse(bytes)?;
        let plain = name.at_place(|place| kek.open(place, &sealed))?;
        Self::read(&name.purpose, &plain).ok_or(Damage::Unknown)
    }

    fn read(purpose: &Purpose, plain: &[u8]) -> Option<Self> {
        let (&[form, state], rest) = plain.split_first_chunk()?;
        let (&created, rest) = rest.split_first_chunk()?;
        let (&length, rest) = rest.split_first_chunk()?;
        let (secret, public) = rest.split_at_checked(u32::from_be_bytes(length) as usize)?;
        (form == FORM).then_some(())?;
        let material = Arc::new(purpose.read(secret, public)?);
        Some(Self { created: UnixSeconds::from_be_bytes(created), state: State::of_byte(state)?, material })
    }
}

impl Purpose {
    /// A new key for it.
    pub(crate) fn make(&self, now: UnixSeconds) -> Result<Material, NoRandomness> {
        Ok(match self {
            Purpose::Data(_) => Material::Sealing(Key::new(&*random()?)),
            Purpose::Snapshots | Purpose::Tokens => Material::Signing(SigningKey::of(&*random()?).ok_or(NoRandomness)?),
            Purpose::Authority(domain) => Material::Certifying(Root::make(domain, now)?),
        })
    }

    fn read(&self, secret: &[u8], public: &[u8]) -> Option<Material> {
        let material = match self {
            Purpose::Data(_) => Material::Sealing(Key::new(secret.try_into().ok()?)),
            Purpose::Snapshots | Purpose::Tokens => Material::Signing(SigningKey::of(secret.try_into().ok()?)?),
            Purpose::Authority(_) => Material::Certifying(Root::of(secret, public)?),
        };
        (material.parts().1 == public).then_some(material)
    }
}

impl Material {
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        match self {
            Material::Sealing(key) => key.fingerprint(),
            Material::Signing(key) => key.fingerprint(),
            Material::Certifying(root) => root.fingerprint(),
        }
    }

    /// The public half of a key that signs.
    pub(crate) fn public(&self) -> Option<[u8; 32]> {
        match self {
            Material::Signing(key) => Some(key.public),
            Material::Sealing(_) | Material::Certifying(_) => None,
        }
    }

    /// What is secret, and what is public.
    fn parts(&self) -> (&[u8], &[u8]) {
        match self {
            Material::Sealing(key) => (key.expose(), &[]),
            Material::Signing(key) => (&*key.seed, &key.public),
            Material::Certifying(root) => root.parts(),
        }
    }
}

impl SigningKey {
    fn of(seed: &[u8; KEY_BYTES]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { seed: Zeroizing::new(*seed), pair, public })
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_public_key(&self.public)
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> Option<Signature> {
        let signature = self.pair.try_sign(bytes).ok()?;
        Some(Signature { key: self.fingerprint(), bytes: signature.as_ref().try_into().ok()? })
    }
}

impl State {
    fn as_byte(self) -> u8 {
        match self {
            State::Active => 1,
            State::Retiring => 2,
            State::Revoked => 3,
        }
    }

    fn of_byte(byte: u8) -> Option<Self> {
        [State::Active, State::Retiring, State::Revoked].into_iter().find(|state| state.as_byte() == byte)
    }
}

impl KeyName {
    /// Where its entry belongs: moved to another name it does not open.
    fn at_place<T>(&self, with: impl FnOnce(&Place<'_>) -> T) -> T {
        let tenant = match &self.purpose {
            Purpose::Data(tenant) => Some(tenant),
            Purpose::Snapshots | Purpose::Tokens | Purpose::Authority(_) => None,
        };
        with(&Place { tenant, kind: "key", name: &self.purpose.to_string(), epoch: self.version.into() })
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Purpose::Data(tenant) => write!(f, "data/{tenant}"),
            Purpose::Snapshots => f.write_str("snapshots"),
            Purpose::Tokens => f.write_str("tokens"),
            Purpose::Authority(domain) => write!(f, "authority/{domain}"),
        }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.purpose, self.version)
    }
}

impl FromStr for KeyName {
    type Err = NotAKeyName;

    fn from_str(text: &str) -> Result<Self, NotAKeyName> {
        let read = || {
            let (purpose, version) = text.rsplit_once('/')?;
            let purpose = match purpose.split_once('/') {
                None if purpose == "snapshots" => Purpose::Snapshots,
                None if purpose == "tokens" => Purpose::Tokens,
                Some(("data", tenant)) => Purpose::Data(tenant.parse().ok()?),
                Some(("authority", domain)) => Purpose::Authority(domain.parse().ok()?),
                _ => return None,
            };
            Some(KeyName { purpose, version: version.parse().ok().filter(|version| *version > 0)? })
        };
        // One name, one key: no sign or zero before a version.
        read().filter(|name| name.to_string() == text).ok_or_else(|| NotAKeyName(text.to_owned()))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Active => "active",
            State::Retiring => "retiring",
            State::Revoked => "revoked",
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.fingerprint())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use bulkhead_config::seal::WriterId;

    fn made(name: &str) -> (KeyName, Held) {
        let name: KeyName = name.parse().unwrap();
        let material = Arc::new(name.purpose.make(1_700_000_000).unwrap());
        (name, Held { created: 1_700_000_000, state: State::Retiring, material })
    }

    #[test]
    fn an_entry_comes_back_as_it_was_and_under_its_own_name_only() {
        let kek = Key::new(&[1; KEY_BYTES]);
        let names = ["data/acme/1", "data/acme/2", "data/globex/1", "snapshots/1", "snapshots/2", "tokens/1", "authority/acme.test/1"];
        for name in names {
            let (name, held) = made(name);
            let bytes = held.seal(&name, &kek.writer(WriterId::drawn(*random().unwrap()))).unwrap();
            let opened = Held::open(&name, &kek, &bytes).unwrap();
            assert_eq!((opened.created, opened.state), (held.created, held.state));
            assert_eq!(opened.material.parts(), held.material.parts());
            assert_eq!(opened.material.fingerprint(), held.material.fingerprint());
            for other in names.into_iter().filter(|other| *other != name.to_string()) {
                let refused = Held::open(&other.parse().unwrap(), &kek, &bytes).unwrap_err();
                assert!(matches!(refused, Damage::Closed(CannotOpen::Refused { .. })), "{name} opens as {other}");
            }
        }
    }

    #[test]
    fn what_opens_and_is_not_ours_is_damage() {
        let (name, held) = made("tokens/1");
        let (secret, public) = held.material.parts();
        let plain = |form: u8, state: u8, length: u32, public: &[u8]| {
            [&[form, state][..], &1_i64.to_be_bytes(), &length.to_be_bytes(), secret, public].concat()
        };
        assert!(Held::read(&name.purpose, &plain(FORM, 1, 32, public)).is_some());
        for bad in [
            plain(2, 1, 32, public),
            plain(FORM, 0, 32, public),
            plain(FORM, 4, 32, public),
            plain(FORM, 1, 31, public),
            plain(FORM, 1, u32::MAX, public),
            plain(FORM, 1, 32, &[7; 32]),
            plain(FORM, 1, 32, &[]),
            vec![FORM, 1],
            vec![],
        ] {
            assert!(Held::read(&name.purpose, &bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_has_one_name() {
        for text in ["data/acme_corp/1", "snapshots/4294967295", "tokens/10", "authority/acme.test/2"] {
            assert_eq!(text.parse::<KeyName>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "data",
            "data/1",
            "data//1",
            "data/acme/",
            "data/acme/0",
            "data/acme/01",
            "data/acme/+1",
            "data/a/b/1",
            "tokens",
            "tokens/x",
            "snapshots/4294967296",
            "head",
            "Tokens/1",
            "data/Acme/1",
            "authority/1",
            "authority/a/b/1",
            "snapshots/x/1",
        ] {
            assert_eq!(text.parse::<KeyName>(), Err(NotAKeyName(text.to_owned())));
        }
    }

    #[test]
    fn a_key_does_not_print() {
        for name in ["data/acme/1", "tokens/1", "authority/acme.test/1"] {
            let (_, held) = made(name);
            let (secret, _) = held.material.parts();
            let shown = format!("{held:?}");
            assert!(shown.contains(&held.material.fingerprint().to_string()));
            assert!(!shown.contains(&format!("{secret:?}")) && shown.len() < 200, "{shown}");
        }
    }
}
