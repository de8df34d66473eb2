//! Exchange: what waiting for an answer has in common, whatever the wire: who owes the next step, for how long, and how it breaks.
//!
//! Cost: per request; one deadline, moved when the request's body moves.

use crate::deadline::Deadline;
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
    /// The body on its way, if there is one.
    pub upload: Option<Rc<Progress>>,
    /// The client may pause for so long.
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

    /// How long whoever owes the next step may take.
    fn wait(&self, stage: Stage) -> Duration {
        match stage {
            Stage::OwedByClient => self.client,
            Stage::OwedByUpstream => self.upstream,
            Stage::Complete | Stage::TooLarge | Stage::BrokenOff | Stage::Malformed => self.response,
        }
    }

    /// Waits for `answer`, as long as whoever owes the next step may take.
    ///
    /// # Errors
    /// The stage at which time ran out.
    pub(super) async fn until<T>(&self, mut answer: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Result<T, Stage> {
        let (mut seen, mut is_young) = (self.standing(), true);
        // Woken soon at first, so that what lasts is seen to last (`standing::while_it_holds`).
        let wait = |stage, is_young| if is_young { self.wait(stage).min(LASTS_AFTER) } else { self.wait(stage) };
        self.deadline.arm(wait(seen.1, is_young));
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(output) = answer(cx) {
                return Poll::Ready(Ok(output));
            }
            let standing = self.standing();
            if standing != seen {
                seen = standing;
                self.deadline.arm(wait(seen.1, is_young));
            }
            if self.deadline.poll(cx).is_ready() && is_young {
                is_young = false;
                self.deadline.arm(self.wait(seen.1).saturating_sub(LASTS_AFTER));
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
    /// Something came back that is no answer, or the request broke off.
    Failed(String),
    /// Time ran out.
    Late(Stage),
    /// The time that the client gave ran out.
    Deadline,
}
