//! What is logged of a change: the parts that are served now, and each one that is not, with where and why.

use super::last_good::{Findings, LastGood};
use super::receive::Change;
use crate::telemetry::log::{Level, Line, Log, Value};
use bulkhead_config::name::TenantId;
use bulkhead_config::protocol::{Part, Serving};
use std::time::Duration;

const COMPONENT: &str = "core.config";
/// Parts that are named in one line, and lines that tell of one part each.
const NAMED_MAX: usize = 20;

/// One change.
pub(super) fn change(log: &Log, change: &Change, took: Duration) {
    let report = &change.report;
    if !report.accepted.is_empty() {
        let parts = names(&report.accepted);
        let more = [
            ("revision", Value::from(report.epoch.revision)),
            ("parts", Value::from(&parts)),
            ("quarantined", Value::from(report.quarantined.len())),
        ];
        let line =
            Line { level: Level::Info, component: COMPONENT, tenant: None, message: &"policy is live", latency: Some(took), more: &more };
        log.write(&line);
    }
    if !report.gone.is_empty() {
        let parts = names(&report.gone);
        log.info(COMPONENT, sole_tenant(&report.gone), "no longer declared, so no longer served", &[("parts", Value::from(&parts))]);
    }
    for fallen in change.fallen.iter().take(NAMED_MAX) {
        let part = fallen.part.to_string();
        let serving = match fallen.serving {
            Serving::LastGood => "last_good",
            Serving::Held => "held",
        };
        let message = format!("not served as declared: {}", fallen.instead());
        let more = [("part", Value::from(&part)), ("serving", serving.into()), ("mistakes", Value::Shown(&fallen.diagnostics))];
        log.warn(COMPONENT, tenant(&fallen.part), &message, &more);
    }
    if let Some(others @ 1..) = change.fallen.len().checked_sub(NAMED_MAX) {
        log.warn(COMPONENT, None, "more parts are not served as declared; the status names them all", &[("parts", others.into())]);
    }
    if !change.risen.is_empty() {
        let parts = names(&change.risen);
        log.info(COMPONENT, sole_tenant(&change.risen), "served as declared again", &[("parts", Value::from(&parts))]);
    }
}

/// Whether good versions are kept on disk, when that changed.
pub(super) fn trouble(log: &Log, before: Option<&str>, now: Option<&str>) {
    match (before, now) {
        (None, Some(why)) => {
            let message = "good versions cannot be kept on disk; after a crash only what is declared counts";
            log.warn(COMPONENT, None, message, &[("why", why.into())]);
        }
        (Some(_), None) => log.info(COMPONENT, None, "good versions are kept on disk again", &[]),
        _ => {}
    }
}

/// What an earlier process left.
pub(super) fn findings(log: &Log, findings: &Findings, last_good: &LastGood) {
    for damage in &findings.damage {
        let more = [("damage", Value::from(damage)), ("kept_as", "policy/journal.damaged".into())];
        log.warn(COMPONENT, None, "the journal of good versions is damaged; what its hashes prove is used", &more);
    }
    if findings.is_lost {
        log.warn(COMPONENT, None, "what earlier processes kept is lost; starting from what is declared alone", &[]);
    } else if last_good.is_first_start() {
        log.info(COMPONENT, None, "nothing was served from this data directory before; starting from what is declared alone", &[]);
    }
    trouble(log, None, last_good.trouble());
    if findings.is_unclean {
        let trials: Vec<Part> = last_good.ledger.trials().map(|(part, _, _)| part.clone()).collect();
        let more = [("suspects", Value::Text(&names(&trials)))];
        log.warn(COMPONENT, None, "the process before this one did not end in order", &more);
    }
}

fn names(parts: &[Part]) -> String {
    let mut names = parts.iter().take(NAMED_MAX).map(Part::to_string).collect::<Vec<_>>().join(", ");
    if let Some(others @ 1..) = parts.len().checked_sub(NAMED_MAX) {
        names.push_str(&format!(" and {others} more"));
    }
    names
}

/// The tenant that a line is about, where it is about one alone.
fn sole_tenant(parts: &[Part]) -> Option<&TenantId> {
    if let [part] = parts { tenant(part) } else { None }
}

fn tenant(part: &Part) -> Option<&TenantId> {
    match part {
        Part::Tenant(tenant) => Some(tenant),
        Part::Platform | Part::File(_) => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::telemetry::spool::tests::{Page, wait_for_writer};

    #[tokio::test]
    async fn a_disk_that_keeps_nothing_is_told_when_it_begins_and_when_it_ends() {
        let page = Page::default();
        let log = Log::start(page.sink(), Level::Info).unwrap();
        for (before, now) in [(None, None), (None, Some("full")), (Some("full"), Some("full")), (Some("full"), None)] {
            trouble(&log, before, now);
        }
        assert!(log.flush(wait_for_writer()).await);
        let levels: Vec<bool> = page.text().lines().map(|line| line.contains("\"WARN\"")).collect();
        assert_eq!(levels, [true, false], "{}", page.text());
    }
}
