//! Values as a condition computes with them: borrowed from the request, the token or the condition itself.

use super::{At, steps};
use crate::name::Feature;
use crate::text::{self, Key, Node, show_text};
use jiff::{SignedDuration, Timestamp};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Cow<'a, str>),
    Time(Timestamp),
    Span(SignedDuration),
    Address(std::net::IpAddr),
    List(List<'a>),
    Map(Map<'a>),
}

/// Where the items of a list lie.
#[derive(Debug, Clone)]
pub(super) enum List<'a> {
    Claim(&'a [Node]),
    Features(&'a [Feature]),
    /// Those of a list that lies elsewhere: in the condition, or further out in the walk.
    Lent(&'a [Value<'a>]),
    /// Its own: written in the condition, or made by `map` and `filter`. Shared, as lists may be items of lists.
    Own(Arc<[Value<'a>]>),
}

/// Where the entries of a map lie.
#[derive(Debug, Clone)]
pub(super) enum Map<'a> {
    Claim(&'a [(Key, Node)]),
    Lent(&'a [(Box<str>, Value<'a>)]),
    /// Written in the condition; no two of one name.
    Own(Arc<[(Box<str>, Value<'a>)]>),
}

/// Why a part of a condition has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Where the part begins.
    pub(super) start: u32,
    /// Where it ends.
    pub(super) end: u32,
    /// Why, as the end of a sentence that begins with the part.
    pub(super) why: &'static str,
}

/// The result of a part.
pub(super) type Outcome<T> = Result<T, Failure>;

pub(super) fn fail<T>(at: &At, why: &'static str) -> Outcome<T> {
    Err(Failure { start: at.start, end: at.end, why })
}

impl<'a> From<&'a text::Value> for Value<'a> {
    fn from(value: &'a text::Value) -> Self {
        match value {
            text::Value::Null => Value::Null,
            text::Value::Bool(truth) => Value::Bool(*truth),
            text::Value::Int(number) => Value::Int(*number),
            text::Value::Float(number) => Value::Double(*number),
            text::Value::Str(text) => Value::Text(Cow::Borrowed(text)),
            text::Value::List(items) => Value::List(List::Claim(items)),
            text::Value::Map(entries) => Value::Map(Map::Claim(entries)),
        }
    }
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            List::Claim(items) => items.len(),
            List::Features(items) => items.len(),
            List::Lent(items) => items.len(),
            List::Own(items) => items.len(),
        }
    }

    /// An item that outlives the list.
    pub(super) fn get(&self, at: usize) -> Option<Value<'a>> {
        match self {
            List::Claim(items) => items.get(at).map(|node| Value::from(&node.value)),
            List::Features(items) => items.get(at).map(|feature| Value::Text(Cow::Borrowed(feature.as_str()))),
            List::Lent(items) => items.get(at).map(Value::lent),
            List::Own(items) => items.get(at).cloned(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Value<'_>> {
        let lent = match self {
            List::Own(items) => List::Lent(items),
            list => list.clone(),
        };
        (0..self.len()).map_while(move |at| lent.get(at))
    }

    /// Whether one of the items is this value.
    pub(super) fn has(&self, value: &Value<'_>) -> bool {
        self.iter().inspect(|_| steps::step()).any(|item| item.equals(value))
    }

    fn equals(&self, other: &List<'_>) -> bool {
        self.len() == other.len() && self.iter().zip(other.iter()).inspect(|_| steps::step()).all(|(a, b)| a.equals(&b))
    }
}

impl<'a> Map<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Map::Claim(entries) => entries.len(),
            Map::Lent(entries) => entries.len(),
            Map::Own(entries) => entries.len(),
        }
    }

    /// The name of an entry, which outlives the map.
    pub(super) fn name(&self, at: usize) -> Option<Cow<'a, str>> {
        match self {
            Map::Claim(entries) => entries.get(at).map(|(key, _)| Cow::Borrowed(&*key.text)),
            Map::Lent(entries) => entries.get(at).map(|(name, _)| Cow::Borrowed(&**name)),
            Map::Own(entries) => entries.get(at).map(|(name, _)| Cow::Owned(name.to_string())),
        }
    }

    /// What stands under a name.
    pub(super) fn get(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Map::Claim(entries) => entries.iter().find(|(key, _)| *key.text == *name).map(|(_, node)| Value::from(&node.value)),
            Map::Lent(entries) => entries.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.lent()),
            Map::Own(entries) => entries.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.clone()),
        }
    }

    /// Whether something stands under a name.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Map::Claim(entries) => entries.iter().any(|(key, _)| *key.text == *name),
            Map::Lent(entries) => entries.iter().any(|(known, _)| **known == *name),
            Map::Own(entries) => entries.iter().any(|(known, _)| **known == *name),
        }
    }

    fn entry(&self, at: usize) -> Option<(&str, Value<'_>)> {
        match self {
            Map::Claim(entries) => entries.get(at).map(|(key, node)| (&*key.text, Value::from(&node.value))),
            Map::Lent(entries) => entries.get(at).map(|(name, value)| (&**name, value.lent())),
            Map::Own(entries) => entries.get(at).map(|(name, value)| (&**name, value.lent())),
        }
    }

    /// Whether both have the same entries. Those of equal maps mostly stand in one order, so the same place is looked at first.
    fn equals(&self, other: &Map<'_>) -> bool {
        let there = |at: usize, name: &str| match other.entry(at) {
            Some((known, value)) if known == name => Some(value),
            _ => other.get(name),
        };
        let is_there = |at: usize| self.entry(at).is_some_and(|(name, value)| there(at, name).is_some_and(|there| there.equals(&value)));
        self.len() == other.len() && (0..self.len()).inspect(|_| steps::step()).all(is_there)
    }
}

impl<'a> Value<'a> {
    /// The same value without copying what it holds.
    pub(super) fn lent(&self) -> Value<'_> {
        match self {
            Value::Text(text) => Value::Text(Cow::Borrowed(text)),
            Value::List(List::Own(items)) => Value::List(List::Lent(items)),
            Value::Map(Map::Own(entries)) => Value::Map(Map::Lent(entries)),
            value => value.clone(),
        }
    }
}

impl Value<'_> {
    /// Whether both are the same; numbers of different types are, where they are the same number. Values of other types differ.
    pub(super) fn equals(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Time(a), Value::Time(b)) => a == b,
            (Value::Span(a), Value::Span(b)) => a == b,
            (Value::Address(a), Value::Address(b)) => a == b,
            (Value::Address(a), Value::Text(b)) | (Value::Text(b), Value::Address(a)) => b.parse() == Ok(*a),
            (Value::List(a), Value::List(b)) => a.equals(b),
            (Value::Map(a), Value::Map(b)) => a.equals(b),
            (a, b) => numbers(a, b) == Some(Ordering::Equal),
        }
    }

    /// How both are ordered, where they are.
    pub(super) fn order(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            (Value::Time(a), Value::Time(b)) => Some(a.cmp(b)),
            (Value::Span(a), Value::Span(b)) => Some(a.cmp(b)),
            (a, b) => numbers(a, b),
        }
    }

    /// Whether it is a number.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Value::Int(_) | Value::Uint(_) | Value::Double(_))
    }

    /// In a few words, for explanations.
    pub(super) fn shown(&self) -> String {
        match self {
            Value::Null => "null".to_owned(),
            Value::Bool(truth) => truth.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Uint(number) => format!("{number}u"),
            Value::Double(number) => format!("{number:?}"),
            Value::Text(text) => show_text(text),
            Value::Time(time) => time.to_string(),
            Value::Span(span) => format!("{span:#}"),
            Value::Address(address) => address.to_string(),
            Value::List(list) => match list.len() {
                0 => "an empty list".to_owned(),
                1..=4 => format!("[{}]", list.iter().map(|item| item.shown()).collect::<Vec<_>>().join(", ")),
                many => format!("a list of {many}"),
            },
            Value::Map(entries) => format!("a map of {}", entries.len()),
        }
    }
}

/// Numbers of any types on one line, as CEL orders them.
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Double(a), Value::Int(b)) => with_whole(*a, i128::from(*b)),
        (Value::Double(a), Value::Uint(b)) => with_whole(*a, i128::from(*b)),
        (Value::Int(a), Value::Double(b)) => with_whole(*b, i128::from(*a)).map(Ordering::reverse),
        (Value::Uint(a), Value::Double(b)) => with_whole(*b, i128::from(*a)).map(Ordering::reverse),
        _ => None,
    }
}

/// A fraction against a whole number, without rounding either.
fn with_whole(a: f64, b: i128) -> Option<Ordering> {
    if a.is_nan() {
        return None;
    }
    // 2^65 is beyond all whole numbers here and exact as a double; below it the cast is exact for the whole part.
    const BEYOND: f64 = 36_893_488_147_419_103_232.0;
    if a.abs() >= BEYOND {
        return Some(if a > 0.0 { Ordering::Greater } else { Ordering::Less });
    }
    #[expect(clippy::cast_possible_truncation, reason = "the whole part of a number below 2^65 fits")]
    let whole = a.trunc() as i128;
    Some(whole.cmp(&b).then_with(|| a.fract().partial_cmp(&0.0).unwrap_or(Ordering::Equal)))
}
