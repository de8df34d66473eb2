//! What a service has promised: times that a share of its requests do not exceed, and a share that may fail.

use super::options::duration;
use super::result::short;
use super::tally::{Of, Second};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A promise, as `p99=5ms,p99.9=20ms,failed=0.1%`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slo {
    terms: Vec<Term>,
    /// Share that may fail; none, unless it is written.
    failed: f64,
}

#[derive(Clone, Debug, PartialEq)]
struct Term {
    /// As written, like `p99.9`.
    name: String,
    share: f64,
    most: Duration,
}

impl Slo {
    /// What was promised and does not hold, a sentence each.
    pub(crate) fn missed(&self, of: &Of) -> Vec<String> {
        let late = self.terms.iter().filter_map(|Term { name, share, most }| {
            let found = of.latency.quantile(*share);
            (found > *most).then(|| format!("{name} is {}, above {}", short(found), short(*most)))
        });
        let failed = of.failed() as f64 / of.asked.max(1) as f64;
        let fails = (failed > self.failed).then(|| format!("{:.3} % failed", failed * 100.0));
        let nothing = (of.asked == 0).then(|| "nothing was asked".to_owned());
        late.chain(fails).chain(nothing).collect()
    }

    /// Whether a second broke a promise about its p50 or p99, the two that every second has.
    pub(crate) fn is_missed_in(&self, second: &Second) -> bool {
        let late = self.terms.iter().any(|term| match term.name.as_str() {
            "p50" => second.p50 > term.most,
            "p99" => second.p99 > term.most,
            _ => false,
        });
        late || second.failed as f64 > self.failed * (second.answers + second.failed).max(1) as f64
    }

    /// The shortest time promised.
    pub(crate) fn shortest(&self) -> Option<Duration> {
        self.terms.iter().map(|term| term.most).min()
    }
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut slo = Self { terms: Vec::new(), failed: 0.0 };
        for term in text.split(',') {
            let (name, most) = term.split_once('=').ok_or_else(|| format!("`{term}` is not NAME=MOST, as p99=5ms or failed=0.1%"))?;
            match name {
                "failed" => slo.failed = percent(most).ok_or_else(|| format!("`{most}` is no share from 0% to 100%"))?,
                name => {
                    let share = name.strip_prefix('p').and_then(|digits| percent(&format!("{digits}%"))).filter(|share| *share > 0.0);
                    let share = share.ok_or_else(|| format!("`{name}` is neither `failed` nor a percentile such as p99 or p99.9"))?;
                    let most = duration(most).map_err(|why| format!("`{most}`: {why}"))?;
                    slo.terms.push(Term { name: name.to_owned(), share, most });
                }
            }
        }
        Ok(slo)
    }
}

fn percent(text: &str) -> Option<f64> {
    let percent: f64 = text.strip_suffix('%')?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

impl fmt::Display for Slo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Term { name, most, .. } in &self.terms {
            write!(out, "{name} at most {}, ", short(*most))?;
        }
        write!(out, "failed at most {} %", self.failed * 100.0)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_promise_holds_or_says_what_does_not() {
        let mut of = Of { asked: 1_000, ..Of::default() };
        (1..=1_000).for_each(|sample| of.latency.add(Duration::from_micros(sample * 10)));
        of.unexpected = 2;
        for (text, missed) in [
            ("p50=6ms,p99=11ms,failed=1%", &[][..]),
            ("p50=4ms,p99=11ms,failed=1%", &["p50"]),
            ("p99.9=9ms,failed=0.1%", &["p99.9", "failed"]),
            ("p99=11ms", &["failed"]),
        ] {
            let told = text.parse::<Slo>().unwrap().missed(&of);
            assert_eq!(told.len(), missed.len(), "{text}: {told:?}");
            assert!(told.iter().zip(missed).all(|(told, word)| told.contains(word)), "{text}: {told:?}");
        }
        assert_eq!("p99=5ms".parse::<Slo>().unwrap().missed(&Of::default()), ["nothing was asked"]);
    }

    #[test]
    fn what_promises_nothing_is_refused() {
        for bad in ["", "p99", "p99=5", "p0=5ms", "p101=5ms", "q99=5ms", "failed=2", "failed=101%", "p99=5ms,"] {
            assert!(bad.parse::<Slo>().is_err(), "{bad}");
        }
    }
}
