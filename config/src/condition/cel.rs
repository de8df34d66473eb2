//! `condition`: an expression in a subset of CEL (Common Expression Language), checked and compiled where documents are read.
//!
//! text → tokens → [`parse`] → [`check`] (names, types, cost) → [`tree`] → [`eval`] per request. What can be known before a
//! request is a mistake of the document; what is left (a key that is not there, an overflow, the wrong type in a claim) is a
//! [`Failure`], and the condition is unclear.
//!
//! Cost: per request; a walk over a small tree of borrowed values, no lock; only `+` of strings, `string()` and decoding
//! a percent-encoded parameter allocate.

mod token;
mod parse;
mod name;
mod check;
mod literal;
mod call;
mod macros;
mod pattern;
mod tree;
mod value;
mod convert;
mod moment;
mod steps;
mod eval;

pub(crate) use eval::Inquiry;
pub(crate) use pattern::{BYTES_MAX as PATTERN_BYTES_MAX, Pattern};
#[cfg(any(test, fuzzing))]
pub(super) use steps::taken_by;
pub(crate) use value::Failure;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use tree::Tree;

/// Bytes of one condition.
const TEXT_BYTES_MAX: usize = 2_048;
/// What a condition may cost at the most, by the table in `CONDITIONS.md`.
pub(super) const COST_MAX: u32 = 10_000;
/// Mistakes that are told of one condition.
const FAULTS_MAX: usize = 8;

/// Bytes of the text that something stands at.
type At = Range<u32>;

/// A compiled condition. Two are the same when their texts are.
#[derive(Debug, Clone)]
pub struct Condition {
    text: Arc<str>,
    compiled: Arc<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    tree: Tree,
    /// What it reads: each of these is told by `explain`.
    named: Vec<Tree>,
    headers: Vec<Box<str>>,
    /// Texts of its patterns, by number.
    patterns: Vec<Arc<str>>,
    reads_the_request: bool,
    cost: u32,
}

/// What is wrong with a condition, and where in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Byte of the text.
    pub at: usize,
    /// What is wrong.
    pub message: String,
    /// How to fix it.
    pub hint: String,
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Condition {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it: its syntax, or all names, types and costs; the first, and more.
    pub fn compile(text: &str) -> Result<Self, (Fault, Vec<Fault>)> {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("the condition has {} bytes, more than the {TEXT_BYTES_MAX} allowed", text.len());
            return Err((Fault { at: 0, message, hint: "split it over several rules".to_owned() }, Vec::new()));
        }
        let parsed = parse::parse(text).map_err(|fault| (fault, Vec::new()))?;
        let compiled = Arc::new(check::check(&parsed)?);
        Ok(Self { text: text.into(), compiled })
    }

    /// What it costs at the most, by the published table.
    #[must_use]
    pub fn cost(&self) -> u32 {
        self.compiled.cost
    }

    /// Names of the header fields it reads.
    pub(crate) fn headers(&self) -> impl Iterator<Item = &str> {
        self.compiled.headers.iter().map(|name| &**name)
    }

    /// Texts of its patterns, by the numbers that [`Inquiry::patterns`] goes by.
    pub(crate) fn patterns(&self) -> &[Arc<str>] {
        &self.compiled.patterns
    }

    /// Whether it reads something that only the request itself knows.
    pub(crate) fn reads_the_request(&self) -> bool {
        self.compiled.reads_the_request
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub(crate) fn holds(&self, scope: &Inquiry<'_>) -> Result<bool, Failure> {
        eval::truth(&self.compiled.tree, scope, None)
    }

    /// What it reads and what stands there, in words: `claims.mfa is false`.
    pub(crate) fn values(&self, scope: &Inquiry<'_>) -> Vec<String> {
        let told = self.compiled.named.iter().map(|named| {
            let name = self.part(&named.at);
            match eval::eval(named, scope, None) {
                Ok(value) => format!("`{name}` is {}", value.shown()),
                Err(failure) => format!("`{name}` is {}", failure.why),
            }
        });
        told.collect()
    }

    /// A failure in words: the part that failed, and why.
    pub(crate) fn told(&self, failure: &Failure) -> String {
        format!("`{}` is {}", self.part(&(failure.start..failure.end)), failure.why)
    }

    fn part(&self, at: &At) -> &str {
        self.text.get(at.start as usize..at.end as usize).unwrap_or(&self.text)
    }
}
