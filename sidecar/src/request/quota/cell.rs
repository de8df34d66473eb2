//! The face that every kind of limit shows: take one request, give it back, look.
//!
//! INVARIANT (never one too many): whatever races, a cell admits no more than its allowance. Two threads at once may make it
//! refuse one request too many.
//! The declared numbers come with each call and are in no cell: an edit is in force with the next request, and the cell keeps
//! what is used. A clock that goes back makes a cell stricter, never more generous.

use crate::clock::Now;
use std::time::Duration;

/// The live state of one limit for one key, shared by all workers.
pub trait Cell: Sized + Send + Sync + 'static {
    /// The declared numbers.
    type Allowance: Copy + PartialEq + std::fmt::Debug + Send + Sync;
    /// What a cell has to be told to take a request back.
    type Receipt: Copy + std::fmt::Debug;

    /// A cell of which nothing is used.
    fn unused(allowance: &Self::Allowance) -> Self;

    /// A cell of which everything is used: how a key enters whose use so far was counted elsewhere together with others'.
    /// `None` where use ends with a request and not with time, so that nobody could ever give it back.
    fn drained(now: Now, allowance: &Self::Allowance) -> Option<Self>;

    /// Takes one request.
    ///
    /// # Errors
    /// Nothing is left.
    fn take(&self, now: Now, allowance: &Self::Allowance) -> Result<Self::Receipt, Empty>;

    /// Makes as if a request had never been taken.
    fn give_back(&self, receipt: Self::Receipt, allowance: &Self::Allowance);

    /// Looks without taking.
    fn peek(&self, now: Now, allowance: &Self::Allowance) -> Level;

    /// Whether a new cell would answer alike from now on.
    fn is_unused(&self, now: Now, allowance: &Self::Allowance) -> bool;
}

/// How much of a limit there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Requests that could be taken now.
    pub remaining: u32,
    /// Time until that becomes more, as far as time alone makes it more.
    pub reset: Duration,
}

/// Nothing is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Empty {
    /// Time until the next request could be taken, if nobody else takes it.
    pub wait: Duration,
}
