//! The old process's side: leaves the data directory for as long as it takes, gives its sockets, and goes once the new one serves.

use super::take::VERSION;
use super::wire::{Message, Which, Wire};
use super::{Door, Socket, SocketError, is_ours};
use crate::admin::{self, Admin, Loopback, Token};
use crate::policy::Pause;
use crate::running::for_admin::ForAdmin;
use crate::telemetry::log::{Log, Value};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Whoever connects has something to say.
const GREETING_WITHIN: Duration = Duration::from_secs(5);
/// From the sockets to `ready`: the new process compiles the policy meanwhile.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How often it is tried to have the data directory back.
const AGAIN: Duration = Duration::from_millis(50);
/// Tries after which it is told that somebody keeps it.
const TRIES_IN_SILENCE: u32 = 100;

/// What a hand-over asks of the control thread.
pub(in super::super) enum Ask {
    /// Every listening socket, and the address that was declared for it.
    Sockets(oneshot::Sender<Vec<(Which, SocketAddr, TcpListener)>>),
    /// Whether the data directory is this process's.
    InCharge(bool),
    /// The new process serves: accept no more, and end.
    Gone,
}

/// The admin, which goes with the data directory.
pub(in super::super) struct Desk {
    pub(in super::super) data_dir: PathBuf,
    /// Its port on loopback, if it has one.
    pub(in super::super) port: Option<u16>,
    pub(in super::super) admin: Arc<Admin<ForAdmin>>,
    pub(in super::super) open: Option<JoinHandle<()>>,
}

impl Desk {
    /// Answers operators. The socket is this process's hold on the data directory.
    pub(in super::super) fn open(&mut self, socket: Socket, loopback: Option<Loopback>) {
        self.open = Some(tokio::task::spawn_local(admin::run(socket, loopback, Arc::clone(&self.admin))));
    }

    /// Lets go of the socket, and of the lock with it.
    async fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.abort();
            // Ended when it is dropped, which this waits for.
            let _ = open.await;
        }
    }

    async fn loopback(&self) -> Option<Loopback> {
        let token = Token::open(&self.data_dir).ok()?;
        Loopback::open(self.port?, token).await.ok()
    }
}

/// Why the new process did not take over.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("this process is ending")]
    Ending,
    #[error("it ended before it was ready")]
    Ended,
    #[error("it was not ready within {} s", READY_WITHIN.as_secs())]
    Late,
    #[error("it said {0:?}")]
    Unexpected(Message),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Waits for a new process, and gives way to it.
pub(in super::super) struct Giver {
    pub(in super::super) desk: Desk,
    pub(in super::super) pauses: mpsc::Sender<Pause>,
    pub(in super::super) asks: mpsc::Sender<Ask>,
    pub(in super::super) log: Log,
}

impl Giver {
    /// Until a new process has taken over.
    pub(in super::super) async fn run(mut self) {
        loop {
            let door = match Door::open(&self.desk.data_dir) {
                Ok(door) => door,
                Err(error) => {
                    let more = [("cause", Value::Shown(&error))];
                    return self.log.warn("core.sidecar", None, "no other process can take over from this one", &more);
                }
            };
            let wire = self.called(&door).await;
            // The path is the new one's from here on.
            drop(door);
            if self.gives_way(wire).await {
                return;
            }
        }
    }

    /// Somebody who may ask, and knows how to.
    async fn called(&self, door: &Door) -> Wire {
        loop {
            let Ok((stream, _)) = door.listener.accept().await else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            if !is_ours(&stream) {
                self.log.warn("core.sidecar", None, "a process of another user wanted to take over; it was sent away", &[]);
                continue;
            }
            let mut wire = Wire::new(stream);
            match timeout(GREETING_WITHIN, wire.hear()).await {
                Ok(Ok(Some((Message::TakeOver { version: VERSION, by }, _)))) => {
                    self.log.info("core.sidecar", None, "another process is to take over", &[("version", by.as_str().into())]);
                    return wire;
                }
                Ok(Ok(Some((Message::TakeOver { by, .. }, _)))) => {
                    let own = env!("CARGO_PKG_VERSION");
                    let why = format!("{own} hands over in another way than {by} takes over; stop it, then start the new one");
                    // Whoever does not wait for the reason does without.
                    let _ = wire.say(&Message::Refused(why)).await;
                }
                _ => {}
            }
        }
    }

    /// One hand-over; whether this process's part is done.
    async fn gives_way(&mut self, wire: Wire) -> bool {
        let back = self.leave().await;
        match self.give(wire).await {
            Ok(()) => {
                self.log.info("core.sidecar", None, "another process has taken over", &[]);
                // `back` is dropped unused: the policy is followed by the other process now.
                let _ = self.asks.send(Ask::Gone).await;
                true
            }
            Err(why) => {
                self.take_back(back).await;
                self.log.warn("core.sidecar", None, "nobody took over; this process goes on", &[("cause", Value::Shown(&why))]);
                false
            }
        }
    }

    /// Leaves the data directory, in an order that lets another process find it as after an end in order.
    async fn leave(&mut self) -> oneshot::Sender<()> {
        let (left, is_left) = oneshot::channel();
        let (back, is_back) = oneshot::channel();
        // Where the policy is no longer followed, nobody holds its journal.
        if self.pauses.send(Pause { left, back: is_back }).await.is_ok() {
            let _ = is_left.await;
        }
        let _ = self.asks.send(Ask::InCharge(false)).await;
        self.desk.close().await;
        back
    }

    /// Hands the sockets over and waits for the new process. After an error nothing has changed for clients.
    async fn give(&self, mut wire: Wire) -> Result<(), Failed> {
        let (answer, sockets) = oneshot::channel();
        let _ = self.asks.send(Ask::Sockets(answer)).await;
        let sockets = sockets.await.map_err(|_| Failed::Ending)?;
        let count = u64::try_from(sockets.len()).unwrap_or(u64::MAX);
        for (which, declared, listener) in sockets {
            wire.hand(&Message::Socket { which, declared }, &listener).await?;
        }
        wire.say(&Message::Yours { sockets: count }).await?;
        match timeout(READY_WITHIN, wire.hear()).await {
            Ok(Ok(Some((Message::Ready, _)))) => Ok(wire.say(&Message::Gone).await?),
            Ok(Ok(Some((other, _)))) => Err(Failed::Unexpected(other)),
            Ok(Ok(None)) => Err(Failed::Ended),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                // It may be about to say that it is ready: from here on it must not.
                let _ = wire.say(&Message::Refused(Failed::Late.to_string())).await;
                Err(Failed::Late)
            }
        }
    }

    /// Has the data directory again, once the new process is gone: the system takes the lock from it however it ends.
    async fn take_back(&mut self, back: oneshot::Sender<()>) {
        let mut tries = 0;
        let socket = loop {
            match Socket::open(&self.desk.data_dir) {
                Ok(socket) => break socket,
                Err(error) => {
                    tries += 1;
                    if tries == TRIES_IN_SILENCE {
                        self.tell_of_trouble(&error);
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        // Nobody follows the policy any more where this is not taken.
        let _ = back.send(());
        let loopback = self.desk.loopback().await;
        if self.desk.port.is_some() && loopback.is_none() {
            self.log.warn("core.sidecar", None, "the admin's port cannot be had again; its socket answers", &[]);
        }
        self.desk.open(socket, loopback);
        let _ = self.asks.send(Ask::InCharge(true)).await;
    }

    fn tell_of_trouble(&self, error: &SocketError) {
        let more = [("cause", Value::Shown(error)), ("fix", "end the process that was to take over".into())];
        self.log.error("core.sidecar", None, "the data directory cannot be had back; documents are not followed until then", &more);
    }
}
