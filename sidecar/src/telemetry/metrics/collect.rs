//! Collect: everything that is counted, as families of the prometheus crate, at a scrape.
//!
//! `FAMILIES` is the one list of names, types and texts; a name that is not in it is never exported.

use super::Facts;
use super::cells::{Labelled, MemoTally};
use super::series::{BOUNDS_NS, MethodClass, StatusClass, Sums, TENANTS_MAX};
use crate::connection::flood::Fault;
use crate::identity::Outcome;
use crate::request::upstream::tally::Counted;
use crate::telemetry::system;
use crate::tls::NotAccepted;
use prometheus::core::Desc;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use MetricType::{COUNTER, GAUGE, HISTOGRAM};

/// Name, type, labels and text of every family.
const FAMILIES: &[(&str, MetricType, &[&str], &str)] = &[
    ("tenant_requests_total", COUNTER, &["tenant_id", "method_class", "status_class"], "Requests of a tenant, once somebody named it."),
    ("tenant_response_time_seconds", HISTOGRAM, &["tenant_id"], "Time from a request's head to the end of its answer."),
    ("tenant_api_quota_usage", GAUGE, &["tenant_id"], "Part of api_quota_per_hour used in this clock hour, 0 to 1."),
    ("system_cpu_usage_percent", GAUGE, &[], "CPU time used of what the container (or machine) may use, 0 to 100."),
    ("system_cpu_usage_ratio", GAUGE, &[], "As system_cpu_usage_percent, 0 to 1."),
    ("system_memory_usage_bytes", GAUGE, &[], "Memory in use in the container (or machine), without cache that can be dropped."),
    ("system_memory_usage_ratio", GAUGE, &[], "As system_memory_usage_bytes, of the limit, 0 to 1."),
    ("system_disk_usage_percent", GAUGE, &[], "Space used of the file system that holds the data directory, 0 to 100."),
    ("system_disk_usage_ratio", GAUGE, &[], "As system_disk_usage_percent, 0 to 1."),
    ("process_cpu_seconds_total", COUNTER, &[], "CPU time of this process."),
    ("process_resident_memory_bytes", GAUGE, &[], "Resident memory of this process."),
    ("process_virtual_memory_bytes", GAUGE, &[], "Virtual memory of this process."),
    ("process_open_fds", GAUGE, &[], "Open file descriptors."),
    ("process_max_fds", GAUGE, &[], "File descriptors this process may open."),
    ("process_threads", GAUGE, &[], "Threads of this process."),
    ("process_start_time_seconds", GAUGE, &[], "When this process began, in seconds since 1970-01-01 UTC."),
    ("bulkhead_build_info", GAUGE, &["version"], "Always 1; the version is its label."),
    ("bulkhead_policy_epoch", GAUGE, &[], "Revision of the policy that is served."),
    ("bulkhead_policy_incarnation", GAUGE, &[], "Incarnation of the policy that is served; rises when a backup is restored."),
    (
        "bulkhead_quarantined_parts",
        GAUGE,
        &["part"],
        "1 for each part that is not served as declared; `other` counts those beyond a hundred.",
    ),
    ("bulkhead_connections", GAUGE, &[], "Connections of clients that are open."),
    ("bulkhead_refusals_total", COUNTER, &["code"], "Requests that the sidecar answered itself, by code of the problem."),
    (
        "bulkhead_shadow_refusals_total",
        COUNTER,
        &["code"],
        "Requests that went on and would have been refused, were it not for shadow, by code of the problem.",
    ),
    ("bulkhead_upstream_failures_total", COUNTER, &["step"], "Failures of upstreams, by the step that failed."),
    (
        "bulkhead_upstream_endpoints",
        GAUGE,
        &["service", "upstream", "state"],
        "Endpoints of an upstream: those that requests may go to, and those that are out; in a panic an endpoint is both.",
    ),
    ("bulkhead_upstream_ejections_total", COUNTER, &["service", "upstream"], "Ejections of endpoints that failed again and again."),
    (
        "bulkhead_upstream_health_checks_total",
        COUNTER,
        &["service", "upstream", "result"],
        "Endpoints that were asked whether they are well.",
    ),
    ("bulkhead_upstream_retries_total", COUNTER, &["service", "upstream", "reason"], "Requests that were sent once more, by why."),
    (
        "bulkhead_upstream_retries_withheld_total",
        COUNTER,
        &["service", "upstream"],
        "Requests that were not sent once more because the budget was used up.",
    ),
    (
        "bulkhead_upstream_adaptive_refusals_total",
        COUNTER,
        &["service", "upstream"],
        "Requests that were refused because every endpoint had reached its adaptive limit.",
    ),
    (
        "bulkhead_upstream_adaptive_limit",
        GAUGE,
        &["service", "upstream"],
        "Requests that may be on their way at once by adaptive limits, over all endpoints and workers.",
    ),
    (
        "bulkhead_upstream_adaptive_in_flight",
        GAUGE,
        &["service", "upstream"],
        "Requests whose answer had not begun, where adaptive limits are declared, over all endpoints and workers.",
    ),
    ("bulkhead_upstream_resolutions_total", COUNTER, &["service", "upstream", "result"], "Names of endpoints that were looked up."),
    ("bulkhead_streams", GAUGE, &[], "Tunnels, and requests that last, open at the last tick."),
    (
        "bulkhead_streams_ended_total",
        COUNTER,
        &["code"],
        "What lasted and was ended by the sidecar, by code of what it would be refused with.",
    ),
    ("bulkhead_proxy_header_refusals_total", COUNTER, &["reason"], "Connections that ended for their PROXY header or for its lack."),
    (
        "bulkhead_http2_floods_total",
        COUNTER,
        &["reason"],
        "HTTP/2 connections that were ended because of their client, by what was too much.",
    ),
    ("bulkhead_tls_handshake_failures_total", COUNTER, &["reason"], "TLS handshakes with clients that failed, by why."),
    ("bulkhead_token_memo_total", COUNTER, &["result"], "Credentials presented, by how the memo met them."),
    ("bulkhead_key_set_looks_total", COUNTER, &["result"], "Looks at key sets of issuers, by what came of them."),
    (
        "bulkhead_key_set_last_fetched_seconds",
        GAUGE,
        &["key_set"],
        "When a key set was last fetched, in seconds since 1970-01-01 UTC, of a hundred of them.",
    ),
    ("bulkhead_introspections_total", COUNTER, &["result"], "Questions about tokens to servers that know them, by what came of them."),
    ("bulkhead_log_dropped_total", COUNTER, &["log"], "Lines of a log that were dropped."),
    ("bulkhead_panics_total", COUNTER, &[], "Panics that were caught."),
    ("bulkhead_tenant_series", GAUGE, &[], "Tenants with series of their own."),
    ("bulkhead_tenant_series_max", GAUGE, &[], "How many tenants can have series of their own; the rest share tenant_id `other`."),
    ("bulkhead_workers", GAUGE, &[], "Workers that serve requests."),
];

/// Fetched key sets that have a series of their own.
const KEY_SETS_MAX: usize = 100;

/// Reads the facts at each scrape.
pub(super) struct Collector {
    facts: Arc<Facts>,
    descriptions: Vec<Desc>,
}

impl Collector {
    pub(super) fn new(facts: Arc<Facts>) -> Result<Self, prometheus::Error> {
        let describe = |(name, _, labels, help): (&str, MetricType, &[&str], &str)| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())
        };
        let descriptions = FAMILIES.iter().copied().map(describe).collect::<Result<_, _>>()?;
        Ok(Self { facts, descriptions })
    }
}

impl prometheus::core::Collector for Collector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut samples = Samples::default();
        tenants(&self.facts, &mut samples);
        workers(&self.facts, &mut samples);
        upstreams(&self.facts, &mut samples);
        policy(&self.facts, &mut samples);
        key_sets(&self.facts, &mut samples);
        machine(&self.facts.system.load(), &mut samples);
        process(&system::Process::read(), &mut samples);
        samples.counter("bulkhead_panics_total", &[], self.facts.panics.load(Ordering::Relaxed));
        for (log, dropped) in &self.facts.logs {
            samples.counter("bulkhead_log_dropped_total", &[("log", log)], dropped.lines());
        }
        samples.gauge("bulkhead_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        samples.families()
    }
}

fn tenants(facts: &Facts, samples: &mut Samples) {
    facts.series.each(|tenant, sums| {
        let id = ("tenant_id", tenant);
        let requests = MethodClass::ALL.into_iter().zip(&sums.requests);
        for (method, row) in requests {
            // Born at its first request: a tenant that only reads has no series for writes.
            for (status, &count) in StatusClass::ALL.into_iter().zip(row).filter(|(_, count)| **count > 0) {
                let labels = [id, ("method_class", method.label()), ("status_class", status.label())];
                samples.counter("tenant_requests_total", &labels, count);
            }
        }
        samples.latencies("tenant_response_time_seconds", &[id], sums);
    });
    let own = facts.series.tenants();
    samples.gauge("bulkhead_tenant_series", &[], count(own.len()));
    samples.gauge("bulkhead_tenant_series_max", &[], count(TENANTS_MAX));
    let Some(usage) = facts.api_quota_usage.get() else { return };
    for tenant in own {
        if let Some(used) = usage(&tenant) {
            samples.gauge("tenant_api_quota_usage", &[("tenant_id", tenant.as_str())], used);
        }
    }
}

fn workers(facts: &Facts, samples: &mut Samples) {
    let sum = |read: &dyn Fn(&super::WorkerCells) -> u64| facts.workers.iter().map(|worker| read(worker)).sum::<u64>();
    samples.gauge("bulkhead_workers", &[], count(facts.workers.len()));
    samples.gauge("bulkhead_connections", &[], whole(sum(&|worker| worker.connections())));
    samples.gauge("bulkhead_streams", &[], whole(sum(&|worker| worker.open_streams())));
    for (at, result) in MemoTally::LABELS.into_iter().enumerate() {
        samples.counter("bulkhead_token_memo_total", &[("result", result)], sum(&|worker| worker.of_memo(at)));
    }
    let mut labelled = |name, label, known: &[&str], of: fn(&super::WorkerCells) -> &Labelled| {
        for (at, value) in known.iter().copied().chain(["other"]).enumerate() {
            samples.counter(name, &[(label, value)], sum(&|worker| of(worker).read(at)));
        }
    };
    labelled("bulkhead_refusals_total", "code", &facts.refusals, super::WorkerCells::refusals);
    labelled("bulkhead_shadow_refusals_total", "code", &facts.refusals, super::WorkerCells::passed_in_shadow_by_code);
    labelled("bulkhead_streams_ended_total", "code", &facts.refusals, super::WorkerCells::streams_ended);
    labelled("bulkhead_upstream_failures_total", "step", &facts.upstream_steps, super::WorkerCells::upstream_failures);
    labelled("bulkhead_proxy_header_refusals_total", "reason", &facts.proxy_headers, super::WorkerCells::proxy_headers);
    labelled("bulkhead_http2_floods_total", "reason", Fault::LABELS, super::WorkerCells::floods);
    labelled("bulkhead_tls_handshake_failures_total", "reason", NotAccepted::LABELS, super::WorkerCells::handshakes);
}

fn upstreams(facts: &Facts, samples: &mut Samples) {
    for reading in facts.fleet.get().map(|fleet| fleet.readings()).into_iter().flatten() {
        let of = [("service", &*reading.service), ("upstream", &*reading.upstream)];
        for (state, number) in [("usable", reading.usable), ("ejected", reading.ejected), ("unhealthy", reading.unwell)] {
            let [service, upstream] = of;
            samples.gauge("bulkhead_upstream_endpoints", &[service, upstream, ("state", state)], count(number));
        }
        if let Some(told) = reading.adaptive {
            samples.gauge("bulkhead_upstream_adaptive_limit", &of, told.limit.into());
            samples.gauge("bulkhead_upstream_adaptive_in_flight", &of, told.in_flight.into());
        }
        for ((_, family, label), &count) in Counted::ALL.iter().zip(&reading.counts) {
            let labels: Vec<_> = of.into_iter().chain(*label).collect();
            samples.counter(family, &labels, count);
        }
    }
}

fn policy(facts: &Facts, samples: &mut Samples) {
    let policy = facts.policy.load();
    samples.gauge("bulkhead_policy_epoch", &[], whole(policy.epoch.revision));
    samples.gauge("bulkhead_policy_incarnation", &[], whole(policy.epoch.incarnation));
    for part in &policy.parts {
        samples.gauge("bulkhead_quarantined_parts", &[("part", part)], 1.0);
    }
    if policy.more > 0 {
        samples.gauge("bulkhead_quarantined_parts", &[("part", "other")], count(policy.more));
    }
}

fn key_sets(facts: &Facts, samples: &mut Samples) {
    for (result, count) in Outcome::LABELS.into_iter().zip(&facts.key_set_looks) {
        samples.counter("bulkhead_key_set_looks_total", &[("result", result)], count.load(Ordering::Relaxed));
    }
    for (result, count) in ["answered", "failed"].into_iter().zip(&facts.introspections) {
        samples.counter("bulkhead_introspections_total", &[("result", result)], count.load(Ordering::Relaxed));
    }
    for set in facts.key_sets.load().iter().take(KEY_SETS_MAX) {
        if let Some(at_ms) = set.fetched_unix_ms {
            samples.gauge("bulkhead_key_set_last_fetched_seconds", &[("key_set", &set.name)], whole(at_ms) / 1e3);
        }
    }
}

fn machine(reading: &system::Reading, samples: &mut Samples) {
    if let Some(ratio) = reading.cpu {
        samples.gauge("system_cpu_usage_percent", &[], 100.0 * ratio);
        samples.gauge("system_cpu_usage_ratio", &[], ratio);
    }
    if let Some((used, most)) = reading.memory {
        samples.gauge("system_memory_usage_bytes", &[], whole(used));
        samples.gauge("system_memory_usage_ratio", &[], whole(used) / whole(most.max(1)));
    }
    if let Some(ratio) = reading.disk {
        samples.gauge("system_disk_usage_percent", &[], 100.0 * ratio);
        samples.gauge("system_disk_usage_ratio", &[], ratio);
    }
}

fn process(process: &system::Process, samples: &mut Samples) {
    let mut tell = |name, value: Option<f64>| {
        if let Some(value) = value {
            samples.gauge(name, &[], value);
        }
    };
    tell("process_cpu_seconds_total", process.cpu_seconds);
    tell("process_resident_memory_bytes", process.resident_bytes.map(whole));
    tell("process_virtual_memory_bytes", process.virtual_bytes.map(whole));
    tell("process_open_fds", process.open_fds.map(whole));
    tell("process_max_fds", process.max_fds.map(whole));
    tell("process_threads", process.threads.map(whole));
    tell("process_start_time_seconds", process.start_seconds);
}

/// Samples of one scrape, by the place of their family.
struct Samples([Vec<Metric>; FAMILIES.len()]);

impl Default for Samples {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Vec::new()))
    }
}

impl Samples {
    fn counter(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.sample(name, labels, whole(value));
    }

    fn gauge(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.sample(name, labels, value);
    }

    /// A counter or a gauge, as its family says.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut metric = Metric::from_label(pairs(labels));
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
        self.put(name, metric);
    }

    fn latencies(&mut self, name: &str, labels: &[(&str, &str)], sums: &Sums) {
        let mut seen = 0;
        let buckets = BOUNDS_NS.iter().zip(&sums.buckets).map(|(&bound, &count)| {
            seen += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(whole(bound) / 1e9);
            bucket.set_cumulative_count(seen);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(sums.buckets.iter().sum());
        histogram.set_sample_sum(whole(sums.sum_ns) / 1e9);
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_histogram(histogram);
        self.put(name, metric);
    }

    fn put(&mut self, name: &str, metric: Metric) {
        let place = FAMILIES.iter().position(|(known, ..)| *known == name);
        debug_assert!(place.is_some(), "{name} is not among the families");
        if let Some(samples) = place.and_then(|place| self.0.get_mut(place)) {
            samples.push(metric);
        }
    }

    fn families(self) -> Vec<MetricFamily> {
        let family = |((name, kind, _, help), samples): ((&str, MetricType, &[&str], &str), Vec<Metric>)| {
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            family.set_field_type(kind);
            family.set_metric(samples);
            family
        };
        FAMILIES.iter().copied().zip(self.0).map(family).collect()
    }
}

fn pairs(labels: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

/// Samples are floating point: exact up to 2^53.
fn whole(number: u64) -> f64 {
    number as f64
}

fn count(number: usize) -> f64 {
    whole(u64::try_from(number).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::{Counted, Metrics};
    use super::*;
    use crate::identity::KeySetFacts;
    use crate::request::upstream::fleet::{Fleet, tests::upstream};
    use bulkhead_config::diagnostic::Diagnostics;
    use bulkhead_config::protocol::{Part, Quarantined, Serving};
    use bulkhead_config::snapshot::{AdaptiveConcurrency, Epoch, Upstream};
    use std::num::NonZeroUsize;
    use std::time::Duration;

    /// So many upstreams, of one endpoint each.
    fn fleet(count: usize) -> Fleet {
        let fleet = Fleet::new(None);
        for number in 0..count {
            let adaptive_concurrency = Some(AdaptiveConcurrency { min: 1, max: 9, tolerance_percent: 50 });
            let upstream = Upstream { adaptive_concurrency, ..upstream(&format!("u{number:03}"), &["http://127.0.0.1:1"]) };
            let _ = fleet.of(&Arc::new(upstream));
        }
        fleet
    }

    #[test]
    fn a_hundred_upstreams_have_names_and_the_others_are_added_up() {
        let readings = fleet(140).readings();
        let shown: Vec<_> = readings.iter().map(|reading| (&*reading.upstream, reading.usable)).collect();
        assert_eq!(shown.len(), 101);
        assert_eq!([shown.first(), shown.last()], [Some(&("u000", 1)), Some(&("other", 40))]);
    }

    /// Metrics with at least one sample of every family.
    fn busy() -> Metrics {
        let logs = vec![("access", crate::telemetry::spool::Dropped::default())];
        let (refusals, upstream_steps, proxy_headers) = (["no_route"].into(), ["connect"].into(), ["missing"].into());
        let metrics = Metrics::new(Counted { workers: NonZeroUsize::MIN, refusals, upstream_steps, proxy_headers, logs }).unwrap();
        let series = metrics.series(0, &"acme_corp".parse().unwrap());
        series.record(MethodClass::Read, StatusClass::Success, Duration::from_millis(1));
        metrics.api_quota_usage_from(Box::new(|_| Some(0.5)));
        let part = Quarantined { part: Part::Platform, diagnostics: Diagnostics::new(), serving: Serving::Held };
        metrics.policy(Epoch { incarnation: 1, revision: 1 }, &[part]);
        let set = KeySetFacts { name: "https://login.example/jwks".into(), fetched_unix_ms: Some(1_500), trouble: None };
        metrics.key_sets(Arc::new(vec![set]));
        metrics.system(system::Reading { cpu: Some(0.5), memory: Some((1, 2)), disk: Some(0.5) });
        metrics.upstreams_from(Arc::new(fleet(1)));
        metrics
    }

    #[test]
    fn every_family_is_exported_with_the_labels_it_declares() {
        let gathered = busy().registry.gather();
        let names: Vec<_> = gathered.iter().map(MetricFamily::name).collect();
        for (name, kind, labels, help) in FAMILIES.iter().copied() {
            let family = gathered.iter().find(|family| family.name() == name);
            let family = family.unwrap_or_else(|| unreachable!("{name} is not among {names:?}"));
            assert_eq!((family.get_field_type(), family.help()), (kind, help), "{name}");
            for sample in family.get_metric() {
                let shown: Vec<_> = sample.get_label().iter().map(LabelPair::name).collect();
                assert_eq!(shown, labels, "{name}");
            }
        }
        assert_eq!(gathered.len(), FAMILIES.len());
    }

    #[test]
    fn counters_end_in_total_and_every_text_is_a_sentence() {
        for (name, kind, _, help) in FAMILIES.iter().copied() {
            assert_eq!(name.ends_with("_total"), kind == COUNTER, "{name}");
            assert!(help.ends_with('.'), "{name}");
        }
    }
}
