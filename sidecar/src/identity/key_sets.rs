//! Key sets that are fetched: each is looked at in time, and at once when a request asks; what is new goes to the live policy.
//!
//! One task on the control runtime. A set that cannot be fetched, or cannot be used, takes nothing away: the keys that are known
//! stay, the failure is counted, told once a minute and shown in the status with the age of what is used instead.

use super::Wants;
use super::ask::{self, Answered, NotAnswered, Place};
use super::believe::{self, Believed};
use super::kept::Kept;
use super::looks::{Ask, LOOK_AGAIN, LOOKS_AT_ONCE, Looked, Told};
use super::schedule;
use crate::clock::{Clock, Now};
use crate::policy::Status;
use crate::request::authn::{KeyFault, Keys};
use crate::telemetry::log::{Log, Value};
use crate::telemetry::metrics::Metrics;
use crate::worker::Random;
use bulkhead_config::snapshot::KeyUrl;
use bytes::Bytes;
use http::header::{ACCEPT, ETAG, HeaderMap, IF_NONE_MATCH};
use http::{Request, StatusCode};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// Bytes of a key set: hundreds of keys with their certificates.
const SET_BYTES_MAX: usize = 1 << 20;
/// Sets that are fetched at the same time.
const AT_ONCE_MAX: usize = 8;
/// A failure that lasts is told so often.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// Nothing is due.
const IDLE: Duration = Duration::from_secs(3_600);

/// A set that documents name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) url: Arc<KeyUrl>,
    /// What stands in its `roots`, if they are named and can be read.
    pub(crate) roots: Option<Arc<[u8]>>,
    /// When and as what it was fetched last, perhaps by an earlier process.
    pub(crate) kept: Option<Kept>,
}

/// A set that was fetched and can be used.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) name: Arc<str>,
    /// `None`: it is what it was.
    pub(crate) set: Option<Arc<[u8]>>,
    pub(crate) kept: Kept,
    /// To be told once it is served.
    pub(crate) waiting: Waiting,
}

/// Requests that wait for a look, and what they are told of it.
#[derive(Debug)]
pub(crate) struct Waiting {
    requests: Vec<oneshot::Sender<Told>>,
    told: Told,
}

impl Waiting {
    pub(crate) fn tell(self) {
        for request in self.requests {
            // It may have given up.
            let _ = request.send(self.told);
        }
    }
}

/// How a look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Changed,
    Same,
    Failed,
}

/// A set as the status and the metrics show it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeySetFacts {
    pub(crate) name: Arc<str>,
    /// When it was fetched last, in milliseconds since 1970-01-01 UTC.
    pub(crate) fetched_unix_ms: Option<u64>,
    /// Why the last look failed, if it did.
    pub(crate) trouble: Option<Arc<str>>,
}

impl Outcome {
    /// As metrics call them.
    pub(crate) const LABELS: [&'static str; 3] = ["changed", "same", "failed"];
}

/// What all of them need of the process.
pub(crate) struct KeySets {
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) wanted: watch::Receiver<Wants>,
    pub(crate) fetched: mpsc::Sender<Fetched>,
    pub(crate) log: Log,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) status: Arc<Status>,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
}

/// All sets.
struct Desk {
    surroundings: KeySets,
    sets: HashMap<Arc<str>, Set>,
    system: Believed,
    fetching: JoinSet<(Look, Result<Got, Failure>)>,
    /// Looks that were begun.
    looks: u64,
}

/// One look at a set.
struct Look {
    name: Arc<str>,
    /// Whether it is still the one that the set waits for: what was believed of its host may be another by now.
    number: u64,
}

/// One set.
struct Set {
    wanted: Wanted,
    believed: Believed,
    /// The number of the look that is under way.
    fetching: Option<u64>,
    /// Nanoseconds of the monotonic clock.
    due_ns: u64,
    failures: u32,
    trouble: Option<Arc<str>>,
    told: Option<Now>,
    /// What came of the last look.
    last: Looked,
    /// When looks that requests asked for are all given back, in nanoseconds of the monotonic clock.
    given_back_ns: u64,
    waiting: Vec<oneshot::Sender<Told>>,
    /// Who came while a look was under way, which may have read what was published before: the next look is for them.
    late: Vec<oneshot::Sender<Told>>,
}

/// A good answer.
struct Got {
    /// `None`: it is what it was.
    set: Option<Arc<[u8]>>,
    headers: HeaderMap,
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Believe(#[from] believe::Failure),
    #[error(transparent)]
    NotAnswered(#[from] NotAnswered),
    #[error("it answers {0}, which is followed nowhere; declare the URL it leads to")]
    Redirect(StatusCode),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("what it answers is of no use: {0}")]
    Unusable(#[from] KeyFault),
    #[error("a defect of Bulkhead; the log says where")]
    Defect,
}

impl KeySets {
    /// Fetches until nobody takes what is fetched.
    pub(crate) async fn run(self) {
        let (sets, system, fetching) = (HashMap::new(), Believed::default(), JoinSet::new());
        let mut desk = Desk { surroundings: self, sets, system, fetching, looks: 0 };
        desk.adopt();
        loop {
            desk.begin_due();
            let pause = desk.pause();
            tokio::select! {
                biased;
                changed = desk.surroundings.wanted.changed() => match changed {
                    Ok(()) => desk.adopt(),
                    Err(_) => return,
                },
                Some(done) = desk.fetching.join_next(), if !desk.fetching.is_empty() => {
                    let Ok((look, result)) = done else { continue };
                    if desk.finish(look, result).await.is_err() {
                        return;
                    }
                }
                Some(ask) = desk.surroundings.asks.recv() => desk.ask(ask),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

impl Desk {
    fn now(&self) -> Now {
        self.surroundings.clock.correct();
        self.surroundings.clock.now()
    }

    /// Takes over what documents name now. A set that is new, or is believed otherwise, is due at once.
    fn adopt(&mut self) {
        let wanted = self.surroundings.wanted.borrow_and_update().key_sets.clone();
        let now = self.now();
        let mut before = std::mem::take(&mut self.sets);
        for wanted in wanted {
            let name = Arc::clone(&wanted.url.name);
            let set = match before.remove(&name) {
                Some(mut set) if set.wanted.url == wanted.url && set.wanted.roots == wanted.roots => {
                    set.wanted.kept = set.wanted.kept.or(wanted.kept);
                    set
                }
                known => Set::new(wanted, &self.system, known, now),
            };
            self.sets.insert(name, set);
        }
        self.tell();
    }

    fn begin_due(&mut self) {
        let now = self.now();
        for (name, set) in &mut self.sets {
            if self.fetching.len() >= AT_ONCE_MAX {
                return;
            }
            if set.fetching.is_none() && set.due_ns <= now.mono_ns {
                self.looks += 1;
                set.fetching = Some(self.looks);
                let look = Look { name: Arc::clone(name), number: self.looks };
                // A task of its own, so that a defect in it is a failure like others.
                let fetching = tokio::spawn(fetch(set.wanted.clone(), Arc::clone(&set.believed)));
                self.fetching.spawn(async move { (look, fetching.await.unwrap_or(Err(Failure::Defect))) });
            }
        }
    }

    /// Time until a set is due.
    fn pause(&self) -> Duration {
        if self.fetching.len() >= AT_ONCE_MAX {
            return IDLE;
        }
        let due = self.sets.values().filter(|set| set.fetching.is_none()).map(|set| set.due_ns).min();
        due.map_or(IDLE, |due| Duration::from_nanos(due.saturating_sub(self.surroundings.clock.now().mono_ns)))
    }

    fn ask(&mut self, ask: Ask) {
        let now = self.now();
        let known = match self.sets.get_mut(&ask.name) {
            // No document names it: the policy changed meanwhile.
            None => Told { looked: Looked::Unknown, holds: Duration::ZERO },
            Some(set) => {
                if set.is_due_soon(now) || set.may_look(now) {
                    return set.wait(ask.answer, now);
                }
                Told { looked: set.last, holds: set.held_for(now) }
            }
        };
        // Who asked may have given up waiting.
        let _ = ask.answer.send(known);
    }

    /// A look has ended. Fails when nobody takes sets any more.
    async fn finish(&mut self, look: Look, result: Result<Got, Failure>) -> Result<(), mpsc::error::SendError<Fetched>> {
        let (now, chance) = (self.now(), self.surroundings.random.span());
        let Look { name, number } = look;
        // One that is named no more, or was named anew meanwhile.
        let Some(set) = self.sets.get_mut(&name).filter(|set| set.fetching == Some(number)) else { return Ok(()) };
        set.fetching = None;
        set.last = if result.is_ok() { Looked::Fresh } else { Looked::Unknown };
        let told = Told { looked: set.last, holds: set.held_for(now) };
        let waiting = Waiting { requests: std::mem::take(&mut set.waiting), told };
        let late = std::mem::take(&mut set.late);
        match result {
            Ok(got) => {
                self.surroundings.metrics.key_set_looked_at(if got.set.is_some() { Outcome::Changed } else { Outcome::Same });
                let fetched = set.succeeded(got, waiting, now, chance);
                late.into_iter().for_each(|late| set.wait(late, now));
                if set.told.take().is_some() {
                    self.surroundings.log.info(COMPONENT, None, "a key set is fetched again", &[("key_set", Value::from(&*name))]);
                }
                self.tell();
                self.surroundings.fetched.send(fetched).await
            }
            Err(failure) => {
                self.surroundings.metrics.key_set_looked_at(Outcome::Failed);
                if set.failed(&failure, now, chance) {
                    tell_failure(&self.surroundings.log, set, now);
                }
                self.tell();
                Waiting { requests: late, told }.tell();
                waiting.tell();
                Ok(())
            }
        }
    }

    /// Shows how all of them are.
    fn tell(&self) {
        let mut facts: Vec<KeySetFacts> = self.sets.values().map(Set::facts).collect();
        facts.sort_by(|a, b| a.name.cmp(&b.name));
        let facts = Arc::new(facts);
        self.surroundings.metrics.key_sets(Arc::clone(&facts));
        self.surroundings.status.key_sets(facts);
    }
}

const COMPONENT: &str = "core.identity";

fn tell_failure(log: &Log, set: &Set, now: Now) {
    let age = set.wanted.kept.as_ref().map(|kept| Duration::from_millis(now.unix_ms.saturating_sub(kept.at_unix_ms)).as_secs());
    let name = ("key_set", Value::from(&*set.wanted.url.name));
    let (cause, failures) = (("cause", set.trouble.as_deref().unwrap_or_default().into()), ("failures", u64::from(set.failures).into()));
    match age {
        Some(age) => {
            let message = "a key set cannot be fetched; the keys that are known are used on";
            log.warn(COMPONENT, None, message, &[name, cause, failures, ("age_seconds", age.into())]);
        }
        None => {
            let message = "a key set cannot be fetched, and none of its keys is known: its issuer's tokens get 503";
            log.error(COMPONENT, None, message, &[name, cause, failures]);
        }
    }
}

impl Set {
    fn new(wanted: Wanted, system: &Believed, known: Option<Set>, now: Now) -> Self {
        let believed = if wanted.url.roots.is_none() { Arc::clone(system) } else { Believed::default() };
        let fresh = Self {
            wanted,
            believed,
            fetching: None,
            due_ns: now.mono_ns,
            failures: 0,
            trouble: None,
            told: None,
            last: Looked::Unknown,
            given_back_ns: 0,
            waiting: Vec::new(),
            late: Vec::new(),
        };
        match known {
            None => fresh,
            Some(Self { mut waiting, late, given_back_ns, .. }) => {
                waiting.extend(late);
                Self { waiting, given_back_ns, ..fresh }
            }
        }
    }

    /// Whether a look comes that a request can wait for, whoever it is for.
    fn is_due_soon(&self, now: Now) -> bool {
        match self.fetching.is_some() {
            true => self.wanted.kept.is_none() || !self.late.is_empty(),
            false => self.due_ns <= now.mono_ns,
        }
    }

    /// Takes one of the looks that requests may ask for, if there is one.
    fn may_look(&mut self, now: Now) -> bool {
        let may = self.held_for(now).is_zero();
        if may {
            self.given_back_ns = self.given_back_ns.max(now.mono_ns).saturating_add(nanos(LOOK_AGAIN));
        }
        may
    }

    /// Time until a request may ask for a look again.
    fn held_for(&self, now: Now) -> Duration {
        let taken_ns = self.given_back_ns.saturating_sub(now.mono_ns);
        Duration::from_nanos(taken_ns.saturating_sub(nanos(LOOK_AGAIN) * (LOOKS_AT_ONCE - 1)))
    }

    /// A request waits for a look that begins from now on, or for the first one.
    fn wait(&mut self, request: oneshot::Sender<Told>, now: Now) {
        if self.fetching.is_some() && self.wanted.kept.is_some() {
            return self.late.push(request);
        }
        self.waiting.push(request);
        self.due_ns = self.due_ns.min(now.mono_ns);
    }

    fn succeeded(&mut self, got: Got, waiting: Waiting, now: Now, chance: u64) -> Fetched {
        let etag = got.headers.get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let before = self.wanted.kept.take().and_then(|kept| kept.etag);
        let etag = if got.set.is_some() { etag } else { etag.or(before) };
        let kept = Kept { at_unix_ms: now.unix_ms, etag };
        self.wanted.kept = Some(kept.clone());
        (self.failures, self.trouble) = (0, None);
        self.due_in(schedule::after_answer(&got.headers, self.wanted.url.refresh, chance), now);
        Fetched { name: Arc::clone(&self.wanted.url.name), set: got.set, kept, waiting }
    }

    /// Whether it is time to tell.
    fn failed(&mut self, failure: &Failure, now: Now, chance: u64) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.trouble = Some(failure.to_string().into());
        self.due_in(schedule::after_failures(self.failures, self.wanted.url.refresh, chance), now);
        let is_time = self.told.is_none_or(|told| now.since(told) >= TELL_AGAIN);
        if is_time {
            self.told = Some(now);
        }
        is_time
    }

    fn due_in(&mut self, time: Duration, now: Now) {
        self.due_ns = now.mono_ns.saturating_add(nanos(time));
    }

    fn facts(&self) -> KeySetFacts {
        let fetched_unix_ms = self.wanted.kept.as_ref().map(|kept| kept.at_unix_ms);
        KeySetFacts { name: Arc::clone(&self.wanted.url.name), fetched_unix_ms, trouble: self.trouble.clone() }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// One look.
async fn fetch(wanted: Wanted, believed: Believed) -> Result<Got, Failure> {
    let url = wanted.url.url.clone();
    let tls = match url.is_tls() {
        true => Some(believe::who(&believed, wanted.url.roots.as_ref(), wanted.roots.as_ref()).await?),
        false => None,
    };
    let mut request = Request::get("/").header(ACCEPT, "application/jwk-set+json, application/json");
    if let Some(etag) = wanted.kept.as_ref().and_then(|kept| kept.etag.as_deref()) {
        request = request.header(IF_NONE_MATCH, etag);
    }
    let Answered { status, headers, body } = ask::ask(&Place { url, tls }, request, Bytes::new(), SET_BYTES_MAX).await?;
    match status {
        StatusCode::OK => {
            let set: Arc<[u8]> = body.into();
            Keys::check(&set)?;
            Ok(Got { set: Some(set), headers })
        }
        StatusCode::NOT_MODIFIED if wanted.kept.is_some() => Ok(Got { set: None, headers }),
        status if status.is_redirection() => Err(Failure::Redirect(status)),
        status => Err(Failure::Status(status)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono_ns: seconds * 1_000_000_000, unix_ms: seconds * 1_000 }
    }

    fn set() -> Set {
        let url = KeyUrl {
            name: "https://login.example/jwks".into(),
            url: "https://login.example/jwks".parse().unwrap(),
            roots: None,
            refresh: Duration::from_secs(600),
        };
        let kept = Some(Kept { at_unix_ms: 0, etag: None });
        Set::new(Wanted { url: Arc::new(url), roots: None, kept }, &Believed::default(), None, at(0))
    }

    #[test]
    fn requests_may_ask_for_three_looks_at_once_and_then_for_one_in_ten_seconds() {
        let mut set = set();
        let may: Vec<bool> = [100, 100, 100, 100, 109, 110, 111, 200, 200, 200, 200].map(|now| set.may_look(at(now))).to_vec();
        assert_eq!(may, [true, true, true, false, false, true, false, true, true, true, false]);
        assert_eq!(set.held_for(at(203)), Duration::from_secs(7));
    }

    #[test]
    fn who_comes_while_a_look_is_under_way_waits_for_the_next_unless_nothing_is_known_yet() {
        for (kept, late) in [(Some(Kept { at_unix_ms: 0, etag: None }), 1), (None, 0)] {
            let mut set = set();
            set.wanted.kept = kept;
            set.fetching = Some(1);
            set.wait(oneshot::channel().0, at(1));
            assert_eq!((set.late.len(), set.waiting.len()), (late, 1 - late));
            assert!(set.is_due_soon(at(1)), "whoever comes now needs no look of its own");
        }
    }

    #[test]
    fn a_set_that_fails_is_told_at_once_and_then_once_a_minute() {
        let mut set = set();
        let failure = || Failure::Status(StatusCode::BAD_GATEWAY);
        let told: Vec<bool> = [0, 1, 30, 59, 60, 61, 121].map(|now| set.failed(&failure(), at(now), 0)).to_vec();
        assert_eq!(told, [true, false, false, false, true, false, true]);
        assert_eq!((set.failures, set.facts().trouble.as_deref()), (7, Some("it answers 502 Bad Gateway")));
    }
}
