//! Another key-encryption key: every entry is opened with the old one and sealed with the new, the head last.
//!
//! In parts, as one put takes no more. What is cut off between two of them opens with neither key alone, is told so, and goes on when it
//! is asked for again with both: each entry names the key it is sealed with.

use super::state::{check_count, keys_of, open_head, seal_head, sealed_with};
use super::{Damage, Keyring, KeyringError, TRIES};
use crate::entry::{Held, random};
use crate::storage::{Entries, HEAD, PUT_MAX, Put, Puts, Storage};
use bulkhead_config::seal::{Key, Sealed, Writer, WriterId};

impl Keyring {
    /// Seals a keyring with another key-encryption key. Whoever has it open goes on reading, and can write only after it was opened anew.
    ///
    /// Answers how many entries were sealed anew: none when all were.
    ///
    /// # Errors
    /// When neither key is the keyring's, or entries cannot be read or written. What was done stays done, and nothing is lost.
    pub async fn rewrap(storage: &dyn Storage, old: &Key, new: &Key) -> Result<usize, KeyringError> {
        let mut rewrapped = 0;
        let mut moved = 0;
        while moved < TRIES {
            let entries = storage.load().await?;
            let Some(part) = part(&entries, old, new)? else { return Ok(rewrapped) };
            let sealed = part.len() - 1;
            match storage.put(part, entries.version).await? {
                Put::Done(_) => rewrapped += sealed,
                Put::Moved => moved += 1,
            }
        }
        Err(KeyringError::Busy)
    }
}

/// The next part to be put; nothing when all is done.
fn part(entries: &Entries, old: &Key, new: &Key) -> Result<Option<Puts>, KeyringError> {
    let Some(head_with) = sealed_with(entries)? else { return Ok(None) };
    if head_with == new.fingerprint() {
        open_head(new, entries)?;
        return Ok(None);
    }
    let count = open_head(old, entries)?;
    check_count(entries, count)?;
    let writer = new.writer(WriterId::drawn(*random()?));
    let mut part = Puts::new();
    let mut left = 0;
    for (entry, bytes) in keys_of(entries) {
        if is_sealed_with(bytes, new) {
            continue;
        }
        left += 1;
        if left < PUT_MAX {
            part.insert(entry.clone(), Some(again(entry, bytes, old, &writer)?));
        }
    }
    // Until its last part, the keyring is the old key's.
    let head = if left < PUT_MAX { seal_head(&writer, count) } else { seal_head(&old.writer(WriterId::drawn(*random()?)), count) };
    part.insert(HEAD.to_owned(), Some(head?));
    Ok(Some(part))
}

fn is_sealed_with(bytes: &[u8], key: &Key) -> bool {
    Sealed::parse(bytes).is_ok_and(|sealed| sealed.key() == key.fingerprint())
}

fn again(entry: &str, bytes: &[u8], old: &Key, writer: &Writer) -> Result<Vec<u8>, KeyringError> {
    let damaged = |cause| KeyringError::Damaged { entry: entry.to_owned(), cause };
    let name = entry.parse().map_err(|cause| damaged(Damage::Name(cause)))?;
    Ok(Held::open(&name, old, bytes).map_err(damaged)?.seal(&name, writer)?)
}
