//! The load: requests of many tenants, sent when they are due, every answer checked for its status and for the tenant it names.
//!
//! Absent on purpose: threads. One is enough for some 20,000 requests a second, and what it adds can be told (`--self-test`);
//! whoever needs more starts several.

mod answer;
pub(crate) mod compare;
mod connection;
mod engine;
mod null;
mod plan;
pub(crate) mod report;
mod result;
mod sketch;
mod tally;

use crate::sidecar::unusable;
use crate::versus::Ended;
use crate::versus::step::Error;
use answer::Names;
use clap::Args;
use engine::{Pace, Shape};
use plan::{Header, Plan, Share, Target};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tally::Tally;

/// Load a service with requests of many tenants and check whose data each answer is
///
/// With --rate requests are due at fixed times, whatever the answers do, and latency counts from then: a server that stalls is
/// charged for all who would have come meanwhile. Without it each connection asks again after its answer.
#[derive(Args)]
pub(crate) struct Options {
    /// Where requests go: http://HOST[:PORT][/PATH]
    #[arg(required_unless_present = "self_test")]
    url: Option<Target>,

    /// Requests a second (open loop)
    #[arg(long, value_name = "N", value_parser = rate, conflicts_with = "think")]
    rate: Option<f64>,

    /// Pause of a connection between answer and next request (closed loop), like 20ms
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    think: Duration,

    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_000))]
    connections: u32,

    /// Length of what is counted
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    duration: Duration,

    /// Length of what runs before and is not counted
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    warm_up: Duration,

    /// End after so many requests, should the duration not be over
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    requests: u64,

    /// Longest wait for an answer, from sending
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    timeout: Duration,

    /// Requests after which a connection is replaced
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
    requests_per_connection: u64,

    /// Tenants of the mix, each NAME[@HOST][=WEIGHT]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    tenants: Vec<Share>,

    /// Skew over the list: the weight of its n-th tenant is divided by n to the power of this
    #[arg(long, value_name = "EXPONENT", default_value_t = 0.0, value_parser = skew)]
    zipf: f64,

    /// File of lines `TENANT TOKEN`, sent as bearer tokens
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Method
    #[arg(long, value_name = "NAME", default_value = "GET", value_parser = method)]
    method: String,

    /// Path instead of the URL's; `{tenant}` is the tenant's name
    #[arg(long, value_name = "PATH", value_parser = path)]
    path: Option<String>,

    /// Header to add, `NAME: VALUE`; `{tenant}` in its value is the tenant's name
    #[arg(long, value_name = "HEADER")]
    header: Vec<Header>,

    /// Body
    #[arg(long, value_name = "TEXT", conflicts_with = "body_size")]
    body: Option<String>,

    /// Body of so many bytes
    #[arg(long, value_name = "BYTES")]
    body_size: Option<usize>,

    /// Statuses that are as expected [default: every 2xx]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    expect: Vec<u16>,

    /// Where an answer names its tenant: a header's name, or a JSON pointer into its body such as /told/tenant
    #[arg(long, value_name = "WHERE")]
    answer_tenant: Option<Names>,

    /// Seed of the mix: the same seed gives the same order of tenants
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// File for the result as JSON
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Measure the load itself: against a server that only answers, on another CPU
    #[arg(long, conflicts_with = "url")]
    self_test: bool,
}

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
        pace: options.rate.map_or(Pace::Think(options.think), Pace::Rate),
        connections: options.connections as usize,
        warm_up: options.warm_up,
        duration: options.duration,
        requests_max: options.requests,
        per_connection: options.requests_per_connection,
        timeout: options.timeout,
        seed: options.seed,
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

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate > 0.0 && *rate <= 1e7);
    rate.ok_or_else(|| "it is not a number above zero, of at most ten million".to_owned())
}

fn skew(text: &str) -> Result<f64, String> {
    let skew = text.parse().ok().filter(|skew: &f64| (0.0..=10.0).contains(skew));
    skew.ok_or_else(|| "it is not a number from 0 to 10".to_owned())
}

/// A time such as 500ms, 30s or 5m; at most a day.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.find(|c: char| c.is_ascii_alphabetic()).and_then(|at| text.split_at_checked(at)).unwrap_or((text, ""));
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("it has no unit of us, ms, s or m, as in 500ms".to_owned()),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * scale).filter(|seconds| (0.0..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "it is not a time from 0 to a day, as 30s".to_owned())
}

fn method(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase());
    fits.then(|| text.to_owned()).ok_or_else(|| "it is not a method such as GET".to_owned())
}

fn path(text: &str) -> Result<String, String> {
    let fits = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned()).ok_or_else(|| "it does not begin with / or has other than printable ASCII".to_owned())
}
