//! Identity: what this process asks others about who its callers are: issuers, for their keys.
//!
//! Asked on the control runtime, over connections of its own; requests go on with what is known. Only a token whose key is not
//! known waits for a look (`looks.rs`), and not for long.
//! Trust comes from the document: its URL, TLS, and the authorities it names. No proxy, no redirect: whoever answers elsewhere
//! was not named.

mod ask;
mod schedule;
mod kept;
mod key_sets;
mod looks;

pub(crate) use kept::{Kept, KeptSets};
pub(crate) use key_sets::{Fetched, KeySetFacts, KeySets, Outcome, Wanted};
pub(crate) use looks::LOOK_AGAIN;
pub use looks::{Ask, Asker, Looked, Looks, Told, channel};
