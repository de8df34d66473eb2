//! What is told while one waits: on a terminal a picture of the last second that is drawn anew, elsewhere a line now and then.

use super::plan::Plan;
use super::result::short;
use super::tally::{Second, Tally};
use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Between two pictures.
const FRAME: Duration = Duration::from_millis(250);
/// Seconds between two lines where they stay.
const PLAIN: usize = 10;
const BAR: usize = 24;
/// Columns of a tenant's name before the figures move.
const NAME: usize = 20;

/// The view of one run.
pub(crate) struct View<'a> {
    plan: &'a Plan,
    whole: Duration,
    kind: Kind,
}

enum Kind {
    Terminal {
        colours: bool,
        drawn: Option<Instant>,
        /// Lines that stand there.
        lines: usize,
    },
    Plain {
        /// Seconds that were told.
        told: usize,
    },
}

impl<'a> View<'a> {
    pub(crate) fn of(plan: &'a Plan, whole: Duration) -> Self {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        // A terminal that cannot go up again gets lines.
        let terminal = io::stderr().is_terminal() && set("TERM").is_some_and(|term| term != "dumb");
        let kind = match terminal {
            true => Kind::Terminal { colours: set("NO_COLOR").is_none(), drawn: None, lines: 0 },
            false => Kind::Plain { told: 0 },
        };
        Self { plan, whole, kind }
    }

    /// Whether anybody reads it makes no difference to the run: what cannot be written is not.
    pub(crate) fn tell(&mut self, tally: &Tally, now: Instant) {
        match &mut self.kind {
            Kind::Plain { told } => {
                let done = tally.seconds.len();
                if done >= *told + PLAIN {
                    *told = done;
                    let _ = writeln!(io::stderr(), "{}", line(tally, self.whole));
                }
            }
            Kind::Terminal { colours, drawn, lines } => {
                if drawn.is_none_or(|drawn| now >= drawn + FRAME) {
                    *drawn = Some(now);
                    let frame = frame(self.plan, tally, now, self.whole, *colours);
                    let _ = io::stderr().write_all(redrawn(&frame, *lines).as_bytes());
                    *lines = frame.len();
                }
            }
        }
    }

    /// Leaves nothing behind on a terminal.
    pub(crate) fn end(self) {
        if let Kind::Terminal { lines, .. } = self.kind {
            let _ = io::stderr().write_all(redrawn(&[], lines).as_bytes());
        }
    }
}

/// Over what stood there, in one piece. Lines are cut where the terminal ends, and it breaks them again afterwards: one that is
/// broken would stand on two rows, and the way up would be too short.
fn redrawn(frame: &[String], stood: usize) -> String {
    let mut text = if stood > 0 { format!("\x1b[{stood}F") } else { String::new() };
    text.push_str("\x1b[J\x1b[?7l");
    frame.iter().for_each(|line| text.extend([line, "\n"]));
    text + "\x1b[?7h"
}

fn line(tally: &Tally, whole: Duration) -> String {
    let none = Second::default();
    let last = tally.seconds.last().unwrap_or(&none);
    let (done, whole, of) = (tally.seconds.len(), whole.as_secs_f64(), &tally.of_all);
    let (p50, p99) = (short(last.p50), short(last.p99));
    format!("{done} of {whole} s: {}/s, p50 {p50}, p99 {p99}; failed {}, leaked {}", last.answers, of.failed(), of.leaked)
}

fn frame(plan: &Plan, tally: &Tally, now: Instant, whole: Duration, colours: bool) -> Vec<String> {
    let mut lines = vec![bar(tally, now, whole)];
    let Some(last) = tally.seconds.last() else { return lines };
    let of = &tally.of_all;
    let (failed, leaked) = (alarm("failed", of.failed(), colours), alarm("leaked", of.leaked, colours));
    lines.push(format!("answers   {}/s   {} in all   {failed}   {leaked}", grouped(last.answers), grouped(of.latency.samples())));
    let ends = last.statuses.iter().map(|(status, count)| end(status, *count));
    let ends: Vec<_> = ends.chain(last.lost.iter().map(|(lost, count)| end(lost.name(), *count))).collect();
    lines.push(format!("statuses  {}", if ends.is_empty() { "none".to_owned() } else { ends.join("   ") }));
    let [p50, p90, p99, max] = [last.p50, last.p90, last.p99, last.max].map(short);
    lines.push(format!("latency   p50 {p50}   p90 {p90}   p99 {p99}   max {max}"));
    lines.extend(tenants(plan, tally, last, colours));
    lines
}

fn bar(tally: &Tally, now: Instant, whole: Duration) -> String {
    if now < tally.began {
        return format!("[{}] warming up", ".".repeat(BAR));
    }
    let (after, whole) = (now.saturating_duration_since(tally.began).as_secs_f64(), whole.as_secs_f64());
    let filled = ((after / whole).min(1.0) * BAR as f64) as usize;
    let rest = if after > whole { ", waiting for the last answers" } else { "" };
    format!("[{}{}] {:.0} of {whole} s{rest}", "#".repeat(filled), ".".repeat(BAR.saturating_sub(filled)), after.min(whole).floor())
}

/// The tenants that are told apart: speed in this second, failures in all. In the order of the plan: rows that move are hard to follow.
fn tenants(plan: &Plan, tally: &Tally, last: &Second, colours: bool) -> Vec<String> {
    if tally.shown.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![format!("{:<NAME$} {:>12} {:>10} {:>10} {:>8} {:>8}", "tenant", "answers/s", "p50", "p99", "failed", "leaked")];
    for (place, now) in tally.shown.iter().zip(&last.tenants) {
        let name = plan.tenants.get(*place).map_or("", |tenant| &*tenant.name);
        let (failed, leaked) = tally.of_tenants.get(*place).map_or((0, 0), |of| (of.failed(), of.leaked));
        let [failed, leaked] = [failed, leaked].map(|count| red(format!("{:>8}", grouped(count)), count, colours));
        let (answers, p50, p99) = (grouped(now.answers), short(now.p50), short(now.p99));
        lines.push(format!("{name:<NAME$} {answers:>12} {p50:>10} {p99:>10} {failed} {leaked}"));
    }
    match plan.tenants.len().saturating_sub(tally.shown.len()) {
        0 => {}
        more => lines.push(format!("and {} more", grouped(more as u64))),
    }
    lines
}

fn end(what: impl Display, count: u64) -> String {
    format!("{what}: {}", grouped(count))
}

fn alarm(what: &str, count: u64, colours: bool) -> String {
    red(format!("{what} {}", grouped(count)), count, colours)
}

/// What ought to be zero is seen when it is not.
fn red(text: String, count: u64, colours: bool) -> String {
    if count > 0 && colours { format!("\x1b[1;31m{text}\x1b[0m") } else { text }
}

/// Digits in threes: 12,345,678.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::load::answer::{Answer, Status, Whose};
    use crate::load::connection::Lost;
    use crate::load::plan::tests::plan;
    use crate::load::tally::Times;

    /// A second of three answers and a loss: one good, one refused, one that leaks; then half of the next.
    fn after_a_second(plan: &Plan) -> (Tally, Instant) {
        let began = Instant::now();
        let mut tally = Tally::new(plan, began, None);
        let at = |millis| began + Duration::from_millis(millis);
        let answer = |status, whose| Answer { status: Status::Http(status), whose };
        for (tenant, millis, answer) in [
            (0.0, 10, answer(200, Whose::AsAsked)),
            (0.0, 30, answer(429, Whose::Unsaid)),
            (0.9, 20, answer(200, Whose::Other("acme".to_owned()))),
        ] {
            let times = Times { due: began, seen: began, sent: began, from: began };
            tally.answered(plan.request_at(tenant, 0.0).unwrap(), times, answer, at(millis));
        }
        tally.lost(1, Lost::Timeout, at(900));
        tally.second(at(1_500));
        (tally, at(1_500))
    }

    #[test]
    fn a_frame_shows_rate_statuses_percentiles_tenants_and_leaks() {
        let plan = plan(&["--tenants", "acme=8,globex", "--answer-tenant", "x-tenant"]).unwrap();
        let (tally, now) = after_a_second(&plan);
        let frame = frame(&plan, &tally, now, Duration::from_secs(3), false);
        let squeezed: Vec<_> = frame.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            squeezed,
            [
                "[############............] 1 of 3 s",
                "answers 3/s 3 in all failed 3 leaked 1",
                "statuses 200: 2 429: 1 timeout: 1",
                "latency p50 20.05 ms p90 30.00 ms p99 30.00 ms max 30.00 ms",
                "tenant answers/s p50 p99 failed leaked",
                "acme 2 10.03 ms 30.00 ms 1 0",
                "globex 1 20.00 ms 20.00 ms 2 1",
            ]
        );
        assert_eq!(line(&tally, Duration::from_secs(3)), "1 of 3 s: 3/s, p50 20.05 ms, p99 30.00 ms; failed 3, leaked 1");
    }

    #[test]
    fn what_ought_to_be_zero_is_red_when_it_is_not() {
        assert_eq!((alarm("leaked", 0, true), alarm("leaked", 1_000, false)), ("leaked 0".to_owned(), "leaked 1,000".to_owned()));
        assert_eq!(alarm("leaked", 1, true), "\u{1b}[1;31mleaked 1\u{1b}[0m");
    }

    #[test]
    fn tenants_beyond_those_shown_are_counted() {
        let plan = plan(&["--tenants", "a,b,c,d,e,f,g,h,i,j,k"]).unwrap();
        let (tally, now) = after_a_second(&plan);
        let frame = frame(&plan, &tally, now, Duration::from_secs(3), false);
        assert_eq!((frame.len(), frame.last().map(String::as_str)), (4 + 1 + 8 + 1, Some("and 3 more")));
    }
}
