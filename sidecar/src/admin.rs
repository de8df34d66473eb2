//! Admin: what an operator asks a running sidecar and tells it, as JSON over HTTP/1.1.
//!
//! On `DIR/admin.sock` (mode 0600), because loopback is shared with the application in the pod; `--admin-port` opens the same on
//! loopback, behind a token. `GET /status`, `GET /config[?tenant=ID][&origin=true]`, `POST /drain`. No secret is ever answered:
//! a snapshot holds none, and settings show theirs redacted.

mod socket;
mod token;

pub use socket::{Socket, SocketError};
pub use token::{Token, TokenError};

use crate::clock::{Clock, Origin};
use crate::operator_http::{Answer, Handler, Problem, Request, parameters, serve};
use crate::probes::Health;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::Metrics;
use bulkhead_config::diagnostic::nearest;
use bulkhead_config::effective::{self, Show};
use bulkhead_config::snapshot::Snapshot;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
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
    /// Begins to drain; answers at once.
    fn drain(&self);
}

/// One setting as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `core.metrics.collection_interval`.
    pub key: String,
    /// Its value; a secret is redacted.
    pub shown: String,
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
pub async fn run<S: Sidecar>(socket: Socket, loopback: Option<Loopback>, admin: Admin<S>) {
    let admin = Arc::new(admin);
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

const PATHS: &str = "/status, /config, /drain";

impl<S: Sidecar> Handler for Admin<S> {
    async fn answer(&self, request: Request) -> Answer {
        let outcome = match (&request.method, request.path.as_str()) {
            (&Method::GET, "/status") => self.status(&request),
            (&Method::GET, "/config") => self.config(&request),
            (&Method::POST, "/drain") => self.drain(&request),
            (method, "/status" | "/config") => return Answer::method_not_allowed(method, "GET"),
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

    fn drain(&self, request: &Request) -> Result<Answer, Problem> {
        let [] = parameters(&request.query, [])?;
        self.log.info("core.sidecar", None, "somebody asked through the admin to drain", &[]);
        self.sidecar.drain();
        Ok(Answer::json(StatusCode::ACCEPTED, &json!({ "draining": true })))
    }
}

fn settings(all: Vec<Setting>, show: Show) -> Value {
    let members = all.into_iter().map(|Setting { key, shown, origin }| match show {
        Show::Values => (key, shown.into()),
        Show::Origins => (key, json!({ "value": shown, "origin": origin })),
    });
    Value::Object(members.collect())
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
    use crate::operator_http::tests::ask;
    use crate::telemetry::log::Level;
    use crate::telemetry::metrics::Counted;
    use crate::telemetry::spool::Sink;
    use bulkhead_config::compile::Catalogue;
    use bulkhead_config::declared::read_file;
    use bulkhead_config::protocol::{Offer, Put};
    use std::num::NonZeroUsize;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::net::{TcpStream, UnixStream};

    struct Fixed {
        snapshot: Arc<Snapshot>,
        drained: Arc<AtomicBool>,
    }

    impl Sidecar for Fixed {
        fn status(&self) -> Map<String, Value> {
            Map::from_iter([("epoch".to_owned(), self.snapshot.epoch().revision.into())])
        }
        fn snapshot(&self) -> Arc<Snapshot> {
            Arc::clone(&self.snapshot)
        }
        fn settings(&self) -> Vec<Setting> {
            let setting = |key: &str, shown: &str| Setting { key: key.to_owned(), shown: shown.to_owned(), origin: "default".to_owned() };
            vec![setting("core.cache.default_ttl", "3600"), setting("core.security.encryption_key", "[redacted]")]
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
            let folder = tempfile::tempdir().unwrap();
            let socket = Socket::open(folder.path()).unwrap();
            let loopback = Loopback::open(0, Token::open(folder.path()).unwrap()).await.unwrap();
            let port = loopback.address().port();
            let counted = Counted { workers: NonZeroUsize::MIN, refusals: &[], upstream_steps: &[], logs: Vec::new() };
            let drained = Arc::new(AtomicBool::new(false));
            let admin = Admin {
                sidecar: Fixed { snapshot: snapshot(), drained: Arc::clone(&drained) },
                health: Arc::new(Health::default()),
                metrics: Arc::new(Metrics::new(counted).unwrap()),
                log: Log::start(Sink::Other(Box::new(std::io::sink())), Level::Info).unwrap(),
                origin: Origin::begin(),
            };
            tokio::spawn(run(socket, Some(loopback), admin));
            Self { folder, port, drained }
        }

        async fn ask(&self, line: &str) -> (u16, Value) {
            let stream = UnixStream::connect(self.folder.path().join("admin.sock")).await.unwrap();
            let (status, body) = ask(stream, &format!("{line} HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\n\r\n")).await;
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
    }

    #[tokio::test]
    async fn config_shows_settings_or_a_tenant_with_the_layer_of_each_value() {
        let world = World::start().await;
        let (_, settings) = world.ask("GET /config").await;
        assert_eq!(settings, json!({ "core.cache.default_ttl": "3600", "core.security.encryption_key": "[redacted]" }));
        let (_, settings) = world.ask("GET /config?origin=true").await;
        assert_eq!(settings["core.cache.default_ttl"], json!({ "value": "3600", "origin": "default" }));
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
