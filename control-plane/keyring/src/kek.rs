//! The key-encryption key: from the settings, or in dev from a file of the data directory, which its first start makes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bulkhead_config::seal::{Fingerprint, KEY_BYTES, Key};
use bulkhead_config::settings::{Environment, Settings};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Name of the file in the data directory.
const FILE: &str = "keyring.key";
/// What is read of it at most: a key has 44 characters.
const FILE_BYTES_MAX: u64 = 1 << 10;

/// Where the key-encryption key comes from.
#[derive(Debug, Clone)]
pub enum KekSource {
    /// `core.security.encryption_key`.
    Setting(Key),
    /// A file with the same text, of mode 0600.
    File(PathBuf),
}

/// Why there is no key-encryption key.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
    /// Only dev may do without.
    #[error(
        "core.security.encryption_key is unset, and {} does not make one by itself; `head -c 32 /dev/urandom | base64` does",
        .0.as_str()
    )]
    Unset(Environment),
    /// The file that sealed what there is is gone.
    #[error(
        "the keyring is sealed with key {sealed}, whose file {} is gone; restore that file, or set core.security.encryption_key to its \
         key. No other key opens it: without this one, remove the keyring and seal every secret again",
        path.display()
    )]
    Lost {
        /// Where it was.
        path: PathBuf,
        /// The key that is needed.
        sealed: Fingerprint,
    },
    /// Others than its owner may read it.
    #[error(
        "{} is mode {mode:03o}, so others on this machine may know the key; `chmod 600` it, and rotate the key if they did",
        path.display()
    )]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Something else stands in it.
    #[error("{} does not hold 32 bytes in base64, 44 characters; restore it", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or made.
    #[error("the key file {} cannot be read or made; the data directory must be writable", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl KekSource {
    /// What the settings say; in dev, a file of the data directory when they say nothing.
    ///
    /// # Errors
    /// [`KekError::Unset`] in any other environment.
    pub fn of(settings: &Settings, data_dir: &Path) -> Result<Self, KekError> {
        match (settings.encryption_key(), settings.environment()) {
            (Some(key), _) => Ok(KekSource::Setting(Key::new(key.expose()))),
            (None, Environment::Dev) => Ok(KekSource::File(data_dir.join(FILE))),
            (None, environment) => Err(KekError::Unset(environment)),
        }
    }

    /// The key as it is there, for what is sealed beside the keyring. Makes none.
    ///
    /// # Errors
    /// [`KekError::Io`] where its file is not, and what else is wrong with it.
    pub fn held(&self) -> Result<Key, KekError> {
        match self {
            KekSource::Setting(key) => Ok(key.clone()),
            KekSource::File(path) => read(path),
        }
    }

    /// The key, made where there is none: only for whoever knows that nothing was sealed yet.
    ///
    /// # Errors
    /// As [`KekSource::held`].
    pub fn first(&self) -> Result<Key, KekError> {
        self.key(None)
    }

    /// The key. `sealed` is the one that a keyring was sealed with: only where there is none yet is a file made.
    pub(crate) fn key(&self, sealed: Option<Fingerprint>) -> Result<Key, KekError> {
        match self {
            KekSource::Setting(key) => Ok(key.clone()),
            KekSource::File(path) => match (read(path), sealed) {
                (Err(KekError::Io { cause, .. }), Some(sealed)) if cause.kind() == io::ErrorKind::NotFound => {
                    Err(KekError::Lost { path: path.clone(), sealed })
                }
                (Err(KekError::Io { cause, .. }), None) if cause.kind() == io::ErrorKind::NotFound => make(path),
                (read, _) => read,
            },
        }
    }
}

fn read(path: &Path) -> Result<Key, KekError> {
    let (mode, text) = contents(path).map_err(|cause| KekError::Io { path: path.to_owned(), cause })?;
    if mode & 0o077 != 0 {
        return Err(KekError::Readable { path: path.to_owned(), mode });
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    match STANDARD.decode_slice(text.trim_ascii_end(), &mut *key) {
        Ok(KEY_BYTES) => Ok(Key::new(&key)),
        _ => Err(KekError::Malformed { path: path.to_owned() }),
    }
}

fn contents(path: &Path) -> io::Result<(u32, Zeroizing<Vec<u8>>)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode() & 0o777;
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize));
    file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok((mode, text))
}

/// Written beside and linked into place: the file is whole or absent, and of two processes that begin together one makes it.
fn make(path: &Path) -> Result<Key, KekError> {
    let io = |cause| KekError::Io { path: path.to_owned(), cause };
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    fill(&mut *bytes).map_err(io)?;
    let beside = beside(path).map_err(io)?;
    let made = write_new(&beside, &bytes).and_then(|()| fs::hard_link(&beside, path)).and_then(|()| sync_dir(path));
    // What is left of the attempt holds a key, or nothing.
    let removed = fs::remove_file(&beside);
    match made {
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => read(path),
        made => made.and(removed).map(|()| Key::new(&bytes)).map_err(io),
    }
}

/// A name that nobody else who begins now has.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let mut suffix = [0; 8];
    fill(&mut suffix)?;
    Ok(path.with_extension(format!("key.{:016x}", u64::from_be_bytes(suffix))))
}

fn fill(bytes: &mut [u8]) -> io::Result<()> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| io::Error::other("the system gave no random bytes"))
}

fn write_new(path: &Path, key: &[u8; KEY_BYTES]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let text = Zeroizing::new(STANDARD.encode(key));
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use bulkhead_config::diagnostic::Diagnostics;
    use bulkhead_config::settings::{Sources, load};
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    fn source(dir: &tempfile::TempDir) -> (PathBuf, KekSource) {
        let path = dir.path().join(FILE);
        (path.clone(), KekSource::File(path))
    }

    fn settings(environment: Environment, variables: &[(&str, &str)]) -> Result<Settings, Diagnostics> {
        let variables: BTreeMap<String, String> = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        load(&Sources { environment, file: None, variables: &variables, flags: &[] })
    }

    #[test]
    fn a_first_start_makes_a_file_for_its_owner_alone_and_later_ones_keep_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, source) = source(&dir);
        let first = source.key(None).unwrap().fingerprint();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(source.key(None).unwrap().fingerprint(), first);
        assert_eq!(source.key(Some(first)).unwrap().fingerprint(), first);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn two_that_begin_together_have_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let (_, source) = source(&dir);
        let made: Vec<Fingerprint> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| source.key(None).unwrap().fingerprint())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let kept = source.key(None).unwrap().fingerprint();
        assert!(made.iter().all(|made| *made == kept), "{made:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_lost_open_or_damaged_file_is_an_error_and_no_reason_for_a_new_key() {
        let dir = tempfile::tempdir().unwrap();
        let (path, source) = source(&dir);
        let key = source.key(None).unwrap().fingerprint();

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(source.key(Some(key)), Err(KekError::Readable { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

        let good = fs::read(&path).unwrap();
        for bad in [&good[..43], b"", b"not base64 at all", &[&good[..], &good[..]].concat()] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(source.key(None), Err(KekError::Malformed { .. })), "{bad:?}");
        }

        fs::remove_file(&path).unwrap();
        let lost = source.key(Some(key)).unwrap_err();
        assert!(matches!(&lost, KekError::Lost { sealed, .. } if *sealed == key), "{lost}");
        assert!(!path.exists());
    }

    #[test]
    fn the_setting_comes_first_and_only_dev_does_without() {
        let dir = tempfile::tempdir().unwrap();
        let text = STANDARD.encode([b'k'; 32]);
        let given = settings(Environment::Dev, &[("ENCRYPTION_KEY", &text)]).unwrap();
        let key = KekSource::of(&given, dir.path()).unwrap().key(None).unwrap();
        assert_eq!(key.fingerprint(), Key::new(&[b'k'; 32]).fingerprint());

        let unset = settings(Environment::Dev, &[]).unwrap();
        assert!(matches!(KekSource::of(&unset, dir.path()), Ok(KekSource::File(path)) if path == dir.path().join(FILE)));
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "asking makes nothing");
        // Settings of other environments are not even read without it.
        assert!(settings(Environment::Prod, &[]).is_err());
    }
}
