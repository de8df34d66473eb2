//! Many tenants: how long a sidecar takes from its start until it serves all of them, and what it keeps of each.
//!
//! Memory is anonymous memory (`RssAnon`) once it has come to rest, less that of a sidecar with the same platform and no tenant.

use crate::sidecar::{Sidecar, sidecar_under_test};
use crate::versus::Ended;
use crate::versus::step::Error;
use clap::Args;
use documents::{File, Policy, ROLES, files};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

mod documents;

const KIB: f64 = 1_024.0;
/// What is promised of ten thousand tenants.
const PROMISED_OF: u32 = 10_000;
const LIVE_MAX: Duration = Duration::from_secs(5);
/// Of a tenant with roles and bindings of its own, and of one without.
const OWN_MAX: f64 = 8.0 * KIB;
const SHARED_MAX: f64 = KIB;

/// Measure how long our sidecar takes to serve many tenants, and what it keeps of each
///
/// Builds the sidecar with profile `dist`, and starts it with one worker over documents made for this: once without tenants,
/// once with all of them.
#[derive(Args)]
pub(crate) struct Options {
    /// How many tenants
    #[arg(long, value_name = "N", default_value_t = PROMISED_OF, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tenants: u32,

    /// Each with 20 roles and 20 bindings of its own; without, its plan's count
    #[arg(long)]
    own_policy: bool,

    /// End with code 1 when a target is missed
    #[arg(long)]
    gate: bool,

    /// Take the sidecar as it was built last
    #[arg(long)]
    no_build: bool,

    /// Measure this sidecar, and build none
    #[arg(long, value_name = "FILE", conflicts_with = "no_build")]
    sidecar: Option<PathBuf>,

    /// Bulkhead's source tree [default: where this program was built from]
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
}

/// One line of the table.
struct Figure {
    of: &'static str,
    measured: String,
    /// What is promised, and whether it is kept.
    promised: Option<(String, bool)>,
}

/// What was seen of one start.
struct Start {
    live: Duration,
    ready: Duration,
    cpu: Duration,
    /// Bytes.
    anonymous: u64,
    highest: u64,
}

/// From an empty target folder to the table.
pub(crate) fn run(options: &Options) -> Result<Ended, Error> {
    let program = sidecar_under_test(options.sidecar.as_deref(), options.repo.as_deref(), options.no_build)?;
    let policy = if options.own_policy { Policy::Own } else { Policy::Shared };
    let measure = |files: &[File]| {
        let texts: Vec<(&str, &str)> = files.iter().map(|file| (&*file.name, &*file.text)).collect();
        let sidecar = Sidecar::start(&program, &texts)?;
        let anonymous = sidecar.anonymous()?;
        Ok(Start { live: sidecar.live()?, ready: sidecar.ready(), cpu: sidecar.cpu()?, anonymous, highest: sidecar.highest()? })
    };
    let (none, all) = (measure(&files(0, policy))?, measure(&files(options.tenants, policy))?);
    let figures = figures(&none, &all, options.tenants, policy);
    print!("{}", table(&figures, options.tenants, policy));
    let misses = figures.iter().any(|figure| figure.promised.as_ref().is_some_and(|(_, is_kept)| !is_kept));
    Ok(if options.gate && misses { Ended::TargetMissed } else { Ended::Done })
}

fn figures(none: &Start, all: &Start, tenants: u32, policy: Policy) -> Vec<Figure> {
    let each = |of_all: u64, of_none: u64| each(of_all, of_none, tenants);
    let kept = each(all.anonymous, none.anonymous);
    let most = if policy == Policy::Own { OWN_MAX } else { SHARED_MAX };
    // Fewer tenants share what is the same for all, more than were promised take longer: then nothing is said of the promise.
    let promised = |text: String, is_kept: bool| (tenants == PROMISED_OF).then_some((text, is_kept));
    let figure = |of, measured, promised| Figure { of, measured, promised };
    vec![
        figure("from the documents read to their policy served", seconds(all.live), promised(seconds(LIVE_MAX), all.live <= LIVE_MAX)),
        figure("from start to ready", seconds(all.ready), None),
        figure("CPU time of the start", seconds(all.cpu), None),
        figure("memory a tenant, at rest", kib(kept), promised(kib(most), kept <= most)),
        figure("memory a tenant, at the highest", kib(each(all.highest, none.highest)), None),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a process; a few of them make no difference")]
fn each(of_all: u64, of_none: u64, tenants: u32) -> f64 {
    of_all.saturating_sub(of_none) as f64 / f64::from(tenants)
}

fn table(figures: &[Figure], tenants: u32, policy: Policy) -> String {
    let with = if policy == Policy::Own { format!(" with {ROLES} roles and {ROLES} bindings each") } else { String::new() };
    let documents = u64::from(tenants) * u64::from(policy.documents());
    let mut text = format!("| {tenants} tenants{with} ({documents} documents) | measured | promised |\n|---|---|---|\n");
    for Figure { of, measured, promised } in figures {
        let promised = promised.as_ref().map(|(text, is_kept)| format!("{text}: {}", if *is_kept { "met" } else { "**missed**" }));
        // Writing to a text cannot fail.
        let _ = writeln!(text, "| {of} | {measured} | {} |", promised.unwrap_or_default());
    }
    text
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn kib(bytes: f64) -> String {
    format!("{:.1} KiB", bytes / KIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(seconds: u64, mib: u64) -> Start {
        let time = Duration::from_secs(seconds);
        Start { live: time, ready: time, cpu: time, anonymous: mib << 20, highest: mib << 20 }
    }

    #[test]
    fn a_promise_is_kept_or_missed_at_the_size_it_was_given_for_alone() {
        let verdicts = |tenants, policy, (seconds, mib)| {
            let figures = figures(&start(0, 2), &start(seconds, mib), tenants, policy);
            figures.iter().filter_map(|figure| figure.promised.as_ref().map(|(_, is_kept)| *is_kept)).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(PROMISED_OF, Policy::Own, (5, 80)), [true, true]);
        assert_eq!(verdicts(PROMISED_OF, Policy::Own, (6, 81)), [false, false]);
        assert_eq!(verdicts(PROMISED_OF, Policy::Shared, (1, 80)), [true, false]);
        assert_eq!(verdicts(100, Policy::Own, (6, 200)), [] as [bool; 0]);
    }

    #[test]
    fn what_a_sidecar_without_tenants_takes_is_no_tenants() {
        let figures = figures(&start(0, 3), &start(0, 13), 10, Policy::Own);
        let text = table(&figures, 10, Policy::Own);
        assert!(text.starts_with("| 10 tenants with 20 roles and 20 bindings each (410 documents) |"), "{text}");
        assert!(text.contains("| memory a tenant, at rest | 1024.0 KiB |  |"), "{text}");
    }
}
