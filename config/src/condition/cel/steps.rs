//! Steps that an evaluation takes, by what the cost of a condition is reckoned in. Tests and fuzzer hold the two against each other.
//!
//! Absent on purpose: any of it in a binary that ships, where a step is nothing.

/// Bytes that are looked through in one step.
#[cfg(any(test, fuzzing))]
const BYTES_OF_A_STEP: usize = 256;

#[cfg(any(test, fuzzing))]
thread_local! {
    static TAKEN: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A part is evaluated, an item taken, compared or made, or something looked up by its name.
#[cfg(any(test, fuzzing))]
pub(super) fn step() {
    TAKEN.set(TAKEN.get() + 1);
}

/// See above: nothing.
#[cfg(not(any(test, fuzzing)))]
#[inline]
pub(super) const fn step() {}

/// So many bytes are looked through.
#[cfg(any(test, fuzzing))]
pub(super) fn bytes(count: usize) {
    TAKEN.set(TAKEN.get() + count / BYTES_OF_A_STEP);
}

/// See above: nothing.
#[cfg(not(any(test, fuzzing)))]
#[inline]
pub(super) const fn bytes(_: usize) {}

/// Steps that this takes.
#[cfg(any(test, fuzzing))]
pub(in crate::condition) fn taken_by<T>(evaluate: impl FnOnce() -> T) -> (T, usize) {
    TAKEN.set(0);
    let value = evaluate();
    (value, TAKEN.get())
}
