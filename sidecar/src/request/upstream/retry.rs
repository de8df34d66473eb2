//! Retry: whether a request that failed is sent again, and where.
//!
//! Cost: none, but for requests that failed.
//! Nothing was lost where an endpoint could not be reached: others are tried, none of them twice. Where a connection broke before
//! anything came back, the same endpoint may serve on a fresh one.

use super::target::{InUse, Target};
use super::{Failed, Step};
use crate::worker::Random;

/// Endpoints that one request is tried at.
const ATTEMPTS_MAX: usize = 3;

/// What became of a request so far.
pub(super) struct Tried {
    failed: Failed,
    at: Vec<InUse>,
}

impl Tried {
    /// It failed at an endpoint.
    pub(super) fn once(failed: Failed, at: InUse) -> Self {
        Self { failed, at: vec![at] }
    }

    /// It failed again.
    pub(super) fn again(&mut self, failed: Failed, at: InUse) {
        self.failed = failed;
        self.at.push(at);
    }

    /// Where to try next.
    ///
    /// # Errors
    /// The last failure, where there is nowhere.
    pub(super) fn next(&self, target: &Target, random: &Random) -> Result<InUse, Failed> {
        let may_go_on = self.at.len() < ATTEMPTS_MAX;
        let other = || target.choose(&self.at, random);
        let anywhere = || Some(()).filter(|()| self.failed.step == Step::Closed).and_then(|()| target.choose(&[], random));
        let next = if may_go_on { other().or_else(anywhere) } else { None };
        next.ok_or_else(|| self.failed.clone())
    }
}
