//! What stops a command: each module has its own errors, and every one of them says its exit code and its remedy.

use crate::exit::Exit;
use serde_json::{Value, json};
use std::error::Error;
use std::fmt::Write as _;

/// An error that ends a command.
pub(crate) trait Fault: Error {
    /// The exit code it ends with.
    fn exit(&self) -> Exit;
    /// What the user can do about it.
    fn fix(&self) -> Option<String>;
}

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Whoever read our output has gone (`| head`): nothing is wrong and nobody is left to tell.
    ReaderGone,
    /// Something that the user should know.
    Fault(Box<dyn Fault + Send>),
}

impl<F: Fault + Send + 'static> From<F> for Failure {
    fn from(fault: F) -> Self {
        Failure::Fault(Box::new(fault))
    }
}

/// The error and its causes in one sentence: `cannot read x: permission denied`.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// The error for `--output json`.
pub(crate) fn to_json(fault: &dyn Fault) -> Value {
    json!({ "error": { "message": chain(fault), "fix": fault.fix(), "exit_code": fault.exit() as u8 } })
}
