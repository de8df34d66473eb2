//! Decisions: the latest ones of a worker, with what they were decided on, so that `explain` can replay them.
//!
//! Cost: per request; moves a few handles of the worker's own into a slot that is used again. No atomic, and no allocation once
//! the rings are full and their texts have grown.
//! Every refusal is kept until 1,024 later ones came, and so is what went on because of shadow only; allowed requests have a ring
//! of their own, so that good traffic never pushes out the refusal somebody asks about.

use crate::clock::Now;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Names one decision of this process. Nothing is granted by knowing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DecisionId(u64);

/// Bytes of `d-9f86d081884c7d65`.
const TEXT_BYTES: usize = 18;

impl DecisionId {
    /// The text as ASCII bytes, for headers and lines that are composed from bytes.
    #[must_use]
    pub fn text(self) -> [u8; TEXT_BYTES] {
        let mut text = *b"d-0000000000000000";
        let (_, digits) = text.split_at_mut(2);
        crate::telemetry::json::write_hex(digits, &self.0.to_be_bytes());
        text
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d-{:016x}", self.0)
    }
}

/// A text that is no decision id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no decision id; one looks like d-9f86d081884c7d65 and stands in the answer's `decision_id`")]
pub struct NotADecisionId(String);

impl FromStr for DecisionId {
    type Err = NotADecisionId;
    fn from_str(text: &str) -> Result<Self, NotADecisionId> {
        let digits = text.strip_prefix("d-").filter(|digits| digits.len() == 16 && !digits.starts_with('+'));
        let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number.map(DecisionId).ok_or_else(|| NotADecisionId(text.chars().take(64).collect()))
    }
}

/// What one process makes its decision ids with: two numbers nobody else knows.
///
/// An id is (worker, counter) behind a bijection that depends on them. So ids never repeat within a process, and a client does
/// not read from its own ids how many requests other tenants make.
#[derive(Debug, Clone, Copy)]
pub struct Ids([u64; 2]);

impl Ids {
    /// With fresh randomness.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn new() -> std::io::Result<Self> {
        let (mut a, mut b) = ([0; 8], [0; 8]);
        crate::entropy::fill(&mut a)?;
        crate::entropy::fill(&mut b)?;
        Ok(Self([u64::from_ne_bytes(a), u64::from_ne_bytes(b)]))
    }

    /// The id of a worker's decision by its number.
    fn id(self, worker: u16, number: u64) -> DecisionId {
        let [a, b] = self.0;
        let mut mixed = (u64::from(worker) << NUMBER_BITS) | (number & NUMBER_MASK);
        // Each line is a bijection: an addition, an odd multiplication, or xor with the value's own upper bits. The constants
        // are those of a finaliser known to spread well (splitmix64).
        for key in [a, b, a.rotate_left(32)] {
            mixed = mixed.wrapping_add(key);
            mixed ^= mixed >> 32;
            mixed = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^= mixed >> 29;
            mixed = mixed.wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 32;
        }
        DecisionId(mixed)
    }
}

/// Decisions one worker can number before ids repeat: nine years of a million a second.
const NUMBER_BITS: u32 = 48;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

/// What a request asked, borrowed from its head.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// When it was decided.
    pub at: Now,
    /// The client's address.
    pub source: IpAddr,
    /// Its method.
    pub method: &'a http::Method,
    /// The host it names.
    pub host: &'a str,
    /// Its path in normal form.
    pub path: &'a str,
}

/// A decision that is remembered. `D` is what it was decided on and how it ended, as handles of the worker's own: a recent
/// decision keeps its slice alive, so that it is explained by the policy it was made under.
#[derive(Debug)]
pub struct Decision<D> {
    /// Its name.
    pub id: DecisionId,
    /// What it was.
    pub verdict: Verdict,
    /// When it was made.
    pub at: Now,
    /// The client's address.
    pub source: IpAddr,
    /// The method.
    pub method: http::Method,
    /// The host.
    pub host: String,
    /// The path, at most 2 KiB of it.
    pub path: String,
    /// Whether the path was longer: then a replay could match other patterns than the request did.
    pub path_is_cut: bool,
    /// What the worker adds.
    pub decided: D,
}

/// The latest decisions of one worker.
#[derive(Debug)]
pub struct Decisions<D> {
    ids: Ids,
    worker: u16,
    numbered: u64,
    refused: Ring<D>,
    passed: Ring<D>,
    allowed: Ring<D>,
}

/// Whether a request may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was served or went on to the upstream.
    Allowed,
    /// It went on, and would have been refused, were it not for shadow.
    Passed,
    /// We answered it ourselves.
    Refused,
}

impl Verdict {
    /// How many of them are remembered.
    fn kept(self) -> usize {
        match self {
            Verdict::Allowed => ALLOWED_KEPT,
            Verdict::Passed | Verdict::Refused => REFUSED_KEPT,
        }
    }
}

const REFUSED_KEPT: usize = 1_024;
const ALLOWED_KEPT: usize = 256;
const PATH_BYTES_MAX: usize = 2 << 10;
/// No host that anybody declared is longer.
const HOST_BYTES_MAX: usize = 253;

impl<D> Decisions<D> {
    /// None yet. Workers of one process share `ids` and have different numbers.
    #[must_use]
    pub fn new(ids: Ids, worker: u16) -> Self {
        Self {
            ids,
            worker,
            numbered: 0,
            refused: Ring::new(Verdict::Refused),
            passed: Ring::new(Verdict::Passed),
            allowed: Ring::new(Verdict::Allowed),
        }
    }

    /// A name for the next decision.
    pub fn name(&mut self) -> DecisionId {
        self.numbered += 1;
        self.ids.id(self.worker, self.numbered)
    }

    /// Remembers a decision in place of the oldest of its kind.
    pub fn remember(&mut self, id: DecisionId, verdict: Verdict, asked: &Asked<'_>, decided: D) {
        let ring = match verdict {
            Verdict::Allowed => &mut self.allowed,
            Verdict::Passed => &mut self.passed,
            Verdict::Refused => &mut self.refused,
        };
        ring.put(id, asked, decided);
    }

    /// A decision of this worker that is still remembered.
    #[must_use]
    pub fn find(&self, id: DecisionId) -> Option<&Decision<D>> {
        // What became of it at last comes first.
        self.refused.find(id).or_else(|| self.passed.find(id)).or_else(|| self.allowed.find(id))
    }
}

/// Slots that are used in turn; their texts keep their room.
#[derive(Debug)]
struct Ring<D> {
    slots: Vec<Decision<D>>,
    oldest: usize,
    verdict: Verdict,
}

impl<D> Ring<D> {
    fn new(verdict: Verdict) -> Self {
        Self { slots: Vec::new(), oldest: 0, verdict }
    }

    fn put(&mut self, id: DecisionId, asked: &Asked<'_>, decided: D) {
        let most = self.verdict.kept();
        let full = self.slots.len() == most;
        let Some(slot) = self.slots.get_mut(self.oldest).filter(|_| full) else {
            self.slots.push(Decision::new(id, self.verdict, asked, decided));
            return;
        };
        slot.id = id;
        slot.decided = decided;
        slot.write(asked);
        self.oldest = (self.oldest + 1) % most;
    }

    fn find(&self, id: DecisionId) -> Option<&Decision<D>> {
        self.slots.iter().find(|slot| slot.id == id)
    }
}

impl<D> Decision<D> {
    fn new(id: DecisionId, verdict: Verdict, asked: &Asked<'_>, decided: D) -> Self {
        let (at, source, method) = (asked.at, asked.source, asked.method.clone());
        let mut new = Self { id, verdict, at, source, method, host: String::new(), path: String::new(), path_is_cut: false, decided };
        new.write(asked);
        new
    }

    fn write(&mut self, asked: &Asked<'_>) {
        let kept = cut(asked.path, PATH_BYTES_MAX);
        self.at = asked.at;
        self.source = asked.source;
        self.method.clone_from(asked.method);
        self.host.clear();
        self.host.push_str(cut(asked.host, HOST_BYTES_MAX));
        self.path.clear();
        self.path.push_str(kept);
        self.path_is_cut = kept.len() < asked.path.len();
    }
}

fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn asked(path: &str) -> Asked<'_> {
        let at = Now { mono_ns: 1, unix_ms: 2 };
        Asked { at, source: [127, 0, 0, 1].into(), method: &http::Method::GET, host: "acme.localhost", path }
    }

    #[test]
    fn a_refusal_is_found_until_as_many_later_ones_came_as_are_kept() {
        let mut decisions = Decisions::new(Ids::new().unwrap(), 0);
        let first = decisions.name();
        decisions.remember(first, Verdict::Refused, &asked("/first"), "no_route");
        for at in 1..REFUSED_KEPT {
            let id = decisions.name();
            decisions.remember(id, Verdict::Refused, &asked("/later"), "no_route");
            assert!(decisions.find(first).is_some(), "after {at}");
        }
        assert_eq!(decisions.find(first).unwrap().path, "/first");
        let id = decisions.name();
        decisions.remember(id, Verdict::Refused, &asked("/last"), "no_route");
        assert!(decisions.find(first).is_none());
        assert_eq!(decisions.find(id).unwrap().path, "/last");
    }

    #[test]
    fn allowed_requests_never_push_out_a_refusal() {
        let mut decisions = Decisions::new(Ids::new().unwrap(), 0);
        let refused = decisions.name();
        decisions.remember(refused, Verdict::Refused, &asked("/x"), ());
        for _ in 0..10 * ALLOWED_KEPT {
            let id = decisions.name();
            decisions.remember(id, Verdict::Allowed, &asked("/x"), ());
        }
        assert!(decisions.find(refused).is_some());
        assert_eq!(decisions.allowed.slots.len(), ALLOWED_KEPT);
    }

    #[test]
    fn a_long_path_is_kept_in_part_and_says_so() {
        let mut decisions = Decisions::new(Ids::new().unwrap(), 0);
        let (long, short) = (decisions.name(), decisions.name());
        decisions.remember(long, Verdict::Refused, &asked(&"/x".repeat(4_000)), ());
        decisions.remember(short, Verdict::Refused, &asked("/x"), ());
        assert_eq!(decisions.find(long).unwrap().path.len(), PATH_BYTES_MAX);
        assert!(decisions.find(long).unwrap().path_is_cut);
        assert!(!decisions.find(short).unwrap().path_is_cut);
    }

    #[test]
    fn ids_never_repeat_within_a_process_and_differ_between_processes() {
        let (one, other) = (Ids::new().unwrap(), Ids::new().unwrap());
        let mut seen = HashSet::new();
        for ids in [one, other] {
            for worker in 0..4 {
                assert!((0..5_000).all(|number| seen.insert(ids.id(worker, number))), "worker {worker}");
            }
        }
    }

    proptest! {
        #[test]
        fn an_id_reads_back_from_either_of_its_texts(number in any::<u64>()) {
            let id = DecisionId(number);
            prop_assert_eq!(id.to_string().parse::<DecisionId>().unwrap(), id);
            let text = id.to_string();
            prop_assert_eq!(&id.text()[..], text.as_bytes());
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for bad in ["", "d-", "d-1", "9f86d081884c7d65", "d-9f86d081884c7d6x", "d-+f86d081884c7d65", "d-9f86d081884c7d651", "d-ä"] {
            assert!(bad.parse::<DecisionId>().is_err(), "{bad}");
        }
    }
}
