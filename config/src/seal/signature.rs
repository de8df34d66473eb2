//! Signatures between the planes: Ed25519 (RFC 8032), and which key made them. Signing and verifying is for who has the keys.

use super::{Fingerprint, derive};

const INFO_PUBLIC: &[u8] = b"bulkhead public key fingerprint v1";

/// A signature, with the key that verifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// The fingerprint of the public key.
    pub key: Fingerprint,
    /// As Ed25519 writes it.
    pub bytes: [u8; Signature::BYTES],
}

/// Not as many bytes as a signature and its fingerprint have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signature has {want} bytes with the fingerprint of its key, and this has {0}", want = Signature::BYTES + Fingerprint::BYTES)]
pub struct NotASignature(usize);

impl Signature {
    /// Bytes that Ed25519 writes.
    pub const BYTES: usize = 64;

    /// As it is sent and kept: fingerprint, then signature.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.key.0[..], &self.bytes[..]].concat()
    }

    /// Reads what [`Signature::to_bytes`] wrote.
    ///
    /// # Errors
    /// When there are more or fewer bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotASignature> {
        let parts = bytes.split_first_chunk().and_then(|(&key, rest)| Some((key, rest.try_into().ok()?)));
        let (key, signature) = parts.ok_or(NotASignature(bytes.len()))?;
        Ok(Self { key: Fingerprint(key), bytes: signature })
    }
}

impl Fingerprint {
    /// That of a public key, as its algorithm writes it.
    #[must_use]
    pub fn of_public_key(key: &[u8]) -> Self {
        Self(*derive(key, &[], INFO_PUBLIC))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_signature_has_one_form_and_no_other_length() {
        let signature = Signature { key: Fingerprint::of_public_key(&[7; 32]), bytes: std::array::from_fn(|at| at as u8) };
        let bytes = signature.to_bytes();
        assert_eq!(Signature::from_bytes(&bytes).unwrap(), signature);
        for len in 0..bytes.len() {
            assert_eq!(Signature::from_bytes(bytes.get(..len).unwrap()), Err(NotASignature(len)));
        }
        assert_eq!(Signature::from_bytes(&[bytes, vec![0]].concat()), Err(NotASignature(73)));
    }
}
