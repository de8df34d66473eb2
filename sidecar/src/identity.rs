//! Identity: what this process asks others about who its callers are: issuers for their keys, servers about tokens of theirs.
//!
//! Asked on the control runtime, over connections of its own; requests go on with what is known. Only a token whose key is not
//! known waits for a look (`looks.rs`), and not for long.
//! Trust comes from the document: its URL, TLS, and the authorities it names. No proxy, no redirect: whoever answers elsewhere
//! was not named.

mod ask;
mod believe;
mod introspect;
mod schedule;
mod kept;
mod key_sets;
mod looks;

pub(crate) use introspect::{Introspection, Server};
pub use introspect::{Introspector, TokenAsker, TokenQuestion, token_channel};
pub(crate) use kept::{Kept, KeptSets};
pub(crate) use key_sets::{Fetched, KeySetFacts, KeySets, Outcome, Wanted};
pub(crate) use looks::LOOK_AGAIN;
pub use looks::{Ask, Asker, Looked, Looks, Told, channel};

/// Who is to be asked, by what documents name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wants {
    /// Key sets that are fetched.
    pub(crate) key_sets: Vec<Wanted>,
    /// Servers that know tokens.
    pub(crate) servers: Vec<Server>,
}
