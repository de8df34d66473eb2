//! Standing: what an admitted request rests on, and whether it would be admitted now.
//!
//! Cost: none per request that does not last; per look at one that does, the lookups and the decision of a request, no allocation.
//! The same functions as at its start, in the same order, so that what is ended is what would be refused: only that the
//! credential is not at hand any more, and what is kept of it is held against the issuers, keys and clock of today.
//! Absent on purpose: limits. What was taken of them is held until the last byte.

use super::Refusal;
use super::authn::{Against, Verified};
use super::host::Host;
use super::record::Record;
use super::shadow;
use super::tenant::{self, Proved};
use crate::clock::Now;
use crate::connection::Entrance;
use crate::deadline::TURN;
use crate::policy::Policy;
use crate::worker::{Bound, Worker};
use bulkhead_config::condition::{Kept, NOTHING};
use bulkhead_config::decide::{Facts, NoTrace, decide};
use bulkhead_config::snapshot::{Epoch, Route, SliceState};
use http::Method;
use http::uri::PathAndQuery;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// What outlasts this is entered among the streams of its worker: two turns of the wheel, a tick.
pub const LASTS_AFTER: Duration = TURN.saturating_mul(TURNS_TO_LAST);
const TURNS_TO_LAST: u32 = 2;

/// What an admitted request rests on.
#[derive(Debug)]
pub struct Standing {
    /// Where it came in.
    pub entrance: Arc<Entrance>,
    /// The host it names.
    pub host: Host,
    /// Who it was proved to come from.
    pub proof: Option<Rc<Verified>>,
    /// Its method.
    pub method: Method,
    /// Its path in normal form.
    pub path: PathAndQuery,
    /// The client's address.
    pub source: IpAddr,
    /// What rules with conditions read of it.
    pub kept: Option<Arc<Kept>>,
}

/// Why a request would not be admitted now, with what that was decided on.
#[derive(Debug)]
pub struct Lapsed {
    /// What it would be answered.
    pub refusal: Refusal,
    /// When that was decided.
    pub at: Now,
    /// The tenant as it is served now.
    pub tenant: Option<Rc<Bound>>,
    /// The route as it is declared now.
    pub route: Option<Arc<Route>>,
    /// The policy it was decided under.
    pub epoch: Epoch,
}

impl Standing {
    /// Whether it would be admitted now.
    ///
    /// # Errors
    /// Why not.
    pub fn holds(&self, worker: &Worker, policy: &Policy, now: Now) -> Result<(), Box<Lapsed>> {
        let (mut tenant, mut route) = (None, None);
        self.admit(worker, policy, now, (&mut tenant, &mut route)).map_err(|refusal| {
            let (tenant, route) = (tenant, route.cloned());
            Box::new(Lapsed { refusal, at: now, tenant, route, epoch: policy.snapshot.epoch() })
        })
    }

    /// `found` is told how far it came.
    fn admit<'a>(
        &self,
        worker: &Worker,
        policy: &'a Policy,
        now: Now,
        found: (&mut Option<Rc<Bound>>, &mut Option<&'a Arc<Route>>),
    ) -> Result<(), Refusal> {
        let service = super::service(policy, &self.entrance)?;
        let claim = tenant::claim(worker, policy, service, &self.host)?;
        *found.0 = claim.tenant().cloned();
        let route = service.route(self.path.path());
        *found.1 = route;
        let named = claim.tenant().map(|tenant| &*tenant.slice);
        let is_held = named.is_some_and(|slice| slice.state() == SliceState::Held);
        let mut proof = self.proof.clone();
        if let Some(standing) = self.proof.as_ref().filter(|_| !is_held) {
            let stands = standing.stands(&Against { snapshot: &policy.snapshot, keys: &policy.keys, named, source: self.source, now });
            if let Err(refused) = stands {
                shadow::lapsed(policy, &claim, route, refused)?;
                proof = None;
            }
        }
        let proved = tenant::bind(worker, policy, claim, proof)?;
        *found.0 = Some(Rc::clone(proved.tenant()));
        let facts = self.facts(&proved, route, now);
        match decide(proved.slice(), &facts, &mut NoTrace) {
            Ok(_) => Ok(()),
            Err(_) => Ok(shadow::still_permitted(policy, &proved, &facts)?),
        }
    }

    fn facts<'a>(&'a self, proved: &'a Proved, route: Option<&'a Arc<Route>>, now: Now) -> Facts<'a> {
        let principal = proved.proof().map(|proof| (proof.principal(), proof.roles(proved.slice().policy())));
        // A rule that came later and reads what nobody kept finds nothing there.
        let asked = self.kept.as_ref().map_or(NOTHING, |kept| kept.asked(self.host.as_bytes()));
        Facts { route, method: &self.method, path: self.path.path(), source: self.source, principal, now: now.unix(), asked }
    }
}

/// Waits for the head of an answer, as long as the request would be admitted. What it waits in is polled at least once in
/// `LASTS_AFTER` (see `upstream::exchange`).
///
/// # Errors
/// Those of `answer`, or why the request would be refused now.
pub async fn while_it_holds<T>(record: &mut Record, mut answer: Pin<&mut impl Future<Output = Result<T, Refusal>>>) -> Result<T, Refusal> {
    let begun = record.worker().wheel().turn();
    let outcome = poll_fn(|cx| {
        if let Poll::Ready(outcome) = answer.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        if record.worker().wheel().turn() < begun + u64::from(TURNS_TO_LAST) {
            return Poll::Pending;
        }
        record.from().listen();
        record.lasts();
        record.poll_ended(cx).map(|()| None)
    })
    .await;
    // It was ended, so there is a reason; without one it would have gone on.
    outcome.unwrap_or_else(|| Err(record.lapse().unwrap_or(Refusal::ClientLeft)))
}
