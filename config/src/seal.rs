//! Sealing: what rests in caches, on disks and in documents so that only a holder of the key reads it, and only where it belongs.
//!
//! Cost: a seal is one pass of AES-256-GCM and two allocations, no lock; an `open` derives the writer's key first (two HMACs).
//! A [`Key`] never encrypts. Each [`Writer`] seals with a key of its own, HKDF-SHA256 (RFC 5869) of the key and the writer's
//! random id, and counts its nonces from 0; id and counter travel with the ciphertext.
//!
//! INVARIANT (no nonce twice): a writer's id is drawn when it is made and rests nowhere, its counter only rises, and neither can be
//! cloned or set. So whoever starts again, from whatever old state of its disk, seals under a key that nobody had before. What this
//! cannot see is a running process that was copied with its memory: whoever resumes one machine twice makes new writers first.
//!
//! Absent on purpose: randomness (callers bring it), and a way to open without naming the place.

mod form;
mod signature;
#[cfg(test)]
mod tests;

pub use form::{NotSealed, Sealed};
pub use signature::{NotASignature, Signature};

use crate::name::TenantId;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use form::{COUNTER_BYTES, Head, NONCE_BYTES, TAG_BYTES};
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// Seals of one writer at most: with so few, a forger who watches all of them gains nothing (NIST SP 800-38D section 8.3).
pub const SEALS_MAX: u64 = 1 << 32;

/// What is derived says for what, so that no use of a key is another's. A new form of sealing has a new text.
const INFO_FINGERPRINT: &[u8] = b"bulkhead seal fingerprint v1";
const INFO_WRITER: &[u8] = b"bulkhead seal writer v1";

/// A key that seals. It is told from others by its fingerprint, and wiped when dropped.
#[derive(Clone)]
pub struct Key {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
    fingerprint: Fingerprint,
}

/// Which key: 64 bits derived from it, which say nothing of it. Nothing sealed with one key can be ascribed to another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub(crate) [u8; Fingerprint::BYTES]);

/// A text that is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint of a key has 16 characters of 0-9 and a-f")]
pub struct NotAFingerprint;

/// Which writer: 128 random bits, drawn for it alone. One that is read again makes no writer.
pub struct WriterId([u8; WriterId::BYTES]);

/// Seals with one key, each time under another nonce. Shared between threads as it is.
pub struct Writer {
    cipher: Aes256Gcm,
    key: Fingerprint,
    id: [u8; WriterId::BYTES],
    next: AtomicU64,
}

/// Where something sealed belongs. It opens nowhere else: a value moved to another tenant, name or time is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Whose it is; `None`: the platform's.
    pub tenant: Option<&'a TenantId>,
    /// What it is: a kind of document, a cache, a kind of key.
    pub kind: &'a str,
    /// Which one of these.
    pub name: &'a str,
    /// Whatever makes an older one worthless: the version of a key, the generation of a cache. 0 where nothing does.
    pub epoch: u64,
}

/// Why something was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotSeal {
    /// The writer has used up its nonces.
    #[error("this writer has sealed 2^32 times; make a new one, with an id drawn for it")]
    WornOut,
    /// More than AES-GCM encrypts under one nonce.
    #[error("it has {0} bytes, more than the 64 GiB that are sealed at once")]
    TooLong(usize),
}

/// Why something sealed does not open.
///
/// What was sealed for another place and what was damaged look the same, and there is no safe way to tell: both fail one check,
/// and whoever could learn which would have a way to guess. A damaged fingerprint reads as another key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotOpen {
    /// It names a key that is not this one.
    #[error("it is sealed with key {sealed}, and this is key {held}; find the key of that fingerprint, or seal the value again")]
    OtherKey {
        /// The key it names.
        sealed: Fingerprint,
        /// The key that was tried.
        held: Fingerprint,
    },
    /// It names this key, and does not open here.
    #[error("it does not open as {place}: it was damaged, or sealed for another place; seal the value again, for this one")]
    Refused {
        /// The place that was claimed.
        place: String,
    },
}

impl Key {
    /// A key of 256 random bits. The caller's copy is the caller's to wipe.
    #[must_use]
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let derived: Zeroizing<[u8; Fingerprint::BYTES]> = derive(bytes, &[], INFO_FINGERPRINT);
        Self { bytes: Zeroizing::new(*bytes), fingerprint: Fingerprint(*derived) }
    }

    /// Which key it is.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The key itself, for whoever seals it under another one.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }

    /// One that seals with this key.
    #[must_use]
    pub fn writer(&self, id: WriterId) -> Writer {
        Writer { cipher: self.cipher(&id.0), key: self.fingerprint, id: id.0, next: AtomicU64::new(0) }
    }

    /// What was sealed for this place.
    ///
    /// # Errors
    /// When it is sealed with another key, was damaged, or belongs elsewhere.
    pub fn open<B: AsRef<[u8]>>(&self, place: &Place<'_>, sealed: &Sealed<B>) -> Result<Zeroizing<Vec<u8>>, CannotOpen> {
        let head = sealed.head();
        if head.key != self.fingerprint {
            return Err(CannotOpen::OtherKey { sealed: head.key, held: self.fingerprint });
        }
        let refused = || CannotOpen::Refused { place: place.to_string() };
        let (text, tag) = sealed.body().split_last_chunk::<TAG_BYTES>().ok_or_else(refused)?;
        let mut plain = Zeroizing::new(text.to_vec());
        let cipher = self.cipher(&head.writer);
        decrypt(&cipher, &head.nonce(), &place.bound_with(&head), &mut plain, tag).map_err(|_| refused())?;
        Ok(plain)
    }

    fn cipher(&self, writer: &[u8; WriterId::BYTES]) -> Aes256Gcm {
        let key: Zeroizing<[u8; KEY_BYTES]> = derive(&*self.bytes, writer, INFO_WRITER);
        Aes256Gcm::new((&*key).into())
    }
}

impl Writer {
    /// Seals a value for a place.
    ///
    /// # Errors
    /// When this writer has sealed [`SEALS_MAX`] times, or the value is longer than the cipher takes.
    pub fn seal(&self, place: &Place<'_>, plain: &[u8]) -> Result<Sealed, CannotSeal> {
        // Never wraps: at one seal a nanosecond that takes 584 years.
        let counter = u32::try_from(self.next.fetch_add(1, Ordering::Relaxed)).map_err(|_| CannotSeal::WornOut)?;
        let head = Head { key: self.key, writer: self.id, counter };
        Sealed::write(head, plain, |text| {
            encrypt(&self.cipher, &head.nonce(), &place.bound_with(&head), text).map_err(|_| CannotSeal::TooLong(plain.len()))
        })
    }
}

impl Place<'_> {
    /// What the tag holds the ciphertext to. Each part says its length, so that no two places are written alike.
    fn bound_with(&self, head: &Head) -> Vec<u8> {
        let tenant = self.tenant.map_or("", |tenant| tenant.as_str());
        let mut bound = Vec::with_capacity(128 + tenant.len() + self.kind.len() + self.name.len());
        head.write_to(&mut bound);
        // A tenant's name is never empty, so that the platform is no tenant.
        for part in [tenant, self.kind, self.name] {
            bound.extend((part.len() as u64).to_be_bytes());
            bound.extend(part.as_bytes());
        }
        bound.extend(self.epoch.to_be_bytes());
        bound
    }
}

impl Fingerprint {
    /// Bytes of a fingerprint.
    pub const BYTES: usize = 8;
}

impl WriterId {
    /// Bytes of an id.
    pub const BYTES: usize = 16;

    /// From bytes that were drawn for it now, from a generator fit for keys.
    #[must_use]
    pub fn drawn(random: [u8; Self::BYTES]) -> Self {
        Self(random)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` of ", self.kind, self.name)?;
        match self.tenant {
            Some(tenant) => write!(f, "tenant `{tenant}`")?,
            None => f.write_str("the platform")?,
        }
        if self.epoch == 0 { Ok(()) } else { write!(f, ", epoch {}", self.epoch) }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        let read = u64::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes())).ok();
        // One key, one text: no sign, no capitals, all its digits.
        read.filter(|read| read.to_string() == text).ok_or(NotAFingerprint)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.fingerprint)
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer(key {})", self.key)
    }
}

impl Head {
    fn nonce(&self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        if let Some(end) = nonce.last_chunk_mut::<COUNTER_BYTES>() {
            *end = self.counter.to_be_bytes();
        }
        nonce
    }
}

/// HKDF-SHA256.
fn derive<const N: usize>(secret: &[u8], salt: &[u8], info: &[u8]) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 255 * 32, "HKDF-SHA256 makes no more") }
    let (mut extracted, hkdf) = Hkdf::<Sha256>::extract(Some(salt), secret);
    extracted.as_mut_slice().zeroize();
    let mut derived = Zeroizing::new([0; N]);
    #[expect(clippy::expect_used, reason = "the length is bounded above, at compile time")]
    hkdf.expand(info, derived.as_mut_slice()).expect("as long as HKDF makes them");
    derived
}

fn encrypt(cipher: &Aes256Gcm, nonce: &[u8; NONCE_BYTES], bound: &[u8], text: &mut [u8]) -> Result<[u8; TAG_BYTES], aes_gcm::Error> {
    let tag = cipher.encrypt_inout_detached(&Nonce::from(*nonce), bound, text.into())?;
    Ok(tag.into())
}

fn decrypt(
    cipher: &Aes256Gcm,
    nonce: &[u8; NONCE_BYTES],
    bound: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), aes_gcm::Error> {
    cipher.decrypt_inout_detached(&Nonce::from(*nonce), bound, text.into(), &Tag::from(*tag))
}
