//! Matchers of a rule's `when`: `headers`, `query` and `claims`, each a mapping from a name to what must stand there.

use super::reader::{Item, Map, Outcome, wrong};
use super::role::ClaimValue;
use super::schema::{self, Field, Schema, optional};
use super::value;
use crate::condition::{ANY_OF_MAX, ClaimTest, FieldTest, MATCHERS_MAX, Matcher, Matchers, Named, VALUE_BYTES_MAX};
use crate::text::Value;
use serde_json::json;

/// Fields that prove who somebody is. They are read by authentication alone: what is compared is also kept for `explain`.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

impl Matchers {
    /// Reads the three mappings out of `when`.
    pub(super) fn read(map: &mut Map<'_>) -> Outcome<Self> {
        let headers = map.optional("headers", |item| named(item, "header", header, field_test));
        let query = map.optional("query", |item| named(item, "parameter", parameter, field_test));
        let claims = map.optional("claims", |item| named(item, "claim", parameter, claim_test));
        Ok(Self { headers: headers?.unwrap_or_default(), query: query?.unwrap_or_default(), claims: claims?.unwrap_or_default() })
    }

    /// The fields of `when` that hold them.
    pub(super) fn fields() -> [Field; 3] {
        let text = schema::line("Exactly this.", VALUE_BYTES_MAX);
        let claim = schema::with(schema::line("Exactly this.", VALUE_BYTES_MAX), "type", json!(["string", "integer", "boolean"]));
        [
            optional(
                "headers",
                mapping("Header fields by name, in lower case.", &text, &json!({ "pattern": "^[a-z0-9!#$%&'*+.^_`|~-]+$" })),
            ),
            optional("query", mapping("Query parameters by name, as they are once decoded.", &text, &json!({ "minLength": 1 }))),
            optional("claims", mapping("Claims of the token by name; of a list, one item must do.", &claim, &json!({ "minLength": 1 }))),
        ]
    }
}

fn mapping(description: &str, value: &Schema, names: &Schema) -> Schema {
    let any_of = json!({ "type": "array", "items": value, "minItems": 1, "maxItems": ANY_OF_MAX, "uniqueItems": true });
    let tests = vec![
        optional("any_of", any_of),
        optional("prefix", schema::line("It begins with this.", VALUE_BYTES_MAX)),
        optional("present", schema::truth("It is there, or it is not.")),
    ];
    let test = schema::object("Exactly one of `any_of`, `prefix` and `present`.", tests);
    let test = schema::with(schema::with(test, "minProperties", json!(1)), "maxProperties", json!(1));
    json!({
        "type": "object", "description": description, "propertyNames": names,
        "minProperties": 1, "maxProperties": MATCHERS_MAX, "additionalProperties": { "anyOf": [value, test] },
    })
}

/// A mapping from names to tests.
fn named<T>(
    item: &Item<'_>,
    what: &str,
    name: impl Fn(&Item<'_>, &str) -> Outcome<()>,
    test: impl Fn(&Item<'_>) -> Outcome<T>,
) -> Outcome<Vec<Named<T>>> {
    let all: Vec<Outcome<Named<T>>> = item
        .map()?
        .fields()
        .map(|(key, item)| {
            let (name, test) = (name(&item, &key.text), test(&item));
            name.and(test).map(|test| Named { name: (*key.text).into(), test })
        })
        .collect();
    if all.is_empty() || all.len() > MATCHERS_MAX {
        let complaint = wrong(format!("{} names {} {what}s", item.label(), all.len())).expected(format!("1 to {MATCHERS_MAX} {what}s"));
        return Err(item.refuse(complaint));
    }
    all.into_iter().collect()
}

/// A header that may be compared.
fn header(item: &Item<'_>, name: &str) -> Outcome<()> {
    header_is_good(name).map_err(|(why, hint)| item.refuse(wrong(why).hint(hint)))
}

/// Whether a header may be read by rules; else why not, and what to write.
pub(crate) fn header_is_good(name: &str) -> Result<(), (String, String)> {
    let Ok(known) = name.parse::<http::HeaderName>() else {
        let hint = "names of headers are such as `x-env` (RFC 9110 section 5.1)".to_owned();
        return Err((format!("{} is no header name", crate::text::show_text(name)), hint));
    };
    if known.as_str() != name {
        return Err((format!("header `{name}` is not in lower case"), format!("write `{known}`; requests may write it as they like")));
    }
    if CREDENTIALS.contains(&name) {
        let hint = "bind roles by claims, or compare claims in `when`".to_owned();
        return Err((format!("header `{name}` carries credentials, which rules do not read"), hint));
    }
    if name.starts_with("x-bulkhead-") {
        let hint = "take another name: what comes in under this one is removed".to_owned();
        return Err((format!("header `{name}` is Bulkhead's own"), hint));
    }
    Ok(())
}

/// A name that is only compared.
fn parameter(item: &Item<'_>, name: &str) -> Outcome<()> {
    if name.is_empty() { Err(item.refuse(wrong("an empty name names nothing").hint("write a name before the colon"))) } else { Ok(()) }
}

fn field_test(item: &Item<'_>) -> Outcome<FieldTest> {
    test(item, |item| word(item).map(Into::into), "a string, or one of `any_of`, `prefix` and `present`")
}

fn claim_test(item: &Item<'_>) -> Outcome<ClaimTest> {
    let value = |item: &Item<'_>| match item.value() {
        Value::Int(number) => Ok(ClaimValue::Int(*number)),
        Value::Bool(truth) => Ok(ClaimValue::Bool(*truth)),
        _ => word(item).map(ClaimValue::Str),
    };
    test(item, value, "a string, a whole number, `true`, `false`, or one of `any_of`, `prefix` and `present`")
}

fn word(item: &Item<'_>) -> Outcome<String> {
    value::line(VALUE_BYTES_MAX)(item)
}

/// A value alone, or a mapping with one test.
fn test<V: std::fmt::Display>(item: &Item<'_>, value: impl Fn(&Item<'_>) -> Outcome<V>, expected: &str) -> Outcome<Matcher<V>> {
    match item.value() {
        Value::Map(_) => {}
        Value::List(_) => {
            let complaint = wrong(format!("{} is a list", item.label())).expected(expected);
            return Err(item.refuse(complaint.hint("write `{ any_of: [a, b] }` for one of several values")));
        }
        _ => return value(item).map(|value| Matcher::AnyOf(vec![value])),
    }
    let mut map = item.map()?;
    let any_of = map.optional("any_of", |item| {
        let values = value::some_set(item, "value", &value)?;
        if values.len() > ANY_OF_MAX {
            return Err(
                item.refuse(wrong(format!("{} holds {} values", item.label(), values.len())).expected(format!("1 to {ANY_OF_MAX}")))
            );
        }
        Ok(Matcher::AnyOf(value::bare(values)))
    });
    let prefix = map.optional("prefix", |item| word(item).map(|text| Matcher::Prefix(text.into())));
    let present = map.optional("present", |item| value::truth(item).map(Matcher::Present));
    map.finish();
    match (any_of?, prefix?, present?) {
        (Some(test), None, None) | (None, Some(test), None) | (None, None, Some(test)) => Ok(test),
        _ => Err(item.refuse(wrong(format!("{} is no matcher", item.label())).expected("exactly one of `any_of`, `prefix` and `present`"))),
    }
}
