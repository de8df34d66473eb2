//! What the readers of both syntaxes share: the count of values, and mappings whose keys stand once.

use super::{Budget, Fault, Key, Node};
use crate::diagnostic::Span;
use std::collections::HashMap;
use std::sync::Arc;

/// Counts values against the budget of a text.
pub(super) struct Tally {
    left: usize,
    most: usize,
}

impl Tally {
    pub(super) fn new(budget: Budget) -> Self {
        Self { left: budget.nodes, most: budget.nodes }
    }

    /// Takes so many values out of the budget.
    pub(super) fn take(&mut self, nodes: usize) -> Result<(), Fault> {
        self.left = self.left.checked_sub(nodes).ok_or(Fault::Nodes(self.most))?;
        Ok(())
    }
}

/// Entries of one mapping, each key once.
#[derive(Default)]
pub(super) struct Entries {
    list: Vec<(Key, Node)>,
    /// Places of keys, once there are too many to look through: a mapping of 100,000 keys must not cost their square.
    places: HashMap<Arc<str>, Span, foldhash::fast::RandomState>,
}

/// Above so many keys, looking them all through costs more than the map.
const FEW: usize = 16;

impl Entries {
    /// Where a key stands already.
    pub(super) fn place(&self, key: &str) -> Option<Span> {
        if self.list.len() <= FEW {
            return self.list.iter().find(|(known, _)| &*known.text == key).map(|(known, _)| known.span);
        }
        self.places.get(key).copied()
    }

    /// Adds an entry whose key is known not to be there.
    pub(super) fn push(&mut self, key: Key, node: Node) {
        if self.list.len() == FEW {
            self.places = self.list.iter().map(|(known, _)| (Arc::clone(&known.text), known.span)).collect();
        }
        if self.list.len() >= FEW {
            self.places.insert(Arc::clone(&key.text), key.span);
        }
        self.list.push((key, node));
    }

    pub(super) fn finish(self) -> Vec<(Key, Node)> {
        self.list
    }
}
