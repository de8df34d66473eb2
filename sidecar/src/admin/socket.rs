//! The admin socket: a file that only its owner opens, held by one process at a time.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// The socket of this process, and its hold on the data directory.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    pub(super) hold: Hold,
}

/// The data directory is this process's for as long as this lives.
#[derive(Debug)]
pub(super) struct Hold {
    path: PathBuf,
    /// The system lets go of the lock however the process ends.
    _lock: File,
}

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process has it.
    #[error(
        "a sidecar is running with the data directory {}; stop it, or give this one another directory with --data-dir",
        data_dir.display()
    )]
    Running {
        /// The directory both want.
        data_dir: PathBuf,
    },
    /// Something that is no socket stands in its place.
    #[error("{} is no socket; move it away, the admin listens there", path.display())]
    NotASocket {
        /// Its path.
        path: PathBuf,
    },
    /// The system's limit on paths of sockets.
    #[error(
        "{} has {} bytes, and a socket's path at most {SOCKET_PATH_BYTES_MAX}; choose a shorter --data-dir",
        path.display(),
        path.as_os_str().len()
    )]
    TooLong {
        /// Its path.
        path: PathBuf,
    },
    /// Anything else.
    #[error("the admin socket {} cannot be opened; the data directory must be writable", path.display())]
    Io {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// `sun_path` less its final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

impl Socket {
    /// Opens `DIR/admin.sock`. What an ended process left there is replaced.
    ///
    /// # Errors
    /// When another process uses the directory, or the socket cannot be made.
    pub fn open(data_dir: &Path) -> Result<Self, SocketError> {
        let path = data_dir.join("admin.sock");
        if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(SocketError::TooLong { path });
        }
        let failed = |cause| SocketError::Io { path: path.clone(), cause };
        let lock = lock(data_dir).map_err(failed)?.ok_or_else(|| SocketError::Running { data_dir: data_dir.to_owned() })?;
        match fs::symlink_metadata(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(failed(cause)),
            Ok(meta) if !meta.file_type().is_socket() => return Err(SocketError::NotASocket { path }),
            // We hold the lock, so it should be stale; a process that listens there without the lock keeps it all the same.
            Ok(_) if std::os::unix::net::UnixStream::connect(&path).is_ok() => {
                return Err(SocketError::Running { data_dir: data_dir.to_owned() });
            }
            Ok(_) => fs::remove_file(&path).map_err(failed)?,
        }
        let listener = listen(&path).map_err(failed)?;
        Ok(Self { listener, hold: Hold { path, _lock: lock } })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.hold.path
    }
}

impl Drop for Hold {
    /// Nobody finds a socket that nobody answers on.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// `None` when another process holds it.
fn lock(data_dir: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(data_dir.join("admin.lock"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(cause) => Err(cause.into()),
    }
}

/// Between `bind` and `listen` nobody can connect: the mode is right before the first connection, whatever the umask is.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(64)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(std::os::fd::OwnedFd::from(socket).into())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_its_owner_opens_it_and_it_goes_away_with_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let socket = Socket::open(folder.path()).unwrap();
        assert_eq!(fs::metadata(socket.path()).unwrap().permissions().mode() & 0o777, 0o600);
        let path = socket.path().to_owned();
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_second_process_is_told_the_directory_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Socket::open(folder.path()).unwrap();
        let error = Socket::open(folder.path()).unwrap_err();
        assert!(matches!(error, SocketError::Running { .. }));
        assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    }

    #[tokio::test]
    async fn what_an_ended_process_left_is_replaced_and_what_somebody_uses_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let stranger = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(Socket::open(folder.path()), Err(SocketError::Running { .. })));
        drop(stranger);
        Socket::open(folder.path()).unwrap();
        fs::write(&path, "a file").unwrap();
        assert!(matches!(Socket::open(folder.path()), Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
    }

    #[tokio::test]
    async fn too_long_a_path_is_named() {
        let folder = Path::new("/tmp").join("x".repeat(120));
        assert!(matches!(Socket::open(&folder), Err(SocketError::TooLong { .. })));
    }
}
