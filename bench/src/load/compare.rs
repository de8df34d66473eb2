//! `compare`: is the second result worse than the first, and by more than chance?
//!
//! The noise of a figure is the standard error over the seconds of its run: two runs differ when their difference is above
//! twice the noise of both together, and the second is worse when it is above the tolerance as well. Failures have no tolerance:
//! whatever chance does not explain is worse, and a leak is always.

use super::result::VERSION;
use crate::sidecar::unusable;
use crate::versus::Ended;
use crate::versus::step::Error;
use clap::Args;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Seconds a run needs before its spread says anything.
const SECONDS_MIN: usize = 3;

/// Compare two results of `load`; code 1 if the second is worse
#[derive(Args)]
pub(crate) struct Options {
    /// Result to compare with
    before: PathBuf,
    /// Result in question
    after: PathBuf,
    /// Share by which a figure may be worse, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    tolerance: f64,
}

pub(crate) fn run(options: &Options) -> Result<Ended, Error> {
    let (before, after) = (read(&options.before)?, read(&options.after)?);
    let mut worse = false;
    println!("{:<20} {:>12} {:>12} {:>9} {:>9}", "", "before", "after", "change", "noise");
    for figure in FIGURES {
        let (Some(a), Some(b)) = (figure.of(&before), figure.of(&after)) else { continue };
        let verdict = Verdict::of(a, b, figure.more_is_better, options.tolerance / 100.0);
        worse |= verdict == Verdict::Worse;
        let noise = a.noise.hypot(b.noise) / a.value * 100.0;
        let change = (b.value / a.value - 1.0) * 100.0;
        println!("{:<20} {:>12.1} {:>12.1} {change:>+8.1}% {noise:>8.1}%  {}", figure.name, a.value, b.value, verdict.text());
    }
    let [a, b] = [&before, &after].map(Failed::of);
    let fails_more = b.is_more_than(a);
    let told = if fails_more { Verdict::Worse.text() } else { "" };
    println!("{:<20} {:>11.3}% {:>11.3}% {:>30}", "failed", a.share() * 100.0, b.share() * 100.0, told);
    let leaked = count(&after, "/all/leaked");
    if leaked > 0.0 {
        println!("{leaked} answers of the second leaked: worse, whatever its speed");
    }
    Ok(if worse || fails_more || leaked > 0.0 { Ended::TargetMissed } else { Ended::Done })
}

pub(crate) fn read(file: &Path) -> Result<Value, Error> {
    let text = std::fs::read_to_string(file).map_err(unusable(file.display()))?;
    let unusable = |why: String| Error::Unusable { what: file.display().to_string(), why };
    let result: Value = serde_json::from_str(&text).map_err(|cause| unusable(format!("it is not JSON: {cause}")))?;
    match result.get("version").and_then(Value::as_u64) {
        Some(VERSION) => Ok(result),
        _ => Err(unusable(format!("it is not a result of version {VERSION}; run `load --output` of this program again"))),
    }
}

fn count(result: &Value, at: &str) -> f64 {
    result.pointer(at).and_then(Value::as_f64).unwrap_or(0.0)
}

/// How many of how many requests did not end as they should.
#[derive(Clone, Copy)]
struct Failed {
    failed: f64,
    asked: f64,
}

impl Failed {
    fn of(result: &Value) -> Self {
        Self { failed: count(result, "/all/failed"), asked: count(result, "/all/asked").max(1.0) }
    }

    fn share(self) -> f64 {
        self.failed / self.asked
    }

    /// By more than twice the standard error that the difference of two such shares has by chance.
    fn is_more_than(self, before: Self) -> bool {
        let pooled = (self.failed + before.failed) / (self.asked + before.asked);
        let error = (pooled * (1.0 - pooled) * (1.0 / self.asked + 1.0 / before.asked)).max(0.0).sqrt();
        self.share() > before.share() + 2.0 * error
    }
}

/// A figure of a result that is compared.
struct Figure {
    name: &'static str,
    /// Where it stands.
    at: &'static str,
    /// Its name in every second.
    second: &'static str,
    more_is_better: bool,
}

const FIGURES: [Figure; 3] = [
    Figure { name: "answers a second", at: "/answers_per_second", second: "answers", more_is_better: true },
    Figure { name: "latency p50 (µs)", at: "/all/latency/p50", second: "p50", more_is_better: false },
    Figure { name: "latency p99 (µs)", at: "/all/latency/p99", second: "p99", more_is_better: false },
];

#[derive(Clone, Copy)]
struct Measured {
    value: f64,
    noise: f64,
}

impl Figure {
    fn of(&self, result: &Value) -> Option<Measured> {
        let value = result.pointer(self.at)?.as_f64().filter(|value| *value > 0.0)?;
        let seconds = result.get("timeline").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let samples: Vec<f64> = seconds.iter().filter_map(|second| second.get(self.second)?.as_f64()).collect();
        Some(Measured { value, noise: standard_error(&samples) })
    }
}

/// Zero where there is too little to tell: then the tolerance alone decides.
fn standard_error(samples: &[f64]) -> f64 {
    if samples.len() < SECONDS_MIN {
        return 0.0;
    }
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let variance = samples.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (variance / count).sqrt()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Better,
    Same,
    Worse,
}

impl Verdict {
    fn of(before: Measured, after: Measured, more_is_better: bool, tolerance: f64) -> Self {
        let gain = if more_is_better { after.value - before.value } else { before.value - after.value };
        let least = (before.value * tolerance).max(2.0 * before.noise.hypot(after.noise));
        match gain {
            gain if gain > least => Self::Better,
            gain if gain < -least => Self::Worse,
            _ => Self::Same,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Same => "the same",
            Self::Worse => "WORSE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worse_is_what_exceeds_tolerance_and_noise() {
        let of = |value, noise| Measured { value, noise };
        for (before, after, more_is_better, verdict) in [
            (of(100.0, 0.0), of(104.0, 0.0), false, Verdict::Same),
            (of(100.0, 0.0), of(106.0, 0.0), false, Verdict::Worse),
            (of(100.0, 0.0), of(106.0, 0.0), true, Verdict::Better),
            (of(100.0, 0.0), of(94.0, 0.0), true, Verdict::Worse),
            (of(100.0, 0.0), of(94.0, 0.0), false, Verdict::Better),
            (of(100.0, 10.0), of(120.0, 10.0), false, Verdict::Same),
            (of(100.0, 5.0), of(120.0, 5.0), false, Verdict::Worse),
        ] {
            assert_eq!(Verdict::of(before, after, more_is_better, 0.05), verdict, "{} to {}", before.value, after.value);
        }
    }

    #[test]
    fn more_failures_are_worse_unless_they_may_be_chance() {
        let of = |failed, asked| Failed { failed, asked };
        for (before, after, more) in [
            (of(0.0, 1e4), of(0.0, 1e4), false),
            (of(0.0, 1e4), of(1.0, 1e4), false),
            // Five in ten thousand: far below any tolerance of speed, and not by chance.
            (of(0.0, 1e4), of(5.0, 1e4), true),
            (of(100.0, 1e4), of(110.0, 1e4), false),
            (of(100.0, 1e4), of(150.0, 1e4), true),
            (of(150.0, 1e4), of(100.0, 1e4), false),
            (of(0.0, 100.0), of(100.0, 100.0), true),
        ] {
            assert_eq!(after.is_more_than(before), more, "{} after {}", after.failed, before.failed);
        }
    }

    #[test]
    fn the_noise_is_the_standard_error_of_the_seconds() {
        assert!((standard_error(&[1.0, 2.0, 3.0, 4.0]) - (5.0_f64 / 12.0).sqrt()).abs() < 1e-12);
        assert!(standard_error(&[1.0, 9.0]) < f64::EPSILON);
    }
}
