//! The socket of probes and metrics: made or taken over first, answered on once there is something to say.

use super::hand_over::{Taken, Which};
use crate::probes::{self, Probes};
use std::io;
use std::net::{SocketAddr, TcpListener};
use tokio::sync::oneshot;

/// Probes and metrics of this process.
pub(super) struct Probing {
    declared: SocketAddr,
    address: SocketAddr,
    /// The socket once more, for a process that takes over.
    socket: TcpListener,
    waiting: Option<(tokio::net::TcpListener, Probes)>,
    /// Ends it when dropped.
    answering: Option<oneshot::Sender<()>>,
}

impl Probing {
    /// Takes the socket over that was declared so or listens there, else makes one. Nobody is answered yet.
    pub(super) fn open(declared: SocketAddr, taken: &mut Vec<Taken>, probes: Probes) -> io::Result<Self> {
        let is_it = |taken: &Taken| {
            let listens_there = taken.listener.local_addr().is_ok_and(|address| address == declared);
            taken.which == Which::Probes && (taken.declared == declared || listens_there)
        };
        let listener = match taken.iter().position(is_it) {
            Some(at) => taken.swap_remove(at).listener,
            None => TcpListener::bind(declared)?,
        };
        listener.set_nonblocking(true)?;
        let (address, socket) = (listener.local_addr()?, listener.try_clone()?);
        let waiting = Some((tokio::net::TcpListener::from_std(listener)?, probes));
        Ok(Self { declared, address, socket, waiting, answering: None })
    }

    /// Answers from now on.
    pub(super) fn start(&mut self) {
        let Some((listener, probes)) = self.waiting.take() else { return };
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::task::spawn_local(probes::run(listener, probes, async { drop(stopped.await) }));
        self.answering = Some(stop);
    }

    /// Answers whoever was accepted, and leaves the others to the process that has taken over.
    pub(super) fn leave(&mut self) {
        self.answering = None;
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket once more, and the address that was declared for it.
    pub(super) fn socket(&self) -> io::Result<(SocketAddr, TcpListener)> {
        Ok((self.declared, self.socket.try_clone()?))
    }
}
