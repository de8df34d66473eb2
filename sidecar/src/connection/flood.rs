//! Floods: frames of a client's HTTP/2 connection, counted before the engine acts on them, so that none of them costs without end.
//!
//! Cost: per frame; nine bytes looked at and an addition. Nothing is decoded.
//! What the engine bounds itself is left to it: streams at once, streams reset before they were looked at, resets that a client
//! provokes (MadeYouReset, CVE-2025-8671), empty and tiny DATA frames (CVE-2019-9518), CONTINUATION frames of a head (CVE-2024-27316)
//! and what a head unfolds to (HPACK bomb, CVE-2016-6581). What it answers or throws away without counting is counted here.
//! A budget is a leaky bucket: a client may spend a burst at once and then so much a second. Frames that come because of what we
//! send (WINDOW_UPDATE, and PING to measure) are earned by the bytes we send, or a fast download would look like an attack.

use crate::deadline::TURN;

/// The client's first words, before its first frame (RFC 9113 section 3.4).
const PREFACE_BYTES: u32 = 24;
const FRAME_HEAD_BYTES: usize = 9;
/// Bytes we send that earn a client one of its frames.
const BYTES_PER_CREDIT: usize = 256;

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Streams opened and reset: each may have cost an upstream's work (rapid reset, CVE-2023-44487).
    Resets,
    /// PING, each of which is answered (CVE-2019-9512).
    Pings,
    /// SETTINGS, each of which is acknowledged, and some applied to every stream (CVE-2019-9515).
    Settings,
    /// PRIORITY, which means nothing any more (RFC 9113 section 5.3.2; CVE-2019-9513).
    Priorities,
    /// Windows opened by a few bytes at a time, so that each DATA frame holds nearly nothing (CVE-2019-9511).
    WindowUpdates,
    /// Frames of no meaning to us.
    Unknown,
    /// The first frame is no SETTINGS.
    NoSettings,
    /// No acceptance of our settings, or no end of a head, in time.
    Late,
    /// The source has too many connections that owe something.
    TooMany,
}

impl Fault {
    /// Every label, for metrics.
    pub const LABELS: &'static [&'static str] =
        &["resets", "pings", "settings", "priorities", "window_updates", "unknown_frames", "no_settings", "late", "too_many"];

    /// Its name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        Self::LABELS.get(self as usize).copied().unwrap_or("other")
    }

    /// What the client is told (RFC 9113 section 7).
    #[must_use]
    pub fn error_code(self) -> u32 {
        match self {
            Fault::NoSettings => 0x1,
            Fault::Late => 0x4,
            _ => 0xb,
        }
    }
}

/// What a client may spend of one kind of frame: so many at once, then so many a second and for what we sent.
struct Budget {
    fault: Fault,
    burst: u32,
    per_second: u32,
    per_credit: u32,
}

/// The budgets, in the order of [`Kind`].
const BUDGETS: [Budget; 6] = [
    // A page that is left resets what it loads, a gateway what its users gave up. Attacks begin at thousands a second.
    Budget { fault: Fault::Resets, burst: 500, per_second: 100, per_credit: 0 },
    // gRPC measures the link with one PING for each round trip while data flows.
    Budget { fault: Fault::Pings, burst: 100, per_second: 10, per_credit: 1 },
    Budget { fault: Fault::Settings, burst: 100, per_second: 5, per_credit: 0 },
    // Browsers of the past built a tree of half a dozen, and moved each stream in it once.
    Budget { fault: Fault::Priorities, burst: 500, per_second: 100, per_credit: 0 },
    Budget { fault: Fault::WindowUpdates, burst: 2_000, per_second: 500, per_credit: 1 },
    Budget { fault: Fault::Unknown, burst: 100, per_second: 10, per_credit: 0 },
];

/// Frames that have a budget, by their place in it.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Resets,
    Pings,
    Settings,
    Priorities,
    WindowUpdates,
    Unknown,
}

/// Turns of the wheel in a second: a frame is as many units, so that every turn gives back whole ones.
const UNITS: u32 = 20;
const _: () = assert!(TURN.as_millis() * UNITS as u128 == 1_000);

/// What is known of a connection's frames.
#[derive(Debug)]
pub struct Guard {
    /// Bytes of the preface or of a frame's payload that are still to come.
    skip: u32,
    head: [u8; FRAME_HEAD_BYTES],
    head_bytes: usize,
    last_stream: u32,
    /// A head has begun and not ended.
    is_within_head: bool,
    has_settings: bool,
    is_accepted: bool,
    spent: [u32; BUDGETS.len()],
    turn: u64,
    sent: usize,
}

impl Default for Guard {
    /// Of a connection that has said nothing yet.
    fn default() -> Self {
        Self {
            skip: PREFACE_BYTES,
            head: [0; FRAME_HEAD_BYTES],
            head_bytes: 0,
            last_stream: 0,
            is_within_head: false,
            has_settings: false,
            is_accepted: false,
            spent: [0; BUDGETS.len()],
            turn: 0,
            sent: 0,
        }
    }
}

impl Guard {
    /// Whether the client has accepted our settings.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.is_accepted
    }

    /// Whether a head has begun and not ended; nothing else may come meanwhile.
    #[must_use]
    pub fn is_within_head(&self) -> bool {
        self.is_within_head
    }

    /// The newest stream that the client opened.
    #[must_use]
    pub fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Bytes came in, at this turn of the wheel.
    ///
    /// # Errors
    /// What was one too many.
    pub fn came(&mut self, mut bytes: &[u8], turn: u64) -> Result<(), Fault> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let length = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip -= u32::try_from(length).unwrap_or(self.skip);
                bytes = bytes.get(length..).unwrap_or_default();
                continue;
            }
            let wanted = self.head.get_mut(self.head_bytes..).unwrap_or_default();
            let length = bytes.len().min(wanted.len());
            let (taken, rest) = bytes.split_at_checked(length).unwrap_or_default();
            wanted.iter_mut().zip(taken).for_each(|(into, from)| *into = *from);
            self.head_bytes += length;
            bytes = rest;
            if self.head_bytes == FRAME_HEAD_BYTES {
                self.head_bytes = 0;
                self.frame(turn)?;
            }
        }
        Ok(())
    }

    /// We sent so many bytes.
    pub fn went(&mut self, bytes: usize) {
        self.sent += bytes;
        let credits = u32::try_from(self.sent / BYTES_PER_CREDIT).unwrap_or(u32::MAX / UNITS);
        if credits > 0 {
            self.sent %= BYTES_PER_CREDIT;
            self.give_back(|budget| credits.saturating_mul(UNITS * budget.per_credit));
        }
    }

    /// A frame's head is complete.
    fn frame(&mut self, turn: u64) -> Result<(), Fault> {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff;
        self.skip = length;
        if !self.has_settings {
            if kind != SETTINGS {
                return Err(Fault::NoSettings);
            }
            self.has_settings = true;
        }
        match kind {
            DATA => Ok(()),
            HEADERS | CONTINUATION => {
                self.last_stream = self.last_stream.max(stream);
                self.is_within_head = flags & END_HEADERS == 0;
                Ok(())
            }
            SETTINGS if flags & ACK != 0 => {
                self.is_accepted = true;
                self.spend(Kind::Settings, turn)
            }
            SETTINGS => self.spend(Kind::Settings, turn),
            RST_STREAM => self.spend(Kind::Resets, turn),
            PING => self.spend(Kind::Pings, turn),
            PRIORITY => self.spend(Kind::Priorities, turn),
            WINDOW_UPDATE => self.spend(Kind::WindowUpdates, turn),
            _ => self.spend(Kind::Unknown, turn),
        }
    }

    fn spend(&mut self, kind: Kind, turn: u64) -> Result<(), Fault> {
        let turns = u32::try_from(turn.saturating_sub(self.turn)).unwrap_or(u32::MAX);
        if turns > 0 {
            self.turn = turn;
            self.give_back(|budget| turns.saturating_mul(budget.per_second));
        }
        let place = kind as usize;
        let (Some(spent), Some(budget)) = (self.spent.get_mut(place), BUDGETS.get(place)) else { return Ok(()) };
        *spent = spent.saturating_add(UNITS);
        if *spent > budget.burst * UNITS { Err(budget.fault) } else { Ok(()) }
    }

    fn give_back(&mut self, units: impl Fn(&Budget) -> u32) {
        for (spent, budget) in self.spent.iter_mut().zip(&BUDGETS) {
            *spent = spent.saturating_sub(units(budget));
        }
    }
}

// Types and flags of frames (RFC 9113 section 6).
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, length: u32) -> Vec<u8> {
        let mut bytes = length.to_be_bytes().to_vec().split_off(1);
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.resize(bytes.len() + length as usize, 0);
        bytes
    }

    /// A guard that has seen the preface, SETTINGS and their acceptance.
    fn settled() -> Guard {
        let mut guard = Guard::default();
        let begin = [vec![b'P'; PREFACE_BYTES as usize], frame(SETTINGS, 0, 0, 6), frame(SETTINGS, ACK, 0, 0)].concat();
        assert_eq!(guard.came(&begin, 0), Ok(()));
        guard
    }

    /// How many of these frames one after the other are let through, at most `most`.
    fn let_through(guard: &mut Guard, bytes: &[u8], turn: u64, most: u32) -> (u32, Option<Fault>) {
        for count in 0..most {
            if let Err(fault) = guard.came(bytes, turn) {
                return (count, Some(fault));
            }
        }
        (most, None)
    }

    #[test]
    fn every_kind_of_frame_has_its_burst_and_its_rate() {
        for (kind, fault) in [
            (RST_STREAM, Fault::Resets),
            (PING, Fault::Pings),
            (SETTINGS, Fault::Settings),
            (PRIORITY, Fault::Priorities),
            (WINDOW_UPDATE, Fault::WindowUpdates),
            (0x7, Fault::Unknown),
            (0xbe, Fault::Unknown),
        ] {
            let budget = BUDGETS.iter().find(|budget| budget.fault == fault).map(|budget| (budget.burst, budget.per_second));
            let (burst, per_second) = budget.unwrap_or_default();
            // The two SETTINGS at the beginning count too.
            let spent = if kind == SETTINGS { 2 } else { 0 };
            let (mut guard, frame) = (settled(), frame(kind, 0, 1, 4));
            assert_eq!(let_through(&mut guard, &frame, 0, 1_000_000), (burst - spent, Some(fault)), "{kind}");
            let mut guard = settled();
            assert_eq!(let_through(&mut guard, &frame, 0, burst - spent).1, None, "{kind}");
            assert_eq!(let_through(&mut guard, &frame, u64::from(UNITS), 1_000_000), (per_second, Some(fault)), "{kind}");
        }
    }

    #[test]
    fn what_we_send_earns_window_updates_and_pings_but_no_resets() {
        for (kind, earned) in [(WINDOW_UPDATE, 1_000), (PING, 1_000), (RST_STREAM, 0)] {
            let (mut guard, frame) = (settled(), frame(kind, 0, 1, 4));
            let (burst, _) = let_through(&mut settled(), &frame, 0, 1_000_000);
            assert_eq!(let_through(&mut guard, &frame, 0, burst).1, None);
            // A fault ends a connection, so nothing is asked after it.
            let through = (0..1_000).take_while(|_| {
                guard.went(BYTES_PER_CREDIT);
                guard.came(&frame, 0).is_ok()
            });
            assert_eq!(through.count(), earned, "{kind}");
        }
    }

    #[test]
    fn data_is_not_counted_here() {
        assert_eq!(let_through(&mut settled(), &frame(DATA, 0, 1, 0), 0, 100_000).1, None);
    }

    #[test]
    fn a_head_lasts_until_its_last_frame() {
        let mut guard = settled();
        assert_eq!(guard.came(&frame(HEADERS, 0, 1, 10), 0), Ok(()));
        assert_eq!(guard.came(&frame(CONTINUATION, 0, 1, 10), 0), Ok(()));
        assert!(guard.is_within_head());
        assert_eq!(guard.came(&frame(CONTINUATION, END_HEADERS, 1, 10), 0), Ok(()));
        assert!(!guard.is_within_head());
        assert_eq!(guard.came(&frame(HEADERS, END_HEADERS, 3, 10), 0), Ok(()));
        assert_eq!((guard.is_within_head(), guard.last_stream()), (false, 3));
    }

    #[test]
    fn the_first_frame_is_settings() {
        let mut guard = Guard::default();
        assert_eq!(guard.came(&[b'P'; PREFACE_BYTES as usize], 0), Ok(()));
        assert_eq!(guard.came(&frame(PING, 0, 0, 8), 0), Err(Fault::NoSettings));
    }

    #[test]
    fn how_the_bytes_are_cut_makes_no_difference() {
        let mut bytes = [vec![b'P'; PREFACE_BYTES as usize], frame(SETTINGS, 0, 0, 12), frame(SETTINGS, ACK, 0, 0)].concat();
        for _ in 0..=100 {
            bytes.extend(frame(PING, 0, 0, 8));
        }
        for size in [1, 2, 7, 9, 10, 17, 1_000] {
            let mut guard = Guard::default();
            let faults: Vec<Fault> = bytes.chunks(size).filter_map(|piece| guard.came(piece, 0).err()).collect();
            assert_eq!(faults.first(), Some(&Fault::Pings), "pieces of {size}");
            let mut guard = Guard::default();
            let fine = bytes.len() - 17;
            assert!(bytes.get(..fine).is_some_and(|fine| fine.chunks(size).all(|piece| guard.came(piece, 0).is_ok())), "pieces of {size}");
        }
    }
}
