//! Exchange: what waiting for an answer has in common, whatever the wire: who owes the next step, for how long, and how it breaks.
//!
//! Cost: per request; one deadline, moved when the request's body moves.

use super::Step;
use super::endpoint::InUse;
use crate::connection::limits::BODY_BYTES_PER_SECOND;
use crate::deadline::{Deadline, TURN};
use crate::request::body::{Progress, Stage};
use crate::request::standing::LASTS_AFTER;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What an exchange waits for, and how long.
#[derive(Debug)]
pub(super) struct Waits<'a> {
    /// The deadline it moves.
    pub deadline: &'a Deadline,
    /// Told when all of the request went out, where somebody wants to know.
    pub endpoint: Option<&'a InUse>,
    /// The body on its way, if there is one.
    pub upload: Option<Rc<Progress>>,
    /// The client may pause for so long, and in all for as much longer as what it sent is worth.
    pub client: Duration,
    /// The upstream may take nothing for so long.
    pub upstream: Duration,
    /// From the last byte of the request to the head of the answer.
    pub response: Duration,
}

impl Waits<'_> {
    /// Where the request stands: how much of it came, and who owes what.
    fn standing(&self) -> (u64, Stage) {
        self.upload.as_ref().map_or((0, Stage::Complete), |upload| (upload.bytes(), upload.stage()))
    }

    fn note(&self, stage: Stage) {
        if let (Stage::Complete, Some(endpoint)) = (stage, self.endpoint) {
            endpoint.has_all();
        }
    }

    /// How long whoever owes the next step may take, where the client was waited for so long already.
    fn wait(&self, (bytes, stage): (u64, Stage), waited: Duration) -> Duration {
        match stage {
            Stage::OwedByClient => self.client.min(self.pace(bytes).saturating_sub(waited)),
            Stage::OwedByUpstream => self.upstream,
            Stage::Complete | Stage::TooLarge | Stage::MessageTooLarge | Stage::BrokenOff | Stage::Malformed => self.response,
        }
    }

    /// How long a client that has sent so much may have been waited for.
    fn pace(&self, bytes: u64) -> Duration {
        if self.upload.as_ref().is_some_and(|upload| upload.has_length()) {
            self.client.saturating_add(Duration::from_millis(bytes.saturating_mul(1_000) / BODY_BYTES_PER_SECOND))
        } else {
            Duration::MAX
        }
    }

    /// Waits for `answer`, as long as whoever owes the next step may take.
    ///
    /// # Errors
    /// The stage at which time ran out.
    pub(super) async fn until<T>(&self, mut answer: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Result<T, Stage> {
        let (mut seen, mut is_young) = (self.standing(), true);
        self.note(seen.1);
        // Woken soon at first, so that what lasts is seen to last (`standing::while_it_holds`).
        let wait = |standing, waited, is_young| {
            let wait = self.wait(standing, waited);
            if is_young { wait.min(LASTS_AFTER) } else { wait }
        };
        let (mut waited, mut since) = (Duration::ZERO, self.deadline.turn());
        self.deadline.arm(wait(seen, waited, is_young));
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(output) = answer(cx) {
                return Poll::Ready(Ok(output));
            }
            let standing = self.standing();
            if standing != seen {
                let now = self.deadline.turn();
                if seen.1 == Stage::OwedByClient {
                    waited += TURN.saturating_mul(u32::try_from(now - since).unwrap_or(u32::MAX));
                }
                (seen, since) = (standing, now);
                self.note(seen.1);
                if seen.1 == Stage::OwedByClient && self.pace(seen.0) <= waited {
                    return Poll::Ready(Err(seen.1));
                }
                self.deadline.arm(wait(seen, waited, is_young));
            }
            if self.deadline.poll(cx).is_ready() && is_young {
                is_young = false;
                self.deadline.arm(self.wait(seen, waited).saturating_sub(LASTS_AFTER));
            }
            self.deadline.poll(cx).map(|_| Err(seen.1))
        })
        .await;
        self.deadline.disarm();
        outcome
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// Nothing was sent: the request is whole.
    Unsent(String),
    /// It was sent, or part of it, and nothing came back.
    Silent(String),
    /// Nothing came back but that the upstream gives it up, and how.
    GivenUp(Step, String),
    /// The head of the answer broke off.
    Incomplete(String),
    /// Something came back that is no answer, or the request broke off.
    Failed(String),
    /// Time ran out.
    Late(Stage),
    /// The time that the client gave ran out.
    Deadline,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::Wheel;
    use std::pin::pin;
    use std::task::Waker;

    /// For how many seconds a client is waited for that sends so much in each of these pauses.
    fn lasts(upload: Progress, bytes: u64, pause: u64) -> Option<u64> {
        let (wheel, upload) = (Wheel::new(), Rc::new(upload));
        let deadline = wheel.take();
        let seconds = Duration::from_secs;
        let waits = Waits {
            deadline: &deadline,
            endpoint: None,
            upload: Some(Rc::clone(&upload)),
            client: seconds(30),
            upstream: seconds(60),
            response: seconds(60),
        };
        let mut waiting = pin!(waits.until(|_| Poll::<()>::Pending));
        let mut cx = Context::from_waker(Waker::noop());
        (0..20_000).find(|second| {
            if second % pause == 0 {
                upload.came(bytes);
            }
            wheel.turn_to(seconds(*second));
            waiting.as_mut().poll(&mut cx).is_ready()
        })
    }

    #[test]
    fn a_body_that_only_trickles_is_given_up_and_one_that_moves_is_not() {
        let declared = || Progress::owed_by_client(true);
        // A byte in each pause: the first is all there is to wait.
        assert!(lasts(declared(), 1, 29).is_some_and(|seconds| (30..=35).contains(&seconds)));
        // Half of what it must bring: for every second it earns half a second.
        assert!(lasts(declared(), BODY_BYTES_PER_SECOND / 2, 1).is_some_and(|seconds| (58..=66).contains(&seconds)));
        assert_eq!(lasts(declared(), 2 * BODY_BYTES_PER_SECOND, 1), None);
        assert_eq!(lasts(declared(), 25 * BODY_BYTES_PER_SECOND, 20), None, "pauses are no sin");
        assert!(lasts(declared(), 1 << 20, 40).is_some_and(|seconds| seconds <= 35), "but they end");
    }

    #[test]
    fn a_body_without_a_length_may_be_a_stream_and_is_held_to_the_end_of_its_pauses_only() {
        assert_eq!(lasts(Progress::owed_by_client(false), 1, 29), None);
        assert!(lasts(Progress::owed_by_client(false), 1, 40).is_some_and(|seconds| seconds <= 35));
    }
}
