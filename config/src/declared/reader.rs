//! The tools that the readers of all kinds share: items, maps, and the book in which every mistake is written.
//!
//! A reader goes on after a mistake, so that one run shows them all; `Reported` in its result proves that a mistake was
//! written down. What a map was never asked for is an unknown field.

use crate::diagnostic::{Diagnostic, Diagnostics, Span, Spanned, nearest};
use crate::text::{Key, MISTAKES_MAX, Mistake, Node, Value, below, brief, show, show_text, within};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Proof that a mistake was written down. Only writing one down makes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reported(());

/// What a reader makes of an item.
pub(crate) type Outcome<T> = Result<T, Reported>;

/// The mistakes of one document.
pub(crate) struct Book {
    file: Arc<str>,
    document: Option<Arc<str>>,
    /// The text of the whole file, for places within its values.
    source: Arc<str>,
    list: RefCell<Vec<Diagnostic>>,
}

impl Book {
    /// A book that begins with the mistakes of the text itself.
    pub(crate) fn new(file: &Arc<str>, source: &Arc<str>, document: Option<Arc<str>>, mistakes: Vec<Mistake>) -> Self {
        let list = mistakes.into_iter().map(|mistake| mistake.in_file(file, document.clone())).collect();
        Self { file: Arc::clone(file), document, source: Arc::clone(source), list: RefCell::new(list) }
    }

    /// Every mistake.
    pub(crate) fn close(self) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        self.list.into_inner().into_iter().for_each(|mistake| diagnostics.push(mistake));
        diagnostics
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    /// Whether nobody would read another mistake; then looking for more is a waste.
    fn is_full(&self) -> bool {
        self.list.borrow().len() >= MISTAKES_MAX
    }

    /// Takes back what was said of a field that turned out to stand there under a misspelt name.
    fn withdraw(&self, pointer: &str) {
        self.list.borrow_mut().retain(|known| *known.pointer != *pointer);
    }

    /// Writes down what is wrong with the text as a whole.
    pub(crate) fn at(&self, span: Span, complaint: Complaint) -> Reported {
        self.write(span, &"".into(), None, complaint)
    }

    fn write(&self, span: Span, pointer: &Arc<str>, found: Option<String>, complaint: Complaint) -> Reported {
        let mut list = self.list.borrow_mut();
        // A value that its text already spoilt is not worth a second complaint.
        let spoilt = list.iter().any(|known| known.span == span && known.pointer == *pointer);
        if !spoilt && list.len() < MISTAKES_MAX {
            list.push(complaint.about(&self.file, self.document.clone(), span, Arc::clone(pointer), found));
        }
        Reported(())
    }
}

/// What is wrong, in words.
pub(crate) struct Complaint {
    message: String,
    expected: Option<String>,
    hint: Option<String>,
}

/// Says what is wrong.
pub(crate) fn wrong(message: impl Into<String>) -> Complaint {
    Complaint { message: message.into(), expected: None, hint: None }
}

impl Complaint {
    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A hint, unless there is one.
    pub(crate) fn or_hint(self, hint: impl FnOnce() -> String) -> Self {
        if self.hint.is_some() { self } else { self.hint(hint()) }
    }

    /// Adds the complaint to a list.
    pub(crate) fn report(self, to: &mut Diagnostics, file: &Arc<str>, span: Span, pointer: Arc<str>, found: Option<String>) -> Reported {
        to.push(self.about(file, None, span, pointer, found));
        Reported(())
    }

    fn about(self, file: &Arc<str>, document: Option<Arc<str>>, span: Span, pointer: Arc<str>, found: Option<String>) -> Diagnostic {
        let Self { message, expected, hint } = self;
        // Whoever reads only the hint is told what to write, too.
        let hint = hint.or_else(|| expected.as_ref().map(|expected| format!("write {expected}")));
        let (message, hint) = (brief(message), hint.map(brief));
        Diagnostic { file: Arc::clone(file), span, document, pointer, message, expected, found, hint }
    }

    /// Offers the nearest name, if there is one that may be meant.
    pub(crate) fn nearest<'a>(self, written: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(written, known) {
            Some(name) => self.hint(format!("did you mean `{name}`?")),
            None => self,
        }
    }
}

/// One value of a document on its way to a type.
#[derive(Clone)]
pub(crate) struct Item<'a> {
    node: &'a Node,
    pointer: Arc<str>,
    book: &'a Book,
}

impl<'a> Item<'a> {
    /// The whole document.
    pub(crate) fn root(node: &'a Node, book: &'a Book) -> Self {
        Self { node, pointer: "".into(), book }
    }

    pub(crate) fn value(&self) -> &'a Value {
        &self.node.value
    }

    /// Writes down what is wrong with this item.
    pub(crate) fn refuse(&self, complaint: Complaint) -> Reported {
        let complaint = match self.node.value {
            Value::Null => complaint.or_hint(|| "write a value behind the colon, or remove the line".to_owned()),
            _ => complaint,
        };
        self.book.write(self.node.span, &self.pointer, Some(show(&self.node.value)), complaint)
    }

    /// Writes down what is wrong at a byte of this item's text.
    pub(crate) fn refuse_within(&self, byte: usize, complaint: Complaint) -> Reported {
        let text = self.node.value.as_str().unwrap_or_default();
        let span = within(&self.book.source, self.node.span, text, byte);
        self.book.write(span, &self.pointer, Some(show(&self.node.value)), complaint)
    }

    /// Writes down that this mapping lacks a field. Its place is the mapping's, its pointer the one it would have.
    pub(crate) fn refuse_absent(&self, key: &str, complaint: Complaint) -> Reported {
        self.book.write(self.node.span, &below(&self.pointer, key), None, complaint)
    }

    /// What the item is called in a message.
    pub(crate) fn label(&self) -> String {
        let mut steps = self.pointer.rsplit('/');
        match (steps.next(), steps.next()) {
            (Some(at), Some(list)) if at.parse::<usize>().is_ok() && !list.is_empty() => {
                format!("item {} of `{}`", at.parse().map_or(0, |at: usize| at + 1), unescape(list))
            }
            (Some(key), Some(_)) => format!("`{}`", unescape(key)),
            _ => "the document".to_owned(),
        }
    }

    /// The value with the place of this item.
    pub(crate) fn spanned<T>(&self, value: T) -> Spanned<T> {
        Spanned { value, span: self.node.span, pointer: Arc::clone(&self.pointer) }
    }

    /// The entries, if it is a mapping.
    pub(crate) fn map(&self) -> Outcome<Map<'a>> {
        match &self.node.value {
            Value::Map(entries) => Ok(Map { item: self.clone(), entries, known: Vec::new(), missing: Vec::new() }),
            Value::List(_) if self.pointer.is_empty() => {
                let complaint = wrong("the document is a list").expected("a mapping");
                Err(self.refuse(complaint.hint("put `---` between documents, and write each without the dash")))
            }
            _ => {
                let complaint = wrong(format!("{} is no mapping", self.label())).expected("a mapping");
                Err(self.refuse(complaint.hint("write `key: value`, each on a line of its own")))
            }
        }
    }

    /// The items, if it is a list.
    pub(crate) fn items(&self) -> Outcome<impl Iterator<Item = Item<'a>> + use<'a>> {
        let Value::List(nodes) = &self.node.value else {
            let hint = match &self.node.value {
                Value::Str(text) if !text.contains(['"', '\\', '\n']) => format!("write `[\"{text}\"]`"),
                _ => "items stand in brackets, or each on a line of its own after `- `".to_owned(),
            };
            return Err(self.refuse(wrong(format!("{} is no list", self.label())).expected("a list").hint(hint)));
        };
        let (pointer, book) = (Arc::clone(&self.pointer), self.book);
        Ok(nodes.iter().enumerate().map(move |(at, node)| Item { node, pointer: below(&pointer, &at.to_string()), book }))
    }

    /// Refuses an empty list.
    pub(crate) fn not_empty(&self) -> Outcome<()> {
        match self.value() {
            Value::List(nodes) if nodes.is_empty() => {
                let complaint = wrong(format!("{} is empty", self.label())).expected("at least one item");
                Err(self.refuse(complaint.hint("add an item")))
            }
            _ => Ok(()),
        }
    }

    /// Reads every item of a list; all mistakes in it are found.
    pub(crate) fn each<T>(&self, read: impl FnMut(&Item<'a>) -> Outcome<T>) -> Outcome<Vec<T>> {
        let mut read = read;
        // Not `collect::<Result<_, _>>` at once: that stops at the first mistake.
        let all: Vec<Outcome<T>> = self.items()?.map(|item| if item.book.is_full() { Err(Reported(())) } else { read(&item) }).collect();
        all.into_iter().collect()
    }
}

fn unescape(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

/// A reader that keeps the place.
pub(crate) fn spanned<'a, T>(read: impl Fn(&Item<'a>) -> Outcome<T>) -> impl Fn(&Item<'a>) -> Outcome<Spanned<T>> {
    move |item| read(item).map(|value| item.spanned(value))
}

/// A mapping that is asked for its fields one by one.
pub(crate) struct Map<'a> {
    item: Item<'a>,
    entries: &'a [(Key, Node)],
    known: Vec<&'static str>,
    missing: Vec<&'static str>,
}

impl<'a> Map<'a> {
    /// The mapping itself, for complaints that no single field is to blame for.
    pub(crate) fn item(&self) -> &Item<'a> {
        &self.item
    }

    /// A field, present or not. It is known from now on.
    pub(crate) fn field(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.known.push(key);
        self.peek(key)
    }

    /// Whether a field is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.peek(key).is_some()
    }

    /// A field, present or not, without making it known.
    pub(crate) fn peek(&self, key: &str) -> Option<Item<'a>> {
        let (_, node) = self.entries.iter().find(|(known, _)| &*known.text == key)?;
        Some(Item { node, pointer: below(&self.item.pointer, key), book: self.item.book })
    }

    /// Every field, whatever it is called.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'a Key, Item<'a>)> {
        self.entries.iter().map(|(key, node)| (key, Item { node, pointer: below(&self.item.pointer, &key.text), book: self.item.book }))
    }

    /// A field that must be there.
    pub(crate) fn required<T>(&mut self, key: &'static str, read: impl FnOnce(&Item<'a>) -> Outcome<T>) -> Outcome<T> {
        match self.field(key) {
            Some(item) => read(&item),
            None => {
                self.missing.push(key);
                Err(self.item.refuse_absent(key, wrong(format!("`{key}` is missing")).hint(format!("add `{key}:`"))))
            }
        }
    }

    /// A field that may be left out.
    pub(crate) fn optional<T>(&mut self, key: &'static str, read: impl FnOnce(&Item<'a>) -> Outcome<T>) -> Outcome<Option<T>> {
        self.field(key).map(|item| read(&item)).transpose()
    }

    /// A list that may be left out.
    pub(crate) fn list<T>(&mut self, key: &'static str, read: impl FnMut(&Item<'a>) -> Outcome<T>) -> Outcome<Vec<T>> {
        self.optional(key, |item| item.each(read)).map(Option::unwrap_or_default)
    }

    /// A list that must be there and hold something.
    pub(crate) fn some<T>(&mut self, key: &'static str, read: impl FnMut(&Item<'a>) -> Outcome<T>) -> Outcome<Vec<T>> {
        self.required(key, |item| item.not_empty().and_then(|()| item.each(read)))
    }

    /// A field that must not be there. It is no known field, unless it is asked for elsewhere.
    pub(crate) fn forbidden(&mut self, key: &'static str, complaint: Complaint) {
        if let Some(item) = self.peek(key) {
            item.refuse(complaint);
            self.known.push(key);
        }
    }

    /// Whatever was never asked for is unknown.
    pub(crate) fn finish(self) {
        for (key, _) in self.entries {
            if self.known.contains(&&*key.text) {
                continue;
            }
            if self.item.book.is_full() {
                return;
            }
            let complaint = wrong(format!("unknown field {}", show_text(&key.text)));
            // A misspelt field is one mistake, not one that is unknown and one that is missing.
            let missed = nearest(&key.text, self.missing.iter().copied());
            if let Some(meant) = missed {
                self.item.book.withdraw(&below(&self.item.pointer, meant));
            }
            let complaint = complaint.nearest(&key.text, missed.map_or_else(|| self.known.clone(), |meant| vec![meant]));
            let complaint = complaint.or_hint(|| format!("fields here: {}", self.known.join(", ")));
            self.item.book.write(key.span, &below(&self.item.pointer, &key.text), None, complaint);
        }
    }
}

/// A reader of lists whose items carry a name that stands once. `what` is what an item is.
pub(crate) fn named<'a, T>(
    what: &'static str,
    key: &'static str,
    read: impl Fn(&Item<'a>) -> Outcome<T>,
) -> impl FnMut(&Item<'a>) -> Outcome<T> {
    let mut seen = Seen::default();
    move |item| {
        let name = item.value().get(key).filter(|node| node.value.as_str().is_some());
        let fresh = name.map_or(Ok(()), |node| {
            let item = Item { node, pointer: below(&item.pointer, key), book: item.book };
            seen.once(what, node.value.as_str().unwrap_or_default(), &item)
        });
        let value = read(item);
        fresh.and(value)
    }
}

/// What stood in a list so far.
#[derive(Default)]
pub(crate) struct Seen(BTreeMap<String, Span>);

impl Seen {
    /// Refuses what stands there twice, naming the line of the first.
    pub(crate) fn once(&mut self, what: &str, text: &str, item: &Item<'_>) -> Outcome<()> {
        if let Some(first) = self.0.get(text) {
            let complaint = wrong(format!("{what} `{text}` stands twice, first on line {}", first.line));
            return Err(item.refuse(complaint.hint("remove or rename one")));
        }
        self.0.insert(text.to_owned(), item.node.span);
        Ok(())
    }
}
