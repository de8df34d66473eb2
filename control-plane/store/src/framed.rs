//! Bytes behind their length, as rows of ours hold them.

use bytes::{Buf, BufMut, Bytes};

/// Writes them. A transaction is far below what 32 bits count.
pub(crate) fn put(row: &mut Vec<u8>, bytes: &[u8]) {
    row.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    row.put_slice(bytes);
}

/// Takes them off; nothing when the row is cut.
pub(crate) fn take(rest: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(rest.try_get_u32_le().ok()?).ok()?;
    (length <= rest.remaining()).then(|| rest.split_to(length))
}
