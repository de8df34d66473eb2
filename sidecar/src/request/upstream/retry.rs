//! Retry: whether a request that failed is sent again, where, and how often all of them together may be.
//!
//! Cost: none, but for requests that failed; where `retry` is declared, a copy of the head of each request that may be repeated.
//! Nothing was lost where an endpoint could not be reached or a kept connection had ended: then up to two others are tried, whatever
//! the method. Anything more is declared, and only for methods that mean the same twice (RFC 9110 section 9.2.2), bodies that are
//! still here, and before the first byte of an answer went to the client.

use super::budget::Budget;
use super::endpoint::{EndpointState, InUse};
use super::rewind::{Kept, Playing};
use super::send::Forward;
use super::tally::Counted;
use super::target::Target;
use super::{Arrived, Failed, Rest};
use crate::deadline::TURN;
use crate::request::Refusal;
use crate::request::body::{Body, Progress, Upload};
use crate::request::outgoing::Outgoing;
use crate::worker::Random;
use bulkhead_config::snapshot::{Reason, Retry};
use bytes::Bytes;
use http::Method;
use http::header::RETRY_AFTER;
use http::uri::PathAndQuery;
use std::cell::{Cell, OnceCell, RefCell};
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Endpoints that a request is tried at, after the first, where nothing is declared.
const ATTEMPTS: u8 = 2;
/// Bytes of an answer that nobody gets which are read so that its connection can be kept.
const DISCARDED_MAX: usize = 64 << 10;

/// What the attempts of one request share; made when the first one failed.
#[derive(Default)]
pub(super) struct Attempts(OnceCell<Box<Made>>);

/// Attempts that were made.
struct Made {
    left: Cell<u8>,
    /// Where it failed.
    at: RefCell<Vec<Rc<EndpointState>>>,
}

impl Attempts {
    /// Where a request goes of which nothing was lost: to another endpoint, or to the same one over a fresh connection.
    ///
    /// # Errors
    /// What failed, where it goes nowhere.
    pub(super) fn elsewhere(&self, target: &Target, failed: Failed, at: InUse, random: &Random) -> Result<InUse, Failed> {
        let has_ended = failed.step.is_unanswered();
        let declared = target.upstream.retry.as_ref();
        let is_meant = has_ended || declared.is_none_or(|retry| retry.on.contains(&Reason::ConnectFailure));
        let made = self.made(target);
        made.at.borrow_mut().push(at.leave());
        let next = if is_meant { made.next(target, has_ended, random) } else { None };
        let counted = if has_ended { Counted::RetriedReset } else { Counted::RetriedConnect };
        next.inspect(|_| target.tally().count(counted)).ok_or(failed)
    }

    fn made(&self, target: &Target) -> &Made {
        self.0.get_or_init(|| {
            let left = target.upstream.retry.as_ref().map_or(ATTEMPTS, |retry| retry.attempts);
            Box::new(Made { left: Cell::new(left), at: RefCell::default() })
        })
    }
}

impl Made {
    /// Where the next attempt goes, if there is one left: an endpoint that has not failed before one that may be asked `twice`.
    fn next(&self, target: &Target, twice: bool, random: &Random) -> Option<InUse> {
        let left = self.left.get().checked_sub(1)?;
        let other = target.choose(&self.at.borrow(), random);
        let next = other.or_else(|| if twice { target.choose(&[], random) } else { None })?;
        self.left.set(left);
        Some(next)
    }

    fn has_failed_at(&self, endpoint: &InUse) -> bool {
        self.at.borrow().iter().any(|at| endpoint.is_at(at))
    }
}

/// Why a request is sent again although it may have been seen.
enum Why {
    Reset,
    /// The answer says so, and perhaps when.
    Status {
        retry_after: Option<RetryAfter>,
    },
}

/// `Retry-After` of an answer (RFC 9110 section 10.2.3).
#[derive(Debug, PartialEq, Eq)]
enum RetryAfter {
    In(Duration),
    /// A date, or nothing that can be read: later than we wait.
    Later,
}

impl RetryAfter {
    fn of(value: &[u8]) -> Self {
        let seconds = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
        seconds.map_or(RetryAfter::Later, |seconds| RetryAfter::In(Duration::from_secs(seconds)))
    }
}

impl Forward<'_> {
    /// Sends a request as its upstream declares that it is repeated.
    pub(super) async fn by_retries(
        &self,
        retry: &Retry,
        budget: &Budget,
        mut next: InUse,
        mut request: Box<Outgoing>,
        grpc_timeout: Option<Duration>,
    ) -> Result<Arrived, Refusal> {
        budget.request(self.worker.wheel().turn());
        let Some(spare) = Spare::of(&mut request, retry) else { return self.dispatch(next, request, grpc_timeout).await };
        let begun = self.worker.wheel().turn();
        loop {
            let outcome = match retry.hedge_after {
                Some(after) => self.hedged((after, budget), &spare, next, request, grpc_timeout).await,
                None => self.dispatch(next, request, grpc_timeout).await,
            };
            let Some(why) = why(retry, &outcome) else { return outcome };
            let Some(again) = spare.again() else { return outcome };
            let spent = self.worker.wheel().since(begun);
            let Some((endpoint, wait)) = self.afresh(&why, &outcome, spent, budget) else { return outcome };
            if let Ok(arrived) = outcome {
                discard(arrived);
            }
            if !wait.is_zero() {
                // It is never ready, so the time is up.
                let _ = self.worker.deadline().limit(wait, pending::<()>()).await;
            }
            (next, request) = (endpoint, again);
        }
    }

    /// Sends a request, and to another endpoint as well if the first has all of it, is silent for too long and the budget has room. The
    /// first good answer counts; where none is good, the last. Who is not waited for any longer is given up.
    async fn hedged(
        &self,
        (after, budget): (Duration, &Budget),
        spare: &Spare,
        first: InUse,
        request: Box<Outgoing>,
        grpc_timeout: Option<Duration>,
    ) -> Result<Arrived, Refusal> {
        let (at, began) = (first.state(), self.worker.wheel().turn());
        let mut first = pin!(self.dispatch(first, request, grpc_timeout));
        if let Some(outcome) = until_all_here(spare, first.as_mut()).await {
            return outcome;
        }
        // The wheel turns too slowly for what is meant to save a moment.
        if let Ok(outcome) = tokio::time::timeout(after, first.as_mut()).await {
            return outcome;
        }
        let Some(other) = self.target.choose(&[at], self.worker.random()) else { return first.await };
        if !budget.withdraw(self.worker.wheel().turn()) {
            self.target.tally().count(Counted::RetryWithheld);
            return first.await;
        }
        self.target.tally().count(Counted::Hedged);
        let left = grpc_timeout.map(|timeout| timeout.saturating_sub(self.worker.wheel().since(began).max(after)));
        let second = pin!(self.dispatch(other, spare.beside(), left));
        first_good(first, second).await
    }

    /// Where a request goes that may have been seen, and how long it waits before.
    fn afresh(&self, why: &Why, outcome: &Result<Arrived, Refusal>, spent: Duration, budget: &Budget) -> Option<(InUse, Duration)> {
        let (tally, made) = (self.target.tally(), self.attempts.made(&self.target));
        if let Ok(arrived) = outcome
            && let Some(at) = self.target.named(&arrived.endpoint)
        {
            made.at.borrow_mut().push(at);
        }
        let wait = match why {
            Why::Status { retry_after: Some(RetryAfter::Later) } => return None,
            Why::Status { retry_after: Some(RetryAfter::In(wait)) } => *wait,
            Why::Status { retry_after: None } | Why::Reset => Duration::ZERO,
        };
        if spent + wait >= self.target.upstream.response_timeout || made.left.get() == 0 {
            return None;
        }
        if !budget.withdraw(self.worker.wheel().turn()) {
            tally.count(Counted::RetryWithheld);
            return None;
        }
        let next = made.next(&self.target, true, self.worker.random())?;
        tally.count(if matches!(why, Why::Reset) { Counted::RetriedReset } else { Counted::RetriedStatus });
        // Who has just failed is not asked again in the same moment.
        let wait = if made.has_failed_at(&next) { wait.max(TURN) } else { wait };
        Some((next, wait))
    }
}

/// The outcome of a request that has one before all of its body is here.
async fn until_all_here<F: Future>(spare: &Spare, mut sending: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| match sending.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        // It takes the body itself, so whatever comes is seen here.
        Poll::Pending if spare.is_all_here() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// The outcome of whichever is good first; of the later one where neither is.
async fn first_good(
    one: impl Future<Output = Result<Arrived, Refusal>> + Unpin,
    other: impl Future<Output = Result<Arrived, Refusal>> + Unpin,
) -> Result<Arrived, Refusal> {
    let (mut one, mut other) = (Some(one), Some(other));
    poll_fn(|cx| {
        for is_first in [true, false] {
            let polled = if is_first { poll_one(&mut one, cx) } else { poll_one(&mut other, cx) };
            let Poll::Ready(outcome) = polled else { continue };
            let is_good = outcome.as_ref().is_ok_and(|arrived| !arrived.status.is_server_error());
            if is_good || (one.is_none() && other.is_none()) {
                return Poll::Ready(outcome);
            }
            if let Ok(arrived) = outcome {
                discard(arrived);
            }
        }
        Poll::Pending
    })
    .await
}

/// Polls what is still waited for; once it is ready it is not.
fn poll_one<F: Future + Unpin>(waited_for: &mut Option<F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    let Some(future) = waited_for else { return Poll::Pending };
    let polled = Pin::new(future).poll(cx);
    if polled.is_ready() {
        *waited_for = None;
    }
    polled
}

/// Why a request with this outcome is sent again, if it is declared to be.
fn why(retry: &Retry, outcome: &Result<Arrived, Refusal>) -> Option<Why> {
    match outcome {
        Ok(arrived) if retry.on.contains(&Reason::Status(arrived.status.as_u16())) => {
            let retry_after = arrived.headers.get_named(&RETRY_AFTER).next().map(RetryAfter::of);
            Some(Why::Status { retry_after })
        }
        Err(Refusal::Upstream(failed)) if failed.step.is_unanswered() && retry.on.contains(&Reason::Reset) => Some(Why::Reset),
        _ => None,
    }
}

/// Lets go of an answer that nobody gets. What of it has come is read, so that its connection may serve on.
fn discard(arrived: Arrived) {
    let Rest::Body(mut download) = arrived.rest else { return };
    let (mut cx, mut bytes) = (Context::from_waker(Waker::noop()), 0);
    while let Poll::Ready(Some(Ok(frame))) = download.poll_frame(&mut cx)
        && bytes <= DISCARDED_MAX
    {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// What a request is made of again.
struct Spare {
    method: Method,
    path: PathAndQuery,
    host: Bytes,
    fields: crate::fields::Fields,
    added: Vec<u8>,
    body: Option<(Rc<RefCell<Kept>>, Rc<Progress>)>,
}

impl Spare {
    /// Nothing for a request that may be sent once only.
    fn of(request: &mut Outgoing, retry: &Retry) -> Option<Self> {
        if !request.method.is_idempotent() || request.upgrades {
            return None;
        }
        let body = match std::mem::replace(&mut request.upload, Upload::Nothing) {
            Upload::Nothing => None,
            Upload::Streamed(body, progress) => {
                let kept = Kept::new(body, retry.body_bytes_max);
                request.upload = Upload::Streamed(Body::Kept(Kept::play(&kept)), Rc::clone(&progress));
                Some((kept, progress))
            }
        };
        let Outgoing { method, path, host, fields, added, .. } = request;
        Some(Self { method: method.clone(), path: path.clone(), host: host.clone(), fields: fields.clone(), added: added.clone(), body })
    }

    /// The request once more; nothing if too much of its body is gone.
    fn again(&self) -> Option<Box<Outgoing>> {
        let upload = match &self.body {
            None => Upload::Nothing,
            Some((kept, progress)) => {
                let body: Playing = Kept::rewind(kept)?;
                progress.rewind();
                Upload::Streamed(Body::Kept(body), Rc::clone(progress))
            }
        };
        Some(self.with(upload))
    }

    /// Whether all of it is here, so that it may go out twice at once.
    fn is_all_here(&self) -> bool {
        self.body.as_ref().is_none_or(|(kept, _)| kept.borrow().is_all_here())
    }

    /// The request beside the one that is on its way, where all of it is here.
    fn beside(&self) -> Box<Outgoing> {
        let upload = self.body.as_ref().map_or(Upload::Nothing, |(kept, progress)| {
            // Not the other's: whoever waits for that one must not see its body begin anew.
            Upload::Streamed(Body::Kept(Kept::play(kept)), progress.beside())
        });
        self.with(upload)
    }

    fn with(&self, upload: Upload) -> Box<Outgoing> {
        let Self { method, path, host, fields, added, .. } = self;
        let (method, path, host, fields, added) = (method.clone(), path.clone(), host.clone(), fields.clone(), added.clone());
        Box::new(Outgoing { method, path, host, fields, added, upgrades: false, upload })
    }
}

impl Drop for Spare {
    /// Nothing is sent again.
    fn drop(&mut self) {
        if let Some((kept, _)) = &self.body {
            kept.borrow_mut().forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_in_retry_after_is_later_than_we_wait() {
        for (value, meant) in [
            ("0", RetryAfter::In(Duration::ZERO)),
            ("120", RetryAfter::In(Duration::from_secs(120))),
            ("Fri, 31 Dec 1999 23:59:59 GMT", RetryAfter::Later),
            ("-1", RetryAfter::Later),
            ("1.5", RetryAfter::Later),
        ] {
            assert_eq!(RetryAfter::of(value.as_bytes()), meant, "{value}");
        }
    }
}
