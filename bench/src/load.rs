//! The load: requests of many tenants, sent when they are due, every answer checked for its status and for the tenant it names.
//!
//! Absent on purpose: threads. One is enough for some 20,000 requests a second, and what it adds can be told (`--self-test`);
//! whoever needs more starts several.

mod answer;
mod beside;
mod churn;
pub(crate) mod compare;
mod connection;
mod engine;
mod issuer;
mod mix;
mod null;
mod options;
mod pace;
mod plan;
pub(crate) mod report;
mod result;
mod samples;
mod search;
mod sketch;
mod slo;
mod tally;
mod tls;
mod view;

use crate::sidecar::unusable;
use crate::versus::Ended;
use crate::versus::step::Error;
use churn::Churning;
use engine::Shape;
pub(crate) use options::Options;
use pace::Pace;
use plan::{Plan, Target};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use samples::Samples;
use serde_json::Value;
use slo::Slo;
use std::time::Duration;
use tally::Tally;
use view::View;

/// Loads, searches, or measures the load.
pub(crate) fn run(options: &Options) -> Result<Ended, Error> {
    match (&options.url, &options.slo) {
        (Some(target), Some(slo)) if options.find_max => find_max(options, target, slo),
        (Some(target), _) => load(options, target),
        (None, _) if options.wrk.is_some() => beside::run(options),
        (None, _) => self_test(options),
    }
}

fn load(options: &Options, target: &Target) -> Result<Ended, Error> {
    let plan = Plan::of(options, target)?;
    let shape = shape(options);
    let samples = options.samples.as_deref().map(Samples::create).transpose()?;
    let churning = churning(options)?;
    let (mut tally, cpu) = timed(&plan, shape, samples)?;
    let changes = churning.map(Churning::end);
    print!("{}", result::table(&plan, &shape, &tally));
    changes.iter().for_each(|changes| println!("{changes}"));
    let missed = options.slo.as_ref().map(|slo| promised(slo, &shape, &tally)).unwrap_or_default();
    let mut result = result::json(&plan, &shape, &tally, cpu);
    add(&mut result, "policy_changes", changes.as_ref().map(|changes| changes.json(tally.began)));
    write(options, &result)?;
    tally.samples.take().map(Samples::finish).transpose()?;
    if tally.of_all.asked == 0 {
        return Err(Error::Usage("nothing was asked after the warm-up: give a longer --duration or a higher --rate".to_owned()));
    }
    // What may fail is the promise's to say, where there is one. A leak may never be.
    let failed = if options.slo.is_some() { missed } else { tally.of_all.failed() > 0 };
    let unchanged = changes.is_some_and(|changes| changes.failed());
    Ok(if failed || unchanged || tally.of_all.leaked > 0 { Ended::TargetMissed } else { Ended::Done })
}

fn churning(options: &Options) -> Result<Option<Churning>, Error> {
    options.policy_churn.clone().map(|churn| Churning::start(churn, options.every)).transpose()
}

/// Adds what not every result has.
fn add(result: &mut Value, name: &str, part: Option<Value>) {
    if let (Some(result), Some(part)) = (result.as_object_mut(), part) {
        result.insert(name.to_owned(), part);
    }
}

fn write(options: &Options, result: &Value) -> Result<(), Error> {
    let Some(file) = &options.output else { return Ok(()) };
    std::fs::write(file, format!("{result:#}\n")).map_err(unusable(file.display()))
}

/// Tells whether the promise held, and of a ramp how far. True: it did not.
fn promised(slo: &Slo, shape: &Shape, tally: &Tally) -> bool {
    let missed = slo.missed(&tally.of_all);
    println!("promised: {slo}: {}", if missed.is_empty() { "holds".to_owned() } else { missed.join("; ") });
    if let Pace::Ramp(ramp) = shape.pace
        && let Some(second) = tally.seconds.iter().position(|second| slo.is_missed_in(second))
    {
        let rate = ramp.rate_at(Duration::from_secs(second as u64));
        println!("it held for {second} s, up to {rate:.0} requests a second");
    }
    !missed.is_empty()
}

/// Loads at one rate after another; the result is that of the highest that held.
fn find_max(options: &Options, target: &Target, slo: &Slo) -> Result<Ended, Error> {
    let plan = Plan::of(options, target)?;
    let at = |rate| Shape { pace: Pace::Rate(rate), ..shape(options) };
    println!("promised: {slo}");
    let churning = churning(options)?;
    let (search, best) = search::search(options.rate.unwrap_or(FIRST_RATE), slo, |rate| {
        let (tally, cpu) = timed(&plan, at(rate), None)?;
        Ok(((cpu, rate), tally))
    })?;
    let changes = churning.map(Churning::end);
    changes.iter().for_each(|changes| println!("{changes}"));
    if let Some(((cpu, rate), tally)) = &best {
        let mut result = result::json(&plan, &at(*rate), tally, *cpu);
        add(&mut result, "search", Some(search.json(slo)));
        add(&mut result, "policy_changes", changes.as_ref().map(|changes| changes.json(tally.began)));
        print!("\n{}", result::table(&plan, &at(*rate), tally));
        write(options, &result)?;
        if tally.of_all.leaked > 0 {
            return Ok(Ended::TargetMissed);
        }
    }
    if changes.is_some_and(|changes| changes.failed()) {
        return Ok(Ended::TargetMissed);
    }
    let Some(highest) = search.highest() else {
        println!("\nthe promise holds at no rate, not even the lowest that was tried");
        return Ok(Ended::TargetMissed);
    };
    let more = if search.is_lower_bound() { "; above, this program was too late itself to tell: start several" } else { "" };
    println!("\nhighest rate that holds: {highest:.0} requests a second{more}");
    Ok(Ended::Done)
}

/// Where a search begins that was told no rate.
const FIRST_RATE: f64 = 1_000.0;

/// Two runs over the null server: as fast as can be, then at a rate.
fn self_test(options: &Options) -> Result<Ended, Error> {
    let target = Target::at(null::start(1, None)?);
    pin(0);
    let plan = Plan::of(options, &target)?;
    let closed = Shape { pace: Pace::Think(Duration::ZERO), warm_up: Duration::from_millis(500), ..shape(options) };
    let (tally, cpu) = timed(&plan, closed, None)?;
    let highest = tally.rate(closed.duration);
    let own = cpu / u32::try_from(tally.of_all.asked).unwrap_or(u32::MAX).max(1);
    println!("highest rate: {highest:.0} a second; own CPU time of a request: {:.1} µs", own.as_nanos() as f64 / 1e3);
    let rate = options.rate.unwrap_or(20_000.0);
    let open = Shape { pace: Pace::Rate(rate), ..closed };
    let (tally, _) = timed(&plan, open, None)?;
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| result::short(tally.lag.quantile(share)));
    let answers = tally.rate(open.duration);
    println!("at {rate:.0} a second: {answers:.0} answered; sent after due: p50 {p50}, p99 {p99}, p99.9 {p999}");
    let met = tally.lag.quantile(0.99) < LAG_PROMISED && tally.of_all.failed() == 0;
    println!("promised: p99 under {}: {}", result::short(LAG_PROMISED), if met { "met" } else { "not met" });
    Ok(if met { Ended::Done } else { Ended::TargetMissed })
}

/// Timing error, at its 99th percentile, that the load stays below.
const LAG_PROMISED: Duration = Duration::from_micros(200);

fn shape(options: &Options) -> Shape {
    Shape {
        pace: pace(options),
        connections: options.connections as usize,
        warm_up: options.warm_up,
        duration: options.duration,
        requests_max: options.requests,
        per_connection: options.requests_per_connection,
        timeout: options.timeout,
        seed: options.seed,
    }
}

fn pace(options: &Options) -> Pace {
    match (options.rate, options.ramp) {
        (Some(rate), _) => Pace::Rate(rate),
        (None, Some(ramp)) => Pace::Ramp(ramp),
        (None, None) => Pace::Think(options.think),
    }
}

/// A run with the CPU time it took of this thread.
fn timed(plan: &Plan, shape: Shape, samples: Option<Samples>) -> Result<(Tally, Duration), Error> {
    let mut view = View::of(plan, shape.duration);
    let before = thread_cpu();
    let tally = engine::run(plan, shape, samples, &mut |tally, now| view.tell(tally, now))?;
    view.end();
    Ok((tally, thread_cpu().saturating_sub(before)))
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Puts this thread on `cpu`. Where it cannot, it stays where it is, and the figures tell.
fn pin(cpu: usize) {
    let mut cpus = CpuSet::new();
    if cpu < CpuSet::MAX_CPU {
        cpus.set(cpu);
        let _ = sched_setaffinity(None, &cpus);
    }
}
