//! When a key set is looked at again: by what its server says (RFC 9111), within what its document allows.
//!
//! Cost: per look.

use http::header::{AGE, CACHE_CONTROL, HeaderMap};
use std::time::Duration;

/// A server that says `no-store` or `max-age=0` is not asked more often than this, where the document does not want more.
const FLOOR: Duration = Duration::from_secs(30);
/// After a first failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a failure: an issuer that is back is noticed within it.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Time until the next look after a good one. `chance` is any number: sidecars that began together must not ask together for ever.
pub(super) fn after_answer(headers: &HeaderMap, refresh: Duration, chance: u64) -> Duration {
    let fresh = freshness(headers).unwrap_or(refresh).clamp(FLOOR.min(refresh), refresh);
    fresh - part(fresh / 10, chance)
}

/// Time until the next look after so many failures in a row.
pub(super) fn after_failures(failures: u32, refresh: Duration, chance: u64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10));
    let pause = doubled.min(PAUSE_MAX).min(refresh);
    pause / 2 + part(pause / 2, chance)
}

/// A random part of a time.
fn part(of: Duration, chance: u64) -> Duration {
    const STEPS: u32 = 1_000;
    of / STEPS * u32::try_from(chance % u64::from(STEPS)).unwrap_or(0)
}

/// Time that an answer says it stays fresh: `max-age` less `Age`; none when it may not be kept. Nothing is said: `None`.
///
/// Of several `max-age` the shortest counts: two readings are no reason to believe a withdrawn key for longer.
fn freshness(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let mut shortest: Option<u64> = None;
    for directive in directives {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let seconds = match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => 0,
            // RFC 9111 section 4.2.1: what cannot be read is stale.
            "max-age" => value.trim().trim_matches('"').parse().unwrap_or(0),
            _ => continue,
        };
        shortest = Some(shortest.map_or(seconds, |known| known.min(seconds)));
    }
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse::<u64>().ok()).unwrap_or(0);
    shortest.map(|seconds| Duration::from_secs(seconds.saturating_sub(age)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn after(fields: &[(&'static str, &'static str)], refresh: u64) -> u64 {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        after_answer(&headers, Duration::from_secs(refresh), 0).as_secs()
    }

    #[test]
    fn what_the_server_says_counts_within_what_the_document_allows() {
        for (fields, refresh, seconds) in [
            (&[][..], 600, 600),
            (&[("cache-control", "max-age=120")], 600, 120),
            (&[("cache-control", "public, Max-Age=\"120\"")], 600, 120),
            (&[("cache-control", "max-age=120"), ("age", "60")], 600, 60),
            (&[("cache-control", "max-age=120"), ("age", "500")], 600, 30),
            (&[("cache-control", "max-age=86400")], 600, 600),
            (&[("cache-control", "max-age=1")], 600, 30),
            (&[("cache-control", "max-age=soon")], 600, 30),
            (&[("cache-control", "no-store")], 600, 30),
            (&[("cache-control", "max-age=300, no-cache")], 600, 30),
            (&[("cache-control", "max-age=300"), ("cache-control", "max-age=90")], 600, 90),
            (&[("cache-control", "no-store")], 5, 5),
            (&[("cache-control", "private")], 600, 600),
        ] {
            assert_eq!(after(fields, refresh), seconds, "{fields:?} with refresh {refresh}");
        }
    }

    #[test]
    fn looks_of_many_sidecars_spread_and_never_come_late() {
        let refresh = Duration::from_secs(600);
        let all: Vec<Duration> = (0..1_000).map(|chance| after_answer(&HeaderMap::new(), refresh, chance)).collect();
        assert!(all.iter().all(|time| (Duration::from_secs(540)..=refresh).contains(time)));
        let (first, last) = (all.iter().min().unwrap(), all.iter().max().unwrap());
        assert!(*last - *first > Duration::from_secs(59));
    }

    #[test]
    fn pauses_after_failures_grow_to_a_minute_and_never_beyond_the_refresh() {
        let longest = |failures, refresh| after_failures(failures, Duration::from_secs(refresh), 999).as_millis();
        let seconds: Vec<u128> = (1..=9).map(|failures| longest(failures, 600).div_ceil(1_000)).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(longest(u32::MAX, 600) <= 60_000 && longest(20, 1) <= 1_000);
        assert!(after_failures(7, Duration::from_secs(600), 0) >= Duration::from_secs(30), "half of it at least");
    }
}
