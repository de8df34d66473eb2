//! Metrics: what Prometheus reads on `/metrics`, summed over the workers at each scrape.
//!
//! A worker writes cells of its own (`cells.rs`); a scrape adds them up on the control runtime (`collect.rs`). A tenant's
//! series are born at its first request; at most 1,000 tenants of a process have their own, all others share `other`, exactly:
//! the sum over `tenant_id` is the number of requests. A tenant keeps its series for as long as the process lives.

mod cells;
mod collect;
mod series;

pub use cells::{MemoTally, WorkerCells};
pub use series::{MethodClass, Series, StatusClass, TENANTS_MAX};

use crate::identity::{KeySetFacts, Outcome};
use crate::request::upstream::fleet::Fleet;
use crate::telemetry::spool::Dropped;
use crate::telemetry::system;
use arc_swap::ArcSwap;
use bulkhead_config::name::TenantId;
use bulkhead_config::protocol::Quarantined;
use bulkhead_config::snapshot::Epoch;
use series::Table;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Part of its hourly API quota that a tenant used, 0 to 1; `None` when it has none.
pub type ApiQuotaUsage = Box<dyn Fn(&TenantId) -> Option<f64> + Send + Sync>;

/// What a process counts. The lists are the only values their labels can have besides `other`.
pub struct Counted {
    /// How many workers write cells.
    pub workers: NonZeroUsize,
    /// Codes of our own answers.
    pub refusals: Arc<[&'static str]>,
    /// Steps at which an upstream can fail.
    pub upstream_steps: Arc<[&'static str]>,
    /// Why a connection may end before its first byte was served.
    pub proxy_headers: Arc<[&'static str]>,
    /// Drop counters of logs, by name.
    pub logs: Vec<(&'static str, Dropped)>,
}

/// Everything that is counted in this process.
pub struct Metrics {
    facts: Arc<Facts>,
    registry: prometheus::Registry,
}

/// What a scrape reads.
struct Facts {
    series: Table,
    workers: Box<[Arc<WorkerCells>]>,
    refusals: Arc<[&'static str]>,
    upstream_steps: Arc<[&'static str]>,
    proxy_headers: Arc<[&'static str]>,
    logs: Vec<(&'static str, Dropped)>,
    api_quota_usage: OnceLock<ApiQuotaUsage>,
    fleet: OnceLock<Arc<Fleet>>,
    panics: AtomicU64,
    policy: ArcSwap<PolicyFacts>,
    key_sets: ArcSwap<Vec<KeySetFacts>>,
    /// By [`Outcome`].
    key_set_looks: [AtomicU64; Outcome::LABELS.len()],
    /// Answered, failed.
    introspections: [AtomicU64; 2],
    system: ArcSwap<system::Reading>,
    enabled: AtomicBool,
    interval_ms: AtomicU64,
}

/// The policy as metrics show it.
struct PolicyFacts {
    epoch: Epoch,
    /// Parts in quarantine, by name, at most [`PARTS_MAX`]; the rest only counted.
    parts: Vec<String>,
    more: usize,
}

/// Parts in quarantine that are named.
const PARTS_MAX: usize = 100;

impl Metrics {
    /// Nothing counted yet.
    ///
    /// # Errors
    /// When two families of ours contradict each other; a test shows that they do not.
    pub fn new(counted: Counted) -> Result<Self, prometheus::Error> {
        let Counted { workers, refusals, upstream_steps, proxy_headers, logs } = counted;
        let cells = (0..workers.get()).map(|_| Arc::new(WorkerCells::new(&refusals, &upstream_steps, &proxy_headers))).collect();
        let facts = Arc::new(Facts {
            series: Table::new(workers),
            workers: cells,
            refusals,
            upstream_steps,
            proxy_headers,
            logs,
            api_quota_usage: OnceLock::new(),
            fleet: OnceLock::new(),
            panics: AtomicU64::new(0),
            policy: ArcSwap::from_pointee(PolicyFacts { epoch: Epoch { incarnation: 0, revision: 0 }, parts: Vec::new(), more: 0 }),
            key_sets: ArcSwap::default(),
            key_set_looks: Default::default(),
            introspections: Default::default(),
            system: ArcSwap::from_pointee(system::Reading::default()),
            enabled: AtomicBool::new(true),
            interval_ms: AtomicU64::new(30_000),
        });
        let registry = prometheus::Registry::new();
        registry.register(Box::new(collect::Collector::new(Arc::clone(&facts))?))?;
        Ok(Self { facts, registry })
    }

    /// The cells of one worker, of those counted at the start.
    #[must_use]
    pub fn worker(&self, worker: usize) -> Option<Arc<WorkerCells>> {
        self.facts.workers.get(worker).cloned()
    }

    /// Where one worker records the requests of one tenant; to be resolved once, not per request.
    #[must_use]
    pub fn series(&self, worker: usize, tenant: &TenantId) -> Series {
        self.facts.series.of(worker, tenant)
    }

    /// Who knows how much of its API quota a tenant used. Asked at a scrape; the first answerer stays.
    pub fn api_quota_usage_from(&self, usage: ApiQuotaUsage) {
        let _ = self.facts.api_quota_usage.set(usage);
    }

    /// Who knows the upstreams. Asked at a scrape; the first answerer stays.
    pub fn upstreams_from(&self, fleet: Arc<Fleet>) {
        let _ = self.facts.fleet.set(fleet);
    }

    /// The policy that is served, and what of it is not as declared.
    pub fn policy(&self, epoch: Epoch, quarantined: &[Quarantined]) {
        let parts = quarantined.iter().take(PARTS_MAX).map(|quarantined| quarantined.part.to_string()).collect();
        let more = quarantined.len().saturating_sub(PARTS_MAX);
        self.facts.policy.store(Arc::new(PolicyFacts { epoch, parts, more }));
    }

    /// How the key sets are that are fetched.
    pub(crate) fn key_sets(&self, facts: Arc<Vec<KeySetFacts>>) {
        self.facts.key_sets.store(facts);
    }

    /// A key set was looked at.
    pub(crate) fn key_set_looked_at(&self, outcome: Outcome) {
        if let Some(count) = self.facts.key_set_looks.get(outcome as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A server was asked about a token.
    pub(crate) fn introspected(&self, is_answered: bool) {
        let [answered, failed] = &self.facts.introspections;
        if is_answered { answered } else { failed }.fetch_add(1, Ordering::Relaxed);
    }

    /// A panic was caught.
    pub fn panicked(&self) {
        self.facts.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether `/metrics` answers; `core.metrics.prometheus_enabled`.
    pub fn enable(&self, enabled: bool) {
        self.facts.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Whether `/metrics` answers.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.facts.enabled.load(Ordering::Relaxed)
    }

    /// How often the system is read; `core.metrics.collection_interval`, at least a second.
    pub fn collect_every(&self, interval: Duration) {
        let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        self.facts.interval_ms.store(millis.max(1_000), Ordering::Relaxed);
    }

    /// How often the system is read.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.facts.interval_ms.load(Ordering::Relaxed))
    }

    /// What the system showed last.
    pub(crate) fn system(&self, reading: system::Reading) {
        self.facts.system.store(Arc::new(reading));
    }

    /// When each worker last said that it runs, by its monotonic clock in nanoseconds; `None` for one that has not begun.
    #[must_use]
    pub fn beats(&self) -> Vec<Option<u64>> {
        self.facts.workers.iter().map(|worker| worker.last_beat()).collect()
    }

    /// Lines dropped of each log.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.facts.logs.iter().map(|(log, dropped)| (*log, dropped.lines()))
    }

    /// Connections open now, on all workers.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.facts.workers.iter().map(|worker| worker.connections()).sum()
    }

    /// Everything in the text format 0.0.4.
    ///
    /// # Errors
    /// When a family cannot be written.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut text = String::new();
        prometheus::TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use bulkhead_config::diagnostic::Diagnostics;
    use bulkhead_config::protocol::{Part, Serving};

    fn metrics() -> Metrics {
        let workers = NonZeroUsize::new(2).unwrap();
        let logs = vec![("access", Dropped::default())];
        Metrics::new(Counted {
            workers,
            refusals: ["no_route"].into(),
            upstream_steps: ["connect"].into(),
            proxy_headers: ["missing"].into(),
            logs,
        })
        .unwrap()
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|shown| shown == line), "`{line}` is missing in\n{text}");
    }

    #[test]
    fn a_scrape_adds_up_what_the_workers_counted() {
        let metrics = metrics();
        let acme: TenantId = "acme_corp".parse().unwrap();
        for worker in [0, 1] {
            let series = metrics.series(worker, &acme);
            series.record(MethodClass::Read, StatusClass::Success, Duration::from_millis(2));
            series.record(MethodClass::Write, StatusClass::ClientError, Duration::from_millis(700));
            let cells = metrics.worker(worker).unwrap();
            cells.connection_opened();
            cells.connection_opened();
            cells.connection_closed();
            cells.refused("no_route");
            cells.refused("not in the list");
            cells.upstream_failed("connect");
            cells.proxy_header_refused("missing");
            cells.memo(MemoTally { remembered: 5, ..MemoTally::default() });
        }
        metrics.panicked();
        metrics.api_quota_usage_from(Box::new(|tenant| (tenant.as_str() == "acme_corp").then_some(0.25)));
        let text = metrics.render().unwrap();
        for line in [
            "# TYPE tenant_requests_total counter",
            "tenant_requests_total{tenant_id=\"acme_corp\",method_class=\"read\",status_class=\"2xx\"} 2",
            "tenant_requests_total{tenant_id=\"acme_corp\",method_class=\"write\",status_class=\"4xx\"} 2",
            "# TYPE tenant_response_time_seconds histogram",
            "tenant_response_time_seconds_bucket{tenant_id=\"acme_corp\",le=\"0.001\"} 0",
            "tenant_response_time_seconds_bucket{tenant_id=\"acme_corp\",le=\"0.0025\"} 2",
            "tenant_response_time_seconds_bucket{tenant_id=\"acme_corp\",le=\"0.25\"} 2",
            "tenant_response_time_seconds_bucket{tenant_id=\"acme_corp\",le=\"1\"} 4",
            "tenant_response_time_seconds_bucket{tenant_id=\"acme_corp\",le=\"+Inf\"} 4",
            "tenant_response_time_seconds_sum{tenant_id=\"acme_corp\"} 1.404",
            "tenant_response_time_seconds_count{tenant_id=\"acme_corp\"} 4",
            "tenant_api_quota_usage{tenant_id=\"acme_corp\"} 0.25",
            "bulkhead_connections 2",
            "bulkhead_refusals_total{code=\"no_route\"} 2",
            "bulkhead_refusals_total{code=\"other\"} 2",
            "bulkhead_upstream_failures_total{step=\"connect\"} 2",
            "bulkhead_proxy_header_refusals_total{reason=\"missing\"} 2",
            "bulkhead_token_memo_total{result=\"remembered\"} 10",
            "bulkhead_log_dropped_total{log=\"access\"} 0",
            "bulkhead_panics_total 1",
            "bulkhead_tenant_series 1",
        ] {
            has(&text, line);
        }
    }

    #[test]
    fn a_hundred_parts_in_quarantine_are_named_and_the_others_counted() {
        let metrics = metrics();
        let quarantined: Vec<_> = (0..150)
            .map(|at| Quarantined {
                part: Part::Tenant(format!("t{at}").parse().unwrap()),
                diagnostics: Diagnostics::new(),
                serving: Serving::LastGood,
            })
            .collect();
        metrics.policy(Epoch { incarnation: 1, revision: 7 }, &quarantined);
        let text = metrics.render().unwrap();
        has(&text, "bulkhead_policy_epoch 7");
        has(&text, "bulkhead_quarantined_parts{part=\"tenant t0\"} 1");
        has(&text, "bulkhead_quarantined_parts{part=\"other\"} 50");
        assert_eq!(text.lines().filter(|line| line.starts_with("bulkhead_quarantined_parts{")).count(), 101);
        metrics.policy(Epoch { incarnation: 1, revision: 8 }, &[]);
        assert!(!metrics.render().unwrap().contains("bulkhead_quarantined_parts{"));
    }

    #[test]
    fn what_the_system_showed_is_there_under_the_promised_and_the_base_unit_names() {
        let metrics = metrics();
        metrics.system(system::Reading { cpu: Some(0.5), memory: Some((256, 1_024)), disk: Some(0.125) });
        let text = metrics.render().unwrap();
        for line in [
            "system_cpu_usage_percent 50",
            "system_cpu_usage_ratio 0.5",
            "system_memory_usage_bytes 256",
            "system_memory_usage_ratio 0.25",
            "system_disk_usage_percent 12.5",
            "system_disk_usage_ratio 0.125",
        ] {
            has(&text, line);
        }
        for name in ["process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_open_fds ", "bulkhead_build_info{"] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name}");
        }
    }
}
