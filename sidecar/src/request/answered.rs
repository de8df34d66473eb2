//! Answered: what a route says that is answered here, and how a request goes up that a route rewrites.
//!
//! Cost: nothing for routes without either; else the new path or the location, written once.

use super::head::{Head, Target};
use super::outgoing::Outgoing;
use super::respond::Own;
use bulkhead_config::snapshot::{Answered, Came, Rewrite, Scheme};
use bytes::Bytes;
use http::uri::PathAndQuery;
use std::sync::Arc;

/// What is other at the upstream than the client asked for.
#[derive(Debug)]
pub struct SentAs {
    /// The host.
    pub host: Option<Bytes>,
    /// Path and query.
    pub target: Option<PathAndQuery>,
}

impl SentAs {
    /// The host, as text.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref().and_then(|host| std::str::from_utf8(host).ok())
    }

    /// The path alone.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.target.as_ref().map(PathAndQuery::path)
    }
}

/// The answer of a route that has one; none for a request that is where the route would send it.
#[must_use]
pub fn own(answered: &Answered, head: &Head, scheme: Scheme) -> Option<Own> {
    match answered {
        Answered::Respond(respond) => Some(Own::Respond(Arc::clone(respond))),
        Answered::Redirect(redirect) => {
            let Target::Path(target) = &head.target else { return None };
            let came = Came { scheme, host: head.host.as_str(), port: head.host.port(), target };
            redirect.location(&came).map(|location| Own::Redirect(Box::new((redirect.status, location))))
        }
    }
}

/// Rewrites a request. That its target fits was asked before (`admit`).
pub fn rewrite(rewrite: &Rewrite, request: &mut Outgoing) -> SentAs {
    let sent = SentAs { host: rewrite.host.clone(), target: rewrite.path.as_ref().and_then(|new| new.target(&request.path)) };
    if let Some(target) = &sent.target {
        request.path = target.clone();
    }
    if let Some(host) = &sent.host {
        request.host = host.clone();
    }
    sent
}
