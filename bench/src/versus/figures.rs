//! The figures `compare.py` wrote: medians by scenario and proxy, and who was left out.

use super::step::Error;
use super::{DIRECT, OURS};
use serde_json::{Map, Value};
use std::path::Path;

/// What a run measured.
pub(crate) struct Figures {
    scenarios: Map<String, Value>,
}

/// What is compared, under `compare.py`'s own name for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    CpuPerRequest,
    ColdStart,
    IdleMemory,
    IdleConnections,
    /// What a proxy adds to the median, in open-loop scenarios.
    AddedMedian,
    /// The 99th percentile, in open-loop scenarios.
    Slowest,
}

impl Measure {
    pub(crate) const ALL: [Self; 6] =
        [Self::CpuPerRequest, Self::ColdStart, Self::IdleMemory, Self::IdleConnections, Self::AddedMedian, Self::Slowest];

    /// Whether it means something in this scenario: in a closed loop a latency is only the inverse of the throughput.
    fn fits(self, scenario: &str) -> bool {
        let is_open_loop = scenario.ends_with("rate");
        match self {
            Self::AddedMedian | Self::Slowest => is_open_loop,
            // At a low rate it measures who wakes whom.
            Self::CpuPerRequest => !is_open_loop,
            Self::ColdStart | Self::IdleMemory | Self::IdleConnections => true,
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::CpuPerRequest => "cpu_us",
            Self::ColdStart => "cold_ms",
            Self::IdleMemory => "idle_rss_mb",
            Self::IdleConnections => "kb_per_1000",
            Self::AddedMedian => "p50_us",
            Self::Slowest => "p99_us",
        }
    }

    /// As a table names it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::CpuPerRequest => "CPU µs/request",
            Self::ColdStart => "cold start ms",
            Self::IdleMemory => "idle RSS MB",
            Self::IdleConnections => "KiB per 1,000 idle connections",
            Self::AddedMedian => "added p50 µs",
            Self::Slowest => "p99 µs",
        }
    }
}

impl Figures {
    pub(crate) fn read(file: &Path) -> Result<Self, Error> {
        let unusable = |why: String| Error::Unusable { what: file.display().to_string(), why };
        let text = std::fs::read_to_string(file).map_err(|cause| unusable(cause.to_string()))?;
        Self::parse(&text).map_err(unusable)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match serde_json::from_str(text) {
            Ok(scenarios) => Ok(Self { scenarios }),
            Err(cause) => Err(format!("not what compare.py writes: {cause}")),
        }
    }

    pub(crate) fn scenarios(&self) -> impl Iterator<Item = &str> {
        self.scenarios.keys().map(String::as_str)
    }

    /// Every proxy measured in this scenario, ours among them.
    pub(crate) fn proxies(&self, scenario: &str) -> impl Iterator<Item = &str> {
        self.of(scenario, "median").into_iter().flat_map(Map::keys).map(String::as_str)
    }

    pub(crate) fn median(&self, scenario: &str, proxy: &str, measure: Measure) -> Option<f64> {
        let of = |proxy: &str| self.of(scenario, "median")?.get(proxy)?.get(measure.key())?.as_f64();
        match measure {
            _ if !measure.fits(scenario) => None,
            Measure::AddedMedian => Some(of(proxy)? - of(DIRECT)?),
            _ => of(proxy),
        }
    }

    /// A scenario that our sidecar should have taken part in, and why it could not.
    pub(crate) fn left_out(&self) -> Option<(&str, &str)> {
        self.scenarios().find_map(|scenario| Some((scenario, self.of(scenario, "skipped")?.get(OURS)?.as_str()?)))
    }

    fn of(&self, scenario: &str, part: &str) -> Option<&Map<String, Value>> {
        self.scenarios.get(scenario)?.get(part)?.as_object()
    }
}
