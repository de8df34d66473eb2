//! The control plane: what operators declare is checked, stored and told to every sidecar; who did what is written down.
//!
//! `change.rs` tells the way of a change from top to bottom; `api.rs` is what operators talk to.

pub mod operator;
pub mod operation;
pub mod problem;
pub mod document;
pub mod shelf;
pub mod event;
pub mod audit;
pub mod archive;
pub mod change;
pub mod files;
pub mod fleet;
pub mod identity;
pub mod publish;
pub mod state;
pub mod api;
mod accept;
pub mod listen;
pub mod start;

pub use start::{Backup, Running, Settings, StartError, start};
