//! Random bytes of the system's.
//!
//! Cost: per start; one system call. The library that verifies tokens has a generator of its own, whose first use measures the
//! jitter of the processor for 20 ms: half of a cold start, although the system has collected such bytes since the machine started.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;

/// Fills `bytes`.
///
/// # Errors
/// When the system gives none.
pub(crate) fn fill(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match getrandom(&mut *bytes, GetRandomFlags::empty()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(filled) => bytes = bytes.get_mut(filled..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_filled() {
        let mut bytes = [0; 4_096];
        fill(&mut bytes).unwrap();
        assert!(bytes.windows(8).all(|window| window != [0; 8]));
    }
}
