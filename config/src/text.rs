//! Text into one spanned tree: YAML and JSON, with budgets, so that every reader after it sees the same thing.
//!
//! Refused here: duplicate keys, keys that are not strings, tags, merges, what exceeds the budget for depth, values and size.
//! Nothing is guessed: YAML 1.2 core schema only (`yes` is a string, `0o17` an integer, `1:30` a string).
//! What is wrong in one document of a stream hides no other: the next `---` is read again.

use crate::diagnostic::{Diagnostic, Span};
use std::ops::Range;
use std::sync::Arc;

pub mod json;
mod yaml;
mod scalar;
mod build;
mod fault;
mod within;

pub use fault::Fault;
pub(crate) use within::within;

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
    /// For a token's header or claims: the 200 groups that large directories put into one, and a hundred other values. A
    /// stranger's token is read before its signature is verified, so reading must not cost much more than verifying.
    pub const TOKEN: Budget = Budget { bytes: 16 << 10, depth: 16, nodes: 300 };
}

/// Bytes of a key: longer ones name nothing, and a pointer repeats every key on the way.
const KEY_BYTES_MAX: usize = 1_024;

/// Mistakes that one text is asked for at the most: who wrote more is not helped by the rest.
pub(crate) const MISTAKES_MAX: usize = 200;

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

impl Value {
    /// The value of a key, if this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = self else { return None };
        entries.iter().find(|(known, _)| &*known.text == key).map(|(_, node)| node)
    }

    /// The keys, if this is a mapping.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let entries = if let Value::Map(entries) = self { entries.as_slice() } else { &[] };
        entries.iter().map(|(key, _)| &*key.text)
    }

    /// The text, if this is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }
}

/// What one text holds.
#[derive(Debug, Default)]
pub struct Text {
    /// Its documents, those with mistakes included; documents in which nothing stands are left out.
    pub trees: Vec<Tree>,
    /// Why the text was not read to its end: there may be documents that nobody saw.
    pub cut: Option<Mistake>,
}

/// One document of a text.
#[derive(Debug)]
pub struct Tree {
    /// What could be read of it.
    pub root: Option<Node>,
    /// Its first line.
    pub span: Span,
    /// Its own text within the whole, comments included: that alone reads as the same document.
    pub bytes: Range<usize>,
    /// Whether `root` is all of it; else it was given up after a syntax error, and `root` is what stood complete before.
    pub whole: bool,
    /// What is wrong with its text.
    pub mistakes: Vec<Mistake>,
}

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("line {}, column {}: {fault}", span.line, span.column)]
pub struct Mistake {
    /// Its place.
    pub span: Span,
    /// JSON pointer (RFC 6901) within the document.
    pub pointer: Arc<str>,
    /// What is wrong.
    pub fault: Fault,
}

impl Mistake {
    /// The same, said of a file.
    #[must_use]
    pub fn in_file(self, file: &Arc<str>, document: Option<Arc<str>>) -> Diagnostic {
        Diagnostic {
            file: Arc::clone(file),
            span: self.span,
            document,
            pointer: self.pointer,
            message: brief(self.fault.to_string()),
            expected: self.fault.expected().map(str::to_owned),
            found: self.fault.found(),
            hint: Some(self.fault.hint()),
        }
    }
}

/// Reads a text of documents: JSON (one document, or a list of them) where the name ends in `.json`, else a stream of YAML.
#[must_use]
pub fn read(name: &str, text: &str, budget: Budget) -> Text {
    if text.len() > budget.bytes {
        let fault = Fault::Bytes { found: text.len(), most: budget.bytes };
        return Text { trees: Vec::new(), cut: Some(Mistake { span: START, pointer: "".into(), fault }) };
    }
    // A byte order mark is no content, and no column; what a document's range counts is the text as given.
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut read = if is_json(name) { json::documents(bare, budget) } else { yaml::documents(bare, budget) };
    let mark = text.len() - bare.len();
    for tree in &mut read.trees {
        tree.bytes.start += mark;
        tree.bytes.end += mark;
    }
    read
}

/// Whether a file's name says that JSON stands in it.
fn is_json(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| extension.eq_ignore_ascii_case("json"))
}

/// The first character of a text.
pub(crate) const START: Span = Span { line: 1, column: 1 };

/// The text that bytes hold.
///
/// # Errors
/// The place of the first byte that is not UTF-8.
pub fn utf8(bytes: &[u8]) -> Result<&str, Mistake> {
    std::str::from_utf8(bytes).map_err(|broken| {
        let good = bytes.get(..broken.valid_up_to()).map(String::from_utf8_lossy).unwrap_or_default();
        let line = good.matches('\n').count() + 1;
        let column = good.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        let utf16 = matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
        let fault = if utf16 { Fault::Utf16 } else { Fault::Utf8 };
        Mistake { span: span(line, column), pointer: "".into(), fault }
    })
}

/// A place, from counts that start at 1.
fn span(line: usize, column: usize) -> Span {
    let fit = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Span { line: fit(line), column: fit(column) }
}

/// One step further in a JSON pointer (RFC 6901 section 4).
pub(crate) fn below(pointer: &str, step: &str) -> Arc<str> {
    let mut longer = String::with_capacity(pointer.len() + step.len() + 1);
    longer.push_str(pointer);
    longer.push('/');
    for c in step.chars() {
        match c {
            '~' => longer.push_str("~0"),
            '/' => longer.push_str("~1"),
            c => longer.push(c),
        }
    }
    longer.into()
}

/// A value in a few words, for "found …"; a pasted API key is not repeated.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Str(text) => show_text(text),
        Value::List(items) if items.is_empty() => "an empty list".to_owned(),
        Value::List(_) => "a list".to_owned(),
        Value::Map(entries) if entries.is_empty() => "an empty mapping".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    }
}

/// A string in a few words.
pub(crate) fn show_text(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.starts_with("bk1.") {
        return "an API key".to_owned();
    }
    match text.char_indices().nth(LONGEST) {
        None => format!("`{}`", plain(text)),
        Some((end, _)) => format!("`{}…`", plain(text.get(..end).unwrap_or_default())),
    }
}

/// A sentence of bearable length, whatever was pasted into what it quotes.
pub(crate) fn brief(sentence: String) -> String {
    const LONGEST: usize = 400;
    match sentence.char_indices().nth(LONGEST) {
        None => sentence,
        Some((end, _)) => format!("{}…", sentence.get(..end).unwrap_or_default()),
    }
}

/// A text in which nothing moves the cursor or hides; quotes and backslashes stay as they are.
fn plain(text: &str) -> String {
    let escape = |c: char| if matches!(c, '"' | '\'' | '\\') { c.to_string() } else { c.escape_debug().to_string() };
    text.chars().map(escape).collect()
}
