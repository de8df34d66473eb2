//! What tests stand on: each type starts a real part, on free loopback ports and in a folder of its own, and ends it.
//!
//! [`World`] is the usual way in: an origin, an issuer of tokens and a sidecar process in front, with the demo's documents.
//! Processes are ended by their id when their owner is dropped; nothing waits by sleeping for a guessed time, but polls
//! for what it needs with a bound.

mod client;
mod frames;
mod grpc;
mod issuer;
mod key_server;
mod message;
mod origin;
mod pki;
mod process;
mod raw;
mod recorder;
mod world;

pub use client::{Answer, Client, Connection, exchange};
pub use frames::{Frame, Http2, PREFACE, block, flag, kind};
pub use grpc::{GrpcClient, GrpcService};
pub use issuer::{Algorithm, Issuer};
pub use key_server::{KeyServer, Mood};
pub use message::{Kind, Message};
pub use origin::{Origin, Received, Reply};
pub use pki::{Certified, Farewell, Pki, TlsClient, TlsOrigin, TlsStream, connect};
pub use process::{Process, binary, eventually, python};
pub use raw::Raw;
pub use recorder::{Recorder, Recording, Script};
pub use world::{World, samples};
