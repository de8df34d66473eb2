//! The form of what is sealed: bytes for caches and disks, `sealed:v1:…` for documents. Each value has exactly one of both.
//!
//! ```text
//! version 1 │ fingerprint of the key 8 │ writer id 16 │ counter 4, big-endian │ ciphertext │ tag 16
//! ```
//! The text is `sealed:v1:` and all behind the version in base64url without padding.

use super::{CannotSeal, Fingerprint, WriterId};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::str::FromStr;

/// What texts begin with.
const PREFIX: &str = "sealed:v1:";
const VERSION: u8 = 1;
const VERSION_BYTES: usize = 1;
pub(super) const COUNTER_BYTES: usize = 4;
pub(super) const NONCE_BYTES: usize = 12;
pub(super) const TAG_BYTES: usize = 16;
const HEAD_BYTES: usize = VERSION_BYTES + Fingerprint::BYTES + WriterId::BYTES + COUNTER_BYTES;

/// A sealed value, well formed. Whether it opens is for [`super::Key::open`] to say.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed<B = Vec<u8>> {
    head: Head,
    bytes: B,
}

/// What stands in the clear before the ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) key: Fingerprint,
    pub(super) writer: [u8; WriterId::BYTES],
    pub(super) counter: u32,
}

/// Why something is no sealed value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSealed {
    /// A text of something else.
    #[error("it does not begin with `{PREFIX}`")]
    Prefix,
    /// Made by a version that is newer, or by something else.
    #[error("it is of version {0} and this release knows version {VERSION}; it may have been sealed by a newer one")]
    Version(u8),
    /// A text with other characters, padding, or bits that stand for nothing.
    #[error("what follows `{PREFIX}` is not base64url without padding; it may have been cut or wrapped")]
    Base64,
    /// Not even an empty value is so short.
    #[error("it has {0} bytes, and even an empty value has {min}; it was cut", min = HEAD_BYTES + TAG_BYTES)]
    Short(usize),
}

impl<B: AsRef<[u8]>> Sealed<B> {
    /// Reads the form of bytes.
    ///
    /// # Errors
    /// When they are of another version, or too few.
    pub fn parse(bytes: B) -> Result<Self, NotSealed> {
        Ok(Self { head: Head::read(bytes.as_ref())?, bytes })
    }

    /// As it is kept.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// As it is kept.
    #[must_use]
    pub fn into_bytes(self) -> B {
        self.bytes
    }

    /// The key that opens it.
    #[must_use]
    pub fn key(&self) -> Fingerprint {
        self.head.key
    }

    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// Ciphertext and tag.
    pub(super) fn body(&self) -> &[u8] {
        self.as_bytes().get(HEAD_BYTES..).unwrap_or_default()
    }
}

impl Sealed {
    /// Puts a value behind its head, has it encrypted there, and its tag behind it.
    pub(super) fn write(
        head: Head,
        plain: &[u8],
        encrypt: impl FnOnce(&mut [u8]) -> Result<[u8; TAG_BYTES], CannotSeal>,
    ) -> Result<Self, CannotSeal> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + plain.len() + TAG_BYTES);
        head.write_to(&mut bytes);
        bytes.extend_from_slice(plain);
        let tag = encrypt(bytes.get_mut(HEAD_BYTES..).unwrap_or_default())?;
        bytes.extend(tag);
        Ok(Self { head, bytes })
    }
}

impl Head {
    fn read(bytes: &[u8]) -> Result<Self, NotSealed> {
        let short = || NotSealed::Short(bytes.len());
        let (&version, rest) = bytes.split_first().ok_or_else(short)?;
        if version != VERSION {
            return Err(NotSealed::Version(version));
        }
        let (&key, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (&writer, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (&counter, rest) = rest.split_first_chunk().ok_or_else(short)?;
        if rest.len() < TAG_BYTES {
            return Err(short());
        }
        Ok(Self { key: Fingerprint(key), writer, counter: u32::from_be_bytes(counter) })
    }

    pub(super) fn write_to(&self, bytes: &mut Vec<u8>) {
        bytes.push(VERSION);
        bytes.extend(self.key.0);
        bytes.extend(self.writer);
        bytes.extend(self.counter.to_be_bytes());
    }
}

impl FromStr for Sealed {
    type Err = NotSealed;

    fn from_str(text: &str) -> Result<Self, NotSealed> {
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            return Err(other_version(text).map_or(NotSealed::Prefix, NotSealed::Version));
        };
        let mut bytes = vec![VERSION];
        URL_SAFE_NO_PAD.decode_vec(encoded, &mut bytes).map_err(|_| NotSealed::Base64)?;
        Self::parse(bytes)
    }
}

fn other_version(text: &str) -> Option<u8> {
    let (version, _) = text.strip_prefix("sealed:v")?.split_once(':')?;
    version.parse().ok()
}

impl<B: AsRef<[u8]>> fmt::Display for Sealed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = URL_SAFE_NO_PAD.encode(self.as_bytes().get(VERSION_BYTES..).unwrap_or_default());
        write!(f, "{PREFIX}{encoded}")
    }
}

impl<B: AsRef<[u8]>> fmt::Debug for Sealed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes with key {})", self.as_bytes().len(), self.key())
    }
}
