//! Balance: which of several endpoints a request goes to.
//!
//! Cost: per request to one of several endpoints; two of them are looked at, however many there are, unless both are no good.
//! Of two the one with fewer requests of this worker is taken: the first is the next in turn, so that an idle upstream gets the
//! same from everybody, the second is anyone, so that workers that are in step do not crowd together.

use super::endpoint::EndpointState;
use std::rc::Rc;

/// The endpoint for the request of this turn. One that is avoided is chosen only if there is no other; `not`, where it was tried
/// already, and one that has no place left, never.
pub(super) fn choose<'a>(
    endpoints: &'a [Rc<EndpointState>],
    turn: usize,
    random: u64,
    not: &[Rc<EndpointState>],
) -> Option<&'a Rc<EndpointState>> {
    let count = endpoints.len();
    let first = turn.checked_rem(count)?;
    let others = count.checked_sub(1).filter(|others| *others > 0);
    let second = others.map_or(first, |others| (first + 1 + usize::try_from(random).unwrap_or(turn) % others) % count);
    let is_other = |state: &&Rc<EndpointState>| !not.iter().any(|not| Rc::ptr_eq(not, state)) && !state.is_full();
    let is_good = |state: &&Rc<EndpointState>| is_other(state) && !state.is_avoided();
    match (endpoints.get(first).filter(is_good), endpoints.get(second).filter(is_good)) {
        (Some(first), Some(second)) if second.in_flight() < first.in_flight() => Some(second),
        (Some(one), _) | (None, Some(one)) => Some(one),
        (None, None) => {
            let mut in_turn = endpoints.iter().cycle().skip(first).take(count).filter(is_other);
            in_turn.clone().find(|state| !state.is_avoided()).or_else(|| in_turn.next())
        }
    }
}
