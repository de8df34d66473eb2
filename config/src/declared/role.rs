//! Kinds `Role` and `RoleBinding`: what may be done, and by whom.

use crate::diagnostic::Spanned;
use crate::name::{KeyId, RoleName};
use crate::path::Pattern;
use crate::unit::UnixSeconds;
use ipnet::IpNet;

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
