//! The push stream: a source of policy that a control plane feeds.
//!
//! One task connects, resumes from the last epoch that was taken in, and connects again with jittered, doubling waits when the stream
//! ends. What it is told is served only if a trusted key signed it and it is not older than what was served before (`course.rs`).
//! Without a control plane the sidecar serves what it served last, from its own disk.
//!
//! Cost: none per request; one task on the runtime of whoever starts it.

use super::{KeyReader, PolicySource};
use crate::clock::Origin;
use arc_swap::ArcSwap;
use bulkhead_config::protocol::{Offer, Report};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

mod course;
mod kept;
mod identity;
mod enrol;
mod call;
mod session;
mod follow;

pub use identity::IdentityError;

use identity::Identity;
use kept::Kept;

/// Offers that wait to be taken: the control plane sends the next one once it was told what became of this one.
const OFFERS_MAX: usize = 1;

/// What is needed to be fed by a control plane.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// `HOST:PORT`.
    pub address: String,
    /// For a first certificate; not looked at where there is one.
    pub join_token: Option<String>,
    /// Whom to trust to be the control plane, in PEM, until enrolment says whom.
    pub trust_bundle: Option<PathBuf>,
    /// Where key and certificate, and what offers brought, are kept.
    pub data_dir: PathBuf,
}

/// Documents that a control plane pushes.
#[derive(Debug)]
pub struct Push {
    offers: mpsc::Receiver<Offer>,
    reports: watch::Sender<Option<Report>>,
    /// Whether what was taken in last came over the stream: what became of an earlier process's is nobody's news.
    has_taken: bool,
    state: Arc<ArcSwap<String>>,
    kept: Kept,
    task: AbortHandle,
}

impl Push {
    /// Begins to connect. To be called within a runtime, which has to live as long as this.
    ///
    /// # Errors
    /// There is no identity, and nothing to get one with, or what is kept of one cannot be used.
    pub fn begin(control_plane: ControlPlane) -> Result<Self, IdentityError> {
        let kept = Kept::new(&control_plane.data_dir);
        let identity = Identity::open(&control_plane)?;
        let state = Arc::new(ArcSwap::from_pointee(format!("control plane {}, not connected yet", control_plane.address)));
        let (sender, offers) = mpsc::channel(OFFERS_MAX);
        let (reports, told) = watch::channel(None);
        let follow = follow::Follow {
            control_plane,
            identity,
            offers: sender,
            reports: told,
            state: Arc::clone(&state),
            kept: kept.clone(),
            origin: Origin::begin(),
        };
        let task = tokio::spawn(follow.run()).abort_handle();
        Ok(Self { offers, reports, has_taken: false, state, kept, task })
    }
}

impl PolicySource for Push {
    async fn next(&mut self) -> Option<Offer> {
        let offer = self.offers.recv().await;
        self.has_taken |= offer.is_some();
        offer
    }

    fn report(&mut self, report: &Report) {
        if self.has_taken {
            self.reports.send_replace(Some(report.clone()));
        }
    }

    fn describe(&self) -> String {
        self.state.load().to_string()
    }

    fn key_reader(&self) -> KeyReader {
        let kept = self.kept.clone();
        Arc::new(move |name| kept.read(name))
    }

    fn serves_last_good(&self) -> bool {
        true
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        self.task.abort();
    }
}
