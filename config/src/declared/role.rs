//! Kinds `Role` and `RoleBinding`: what may be done, and by whom.

use super::Enforce;
use super::read::{Head, Scope};
use super::reader::{Complaint, Item, Map, Outcome, spanned, wrong};
use super::schema::{self, Schema, optional, required};
use super::value;
use crate::condition::{Condition, Matchers};
use crate::diagnostic::{Spanned, nearest};
use crate::name::{KeyId, RoleName};
use crate::path::Pattern;
use crate::text::Value;
use crate::unit::UnixSeconds;
use ipnet::IpNet;
use serde_json::json;
use std::fmt;
use std::sync::Arc;

/// What may be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Role {
    /// Its name.
    pub name: RoleName,
    /// Whether a tenant may bind it and build roles no wider than it; platform-wide only.
    pub delegable: bool,
    /// Roles whose rules it has too.
    pub inherits: Vec<Spanned<RoleName>>,
    /// What it may do.
    pub allow: Vec<Spanned<Rule>>,
    /// What nobody who holds it may do, whatever else they hold.
    pub deny: Vec<Spanned<Rule>>,
    /// Whether those who hold it are refused.
    pub enforce: Enforce,
}

/// One rule: methods, paths and when. Short form `GET,HEAD /v1/items/{id}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Upper-case method tokens; `None` is `*`. GET grants HEAD.
    pub methods: Option<Vec<String>>,
    /// Path patterns, one of which must match.
    pub paths: Vec<Pattern>,
    /// Conditions that must all hold.
    pub when: When,
}

/// Conditions of a rule.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct When {
    /// The client's address is in one of these; empty: anywhere.
    pub source: Vec<IpNet>,
    /// The clock is in this window.
    pub time: Option<TimeWindow>,
    /// Header fields, query parameters and claims are these.
    pub matchers: Matchers,
    /// An expression that holds; asked last.
    pub condition: Option<Condition>,
}

/// Days and hours, in a zone. `from` after `to` spans midnight and belongs to the day it begins on.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeWindow {
    /// Monday first.
    pub days: [bool; 7],
    /// Minute of the day it begins, 0 to 1439.
    pub from_minute: u16,
    /// Minute of the day it ends (exclusive), 1 to 1440.
    pub to_minute: u16,
    /// IANA zone.
    pub zone: jiff::tz::TimeZone,
}

impl TimeWindow {
    /// Whether a moment is in it, by the wall clock of its zone.
    #[must_use]
    pub fn holds(&self, now: UnixSeconds) -> bool {
        let Ok(moment) = jiff::Timestamp::from_second(now) else { return false };
        let local = self.zone.to_datetime(moment);
        let minute = i32::from(local.hour()) * 60 + i32::from(local.minute());
        let (from, to) = (i32::from(self.from_minute), i32::from(self.to_minute));
        let today = usize::try_from(local.weekday().to_monday_zero_offset()).unwrap_or(0);
        let on = |day: usize| self.days.get(day % 7).copied().unwrap_or(false);
        if from < to {
            return on(today) && (from..to).contains(&minute);
        }
        (on(today) && minute >= from) || (on(today + 6) && minute < to)
    }
}

/// Who holds a role.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleBinding {
    /// The role: the tenant's own scope first, then the platform's.
    pub role: Spanned<RoleName>,
    /// Any one of them holds it.
    pub subjects: Vec<Spanned<Subject>>,
    /// Whether those it binds are refused.
    pub enforce: Enforce,
}

/// Whom a binding means.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A token in which every one of these claims equals the value or is a list that holds it.
    Claim(Vec<(String, ClaimValue)>),
    /// The token's `sub`.
    User(String),
    /// An API key of the tenant; only within a tenant.
    ApiKey(KeyId),
}

/// A scalar that a claim is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimValue {
    /// A string.
    Str(String),
    /// A whole number.
    Int(i64),
    /// A truth value.
    Bool(bool),
}

impl Role {
    pub(super) fn read(head: &Head<'_>, map: &mut Map<'_>) -> Outcome<Self> {
        head.platform_only(map, "delegable", "the platform says which of its roles tenants may use");
        let delegable = map.optional("delegable", value::truth);
        let inherits = map.optional("inherits", value::names).map(Option::unwrap_or_default);
        let allow = map.list("allow", spanned(rule));
        let deny = map.list("deny", spanned(rule));
        let enforce = Enforce::read_of(head, map);
        let (delegable, enforce) = (delegable?.unwrap_or_default(), enforce?);
        Ok(Self { name: head.name()?, delegable, inherits: inherits?, allow: allow?, deny: deny?, enforce })
    }
}

/// A rule, short (`GET,HEAD /v1/items`) or long (`methods`, `paths`, `when`).
fn rule(item: &Item<'_>) -> Outcome<Rule> {
    match item.value() {
        Value::Str(text) => short(item, text),
        Value::Map(_) => long(item),
        _ => Err(item.refuse(wrong(format!("{} is no rule", item.label())).expected("`METHODS /path`, or `methods`, `paths` and `when`"))),
    }
}

fn short(item: &Item<'_>, text: &str) -> Outcome<Rule> {
    let Some((methods, path)) = text.split_once(' ') else {
        let complaint = wrong(format!("{} is no rule: methods and a path, with one space between", item.label()));
        let complaint = complaint.expected("for example `GET /v1/items` or `POST,PUT /v1/items/**`");
        let hint = if text.starts_with('/') {
            format!("write `GET {text}`, or `* {text}` for every method")
        } else {
            format!("write `{text} /path`")
        };
        return Err(item.refuse(complaint.hint(hint)));
    };
    if path.starts_with(' ') || path.ends_with(' ') || methods.ends_with(',') {
        let tight = text.replace(", ", ",");
        let tight = tight.split_whitespace().collect::<Vec<_>>().join(" ");
        let complaint = wrong(format!("{} has blanks where none belong", item.label())).expected("`METHODS /path`, with one space");
        return Err(item.refuse(complaint.hint(format!("write `{tight}`"))));
    }
    let methods = methods_of(item, methods.split(','));
    let path = value::parse_pattern(item, path);
    Ok(Rule { methods: methods?, paths: vec![path?], when: When::default() })
}

fn long(item: &Item<'_>) -> Outcome<Rule> {
    let mut map = item.map()?;
    let methods = map.required("methods", |item| {
        let written = value::some_set(item, "method", |item| value::string(item).map(Arc::clone))?;
        methods_of(item, written.iter().map(|method| &*method.value))
    });
    let paths = map.required("paths", |item| value::some_set(item, "path", value::pattern));
    let when = map.optional("when", When::read);
    map.finish();
    Ok(Rule { methods: methods?, paths: value::bare(paths?), when: when?.unwrap_or_default() })
}

/// Methods in one rule: more than HTTP and WebDAV have together.
const METHODS_MAX: usize = 64;

/// Methods as they stand in requests; `None` for `*`, which stands alone.
fn methods_of<'m>(item: &Item<'_>, methods: impl Iterator<Item = &'m str>) -> Outcome<Option<Vec<String>>> {
    let mut all: Vec<String> = Vec::new();
    let mut star = false;
    for method in methods {
        star |= method == "*";
        if let Err(complaint) = method_is_good(method) {
            return Err(item.refuse(complaint));
        }
        if all.len() == METHODS_MAX {
            return Err(item.refuse(wrong(format!("more than {METHODS_MAX} methods")).hint("write `*` for every method")));
        }
        if all.iter().any(|known| known == method) {
            return Err(item.refuse(wrong(format!("method `{method}` stands twice")).hint("remove one")));
        }
        all.push(method.to_owned());
    }
    match (star, all.len()) {
        (false, _) => Ok(Some(all)),
        (true, 1) => Ok(None),
        (true, _) => Err(item.refuse(wrong("`*` already means every method").hint("remove the other methods, or the `*`"))),
    }
}

/// Whether a text is a method, or `*`.
pub(super) fn method_is_good(method: &str) -> Result<(), Complaint> {
    const REGISTERED: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];
    if method == "*" || REGISTERED.contains(&method) {
        return Ok(());
    }
    let complaint =
        wrong(format!("{} is no method", crate::text::show_text(method))).expected("methods in upper case, separated by commas, or `*`");
    let upper = method.to_ascii_uppercase();
    let token = !method.is_empty()
        && method.len() <= 32
        && method.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"-_".contains(&b));
    match nearest(&upper, REGISTERED) {
        // Methods beyond the registered ones exist (RFC 9110 section 16.1), but `GTE` is none of them.
        Some(meant) => Err(complaint.hint(format!("did you mean `{meant}`?"))),
        None if token => Ok(()),
        None => Err(complaint),
    }
}

impl When {
    /// Whether something is asked that only the request itself knows.
    pub(crate) fn reads_the_request(&self) -> bool {
        self.matchers.read_the_request() || self.condition.as_ref().is_some_and(Condition::reads_the_request)
    }

    /// Names of the header fields that are asked for.
    pub(crate) fn headers(&self) -> impl Iterator<Item = &str> {
        let matched = self.matchers.headers.iter().map(|matcher| &*matcher.name);
        matched.chain(self.condition.iter().flat_map(Condition::headers))
    }

    fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let source = map.optional("source", |item| value::some_set(item, "block", value::network));
        let time = map.optional("time", TimeWindow::read);
        let matchers = Matchers::read(&mut map);
        let condition = map.optional("condition", condition);
        map.finish();
        let when = Self { source: value::bare(source?.unwrap_or_default()), time: time?, matchers: matchers?, condition: condition? };
        if when == Self::default() && matches!(item.value(), Value::Map(entries) if entries.is_empty()) {
            return Err(item.refuse(
                wrong("`when` says nothing").expected("`source`, `time`, `headers`, `query`, `claims` or `condition`").hint("remove it"),
            ));
        }
        Ok(when)
    }
}

/// An expression; each of its mistakes is told where it stands.
fn condition(item: &Item<'_>) -> Outcome<Condition> {
    let text = value::string(item)?;
    Condition::compile(text).map_err(|faults| {
        let (first, more) = faults;
        let told = item.refuse_within(first.at, wrong(first.message).hint(first.hint));
        more.into_iter().fold(told, |_, fault| item.refuse_within(fault.at, wrong(fault.message).hint(fault.hint)))
    })
}

impl TimeWindow {
    fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let days = map.optional("days", days);
        let from = map.optional("from", |item| minute(item, 0..=1_439));
        let to = map.optional("to", |item| minute(item, 1..=1_440));
        let zone = map.required("zone", value::zone);
        map.finish();
        let (days, from, to, zone) = (days?, from?, to?, zone?);
        let (from_minute, to_minute) = match (from, to) {
            (Some(from), Some(to)) if from == to => {
                let complaint = wrong("`from` and `to` are the same time").expected("two times");
                return Err(item.refuse(complaint.hint("leave both out for the whole day")));
            }
            (Some(from), Some(to)) => (from, to),
            (None, None) if days.is_some() => (0, 1_440),
            (None, None) => return Err(item.refuse(wrong("`time` names neither days nor hours").expected("`days`, or `from` and `to`"))),
            (Some(_), None) => return Err(item.refuse_absent("to", wrong("`to` is missing").hint("`from` and `to` come together"))),
            (None, Some(_)) => return Err(item.refuse_absent("from", wrong("`from` is missing").hint("`from` and `to` come together"))),
        };
        Ok(Self { days: days.unwrap_or([true; 7]), from_minute, to_minute, zone })
    }
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Days of the week, Monday first.
fn days(item: &Item<'_>) -> Outcome<[bool; 7]> {
    let words: Vec<(&str, usize)> = DAYS.into_iter().zip(0..).collect();
    let list = value::some_set(item, "day", |item| value::word(item, &words).map(Day))?;
    let mut days = [false; 7];
    for Day(day) in value::bare(list) {
        if let Some(on) = days.get_mut(day) {
            *on = true;
        }
    }
    Ok(days)
}

/// A day by its place in [`DAYS`].
struct Day(usize);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DAYS.get(self.0).copied().unwrap_or_default())
    }
}

/// `08:00` as the minute of the day.
fn minute(item: &Item<'_>, range: std::ops::RangeInclusive<u16>) -> Outcome<u16> {
    let text = value::string(item)?;
    let two =
        |digits: &str| (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse::<u16>().ok()).flatten();
    let read = text.split_once(':').and_then(|(hour, minute)| Some(two(hour)? * 60 + two(minute).filter(|minute| *minute < 60)?));
    read.filter(|minute| range.contains(minute)).ok_or_else(|| {
        let show = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        let complaint = wrong(format!("{} is no time of day", item.label()));
        item.refuse(complaint.expected(format!("hours and minutes from `{}` to `{}`", show(*range.start()), show(*range.end()))))
    })
}

impl RoleBinding {
    pub(super) fn read(head: &Head<'_>, map: &mut Map<'_>) -> Outcome<Self> {
        let role = map.required("role", spanned(value::name));
        let subjects = map.some("subjects", spanned(|item| Subject::read(item, head.scope)));
        let enforce = Enforce::read_of(head, map);
        Ok(Self { role: role?, subjects: subjects?, enforce: enforce? })
    }
}

impl Subject {
    fn read(item: &Item<'_>, scope: Scope) -> Outcome<Self> {
        let mut map = item.map()?;
        if scope == Scope::Platform {
            let complaint = wrong("`api_key` stands only in a tenant's binding");
            map.forbidden("api_key", complaint.hint("add `tenant:` to the binding; a key belongs to one tenant"));
        }
        let claim = map.optional("claim", claims);
        let user = map.optional("user", value::line(512));
        let api_key = map.optional("api_key", value::name);
        map.finish();
        let (claim, user, api_key) = (claim?, user?, api_key?);
        match (claim, user, api_key) {
            (Some(claims), None, None) => Ok(Subject::Claim(claims)),
            (None, Some(user), None) => Ok(Subject::User(user)),
            (None, None, Some(id)) => Ok(Subject::ApiKey(id)),
            _ => {
                Err(item.refuse(wrong(format!("{} is no subject", item.label())).expected("exactly one of `claim`, `user` and `api_key`")))
            }
        }
    }
}

/// Claims that must all hold.
fn claims(item: &Item<'_>) -> Outcome<Vec<(String, ClaimValue)>> {
    let map = item.map()?;
    let all: Vec<Outcome<(String, ClaimValue)>> = map
        .fields()
        .map(|(key, item)| {
            let value = match item.value() {
                Value::Str(text) => ClaimValue::Str(text.to_string()),
                Value::Int(number) => ClaimValue::Int(*number),
                Value::Bool(truth) => ClaimValue::Bool(*truth),
                _ => {
                    let complaint = wrong(format!("{} is compared with no single value", item.label()));
                    let complaint = complaint.expected("a string, a whole number, `true` or `false`");
                    return Err(item.refuse(complaint.hint("for one of several values, write a subject for each")));
                }
            };
            Ok((key.text.to_string(), value))
        })
        .collect();
    if all.is_empty() {
        return Err(item.refuse(wrong("`claim` names no claim").expected("for example `{ roles: reader }`")));
    }
    all.into_iter().collect()
}

impl Role {
    pub(super) fn schema() -> schema::Parts {
        let delegable = "Whether a tenant may bind it, and build roles no wider than it; platform-wide only.";
        let fields = vec![
            optional("delegable", schema::truth(delegable)),
            optional("inherits", schema::names("Roles whose rules it has too.")),
            optional("allow", schema::list("What it may do.", rule_schema())),
            optional("deny", schema::list("What nobody who holds it may do, whatever else they hold.", rule_schema())),
            optional("enforce", Enforce::schema()),
        ];
        let tenant = json!({ "properties": { "delegable": false, "enforce": Enforce::schema_of_tenant() } });
        ("What may be done.", fields, schema::by_scope(Some(tenant), None))
    }
}

fn rule_schema() -> Schema {
    let method = schema::text("A method in upper case; GET includes HEAD.", r"^(\*|[A-Z0-9_-]{1,32})$", &["GET"]);
    let methods = schema::some(schema::set_of("Methods, or `*` alone for all.", method));
    let methods = schema::with(methods, "if", json!({ "contains": { "const": "*" } }));
    let methods = schema::with(methods, "then", json!({ "maxItems": 1 }));
    let paths = schema::set_of("Path patterns, one of which must match.", schema::path("A path pattern."));
    let long = vec![required("methods", methods), required("paths", schema::some(paths)), optional("when", When::schema())];
    let short = r"^(\*|[A-Z0-9_-]{1,32}(,[A-Z0-9_-]{1,32})*) /[^ ]*$";
    json!({ "oneOf": [
        schema::text("Methods, a space, a path pattern.", short, &["GET /v1/items", "POST,PUT /v1/items/**", "* /v1/admin/**"]),
        schema::object("A rule with conditions.", long),
    ] })
}

impl When {
    fn schema() -> Schema {
        let source = schema::set_of("The client's address is in one of these.", schema::network("A block of addresses."));
        let mut fields = vec![optional("source", schema::some(source)), optional("time", TimeWindow::schema())];
        fields.extend(Matchers::fields());
        let condition = "An expression in CEL, of the subset that CONDITIONS.md describes; asked after all others.";
        fields.push(optional(
            "condition",
            json!({ "type": "string", "description": condition, "minLength": 1, "examples": ["claims.mfa == true"] }),
        ));
        schema::with(schema::object("Conditions that must all hold.", fields), "minProperties", json!(1))
    }
}

impl TimeWindow {
    fn schema() -> Schema {
        let days = schema::set_of("Days of the week; left out: every day.", json!({ "enum": DAYS }));
        let to = "When it ends; before `from`: on the next day.";
        let fields = vec![
            optional("days", schema::some(days)),
            optional("from", schema::text("When it begins.", "^([01][0-9]|2[0-3]):[0-5][0-9]$", &["08:00"])),
            optional("to", schema::text(to, "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", &["18:00"])),
            required("zone", schema::text("IANA time zone.", "^[A-Za-z0-9_+/-]+$", &["Europe/Vienna"])),
        ];
        let schema = schema::object("Days and hours in a zone.", fields);
        let schema = schema::with(schema, "anyOf", json!([{ "required": ["days"] }, { "required": ["from"] }]));
        schema::with(schema, "dependentRequired", json!({ "from": ["to"], "to": ["from"] }))
    }
}

impl RoleBinding {
    pub(super) fn schema() -> schema::Parts {
        let subjects = schema::list("Who holds it; any one of them.", Subject::schema());
        let fields = vec![
            required("role", schema::name("The role: a tenant's binding looks in its tenant first, then among the platform's.")),
            required("subjects", schema::some(subjects)),
            optional("enforce", Enforce::schema()),
        ];
        let tenant = json!({ "properties": { "enforce": Enforce::schema_of_tenant() } });
        let platform = json!({ "properties": { "subjects": { "items": schema::without(&["api_key"]) } } });
        ("Who holds a role.", fields, schema::by_scope(Some(tenant), Some(platform)))
    }
}

impl Subject {
    fn schema() -> Schema {
        let claim = json!({
            "type": "object", "minProperties": 1, "additionalProperties": { "type": ["string", "integer", "boolean"] },
            "description": "Claims that must all equal the value, or be a list that holds it.", "examples": [{ "roles": "reader" }],
        });
        let fields = vec![
            optional("claim", claim),
            optional("user", schema::line("`sub` of a token.", 512)),
            optional("api_key", schema::name("Id of an API key of the tenant.")),
        ];
        let schema = schema::object("Exactly one of `claim`, `user` and `api_key`.", fields);
        schema::with(schema::with(schema, "minProperties", json!(1)), "maxProperties", json!(1))
    }
}
