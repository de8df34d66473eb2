//! The load beside wrk: both before the same servers in turns, and whether they tell the same percentiles.
//!
//! Where the server takes its time, what is told is the server's, and has to agree. Where it answers at once, a closed loop's latency
//! is its connections by its rate, which is the speed of whoever asks: there the two are shown and not judged.
//! wrk adds samples of its own for every latency above twice the mean, as if somebody had come meanwhile; those of the server that
//! takes its time stay below, or the comparison would be one of that correction.

use super::engine::{self, Shape};
use super::null::{self, Held};
use super::options::Options;
use super::pace::Pace;
use super::plan::{Plan, Target};
use super::result::short;
use super::sketch::Sketch;
use crate::sidecar::unusable;
use crate::versus::Ended;
use crate::versus::step::{Error, Steps};
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use tempfile::NamedTempFile;

/// Percentiles that both tell.
const SHARES: [(&str, f64); 4] = [("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p99", 0.99)];
/// Most that two may differ by, as a share, where they are judged.
const TOLERANCE: f64 = 0.02;
/// Below twice their mean, for wrk's sake.
const HELD: Held = Held { least: Duration::from_millis(5), most: Duration::from_millis(45) };

pub(super) fn run(options: &Options) -> Result<Ended, Error> {
    let mut wrk = Wrk::new()?;
    super::pin(0);
    let at_once = beside(options, &mut wrk, None)?;
    println!("a server that answers at once: as fast as either can, not judged\n{}", table(&at_once));
    let held = beside(options, &mut wrk, Some(HELD))?;
    println!("a server that takes {} to {}\n{}", short(HELD.least), short(HELD.most), table(&held));
    let furthest = (0..SHARES.len()).map(|at| (quotient(&held, at) - 1.0).abs()).fold(0.0, f64::max);
    let agree = furthest <= TOLERANCE;
    let verdict = if agree { "agree" } else { "do not agree" };
    println!("the two {verdict} within {} %: the furthest is {:.2} % off", TOLERANCE * 100.0, furthest * 100.0);
    Ok(if agree { Ended::Done } else { Ended::TargetMissed })
}

/// What one saw in one turn.
struct Turn {
    requests: u64,
    percentiles: [Duration; SHARES.len()],
}

/// A turn of each.
struct Round {
    ours: Turn,
    wrk: Turn,
}

fn beside(options: &Options, wrk: &mut Wrk, held: Option<Held>) -> Result<Vec<Round>, Error> {
    let address = null::start(1, held)?;
    (0..options.wrk.unwrap_or(1))
        .map(|round| {
            // Who comes first changes: what a machine does more of in time falls to both.
            if round.is_multiple_of(2) {
                let wrk = wrk.turn(options, address)?;
                Ok(Round { wrk, ours: ours(options, address)? })
            } else {
                let ours = ours(options, address)?;
                Ok(Round { ours, wrk: wrk.turn(options, address)? })
            }
        })
        .collect()
}

fn ours(options: &Options, address: SocketAddr) -> Result<Turn, Error> {
    let plan = Plan::of(options, &Target::at(address))?;
    let shape = Shape { pace: Pace::Think(Duration::ZERO), duration: whole_seconds(options), ..super::shape(options) };
    let tally = engine::run(&plan, shape, None, &mut |_, _| {})?;
    complete("the load", tally.of_all.asked, tally.of_all.failed())?;
    Ok(Turn { requests: tally.of_all.asked, percentiles: percentiles(&tally.of_all.latency) })
}

fn percentiles(sketch: &Sketch) -> [Duration; SHARES.len()] {
    SHARES.map(|(_, share)| sketch.quantile(share))
}

/// wrk knows no others.
fn whole_seconds(options: &Options) -> Duration {
    Duration::from_secs(options.duration.as_secs().max(1))
}

/// What failed has no latency: with failures the two would not be of the same requests.
fn complete(who: &str, requests: u64, failed: u64) -> Result<(), Error> {
    match failed {
        0 if requests > 0 => Ok(()),
        _ => Err(Error::Unusable { what: who.to_owned(), why: format!("{failed} of {requests} requests failed before the null server") }),
    }
}

/// wrk, and what it is told to tell.
struct Wrk {
    script: NamedTempFile,
    steps: Steps,
}

impl Wrk {
    fn new() -> Result<Self, Error> {
        let mut script = NamedTempFile::new().map_err(unusable("a temporary file"))?;
        script.write_all(include_bytes!("wrk.lua")).map_err(unusable("a temporary file"))?;
        Ok(Self { script, steps: Steps::new()? })
    }

    fn turn(&mut self, options: &Options, address: SocketAddr) -> Result<Turn, Error> {
        let mut command = Command::new("wrk");
        command.arg("--threads=1").arg(format!("--connections={}", options.connections));
        command.arg(format!("--duration={}", whole_seconds(options).as_secs()));
        command.arg("--script").arg(self.script.path()).arg(format!("http://{address}/"));
        let told = self.steps.output("wrk", &mut command).map_err(with_package)?;
        let not_told = || Error::Unusable { what: "wrk".to_owned(), why: format!("it did not tell what its script asks for: {told}") };
        let (requests, failed, percentiles) = told.lines().find_map(read).ok_or_else(not_told)?;
        complete("wrk", requests, failed)?;
        Ok(Turn { requests, percentiles })
    }
}

fn with_package(error: Error) -> Error {
    match error {
        Error::Absent { what, .. } => Error::Absent { what, brings: "on Debian or Ubuntu: apt-get install wrk" },
        error => error,
    }
}

/// The line of the script: requests, failures, and percentiles in microseconds.
fn read(line: &str) -> Option<(u64, u64, [Duration; SHARES.len()])> {
    let figures: Option<Vec<u64>> = line.strip_prefix("told ")?.split(' ').map(|figure| figure.parse().ok()).collect();
    let [requests, failed, percentiles @ ..] = &figures?[..] else { return None };
    let percentiles: [u64; SHARES.len()] = percentiles.try_into().ok()?;
    Some((*requests, *failed, percentiles.map(Duration::from_micros)))
}

/// The median over the rounds of what we tell for what wrk tells.
fn quotient(rounds: &[Round], at: usize) -> f64 {
    median(quotients(rounds, at))
}

fn quotients(rounds: &[Round], at: usize) -> Vec<f64> {
    let of = |turn: &Turn| turn.percentiles.get(at).copied().unwrap_or_default().as_secs_f64();
    rounds.iter().map(|round| of(&round.ours) / of(&round.wrk)).collect()
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    let (low, high) = (of.get(of.len().saturating_sub(1) / 2), of.get(of.len() / 2));
    low.zip(high).map_or(f64::NAN, |(low, high)| low.midpoint(*high))
}

fn table(rounds: &[Round]) -> String {
    let mut text = format!("{:<10} {:>10} {:>10} {:>10}   {}\n", "", "load", "wrk", "quotient", "lowest and highest of the rounds");
    for (at, (name, _)) in SHARES.iter().enumerate() {
        let of = |turn: fn(&Round) -> &Turn| {
            let seconds = rounds.iter().filter_map(|round| turn(round).percentiles.get(at)).map(Duration::as_secs_f64).collect();
            short(Duration::from_secs_f64(median(seconds)))
        };
        let (ours, wrk) = (of(|round| &round.ours), of(|round| &round.wrk));
        let all = quotients(rounds, at);
        let [lowest, highest] = [all.iter().copied().fold(f64::INFINITY, f64::min), all.iter().copied().fold(0.0, f64::max)];
        text += &format!("{name:<10} {ours:>10} {wrk:>10} {:>10.4}   {lowest:.4} {highest:.4}\n", median(all));
    }
    let asked = |turn: fn(&Round) -> &Turn| median(rounds.iter().map(|round| turn(round).requests as f64).collect());
    let (ours, wrk) = (asked(|round| &round.ours), asked(|round| &round.wrk));
    text + &format!("{:<10} {ours:>10.0} {wrk:>10.0} {:>10.4}\n", "requests", ours / wrk)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_tells_is_read_whole_or_not_at_all() {
        let (requests, failed, percentiles) = read("told 1000 2 25001 35000 41000 44600").unwrap();
        assert_eq!((requests, failed), (1_000, 2));
        assert_eq!(percentiles, [25_001, 35_000, 41_000, 44_600].map(Duration::from_micros));
        for bad in ["", "Running 2s test", "told 1000 2 1 2 3", "told 1000 2 1 2 3 4 5", "told 1000 2 1 2 3 -nan"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_round_that_a_machine_disturbed_decides_nothing() {
        let turn = |micros| Turn { requests: 1, percentiles: [Duration::from_micros(micros); SHARES.len()] };
        let rounds = [(1_010, 1_000), (3_000, 1_000), (1_005, 1_000)].map(|(ours, wrk)| Round { ours: turn(ours), wrk: turn(wrk) });
        assert!((quotient(&rounds, 3) - 1.01).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(Vec::new()).is_nan());
    }
}
