//! Credentials made by real signers against documents as an operator writes them.

mod world;
mod token;
mod key_set;
mod memory;
mod api_key;
