//! A sketch of durations: percentiles of any number of samples within 0.8 %, in bounded memory.
//!
//! Cost: per sample; one index, one addition; it allocates when a longer duration than any before comes.
//! Log-linear: 128 steps in every doubling, so that the error is a share of the value, not a fixed time.

use std::time::Duration;

/// Steps of each doubling, as a power of two.
const STEP_BITS: u32 = 7;
const STEPS: u64 = 1 << STEP_BITS;

/// Counts by duration.
#[derive(Default)]
pub(crate) struct Sketch {
    counts: Vec<u64>,
    samples: u64,
    sum_nanos: u128,
    max_nanos: u64,
}

impl Sketch {
    pub(crate) fn add(&mut self, sample: Duration) {
        let nanos = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX);
        let index = index(nanos);
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
        self.samples += 1;
        self.sum_nanos += u128::from(nanos);
        self.max_nanos = self.max_nanos.max(nanos);
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    /// Shortest duration that `share` of the samples do not exceed; zero without samples.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = ((self.samples as f64 * share).ceil() as u64).clamp(1, self.samples.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(highest(index).min(self.max_nanos));
            }
        }
        Duration::ZERO
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }

    pub(crate) fn mean(&self) -> Duration {
        let mean = self.sum_nanos / u128::from(self.samples.max(1));
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }
}

fn index(nanos: u64) -> usize {
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(STEP_BITS + 1);
    let index = u64::from(shift) * STEPS + (nanos >> shift);
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// The longest duration that is counted at `index`.
fn highest(index: usize) -> u64 {
    let index = index as u64;
    let shift = (index / STEPS).saturating_sub(1);
    (((index - shift * STEPS) + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_samples_within_a_hundredth() {
        let mut sketch = Sketch::default();
        let samples: Vec<u64> = (0..100_000_u64).map(|n| 1_000 + (n * 7_919 % 100_000) * 977).collect();
        samples.iter().for_each(|nanos| sketch.add(Duration::from_nanos(*nanos)));
        let mut sorted = samples;
        sorted.sort_unstable();
        for share in [0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let exact = sorted.get((100_000.0 * share) as usize - 1).copied().unwrap_or_default() as f64;
            let told = sketch.quantile(share).as_nanos() as f64;
            assert!((told / exact - 1.0).abs() < 0.01, "{share}: {told} for {exact}");
        }
    }

    #[test]
    fn every_duration_is_counted_where_it_belongs() {
        for nanos in (0..62).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]) {
            let top = highest(index(nanos));
            assert!(top >= nanos && top - nanos <= nanos / 128 + 1, "{nanos} stands under {top}");
        }
    }

    #[test]
    fn nothing_measured_is_zero() {
        assert_eq!(Sketch::default().quantile(0.99), Duration::ZERO);
        assert_eq!(Sketch::default().mean(), Duration::ZERO);
    }
}
