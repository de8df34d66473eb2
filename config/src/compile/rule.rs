//! Rules of roles onto routes: for each route, the rules whose patterns are not disjoint from it, denies first.
//!
//! A pattern that covers its route is not tested again per request; only one that matches some of the route's paths is.

use super::documents::Documents;
use super::mistake::{Count, Hinted, Mistakes, at};
use super::pattern::Patterns;
use super::role::RoleTable;
use crate::declared::role::{Rule, TimeWindow};
use crate::declared::{Document, Role};
use crate::diagnostic::Spanned;
use crate::path::{Pattern, Relation};
use crate::snapshot::{CompiledRule, Effect, MethodSet, Route, RuleId, Scope};
use std::sync::Arc;

/// Rules that the roles of one scope may have.
const RULES_MAX: usize = 10_000;
/// Places that they may take on all routes together.
const PLACES_MAX: usize = 1 << 20;
/// Characters of a condition that a rule is named with.
const CONDITION_SHOWN: usize = 200;

/// By route: its rules, denies first.
pub(super) type RuleTable = Arc<[Arc<[CompiledRule]>]>;

/// The rules of the platform's roles.
pub(super) fn of_platform(
    documents: &Documents,
    roles: &RoleTable,
    routes: &[Arc<Route>],
    before: &RuleTable,
    mistakes: &mut Mistakes,
) -> RuleTable {
    let own = spread(documents, Scope::Platform, roles, routes, before, mistakes);
    own.into_iter().map(|rules| denies_first(&[], rules)).collect()
}

/// The rules of a tenant's own roles beside the platform's, whose lists are shared where nothing is added.
pub(super) fn of_tenant(
    platform: &RuleTable,
    documents: &Documents,
    roles: &RoleTable,
    routes: &[Arc<Route>],
    before: &[Arc<[CompiledRule]>],
    mistakes: &mut Mistakes,
) -> RuleTable {
    if documents.roles().next().is_none() {
        return Arc::clone(platform);
    }
    let own = spread(documents, Scope::Tenant, roles, routes, before, mistakes);
    let merged = platform.iter().zip(own).map(|(theirs, ours)| match ours.is_empty() {
        true => Arc::clone(theirs),
        false => denies_first(theirs, ours),
    });
    merged.collect()
}

fn denies_first(theirs: &[CompiledRule], ours: Vec<CompiledRule>) -> Arc<[CompiledRule]> {
    let mut all: Vec<CompiledRule> = theirs.iter().cloned().chain(ours).collect();
    // Stable: within each effect the order of roles and of what is written in them stays.
    all.sort_by_key(|rule| rule.id.effect == Effect::Allow);
    all.into()
}

/// Each rule of each role of one scope, on each route it touches.
fn spread(
    documents: &Documents,
    scope: Scope,
    roles: &RoleTable,
    routes: &[Arc<Route>],
    before: &[Arc<[CompiledRule]>],
    mistakes: &mut Mistakes,
) -> Vec<Vec<CompiledRule>> {
    let mut patterns = Patterns::new(scope, before);
    let mut by_route = vec![Vec::new(); routes.len()];
    let mut count = Count::new("rules", RULES_MAX);
    let mut places = Count::new("places of rules on routes", PLACES_MAX);
    for (document, role) in documents.roles() {
        if !count.add(document, role.allow.len() + role.deny.len(), mistakes) {
            break;
        }
        // A role beyond the table has its mistake already.
        let Some(bit) = roles.infos.iter().position(|info| info.scope == scope && info.name == role.name) else { continue };
        let Ok(bit) = u8::try_from(bit) else { continue };
        let rules = role.allow.iter().map(|rule| (Effect::Allow, rule)).chain(role.deny.iter().map(|rule| (Effect::Deny, rule)));
        for (effect, rule) in rules {
            let Some(methods) = methods(document, rule, mistakes) else { continue };
            let id = Arc::new(id(document, role, scope, effect, rule));
            let when = patterns.asks(document, rule, &id.text, mistakes);
            let mut touched = 0;
            for (route, rules) in routes.iter().zip(&mut by_route) {
                let Some(paths) = on_route(&rule.paths, &route.pattern) else { continue };
                touched += 1;
                rules.push(CompiledRule { id: Arc::clone(&id), role: bit, methods: methods.clone(), paths, when: when.clone() });
            }
            if !places.add(document, touched, mistakes) {
                return by_route;
            }
            if touched == 0 {
                let warning = at(document, rule, format!("rule `{}` matches no route of any service", id.text));
                mistakes.warn(warning.hint("compare it with the paths of the routes; a trailing slash is another path"));
            }
        }
    }
    by_route
}

/// Which of the patterns must be tested per request on a route: `Some(None)` when one covers it, `None` when none touches it.
#[expect(clippy::option_option, reason = "the two mean what `CompiledRule::paths` and `no rule here` mean")]
fn on_route(patterns: &[Pattern], route: &Pattern) -> Option<Option<Box<[Pattern]>>> {
    let mut partial = Vec::new();
    for pattern in patterns {
        match pattern.relation(route) {
            Relation::Covers => return Some(None),
            Relation::Partial => partial.push(pattern.clone()),
            Relation::Disjoint => {}
        }
    }
    if partial.is_empty() { None } else { Some(Some(partial.into())) }
}

fn methods(document: &Document, rule: &Spanned<Rule>, mistakes: &mut Mistakes) -> Option<MethodSet> {
    let Some(written) = &rule.methods else { return Some(MethodSet::ALL) };
    let mut methods = Vec::with_capacity(written.len());
    for text in written {
        match http::Method::from_bytes(text.as_bytes()) {
            Ok(method) => methods.push(method),
            Err(_) => {
                mistakes.push(at(document, rule, format!("`{text}` is no HTTP method")));
                return None;
            }
        }
    }
    Some(MethodSet::of(methods))
}

fn id(document: &Document, role: &Role, scope: Scope, effect: Effect, rule: &Spanned<Rule>) -> RuleId {
    let file = Arc::clone(&document.origin.file);
    RuleId { role: role.name.clone(), scope, effect, text: text(rule), file, line: rule.span.line }
}

/// A rule in its short form, conditions after it: `GET /v1/items`, `GET /v1/audit/** from 10.0.0.0/8`.
fn text(rule: &Rule) -> String {
    let methods = rule.methods.as_ref().map_or_else(|| "*".to_owned(), |methods| methods.join(","));
    let paths = rule.paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut text = format!("{methods} {paths}");
    if !rule.when.source.is_empty() {
        let ranges = rule.when.source.iter().map(ToString::to_string).collect::<Vec<_>>();
        text = format!("{text} from {}", ranges.join(","));
    }
    if let Some(window) = &rule.when.time {
        text = format!("{text} {}", clock(window));
    }
    if !rule.when.matchers.is_empty() {
        text = format!("{text} when {}", rule.when.matchers);
    }
    if let Some(condition) = &rule.when.condition {
        // On one line, as long as a line may be.
        let words = condition.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        let shown: String = words.chars().take(CONDITION_SHOWN).collect();
        let more = if shown.len() < words.len() { "…" } else { "" };
        text = format!("{text} if {shown}{more}");
    }
    text
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// `on mon,tue 08:00-18:00 Europe/Vienna`; every day is not named.
fn clock(window: &TimeWindow) -> String {
    let days: Vec<&str> = DAYS.into_iter().zip(window.days).filter_map(|(name, on)| on.then_some(name)).collect();
    let on = if days.len() == DAYS.len() { String::new() } else { format!("on {} ", days.join(",")) };
    let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    let zone = window.zone.iana_name().unwrap_or("UTC");
    format!("{on}{}-{} {zone}", time(window.from_minute), time(window.to_minute))
}
