//! What can be wrong with a text, in words: what, what was expected, what stands there, how to fix it.

use crate::diagnostic::Span;
use std::sync::Arc;

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// More bytes than the budget.
    #[error("the text has {found} bytes, more than the {most} allowed")]
    Bytes {
        /// How many it has.
        found: usize,
        /// How many are allowed.
        most: usize,
    },
    /// Deeper than the budget.
    #[error("it is nested more than {0} levels deep")]
    Depth(usize),
    /// More values than the budget.
    #[error("the text holds more than {0} values, aliases expanded")]
    Nodes(usize),
    /// More mistakes than anybody reads.
    #[error("more than {0} mistakes; the rest of the text was not read")]
    Mistakes(usize),
    /// The same document twice in one text.
    #[error("{id} stands twice in this file, first on line {}", first.line)]
    Twice {
        /// Which document.
        id: String,
        /// Where it stood first.
        first: Span,
    },
    /// Bytes that are no UTF-8.
    #[error("a byte that is not UTF-8")]
    Utf8,
    /// A text in UTF-16.
    #[error("the text is UTF-16")]
    Utf16,
    /// The same key twice in one mapping.
    #[error("key `{key}` stands twice in one mapping, first on line {}", first.line)]
    Duplicate {
        /// The key.
        key: Arc<str>,
        /// Where it stood first.
        first: Span,
    },
    /// A key that is a number, a truth value, nothing, a list or a mapping.
    #[error("a key that is not a string")]
    Key {
        /// What stands there.
        found: String,
    },
    /// A key longer than anything is called.
    #[error("a key of more than {0} bytes")]
    LongKey(usize),
    /// `<<`.
    #[error("`<<` merges are not read")]
    Merge,
    /// `!tag`.
    #[error("tags are not read")]
    Tag {
        /// The tag as written.
        tag: String,
    },
    /// `%YAML`, `%TAG`.
    #[error("directives are not read")]
    Directive,
    /// `*name` without `&name` before it in the same document.
    #[error("alias `*{0}` has no anchor `&{0}` before it in this document")]
    NoAnchor(String),
    /// `&a [*a]`.
    #[error("an alias that refers to the value it stands in")]
    Cycle,
    /// `*name: value`.
    #[error("an alias as a key")]
    AliasKey,
    /// `.inf`, `.nan`, `1e999`.
    #[error("a number that is not finite")]
    NotFinite {
        /// As written.
        written: String,
    },
    /// No YAML.
    #[error("this is not YAML: {message}")]
    Yaml {
        /// What the parser says.
        message: String,
        /// How to fix it, where that is known.
        hint: Option<&'static str>,
    },
    /// No JSON (RFC 8259).
    #[error("this is not JSON")]
    Json {
        /// What could stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
        /// How to fix it, where that is known.
        hint: Option<&'static str>,
    },
}

impl Fault {
    /// What was expected, in a few words.
    #[must_use]
    pub fn expected(&self) -> Option<&'static str> {
        match self {
            Fault::Key { .. } => Some("a string"),
            Fault::NotFinite { .. } => Some("a finite number"),
            Fault::Utf8 | Fault::Utf16 => Some("UTF-8"),
            Fault::Json { expected, .. } => Some(expected),
            _ => None,
        }
    }

    /// What stands there, in a few words.
    #[must_use]
    pub fn found(&self) -> Option<String> {
        match self {
            Fault::Key { found } | Fault::Json { found, .. } => Some(found.clone()),
            Fault::Tag { tag } => Some(super::show_text(tag)),
            Fault::NotFinite { written } => Some(super::show_text(written)),
            _ => None,
        }
    }

    /// How to fix it.
    #[must_use]
    pub fn hint(&self) -> String {
        let hint = match self {
            Fault::Bytes { .. } | Fault::Nodes(_) => "split it into several files",
            Fault::Depth(_) => "no document needs so many levels; look for brackets that are never closed",
            Fault::Utf8 | Fault::Utf16 => "save the file as UTF-8",
            Fault::Mistakes(_) => "fix these first",
            Fault::Duplicate { .. } | Fault::Twice { .. } => "keep one of the two",
            Fault::Key { .. } => "put the key in quotes if that is its name",
            Fault::LongKey(_) => "look for a quote that is never closed",
            Fault::Merge => "write the merged keys out",
            Fault::Tag { .. } => "remove the tag; put the value in quotes if it is a string",
            Fault::Directive => "remove the line; documents are YAML 1.2 and begin with `---`",
            Fault::NoAnchor(_) => "write the value out, or put quotes around it if `*` is part of it",
            Fault::Cycle | Fault::AliasKey => "write the value out",
            Fault::NotFinite { .. } => "write a finite number, or put quotes around it if it is a string",
            Fault::Yaml { hint, .. } => hint.unwrap_or("look at indentation, quotes and brackets around this place"),
            Fault::Json { hint: Some(hint), .. } => hint,
            Fault::Json { expected, .. } => return format!("write {expected}"),
        };
        hint.to_owned()
    }
}
