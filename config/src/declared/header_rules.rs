//! Header rules: fields that a route adds to, sets in and removes from its requests and answers.
//!
//! Names and values are made here, once: what a message is given is written, or shared, as it is.

use super::reader::{Item, Map, Outcome, wrong};
use super::schema::{self, Schema, optional};
use super::value;
use http::{HeaderName, HeaderValue};
use serde_json::json;
use std::str::FromStr;

/// What is done to the header fields of a message, removals first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderRules {
    /// Fields that go: those removed, and those that are set.
    pub drop: FieldNames,
    /// Fields that come, in their order.
    pub write: Vec<HeaderLine>,
}

/// Names of fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldNames {
    /// Sorted.
    names: Vec<HeaderName>,
    /// How long they are, a bit each: most fields of a message are of no name here, and most of these of no such length.
    lengths: u64,
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderLine {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: FieldValue,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// The same for all messages.
    Fixed(HeaderValue),
    /// Made for each message of these pieces.
    Made(Vec<Piece>),
}

/// A piece of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it is written.
    Text(String),
    /// What it stands for; a field of which a piece stands for nothing is left out.
    Variable(Variable),
}

/// What is known of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variable {
    /// The tenant that was proved.
    Tenant,
    /// The user that was proved.
    User,
    /// The route.
    Route,
    /// The decision's id.
    DecisionId,
    /// The client's address.
    Source,
}

impl Variable {
    const ALL: [(&'static str, Variable); 5] = [
        ("tenant", Variable::Tenant),
        ("user", Variable::User),
        ("route", Variable::Route),
        ("decision_id", Variable::DecisionId),
        ("source", Variable::Source),
    ];
}

/// Which messages the rules are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

/// Fields that decide where a message ends, belong to one hop, or are written by us from what we know.
const NEVER: [&str; 20] = [
    "connection",
    "content-length",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "ratelimit",
    "ratelimit-policy",
    "proxy-status",
    "x-real-ip",
];

impl FieldNames {
    /// These names.
    #[must_use]
    pub fn of(names: impl IntoIterator<Item = HeaderName>) -> Self {
        let mut names: Vec<HeaderName> = names.into_iter().collect();
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        let lengths = names.iter().fold(0, |lengths, name| lengths | Self::bit(name.as_str().len()));
        Self { names, lengths }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &HeaderName> {
        self.names.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether a field of this name, in lower case, is one of them to a reader that takes `_` for `-`.
    #[must_use]
    pub fn are_read_in(&self, name: &[u8]) -> bool {
        self.lengths & Self::bit(name.len()) != 0 && self.names.iter().any(|known| is_read_as(name, known.as_str().as_bytes()))
    }

    /// One bit for each length, and one for all that are longer.
    fn bit(length: usize) -> u64 {
        1 << length.min(63)
    }
}

fn is_read_as(name: &[u8], known: &[u8]) -> bool {
    let spelled = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.len() == known.len() && name.iter().zip(known).all(|(one, other)| spelled(*one) == spelled(*other))
}

impl HeaderRules {
    /// Fields of one message that rules may touch.
    const FIELDS_MAX: usize = 32;
    const VALUE_BYTES_MAX: usize = 1 << 10;

    pub(super) fn read(item: &Item<'_>, side: Side) -> Outcome<Self> {
        let mut map = item.map()?;
        let set = map.optional("set", |item| lines(item, side));
        let add = map.optional("add", |item| lines(item, side));
        let remove = map.list("remove", |item| name(item, value::string(item)?));
        map.finish();
        let (set, add, removed) = (set?.unwrap_or_default(), add?.unwrap_or_default(), remove?);
        let drop = FieldNames::of(set.iter().map(|line| line.name.clone()).chain(removed));
        Self { drop, write: set.into_iter().chain(add).collect() }.bounded(item)
    }

    /// Fields of an answer of our own, in place of what we say under their names.
    pub(super) fn of_answer(item: &Item<'_>) -> Outcome<Self> {
        let write = lines(item, Side::Response)?;
        Self { drop: FieldNames::of(write.iter().map(|line| line.name.clone())), write }.bounded(item)
    }

    fn bounded(self, item: &Item<'_>) -> Outcome<Self> {
        if self.drop.len() + self.write.len() > Self::FIELDS_MAX {
            let complaint = wrong(format!("{} touches more than {} fields", item.label(), Self::FIELDS_MAX));
            return Err(item.refuse(complaint.hint("leave out what the service can do itself")));
        }
        Ok(self)
    }

    pub(super) fn schema(description: &str) -> Schema {
        let fields = vec![
            optional(
                "set",
                Self::schema_of_answer(
                    "Fields that replace what came under their names. `${tenant}`, `${user}`, `${route}`, `${decision_id}` and \
                     `${source}` stand for what is known of the request.",
                ),
            ),
            optional("add", Self::schema_of_answer("Fields that come beside what is there.")),
            optional("remove", schema::set_of("Names of fields that go.", schema::header("A field name."))),
        ];
        schema::object(description, fields)
    }

    /// Fields with their values.
    pub(super) fn schema_of_answer(description: &str) -> Schema {
        let value = json!({ "type": "string", "minLength": 1, "maxLength": Self::VALUE_BYTES_MAX });
        let names = json!({ "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" });
        json!({ "type": "object", "description": description, "additionalProperties": value, "propertyNames": names })
    }
}

/// Fields with their values.
fn lines(item: &Item<'_>, side: Side) -> Outcome<Vec<HeaderLine>> {
    let map: Map<'_> = item.map()?;
    let read = map.fields().map(|(key, item)| {
        let name = name(&item, &key.text);
        let value = value(&item, side);
        Ok(HeaderLine { name: name?, value: value? })
    });
    // All mistakes, not the first.
    let all: Vec<Outcome<HeaderLine>> = read.collect();
    all.into_iter().collect()
}

fn name(item: &Item<'_>, text: &str) -> Outcome<HeaderName> {
    let Ok(name) = HeaderName::from_str(text) else {
        let complaint = wrong(format!("`{text}` is no header name"));
        return Err(item.refuse(complaint.expected("a field name such as `x-env` (RFC 9110 section 5.1)")));
    };
    let is_ours = name.as_str().starts_with("x-bulkhead-") || name.as_str().starts_with("x-forwarded-");
    if is_ours || NEVER.contains(&name.as_str()) {
        let complaint = wrong(format!("header `{name}` is not for rules: it is Bulkhead's to write, or decides how the message is read"));
        return Err(item.refuse(complaint.hint("leave it out")));
    }
    Ok(name)
}

/// A value with its variables.
fn value(item: &Item<'_>, side: Side) -> Outcome<FieldValue> {
    let text = value::string(item)?;
    let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if text.is_empty() || text.len() > HeaderRules::VALUE_BYTES_MAX || !is_plain || text.trim() != &**text {
        let complaint = wrong(format!("{} is no value of a header field", item.label()));
        return Err(item.refuse(complaint.expected("1 to 1024 visible ASCII characters, without blanks at its ends")));
    }
    if !text.contains("${")
        && let Ok(fixed) = HeaderValue::from_str(text)
    {
        return Ok(FieldValue::Fixed(fixed));
    }
    let mut pieces = Vec::new();
    let mut rest: &str = text;
    while let Some((before, behind)) = rest.split_once("${") {
        let Some((name, after)) = behind.split_once('}') else {
            return Err(item.refuse(wrong(format!("{} has a `${{` without its `}}`", item.label())).hint("write for example `${tenant}`")));
        };
        let known = Variable::ALL.iter().filter(|(_, variable)| side == Side::Request || *variable != Variable::User);
        let Some((_, variable)) = known.clone().find(|(known, _)| *known == name) else {
            let complaint = wrong(format!("`${{{name}}}` stands for nothing here"));
            let names: Vec<String> = known.clone().map(|(name, _)| format!("${{{name}}}")).collect();
            return Err(item.refuse(complaint.expected(format!("one of {}", names.join(", "))).nearest(name, known.map(|(name, _)| *name))));
        };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(Piece::Variable(*variable));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(FieldValue::Made(pieces))
}
