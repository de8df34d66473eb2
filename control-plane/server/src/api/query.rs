//! The query of a request: each parameter once, and only those that the operation knows.

use super::answer::shown;
use crate::problem::Problem;
use bulkhead_config::diagnostic::nearest;
use http::StatusCode;
use http::request::Parts;
use std::collections::BTreeMap;

/// Parameters by name.
#[derive(Debug)]
pub(crate) struct Query(BTreeMap<String, String>);

/// Entries of a page, unless asked otherwise.
const PAGE: usize = 100;
/// Entries of a page at the most.
pub(crate) const PAGE_MAX: usize = 1_000;

impl Query {
    /// The query of a request that may have these parameters.
    pub(crate) fn of(head: &Parts, known: &[&str]) -> Result<Self, Problem> {
        let mut parameters = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()) {
            if !known.contains(&&*name) {
                let problem = wrong(format!("there is no parameter {}", shown(&name)));
                return Err(match nearest(&name, known.iter().copied()) {
                    Some(near) => problem.fix(format!("did you mean `{near}`?")),
                    None if known.is_empty() => problem.fix("this operation takes no parameters"),
                    None => problem.fix(format!("there are {}", known.join(", "))),
                });
            }
            if parameters.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(wrong(format!("the parameter `{name}` stands twice")).fix("send it once"));
            }
        }
        Ok(Self(parameters))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// `true` or `false`; absent is false.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(wrong(format!("`{name}` is {}", shown(other))).fix("write `true` or `false`")),
        }
    }

    /// A whole number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let parse = |text: &str| text.parse().map_err(|_| wrong(format!("`{name}` is {}", shown(text))).fix("write a whole number from 0"));
        self.get(name).map(parse).transpose()
    }

    /// Entries of a page.
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        match self.number("limit")? {
            None => Ok(PAGE),
            Some(limit) => match usize::try_from(limit) {
                Ok(limit @ 1..=PAGE_MAX) => Ok(limit),
                _ => Err(wrong(format!("`limit` is {limit}")).fix(format!("write a number from 1 to {PAGE_MAX}"))),
            },
        }
    }
}

/// 400: the query is wrong.
pub(crate) fn wrong(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_parameter", detail)
}
