//! Reading: what stands, and what stood.

use super::fault::Fault;
use super::rows::{self, BadRow, ENTRIES, HISTORY, KEPT, META, REVISION};
use crate::Error;
use crate::model::{Entry, Event, Key, Keys, Page, Range, Revision};
use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable};
use std::collections::BTreeMap;
use std::ops::Bound;

/// A page as it stood at the revision it asks for.
pub(super) fn page(txn: &ReadTransaction, range: &Range) -> Result<Page, Fault> {
    let (newest, kept) = numbers(txn)?;
    let revision = range.at.unwrap_or(newest);
    if revision > newest {
        return Err(Error::Future { asked: revision, newest }.into());
    }
    if revision < kept {
        return Err(Error::Compacted { asked: revision, kept }.into());
    }
    let since = undone(txn, range, revision)?;
    let entries = txn.open_table(ENTRIES)?;
    let mut found = Joined::new(&entries, bounds(&range.keys, range.after.as_ref()), since)?;
    let (entries, more) = take(&mut found, range.limit)?;
    Ok(Page { entries, revision, more })
}

/// What stands now among `keys`, at most `limit` entries, and whether there is more.
pub(super) fn present(
    entries: &impl ReadableTable<&'static [u8], &'static [u8]>,
    keys: &Keys,
    limit: usize,
) -> Result<(Vec<Entry>, bool), Fault> {
    take(&mut Joined::new(entries, bounds(keys, None), BTreeMap::new())?, limit)
}

/// The newest revision, and the oldest that can be asked for.
pub(super) fn numbers(txn: &ReadTransaction) -> Result<(Revision, Revision), Fault> {
    let meta = txn.open_table(META)?;
    let number = |name| -> Result<Revision, Fault> {
        let number = meta.get(name)?.ok_or(BadRow("it has lost its numbers"))?;
        Ok(Revision::new(number.value()))
    };
    Ok((number(REVISION)?, number(KEPT)?))
}

/// How the keys that changed after `revision` stood at it: what the first change since found.
fn undone(txn: &ReadTransaction, range: &Range, revision: Revision) -> Result<BTreeMap<Key, Option<Entry>>, Fault> {
    let mut stood = BTreeMap::new();
    for row in txn.open_table(HISTORY)?.range(revision.next().get()..)? {
        for event in rows::events(row?.1.value())? {
            let behind = range.after.as_ref().is_none_or(|after| event.key() > after);
            if behind && range.keys.contain(event.key()) {
                let key = event.key().clone();
                stood.entry(key).or_insert_with(|| match event {
                    Event::Put { previous, .. } => previous,
                    Event::Delete { previous } => Some(previous),
                });
            }
        }
    }
    Ok(stood)
}

type Bounds = (Bound<Key>, Bound<Key>);

/// None when nothing can lie between them.
fn bounds(keys: &Keys, after: Option<&Key>) -> Option<Bounds> {
    let (from, to) = keys.bounds();
    let start = match after {
        Some(after) if *after >= from => Bound::Excluded(after.clone()),
        _ => Bound::Included(from.clone()),
    };
    let lowest = after.map_or(&from, |after| after.max(&from));
    match to {
        Some(to) if *lowest >= to => None,
        Some(to) => Some((start, Bound::Excluded(to))),
        None => Some((start, Bound::Unbounded)),
    }
}

fn take(found: &mut Joined<'_>, limit: usize) -> Result<(Vec<Entry>, bool), Fault> {
    let mut entries = Vec::new();
    while let Some(entry) = found.next()? {
        if entries.len() >= limit {
            return Ok((entries, true));
        }
        entries.push(entry);
    }
    Ok((entries, false))
}

/// What stands, in order, with what stood before put in its place.
struct Joined<'a> {
    present: Option<redb::Range<'a, &'static [u8], &'static [u8]>>,
    /// The next of `present`, when it was read and not given yet.
    waiting: Option<Entry>,
    stood: std::iter::Peekable<std::collections::btree_map::IntoIter<Key, Option<Entry>>>,
}

impl<'a> Joined<'a> {
    fn new(
        entries: &'a impl ReadableTable<&'static [u8], &'static [u8]>,
        bounds: Option<Bounds>,
        stood: BTreeMap<Key, Option<Entry>>,
    ) -> Result<Self, Fault> {
        let present = match bounds {
            Some((from, to)) => {
                let (from, to) = (from.as_ref().map(Key::as_bytes), to.as_ref().map(Key::as_bytes));
                Some(entries.range::<&[u8]>((from, to))?)
            }
            None => None,
        };
        Ok(Self { present, waiting: None, stood: stood.into_iter().peekable() })
    }

    fn next(&mut self) -> Result<Option<Entry>, Fault> {
        loop {
            if self.waiting.is_none() {
                self.waiting = self.read()?;
            }
            let before = |stood: &(Key, Option<Entry>), entry: &Option<Entry>| entry.as_ref().is_none_or(|entry| stood.0 <= entry.key);
            let Some((key, stood)) = self.stood.next_if(|stood| before(stood, &self.waiting)) else {
                return Ok(self.waiting.take());
            };
            if self.waiting.as_ref().is_some_and(|entry| entry.key == key) {
                self.waiting = None;
            }
            if stood.is_some() {
                return Ok(stood);
            }
        }
    }

    fn read(&mut self) -> Result<Option<Entry>, Fault> {
        match self.present.as_mut().and_then(Iterator::next) {
            Some(row) => {
                let (key, row) = row?;
                Ok(Some(rows::entry(Key::from(Bytes::copy_from_slice(key.value())), row.value())?))
            }
            None => Ok(None),
        }
    }
}
