//! When requests are due.

use std::time::Duration;

/// When the next request is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// Open loop: so many a second, whatever the answers do.
    Rate(f64),
    /// Open loop whose rate rises or falls.
    Ramp(Ramp),
    /// Closed loop: each place of a connection asks again so long after its answer.
    Think(Duration),
}

/// A rate that goes evenly from one value to another, and stays there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ramp {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) over: Duration,
}

impl Ramp {
    /// When the `n`-th request is due. From a formula, not from the one before it: errors do not add up.
    pub(crate) fn due(self, n: u64, warm_up: Duration) -> Duration {
        let (n, warm_up, over) = (n as f64, warm_up.as_secs_f64(), self.over.as_secs_f64());
        let steady = n / self.from;
        if steady <= warm_up {
            return Duration::from_secs_f64(steady);
        }
        // Requests of the ramp up to time t: from·t + slope·t²/2.
        let n = n - warm_up * self.from;
        let slope = (self.to - self.from) / over;
        let whole = (self.from + self.to) / 2.0 * over;
        let after = match n {
            n if n >= whole => over + (n - whole) / self.to,
            // The form that loses no digits where the slope is near zero.
            n => 2.0 * n / (self.from + (self.from * self.from + 2.0 * slope * n).sqrt()),
        };
        Duration::from_secs_f64(warm_up + after)
    }

    /// The rate so long after the warm-up.
    pub(crate) fn rate_at(self, after: Duration) -> f64 {
        let share = (after.as_secs_f64() / self.over.as_secs_f64()).min(1.0);
        self.from + (self.to - self.from) * share
    }
}

impl std::str::FromStr for Ramp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [from, to, over] = text.split(':').collect::<Vec<_>>()[..] else {
            return Err("it is not FROM:TO:TIME, as 1000:20000:10s".to_owned());
        };
        let (from, to, over) = (super::options::rate(from)?, super::options::rate(to)?, super::options::duration(over)?);
        if over.is_zero() { Err("its time is zero: --rate is for a rate that stays".to_owned()) } else { Ok(Self { from, to, over }) }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_has_its_rates_where_it_says() {
        let second = Duration::from_secs(1);
        for (text, at, rate) in [
            ("100:1000:9s", 0.5, 100.0),
            ("100:1000:9s", 1.0, 100.0),
            ("100:1000:9s", 5.5, 550.0),
            ("100:1000:9s", 10.0, 1_000.0),
            ("100:1000:9s", 14.0, 1_000.0),
            ("1000:100:9s", 5.5, 550.0),
            ("500:500:9s", 5.5, 500.0),
        ] {
            let ramp: Ramp = text.parse().unwrap();
            // Requests due within a tenth of a second around it.
            let due: Vec<f64> = (0..20_000).map(|n| ramp.due(n, second).as_secs_f64()).collect();
            assert!(due.is_sorted(), "{text}");
            let around = due.iter().filter(|due| (at - 0.05..at + 0.05).contains(*due)).count() as f64;
            assert!((around - rate / 10.0).abs() <= rate / 200.0 + 1.0, "{text} has {around} around {at}");
        }
    }

    #[test]
    fn what_is_no_ramp_is_refused() {
        for bad in ["", "1:2", "0:1:1s", "1:0:1s", "1:2:0s", "1:2:3", "1:2:3s:4"] {
            assert!(bad.parse::<Ramp>().is_err(), "{bad}");
        }
    }
}
