//! The result of a run: JSON with a version, for machines, and a table for those who wait.

use super::answer::Status;
use super::connection::Lost;
use super::engine::Shape;
use super::pace::{Pace, Ramp};
use super::plan::Plan;
use super::sketch::Sketch;
use super::tally::{Leak, Of, OfTenant, Second, Tally};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Version of the JSON; what reads it refuses others.
pub(crate) const VERSION: u64 = 2;
/// Quantiles told, with their names.
const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("p9999", 0.9999)];

/// The whole result. Durations are in microseconds.
pub(crate) fn json(plan: &Plan, shape: &Shape, tally: &Tally, cpu: Duration) -> Value {
    let tenants = plan.tenants.iter().zip(&tally.of_tenants).map(|(tenant, of)| (tenant.name.clone(), counts(of)));
    let leaks = tally.leaks.iter().map(|leak| {
        let after = leak.after.as_secs_f64();
        json!({ "asked_for": leak.asked_for, "named": leak.named, "status": leak.status.to_string(), "after_seconds": after })
    });
    let shown: Vec<_> = tally.shown.iter().filter_map(|place| plan.tenants.get(*place)).map(|tenant| &*tenant.name).collect();
    let timeline = tally.seconds.iter().map(|second| second_json(&shown, second));
    json!({
        "version": VERSION,
        "tool": concat!("bulkhead-bench load ", env!("CARGO_PKG_VERSION")),
        "address": plan.peer.address.to_string(),
        "protocol": plan.peer.protocol.name(),
        "tls": plan.peer.tls.is_some(),
        "shape": shape_json(shape),
        "answers_per_second": tally.rate(shape.duration),
        "all": counts(&tally.of_all),
        "distribution": distribution(&tally.of_all),
        "lag": durations(&tally.lag),
        "late": durations(&tally.late),
        "own_cpu_micros_per_request": micros(cpu) / tally.of_all.asked.max(1) as f64,
        "tenants": tenants.collect::<Map<_, _>>(),
        "leaks": leaks.collect::<Vec<_>>(),
        "timeline": timeline.collect::<Vec<_>>(),
    })
}

/// Tenants are told apart as far as `shown` names them.
fn second_json(shown: &[&str], second: &Second) -> Value {
    let [p50, p90, p99, max] = [second.p50, second.p90, second.p99, second.max].map(micros);
    let tenant = |of: &OfTenant| json!({ "answers": of.answers, "failed": of.failed, "p50": micros(of.p50), "p99": micros(of.p99) });
    let tenants: Map<_, _> = shown.iter().zip(&second.tenants).map(|(name, of)| ((*name).to_owned(), tenant(of))).collect();
    json!({
        "answers": second.answers, "failed": second.failed, "statuses": statuses(&second.statuses), "lost": lost(&second.lost),
        "p50": p50, "p90": p90, "p99": p99, "max": max, "tenants": tenants,
    })
}

fn statuses(of: &BTreeMap<Status, u64>) -> Map<String, Value> {
    of.iter().map(|(status, count)| (status.to_string(), (*count).into())).collect()
}

fn lost(of: &BTreeMap<Lost, u64>) -> Map<String, Value> {
    of.iter().map(|(lost, count)| (lost.name().to_owned(), (*count).into())).collect()
}

fn shape_json(shape: &Shape) -> Value {
    let ramp = |ramp: Ramp| json!({ "from": ramp.from, "to": ramp.to, "seconds": ramp.over.as_secs_f64() });
    let (loop_, rate, ramp, think) = match shape.pace {
        Pace::Rate(rate) => ("open", Some(rate), None, None),
        Pace::Ramp(of) => ("open", None, Some(ramp(of)), None),
        Pace::Think(think) => ("closed", None, None, Some(think.as_secs_f64())),
    };
    json!({
        "loop": loop_, "rate": rate, "ramp": ramp, "think_seconds": think, "connections": shape.connections,
        "warm_up_seconds": shape.warm_up.as_secs_f64(), "duration_seconds": shape.duration.as_secs_f64(),
        "timeout_seconds": shape.timeout.as_secs_f64(), "seed": shape.seed,
    })
}

fn counts(of: &Of) -> Value {
    json!({
        "asked": of.asked, "failed": of.failed(), "unexpected": of.unexpected, "leaked": of.leaked, "unnamed": of.unnamed,
        "statuses": statuses(&of.statuses), "lost": lost(&of.lost), "latency": durations(&of.latency), "service": durations(&of.service),
    })
}

fn durations(sketch: &Sketch) -> Value {
    let mut told: Map<_, _> = QUANTILES.map(|(name, share)| (name.to_owned(), micros(sketch.quantile(share)).into())).into_iter().collect();
    told.insert("max".to_owned(), micros(sketch.max()).into());
    told.insert("mean".to_owned(), micros(sketch.mean()).into());
    told.into()
}

/// Steps of the distribution for each further nine.
pub(crate) const STEPS_OF_NINE: usize = 8;

/// Quantiles for a plot, evenly spaced in how rare what lies above them is, up to the last that single answers make.
fn distribution(of: &Of) -> Vec<Value> {
    let rarer = (0..).map(|step: u32| 10_f64.powf(f64::from(step) / STEPS_OF_NINE as f64));
    let shares = rarer.take_while(|rarer| *rarer <= of.latency.samples() as f64).map(|rarer| 1.0 - 1.0 / rarer);
    let at =
        |share| json!({ "share": share, "latency": micros(of.latency.quantile(share)), "service": micros(of.service.quantile(share)) });
    shares.map(at).collect()
}

fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1_000.0
}

/// The table for a reader.
pub(crate) fn table(plan: &Plan, shape: &Shape, tally: &Tally) -> String {
    let mut text = String::new();
    let row = |text: &mut String, name: &str, of: &Of| {
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|share| short(of.latency.quantile(share)));
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{name:<20} {:>10} {:>8} {p50:>9} {p90:>9} {p99:>9} {p999:>9} {:>9}",
            of.asked,
            of.failed(),
            short(of.latency.max())
        );
    };
    let _ = writeln!(
        text,
        "{:<20} {:>10} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "tenant", "requests", "failed", "p50", "p90", "p99", "p99.9", "max"
    );
    if plan.tenants.len() > 1 {
        plan.tenants.iter().zip(&tally.of_tenants).for_each(|(tenant, of)| row(&mut text, &tenant.name, of));
    }
    row(&mut text, "all", &tally.of_all);
    text.push('\n');
    text.push_str(&held_back(shape, tally));
    let rate = tally.rate(shape.duration);
    let _ = write!(text, "{rate:.0} answers a second; by status:");
    for (status, count) in &tally.of_all.statuses {
        let _ = write!(text, " {status}: {count}");
    }
    for (lost, count) in &tally.of_all.lost {
        let _ = write!(text, " {}: {count}", lost.name());
    }
    text.push('\n');
    for leak in &tally.leaks {
        let (after, Leak { asked_for, named, status, .. }) = (leak.after.as_secs_f64(), leak);
        let _ = writeln!(text, "LEAK after {after:.3} s: asked for {asked_for}, the answer ({status}) names {named:?}");
    }
    if tally.of_all.unnamed > 0 {
        let _ = writeln!(text, "{} answers name no tenant where --answer-tenant looks: nothing is known of them", tally.of_all.unnamed);
    }
    text
}

/// What of the times above is not the server's. In a closed loop they count from sending, and nothing is.
fn held_back(shape: &Shape, tally: &Tally) -> String {
    let of = |sketch: &Sketch| [0.5, 0.99].map(|share| short(sketch.quantile(share)));
    let ([p50, p99], [_, late]) = (of(&tally.lag), of(&tally.late));
    match shape.pace {
        Pace::Think(_) => format!("held back by the load itself, not counted above: p50 {p50}, p99 {p99}\n"),
        Pace::Rate(_) | Pace::Ramp(_) => {
            let [service_p50, service_p99] = of(&tally.of_all.service);
            format!(
                "from sending (service time): p50 {service_p50}, p99 {service_p99}\n\
                 from due to sent: p50 {p50}, p99 {p99}; of that this program's own: p99 {late}\n"
            )
        }
    }
}

/// A duration in three digits or so.
pub(crate) fn short(duration: Duration) -> String {
    match duration.as_nanos() as f64 / 1e3 {
        micros if micros < 1e3 => format!("{micros:.0} µs"),
        micros if micros < 1e6 => format!("{:.2} ms", micros / 1e3),
        micros => format!("{:.2} s", micros / 1e6),
    }
}
