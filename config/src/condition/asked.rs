//! What a request says of itself, as conditions read it; and as much of it as a decision is explained by later.

use std::borrow::Cow;
use std::fmt;

/// Bytes of a value that is compared: what is longer is no word of a policy, and would have to be kept with each decision.
pub const VALUE_BYTES_MAX: usize = 1_024;
/// Bytes of a query that is looked through.
pub(super) const QUERY_BYTES_MAX: usize = 4_096;

/// What a request says of itself beside its method and path.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The host it names: bytes of ASCII, which are made text where a condition asks for it.
    pub host: &'a [u8],
    /// Its query as it came, without the question mark.
    pub query: Option<&'a str>,
    /// Bytes of its body, where that is known.
    pub size: Option<u64>,
    /// Its header fields.
    pub fields: &'a dyn Fields,
}

/// Header fields by their name.
pub trait Fields: fmt::Debug {
    /// The field of this name, which is in lower case.
    fn find(&self, name: &str) -> Found<'_>;
}

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// Nothing.
    Absent,
    /// This.
    One(&'a str),
    /// Something that two readers may read differently: it stands twice, is too long, or is no text.
    Unclear,
}

impl<'a> Found<'a> {
    /// What the values of one name come to.
    pub fn of(mut values: impl Iterator<Item = &'a [u8]>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Found::Absent,
            (Some(one), None) if one.len() <= VALUE_BYTES_MAX => std::str::from_utf8(one).map_or(Found::Unclear, Found::One),
            _ => Found::Unclear,
        }
    }
}

/// Nothing is known of a request but its path.
pub const NOTHING: Asked<'static> = Asked { host: b"", query: None, size: None, fields: &NoFields };

#[derive(Debug)]
struct NoFields;

impl Fields for NoFields {
    fn find(&self, _: &str) -> Found<'_> {
        Found::Absent
    }
}

/// What the conditions of one route read of a request, kept so that its decision can be made again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    query: Option<Box<str>>,
    size: Option<u64>,
    fields: Vec<(Box<str>, KeptField)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum KeptField {
    One(Box<str>),
    Unclear,
}

impl Kept {
    /// Keeps the query, the size, and the fields of these names.
    pub(crate) fn of<'n>(asked: &Asked<'_>, names: impl Iterator<Item = &'n str>) -> Self {
        let mut fields: Vec<(Box<str>, KeptField)> = Vec::new();
        for name in names {
            let field = match asked.fields.find(name) {
                Found::Absent => continue,
                Found::One(value) => KeptField::One(value.into()),
                Found::Unclear => KeptField::Unclear,
            };
            if fields.iter().all(|(known, _)| **known != *name) {
                fields.push((name.into(), field));
            }
        }
        // One byte beyond what is looked through is as unclear as all of it.
        let query = asked.query.map(|query| query.get(..query.floor_char_boundary(QUERY_BYTES_MAX + 4)).unwrap_or(query).into());
        Self { query, size: asked.size, fields }
    }

    /// As it is asked; the host is kept elsewhere.
    #[must_use]
    pub fn asked<'a>(&'a self, host: &'a [u8]) -> Asked<'a> {
        Asked { host, query: self.query.as_deref(), size: self.size, fields: self }
    }

    /// What somebody describes of a request: its query, and fields one by one; it has no body.
    pub(crate) fn described(query: Option<&str>) -> Self {
        Self { query: query.map(Box::from), size: Some(0), fields: Vec::new() }
    }

    /// Adds a field, for a request that somebody describes. The same name twice is unclear, as it is on the wire.
    pub(crate) fn describe(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        if let Some((_, known)) = self.fields.iter_mut().find(|(known, _)| **known == *name) {
            *known = KeptField::Unclear;
        } else {
            self.fields.push((name.into(), KeptField::One(value.into())));
        }
    }
}

impl Fields for Kept {
    fn find(&self, name: &str) -> Found<'_> {
        match self.fields.iter().find(|(known, _)| **known == *name) {
            None => Found::Absent,
            Some((_, KeptField::One(value))) => Found::One(value),
            Some((_, KeptField::Unclear)) => Found::Unclear,
        }
    }
}

/// The value of a query parameter as it came; unclear where the name stands twice, or the query is too long to look through.
pub(crate) fn parameter<'a>(query: Option<&'a str>, name: &str) -> Found<'a> {
    let query = query.unwrap_or_default();
    if query.len() > QUERY_BYTES_MAX {
        return Found::Unclear;
    }
    let values = query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        decodes_to(key, name).then_some(value.as_bytes())
    });
    Found::of(values)
}

/// Whether an encoded text means this one, byte by byte.
fn decodes_to(encoded: &str, text: &str) -> bool {
    decode(encoded).eq(text.bytes().map(Some))
}

/// What an encoded value says (application/x-www-form-urlencoded); nothing where its encoding is broken or it is no text.
pub(crate) fn decoded(encoded: &str) -> Option<Cow<'_, str>> {
    if !encoded.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(encoded));
    }
    let bytes: Vec<u8> = decode(encoded).collect::<Option<_>>()?;
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Its bytes; `None` for a percent sign without two digits.
fn decode(encoded: &str) -> impl Iterator<Item = Option<u8>> {
    let mut bytes = encoded.bytes();
    let digit = |bytes: &mut std::str::Bytes<'_>| char::from(bytes.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    std::iter::from_fn(move || {
        Some(match bytes.next()? {
            b'+' => Some(b' '),
            b'%' => digit(&mut bytes).and_then(|high| Some(high << 4 | digit(&mut bytes)?)),
            byte => Some(byte),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_found_by_what_its_name_means() {
        for (query, name, found) in [
            ("env=prod", "env", Found::One("prod")),
            ("a=1&%65nv=prod", "env", Found::One("prod")),
            ("env", "env", Found::One("")),
            ("env=prod&env=test", "env", Found::Unclear),
            ("env=prod&%65%6ev=test", "env", Found::Unclear),
            ("ENV=prod", "env", Found::Absent),
            ("environment=prod", "env", Found::Absent),
            ("a+b=c", "a b", Found::One("c")),
            ("%6=c", "6", Found::Absent),
            ("", "env", Found::Absent),
        ] {
            assert_eq!(parameter(Some(query), name), found, "{query}");
        }
        assert_eq!(parameter(None, "env"), Found::Absent);
        assert_eq!(parameter(Some(&"x".repeat(QUERY_BYTES_MAX + 1)), "env"), Found::Unclear);
    }

    #[test]
    fn a_value_is_decoded_or_it_is_none() {
        for (encoded, text) in [
            ("prod", Some("prod")),
            ("a%20b+c", Some("a b c")),
            ("%c3%A4", Some("ä")),
            ("%ff", None),
            ("%4", None),
            ("%zz", None),
            ("%+1", None),
        ] {
            assert_eq!(decoded(encoded).as_deref(), text, "{encoded}");
        }
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let mut wire = Kept::default();
        wire.describe("X-Env", "prod");
        wire.describe("x-two", "1");
        wire.describe("x-two", "1");
        wire.describe("x-other", "1");
        let kept = Kept::of(&wire.asked(b"h"), ["x-env", "x-two", "x-none", "x-env"].into_iter());
        let found = ["x-env", "x-two", "x-none", "x-other"].map(|name| kept.find(name));
        assert_eq!(found, [Found::One("prod"), Found::Unclear, Found::Absent, Found::Absent]);
        assert_eq!(kept.fields.len(), 2);
    }
}
