//! Rewrites: another host or path at the upstream than the client asked for.
//!
//! Cost: per request of a route that has one; the new path is written once. A path that is the same for all is shared.
//! INVARIANT (normal stays normal): what takes the place of a path is in normal form, and so is what stays of it; both meet at a `/`.
//! So no rewritten path needs a second look, and none can mean another segment than it shows.
//! What is decided on is the path that was matched. What a client sends never becomes a host.

use super::reader::{Item, Outcome, wrong};
use super::schema::{self, Schema, optional};
use super::value;
use crate::path::{Pattern, normalise};
use bytes::Bytes;
use http::uri::PathAndQuery;
use serde_json::json;
use std::borrow::Cow;
use std::sync::Arc;

/// What is other at the upstream than the client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The host, as a Host field has it.
    pub host: Option<Bytes>,
    /// The path.
    pub path: Option<NewPath>,
}

/// What takes the place of a path. The query stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewPath {
    /// This, for every request.
    Whole(PathAndQuery),
    /// This, for what stands before the route's final `**`.
    Prefix {
        /// Bytes that go.
        cut: usize,
        /// What comes; without a slash at its end.
        put: Box<str>,
    },
}

impl NewPath {
    const BYTES_MAX: usize = 1 << 10;
    /// Path and query together, as they can be held.
    const TARGET_BYTES_MAX: usize = 65_000;

    /// Whether the new path and the query are no longer than they can be.
    #[must_use]
    pub fn fits(&self, target: &PathAndQuery) -> bool {
        let put = match self {
            NewPath::Whole(whole) => whole.as_str().len(),
            NewPath::Prefix { put, .. } => put.len(),
        };
        target.as_str().len() + put <= Self::TARGET_BYTES_MAX
    }

    /// What stands in place of a path that the route matches.
    #[must_use]
    pub fn of<'a>(&'a self, path: &'a str) -> Cow<'a, str> {
        match self {
            NewPath::Whole(whole) => whole.path().into(),
            NewPath::Prefix { cut, put } => {
                // What is cut ends before a slash in every path that the pattern matches.
                let rest = path.get(*cut..).unwrap_or("/");
                if put.is_empty() { rest.into() } else { format!("{put}{rest}").into() }
            }
        }
    }

    /// The same with the query; none if that is longer than it can be.
    #[must_use]
    pub fn target(&self, came: &PathAndQuery) -> Option<PathAndQuery> {
        match (self, came.query()) {
            (NewPath::Whole(whole), None) => Some(whole.clone()),
            (_, None) => PathAndQuery::try_from(&*self.of(came.path())).ok(),
            (_, Some(query)) => PathAndQuery::try_from(format!("{}?{query}", self.of(came.path()))).ok(),
        }
    }

    /// Every path that it leads to.
    #[must_use]
    pub fn pattern(&self) -> Option<Pattern> {
        match self {
            NewPath::Whole(whole) => whole.path().parse().ok(),
            NewPath::Prefix { put, .. } => format!("{put}/**").parse().ok(),
        }
    }

    /// `path` or `prefix` of a mapping, for the paths of a route; its pattern is absent where that is a mistake itself.
    pub(super) fn read(map: &mut super::reader::Map<'_>, route: Option<&Pattern>) -> Outcome<Option<Self>> {
        let whole = map.optional("path", whole);
        let prefix = map.optional("prefix", |item| prefix(item, route));
        match (whole?, prefix?) {
            (Some(_), Some(_)) => {
                let complaint = wrong(format!("{} has both `path` and `prefix`", map.item().label()));
                Err(map.item().refuse(complaint.hint("write `prefix` to replace what stands before `**`, `path` to replace all of it")))
            }
            (whole, prefix) => Ok(whole.or(prefix)),
        }
    }

    pub(super) fn fields() -> [schema::Field; 2] {
        // As `normalise` has it: no empty segment, no `.` or `..`, and no escape of what needs none.
        let pattern = r"^(?!.*//)(?!.*/\.\.?[;/])(?!.*/\.\.?$)/[A-Za-z0-9._~!$&'()+,;=:@%/-]*$";
        let path = |description, example| schema::with(schema::text(description, pattern, &[example]), "maxLength", json!(Self::BYTES_MAX));
        [
            optional("path", path("Takes the place of the whole path.", "/v2/items")),
            optional("prefix", path("Takes the place of what stands before the final `**` of the route's path.", "/v2")),
        ]
    }
}

/// A path that is one already.
fn path<'a>(item: &Item<'a>) -> Outcome<&'a Arc<str>> {
    let text = value::string(item)?;
    let complaint = |why: String| wrong(format!("{} is no path: {why}", item.label())).expected("a path such as `/v2/items`");
    if text.contains(['*', '{', '}']) {
        let complaint = complaint("it has a pattern in it".to_owned());
        return Err(item.refuse(complaint.hint("patterns stand in the route's `path`; write `prefix` to keep what its final `**` matches")));
    }
    if text.len() > NewPath::BYTES_MAX {
        return Err(item.refuse(complaint(format!("it has more than {} bytes", NewPath::BYTES_MAX))));
    }
    match normalise(text) {
        Ok(Cow::Borrowed(_)) => Ok(text),
        Ok(Cow::Owned(normal)) => {
            Err(item.refuse(complaint("it is written in another way than it is sent".into()).hint(format!("write `{normal}`"))))
        }
        Err(why) => Err(item.refuse(complaint(format!("it {why}")))),
    }
}

fn whole(item: &Item<'_>) -> Outcome<NewPath> {
    let text = path(item)?;
    PathAndQuery::try_from(&**text).map(NewPath::Whole).map_err(|_| item.refuse(wrong(format!("{} is no path", item.label()))))
}

fn prefix(item: &Item<'_>, route: Option<&Pattern>) -> Outcome<NewPath> {
    let text = path(item)?;
    let put = match text.strip_suffix('/') {
        Some("") | None => text.trim_end_matches('/'),
        Some(bare) => {
            let complaint =
                wrong(format!("{} ends with a slash", item.label())).hint(format!("write `{bare}`: what follows begins with one"));
            return Err(item.refuse(complaint));
        }
    };
    let cut = match route.map(Pattern::before_rest) {
        Some(Some(before)) => before.len(),
        Some(None) => {
            let complaint =
                wrong("`prefix` takes the place of what stands before a final `**`, all of it literal, and the route's path has no such");
            return Err(item.refuse(complaint.hint("end the route's path with `/**` and leave out `{…}` before, or write `path`")));
        }
        None => 0,
    };
    Ok(NewPath::Prefix { cut, put: put.into() })
}

impl Rewrite {
    /// How a request for this path goes up.
    pub(crate) fn show(&self, path: &str) -> String {
        let path = self.path.as_ref().map_or(path.into(), |new| new.of(path));
        match self.host.as_deref().map(String::from_utf8_lossy) {
            Some(host) => format!("`{path}` for host `{host}`"),
            None => format!("`{path}`"),
        }
    }

    pub(super) fn read(item: &Item<'_>, route: Option<&Pattern>) -> Outcome<Self> {
        let mut map = item.map()?;
        let host = map.optional("host", |item| Ok(Bytes::copy_from_slice(value::host(item)?.as_str().as_bytes())));
        let path = NewPath::read(&mut map, route);
        map.finish();
        let rewrite = Self { host: host?, path: path? };
        if rewrite.host.is_none() && rewrite.path.is_none() {
            return Err(item.refuse(wrong("`rewrite` rewrites nothing").expected("`host`, and one of `path` and `prefix`")));
        }
        Ok(rewrite)
    }

    pub(super) fn schema() -> Schema {
        let host = schema::host("The host that the upstream is asked for.");
        let fields = std::iter::once(optional("host", host)).chain(NewPath::fields()).collect();
        let object = schema::object("What is other at the upstream than the client asked for.", fields);
        schema::with(schema::with(object, "minProperties", json!(1)), "not", json!({ "required": ["path", "prefix"] }))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn prefix(pattern: &str, put: &str) -> NewPath {
        let pattern: Pattern = pattern.parse().unwrap();
        NewPath::Prefix { cut: pattern.before_rest().unwrap().len(), put: put.into() }
    }

    #[test]
    fn a_prefix_is_replaced_and_the_rest_stays_as_it_is() {
        for (route, put, came, goes) in [
            ("/v1/**", "/v2", "/v1/items/7?x=%2F..", "/v2/items/7?x=%2F.."),
            ("/v1/**", "/v2", "/v1/", "/v2/"),
            ("/v1/**", "", "/v1/items", "/items"),
            ("/v1/**", "", "/v1/", "/"),
            ("/**", "/api", "/", "/api/"),
            ("/**", "/api", "/v1/%2525?a", "/api/v1/%2525?a"),
            ("/a/b/**", "/c/d/e", "/a/b/x;y=1/", "/c/d/e/x;y=1/"),
        ] {
            let new = prefix(route, put);
            let goes_to = new.target(&came.parse().unwrap()).unwrap();
            assert_eq!(goes_to, goes, "{route} {put} {came}");
            assert_eq!(normalise(goes_to.path()).unwrap(), goes_to.path(), "{came}");
            assert!(new.pattern().unwrap().matches(goes_to.path()), "{came}");
        }
    }

    #[test]
    fn a_whole_path_takes_the_place_of_any_and_the_query_stays() {
        let new = NewPath::Whole(PathAndQuery::from_static("/one"));
        for (came, goes) in [("/a", "/one"), ("/a/b?c", "/one?c"), ("/?", "/one?")] {
            assert_eq!(new.target(&came.parse().unwrap()).unwrap(), goes, "{came}");
        }
    }

    #[test]
    fn what_gets_too_long_is_known_before() {
        let new = prefix("/**", &format!("/{}", "a".repeat(1_000)));
        let target = |bytes: usize| format!("/{}", "b".repeat(bytes)).parse::<PathAndQuery>().unwrap();
        assert!(new.fits(&target(63_000)) && new.target(&target(63_000)).is_some());
        assert!(!new.fits(&target(65_000)));
    }
}
