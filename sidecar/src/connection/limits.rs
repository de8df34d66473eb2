//! Limits: what a client may cost by being slow, silent, many or endless, each with the reason for its size.
//!
//! Cost: none; numbers. README lists them for operators, beside those that documents set (`SecurityPolicy.request`) and those of
//! HTTP/2's frames, which stand where frames are counted (`flood`, `http2`, `stream`).
//! What bounds a single message stands with the code that reads it (`http1/`): that code knows no connection.

use std::time::Duration;

/// Connections one source may hold: a gateway with a few thousand users fits, and what they take of memory is known (8 KiB each).
pub const CONNECTIONS_MAX: u32 = 4_096;
/// Connections of one source that may owe us the end of a head. Honest clients owe it for a moment; whoever holds places by
/// trickling heads owes it all the time.
pub const UNFINISHED_MAX: u32 = 512;

/// A kept connection may be silent between two requests for so long: longer than a balancer keeps its own (60 s is common), or it
/// would send into one that we are just closing.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// What waits to go out must have gone after so long, whether nothing of it was taken or a byte now and then: so an answer is
/// taken at more than [`WAITING_MAX`](crate::http1::lane::WAITING_MAX) a minute, or its client is let go.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// While closing, a silent connection stays so long, for a request that is already on its way.
pub const CLOSING_GRACE: Duration = Duration::from_millis(500);
/// Requests that one connection may bring. Then it is closed, so that load that moved elsewhere is found by everybody.
pub const REQUESTS_MAX: u32 = 100_000;

/// Bytes a second that a request's body of declared length must bring, on average over the time its client kept us waiting. A
/// client may fall behind by one pause (`request.body_idle_timeout`), so whoever sends a byte in each pause soon has none left. The
/// slowest modem is ten times as fast. A body without a declared length may be a stream, silent by nature, and owes nothing but the
/// end of its pauses.
pub const BODY_BYTES_PER_SECOND: u64 = 256;

/// Bytes of later requests that are read while one is served: enough for a pipeline of small ones. Who sends more waits in the
/// system's queue.
pub const AHEAD_MAX: usize = 8 << 10;
/// The rest of a body that nobody asked for is read up to here, so that the connection can go on; a larger one ends it.
pub const REST_MAX: u64 = 64 << 10;
/// After our last word, what the client still sends is read so long and so much: closing a socket with unread bytes resets it,
/// and a reset overtakes the answer.
pub const LINGER: Duration = Duration::from_secs(2);
/// See [`LINGER`].
pub const LINGER_BYTES: usize = 256 << 10;
