//! The highest rate at which a promise holds: doubled until it breaks, halved in between, and held once more at the end.

use super::result::short;
use super::slo::Slo;
use super::tally::Tally;
use crate::versus::step::Error;
use serde_json::{Value, json};
use std::time::Duration;

/// Rates that are told apart, as a ratio.
const NEAR: f64 = 1.05;
/// Lowest rate that is tried.
const LOWEST: f64 = 1.0;
/// Highest rate that is tried, above what one thread sends.
const HIGHEST: f64 = 1e6;
/// Steps, should a service hold at times and at times not.
const STEPS_MAX: usize = 40;

/// What was found at one rate.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) rate: f64,
    pub(crate) p99: Duration,
    pub(crate) failed: u64,
    /// What of the promise did not hold.
    pub(crate) missed: Vec<String>,
    /// The promise broke since this program was late itself: nothing is known of the service.
    pub(crate) own: bool,
}

impl Step {
    pub(crate) fn of(rate: f64, slo: &Slo, tally: &Tally) -> Self {
        let of = &tally.of_all;
        let missed = slo.missed(of);
        // With half of what was promised spent here, the other half decided nothing.
        let own = !missed.is_empty() && slo.shortest().is_some_and(|most| tally.late.quantile(0.99) > most / 2);
        Self { rate, p99: of.latency.quantile(0.99), failed: of.failed(), missed, own }
    }

    fn holds(&self) -> bool {
        self.missed.is_empty()
    }

    pub(crate) fn text(&self) -> String {
        let verdict = match (self.holds(), self.own) {
            (true, _) => "holds".to_owned(),
            (false, false) => self.missed.join("; "),
            (false, true) => format!("{}; this program itself was late", self.missed.join("; ")),
        };
        format!("{:>10.0}/s  p99 {:>9}  failed {:>6}  {verdict}", self.rate, short(self.p99), self.failed)
    }

    fn json(&self) -> Value {
        let p99 = self.p99.as_nanos() as f64 / 1e3;
        json!({ "rate": self.rate, "p99": p99, "failed": self.failed, "missed": self.missed, "own": self.own })
    }
}

/// A search under way.
pub(crate) struct Search {
    steps: Vec<Step>,
    /// Highest that held, lowest that did not.
    held: Option<f64>,
    broke: Option<f64>,
    /// The highest has held twice.
    sure: bool,
    next: Option<f64>,
}

impl Search {
    pub(crate) fn from(rate: f64) -> Self {
        Self { steps: Vec::new(), held: None, broke: None, sure: false, next: Some(rate.clamp(LOWEST, HIGHEST)) }
    }

    /// The rate to try; none when the search has ended.
    pub(crate) fn next(&self) -> Option<f64> {
        self.next
    }

    pub(crate) fn tried(&mut self, step: Step) {
        let (rate, holds) = (step.rate, step.holds());
        if holds {
            self.sure = self.held == Some(rate);
            self.held = Some(self.held.map_or(rate, |held| held.max(rate)));
        } else {
            // A rate that held once and not again did not hold, and neither did any above it.
            self.held = self.held.filter(|held| *held < rate);
            self.broke = Some(rate);
        }
        self.steps.push(step);
        self.next = self.choose().filter(|_| self.steps.len() < STEPS_MAX);
    }

    fn choose(&self) -> Option<f64> {
        match (self.held, self.broke) {
            _ if self.sure => None,
            (Some(held), Some(broke)) if broke <= held * NEAR => Some(held),
            (Some(held), Some(broke)) => Some((held * broke).sqrt()),
            (Some(held), None) if held >= HIGHEST => Some(held),
            (Some(held), None) => Some((held * 2.0).min(HIGHEST)),
            (None, Some(broke)) if broke <= LOWEST => None,
            (None, Some(broke)) => Some((broke / 2.0).max(LOWEST)),
            (None, None) => None,
        }
    }

    /// The highest rate that held twice, or as long as the search went.
    pub(crate) fn highest(&self) -> Option<f64> {
        self.held
    }

    /// The steps above the highest broke on this program and not on the service: it may do more.
    pub(crate) fn is_lower_bound(&self) -> bool {
        let above = self.steps.iter().filter(|step| !step.holds() && self.held.is_none_or(|held| step.rate > held));
        above.clone().next().is_some() && above.clone().all(|step| step.own)
    }

    pub(crate) fn json(&self, slo: &Slo) -> Value {
        let steps: Vec<_> = self.steps.iter().map(Step::json).collect();
        json!({ "slo": slo.to_string(), "highest": self.held, "lower_bound": self.is_lower_bound(), "steps": steps })
    }
}

/// Searches with `try_at`, which loads at a rate and tells what came of it. A leak ends the search: no rate is right then.
pub(crate) fn search<T>(
    from: f64,
    slo: &Slo,
    mut try_at: impl FnMut(f64) -> Result<(T, Tally), Error>,
) -> Result<(Search, Option<(T, Tally)>), Error> {
    let mut search = Search::from(from);
    let mut best = None;
    while let Some(rate) = search.next() {
        let (with, tally) = try_at(rate)?;
        let step = Step::of(rate, slo, &tally);
        println!("{}", step.text());
        let (holds, leaks) = (step.holds(), tally.of_all.leaked > 0);
        search.tried(step);
        if holds || leaks {
            best = Some((with, tally));
        }
        if leaks {
            break;
        }
    }
    Ok((search, best))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn step(rate: f64, holds: bool, own: bool) -> Step {
        let missed = if holds { Vec::new() } else { vec!["p99".to_owned()] };
        Step { rate, p99: Duration::ZERO, failed: 0, missed, own }
    }

    /// A search over a service that holds up to a rate.
    fn over(from: f64, holds_to: f64) -> Search {
        let mut search = Search::from(from);
        while let Some(rate) = search.next() {
            search.tried(step(rate, rate <= holds_to, false));
        }
        search
    }

    #[test]
    fn the_highest_rate_is_found_from_below_and_from_above() {
        for (from, holds_to) in [(1_000.0, 12_345.0), (1_000.0, 77.0), (1_000.0, 1_000.0), (5.0, 1.0), (1_000.0, 900_000.0)] {
            let search = over(from, holds_to);
            let highest = search.highest().unwrap();
            assert!(highest <= holds_to && highest * NEAR >= holds_to, "{highest} for {holds_to}");
            assert!(search.steps.len() <= 25, "{} steps to {holds_to} from {from}", search.steps.len());
            let held = search.steps.iter().filter(|step| step.rate == highest).count();
            assert_eq!(held, 2, "the highest is held once more");
        }
    }

    #[test]
    fn a_service_that_holds_nothing_or_everything_ends_the_search() {
        assert_eq!(over(1_000.0, 0.0).highest(), None);
        assert_eq!(over(1_000.0, f64::MAX).highest(), Some(HIGHEST));
    }

    #[test]
    fn a_rate_that_held_once_and_not_again_is_not_the_highest() {
        let mut search = Search::from(100.0);
        for holds in [true, false, true, true, true] {
            search.tried(step(search.next().unwrap(), holds, false));
        }
        while let Some(rate) = search.next() {
            // It gets tired: what held before holds no more.
            search.tried(step(rate, rate <= 110.0, false));
        }
        let highest = search.highest().unwrap();
        assert!((104.0..=110.0).contains(&highest), "{highest}");
    }

    #[test]
    fn what_broke_on_this_program_alone_is_a_lower_bound() {
        for (own, bound) in [(true, true), (false, false)] {
            let mut search = Search::from(100.0);
            search.tried(step(100.0, true, false));
            search.tried(step(200.0, false, own));
            assert_eq!(search.is_lower_bound(), bound);
        }
    }
}
