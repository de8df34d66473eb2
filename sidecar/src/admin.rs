//! Admin: what an operator asks a running sidecar and tells it, as JSON over HTTP/1.1.
//!
//! On `DIR/admin.sock` (mode 0600), because loopback is shared with the application in the pod; `--admin-port` opens the same on
//! loopback, behind a token. `GET /status`, `GET /api-keys?tenant=ID`, `GET /shadow`, `DELETE /shadow`, `GET /config[?tenant=ID]`
//! `[&origin=true]`, `GET /explain?decision=ID`, `POST /explain` with a question, `POST /drain`. No secret is ever answered: a snapshot
//! holds none, and settings show theirs redacted.

mod explain;
mod shadow;
mod socket;
mod token;

pub use explain::Replay;
pub(crate) use socket::listen;
pub use socket::{Socket, SocketError};
pub use token::{Token, TokenError};

use crate::clock::{Clock, Origin};
use crate::operator_http::{Answer, Handler, Problem, Request, parameters, serve};
use crate::probes::Health;
use crate::request::shadow::{Afterwards, Findings};
use crate::telemetry::decisions::DecisionId;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::Metrics;
use bulkhead_config::diagnostic::nearest;
use bulkhead_config::effective::{self, Show};
use bulkhead_config::name::{KeyId, TenantId};
use bulkhead_config::snapshot::Snapshot;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The sidecar that the admin speaks for.
pub trait Sidecar: Send + Sync + 'static {
    /// What is served since when and from where, and what of it is not as declared; an object.
    fn status(&self) -> Map<String, Value>;
    /// What is served now.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// Every setting in effect.
    fn settings(&self) -> Vec<Setting>;
    /// A decision that some worker still remembers.
    fn decision(&self, id: DecisionId) -> impl Future<Output = Option<Replay>> + Send;
    /// When the API keys of a tenant were used last, in milliseconds since 1970-01-01 UTC.
    fn api_key_uses(&self, tenant: TenantId) -> impl Future<Output = HashMap<KeyId, u64>> + Send;
    /// What went on that would have been refused, as far as the workers remember it, and go on remembering.
    fn shadow(&self, afterwards: Afterwards) -> impl Future<Output = Findings> + Send;
    /// Begins to drain; answers at once.
    fn drain(&self);
}

/// One setting as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `core.metrics.collection_interval`.
    pub key: String,
    /// Its value; a secret is redacted.
    pub shown: Value,
    /// The layer that gave it, and where it stands there.
    pub origin: String,
}

/// What answers operators.
pub struct Admin<S> {
    /// Whom it speaks for.
    pub sidecar: S,
    /// What the probes are told.
    pub health: Arc<Health>,
    /// What the workers count.
    pub metrics: Arc<Metrics>,
    /// Where it says that somebody drained the sidecar.
    pub log: Log,
    /// When the process began.
    pub origin: Origin,
}

/// A port on loopback, and what it asks for.
#[derive(Debug)]
pub struct Loopback {
    listener: TcpListener,
    address: SocketAddr,
    token: Token,
}

impl Loopback {
    /// Opens 127.0.0.1 at a port (0: the system chooses).
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn open(port: u16, token: Token) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, token })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Answers on the socket, and on the port if there is one, until it is dropped.
pub async fn run<S: Sidecar>(socket: Socket, loopback: Option<Loopback>, admin: Arc<Admin<S>>) {
    let Socket { listener, hold: _hold } = socket;
    let on_socket = serve(listener, Arc::clone(&admin));
    match loopback {
        None => on_socket.await,
        Some(Loopback { listener, address, token }) => {
            let guarded = Arc::new(Guarded { admin, token, port: address.port() });
            tokio::join!(on_socket, serve(listener, guarded));
        }
    }
}

/// Documents in shadow that status lists; it says how many there are.
const IN_SHADOW_MAX: usize = 100;

const PATHS: &str = "/status, /api-keys, /shadow, /config, /explain, /drain";

impl<S: Sidecar> Handler for Admin<S> {
    async fn answer(&self, request: Request) -> Answer {
        let outcome = match (&request.method, request.path.as_str()) {
            (&Method::GET, "/status") => self.status(&request),
            (&Method::GET, "/api-keys") => self.api_keys(&request).await,
            (&Method::GET, "/shadow") => self.shadow(&request, Afterwards::Kept).await,
            (&Method::DELETE, "/shadow") => self.shadow(&request, Afterwards::Forgotten).await,
            (&Method::GET, "/config") => self.config(&request),
            (&Method::GET, "/explain") => self.explain_decision(&request).await,
            (&Method::POST, "/explain") => self.explain_question(&request),
            (&Method::POST, "/drain") => self.drain(&request),
            (method, "/status" | "/api-keys" | "/config") => return Answer::method_not_allowed(method, "GET"),
            (method, "/shadow") => return Answer::method_not_allowed(method, "GET, DELETE"),
            (method, "/explain") => return Answer::method_not_allowed(method, "GET, POST"),
            (method, "/drain") => return Answer::method_not_allowed(method, "POST"),
            (_, path) => return Answer::unknown_path(path, PATHS),
        };
        outcome.unwrap_or_else(Answer::from)
    }
}

impl<S: Sidecar> Admin<S> {
    fn status(&self, request: &Request) -> Result<Answer, Problem> {
        let [] = parameters(&request.query, [])?;
        let mut status = self.sidecar.status();
        let uptime = Clock::new(self.origin).now().mono_ns / 1_000_000_000;
        let dropped: Map<_, _> = self.metrics.dropped().map(|(log, lines)| (log.to_owned(), lines.into())).collect();
        let process = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_seconds": uptime,
            "ready": self.health.is_ready(),
            "draining": self.health.is_draining(),
            "workers": self.metrics.beats().len(),
            "connections": self.metrics.connections(),
            "log_lines_dropped": dropped,
        });
        status.insert("process".to_owned(), process);
        let in_shadow = self.sidecar.snapshot().in_shadow();
        status.insert("in_shadow_count".to_owned(), in_shadow.len().into());
        status.insert("in_shadow".to_owned(), in_shadow.into_iter().take(IN_SHADOW_MAX).collect());
        Ok(Answer::json(StatusCode::OK, &Value::Object(status)))
    }

    fn config(&self, request: &Request) -> Result<Answer, Problem> {
        let [tenant, origin] = parameters(&request.query, ["tenant", "origin"])?;
        let show = match origin.as_deref() {
            None | Some("false") => Show::Values,
            Some("true") => Show::Origins,
            Some(other) => return Err(not_a_truth("origin", other)),
        };
        let Some(id) = tenant else { return Ok(Answer::json(StatusCode::OK, &settings(self.sidecar.settings(), show))) };
        let snapshot = self.sidecar.snapshot();
        let slice = snapshot.tenant(&id).ok_or_else(|| unknown_tenant(&id, &snapshot))?;
        Ok(Answer::json(StatusCode::OK, &effective::of(&snapshot, slice, show)))
    }

    async fn api_keys(&self, request: &Request) -> Result<Answer, Problem> {
        let [tenant] = parameters(&request.query, ["tenant"])?;
        let id = tenant.ok_or_else(|| missing("the query names no tenant", "add `?tenant=ID`"))?;
        let snapshot = self.sidecar.snapshot();
        let slice = snapshot.tenant(&id).ok_or_else(|| unknown_tenant(&id, &snapshot))?;
        let uses = self.sidecar.api_key_uses(slice.id().clone()).await;
        let now = Clock::new(self.origin).now();
        let revoked = |id: &KeyId| slice.policy().revoked().is_some_and(|revoked| revoked.has_api_key(id) || revoked.has_user(id.as_str()));
        let keys = slice.policy().api_keys().map(|(id, key)| {
            json!({
                "id": id.as_str(),
                "expires": key.expires.and_then(|at| jiff::Timestamp::from_second(at).ok()).map(|at| at.to_string()),
                "is_expired": key.expires.is_some_and(|at| at <= now.unix()),
                "is_revoked": revoked(id),
                "seconds_since_use": uses.get(id).map(|at| now.unix_ms.saturating_sub(*at) / 1_000),
            })
        });
        let told = json!({
            "tenant": slice.id().as_str(),
            "api_keys": keys.collect::<Vec<_>>(),
            "uses_are_known_for_seconds": now.mono_ns / 1_000_000_000,
        });
        Ok(Answer::json(StatusCode::OK, &told))
    }

    /// What is forgotten is told once more, so that nothing is lost between a look and its end.
    async fn shadow(&self, request: &Request, afterwards: Afterwards) -> Result<Answer, Problem> {
        let [] = parameters(&request.query, [])?;
        let found = self.sidecar.shadow(afterwards).await;
        if afterwards == Afterwards::Forgotten {
            self.log.info("core.sidecar", None, "somebody asked through the admin to forget what was found in shadow", &[]);
        }
        let now = Clock::new(self.origin).now();
        let (since, known_for) = match found.since_ms {
            None | Some(0) => ("start", now.mono_ns / 1_000_000_000),
            Some(at) => ("reset", now.unix_ms.saturating_sub(at) / 1_000),
        };
        let report = shadow::with(shadow::report(&found), "known_for_seconds", known_for.into());
        Ok(Answer::json(StatusCode::OK, &shadow::with(report, "since", since.into())))
    }

    async fn explain_decision(&self, request: &Request) -> Result<Answer, Problem> {
        let [decision] = parameters(&request.query, ["decision"])?;
        let bad = |code, status, detail: String, fix: &str| Problem { status, code, detail, fix: fix.to_owned() };
        let text = decision.ok_or_else(|| missing("the query names no decision", "add `?decision=d-…`, or POST a question"))?;
        let id = text.parse::<DecisionId>().map_err(|why| {
            bad("invalid_parameter", StatusCode::BAD_REQUEST, why.to_string(), "copy `decision_id` from the answer, or from the access log")
        })?;
        let replay = self.sidecar.decision(id).await.ok_or_else(|| {
            let fix = "each worker keeps its latest 1,024 refusals and 256 allowed requests; send the request again, or describe it";
            bad("unknown_decision", StatusCode::NOT_FOUND, format!("no decision `{id}` is remembered here"), fix)
        })?;
        Ok(Answer::json(StatusCode::OK, &explain::decision(&self.sidecar.snapshot(), &replay)))
    }

    fn explain_question(&self, request: &Request) -> Result<Answer, Problem> {
        let [] = parameters(&request.query, [])?;
        let now = Clock::new(self.origin).now().unix();
        Ok(Answer::json(StatusCode::OK, &explain::question(&self.sidecar.snapshot(), &request.body, now)?))
    }

    fn drain(&self, request: &Request) -> Result<Answer, Problem> {
        let [] = parameters(&request.query, [])?;
        self.log.info("core.sidecar", None, "somebody asked through the admin to drain", &[]);
        self.sidecar.drain();
        Ok(Answer::json(StatusCode::ACCEPTED, &json!({ "draining": true })))
    }
}

fn settings(all: Vec<Setting>, show: Show) -> Value {
    let members = all.into_iter().map(|Setting { key, shown, origin }| match show {
        Show::Values => (key, shown),
        Show::Origins => (key, json!({ "value": shown, "origin": origin })),
    });
    Value::Object(members.collect())
}

fn missing(detail: &str, fix: &str) -> Problem {
    let status = StatusCode::BAD_REQUEST;
    Problem { status, code: "missing_parameter", detail: detail.to_owned(), fix: fix.to_owned() }
}

fn not_a_truth(parameter: &str, found: &str) -> Problem {
    Problem {
        status: StatusCode::BAD_REQUEST,
        code: "invalid_parameter",
        detail: format!("`{parameter}={found}` is neither true nor false"),
        fix: format!("write `{parameter}=true`"),
    }
}

fn unknown_tenant(id: &str, snapshot: &Snapshot) -> Problem {
    let near = nearest(id, snapshot.tenants().map(|slice| slice.id().as_str()));
    let fix = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "declare it with a Tenant document".to_owned(),
    };
    Problem { status: StatusCode::NOT_FOUND, code: "unknown_tenant", detail: format!("there is no tenant `{id}`"), fix }
}

/// The admin behind a token.
struct Guarded<S> {
    admin: Arc<Admin<S>>,
    token: Token,
    port: u16,
}

impl<S: Sidecar> Handler for Guarded<S> {
    async fn answer(&self, request: Request) -> Answer {
        match self.token.admits(&request.headers, self.port) {
            Ok(()) => self.admin.answer(request).await,
            Err(problem) => problem.into(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::operator_http::tests::ask;
    use crate::telemetry::decisions::{Decisions, Ids};
    use crate::telemetry::log::Level;
    use crate::telemetry::metrics::Counted;
    use crate::telemetry::spool::Sink;
    use bulkhead_config::compile::Catalogue;
    use bulkhead_config::declared::read_file;
    use bulkhead_config::protocol::{Offer, Put};
    use bulkhead_config::snapshot::{Credential, Principal, RoleSet};
    use std::num::NonZeroUsize;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::net::{TcpStream, UnixStream};

    struct Fixed {
        snapshot: Arc<Snapshot>,
        drained: Arc<AtomicBool>,
        remembered: Vec<Replay>,
    }

    impl Sidecar for Fixed {
        fn status(&self) -> Map<String, Value> {
            Map::from_iter([("epoch".to_owned(), self.snapshot.epoch().revision.into())])
        }
        fn snapshot(&self) -> Arc<Snapshot> {
            Arc::clone(&self.snapshot)
        }
        fn settings(&self) -> Vec<Setting> {
            let setting = |key: &str, shown: Value| Setting { key: key.to_owned(), shown, origin: "default".to_owned() };
            vec![setting("core.cache.default_ttl", 3_600.into()), setting("core.security.encryption_key", "[redacted]".into())]
        }
        async fn decision(&self, id: DecisionId) -> Option<Replay> {
            self.remembered.iter().find(|replay| replay.id == id).cloned()
        }
        async fn api_key_uses(&self, tenant: TenantId) -> HashMap<KeyId, u64> {
            assert_eq!(tenant.as_str(), "acme_corp");
            HashMap::new()
        }
        async fn shadow(&self, afterwards: Afterwards) -> Findings {
            Findings { requests: u64::from(afterwards == Afterwards::Forgotten), since_ms: Some(1), ..Findings::default() }
        }
        fn drain(&self) {
            self.drained.store(true, Ordering::Relaxed);
        }
    }

    struct World {
        folder: tempfile::TempDir,
        port: u16,
        drained: Arc<AtomicBool>,
    }

    impl World {
        async fn start() -> Self {
            Self::remembering(snapshot(), Vec::new()).await
        }

        async fn remembering(snapshot: Arc<Snapshot>, remembered: Vec<Replay>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let socket = Socket::open(folder.path()).unwrap();
            let loopback = Loopback::open(0, Token::open(folder.path()).unwrap()).await.unwrap();
            let port = loopback.address().port();
            let counted = Counted {
                workers: NonZeroUsize::MIN,
                refusals: [].into(),
                upstream_steps: [].into(),
                proxy_headers: [].into(),
                logs: Vec::new(),
            };
            let drained = Arc::new(AtomicBool::new(false));
            let admin = Admin {
                sidecar: Fixed { snapshot, drained: Arc::clone(&drained), remembered },
                health: Arc::new(Health::default()),
                metrics: Arc::new(Metrics::new(counted).unwrap()),
                log: Log::start(Sink::Other(Box::new(std::io::sink())), Level::Info).unwrap(),
                origin: Origin::begin(),
            };
            tokio::spawn(run(socket, Some(loopback), Arc::new(admin)));
            Self { folder, port, drained }
        }

        async fn ask(&self, line: &str) -> (u16, Value) {
            self.send(line, "").await
        }

        async fn send(&self, line: &str, body: &str) -> (u16, Value) {
            let stream = UnixStream::connect(self.folder.path().join("admin.sock")).await.unwrap();
            let head = format!("{line} HTTP/1.1\r\nhost: admin\r\ncontent-length: {}\r\n\r\n", body.len());
            let (status, body) = ask(stream, &(head + body)).await;
            (status, serde_json::from_str(&body).unwrap())
        }

        fn token(&self) -> String {
            std::fs::read_to_string(self.folder.path().join("admin.token")).unwrap()
        }
    }

    fn snapshot() -> Arc<Snapshot> {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/samples");
        let mut offer = Offer { complete: true, ..Offer::default() };
        for name in ["platform.yaml", "tenants/acme_corp.yaml", "tenants/globex.yaml"] {
            let text = std::fs::read_to_string(samples.join(name)).unwrap();
            let file = read_file(name, &text);
            offer.put.extend(file.documents.into_iter().map(|document| Put { document, text: text.as_str().into() }));
        }
        Catalogue::new().apply(&offer).snapshot
    }

    #[tokio::test]
    async fn status_says_what_is_served_and_by_what() {
        let world = World::start().await;
        let (status, text) = world.ask("GET /status").await;
        assert_eq!(status, 200);
        assert_eq!(text["epoch"], 1);
        assert_eq!(text["process"]["workers"], 1);
        assert_eq!(text["process"]["draining"], false);
        assert_eq!((&text["in_shadow"], &text["in_shadow_count"]), (&json!([]), &json!(0)));
    }

    #[tokio::test]
    async fn what_was_found_in_shadow_is_told_and_forgotten_only_when_it_is_deleted() {
        let world = World::start().await;
        for (line, requests) in [("GET /shadow", 0), ("DELETE /shadow", 1)] {
            let (status, told) = world.ask(line).await;
            assert_eq!((status, &told["requests"], &told["since"]), (200, &json!(requests), &json!("reset")), "{line}");
        }
        assert_eq!(world.ask("POST /shadow").await.0, 405);
    }

    #[tokio::test]
    async fn config_shows_settings_or_a_tenant_with_the_layer_of_each_value() {
        let world = World::start().await;
        let (_, settings) = world.ask("GET /config").await;
        assert_eq!(settings, json!({ "core.cache.default_ttl": 3600, "core.security.encryption_key": "[redacted]" }));
        let (_, settings) = world.ask("GET /config?origin=true").await;
        assert_eq!(settings["core.cache.default_ttl"], json!({ "value": 3600, "origin": "default" }));
        let (_, tenant) = world.ask("GET /config?tenant=acme_corp").await;
        assert_eq!(tenant["api_quota_per_hour"], 50_000);
        let (_, tenant) = world.ask("GET /config?origin=true&tenant=globex").await;
        assert_eq!(tenant["api_quota_per_hour"], json!({ "value": 1_000, "origin": "plan" }));
        assert_eq!(world.ask("GET /config?origin=maybe").await.0, 400);
    }

    #[tokio::test]
    async fn an_unknown_tenant_is_not_found_never_shown_as_defaults() {
        let world = World::start().await;
        let (status, problem) = world.ask("GET /config?tenant=acme_crop").await;
        assert_eq!(status, 404);
        assert_eq!(problem["code"], "unknown_tenant");
        assert_eq!(problem["fix"], "did you mean `acme_corp`?");
    }

    #[tokio::test]
    async fn api_keys_of_a_tenant_are_listed_without_their_hashes() {
        let world = World::start().await;
        let (_, told) = world.ask("GET /api-keys?tenant=acme_corp").await;
        let ci =
            json!({ "id": "ci", "expires": "2027-06-30T00:00:00Z", "is_expired": false, "is_revoked": false, "seconds_since_use": null });
        assert_eq!((&told["tenant"], &told["api_keys"]), (&json!("acme_corp"), &json!([ci])));
        for (line, status, code) in [("GET /api-keys", 400, "missing_parameter"), ("GET /api-keys?tenant=x", 404, "unknown_tenant")] {
            let (answered, problem) = world.ask(line).await;
            assert_eq!((answered, &problem["code"]), (status, &json!(code)), "{line}");
        }
    }

    #[tokio::test]
    async fn a_described_request_is_explained() {
        let world = World::start().await;
        let question = r#"{"method": "DELETE", "path": "/v1/items/7", "tenant": "acme_corp", "roles": ["reader"]}"#;
        let (status, told) = world.send("POST /explain", question).await;
        assert_eq!(status, 200);
        assert_eq!((&told["verdict"], &told["code"]), (&json!("refused"), &json!("not_permitted")));
        let (status, problem) = world.send("POST /explain", r#"{"method": "GET"}"#).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_question")));
    }

    /// A reader of acme_corp who asked to delete an item, as a worker remembers it.
    fn replay(snapshot: &Snapshot, refusal: Option<(&'static str, StatusCode)>) -> Replay {
        let slice = snapshot.tenant("acme_corp").unwrap();
        let reader = slice.policy().roles().iter().position(|role| role.name.as_str() == "reader").unwrap();
        let credential = Credential::ApiKey("ci".parse().unwrap());
        Replay {
            id: Decisions::<()>::new(Ids::new().unwrap(), 0).name(),
            at: Now { mono_ns: 0, unix_ms: 1_795_632_660_007 },
            source: [127, 0, 0, 1].into(),
            method: Method::DELETE,
            host: "acme.localhost".to_owned(),
            path: "/v1/items/7".to_owned(),
            path_is_cut: false,
            route: snapshot.platform().services()[0].route("/v1/items/7").cloned(),
            slice: Some(Arc::clone(slice)),
            principal: Some((Principal { user: "ci".into(), credential }, RoleSet::EMPTY.with(reader))),
            refusal,
            kept: None,
            why: None,
            is_passed: false,
            lasted: None,
            epoch: snapshot.epoch(),
        }
    }

    #[tokio::test]
    async fn a_remembered_decision_is_explained_by_what_it_was_made_on() {
        let snapshot = snapshot();
        let by_rules = replay(&snapshot, Some(("not_permitted", StatusCode::FORBIDDEN)));
        let why = Some("the limit `fair_use.burst` is used up".to_owned());
        let by_quota = Replay { method: Method::GET, why, ..replay(&snapshot, Some(("quota_exceeded", StatusCode::TOO_MANY_REQUESTS))) };
        let by_token = Replay { principal: None, ..replay(&snapshot, Some(("invalid_token", StatusCode::UNAUTHORIZED))) };
        let nobodys = Replay { slice: None, ..replay(&snapshot, Some(("unknown_tenant", StatusCode::NOT_FOUND))) };
        let lasted = Some(std::time::Duration::from_millis(2_500));
        let ended = Replay { lasted, ..replay(&snapshot, Some(("not_permitted", StatusCode::FORBIDDEN))) };
        let allowed = Replay { method: Method::GET, ..replay(&snapshot, None) };
        let cases = [
            (by_rules, "not_permitted", "editor"),
            (by_quota, "quota_exceeded", "`quota_exceeded`: the limit `fair_use.burst` is used up; the rules allow it"),
            (by_token, "invalid_token", "before the rules were asked"),
            (nobodys, "unknown_tenant", "before a tenant was known"),
            (ended, "not_permitted", "it was allowed, and ended after 2.5s, when it would have been refused"),
            (allowed, "", "GET /v1/items/{id}"),
        ];
        let world = World::remembering(snapshot, cases.iter().map(|(replay, ..)| replay.clone()).collect()).await;
        for (replay, code, words) in cases {
            let (status, told) = world.ask(&format!("GET /explain?decision={}", replay.id)).await;
            assert_eq!(status, 200);
            assert_eq!(told["code"], if code.is_empty() { Value::Null } else { code.into() }, "{told}");
            assert_eq!(told["verdict"], if code.is_empty() { "allowed" } else { "refused" });
            assert_eq!(told["status"].as_u64(), replay.refusal.map(|(_, status)| status.as_u16().into()));
            assert_eq!(told["decision"]["id"], replay.id.to_string());
            assert_eq!(told["decision"]["at"], "2026-11-25T18:51:00.007Z");
            assert!(told.to_string().contains(words), "`{words}` is not in {told}");
        }
    }

    #[tokio::test]
    async fn a_decision_nobody_remembers_is_not_found() {
        let world = World::start().await;
        for (query, status, code) in [
            ("?decision=d-0123456789abcdef", 404, "unknown_decision"),
            ("?decision=nonsense", 400, "invalid_parameter"),
            ("", 400, "missing_parameter"),
        ] {
            let (answered, problem) = world.ask(&format!("GET /explain{query}")).await;
            assert_eq!((answered, &problem["code"]), (status, &json!(code)), "{query}");
        }
    }

    #[tokio::test]
    async fn drain_is_asked_with_post_alone() {
        let world = World::start().await;
        assert_eq!(world.ask("GET /drain").await.0, 405);
        assert!(!world.drained.load(Ordering::Relaxed));
        assert_eq!(world.ask("POST /drain").await.0, 202);
        assert!(world.drained.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn the_port_answers_only_with_the_token() {
        let world = World::start().await;
        for (host, token, status) in [
            (format!("localhost:{}", world.port), world.token(), 200),
            (format!("localhost:{}", world.port), "wrong".to_owned(), 401),
            ("rebound.example".to_owned(), world.token(), 421),
        ] {
            let stream = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
            let head = format!("GET /status HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\n\r\n", token.trim());
            assert_eq!(ask(stream, &head).await.0, status, "{host}");
        }
    }
}
