//! Fuzzed: what must hold of whatever a peer sends, one function per reader of outside bytes.
//!
//! Each has the same face, so that a fuzzer (`tests/fuzz/`) and the unit test below run the same lines: it takes any bytes, fails
//! where something does not hold, and says whether they were what the reader is for. What must hold is more than "no panic":
//! the result is the same however the bytes arrive; what is accepted is written as the plain grammar in `grammar.rs` says, by
//! which it has one reading; and what we write of it is read again as the same.
//! Absent on purpose: all of this in a binary that ships. It is compiled for tests and for the fuzzer alone.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of it is tests: to fail is how it tells"
)]

pub mod grammar;
pub mod request_head;
pub mod answer_head;
pub mod chunked;
pub mod http2_to_http1;
pub mod proxy_header;
pub mod websocket;
mod upward;

/// Ways in which the same bytes arrive: at once, one by one, in sevens, and in two pieces cut at a place that they choose.
fn arrivals(bytes: &[u8]) -> [Vec<&[u8]>; 4] {
    let chosen = bytes.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let (front, back) = bytes.split_at(chosen % (bytes.len() + 1));
    [vec![bytes], bytes.chunks(1).collect(), bytes.chunks(7).collect(), vec![front, back]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Changed copies of each seed.
    const CHANGED: usize = 300;

    /// Bytes that mean something to one reader or another.
    const TELLING: &[u8] = b"\r\n\0 \t:;,_-#%/0159aAXx\x80\xff";

    /// Fails where something does not hold of bytes; says whether they are accepted.
    type Check = fn(&[u8]) -> bool;

    /// The function of a folder of seeds.
    const CHECKS: [(&str, Check); 6] = [
        ("request_head", request_head::check),
        ("answer_head", answer_head::check),
        ("chunked", chunked::check),
        ("http2_to_http1", http2_to_http1::check),
        ("proxy_header", proxy_header::check),
        ("websocket", websocket::check),
    ];

    /// The seeds of a function by their names.
    fn seeds(of: &str) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds").join(of);
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
        files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
    }

    /// What a function says, or which bytes it fails at.
    fn holds(of: &str, check: Check, bytes: &[u8]) -> bool {
        std::panic::catch_unwind(|| check(bytes)).unwrap_or_else(|_| panic!("{of} fails at b\"{}\"", bytes.escape_ascii()))
    }

    #[test]
    fn a_seed_is_what_its_name_says_and_what_must_hold_of_it_holds() {
        for (of, check) in CHECKS {
            let seeds = seeds(of);
            for kind in ["good", "bad"] {
                assert!(seeds.iter().any(|(name, _)| name.starts_with(kind)), "{of} has no seed that is {kind}");
            }
            for (name, seed) in seeds {
                assert_eq!(holds(of, check, &seed), name.starts_with("good"), "{of}/{name}");
            }
        }
    }

    #[test]
    fn what_must_hold_of_a_seed_holds_of_its_changed_copies() {
        for (of, check) in CHECKS {
            let seeds = seeds(of);
            let mut chance = Chance(1);
            for (_, seed) in &seeds {
                for _ in 0..CHANGED {
                    holds(of, check, &chance.change(seed, &seeds));
                }
            }
        }
    }

    /// Numbers that look like chance and are the same in each run (xorshift64).
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 1).unwrap() % end.max(1)
        }

        /// A copy with up to three bytes changed, put in or left out, and at times the end of another seed behind it.
        fn change(&mut self, seed: &[u8], others: &[(String, Vec<u8>)]) -> Vec<u8> {
            let mut bytes = seed.to_vec();
            for _ in 0..=self.below(3) {
                let at = self.below(bytes.len());
                let byte = TELLING[self.below(TELLING.len())];
                match self.below(4) {
                    0 if at < bytes.len() => bytes[at] = byte,
                    1 if at < bytes.len() => drop(bytes.remove(at)),
                    2 => {
                        let (_, other) = &others[self.below(others.len())];
                        bytes.truncate(at);
                        bytes.extend_from_slice(&other[self.below(other.len())..]);
                    }
                    _ => bytes.insert(at, byte),
                }
            }
            bytes
        }
    }
}
