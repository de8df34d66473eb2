//! Security policies into bounds: of several policies the tightest value each; a tenant's may only be tighter.

use super::documents::Documents;
use super::mistake::{Hinted, Mistakes, in_document};
use crate::declared::security::RequestBounds;
use crate::declared::{Document, SecurityPolicy};
use crate::snapshot::{Bounds, Cors, SecurityHeaders};
use crate::unit::show_duration;
use ipnet::IpNet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

/// What the security policies of a scope come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Security {
    pub(super) bounds: Bounds,
    /// What of the bounds the platform's policies write.
    pub(super) written: RequestBounds,
    pub(super) max_staleness: Option<Duration>,
    /// Sorted.
    pub(super) trusted_hops: Vec<IpNet>,
    pub(super) cors: Option<Arc<Cors>>,
    pub(super) security_headers: Option<Arc<SecurityHeaders>>,
}

/// The platform's bounds: where no policy says otherwise, the default.
pub(super) fn of_platform(documents: &Documents, mistakes: &mut Mistakes) -> Security {
    let tightest = |value: fn(&SecurityPolicy) -> Option<u64>| documents.securities().filter_map(|(_, policy)| value(policy)).min();
    let shortest = |value: fn(&SecurityPolicy) -> Option<Duration>| documents.securities().filter_map(|(_, policy)| value(policy)).min();
    let written = RequestBounds {
        header_bytes_max: tightest(|policy| policy.request.header_bytes_max),
        headers_max: documents.securities().filter_map(|(_, policy)| policy.request.headers_max).min(),
        body_bytes_max: tightest(|policy| policy.request.body_bytes_max),
        head_timeout: shortest(|policy| policy.request.head_timeout),
        body_idle_timeout: shortest(|policy| policy.request.body_idle_timeout),
    };
    let mut trusted_hops: Vec<IpNet> = documents.securities().flat_map(|(_, policy)| policy.trusted_hops.iter().copied()).collect();
    trusted_hops.sort();
    trusted_hops.dedup();
    let default = Bounds::DEFAULT;
    Security {
        bounds: Bounds {
            header_bytes_max: written.header_bytes_max.unwrap_or(default.header_bytes_max),
            headers_max: written.headers_max.unwrap_or(default.headers_max),
            body_bytes_max: written.body_bytes_max.unwrap_or(default.body_bytes_max),
            head_timeout: written.head_timeout.unwrap_or(default.head_timeout),
            body_idle_timeout: written.body_idle_timeout.unwrap_or(default.body_idle_timeout),
        },
        written,
        max_staleness: shortest(|policy| policy.max_staleness),
        trusted_hops,
        cors: cors(documents, mistakes),
        security_headers: once(documents, "security_headers", |policy| policy.security_headers.as_ref(), mistakes).cloned().map(Arc::new),
    }
}

/// A tenant's bounds: the platform's, tightened by its own policies.
pub(super) fn of_tenant(platform: &Security, documents: &Documents, mistakes: &mut Mistakes) -> Security {
    let mut own = platform.clone();
    for (document, policy) in documents.securities() {
        let request = &policy.request;
        let mut narrow = Narrow { document, mistakes };
        let (limits, bounds) = (&platform.bounds, &mut own.bounds);
        narrow.to("header_bytes_max", request.header_bytes_max, limits.header_bytes_max, &mut bounds.header_bytes_max, bytes);
        narrow.to("headers_max", request.headers_max, limits.headers_max, &mut bounds.headers_max, u32::to_string);
        narrow.to("body_bytes_max", request.body_bytes_max, limits.body_bytes_max, &mut bounds.body_bytes_max, bytes);
        narrow.to("head_timeout", request.head_timeout, limits.head_timeout, &mut bounds.head_timeout, time);
        narrow.to("body_idle_timeout", request.body_idle_timeout, limits.body_idle_timeout, &mut bounds.body_idle_timeout, time);
        if let Some(written) = policy.max_staleness {
            match platform.max_staleness {
                Some(most) if written > most => narrow.looser("/max_staleness", time(&written), time(&most)),
                _ => own.max_staleness = Some(own.max_staleness.map_or(written, |known| known.min(written))),
            }
        }
    }
    // What a page may read of a tenant's answers is the tenant's to say; rules of two scopes that mix, nobody could foresee.
    if let Some(cors) = cors(documents, mistakes) {
        own.cors = Some(cors);
    }
    own
}

/// The cross-origin rules of a scope. They stand once: which of two should hold, nobody says.
fn cors(documents: &Documents, mistakes: &mut Mistakes) -> Option<Arc<Cors>> {
    once(documents, "cors", |policy| policy.cors.as_ref(), mistakes).map(|cors| Arc::new(Cors::of(cors)))
}

/// What may stand in one policy of a scope only.
fn once<'a, T>(
    documents: &'a Documents,
    key: &str,
    part: impl Fn(&'a SecurityPolicy) -> Option<&'a T>,
    mistakes: &mut Mistakes,
) -> Option<&'a T> {
    let mut all = documents.securities().filter_map(|(document, policy)| Some((document, part(policy)?)));
    let (first, value) = all.next()?;
    for (document, _) in all {
        let message = format!("`{key}` stands in {} already", first.id);
        mistakes.push(in_document(document, &format!("/{key}"), message).hint("keep it in one SecurityPolicy"));
    }
    Some(value)
}

/// One policy of a tenant, tightening one value after the other.
struct Narrow<'a> {
    document: &'a Document,
    mistakes: &'a mut Mistakes,
}

impl Narrow<'_> {
    fn to<T: Ord + Copy>(&mut self, key: &str, written: Option<T>, most: T, own: &mut T, show: fn(&T) -> String) {
        let Some(written) = written else { return };
        if written > most {
            self.looser(&format!("/request/{key}"), show(&written), show(&most));
        } else {
            *own = written.min(*own);
        }
    }

    fn looser(&mut self, pointer: &str, written: impl Display, most: impl Display) {
        let key = pointer.rsplit('/').next().unwrap_or(pointer);
        let message = format!("`{key}: {written}` is looser than the platform's {most}");
        let mistake = in_document(self.document, pointer, message);
        self.mistakes.push(mistake.hint("a tenant's SecurityPolicy may only be tighter than the platform's"));
    }
}

fn bytes(bytes: &u64) -> String {
    crate::unit::show_size(*bytes)
}

fn time(time: &Duration) -> String {
    show_duration(*time)
}
