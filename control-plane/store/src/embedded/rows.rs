//! The tables of the file, and how a row is written. A row that does not read back is damage, never an empty answer.

use crate::framed;
use crate::model::{Entry, Event, Key, LeaseId, Revision};
use bytes::{Buf, BufMut, Bytes};
use redb::TableDefinition;

/// What stands: key → entry without its key.
pub(super) const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
/// What each revision did: number → its events, with what stood before, so that an older state can be read from the present one.
pub(super) const HISTORY: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("history");
/// Leases that have not ended: number → seconds.
pub(super) const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("leases");
/// Keys under a lease.
pub(super) const LEASED: TableDefinition<'_, (u64, &[u8]), ()> = TableDefinition::new("leased");
/// One number per name, below.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Version of these tables.
pub(super) const SCHEMA: &str = "schema";
/// Drawn when the store is made: tells it from every other.
pub(super) const CLUSTER: &str = "cluster";
/// Raised by each restore, so that revisions after it are not taken for those that were lost.
pub(super) const INCARNATION: &str = "incarnation";
/// The newest revision.
pub(super) const REVISION: &str = "revision";
/// The oldest revision that can be asked for.
pub(super) const KEPT: &str = "kept";
/// Commits so far.
pub(super) const COMMITS: &str = "commits";
/// The last lease given.
pub(super) const LEASE: &str = "lease";

/// A row that holds something else than it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadRow(pub(super) &'static str);

const PUT: u8 = 1;
const REPLACE: u8 = 2;
const DELETE: u8 = 3;

/// An entry as it stands in its row: numbers first, then the value.
pub(super) fn entry_row(entry: &Entry) -> Vec<u8> {
    let mut row = Vec::with_capacity(entry.value.len().saturating_add(32));
    put_entry(&mut row, entry);
    row
}

/// The entry under `key` whose row this is.
pub(super) fn entry(key: Key, row: &[u8]) -> Result<Entry, BadRow> {
    read_entry(key, Bytes::copy_from_slice(row)).ok_or(BadRow("the row of an entry is too short"))
}

/// What one revision did.
pub(super) fn history_row(events: &[Event]) -> Vec<u8> {
    let mut row = Vec::new();
    for event in events {
        let (kind, entry, previous) = match event {
            Event::Put { entry, previous: None } => (PUT, Some(entry), None),
            Event::Put { entry, previous: Some(previous) } => (REPLACE, Some(entry), Some(previous)),
            Event::Delete { previous } => (DELETE, None, Some(previous)),
        };
        row.put_u8(kind);
        framed::put(&mut row, event.key().as_bytes());
        for entry in [entry, previous].into_iter().flatten() {
            framed::put(&mut row, &entry_row(entry));
        }
    }
    row
}

/// The events of a revision whose row this is.
pub(super) fn events(row: &[u8]) -> Result<Vec<Event>, BadRow> {
    let mut rest = Bytes::copy_from_slice(row);
    let mut events = Vec::new();
    while rest.has_remaining() {
        events.push(read_event(&mut rest).ok_or(BadRow("the row of a revision does not read"))?);
    }
    Ok(events)
}

fn read_event(rest: &mut Bytes) -> Option<Event> {
    let kind = rest.try_get_u8().ok()?;
    let key = Key::from(framed::take(rest)?);
    let mut next = || read_entry(key.clone(), framed::take(rest)?);
    match kind {
        PUT => Some(Event::Put { entry: next()?, previous: None }),
        REPLACE => Some(Event::Put { entry: next()?, previous: Some(next()?) }),
        DELETE => Some(Event::Delete { previous: next()? }),
        _ => None,
    }
}

fn put_entry(row: &mut Vec<u8>, entry: &Entry) {
    row.put_u64_le(entry.create_revision.get());
    row.put_u64_le(entry.mod_revision.get());
    row.put_u64_le(entry.version);
    row.put_u64_le(entry.lease.map_or(0, LeaseId::get));
    row.put_slice(&entry.value);
}

fn read_entry(key: Key, mut row: Bytes) -> Option<Entry> {
    let mut number = || row.try_get_u64_le().ok();
    Some(Entry {
        key,
        create_revision: Revision::new(number()?),
        mod_revision: Revision::new(number()?),
        version: number()?,
        lease: LeaseId::new(number()?),
        value: row,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn entry_of(key: &str, value: &[u8]) -> Entry {
        Entry {
            key: Key::from(key),
            value: Bytes::copy_from_slice(value),
            create_revision: Revision::new(3),
            mod_revision: Revision::new(7),
            version: 2,
            lease: LeaseId::new(9),
        }
    }

    #[test]
    fn what_was_written_reads_back() {
        let (small, large) = (entry_of("\u{0}key", b""), entry_of("\u{0}key", &[7; 300]));
        assert_eq!(entry(large.key.clone(), &entry_row(&large)).unwrap(), large);
        let written = [
            Event::Put { entry: small.clone(), previous: None },
            Event::Put { entry: large.clone(), previous: Some(small.clone()) },
            Event::Delete { previous: large },
        ];
        assert_eq!(events(&history_row(&written)).unwrap(), written);
        assert_eq!(events(&[]).unwrap(), []);
    }

    #[test]
    fn a_row_cut_anywhere_is_damage() {
        let row = entry_row(&entry_of("a", b""));
        for length in 0..row.len() {
            assert!(entry(Key::from("a"), &row[..length]).is_err(), "{length}");
        }
        let row = history_row(&[Event::Delete { previous: entry_of("a", b"value") }]);
        for length in 1..row.len() {
            assert!(events(&row[..length]).is_err(), "{length}");
        }
        assert!(events(&[9, 0, 0, 0, 0]).is_err(), "no such kind");
    }
}
