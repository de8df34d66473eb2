//! What a world means, as naively as it can be said: no trie, no bits, no snapshot, every rule of every role asked every time.

use super::world::{Principal, Request, Role, Route, Rule, Scope, Subject, Tenant, World};
use std::net::IpAddr;

/// The code of the answer, or `allowed`.
pub(crate) fn answer(world: &World, tenant: &Tenant, request: &Request) -> &'static str {
    if tenant.state != "active" {
        return "tenant_suspended";
    }
    if matches!(request.principal, Principal::Key) && !tenant.has_key {
        return "invalid_api_key";
    }
    let Some(route) = route(world, request.path) else { return "no_route" };
    if matches!(request.principal, Principal::Nobody) && !route.is_public {
        return "missing_credential";
    }
    if route.feature.is_some_and(|feature| !has_feature(world, tenant, feature)) {
        return "feature_required";
    }
    if route.is_public {
        return "allowed";
    }
    let held = held(world, tenant, request.principal);
    if held.iter().any(|role| role.deny.iter().any(|rule| matches(rule, request))) {
        return "denied_by_rule";
    }
    if held.iter().any(|role| role.allow.iter().any(|rule| matches(rule, request))) { "allowed" } else { "not_permitted" }
}

/// Of the routes that match, the one whose first difference to every other is the more particular.
fn route<'a>(world: &'a World, path: &str) -> Option<&'a Route> {
    let rank = |route: &&Route| -> Vec<u8> {
        let one = |segment: &str| match segment {
            "**" => 2,
            _ if segment.starts_with('{') => 1,
            _ => 0,
        };
        route.pattern.split('/').map(one).collect()
    };
    world.routes.iter().filter(|route| path_matches(route.pattern, path)).min_by_key(rank)
}

fn path_matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    let rest = pattern.last() == Some(&"**");
    let fixed = if rest { pattern.len() - 1 } else { pattern.len() };
    let fits = if rest { path.len() > fixed } else { path.len() == fixed };
    fits && (0..fixed).all(|at| if pattern[at].starts_with('{') { !path[at].is_empty() } else { pattern[at] == path[at] })
}

fn has_feature(world: &World, tenant: &Tenant, feature: &str) -> bool {
    let plan = world.plans.iter().find(|plan| match tenant.plan {
        Some(name) => plan.name == name,
        None => plan.is_default,
    });
    tenant.features.contains(&feature) || plan.is_some_and(|plan| plan.features.contains(&feature))
}

/// The roles a principal holds, with all they inherit.
fn held<'a>(world: &'a World, tenant: &'a Tenant, principal: Principal) -> Vec<&'a Role> {
    let means = |subject: Subject| match (subject, principal) {
        (Subject::Claim(value), Principal::Token { roles, .. }) => value == roles,
        (Subject::User(name), Principal::Token { user, .. }) => name == user,
        (Subject::Key, Principal::Key) => true,
        _ => false,
    };
    let find = |scopes: &[&'a Scope], name: &str| {
        let all = scopes.iter().flat_map(|scope| scope.roles.iter().map(move |role| (*scope, role)));
        all.into_iter().find(|(_, role)| role.name == name).unwrap()
    };
    // What a scope may see: a tenant its own roles before the platform's, the platform its own only.
    let sees = |scope: &'a Scope| if std::ptr::eq(scope, &tenant.scope) { vec![scope, &world.scope] } else { vec![scope] };
    let mut next: Vec<(&Scope, &Role)> = Vec::new();
    for scope in [&world.scope, &tenant.scope] {
        next.extend(scope.bindings.iter().filter(|binding| means(binding.subject)).map(|binding| find(&sees(scope), &binding.role)));
    }
    let mut held = Vec::new();
    while let Some((scope, role)) = next.pop() {
        held.push(role);
        next.extend(role.inherits.iter().map(|name| find(&sees(scope), name)));
    }
    held
}

fn matches(rule: &Rule, request: &Request) -> bool {
    let method = if request.method == "HEAD" && !rule.methods.contains(&"HEAD") { "GET" } else { request.method };
    let address: IpAddr = request.source.parse().unwrap();
    (rule.methods.is_empty() || rule.methods.contains(&method))
        && rule.paths.iter().any(|pattern| path_matches(pattern, request.path))
        && (rule.sources.is_empty() || rule.sources.iter().any(|range| range.parse::<ipnet::IpNet>().unwrap().contains(&address)))
        && rule.time.as_ref().is_none_or(|(days, from, to)| is_open(days, i64::from(*from), i64::from(*to), request.now))
}

/// Looks at every hour of the window on every day of the week it begins on. 1970 began on a Thursday, and its hours in UTC.
fn is_open(days: &[usize], from: i64, to: i64, now: i64) -> bool {
    let hour_of_week = (now.div_euclid(3_600) + 3 * 24).rem_euclid(7 * 24);
    let length = if from < to { to - from } else { to + 24 - from };
    days.iter().any(|&day| (0..length).any(|hour| (i64::try_from(day).unwrap() * 24 + from + hour).rem_euclid(7 * 24) == hour_of_week))
}
