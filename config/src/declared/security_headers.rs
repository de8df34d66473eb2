//! Security headers: what browsers are told to be careful about, on every answer.

use super::cors::is_origin;
use super::header_rules::{FieldNames, FieldValue, HeaderLine, HeaderRules};
use super::reader::{Complaint, Item, Outcome, wrong};
use super::schema::{self, Schema, optional};
use super::value;
use crate::text::Value;
use http::{HeaderName, HeaderValue, header};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// What every answer says, made when the document is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityHeaders {
    /// Whatever the answer comes by.
    pub rules: HeaderRules,
    /// `Strict-Transport-Security`, over TLS only (RFC 6797 section 7.2).
    pub transport: Option<HeaderValue>,
}

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const TEXT_BYTES_MAX: usize = 4 << 10;

/// `Referrer-Policy`, but for those that tell strangers the whole address.
const REFERRER_POLICIES: [&str; 6] =
    ["no-referrer", "origin", "origin-when-cross-origin", "same-origin", "strict-origin", "strict-origin-when-cross-origin"];

impl SecurityHeaders {
    pub(super) fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let transport = map.optional("strict_transport_security", or_off(transport));
        let nosniff = map.optional("nosniff", value::truth);
        let referrer = map.optional("referrer_policy", or_off(referrer));
        let permissions = map.optional("permissions_policy", or_off(permissions));
        let content = map.optional("content_security_policy", content);
        let ancestors = map.optional("frame_ancestors", ancestors);
        let at = map.peek("content_security_policy");
        map.finish();
        let (content, ancestors) = (content?, ancestors?);
        if let (Some(item), Some(content), Some(_)) = (at, &content, &ancestors)
            && directives(content).any(|(name, _)| name == "frame-ancestors")
        {
            let complaint = wrong("`content_security_policy` has `frame-ancestors`, and so has this mapping");
            return Err(item.refuse(complaint.hint("say it in `frame_ancestors` alone")));
        }
        let mut write = Vec::new();
        let mut add = |name: HeaderName, text: Option<String>| {
            // What was read is visible ASCII.
            let value = text.and_then(|text| HeaderValue::try_from(text).ok());
            write.extend(value.map(|value| HeaderLine { name, value: FieldValue::Fixed(value) }));
        };
        add(header::X_CONTENT_TYPE_OPTIONS, nosniff?.unwrap_or(true).then(|| "nosniff".to_owned()));
        add(header::REFERRER_POLICY, referrer?.unwrap_or_else(|| Some("strict-origin-when-cross-origin".to_owned())));
        add(PERMISSIONS_POLICY, permissions?.unwrap_or_else(|| Some("camera=(), geolocation=(), microphone=()".to_owned())));
        add(header::X_FRAME_OPTIONS, ancestors.as_deref().and_then(frame_options));
        let transport = match transport? {
            None => Some(HeaderValue::from_static("max-age=31536000")),
            Some(written) => written.and_then(|text| HeaderValue::try_from(text).ok()),
        };
        let replaced = write.iter().map(|line| line.name.clone()).chain(transport.as_ref().map(|_| header::STRICT_TRANSPORT_SECURITY));
        let drop = FieldNames::of(replaced.chain(ancestors.as_ref().map(|_| header::X_FRAME_OPTIONS)));
        // Beside the service's own: browsers hold to both.
        let content = [content, ancestors.map(|who| format!("frame-ancestors {who}"))].into_iter().flatten().collect::<Vec<_>>().join("; ");
        if let Some(value) = HeaderValue::try_from(content).ok().filter(|value| !value.is_empty()) {
            write.push(HeaderLine { name: header::CONTENT_SECURITY_POLICY, value: FieldValue::Fixed(value) });
        }
        Ok(Self { rules: HeaderRules { drop, write }, transport })
    }

    /// As an operator reads it, field by field.
    pub(crate) fn show(&self) -> impl Iterator<Item = serde_json::Value> {
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let always = self.rules.write.iter().filter_map(move |line| match &line.value {
            FieldValue::Fixed(value) => Some(json!({ "name": line.name.as_str(), "value": text(value) })),
            // No piece of a request belongs into them.
            FieldValue::Made(_) => None,
        });
        let name = header::STRICT_TRANSPORT_SECURITY;
        always.chain(self.transport.iter().map(move |value| json!({ "name": name.as_str(), "value": text(value), "over": "tls" })))
    }
}

/// A reader that also takes `off`: then the service says it or nobody.
fn or_off<'a, T>(read: impl Fn(&Item<'a>) -> Outcome<T>) -> impl Fn(&Item<'a>) -> Outcome<Option<T>> {
    move |item| if matches!(item.value(), Value::Str(text) if &**text == "off") { Ok(None) } else { read(item).map(Some) }
}

fn transport(item: &Item<'_>) -> Outcome<String> {
    const YEAR: Duration = Duration::from_secs(31_536_000);
    let mut map = item.map()?;
    let max_age = map.optional("max_age", value::duration);
    let subdomains = map.optional("include_subdomains", value::truth);
    let preload = map.optional("preload", value::truth);
    let at = map.peek("preload");
    map.finish();
    let (max_age, subdomains, preload) = (max_age?.unwrap_or(YEAR), subdomains?.unwrap_or_default(), preload?.unwrap_or_default());
    if let Some(item) = at.filter(|_| preload && (!subdomains || max_age < YEAR)) {
        let complaint = wrong("`preload` without all that browsers' lists ask for");
        return Err(item.refuse(complaint.hint("add `include_subdomains: true` and a `max_age` of `365d` or more, or leave `preload` out")));
    }
    let more = |yes: bool, text: &'static str| if yes { text } else { "" };
    Ok(format!("max-age={}{}{}", max_age.as_secs(), more(subdomains, "; includeSubDomains"), more(preload, "; preload")))
}

fn referrer(item: &Item<'_>) -> Outcome<String> {
    value::word(item, &REFERRER_POLICIES.map(|word| (word, word))).map(str::to_owned)
}

/// The text of a header field, on one line.
fn text(item: &Item<'_>, complaint: impl Fn() -> Complaint) -> Outcome<String> {
    let text = value::string(item)?;
    let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX || !is_plain {
        return Err(item.refuse(complaint()));
    }
    Ok(text.trim().to_owned())
}

/// A dictionary of features (Permissions Policy, section 9.4).
fn permissions(item: &Item<'_>) -> Outcome<String> {
    let complaint =
        || wrong(format!("{} is no permissions policy", item.label())).expected("features such as `camera=(), geolocation=(self)`");
    let text = text(item, complaint)?;
    let mut seen = BTreeSet::new();
    let is_good = |member: &str| {
        let Some((name, list)) = member.trim().split_once('=') else { return false };
        is_name(name) && seen.insert(name.to_owned()) && is_allowlist(list)
    };
    if text.split(',').all(is_good) { Ok(text) } else { Err(item.refuse(complaint())) }
}

fn is_allowlist(list: &str) -> bool {
    let is_one = |one: &str| {
        let quoted = one.strip_prefix('"').and_then(|one| one.strip_suffix('"'));
        matches!(one, "self" | "src") || quoted.is_some_and(is_origin)
    };
    let inner = list.strip_prefix('(').and_then(|list| list.strip_suffix(')'));
    matches!(list, "*" | "self") || inner.is_some_and(|inner| inner.split_ascii_whitespace().all(is_one))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// The directives of a policy: their names, with their values.
fn directives(policy: &str) -> impl Iterator<Item = (&str, &str)> {
    policy.split(';').map(str::trim).filter(|one| !one.is_empty()).map(|one| one.split_once(' ').unwrap_or((one, "")))
}

fn content(item: &Item<'_>) -> Outcome<String> {
    let complaint = || wrong(format!("{} is no content security policy", item.label())).expected("directives such as `default-src 'self'`");
    let text = text(item, complaint)?;
    if text.contains(',') {
        return Err(item.refuse(complaint().hint("separate directives by `;`: a comma would begin another policy")));
    }
    let mut seen = BTreeSet::new();
    for (name, _) in directives(&text) {
        if !is_name(name) {
            return Err(item.refuse(complaint()));
        }
        if !seen.insert(name.to_owned()) {
            let complaint = wrong(format!("directive `{name}` stands twice, and browsers pass over the second"));
            return Err(item.refuse(complaint.hint("write all its values in one")));
        }
    }
    Ok(text.trim_end_matches([';', ' ']).to_owned())
}

/// Who may show an answer in a frame.
fn ancestors(item: &Item<'_>) -> Outcome<String> {
    match item.value() {
        Value::Str(text) if matches!(&**text, "none" | "self") => Ok(format!("'{text}'")),
        Value::List(_) => {
            let origins = value::some_set(item, "origin", |item| match value::string(item)? {
                text if &**text == "self" => Ok("'self'".to_owned()),
                text if is_origin(text) => Ok(text.to_string()),
                _ => Err(item
                    .refuse(wrong(format!("{} is no origin", item.label())).expected("`self`, or an origin such as `https://a.example`"))),
            })?;
            Ok(value::bare(origins).join(" "))
        }
        _ => Err(item.refuse(wrong(format!("{} does not say who", item.label())).expected("`none`, `self`, or a list of origins"))),
    }
}

/// The same for browsers that do not know `frame-ancestors`, where it has words for it.
fn frame_options(ancestors: &str) -> Option<String> {
    match ancestors {
        "'none'" => Some("DENY".to_owned()),
        "'self'" => Some("SAMEORIGIN".to_owned()),
        _ => None,
    }
}

impl SecurityHeaders {
    pub(super) fn schema() -> Schema {
        let or_off = |schema: Schema| json!({ "anyOf": [schema, { "const": "off" }] });
        let text = |what: &str| json!({ "type": "string", "description": what, "minLength": 1, "maxLength": TEXT_BYTES_MAX });
        let transport = vec![
            optional("max_age", schema::duration("How long; left out: a year.")),
            optional("include_subdomains", schema::truth("Whether it holds for subdomains too.")),
            optional("preload", schema::truth("Whether browsers may list it; asks for the subdomains, and a year.")),
        ];
        let origin = schema::text("`self`, or an origin.", "^(self|https?://[^/ ,;'\"]+)$", &["https://app.example.com"]);
        let list = schema::some(schema::set_of("Origins.", origin));
        let fields = vec![
            optional("strict_transport_security", or_off(schema::object("Said over TLS only; left out: for a year.", transport))),
            optional("nosniff", schema::truth("`X-Content-Type-Options: nosniff`; left out: yes.")),
            optional("referrer_policy", or_off(schema::word("Left out: strict-origin-when-cross-origin.", &REFERRER_POLICIES))),
            optional("permissions_policy", or_off(text("Left out: no camera, no geolocation, no microphone."))),
            optional("content_security_policy", text("Comes beside what the service says: browsers hold to both.")),
            optional("frame_ancestors", json!({ "anyOf": [{ "enum": ["none", "self"] }, list], "description": "Who may frame answers." })),
        ];
        schema::object("What every answer tells browsers to be careful about; platform-wide only. `{}`: the defaults.", fields)
    }
}
