//! The JSON Schemas (2020-12) of all kinds, for editors and for whoever writes documents by program.
//!
//! Each kind's schema stands beside its reader; here stand the words they share. A schema says what it can, the reader says
//! everything: bits beyond a prefix, names that stand twice or time zones that do not exist are beyond JSON Schema.

use super::{CachePolicy, Identity, Kind, Plan, QuotaPolicy, Role, RoleBinding, SecurityPolicy, Service, Tenant};
use serde_json::{Map, json};
use std::ops::RangeInclusive;

/// The shape of a moment in time (RFC 3339).
pub(super) const MOMENT: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$";

/// A schema, or a part of one.
pub(super) type Schema = serde_json::Value;

impl Kind {
    /// The JSON Schema of its documents.
    #[must_use]
    pub fn schema(self) -> Schema {
        let (description, fields, more) = match self {
            Kind::Tenant => Tenant::schema(),
            Kind::Plan => Plan::schema(),
            Kind::Service => Service::schema(),
            Kind::Identity => Identity::schema(),
            Kind::Role => Role::schema(),
            Kind::RoleBinding => RoleBinding::schema(),
            Kind::QuotaPolicy => QuotaPolicy::schema(),
            Kind::SecurityPolicy => SecurityPolicy::schema(),
            Kind::CachePolicy => CachePolicy::schema(),
        };
        let kind = json!({ "const": self.as_str(), "description": "What the document is." });
        let mut head = match self {
            Kind::Tenant => vec![optional("kind", kind)],
            Kind::Plan | Kind::Service => vec![required("kind", kind), required("name", name("Its name."))],
            _ => vec![
                required("kind", kind),
                optional("tenant", name("The tenant it belongs to; left out: it is platform-wide.")),
                required("name", name("Its name, unique for its kind within the tenant or the platform.")),
            ],
        };
        head.extend(fields);
        let mut schema = object(description, head);
        set(&mut schema, "$schema", json!("https://json-schema.org/draft/2020-12/schema"));
        set(&mut schema, "$id", json!(format!("https://bulkhead.dev/schema/{self}.schema.json")));
        set(&mut schema, "title", json!(self.as_str()));
        more.into_iter().for_each(|(key, value)| set(&mut schema, key, value));
        schema
    }
}

/// What a kind adds to the words that all documents share: its description, its fields, and rules between them.
pub(super) type Parts = (&'static str, Vec<Field>, Vec<(&'static str, Schema)>);

/// A field of an object.
pub(super) struct Field {
    name: &'static str,
    is_required: bool,
    schema: Schema,
}

pub(super) fn required(name: &'static str, schema: Schema) -> Field {
    Field { name, is_required: true, schema }
}

pub(super) fn optional(name: &'static str, schema: Schema) -> Field {
    Field { name, is_required: false, schema }
}

/// A mapping with these fields and no others.
pub(super) fn object(description: &str, fields: Vec<Field>) -> Schema {
    let needed: Vec<&str> = fields.iter().filter(|field| field.is_required).map(|field| field.name).collect();
    let properties: Map<String, Schema> = fields.into_iter().map(|field| (field.name.to_owned(), field.schema)).collect();
    let mut schema = json!({ "type": "object", "description": description, "properties": properties, "additionalProperties": false });
    if !needed.is_empty() {
        schema = with(schema, "required", json!(needed));
    }
    schema
}

/// The same schema with one more keyword.
pub(super) fn with(mut schema: Schema, keyword: &str, value: Schema) -> Schema {
    set(&mut schema, keyword, value);
    schema
}

fn set(schema: &mut Schema, keyword: &str, value: Schema) {
    if let Schema::Object(keywords) = schema {
        keywords.insert(keyword.to_owned(), value);
    }
}

/// Rules for documents of a tenant, and for those of the platform.
pub(super) fn by_scope(tenant: Option<Schema>, platform: Option<Schema>) -> Vec<(&'static str, Schema)> {
    let rules = [("if", Some(json!({ "required": ["tenant"] }))), ("then", tenant), ("else", platform)];
    rules.into_iter().filter_map(|(key, rule)| Some((key, rule?))).collect()
}

/// These fields must not be there.
pub(super) fn without(fields: &[&str]) -> Schema {
    let properties: Map<String, Schema> = fields.iter().map(|field| ((*field).to_owned(), json!(false))).collect();
    json!({ "properties": properties })
}

/// A string of this shape.
pub(super) fn text(description: &str, pattern: &str, examples: &[&str]) -> Schema {
    json!({ "type": "string", "description": description, "pattern": pattern, "examples": examples })
}

/// A string of one line, not blank.
pub(super) fn line(description: &str, most: usize) -> Schema {
    let schema = json!({ "type": "string", "description": description, "minLength": 1, "maxLength": most });
    with(schema, "pattern", json!(r"^(?=.*\S)[^\u0000-\u001f\u007f-\u009f]+$"))
}

pub(super) fn name(description: &str) -> Schema {
    text(description, "^[a-z0-9][a-z0-9_-]{0,62}$", &["acme_corp"])
}

pub(super) fn names(description: &str) -> Schema {
    set_of(description, name("1 to 63 of a-z, 0-9, `_` and `-`, a letter or digit first."))
}

/// A list whose items stand once.
pub(super) fn set_of(description: &str, item: Schema) -> Schema {
    json!({ "type": "array", "description": description, "items": item, "uniqueItems": true })
}

/// A list.
pub(super) fn list(description: &str, item: Schema) -> Schema {
    json!({ "type": "array", "description": description, "items": item })
}

/// The same, and not empty.
pub(super) fn some(list: Schema) -> Schema {
    with(list, "minItems", json!(1))
}

pub(super) fn host(description: &str) -> Schema {
    let label = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?";
    let schema = text(description, &format!(r"^(?!(.*\.)?[0-9]+\.?$)({label}\.)*{label}\.?$"), &["acme.example.com"]);
    with(schema, "maxLength", json!(254))
}

pub(super) fn path(description: &str) -> Schema {
    let segment = r"(\{[a-z0-9_]+\}|[A-Za-z0-9._~!$&'()*+,;=:@%-]*)";
    // Not `//`, not `.` or `..`, not `*` alone, and `**` only as the last segment.
    let pattern = format!(r"^(?!.*//)(?!.*/\.\.?[;/])(?!.*/\.\.?$)(?!.*/\*(/|$))(?!.*\*\*.)(?!.*[^/]\*\*)(/{segment})+$");
    text(description, &pattern, &["/v1/items", "/v1/items/{id}", "/v1/admin/**"])
}

pub(super) fn truth(description: &str) -> Schema {
    json!({ "type": "boolean", "description": description })
}

/// One of a few words.
pub(super) fn word(description: &str, words: &[&str]) -> Schema {
    json!({ "enum": words, "description": description })
}

pub(super) fn whole(description: &str, range: &RangeInclusive<u32>) -> Schema {
    json!({ "type": "integer", "description": description, "minimum": range.start(), "maximum": range.end() })
}

/// How often: a whole number, or `unlimited`.
pub(super) fn limit(description: &str) -> Schema {
    json!({ "description": description, "oneOf": [{ "type": "integer", "minimum": 0, "maximum": u32::MAX }, { "const": "unlimited" }] })
}

pub(super) fn duration(description: &str) -> Schema {
    text(description, "^[0-9]+(ms|s|m|h|d)$", &["250ms", "30s", "5m"])
}

/// A duration longer than zero.
pub(super) fn some_duration(description: &str) -> Schema {
    text(description, "^0*[1-9][0-9]*(ms|s|m|h|d)$", &["250ms", "30s", "5m"])
}

pub(super) fn size(description: &str) -> Schema {
    text(description, "^[0-9]+(B|KiB|MiB|GiB|kB|MB|GB)$", &["32KiB", "10MiB"])
}

/// A part of a hundred, at least one.
pub(super) fn percent(description: &str) -> Schema {
    text(description, "^0*([1-9][0-9]?|100)%$", &["20%"])
}

pub(super) fn network(description: &str) -> Schema {
    text(description, "^[0-9A-Fa-f:.]+/[0-9]{1,3}$", &["10.0.0.0/8", "2001:db8::/32"])
}

pub(super) fn header(description: &str) -> Schema {
    text(description, &format!("^(?!{})[!#$%&'*+.^_`|~0-9A-Za-z-]+$", any_case(&["x-bulkhead-"])), &["x-api-key"])
}

/// A pattern of any of these names, in upper and lower case.
pub(super) fn any_case(names: &[&str]) -> String {
    let letter = |c: char| if c.is_ascii_alphabetic() { format!("[{}{c}]", c.to_ascii_uppercase()) } else { c.to_string() };
    let names: Vec<String> = names.iter().map(|name| name.chars().map(letter).collect()).collect();
    names.join("|")
}
