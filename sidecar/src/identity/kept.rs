//! Key sets as they were last fetched, on disk, so that a restart during an outage of an issuer goes on with its keys.
//!
//! A file for each, `DIR/policy/key_sets/HASH`: a line of JSON that says what it is, then the set byte for byte. It is written
//! beside and renamed; one that does not have the hash its line names was damaged and counts as none.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where fetched sets are kept.
#[derive(Debug, Clone)]
pub(crate) struct KeptSets(PathBuf);

/// When and as what a set was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) at_unix_ms: u64,
    /// Its version, as its server calls it (RFC 9110 section 8.8.3).
    pub(crate) etag: Option<String>,
}

impl KeptSets {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self(data_dir.join("policy").join("key_sets"))
    }

    /// Keeps a set.
    pub(crate) fn write(&self, name: &str, kept: &Kept, set: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        let line = json!({ "name": name, "at_unix_ms": kept.at_unix_ms, "etag": kept.etag, "sha256": hash(set) });
        let (to, draft) = (self.path(name), self.path(name).with_extension("new"));
        let mut bytes = format!("{line}\n").into_bytes();
        bytes.extend_from_slice(set);
        fs::write(&draft, bytes)?;
        fs::rename(&draft, &to)
    }

    /// A set as it was kept.
    pub(crate) fn read(&self, name: &str) -> Option<(Kept, Arc<[u8]>)> {
        let bytes = fs::read(self.path(name)).ok()?;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (line, set) = (bytes.get(..end)?, bytes.get(end + 1..)?);
        let line: Value = serde_json::from_slice(line).ok()?;
        let is_it = line.get("name")?.as_str()? == name && line.get("sha256")?.as_str()? == hash(set);
        let etag = line.get("etag").and_then(Value::as_str).map(str::to_owned);
        let kept = Kept { at_unix_ms: line.get("at_unix_ms")?.as_u64()?, etag };
        is_it.then(|| (kept, set.into()))
    }

    /// Nobody names it any more.
    pub(crate) fn forget(&self, name: &str) {
        // One that stays is found by nobody.
        let _ = fs::remove_file(self.path(name));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(hash(name.as_bytes()))
    }
}

fn hash(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_kept_byte_for_byte_until_it_is_forgotten_and_no_damaged_one_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let sets = KeptSets::new(folder.path());
        let (name, kept) = ("https://login.example/jwks", Kept { at_unix_ms: 7, etag: Some("\"v1\"".to_owned()) });
        assert_eq!(sets.read(name), None);
        sets.write(name, &kept, b"{\n}\n").unwrap();
        assert_eq!(sets.read(name), Some((kept.clone(), (*b"{\n}\n").into())));
        assert_eq!(sets.read("https://login.example/other"), None);

        let file = fs::read_dir(folder.path().join("policy/key_sets")).unwrap().next().unwrap().unwrap().path();
        let good = fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut damaged = good.clone();
            *damaged.get_mut(at).unwrap() ^= 1;
            fs::write(&file, &damaged).unwrap();
            // Only what is said of it may be damaged unnoticed, never the set.
            assert!(sets.read(name).is_none_or(|(_, set)| *set == *b"{\n}\n"), "byte {at}");
            fs::write(&file, good.get(..at).unwrap()).unwrap();
            assert_eq!(sets.read(name), None, "cut at {at}");
        }
        sets.forget(name);
        assert_eq!(sets.read(name), None);
    }
}
