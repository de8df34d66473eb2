//! Rows of the head and of stages. A row that does not read is told, never taken for an empty one.

use crate::Error;
use crate::framed;
use crate::model::{Entry, Key, Keys, Revision};
use crate::txn::{Compare, MAX_OPERATIONS, MAX_TXN_BYTES, Op, Txn};
use bytes::{Buf, BufMut, Bytes};

/// Which stage a head refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pointer {
    /// The number of its lease, which no other stage has.
    pub(super) id: u64,
    /// How many parts it has.
    pub(super) parts: u64,
}

/// A key of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// Says that somebody writes it; goes away with its lease.
    Marker { id: u64 },
    /// One of its parts.
    Part { id: u64 },
}

/// Where the stages of a head are.
#[derive(Debug, Clone)]
pub(super) struct Stages {
    /// Ends with a slash.
    prefix: Bytes,
}

impl Stages {
    pub(super) fn of(head: &Key) -> Self {
        Self { prefix: [b"/stage", head.as_bytes(), b"/"].concat().into() }
    }

    pub(super) fn all(&self) -> Keys {
        Keys::Prefix(Key::from(self.prefix.clone()))
    }

    pub(super) fn marker(&self, id: u64) -> Key {
        self.under(&format!("{id:016x}"))
    }

    pub(super) fn part(&self, id: u64, part: u64) -> Key {
        self.under(&format!("{id:016x}/{part:08}"))
    }

    /// What a key of a stage names.
    pub(super) fn name(&self, key: &Key) -> Option<Name> {
        let rest = std::str::from_utf8(key.as_bytes().strip_prefix(self.prefix.as_ref())?).ok()?;
        let number = |hex| u64::from_str_radix(hex, 16).ok();
        match rest.split_once('/') {
            Some((id, _)) => Some(Name::Part { id: number(id)? }),
            None => Some(Name::Marker { id: number(rest)? }),
        }
    }

    fn under(&self, name: &str) -> Key {
        Key::from(Bytes::from([self.prefix.as_ref(), name.as_bytes()].concat()))
    }
}

/// Refuses what no set can hold: before anything is staged.
pub(super) fn check(head: &Key, ops: &[Op]) -> Result<(), Error> {
    let mut keys = vec![head];
    for op in ops {
        keys.push(match op {
            Op::Put { key, lease: None, .. } | Op::Delete { keys: Keys::One(key) } => key,
            // A lease could end between the flip and its key: then the set could not be rolled forward, ever.
            Op::Put { .. } | Op::Delete { .. } | Op::Get { .. } => return Err(Error::Unsuited),
        });
        // Alone with the comparison that guards it.
        rolled(head, std::slice::from_ref(op)).check()?;
    }
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair.first() == pair.last()).and_then(<[_]>::first) {
        Some(twice) => Err(Error::DuplicateKey { key: (*twice).clone() }),
        None => Ok(()),
    }
}

/// The operations in as many parts as transactions are needed to do them.
pub(super) fn parts(head: &Key, ops: &[Op]) -> Vec<Bytes> {
    let around = rolled(head, &[]).bytes();
    let mut parts = Vec::new();
    let (mut row, mut count, mut bytes) = (Vec::new(), 0_usize, around);
    for op in ops {
        // As much as it adds to a transaction, and more than it adds to a row.
        let more = rolled(head, std::slice::from_ref(op)).bytes().saturating_sub(around);
        if count == MAX_OPERATIONS || (count > 0 && bytes.saturating_add(more) > MAX_TXN_BYTES) {
            parts.push(Bytes::from(std::mem::take(&mut row)));
            (count, bytes) = (0, around);
        }
        put_op(&mut row, op);
        count = count.saturating_add(1);
        bytes = bytes.saturating_add(more);
    }
    parts.push(row.into());
    parts
}

/// The operations of a part.
pub(super) fn read(head: &Key, row: &Bytes) -> Result<Vec<Op>, Error> {
    let mut rest = row.clone();
    let mut ops = Vec::new();
    while rest.has_remaining() {
        ops.push(read_op(&mut rest).ok_or_else(|| Error::Malformed { key: head.clone(), what: "a part of its stage does not read" })?);
    }
    Ok(ops)
}

/// The transaction that rolls operations forward, for its size.
fn rolled(head: &Key, ops: &[Op]) -> Txn {
    let guard = Compare::unchanged(head.clone(), Revision::ZERO);
    ops.iter().cloned().fold(Txn::new().when(guard), Txn::then)
}

/// The head's row: how many sets, which stage, and the caller's value.
pub(super) fn head_row(number: u64, value: &Bytes, pointer: Option<Pointer>) -> Bytes {
    let mut row = Vec::with_capacity(value.len().saturating_add(24));
    let pointer = pointer.unwrap_or(Pointer { id: 0, parts: 0 });
    row.put_u64_le(number);
    row.put_u64_le(pointer.id);
    row.put_u64_le(pointer.parts);
    row.put_slice(value);
    row.into()
}

/// How many sets, the caller's value, and which stage.
pub(super) fn read_head(entry: &Entry) -> Result<(u64, Bytes, Option<Pointer>), Error> {
    let mut row = entry.value.clone();
    let mut number = || row.try_get_u64_le();
    let (Ok(count), Ok(id), Ok(parts)) = (number(), number(), number()) else {
        return Err(Error::Malformed { key: entry.key.clone(), what: "it is not the head of change sets" });
    };
    Ok((count, row, Some(Pointer { id, parts }).filter(|pointer| pointer.id != 0)))
}

const PUT: u8 = 1;
const DELETE: u8 = 2;

fn put_op(row: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Put { key, value, .. } => {
            row.put_u8(PUT);
            framed::put(row, key.as_bytes());
            framed::put(row, value);
        }
        Op::Delete { keys: Keys::One(key) } => {
            row.put_u8(DELETE);
            framed::put(row, key.as_bytes());
        }
        // `check` has let none of them through.
        Op::Delete { .. } | Op::Get { .. } => {}
    }
}

fn read_op(rest: &mut Bytes) -> Option<Op> {
    let kind = rest.try_get_u8().ok()?;
    let key = framed::take(rest)?;
    match kind {
        PUT => Some(Op::put(key, framed::take(rest)?)),
        DELETE => Some(Op::delete(key)),
        _ => None,
    }
}
