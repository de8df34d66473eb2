//! Matchers: header fields, query parameters and claims compared with words, without an expression.
//!
//! Cost: per request on a route that has them; a look through the fields and a comparison each, no allocation but for a query
//! parameter that is percent-encoded.

use super::{Asked, Found, decoded, parameter};
use crate::declared::role::ClaimValue;
use crate::text::{Key, Node, Value, show, show_text};
use std::fmt;

/// Matchers of one kind that a rule may have.
pub(crate) const MATCHERS_MAX: usize = 16;
/// Values that one matcher may be content with.
pub(crate) const ANY_OF_MAX: usize = 32;

/// What a rule compares without an expression. All must hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matchers {
    /// Header fields, by their name in lower case.
    pub(crate) headers: Vec<Named<FieldTest>>,
    /// Query parameters, decoded.
    pub(crate) query: Vec<Named<FieldTest>>,
    /// Claims of the token.
    pub(crate) claims: Vec<Named<ClaimTest>>,
}

/// One matcher with the name of what it looks at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Named<T> {
    pub(crate) name: Box<str>,
    pub(crate) test: T,
}

/// What is asked of a value; `V` is what it is compared with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Matcher<V> {
    /// It is one of these.
    AnyOf(Vec<V>),
    /// It begins with this.
    Prefix(Box<str>),
    /// It is there, or it is not.
    Present(bool),
}

/// What is asked of a field or a parameter.
pub(crate) type FieldTest = Matcher<Box<str>>;
/// What is asked of a claim. Of a list, one item must do.
pub(crate) type ClaimTest = Matcher<ClaimValue>;

impl FieldTest {
    /// `None`: that cannot be said.
    fn holds(&self, found: Found<'_>) -> Option<bool> {
        match (self, found) {
            (Matcher::Present(wanted), found) => Some((found != Found::Absent) == *wanted),
            (_, Found::Absent) => Some(false),
            (_, Found::Unclear) => None,
            (Matcher::AnyOf(values), Found::One(value)) => Some(values.iter().any(|known| **known == *value)),
            (Matcher::Prefix(prefix), Found::One(value)) => Some(value.starts_with(&**prefix)),
        }
    }
}

impl ClaimTest {
    fn holds(&self, found: Option<&Value>) -> bool {
        match (self, found) {
            (Matcher::Present(wanted), found) => found.is_some() == *wanted,
            (_, None) => false,
            (_, Some(Value::List(items))) => items.iter().any(|item| self.holds_of(&item.value)),
            (_, Some(value)) => self.holds_of(value),
        }
    }

    fn holds_of(&self, value: &Value) -> bool {
        match (self, value) {
            (Matcher::AnyOf(values), value) => values.iter().any(|wanted| wanted.equals(value)),
            (Matcher::Prefix(prefix), Value::Str(text)) => text.starts_with(&**prefix),
            (Matcher::Prefix(_) | Matcher::Present(_), _) => false,
        }
    }
}

impl Matchers {
    /// Whether nothing is compared.
    pub(crate) fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.query.is_empty() && self.claims.is_empty()
    }

    /// Whether something is asked that only the request itself knows.
    pub(crate) fn read_the_request(&self) -> bool {
        !self.headers.is_empty() || !self.query.is_empty()
    }

    /// Whether all hold; `None` where one cannot be said and no other fails. Claims first: they lie ready.
    pub(crate) fn hold(&self, asked: &Asked<'_>, claims: &[(Key, Node)]) -> Option<bool> {
        if !self.claims.iter().all(|matcher| matcher.test.holds(claim(claims, &matcher.name))) {
            return Some(false);
        }
        let headers = self.headers.iter().map(|matcher| matcher.test.holds(asked.fields.find(&matcher.name)));
        let query = self.query.iter().map(|matcher| matcher.in_query(asked));
        let mut all = Some(true);
        for holds in headers.chain(query) {
            match holds {
                Some(true) => {}
                Some(false) => return Some(false),
                None => all = None,
            }
        }
        all
    }

    /// What does not hold, or cannot be said, in words.
    pub(crate) fn lacks(&self, asked: &Asked<'_>, claims: &[(Key, Node)]) -> Vec<String> {
        let headers = self.headers.iter().map(|matcher| {
            let found = asked.fields.find(&matcher.name);
            ("header", &matcher.name, matcher.test.holds(found), shown(found))
        });
        let query = self.query.iter().map(|matcher| {
            let found = parameter(asked.query, &matcher.name);
            ("query parameter", &matcher.name, matcher.in_query(asked), shown(found))
        });
        let claims = self.claims.iter().map(|matcher| {
            let found = claim(claims, &matcher.name);
            ("claim", &matcher.name, Some(matcher.test.holds(found)), found.map_or_else(|| "not there".to_owned(), show))
        });
        let failing = headers.chain(query).chain(claims).filter(|(_, _, holds, _)| *holds != Some(true));
        failing.map(|(what, name, _, found)| format!("{what} `{name}` is {found}")).collect()
    }
}

impl Named<FieldTest> {
    fn in_query(&self, asked: &Asked<'_>) -> Option<bool> {
        let found = parameter(asked.query, &self.name);
        let Found::One(encoded) = found else { return self.test.holds(found) };
        match decoded(encoded) {
            Some(text) => self.test.holds(Found::One(&text)),
            None => self.test.holds(Found::Unclear),
        }
    }
}

fn claim<'a>(claims: &'a [(Key, Node)], name: &str) -> Option<&'a Value> {
    claims.iter().find(|(key, _)| *key.text == *name).map(|(_, node)| &node.value)
}

fn shown(found: Found<'_>) -> String {
    match found {
        Found::Absent => "not there".to_owned(),
        Found::One(value) => show_text(value),
        Found::Unclear => "not clear: it stands twice, is too long, or is no text".to_owned(),
    }
}

impl ClaimValue {
    /// Whether a claim is this value, and of this type.
    pub(crate) fn equals(&self, found: &Value) -> bool {
        match (found, self) {
            (Value::Str(found), ClaimValue::Str(wanted)) => **found == **wanted,
            (Value::Int(found), ClaimValue::Int(wanted)) => found == wanted,
            (Value::Bool(found), ClaimValue::Bool(wanted)) => found == wanted,
            _ => false,
        }
    }
}

impl fmt::Display for ClaimValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClaimValue::Str(text) => f.write_str(text),
            ClaimValue::Int(number) => write!(f, "{number}"),
            ClaimValue::Bool(truth) => write!(f, "{truth}"),
        }
    }
}

/// As a rule's text says it: `header x-env=prod|test claim mfa=true`.
impl fmt::Display for Matchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers = self.headers.iter().map(|one| format!("header {}{}", one.name, one.test));
        let query = self.query.iter().map(|one| format!("query {}{}", one.name, one.test));
        let claims = self.claims.iter().map(|one| format!("claim {}{}", one.name, one.test));
        f.write_str(&headers.chain(query).chain(claims).collect::<Vec<_>>().join(" "))
    }
}

impl<V: fmt::Display> fmt::Display for Matcher<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Matcher::AnyOf(values) => write!(f, "={}", values.iter().map(ToString::to_string).collect::<Vec<_>>().join("|")),
            Matcher::Prefix(prefix) => write!(f, "={prefix}*"),
            Matcher::Present(true) => f.write_str(" present"),
            Matcher::Present(false) => f.write_str(" absent"),
        }
    }
}
