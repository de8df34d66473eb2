//! Ours beside theirs: the ratio for every peer, and whether it is what we promise.

use super::OURS;
use super::figures::{Figures, Measure};
use std::fmt;

/// What one scenario must show. Ratios, because they hold on any machine; bytes of memory, because they do too.
struct Target {
    scenario: &'static str,
    measure: Measure,
    bound: Bound,
}

enum Bound {
    /// At most this many times that peer's figure.
    Times(f64, &'static str),
    /// At most this, whoever else runs.
    AtMost(f64),
}

/// The README publishes these; a change here is a change there.
const TARGETS: [Target; 20] = [
    Target { scenario: "plain", measure: Measure::CpuPerRequest, bound: Bound::Times(0.26, "envoy") },
    Target { scenario: "plain", measure: Measure::CpuPerRequest, bound: Bound::Times(0.80, "haproxy") },
    Target { scenario: "plain", measure: Measure::CpuPerRequest, bound: Bound::Times(1.20, "tokio-relay") },
    Target { scenario: "full", measure: Measure::CpuPerRequest, bound: Bound::Times(0.20, "envoy-jwtcache") },
    Target { scenario: "full", measure: Measure::CpuPerRequest, bound: Bound::Times(0.45, "haproxy-jwtcache") },
    Target { scenario: "tls", measure: Measure::CpuPerRequest, bound: Bound::Times(0.76, "nginx") },
    Target { scenario: "tlsnew", measure: Measure::CpuPerRequest, bound: Bound::Times(0.80, "envoy") },
    Target { scenario: "tlsnew", measure: Measure::CpuPerRequest, bound: Bound::Times(1.00, "pingora") },
    Target { scenario: "h2", measure: Measure::CpuPerRequest, bound: Bound::Times(0.36, "envoy") },
    Target { scenario: "h2", measure: Measure::CpuPerRequest, bound: Bound::Times(1.25, "haproxy") },
    Target { scenario: "body64k", measure: Measure::CpuPerRequest, bound: Bound::Times(0.90, "haproxy") },
    Target { scenario: "body1m", measure: Measure::CpuPerRequest, bound: Bound::Times(0.60, "haproxy") },
    Target { scenario: "rate", measure: Measure::AddedMedian, bound: Bound::Times(0.81, "haproxy") },
    Target { scenario: "rate", measure: Measure::Slowest, bound: Bound::Times(1.10, "haproxy") },
    Target { scenario: "fullrate", measure: Measure::AddedMedian, bound: Bound::Times(0.50, "haproxy") },
    Target { scenario: "fullrate", measure: Measure::Slowest, bound: Bound::Times(1.10, "haproxy") },
    Target { scenario: "idle1k", measure: Measure::IdleConnections, bound: Bound::AtMost(8_192.0) },
    Target { scenario: "idle10k", measure: Measure::IdleConnections, bound: Bound::AtMost(8_192.0) },
    Target { scenario: "cold", measure: Measure::ColdStart, bound: Bound::AtMost(20.0) },
    Target { scenario: "cold", measure: Measure::IdleMemory, bound: Bound::AtMost(12.0) },
];

/// The table under all others. It prints itself as Markdown.
pub(crate) struct Comparison {
    rows: Vec<Row>,
    /// Scenarios that ran without us, because `subjects/bulkhead.json` has no configuration for them.
    without_us: Vec<String>,
}

struct Row {
    scenario: String,
    measure: Measure,
    ours: Option<f64>,
    /// None: the figure is judged alone.
    peer: Option<Peer>,
    at_most: Option<f64>,
}

struct Peer {
    name: String,
    figure: Option<f64>,
}

impl Comparison {
    /// `asked`: the peers of this run. A target about any other peer is not due.
    pub(crate) fn of(figures: &Figures, asked: &[String]) -> Self {
        let mut rows = Vec::new();
        let mut without_us = Vec::new();
        for scenario in figures.scenarios() {
            if !figures.proxies(scenario).any(|proxy| proxy == OURS) {
                without_us.push(scenario.to_owned());
            }
            for measure in Measure::ALL {
                rows.extend(rows_of(figures, scenario, measure, asked));
            }
        }
        Self { rows, without_us }
    }

    /// A target that was due and is missed, or could not be measured.
    pub(crate) fn misses_a_target(&self) -> bool {
        self.rows.iter().any(|row| row.verdict().is_some_and(|verdict| verdict != Verdict::Met))
    }
}

fn rows_of(figures: &Figures, scenario: &str, measure: Measure, asked: &[String]) -> Vec<Row> {
    let ours = figures.median(scenario, OURS, measure);
    let row = |peer, at_most| Row { scenario: scenario.to_owned(), measure, ours, peer, at_most };
    let targets = || TARGETS.iter().filter(|target| target.scenario == scenario && target.measure == measure);
    let peers = asked.iter().filter_map(|name| {
        let figure = figures.median(scenario, name, measure);
        let target = targets().find_map(|target| match target.bound {
            Bound::Times(times, peer) if peer == name => Some(times),
            Bound::Times(..) | Bound::AtMost(_) => None,
        });
        // Not in this scenario and nothing promised about it: no row. Promised: a row that says it could not be measured.
        let shown = target.is_some() || (figure.is_some() && ours.is_some());
        shown.then(|| row(Some(Peer { name: name.clone(), figure }), target))
    });
    let alone = targets().filter_map(|target| match target.bound {
        Bound::AtMost(most) => Some(row(None, Some(most))),
        Bound::Times(..) => None,
    });
    peers.chain(alone).collect()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Met,
    Missed,
    NotMeasured,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        Some(self.ours? / self.peer.as_ref()?.figure?)
    }

    /// None when nothing was promised.
    fn verdict(&self) -> Option<Verdict> {
        let at_most = self.at_most?;
        let reached = if self.peer.is_some() { self.ratio() } else { self.ours };
        Some(match reached {
            None => Verdict::NotMeasured,
            // Written so that a NaN (a peer that cost nothing) is no success.
            Some(reached) if reached <= at_most => Verdict::Met,
            Some(_) => Verdict::Missed,
        })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {OURS} beside its peers: medians of this run; a ratio below 1 is less than the peer's\n")?;
        writeln!(f, "| scenario | figure | {OURS} | peer | the peer's | ratio | target | |")?;
        writeln!(f, "|---|---|---:|---|---:|---:|---:|---|")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        if !self.without_us.is_empty() {
            writeln!(f, "\n{OURS} took no part in: {}", self.without_us.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = |figure: Option<f64>| figure.map(|figure| format!("{figure:.1}")).unwrap_or_default();
        let (name, theirs) = match &self.peer {
            Some(peer) => (peer.name.as_str(), figure(peer.figure)),
            None => ("", String::new()),
        };
        let ratio = self.ratio().map(|ratio| format!("{ratio:.2}x")).unwrap_or_default();
        let target = match (self.at_most, &self.peer) {
            (Some(times), Some(_)) => format!("≤ {times:.2}x"),
            (Some(most), None) => format!("≤ {most}"),
            (None, _) => String::new(),
        };
        let verdict = match self.verdict() {
            Some(Verdict::Met) => "met",
            Some(Verdict::Missed) => "**not met**",
            Some(Verdict::NotMeasured) => "**not measured**",
            None => "",
        };
        write!(
            f,
            "| {} | {} | {} | {name} | {theirs} | {ratio} | {target} | {verdict} |",
            self.scenario,
            self.measure.label(),
            figure(self.ours)
        )
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const RUN: &str = r#"{
        "plain": {"median": {"bulkhead": {"cpu_us": 10.0}, "haproxy": {"cpu_us": 13.2}, "envoy": {"cpu_us": 30.0},
                             "nginx": {"cpu_us": 10.0}}, "skipped": {}},
        "cold": {"median": {"bulkhead": {"cold_ms": 6.0, "idle_rss_mb": 11.9},
                            "haproxy": {"cold_ms": 37.0, "idle_rss_mb": 15.0}}, "skipped": {}},
        "h3": {"median": {"haproxy": {"cpu_us": 17.1}}, "skipped": {}}
    }"#;

    fn compared(run: &str, asked: &[&str]) -> Comparison {
        let asked: Vec<String> = asked.iter().map(|name| (*name).to_owned()).collect();
        Comparison::of(&Figures::parse(run).unwrap(), &asked)
    }

    fn verdicts(of: &Comparison) -> Vec<(&str, Option<&str>, Verdict)> {
        of.rows
            .iter()
            .filter_map(|row| Some((row.scenario.as_str(), row.peer.as_ref().map(|peer| peer.name.as_str()), row.verdict()?)))
            .collect()
    }

    #[test]
    fn a_target_is_judged_by_the_ratio_of_medians() {
        let comparison = compared(RUN, &["haproxy", "envoy", "nginx"]);
        assert_eq!(
            verdicts(&comparison),
            [
                ("cold", None, Verdict::Met),
                ("cold", None, Verdict::Met),
                ("plain", Some("haproxy"), Verdict::Met),
                ("plain", Some("envoy"), Verdict::Missed),
            ]
        );
        assert!(comparison.misses_a_target());
    }

    #[test]
    fn a_target_about_a_peer_nobody_asked_for_is_not_due() {
        assert!(!compared(RUN, &["haproxy"]).misses_a_target());
    }

    #[test]
    fn what_was_asked_for_and_not_measured_is_not_met() {
        let run = r#"{"full": {"median": {"bulkhead": {"cpu_us": 9.0}}, "skipped": {"envoy-jwtcache": "exited 1"}}}"#;
        let comparison = compared(run, &["envoy-jwtcache"]);
        assert_eq!(verdicts(&comparison), [("full", Some("envoy-jwtcache"), Verdict::NotMeasured)]);
        assert!(comparison.misses_a_target());
    }

    #[test]
    fn what_a_proxy_adds_is_judged_without_what_the_way_takes_anyway() {
        let run = r#"{"rate": {"median": {"direct": {"p50_us": 40, "p99_us": 60}, "bulkhead": {"p50_us": 60, "p99_us": 90, "cpu_us": 50.0},
                      "haproxy": {"p50_us": 80, "p99_us": 100, "cpu_us": 60.0}}, "skipped": {}}}"#;
        let table = compared(run, &["haproxy"]).to_string();
        assert!(table.contains("| rate | added p50 µs | 20.0 | haproxy | 40.0 | 0.50x | ≤ 0.81x | met |"), "{table}");
        assert!(table.contains("| rate | p99 µs | 90.0 | haproxy | 100.0 | 0.90x | ≤ 1.10x | met |"), "{table}");
        assert!(!table.contains("CPU"), "{table}");
    }

    #[test]
    fn a_peer_that_cost_nothing_is_no_success() {
        let run = r#"{"plain": {"median": {"bulkhead": {"cpu_us": 0.0}, "envoy": {"cpu_us": 0.0}}, "skipped": {}}}"#;
        assert!(compared(run, &["envoy"]).misses_a_target());
    }

    #[test]
    fn the_table_shows_ratio_target_and_who_was_not_there() {
        let table = compared(RUN, &["haproxy", "nginx"]).to_string();
        for line in [
            "| plain | CPU µs/request | 10.0 | haproxy | 13.2 | 0.76x | ≤ 0.80x | met |",
            "| plain | CPU µs/request | 10.0 | nginx | 10.0 | 1.00x |  |  |",
            "| cold | idle RSS MB | 11.9 |  |  |  | ≤ 12 | met |",
            "bulkhead took no part in: h3",
        ] {
            assert!(table.lines().any(|found| found == line), "{line}\nis not in\n{table}");
        }
    }

    #[test]
    fn a_sidecar_that_was_left_out_is_told_with_its_reason() {
        let run = r#"{"full": {"median": {}, "skipped": {"bulkhead": "exited 1"}}}"#;
        assert_eq!(Figures::parse(run).unwrap().left_out(), Some(("full", "exited 1")));
        assert_eq!(Figures::parse(RUN).unwrap().left_out(), None);
    }
}
