//! The new process's side: gets the sockets, and says when it serves.

use super::wire::{Message, Which, Wire};
use super::{DOOR, is_ours};
use crate::telemetry::log::Log;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Version of what the two processes say.
pub(super) const VERSION: u64 = 1;
/// The old process may be in the middle of compiling a change.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Why the place of the running sidecar cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// Nobody is there.
    #[error(
        "no sidecar can be taken over at {}: {cause}; name the data directory of a running one with --take-over, or start without it",
        path.display()
    )]
    NoOne {
        /// Where it would be asked.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// Another user's.
    #[error("whoever listens at {} is of another user; a sidecar is taken over by its own user", path.display())]
    Stranger {
        /// Where it was asked.
        path: PathBuf,
    },
    /// It says no.
    #[error("the running sidecar stays: {0}")]
    Refused(String),
    /// It says nothing.
    #[error("the running sidecar said nothing for {} s; it stays, and its log says why", ANSWER_WITHIN.as_secs())]
    Silent,
    /// It ended, or says what cannot be understood.
    #[error("the running sidecar broke the hand-over off ({0}); see its log, or stop it and start this one without --take-over")]
    BrokenOff(String),
}

/// A listening socket of the old process.
#[derive(Debug)]
pub(in super::super) struct Taken {
    /// Which one.
    pub(in super::super) which: Which,
    /// The address that was declared for it.
    pub(in super::super) declared: SocketAddr,
    /// The socket.
    pub(in super::super) listener: TcpListener,
}

/// A hand-over under way: dropping it before [`TakeOver::finish`] leaves the old process in charge.
#[derive(Debug)]
pub(in super::super) struct TakeOver {
    wire: Wire,
}

impl TakeOver {
    /// Asks the sidecar that runs with this data directory for its sockets. When this returns, it has left the directory.
    pub(in super::super) async fn begin(data_dir: &Path) -> Result<(Self, Vec<Taken>), TakeOverError> {
        let path = data_dir.join(DOOR);
        let stream = UnixStream::connect(&path).await.map_err(|cause| TakeOverError::NoOne { path: path.clone(), cause })?;
        if !is_ours(&stream) {
            return Err(TakeOverError::Stranger { path });
        }
        let mut wire = Wire::new(stream);
        let greeting = Message::TakeOver { version: VERSION, by: env!("CARGO_PKG_VERSION").to_owned() };
        wire.say(&greeting).await.map_err(|error| TakeOverError::BrokenOff(error.to_string()))?;
        let mut sockets = Vec::new();
        let mut heard = 0;
        loop {
            match timeout(ANSWER_WITHIN, wire.hear()).await.map_err(|_| TakeOverError::Silent)? {
                Ok(Some((Message::Socket { which, declared }, Some(descriptor)))) => {
                    heard += 1;
                    sockets.extend(listener(descriptor).map(|listener| Taken { which, declared, listener }));
                }
                Ok(Some((Message::Yours { sockets: said }, _))) if said < heard => {
                    return Err(TakeOverError::BrokenOff(format!("{heard} sockets came, {said} were announced")));
                }
                Ok(Some((Message::Yours { .. }, _))) => return Ok((Self { wire }, sockets)),
                Ok(Some((Message::Refused(why), _))) => return Err(TakeOverError::Refused(why)),
                Ok(Some((other, _))) => return Err(TakeOverError::BrokenOff(format!("it said {other:?}"))),
                Ok(None) => return Err(TakeOverError::BrokenOff("it hung up".to_owned())),
                Err(error) => return Err(TakeOverError::BrokenOff(error.to_string())),
            }
        }
    }

    /// Says that this process serves from now on.
    ///
    /// # Errors
    /// The old one had waited for too long, and stays.
    pub(in super::super) async fn finish(mut self, log: &Log) -> Result<(), TakeOverError> {
        // If the old one is dead, its last word may still be there; and if there is none, nobody but this process is left to serve.
        let _ = self.wire.say(&Message::Ready).await;
        match timeout(ANSWER_WITHIN, self.wire.hear()).await {
            Ok(Ok(Some((Message::Refused(why), _)))) => return Err(TakeOverError::Refused(why)),
            Ok(Ok(Some((Message::Gone, _)))) => log.info("core.sidecar", None, "the place of the running sidecar is taken", &[]),
            _ => log.warn("core.sidecar", None, "the sidecar that was taken over ended without a word; its connections may be lost", &[]),
        }
        Ok(())
    }
}

/// A descriptor as the listening socket it should be.
fn listener(descriptor: OwnedFd) -> Option<TcpListener> {
    let is_listener = rustix::net::sockopt::socket_acceptconn(&descriptor).is_ok_and(|is_listener| is_listener);
    let listener = is_listener.then(|| TcpListener::from(descriptor))?;
    // Shared with the old process, which has it so already; one of another version might not.
    listener.set_nonblocking(true).ok()?;
    Some(listener)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::Door;
    use super::*;
    use crate::telemetry::log::Level;
    use crate::telemetry::spool::Sink;

    /// What a new process is told by an old one that says these lines and hangs up.
    async fn told(lines: &[Message]) -> Result<(), TakeOverError> {
        let folder = tempfile::tempdir().unwrap();
        let door = Door::open(folder.path()).unwrap();
        let log = Log::start(Sink::Other(Box::new(std::io::sink())), Level::Info).unwrap();
        let old = async {
            let mut wire = Wire::new(door.listener.accept().await.unwrap().0);
            assert!(matches!(wire.hear().await.unwrap(), Some((Message::TakeOver { version: VERSION, .. }, None))));
            for line in lines {
                wire.say(line).await.unwrap();
            }
        };
        let new = async { TakeOver::begin(folder.path()).await?.0.finish(&log).await };
        tokio::join!(old, new).1
    }

    #[tokio::test]
    async fn whoever_is_left_serves_and_who_is_refused_does_not() {
        let (yours, no) = (Message::Yours { sockets: 0 }, Message::Refused("no".to_owned()));
        assert!(told(&[yours.clone(), Message::Gone]).await.is_ok());
        assert!(told(std::slice::from_ref(&yours)).await.is_ok(), "the old one died: nobody else is left");
        assert!(matches!(told(&[yours, no.clone()]).await, Err(TakeOverError::Refused(why)) if why == "no"));
        assert!(matches!(told(&[no]).await, Err(TakeOverError::Refused(_))));
        assert!(matches!(told(&[]).await, Err(TakeOverError::BrokenOff(_))));
        assert!(matches!(told(&[Message::Gone]).await, Err(TakeOverError::BrokenOff(_))));
    }

    #[tokio::test]
    async fn where_nobody_is_the_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = TakeOver::begin(folder.path()).await.unwrap_err().to_string();
        assert!(error.contains(folder.path().to_str().unwrap()) && error.contains("--take-over"), "{error}");
    }

    #[test]
    fn only_listening_sockets_are_taken() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        assert!(listener(socket.into()).is_some());
        assert!(listener(client.into()).is_none());
    }
}
