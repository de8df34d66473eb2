//! What came of the requests: counts and durations, for all, for each tenant and for each second.
//!
//! Cost: per answer; seven or eight samples in sketches, three looks into small maps.

use super::answer::{Answer, Status, Whose};
use super::connection::Lost;
use super::plan::{Plan, Request};
use super::samples::{Sample, Samples};
use super::sketch::Sketch;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Leaks that are kept to be shown; all are counted.
const SAMPLES_MAX: usize = 10;
/// Tenants that are told apart in every second: as many lines as one plot, or one terminal, can tell.
const SHOWN_MAX: usize = 8;

/// Everything a run saw after its warm-up.
pub(crate) struct Tally {
    /// When counting began.
    pub(crate) began: Instant,
    /// When the last answer came.
    last: Option<Instant>,
    pub(crate) of_all: Of,
    /// By the tenant's place in the plan.
    pub(crate) of_tenants: Vec<Of>,
    /// Time from when a request was due until it was sent: what this program, or a lack of connections, held it back.
    pub(crate) lag: Sketch,
    /// Of that, what is this program's own: until it saw that a request was due.
    pub(crate) late: Sketch,
    pub(crate) leaks: Vec<Leak>,
    pub(crate) seconds: Vec<Second>,
    /// Places in the plan of the tenants that every second tells apart: the heaviest, if there are several.
    pub(crate) shown: Vec<usize>,
    pub(crate) samples: Option<Samples>,
    running: Running,
}

/// Counts and durations of some of the requests.
#[derive(Default)]
pub(crate) struct Of {
    pub(crate) asked: u64,
    /// From when they were due; in a closed loop from when they were sent.
    pub(crate) latency: Sketch,
    /// From when they were sent.
    pub(crate) service: Sketch,
    pub(crate) statuses: BTreeMap<Status, u64>,
    pub(crate) lost: BTreeMap<Lost, u64>,
    pub(crate) unexpected: u64,
    pub(crate) leaked: u64,
    pub(crate) unnamed: u64,
}

impl Of {
    /// Requests that did not end as they should.
    pub(crate) fn failed(&self) -> u64 {
        self.lost.values().sum::<u64>() + self.unexpected + self.leaked + self.unnamed
    }

    fn answered(&mut self, verdict: &Verdict, status: Status, latency: Duration, service: Duration) {
        self.latency.add(latency);
        self.service.add(service);
        *self.statuses.entry(status).or_default() += 1;
        match verdict {
            Verdict::Good => {}
            Verdict::Unexpected => self.unexpected += 1,
            Verdict::Leaked(_) => self.leaked += 1,
            Verdict::Unnamed => self.unnamed += 1,
        }
    }
}

/// An answer that names another tenant than the request's.
pub(crate) struct Leak {
    pub(crate) asked_for: String,
    pub(crate) named: String,
    pub(crate) status: Status,
    pub(crate) after: Duration,
}

/// One second of the run, by when requests ended.
#[derive(Default)]
pub(crate) struct Second {
    pub(crate) answers: u64,
    pub(crate) failed: u64,
    pub(crate) statuses: BTreeMap<Status, u64>,
    pub(crate) lost: BTreeMap<Lost, u64>,
    pub(crate) p50: Duration,
    pub(crate) p90: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
    /// As `shown` lists them.
    pub(crate) tenants: Vec<OfTenant>,
}

/// What came of one tenant's requests in a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OfTenant {
    pub(crate) answers: u64,
    pub(crate) failed: u64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// The second that is not over.
struct Running {
    all: Part,
    statuses: BTreeMap<Status, u64>,
    lost: BTreeMap<Lost, u64>,
    tenants: Vec<Part>,
}

#[derive(Default)]
struct Part {
    latency: Sketch,
    failed: u64,
}

impl Running {
    fn of(shown: usize) -> Self {
        let tenants = std::iter::repeat_with(Part::default).take(shown).collect();
        Self { all: Part::default(), statuses: BTreeMap::new(), lost: BTreeMap::new(), tenants }
    }

    /// All, and the tenant of this place among those shown.
    fn parts(&mut self, shown: Option<usize>) -> impl Iterator<Item = &mut Part> {
        let tenant = shown.and_then(|place| self.tenants.get_mut(place));
        std::iter::once(&mut self.all).chain(tenant)
    }

    fn end(self) -> Second {
        let Self { all: Part { latency, failed }, statuses, lost, tenants } = self;
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| latency.quantile(share));
        let tenant = |Part { latency, failed }| {
            let [p50, p99] = [0.5, 0.99].map(|share| latency.quantile(share));
            OfTenant { answers: latency.samples(), failed, p50, p99 }
        };
        let tenants = tenants.into_iter().map(tenant).collect();
        Second { answers: latency.samples(), failed, statuses, lost, p50, p90, p99, max: latency.max(), tenants }
    }
}

/// When a request was due, when it was sent, and from which of them its latency counts.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) due: Instant,
    /// When this program saw that it was due.
    pub(crate) seen: Instant,
    pub(crate) sent: Instant,
    pub(crate) from: Instant,
}

/// What an answer is, beside what was expected.
enum Verdict {
    Good,
    Unexpected,
    Leaked(String),
    Unnamed,
}

impl Verdict {
    fn of(request: &Request, answer: Answer) -> Self {
        match answer.whose {
            // First: a leak is one whatever its status.
            Whose::Other(tenant) => Self::Leaked(tenant),
            _ if !request.expects(answer.status) => Self::Unexpected,
            // A check that sees nothing would pass everything.
            Whose::Unsaid if request.names.is_some() && answer.status.is_success() => Self::Unnamed,
            _ => Self::Good,
        }
    }
}

impl Tally {
    pub(crate) fn new(plan: &Plan, began: Instant, samples: Option<Samples>) -> Self {
        let shown = if plan.tenants.len() > 1 { plan.heaviest(SHOWN_MAX) } else { Vec::new() };
        Self {
            began,
            last: None,
            of_all: Of::default(),
            of_tenants: plan.tenants.iter().map(|_| Of::default()).collect(),
            lag: Sketch::default(),
            late: Sketch::default(),
            leaks: Vec::new(),
            seconds: Vec::new(),
            running: Running::of(shown.len()),
            shown,
            samples,
        }
    }

    pub(crate) fn answered(&mut self, request: &Request, times: Times, answer: Answer, now: Instant) {
        let Some(of) = self.of_tenants.get_mut(request.tenant) else { return };
        let (latency, service) = (now.saturating_duration_since(times.from), now.saturating_duration_since(times.sent));
        let status = answer.status;
        let verdict = Verdict::of(request, answer);
        of.answered(&verdict, status, latency, service);
        of.asked += 1;
        self.of_all.answered(&verdict, status, latency, service);
        self.of_all.asked += 1;
        let lag = times.sent.saturating_duration_since(times.due);
        self.lag.add(lag);
        self.late.add(times.seen.saturating_duration_since(times.due));
        if let Some(samples) = &mut self.samples {
            let ended_at = now.saturating_duration_since(self.began);
            samples.add(&Sample { ended_at, latency, service, lag, tenant: &request.asked_for, status });
        }
        self.last = Some(now);
        self.second(now);
        *self.running.statuses.entry(status).or_default() += 1;
        let shown = self.place_among_shown(request.tenant);
        for part in self.running.parts(shown) {
            part.latency.add(latency);
            part.failed += u64::from(!matches!(verdict, Verdict::Good));
        }
        if let Verdict::Leaked(named) = verdict {
            self.leaked(request.asked_for.clone(), named, status, now);
        }
    }

    /// An answer within the warm-up: only what leaks is of interest.
    pub(crate) fn warmed(&mut self, request: &Request, answer: Answer, now: Instant) {
        let Some(of) = self.of_tenants.get_mut(request.tenant) else { return };
        let status = answer.status;
        if let Verdict::Leaked(named) = Verdict::of(request, answer) {
            of.leaked += 1;
            self.of_all.leaked += 1;
            self.leaked(request.asked_for.clone(), named, status, now);
        }
    }

    fn leaked(&mut self, asked_for: String, named: String, status: Status, now: Instant) {
        if self.leaks.len() < SAMPLES_MAX {
            let after = now.saturating_duration_since(self.began);
            self.leaks.push(Leak { asked_for, named, status, after });
        }
    }

    /// Answers a second, over the time that they came in, which ends before `whole` where there were no more requests to make.
    pub(crate) fn rate(&self, whole: Duration) -> f64 {
        let lasted = self.last.map_or(whole, |last| last.saturating_duration_since(self.began).min(whole));
        self.of_all.latency.samples() as f64 / lasted.max(Duration::from_millis(1)).as_secs_f64()
    }

    /// A request without answer has no duration: it is counted among the lost, never among the fast.
    pub(crate) fn lost(&mut self, tenant: usize, lost: Lost, now: Instant) {
        for of in self.of_tenants.get_mut(tenant).into_iter().chain([&mut self.of_all]) {
            of.asked += 1;
            *of.lost.entry(lost).or_default() += 1;
        }
        self.second(now);
        *self.running.lost.entry(lost).or_default() += 1;
        let shown = self.place_among_shown(tenant);
        self.running.parts(shown).for_each(|part| part.failed += 1);
    }

    fn place_among_shown(&self, tenant: usize) -> Option<usize> {
        self.shown.iter().position(|shown| *shown == tenant)
    }

    /// Closes the seconds that are over.
    pub(crate) fn second(&mut self, now: Instant) {
        let over = now.saturating_duration_since(self.began).as_secs();
        while (self.seconds.len() as u64) < over {
            let running = std::mem::replace(&mut self.running, Running::of(self.shown.len()));
            self.seconds.push(running.end());
        }
    }
}
