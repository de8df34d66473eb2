//! Numbers by chance, from a seed that is printed: `BULKHEAD_SEED=N` runs a test as it ran then.

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let seed = std::env::var("BULKHEAD_SEED").map_or_else(|_| drawn(), |seed| seed.parse().unwrap());
        // Shown when the test fails.
        println!("BULKHEAD_SEED={seed}");
        Self(seed)
    }

    /// The numbers of a seed, for one of several threads.
    pub(crate) const fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// Less than `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

fn drawn() -> u64 {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
    u64::from_le_bytes(bytes)
}
