//! Probes: whether the sidecar lives, has started and is ready, and what it counted; for kubelet and Prometheus.
//!
//! `/livez`: it runs. `/startupz`: a policy with a service was served. `/readyz`: one is served now and it is not draining.
//! `/metrics`. Upstreams are never asked: a broken upstream must not take the pod's sidecar out of service.

use crate::clock::{Clock, Origin};
use crate::operator_http::{Answer, Handler, Problem, Request, parameters, serve_until};
use crate::telemetry::metrics::{self, Metrics};
use http::{Method, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A worker that ticks ten times a second and did not for so long is stuck: only a restart helps.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What the probes are told.
#[derive(Debug, Default)]
pub struct Health {
    services: AtomicUsize,
    started: AtomicBool,
    draining: AtomicBool,
}

impl Health {
    /// A policy with so many services is served from now on.
    pub fn serves(&self, services: usize) {
        self.services.store(services, Ordering::Relaxed);
        if services > 0 {
            self.started.store(true, Ordering::Relaxed);
        }
    }

    /// No new connections are wanted any more.
    pub fn drains(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether it drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether a policy with a service is served and nobody asked to drain.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.services.load(Ordering::Relaxed) > 0 && !self.is_draining()
    }
}

/// What answers probes.
pub struct Probes {
    /// Told by whoever serves.
    pub health: Arc<Health>,
    /// Told by the workers.
    pub metrics: Arc<Metrics>,
    /// Where the workers' monotonic clocks begin.
    pub origin: Origin,
}

/// Answers probes on a socket until `stop` is ready.
pub async fn run(listener: tokio::net::TcpListener, probes: Probes, stop: impl Future<Output = ()>) {
    serve_until(listener, Arc::new(probes), stop).await;
}

const PATHS: &str = "/livez, /startupz, /readyz, /metrics";

impl Handler for Probes {
    async fn answer(&self, request: Request) -> Answer {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Answer::method_not_allowed(&request.method, "GET, HEAD");
        }
        match request.path.as_str() {
            "/livez" => report("livez", &request.query, workers(&self.metrics.beats(), Clock::new(self.origin).now().mono_ns)),
            "/startupz" => report("startupz", &request.query, vec![self.started()]),
            "/readyz" => report("readyz", &request.query, vec![self.policy(), self.drain()]),
            "/metrics" => self.scrape(&request.query).await,
            path => Answer::unknown_path(path, PATHS),
        }
    }
}

/// Something that must hold, with a word on why it does not.
struct Check {
    name: String,
    failure: Option<String>,
}

fn check(name: &str, holds: bool, otherwise: &str) -> Check {
    Check { name: name.to_owned(), failure: (!holds).then(|| otherwise.to_owned()) }
}

/// By the last tick of each worker; one that has not begun is no failure.
fn workers(beats: &[Option<u64>], now_ns: u64) -> Vec<Check> {
    let failure = |beat: u64| {
        let silence = Duration::from_nanos(now_ns.saturating_sub(beat));
        (silence > SILENCE_MAX).then(|| format!("it has not run for {} s", silence.as_secs()))
    };
    let check = |(worker, beat): (usize, &Option<u64>)| Check { name: format!("worker {worker}"), failure: beat.and_then(failure) };
    beats.iter().enumerate().map(check).collect()
}

impl Probes {
    fn started(&self) -> Check {
        check("started", self.health.started.load(Ordering::Relaxed), "no policy with a service was served yet; the log says why")
    }

    fn policy(&self) -> Check {
        let served = self.health.services.load(Ordering::Relaxed) > 0;
        check("policy", served, "no policy with a service is served; the log and `bulkhead status` say why")
    }

    fn drain(&self) -> Check {
        check("drain", !self.health.is_draining(), "it finishes what it has and takes nothing new")
    }

    async fn scrape(&self, query: &str) -> Answer {
        if let Err(problem) = parameters(query, []) {
            return problem.into();
        }
        if !self.metrics.is_enabled() {
            let detail = "metrics are switched off by `core.metrics.prometheus_enabled: false`".to_owned();
            let fix = "set it to true; it takes effect at once".to_owned();
            return Problem { status: StatusCode::NOT_FOUND, code: "metrics_off", detail, fix }.into();
        }
        let metrics = Arc::clone(&self.metrics);
        // A thousand tenants take milliseconds to write, and this runtime has connections to accept meanwhile.
        let written = tokio::task::spawn_blocking(move || metrics.render().map_err(|cause| cause.to_string())).await;
        match written.unwrap_or_else(|cause| Err(cause.to_string())) {
            Ok(text) => Answer { content_type: metrics::CONTENT_TYPE, ..Answer::text(StatusCode::OK, text) },
            Err(cause) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be written: {cause}\n")),
        }
    }
}

/// The form that Kubernetes' own components answer in: `ok`, or a line per check.
fn report(probe: &str, query: &str, checks: Vec<Check>) -> Answer {
    let verbose = match parameters(query, ["verbose"]) {
        Ok([verbose]) => verbose.is_some_and(|value| value != "false"),
        Err(problem) => return problem.into(),
    };
    let failed = checks.iter().any(|check| check.failure.is_some());
    if !failed && !verbose {
        return Answer::text(StatusCode::OK, "ok\n".to_owned());
    }
    let mut text = String::new();
    for Check { name, failure } in checks {
        match failure {
            None => text += &format!("[+]{name} ok\n"),
            Some(reason) => text += &format!("[-]{name} failed: {reason}\n"),
        }
    }
    let (status, verdict) = if failed { (StatusCode::SERVICE_UNAVAILABLE, "failed") } else { (StatusCode::OK, "passed") };
    Answer::text(status, format!("{text}{probe} check {verdict}\n"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::operator_http::tests::ask;
    use crate::telemetry::metrics::Counted;
    use std::net::SocketAddr;
    use std::num::NonZeroUsize;
    use tokio::net::{TcpListener, TcpStream};

    struct World {
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        address: SocketAddr,
    }

    impl World {
        async fn start(origin: Origin) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let counted = Counted {
                workers: NonZeroUsize::MIN,
                refusals: [].into(),
                upstream_steps: [].into(),
                proxy_headers: [].into(),
                logs: Vec::new(),
            };
            let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::new(counted).unwrap()));
            let probes = Probes { health: Arc::clone(&health), metrics: Arc::clone(&metrics), origin };
            tokio::spawn(run(listener, probes, std::future::pending()));
            Self { health, metrics, address }
        }

        async fn get(&self, path: &str) -> (u16, String) {
            let stream = TcpStream::connect(self.address).await.unwrap();
            ask(stream, &format!("GET {path} HTTP/1.1\r\nhost: probes\r\n\r\n")).await
        }
    }

    #[tokio::test]
    async fn it_is_ready_once_a_service_is_served_until_it_drains() {
        let world = World::start(Origin::begin()).await;
        assert_eq!(world.get("/livez").await, (200, "ok\n".to_owned()));
        for probe in ["startupz", "readyz"] {
            let (status, text) = world.get(&format!("/{probe}")).await;
            assert_eq!(status, 503);
            assert!(text.contains("[-]") && text.ends_with(&format!("{probe} check failed\n")), "{text}");
        }
        world.health.serves(1);
        for probe in ["/startupz", "/readyz", "/readyz?verbose=false"] {
            assert_eq!(world.get(probe).await, (200, "ok\n".to_owned()), "{probe}");
        }
        assert_eq!(world.get("/readyz?verbose").await, (200, "[+]policy ok\n[+]drain ok\nreadyz check passed\n".to_owned()));
        world.health.drains();
        assert_eq!(world.get("/readyz").await.0, 503);
        assert_eq!(world.get("/startupz").await.0, 200);
        assert_eq!(world.get("/livez").await.0, 200);
    }

    #[tokio::test]
    async fn a_policy_without_services_is_not_ready_but_has_started_before() {
        let world = World::start(Origin::begin()).await;
        world.health.serves(1);
        world.health.serves(0);
        assert_eq!(world.get("/startupz").await.0, 200);
        assert_eq!(world.get("/readyz").await.0, 503);
    }

    #[tokio::test]
    async fn a_worker_that_ticks_is_alive() {
        let origin = Origin::begin();
        let world = World::start(origin).await;
        world.metrics.worker(0).unwrap().beat(Clock::new(origin).now().mono_ns);
        assert_eq!(world.get("/livez?verbose").await, (200, "[+]worker 0 ok\nlivez check passed\n".to_owned()));
    }

    #[test]
    fn a_worker_that_stopped_running_fails_liveness() {
        let second = 1_000_000_000;
        for (beat, now, failure) in [
            (None, 100 * second, None),
            (Some(70 * second), 100 * second, None),
            (Some(200 * second), 100 * second, None),
            (Some(58 * second), 100 * second, Some("it has not run for 42 s".to_owned())),
        ] {
            let checks = workers(&[beat], now);
            assert_eq!(checks.into_iter().map(|check| check.failure).collect::<Vec<_>>(), [failure]);
        }
    }

    #[tokio::test]
    async fn metrics_are_served_unless_switched_off() {
        let world = World::start(Origin::begin()).await;
        let (status, text) = world.get("/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains("bulkhead_build_info"));
        world.metrics.enable(false);
        let (status, text) = world.get("/metrics").await;
        assert_eq!(status, 404);
        assert!(text.contains("\"code\":\"metrics_off\""), "{text}");
    }

    #[tokio::test]
    async fn anything_else_is_a_problem_that_says_what_there_is() {
        let world = World::start(Origin::begin()).await;
        let (status, text) = world.get("/").await;
        assert!(status == 404 && text.contains("/readyz"), "{text}");
        assert_eq!(world.get("/livez?verbos").await.0, 400);
        let stream = TcpStream::connect(world.address).await.unwrap();
        assert_eq!(ask(stream, "POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await.0, 405);
    }
}
