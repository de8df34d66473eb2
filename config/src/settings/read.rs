//! From what the layers say of a key to its value.

use super::interpolate::{Resolved, has_references, resolve};
use super::key::{KEYS, Key, Known};
use super::layer::{Layers, Written};
use super::{Entry, Origin, Secret};
use crate::declared::reader::{Complaint, Outcome, Reported, wrong};
use crate::diagnostic::{Diagnostics, Span};
use crate::text::{self, Value, below};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads one key after the other.
pub(super) struct Reader<'a> {
    layers: Layers,
    variables: &'a BTreeMap<String, String>,
    entries: Vec<Entry>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: Layers, variables: &'a BTreeMap<String, String>) -> Self {
        Self { layers, variables, entries: Vec::new() }
    }

    /// What was read, in the order of the keys, and every mistake.
    pub(super) fn finish(mut self) -> (Vec<Entry>, Diagnostics) {
        self.entries.sort_by_key(|entry| entry.key);
        (self.entries, self.layers.mistakes)
    }

    /// A key that must have a value.
    pub(super) fn required<T>(&mut self, key: &Key<T>) -> Outcome<T> {
        match self.optional(key)? {
            Some(value) => Ok(value),
            None => Err(self.refuse(key, wrong(format!("`{}` has no value", key.path)).hint("remove the line to keep the built-in value"))),
        }
    }

    /// A key whose absence means something.
    pub(super) fn optional<T>(&mut self, key: &Key<T>) -> Outcome<Option<T>> {
        let text = match self.text(key) {
            Ok(text) => text,
            Err(complaint) => return Err(self.refuse(key, complaint)),
        };
        let Some((text, origin)) = text else {
            self.entries.push(Entry { key: key.path, shown: "unset".to_owned(), origin: Origin::Unset });
            return Ok(None);
        };
        let value = (key.read)(&text).map_err(|complaint| self.refuse(key, complaint))?;
        let shown = if key.traits().is_secret { Secret::<()>::REDACTED.to_owned() } else { text };
        self.entries.push(Entry { key: key.path, shown, origin });
        Ok(Some(value))
    }

    /// What the highest layer says of a key, references replaced; an empty text says nothing.
    fn text(&self, key: &dyn Known) -> Result<Option<(String, Origin)>, Complaint> {
        let Some(written) = self.layers.written.get(key.path()) else { return Ok(None) };
        let Some(text) = scalar(key, written)? else { return Ok(None) };
        let text = match &written.origin {
            Origin::File(..) => match resolve(&text, |name| self.variables.get(name).cloned())? {
                Resolved::Text(text) => text,
                Resolved::Unset(_) if key.traits().may_stay_unset => return Ok(None),
                Resolved::Unset(name) => {
                    let complaint = wrong(format!("variable `{name}` is not set"));
                    return Err(complaint.hint(format!("set it, or write `${{{name}:-default}}`")));
                }
            },
            // What the process was given is meant as it stands.
            _ => text,
        };
        Ok(Some((text, written.origin.clone())).filter(|(text, _)| !text.is_empty()))
    }

    /// Writes down what is wrong with a key.
    pub(super) fn refuse(&mut self, key: &dyn Known, complaint: Complaint) -> Reported {
        self.layers.refuse(key, complaint)
    }
}

/// Checks what one file says, as far as no variable is involved.
pub(super) fn check(mut layers: Layers) -> Diagnostics {
    for key in KEYS {
        let checked = match layers.written.get(key.path()).map(|written| scalar(key, written)) {
            Some(Ok(Some(text))) if has_references(&text) => resolve(&text, |_| Some(String::new())).map(|_| ()),
            Some(Ok(Some(text))) => key.check(&text),
            Some(Ok(None)) | None => Ok(()),
            Some(Err(complaint)) => Err(complaint),
        };
        if let Err(complaint) = checked {
            layers.refuse(key, complaint);
        }
    }
    layers.mistakes.sort();
    layers.mistakes
}

impl Layers {
    /// Writes down what is wrong with a key. What its value is stays untold where it may be a secret.
    fn refuse(&mut self, key: &dyn Known, complaint: Complaint) -> Reported {
        let written = self.written.get(key.path());
        let (file, span) = written.map_or_else(|| ("settings".into(), Span::default()), Written::place);
        let found = written.filter(|_| !key.traits().is_secret).map(|written| text::show(&written.value));
        let pointer = key.path().split('.').fold("".into(), |pointer: Arc<str>, step| below(&pointer, step));
        complaint.report(&mut self.mistakes, &file, span, pointer, found)
    }
}

/// A value as text; `None` for `null`, which takes back what lower layers say.
fn scalar(key: &dyn Known, written: &Written) -> Result<Option<String>, Complaint> {
    let path = key.path();
    match (&written.value, &written.origin) {
        (Value::Null, _) => Ok(None),
        // Of a text that is no value at all, the key itself says what is wrong.
        (Value::Str(text), Origin::File(..)) if !key.traits().is_quoted && key.check(text).is_ok() => {
            Err(wrong(format!("`{path}` is a string")).expected("a number, `true` or `false`").hint("remove the quotes"))
        }
        (Value::Str(text), _) => Ok(Some(text.to_string())),
        (Value::List(_) | Value::Map(_), _) => Err(wrong(format!("`{path}` is no single value")).expected("a single value")),
        (value, _) => Ok(Some(text::show(value))),
    }
}
