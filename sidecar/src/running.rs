//! Running: starts the threads of a sidecar in order, and ends them in the reverse one.
//!
//! One control thread (policy, compile, probes, admin, resolver, and accepting where there are several workers) and the workers.
//! What fails at the start is named, and what had started by then is stopped.

mod control;
mod for_admin;
mod hand_over;
mod probing;
mod start;

pub use control::StartError;
pub use hand_over::TakeOverError;

use crate::connection::Entrance;
use crate::policy::settings_watch::Current;
use crate::policy::{Live, PolicySource};
use crate::settings::Settings;
use crate::telemetry::log::Log;
use control::{Order, Shared};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Where a sidecar can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Listeners of services.
    pub listeners: Vec<(Arc<Entrance>, SocketAddr)>,
    /// Probes and metrics.
    pub probes: SocketAddr,
    /// The admin socket.
    pub admin: PathBuf,
    /// The admin on loopback, if it was asked for.
    pub admin_port: Option<SocketAddr>,
}

/// A sidecar that serves.
#[derive(Debug)]
pub struct Running {
    shared: Shared,
    orders: mpsc::Sender<Order>,
    drain_wanted: watch::Receiver<bool>,
    control: JoinHandle<()>,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still answering when the deadline passed.
    pub cut: usize,
}

/// Starts a sidecar; when this returns, it serves the first policy of its source.
///
/// # Errors
/// What failed, with what to do about it.
pub async fn start(settings: Settings, source: impl PolicySource) -> Result<Running, StartError> {
    let (orders, received) = mpsc::channel(4);
    let (started, outcome) = oneshot::channel();
    let (wants, drain_wanted) = watch::channel(false);
    let body = move || control::run(settings, source, received, wants, started);
    let control = std::thread::Builder::new().name("control".to_owned()).spawn(body).map_err(StartError::Thread)?;
    let shared = outcome.await.map_err(|_| StartError::Defect)??;
    Ok(Running { shared, orders, drain_wanted, control })
}

impl Running {
    /// Where it can be reached, as it was when it started; later changes stand in `DIR/addresses.json`.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.shared.addresses
    }

    /// The policy it serves.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.shared.live
    }

    /// The settings in effect, which change when they are read again.
    #[must_use]
    pub fn settings(&self) -> &Arc<Current> {
        &self.shared.settings
    }

    /// Its application log: for lines of whoever embeds it, and to take over the panics of the process.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Waits until somebody asked over the admin socket for a drain, or another process has taken over.
    pub async fn drain_wanted(&self) {
        // If the control thread is gone, there is nothing to wait for.
        let _ = self.drain_wanted.clone().wait_for(|wanted| *wanted).await;
    }

    /// Takes nothing new, finishes what it has within `deadline`, writes out what it was to tell, and ends.
    pub async fn drain(self, deadline: Duration) -> Drained {
        let (done, drained) = oneshot::channel();
        let sent = self.orders.send(Order::Drain(deadline, done)).await;
        let cut = if sent.is_ok() { drained.await.unwrap_or(0) } else { 0 };
        // It ends within moments of its answer; its panic was counted and logged where it happened.
        let _ = self.control.join();
        Drained { cut }
    }
}
