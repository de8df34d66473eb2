//! Random: numbers for trace and span ids. Unique, not secret: nothing is granted by knowing one.
//!
//! Cost: per request that begins a trace; a few instructions, no system call.

use crate::entropy;
use std::cell::Cell;
use std::io;

/// Two independent streams of splitmix64, each from a seed of the system's.
#[derive(Debug)]
pub struct Random {
    high: Cell<u64>,
    low: Cell<u64>,
}

impl Random {
    /// With fresh seeds.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn new() -> io::Result<Self> {
        let seed = || {
            let mut bytes = [0; 8];
            entropy::fill(&mut bytes).map(|()| Cell::new(u64::from_ne_bytes(bytes)))
        };
        Ok(Self { high: seed()?, low: seed()? })
    }

    /// 64 bits, never zero: an id of zeros is no id (W3C Trace Context).
    #[must_use]
    pub fn span(&self) -> u64 {
        next(&self.low).max(1)
    }

    /// 128 bits, never zero.
    #[must_use]
    pub fn trace(&self) -> u128 {
        (u128::from(next(&self.high)) << 64) | u128::from(self.span())
    }
}

fn next(state: &Cell<u64>) -> u64 {
    let at = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    state.set(at);
    let mixed = (at ^ (at >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
