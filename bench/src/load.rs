//! The load: requests of many tenants, sent when they are due, every answer checked for its status and for the tenant it names.
//!
//! Absent on purpose: threads. One is enough for some 20,000 requests a second, and what it adds can be told (`--self-test`);
//! whoever needs more starts several.

mod answer;
pub(crate) mod compare;
mod connection;
mod engine;
mod null;
mod options;
mod pace;
mod plan;
pub(crate) mod report;
mod result;
mod sketch;
mod tally;
mod tls;

use crate::sidecar::unusable;
use crate::versus::Ended;
use crate::versus::step::Error;
use engine::Shape;
pub(crate) use options::Options;
use pace::Pace;
use plan::{Plan, Target};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};
use tally::Tally;

/// Loads, or measures the load.
pub(crate) fn run(options: &Options) -> Result<Ended, Error> {
    match &options.url {
        Some(target) => load(options, target),
        None => self_test(options),
    }
}

fn load(options: &Options, target: &Target) -> Result<Ended, Error> {
    let plan = Plan::of(options, target)?;
    let shape = shape(options);
    let (tally, cpu) = timed(&plan, shape)?;
    print!("{}", result::table(&plan, &shape, &tally));
    if let Some(file) = &options.output {
        let text = format!("{:#}\n", result::json(&plan, &shape, &tally, cpu));
        std::fs::write(file, text).map_err(unusable(file.display()))?;
    }
    if tally.of_all.asked == 0 {
        return Err(Error::Usage("nothing was asked after the warm-up: give a longer --duration or a higher --rate".to_owned()));
    }
    Ok(if tally.of_all.failed() > 0 { Ended::TargetMissed } else { Ended::Done })
}

/// Two runs over the null server: as fast as can be, then at a rate.
fn self_test(options: &Options) -> Result<Ended, Error> {
    let target = Target::at(null::start(1)?);
    pin(0);
    let plan = Plan::of(options, &target)?;
    let closed = Shape { pace: Pace::Think(Duration::ZERO), warm_up: Duration::from_millis(500), ..shape(options) };
    let (tally, cpu) = timed(&plan, closed)?;
    let highest = tally.rate(closed.duration);
    let own = cpu / u32::try_from(tally.of_all.asked).unwrap_or(u32::MAX).max(1);
    println!("highest rate: {highest:.0} a second; own CPU time of a request: {:.1} µs", own.as_nanos() as f64 / 1e3);
    let rate = options.rate.unwrap_or(20_000.0);
    let open = Shape { pace: Pace::Rate(rate), ..closed };
    let (tally, _) = timed(&plan, open)?;
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
fn timed(plan: &Plan, shape: Shape) -> Result<(Tally, Duration), Error> {
    let mut progress = Progress { terminal: std::io::stderr().is_terminal(), told: 0, whole: shape.duration };
    let before = thread_cpu();
    let tally = engine::run(plan, shape, &mut |tally, now| progress.tell(tally, now))?;
    progress.end();
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

/// What is told while one waits: a line that is renewed on a terminal, elsewhere a line now and then.
struct Progress {
    terminal: bool,
    told: usize,
    whole: Duration,
}

impl Progress {
    /// Seconds between two lines where they stay.
    const PLAIN: usize = 10;

    fn tell(&mut self, tally: &Tally, now: Instant) {
        let done = tally.seconds.len();
        let Some(last) = tally.seconds.last().filter(|_| done > self.told) else { return };
        if !self.terminal && !done.is_multiple_of(Self::PLAIN) {
            return;
        }
        self.told = done;
        let share = (now.saturating_duration_since(tally.began).as_secs_f64() / self.whole.as_secs_f64()).min(1.0);
        let filled = (share * 20.0) as usize;
        let bar = format!("{}{}", "#".repeat(filled), ".".repeat(20_usize.saturating_sub(filled)));
        let (p50, p99) = (result::short(last.p50), result::short(last.p99));
        let line = format!("[{bar}] {done} s  {}/s  p50 {p50}  p99 {p99}  failed {}", last.answers, tally.of_all.failed());
        // Whether anybody reads it makes no difference to the run.
        let _ = match self.terminal {
            true => write!(std::io::stderr(), "\r\x1b[K{line}"),
            false => writeln!(std::io::stderr(), "{line}"),
        };
    }

    fn end(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
