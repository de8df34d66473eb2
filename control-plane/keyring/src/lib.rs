//! Keyring: the keys of the control plane, sealed wherever they rest.
//!
//! One key-encryption key, which operators bring, seals all others: a data key for each tenant, the keys that sign snapshots and tokens,
//! and the authority that certifies sidecars, operators and the control plane's listeners ([`ca`]), to which join tokens lead.
//! They are made on first use, have versions, are rotated and revoked. A key-encryption key that is lost or another one is an error
//! when the keyring is opened, and never a reason to make new keys: what the old ones sealed would be gone, and nobody would know why.
//!
//! Knows nothing of stores and sockets: where entries rest is a [`Storage`], the time is passed in.

pub mod kek;
pub mod storage;
mod entry;
mod keyring;
pub mod ca;
pub mod join_token;

pub use entry::{Damage, KeyName, NoRandomness, NotAKeyName, Purpose, State};
pub use kek::{KekError, KekSource};
pub use keyring::{DataKey, Keyring, KeyringError, Listed, NotVerified, Open};
pub use storage::Storage;
