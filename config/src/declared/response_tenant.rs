//! Whose an answer is: where a route's answers name the tenant they belong to, so that another tenant's is not delivered.

use super::reader::{Item, Outcome, Reported, wrong};
use super::schema::{self, Schema, optional};
use super::value;
use http::HeaderName;
use serde_json::json;
use std::sync::Arc;

/// Where an answer names its tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResponseTenant {
    /// Where.
    pub said_in: SaidIn,
    /// What becomes of an answer that names nobody, or cannot be looked into.
    pub unseen: Unseen,
    /// Bytes of a body that are looked into.
    pub body_bytes_max: u64,
}

/// The part of an answer that names its tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SaidIn {
    /// A field of its head.
    Header(HeaderName),
    /// A member of its body.
    Body(JsonPointer),
}

/// What becomes of an answer of which nobody can tell whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Unseen {
    /// It is not delivered.
    #[default]
    Refuse,
    /// It is delivered.
    Pass,
}

/// A place, or places, in a JSON text (RFC 6901; `*` stands for every element).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JsonPointer {
    text: Arc<str>,
    steps: Vec<Step>,
}

/// One step from a value into it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// To the member of this name, or the element of this number.
    To(String),
    /// To every element or member.
    Each,
}

impl JsonPointer {
    /// Steps of a pointer; each of them is looked for in every value.
    const STEPS_MAX: usize = 16;
    const BYTES_MAX: usize = 256;

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// From the whole text inwards.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn read(item: &Item<'_>) -> Outcome<Self> {
        let text = value::string(item)?;
        let complaint =
            || wrong(format!("{} is no JSON pointer", item.label())).expected("a pointer such as `/tenant_id` or `/items/*/tenant_id`");
        let Some(steps) = text.strip_prefix('/') else {
            return Err(item.refuse(complaint().hint(format!("write `/{}`", text.replace('.', "/")))));
        };
        if text.len() > Self::BYTES_MAX || steps.split('/').count() > Self::STEPS_MAX {
            return Err(item.refuse(complaint().hint("name a place at most 16 steps and 256 bytes deep")));
        }
        let steps: Result<_, Reported> = steps.split('/').map(|step| Step::read(step).ok_or_else(|| item.refuse(complaint()))).collect();
        Ok(Self { text: Arc::clone(text), steps: steps? })
    }
}

impl Step {
    /// `~1` is a slash and `~0` a tilde (RFC 6901 section 3).
    fn read(step: &str) -> Option<Self> {
        let mut parts = step.split('~');
        let mut name = parts.next()?.to_owned();
        for part in parts {
            let (escaped, rest) = part.split_at_checked(1)?;
            name.push(match escaped {
                "0" => '~',
                "1" => '/',
                _ => return None,
            });
            name.push_str(rest);
        }
        Some(if step == "*" { Step::Each } else { Step::To(name) })
    }
}

impl ResponseTenant {
    const BODY_BYTES_MAX: u64 = 64 << 10;
    /// A body that is looked into is held in memory.
    const BODY_BYTES_MOST: u64 = 1 << 20;

    pub(super) fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let header = map.optional("header", value::header_name);
        let pointer = map.optional("json_pointer", JsonPointer::read);
        let unseen = map.optional("unseen", |item| value::word(item, &[("refuse", Unseen::Refuse), ("pass", Unseen::Pass)]));
        let body_bytes_max = map.optional("body_bytes_max", |item| {
            let bytes = value::size(item)?;
            let complaint = || wrong(format!("{} is no size from 1 byte to 1MiB", item.label())).expected("a size up to `1MiB`");
            if (1..=Self::BODY_BYTES_MOST).contains(&bytes) { Ok(bytes) } else { Err(item.refuse(complaint())) }
        });
        map.finish();
        let said_in = match (header?, pointer?) {
            (Some(header), None) => SaidIn::Header(header),
            (None, Some(pointer)) => SaidIn::Body(pointer),
            _ => {
                let complaint = wrong(format!("{} says not in one way where an answer names its tenant", item.label()));
                return Err(item.refuse(complaint.expected("exactly one of `header` and `json_pointer`")));
            }
        };
        Ok(Self { said_in, unseen: unseen?.unwrap_or_default(), body_bytes_max: body_bytes_max?.unwrap_or(Self::BODY_BYTES_MAX) })
    }

    pub(super) fn schema() -> Schema {
        let pointer = "A member of its JSON body (RFC 6901; `*` stands for every element).";
        let unseen = "What becomes of an answer that names nobody, is no JSON, or is too long to be looked into; left out: refuse.";
        let fields = vec![
            optional("header", schema::header("A field of its head.")),
            optional("json_pointer", schema::text(pointer, "^(/([^~/]|~[01])*){1,16}$", &["/tenant_id", "/items/*/tenant_id"])),
            optional("unseen", schema::word(unseen, &["refuse", "pass"])),
            optional("body_bytes_max", schema::size("Bytes of a body that are looked into, up to 1MiB; left out: 64KiB.")),
        ];
        let object = schema::object("Where an answer names the tenant it belongs to; another tenant's is not delivered.", fields);
        schema::with(object, "oneOf", json!([{ "required": ["header"] }, { "required": ["json_pointer"] }]))
    }
}
