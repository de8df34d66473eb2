//! Text into one spanned tree: YAML and JSON, with budgets, so that every reader after it sees the same thing.
//!
//! Refused here: duplicate keys, keys that are not strings, tags, anchors beyond the alias budget, depth, size.
//! Nothing is guessed: YAML 1.2 core schema only (`yes` is a string, `0o17` an integer, `1:30` a string).

use crate::diagnostic::Span;
use std::sync::Arc;

/// What a text may cost at the most. The constants are the producer's and the consumer's: one source of truth.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Bytes of one text.
    pub bytes: usize,
    /// Levels of nesting.
    pub depth: usize,
    /// Nodes after aliases are expanded.
    pub nodes: usize,
}

impl Budget {
    /// For a file of documents.
    pub const FILE: Budget = Budget { bytes: 8 << 20, depth: 64, nodes: 2_000_000 };
    /// For a token's header or claims.
    pub const TOKEN: Budget = Budget { bytes: 16 << 10, depth: 16, nodes: 1_000 };
}

/// One value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// What stands there.
    pub value: Value,
    /// Where.
    pub span: Span,
}

/// A value as JSON knows it. Numbers keep what was written, so that `5` and `5.0` can be told apart.
#[derive(Debug, Clone)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer that fits `i64`.
    Int(i64),
    /// Any other finite number.
    Float(f64),
    /// A string.
    Str(Arc<str>),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping; keys are strings and stand once, in the order written.
    Map(Vec<(Key, Node)>),
}

/// A key and where it stands.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its text.
    pub text: Arc<str>,
    /// Its place.
    pub span: Span,
}
