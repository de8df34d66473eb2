//! Hand-over: a new process takes the place of the one that runs, and no client notices.
//!
//! ```text
//! new (take.rs)                                old (give.rs)
//! take_over           ───────────────────►    leaves the data directory; serves on with the policy it has
//!                     ◄───────────────────    socket, with its descriptor (one each) … yours
//! locks the directory, compiles its policy,
//! binds what is missing; accepts nothing yet
//! ready               ───────────────────►
//!                     ◄───────────────────    gone: accepts no more, finishes what it has, ends with 0
//! accepts
//! ```
//!
//! INVARIANT (one in charge): whoever holds the lock of the data directory writes it, answers on `admin.sock` and follows the
//! documents. The old one serves until it reads `ready`; if the new one goes away before, it takes the directory back and puts
//! there what it knows, as if nobody had asked. The new one serves nobody before it said `ready`, so its death costs no request.
//! Both have the same queue of connections, which is the kernel's: nobody is refused in between, and what is queued when the old
//! one stops is the new one's.
//! Absent on purpose: what is counted. Limits and metrics begin anew, as with any start.

mod give;
mod take;
mod wire;

pub(super) use give::{Ask, Desk, Giver};
pub use take::TakeOverError;
pub(super) use take::{TakeOver, Taken};
pub(super) use wire::Which;

use crate::admin::{Socket, SocketError, listen};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// Name of the socket in the data directory.
const DOOR: &str = "hand-over.sock";

/// Where a new process asks; gone when dropped.
struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// To be called by who is in charge: what stands there is a leftover.
    fn open(data_dir: &Path) -> std::io::Result<Self> {
        let path = data_dir.join(DOOR);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { listener: listen(&path)?, path })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether the other end is of this user, or root: what it hands over or gets decides what clients talk to.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own.as_raw() || peer.uid() == 0)
}
