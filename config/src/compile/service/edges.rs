//! Where rewrites and redirects lead, seen from all routes of their service: what one route alone cannot know.

use super::super::mistake::{Hinted, Mistakes, at};
use crate::declared;
use crate::declared::Document;
use crate::path::{Pattern, Relation, Trie};
use crate::snapshot::{Access, Answered, NewPath, Redirect, Route};
use std::sync::Arc;

/// Redirects one after the other that are followed.
const REDIRECTS_MAX: usize = 16;

/// Refuses redirects that lead to themselves, and rewrites that open what other routes guard.
pub(super) fn check(document: &Document, service: &declared::Service, routes: &Trie<Arc<Route>>, mistakes: &mut Mistakes) {
    for declared in &service.routes {
        // Where two routes have one path, that is the mistake.
        let Some(route) = routes.values().find(|route| route.name == declared.name.value) else { continue };
        if let (Some(place), Some(Answered::Redirect(redirect))) = (&declared.answered, &route.answered)
            && redirect.is_always()
            && leads_to_itself(route, redirect, routes)
        {
            let message = format!("route `{}` sends its clients to itself", route.name);
            mistakes.push(at(document, place, message).hint("send them to a path that another route has, or to another host"));
        }
        let Some(reached) = route.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref()).and_then(NewPath::pattern) else { continue };
        let guards = routes.values().filter(|guard| !Arc::ptr_eq(guard, route) && goes_the_same_way(guard, route));
        for guard in guards.filter(|guard| is_opened(guard, &reached, routes)) {
            warn_or_refuse(document, declared, (route, guard), &reached, mistakes);
        }
    }
}

/// Whether the path that a redirect leads to comes back to its route. A path of the shortest kind and one that no literal has are
/// tried: what they come back to, a client comes back to.
fn leads_to_itself(route: &Arc<Route>, redirect: &Redirect, routes: &Trie<Arc<Route>>) -> bool {
    let before = route.pattern.before_rest().unwrap_or_default();
    [format!("{before}/"), format!("{before}/~")].iter().any(|start| {
        let (mut path, mut redirect) = (start.clone(), redirect);
        for _ in 0..REDIRECTS_MAX {
            path = redirect.path.as_ref().map_or_else(|| path.clone(), |new| new.of(&path).into_owned());
            match routes.find(&path) {
                Some(next) if Arc::ptr_eq(next, route) => return true,
                Some(next) => match &next.answered {
                    Some(Answered::Redirect(next)) if next.is_always() => redirect = next,
                    _ => return false,
                },
                None => return false,
            }
        }
        false
    })
}

/// Whether another route of the same upstream shows it paths as they came: then its rules are about these paths.
fn goes_the_same_way(guard: &Route, route: &Route) -> bool {
    let is_answered = guard.answered.as_ref().is_some_and(Answered::is_always);
    let is_rewritten = guard.rewrite.as_ref().is_some_and(|rewrite| rewrite.path.is_some());
    Arc::ptr_eq(&guard.upstream, &route.upstream) && !is_answered && !is_rewritten
}

/// Whether a request for a path that is reached would take this route, asked for directly. It would not where a closer route has
/// all that is reached.
fn is_opened(guard: &Arc<Route>, reached: &Pattern, routes: &Trie<Arc<Route>>) -> bool {
    let meet = |pattern: &Pattern| pattern.relation(reached) != Relation::Disjoint || reached.relation(pattern) != Relation::Disjoint;
    let is_closer = |other: &&Arc<Route>| {
        !Arc::ptr_eq(other, guard)
            && other.pattern.relation(reached) == Relation::Covers
            && guard.pattern.relation(&other.pattern) == Relation::Covers
    };
    meet(&guard.pattern) && !routes.values().any(|other| is_closer(&other))
}

/// Who asks for no credential must not lead to what asks for one. Between two routes that both ask, the operator may mean it; it is
/// said where the rules of one would open all that the other guards.
fn warn_or_refuse(
    document: &Document,
    declared: &declared::Route,
    (route, guard): (&Route, &Route),
    reached: &Pattern,
    mistakes: &mut Mistakes,
) {
    if guard.access == Access::Public {
        return;
    }
    if route.access == Access::Public {
        let message =
            format!("public route `{}` would reach what route `{}` ({}) asks a credential for", route.name, guard.name, guard.pattern);
        let hint = format!("rewrite to paths that no such route has, or declare that `{reached}` is public by a route of its own");
        mistakes.push(at(document, &declared.name, message).hint(hint));
    } else if reached.relation(&guard.pattern) == Relation::Covers {
        let message =
            format!("who may use route `{}` reaches what route `{}` ({}) has rules of its own for", route.name, guard.name, guard.pattern);
        mistakes.warn(at(document, &declared.name, message).hint("rewrite to paths that no other route of the upstream has"));
    }
}
