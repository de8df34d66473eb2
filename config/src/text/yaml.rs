//! A stream of YAML documents into trees.
//!
//! The grammar is granit-parser's; here stands what we make of its events: the core schema, keys that are strings and stand
//! once, aliases expanded within the budget, no tags, merges or directives. Mistakes that leave the structure sound are
//! collected and reading goes on; after a syntax error it goes on at the next document, where a `---` at the first column
//! ends every YAML construct.

use super::build::{Entries, Tally};
use super::{
    Budget, Fault, KEY_BYTES_MAX, Key, MISTAKES_MAX, Mistake, Node, START, Text, Tree, Value, below, scalar, show, show_text, span,
};
use crate::diagnostic::Span;
use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, StrInput};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads every document of a stream.
pub(super) fn documents(text: &str, budget: Budget) -> Text {
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        flow_nesting_limit: budget.depth + 1,
        block_nesting_limit: budget.depth + 1,
    };
    let mut stream = Stream {
        parser: Parser::new_from_str_with_options(text, options),
        tally: Tally::new(budget),
        depth: budget.depth,
        length: text.len(),
        read: Text::default(),
        begun: 0,
        given_up: 0,
    };
    stream.run();
    stream.read
}

/// A stream on its way to trees.
struct Stream<'t> {
    parser: Parser<'t, StrInput<'t>>,
    tally: Tally,
    depth: usize,
    length: usize,
    read: Text,
    /// How many documents have begun, empty ones included.
    begun: usize,
    /// How many of them were given up.
    given_up: usize,
}

impl<'t> Stream<'t> {
    fn run(&mut self) {
        let mut build = Build::new(START, 0);
        while let Some(next) = self.parser.next_event() {
            let failed = match next {
                Ok((Event::StreamStart | Event::StreamEnd, _)) => continue,
                Ok((Event::DocumentStart(..), at)) => {
                    build = self.begin(at.start);
                    continue;
                }
                Ok((Event::DocumentEnd, _)) => {
                    self.finish(std::mem::take(&mut build));
                    continue;
                }
                Ok((event, at)) => build.event(event, at, &mut self.tally, self.depth).err(),
                Err(error) => Some(syntax(&error, build.pointer(), self.depth)),
            };
            let Some(mistake) = failed else { continue };
            self.given_up += 1;
            if matches!(mistake.fault, Fault::Nodes(_)) {
                self.read.cut = Some(mistake);
                return;
            }
            if self.given_up > MISTAKES_MAX {
                self.read.cut = Some(Mistake { fault: Fault::Mistakes(MISTAKES_MAX), ..mistake });
                return;
            }
            build.mistakes.push(mistake);
            build.whole = false;
            self.finish(std::mem::take(&mut build));
            // A header that failed was the first document's, though it never began.
            self.begun = self.begun.max(1);
            match self.parser.proceed_next_document() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.read.cut = Some(syntax(&error, "".into(), self.depth));
                    return;
                }
            }
        }
    }

    /// A document begins, so the one before it ends.
    fn begin(&mut self, at: Marker) -> Build {
        let offset = if self.begun == 0 { 0 } else { at.byte_offset().unwrap_or(self.length) };
        self.begun += 1;
        if let Some(before) = self.read.trees.last_mut() {
            before.bytes.end = before.bytes.end.min(offset);
        }
        Build::new(place(at), offset)
    }

    /// A document ends, or is given up; one without content is none.
    fn finish(&mut self, build: Build) {
        let Build { span, start, mistakes, whole, .. } = build;
        let root = build.root.or_else(|| unfinished(build.frames));
        let nothing = root.as_ref().is_none_or(|node| matches!(node.value, Value::Null));
        if nothing && mistakes.is_empty() {
            return;
        }
        // `---` may stand some lines above the first key, and it is the key that a reader looks for.
        let span = root.as_ref().map_or(span, |node| node.span);
        self.read.trees.push(Tree { root, span, bytes: start..self.length, whole, mistakes });
    }
}

/// What stood complete at the top of a document that was given up: enough to tell which document it was.
fn unfinished(frames: Vec<Frame>) -> Option<Node> {
    match frames.into_iter().next()? {
        Frame { span, within: Within::Map(Map { entries, awaits }), .. } => {
            let mut entries = entries.finish();
            // Of `name: a: b` nobody can say whether the name was meant to be `a`.
            if matches!(awaits, Awaits::Key) {
                entries.pop();
            }
            Some(Node { value: Value::Map(entries), span })
        }
        Frame { within: Within::List(_), .. } => None,
    }
}

/// One document on its way to a tree.
struct Build {
    span: Span,
    start: usize,
    frames: Vec<Frame>,
    anchors: BTreeMap<usize, Anchored>,
    root: Option<Node>,
    whole: bool,
    mistakes: Vec<Mistake>,
}

/// A collection whose end has not come yet.
struct Frame {
    span: Span,
    anchor: Option<usize>,
    within: Within,
}

enum Within {
    List(Vec<Node>),
    Map(Map),
}

#[derive(Default)]
struct Map {
    entries: Entries,
    awaits: Awaits,
}

/// What comes next in a mapping.
#[derive(Default)]
enum Awaits {
    #[default]
    Key,
    /// The value of this key.
    Value(Key),
    /// The value of a key that was refused; it is dropped.
    Nothing,
}

/// A value that aliases can repeat, and what repeating it costs.
struct Anchored {
    node: Node,
    nodes: usize,
    height: usize,
}

/// How a value was written, where that decides whether it can be a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Plain,
    Quoted,
    Collection,
}

impl Default for Build {
    fn default() -> Self {
        Self::new(START, 0)
    }
}

impl Build {
    fn new(span: Span, start: usize) -> Self {
        Self { span, start, frames: Vec::new(), anchors: BTreeMap::new(), root: None, whole: true, mistakes: Vec::new() }
    }

    /// Takes one event. An error gives the document up.
    fn event(&mut self, event: Event<'_>, at: granit_parser::Span, tally: &mut Tally, depth: usize) -> Result<(), Mistake> {
        let span = place(at.start);
        let fail = |build: &Self, fault| Mistake { span, pointer: build.pointer(), fault };
        if let Some(tag) = event.tag() {
            let tag = tag.original();
            self.wrong(Mistake { span: at.tag_start().map_or(span, place), ..fail(self, Fault::Tag { tag }) });
        }
        let anchor = event.anchor_id();
        match event {
            Event::Scalar(text, style, ..) => {
                tally.take(1).map_err(|fault| fail(self, fault))?;
                let empty = style == ScalarStyle::Plain && at.byte_range().is_some_and(|range| range.is_empty());
                let (value, written) = match style {
                    ScalarStyle::Plain if empty => (Ok(Value::Null), Written::Plain),
                    ScalarStyle::Plain if text == "<<" && self.awaits_key() => (Err(Fault::Merge), Written::Plain),
                    ScalarStyle::Plain => (scalar::plain(&text), Written::Plain),
                    _ => (Ok(Value::Str((*text).into())), Written::Quoted),
                };
                let value = value.unwrap_or_else(|fault| {
                    self.wrong(fail(self, fault));
                    Value::Str((*text).into())
                });
                // An empty value stands where its key does: there is nothing else to point at.
                let span = if empty { self.key_span().unwrap_or(span) } else { span };
                self.deliver(Node { value, span }, written, anchor, tally)
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                tally.take(1).map_err(|fault| fail(self, fault))?;
                if self.frames.len() >= depth {
                    return Err(fail(self, Fault::Depth(depth)));
                }
                let is_list = matches!(event, Event::SequenceStart(..));
                let within = if is_list { Within::List(Vec::new()) } else { Within::Map(Map::default()) };
                self.frames.push(Frame { span, anchor, within });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = self.frames.pop() else { return Ok(()) };
                let value = match frame.within {
                    Within::List(items) => Value::List(items),
                    Within::Map(map) => Value::Map(map.entries.finish()),
                };
                self.deliver(Node { value, span: frame.span }, Written::Collection, frame.anchor, tally)
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) if self.awaits_key() => {
                self.wrong(fail(self, Fault::AliasKey));
                self.await_value(Awaits::Nothing);
                Ok(())
            }
            Event::Alias(id) => {
                let node = self.repeat(id, tally, depth).map_err(|fault| fail(self, fault))?;
                self.deliver(node, Written::Plain, None, tally)
            }
            Event::UnresolvedAlias(name) => {
                self.wrong(fail(self, Fault::NoAnchor(name.into_owned())));
                self.deliver(Node { value: Value::Null, span }, Written::Plain, None, tally)
            }
            _ => Ok(()),
        }
    }

    /// The value an alias repeats.
    fn repeat(&mut self, id: usize, tally: &mut Tally, depth: usize) -> Result<Node, Fault> {
        let Some(anchored) = self.anchors.get(&id) else { return Err(Fault::Cycle) };
        if self.frames.len() + anchored.height > depth {
            return Err(Fault::Depth(depth));
        }
        tally.take(anchored.nodes)?;
        Ok(anchored.node.clone())
    }

    /// Puts a finished value where it belongs.
    fn deliver(&mut self, node: Node, written: Written, anchor: Option<usize>, tally: &mut Tally) -> Result<(), Mistake> {
        if let Some(id) = anchor {
            let (nodes, height) = measure(&node);
            // The copy that aliases are made from counts too, or nested anchors would cost the square of the text.
            tally.take(nodes).map_err(|fault| Mistake { span: node.span, pointer: self.pointer(), fault })?;
            self.anchors.insert(id, Anchored { node: node.clone(), nodes, height });
        }
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.within {
            Within::List(items) => items.push(node),
            Within::Map(map) => match std::mem::take(&mut map.awaits) {
                Awaits::Key => self.key(node, written),
                Awaits::Value(key) => map.entries.push(key, node),
                Awaits::Nothing => {}
            },
        }
        Ok(())
    }

    /// A key has come: a string that does not stand there yet, or a mistake whose value is dropped.
    fn key(&mut self, node: Node, written: Written) {
        let span = node.span;
        let first = |build: &Self, text: &str| match build.frames.last() {
            Some(Frame { within: Within::Map(map), .. }) => map.entries.place(text),
            _ => None,
        };
        let fault = match &node.value {
            // Already refused when it was read.
            Value::Str(text) if &**text == "<<" && written == Written::Plain => None,
            Value::Str(text) if text.len() > KEY_BYTES_MAX => Some(Fault::LongKey(KEY_BYTES_MAX)),
            Value::Str(text) => match first(self, text) {
                Some(first) => Some(Fault::Duplicate { key: Arc::clone(text), first }),
                None => {
                    self.await_value(Awaits::Value(Key { text: Arc::clone(text), span }));
                    return;
                }
            },
            value => Some(Fault::Key { found: show(value) }),
        };
        if let Some(fault) = fault {
            self.wrong(Mistake { span, pointer: self.pointer(), fault });
        }
        self.await_value(Awaits::Nothing);
    }

    fn await_value(&mut self, awaits: Awaits) {
        if let Some(Frame { within: Within::Map(map), .. }) = self.frames.last_mut() {
            map.awaits = awaits;
        }
    }

    fn awaits_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame { within: Within::Map(Map { awaits: Awaits::Key, .. }), .. }))
    }

    /// Where the key stands whose value comes next.
    fn key_span(&self) -> Option<Span> {
        match self.frames.last() {
            Some(Frame { within: Within::Map(Map { awaits: Awaits::Value(key), .. }), .. }) => Some(key.span),
            _ => None,
        }
    }

    fn wrong(&mut self, mistake: Mistake) {
        if self.mistakes.len() < MISTAKES_MAX {
            self.mistakes.push(mistake);
        }
    }

    /// The place that comes next, as a JSON pointer.
    fn pointer(&self) -> Arc<str> {
        self.frames.iter().fold("".into(), |pointer: Arc<str>, frame| match &frame.within {
            Within::List(items) => below(&pointer, &items.len().to_string()),
            Within::Map(Map { awaits: Awaits::Value(key), .. }) => below(&pointer, &key.text),
            Within::Map(_) => pointer,
        })
    }
}

/// How many values a tree has and how many levels of collections. The depth of the recursion is the budget's.
fn measure(node: &Node) -> (usize, usize) {
    let children: Vec<&Node> = match &node.value {
        Value::List(items) => items.iter().collect(),
        Value::Map(entries) => entries.iter().map(|(_, node)| node).collect(),
        _ => return (1, 0),
    };
    let (nodes, height) = children.into_iter().map(measure).fold((1, 0), |(n, h), (nodes, height)| (n + nodes, h.max(height)));
    (nodes, height + 1)
}

fn place(mark: Marker) -> Span {
    span(mark.line(), mark.col() + 1)
}

/// A syntax error: our words where its cause is common, else the parser's.
fn syntax(error: &ScanError, pointer: Arc<str>, depth: usize) -> Mistake {
    const BRACKET: (&str, &str) =
        ("a list or mapping in brackets goes on where it should not", "close the bracket; one comma between two items");
    const TAB: (&str, &str) = ("a tab in the indentation", "indent with spaces");
    const COLUMN: (&str, &str) = ("a line that fits no level above it", "keys of one mapping, and items of one list, begin at one column");
    let fault = match error.kind() {
        ErrorKind::DirectiveDisallowed => Fault::Directive,
        ErrorKind::RecursionLimitExceeded => Fault::Depth(depth),
        kind => {
            let words = match kind {
                ErrorKind::TabNotAllowed
                | ErrorKind::TabInBlockIndentation
                | ErrorKind::TabInIndentation
                | ErrorKind::TabAtBlockScalarStart => Some(TAB),
                ErrorKind::InvalidIndentation
                | ErrorKind::ExpectedBlockMappingKey
                | ErrorKind::ExpectedBlockSequenceEntry
                | ErrorKind::BlockSequenceEntryNotAllowed => Some(COLUMN),
                ErrorKind::UnclosedFlowCollection { .. }
                | ErrorKind::ExpectedFlowMappingSeparator
                | ErrorKind::ExpectedFlowSequenceSeparator
                | ErrorKind::UnexpectedEofFlowMapping
                | ErrorKind::UnexpectedEofFlowSequence
                | ErrorKind::UnexpectedEofImplicitFlowMapping => Some(BRACKET),
                ErrorKind::MappingValueNotAllowed => {
                    Some(("a second `: ` in one value", "put the value in quotes if `: ` is part of it, or check the indentation"))
                }
                ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => Some(("a key without `: `", "a key ends with `: `")),
                ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => {
                    Some(("a quote that is never closed", "close the quote"))
                }
                ErrorKind::UnknownQuotedScalarEscape => {
                    Some(("an escape that does not exist", r"write `\\` for a backslash, or use single quotes"))
                }
                ErrorKind::MissingAnchorOrAliasName => Some(("`*` or `&` without a name", "put the value in quotes")),
                _ => None,
            };
            match (words, kind) {
                (Some((message, hint)), _) => Fault::Yaml { message: message.to_owned(), hint: Some(hint) },
                (None, ErrorKind::UnexpectedCharacter { character }) => {
                    let message = format!("{} cannot begin a value", show_text(character.encode_utf8(&mut [0; 4])));
                    Fault::Yaml { message, hint: Some("put the value in quotes") }
                }
                (None, kind) => Fault::Yaml { message: kind.to_string(), hint: None },
            }
        }
    };
    Mistake { span: place(*error.marker()), pointer, fault }
}
