//! Follows the control plane: enrols, connects, and connects again.

use super::call::Ended;
use super::course::Course;
use super::identity::Identity;
use super::kept::Kept;
use super::{ControlPlane, enrol, session};
use crate::clock::Origin;
use crate::entropy;
use arc_swap::ArcSwap;
use bulkhead_config::protocol::{Offer, Report};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// The first wait before connecting again; each further one is twice as long.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// The longest.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What follows.
pub(super) struct Follow {
    pub(super) control_plane: ControlPlane,
    pub(super) identity: Identity,
    pub(super) offers: mpsc::Sender<Offer>,
    pub(super) reports: watch::Receiver<Option<Report>>,
    pub(super) state: Arc<ArcSwap<String>>,
    pub(super) kept: Kept,
    /// Where this source began to count time.
    pub(super) origin: Origin,
}

impl Follow {
    /// Follows until nobody takes offers any more.
    pub(super) async fn run(mut self) {
        let mut course = Course::after(self.kept.epoch());
        let mut tries = 0_u32;
        while !self.offers.is_closed() {
            let before = course.resumes();
            let ended = self.once(&mut course).await;
            if matches!(ended, Err(Ended::Unwanted)) {
                return;
            }
            tries = if course.resumes() == before { tries.saturating_add(1) } else { 0 };
            if let Err(error) = ended {
                self.say(format!("control plane {}, not connected: {error}", self.control_plane.address));
                sleep(wait(tries, entropy_fraction())).await;
            }
        }
    }

    async fn once(&mut self, course: &mut Course) -> Result<(), Ended> {
        if !self.identity.is_enrolled() {
            enrol::join(&self.identity, &self.control_plane.address).await?;
        }
        session::run(self, course).await
    }

    /// Says that the control plane was heard.
    pub(super) fn connected(&self) {
        self.say(format!("control plane {}", self.control_plane.address));
    }

    fn say(&self, state: String) {
        if **self.state.load() != state {
            self.state.store(Arc::new(state));
        }
    }
}

/// The wait before connecting again: doubled each time, and between half and all of that, so that a fleet does not come back at once.
fn wait(tries: u32, fraction: u8) -> Duration {
    let whole = WAIT_MIN.saturating_mul(1 << tries.min(10)).min(WAIT_MAX);
    whole / 2 + whole / 2 * u32::from(fraction) / 255
}

/// A random byte; without randomness a middling one.
fn entropy_fraction() -> u8 {
    let mut byte = [128];
    // What cannot be random is at least a wait.
    let _ = entropy::fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_a_tenth_of_a_second_to_half_a_minute_and_differ() {
        for tries in 0..40 {
            let (least, most) = (wait(tries, 0), wait(tries, 255));
            assert!(least >= WAIT_MIN / 2 && most <= WAIT_MAX && least < most, "{tries}: {least:?} {most:?}");
        }
        assert_eq!((wait(0, 255), wait(39, 255)), (WAIT_MIN, WAIT_MAX));
    }
}
