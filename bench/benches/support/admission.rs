//! What a worker does from an identified request to its receipts, without the sockets around it.

use super::documents::offer;
use super::issuer::Issuer;
use bulkhead_config::compile::Catalogue;
use bulkhead_config::condition::Asked;
use bulkhead_config::decide::{Facts, NoTrace, Permit, decide};
use bulkhead_config::snapshot::Snapshot;
use bulkhead_sidecar::clock::Now;
use bulkhead_sidecar::fields::Fields;
use bulkhead_sidecar::request::authn::{Against, Keys, Memo, Presented, Strangers, Verified, verify};
use bulkhead_sidecar::request::quota::{Ask, Book, Handles, Receipts};
use http::{HeaderMap, Method};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

/// Three limits count each request; all are far away.
const POLICY: &str = "
kind: Tenant
tenant_id: acme_corp
name: ACME Corporation
email: admin@acme.example
hosts: [acme.localhost]
api_quota_per_hour: 4000000000
---
kind: Service
name: demo
listeners:
  - { name: http, address: '127.0.0.1:0' }
upstreams:
  - { name: app, endpoints: ['http://127.0.0.1:4789'] }
routes:
  - { name: health, path: /healthz, access: public }
  - { name: items, path: /v1/items }
  - { name: item, path: '/v1/items/{id}' }
  - { name: reports, path: /v1/reports }
  - { name: admin, path: '/v1/admin/**' }
---
kind: Identity
name: demo
jwt:
  - { issuer: bench, audiences: [demo], algorithms: [EdDSA], jwks: { file: issuer.jwks.json }, tenant_claim: tenant }
---
kind: Role
name: reader
allow: ['GET /v1/items', 'GET /v1/items/{id}', 'GET /v1/reports']
---
kind: Role
name: editor
inherits: [reader]
allow: ['POST,PUT,DELETE /v1/items', 'POST,PUT,DELETE /v1/items/**']
deny: ['DELETE /v1/items/protected']
---
kind: RoleBinding
name: readers
role: reader
subjects:
  - claim: { roles: reader }
---
kind: RoleBinding
name: editors
role: editor
subjects:
  - claim: { roles: editor }
---
kind: QuotaPolicy
name: fair_use
limits:
  - { name: burst, per: tenant, rate: 1000000/s, burst: 1000000 }
  - { name: in_flight, per: tenant, concurrent: 64 }
";
/// What lets the request through.
const RULE: &str = "'POST,PUT,DELETE /v1/items/**'";
const PATH: &str = "/v1/items/4711";
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One worker's state, and one caller whose token it has seen.
pub(crate) struct Admission {
    snapshot: Arc<Snapshot>,
    keys: Keys,
    memo: Memo,
    strangers: Strangers,
    handles: Handles,
    token: String,
    fields: Fields,
}

impl Admission {
    /// With what the rule that lets the request through says under `when`.
    pub(crate) fn new(when: Option<&str>) -> Self {
        let long = when.map(|when| format!("{{ methods: [PUT], paths: ['/v1/items/**'], when: {when} }}"));
        let policy = POLICY.replacen(RULE, long.as_deref().unwrap_or(RULE), 1);
        let snapshot = Catalogue::new().apply(&offer(&policy)).snapshot;
        let issuer = Issuer::new();
        let handles = Handles::new(&Book::new(), snapshot.tenant("acme_corp").unwrap());
        let (keys, token) = (issuer.keys(), issuer.token("user-1"));
        Self { snapshot, keys, memo: Memo::new(), strangers: Strangers::new(), handles, token, fields: Fields::from(&head()) }
    }

    /// Token, decision and limits. Dropping what comes back frees its place in flight.
    pub(crate) fn admit(&mut self, now: Now) -> Receipts {
        let verified = self.verify(now);
        let permit = self.decide(&verified, now);
        self.take(&verified, &permit, now)
    }

    pub(crate) fn verify(&mut self, now: Now) -> Rc<Verified> {
        let named = self.snapshot.tenant_by_host("acme.localhost").map(|slice| &**slice);
        let against = Against { snapshot: &self.snapshot, keys: &self.keys, named, source: SOURCE, now };
        verify(&mut self.memo, &self.strangers, &against, Presented::Bearer(self.token.as_bytes())).unwrap()
    }

    /// The route is found here too: its rules are what is decided by.
    pub(crate) fn decide(&self, verified: &Verified, now: Now) -> Permit {
        let slice = self.snapshot.tenant(verified.tenant().as_str()).unwrap();
        let route = self.snapshot.platform().services().first().and_then(|service| service.route(PATH));
        let principal = Some((verified.principal(), verified.roles(slice.policy())));
        let asked = Asked { host: b"acme.localhost", query: Some("dry_run=no&format=json"), size: Some(0), fields: &self.fields };
        let facts = Facts { route, method: &Method::PUT, path: PATH, source: SOURCE, principal, now: now.unix(), asked };
        decide(slice, &facts, &mut NoTrace).unwrap()
    }

    pub(crate) fn take(&self, verified: &Verified, permit: &Permit, now: Now) -> Receipts {
        let user = Some(&*verified.principal().user);
        let ask = Ask { route: permit.route().index, proven: true, user, api_key: None, source: SOURCE };
        self.handles.take(&ask, now).unwrap()
    }
}

/// Header fields such as a browser or a client library sends.
fn head() -> HeaderMap {
    let fields = [
        ("user-agent", "bench/1.0"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate, br"),
        ("content-type", "application/json"),
        ("authorization", "Bearer e30.e30.e30"),
        ("x-request-id", "0f8fad5b-d9cb-469f-a165-70867728950e"),
        ("x-env", "prod"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    fields.into_iter().map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap())).collect()
}

/// Moments 2 µs apart: twice as far as the narrowest limit needs.
pub(crate) fn moments() -> impl FnMut() -> Now {
    let mut mono_ns = 0;
    move || {
        mono_ns += 2_000;
        Now { mono_ns, unix_ms: 1_800_000_000_000 + mono_ns / 1_000_000 }
    }
}
