//! Mail: what other threads ask of a worker. A bounded channel; a worker that is stuck holds up nobody but who asks it.

use super::bound::Bound;
use crate::admin::Replay;
use crate::connection::Entrance;
use crate::connection::accept::{Accepted, Listening};
use crate::request::authn::Verified;
use crate::request::shadow::{Afterwards, Findings};
use crate::telemetry::decisions::{DecisionId, Verdict};
use bulkhead_config::condition::Kept;
use bulkhead_config::name::{KeyId, TenantId};
use bulkhead_config::snapshot::{Epoch, Route};
use http::StatusCode;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Letters that may wait.
pub(super) const MAIL_MAX: usize = 1_024;

/// Where letters to a worker go.
pub type Mailbox = mpsc::Sender<Mail>;

/// A letter.
#[derive(Debug)]
pub enum Mail {
    /// Serve this connection.
    Connection(Box<Accepted<TcpStream>>),
    /// Accept connections here until told to stop.
    Listen(Listening),
    /// The listener is gone: its connections end when they are done.
    Close(Arc<Entrance>),
    /// Tell a decision, if it is remembered here.
    Decision(DecisionId, oneshot::Sender<Option<Replay>>),
    /// Tell when the API keys of a tenant were used last here.
    ApiKeyUses(TenantId, oneshot::Sender<Vec<(KeyId, u64)>>),
    /// Tell what passed here that would have been refused, and keep it or not.
    Shadow(Afterwards, oneshot::Sender<Findings>),
    /// Take no new requests, finish what is there, then tell.
    Drain(oneshot::Sender<()>),
    /// End now; tells how many connections were cut.
    End(oneshot::Sender<usize>),
}

/// What a request was decided on, as a worker remembers it.
#[derive(Debug)]
pub struct Decided {
    /// The tenant, once one was named or proved.
    pub tenant: Option<Rc<Bound>>,
    /// Who was proved.
    pub proof: Option<Rc<Verified>>,
    /// The route of the path.
    pub route: Option<Arc<Route>>,
    /// What rules with conditions read of the request.
    pub kept: Option<Arc<Kept>>,
    /// The code of the refusal, and its status.
    pub refusal: Option<(&'static str, StatusCode)>,
    /// What was wrong, in words for operators, where the code alone does not say it.
    pub why: Option<Box<str>>,
    /// How long it had been going on, where it was refused after it had begun.
    pub lasted: Option<Duration>,
    /// The policy it was decided under.
    pub epoch: Epoch,
}

impl super::Worker {
    /// A decision that is still remembered here.
    #[must_use]
    pub fn replay(&self, id: DecisionId) -> Option<Replay> {
        let decisions = self.decisions.borrow();
        let found = decisions.find(id)?;
        let decided = &found.decided;
        let slice = decided.tenant.as_ref().map(|tenant| Arc::clone(&tenant.slice));
        let principal = decided.proof.as_ref().zip(slice.as_ref());
        Some(Replay {
            id,
            at: found.at,
            source: found.source,
            method: found.method.clone(),
            host: found.host.clone(),
            path: found.path.clone(),
            path_is_cut: found.path_is_cut,
            principal: principal.map(|(proof, slice)| (proof.principal().clone(), proof.roles(slice.policy()))),
            slice,
            route: decided.route.clone(),
            kept: decided.kept.clone(),
            refusal: decided.refusal,
            why: decided.why.as_deref().map(str::to_owned),
            is_passed: found.verdict == Verdict::Passed,
            lasted: decided.lasted,
            epoch: decided.epoch,
        })
    }
}
