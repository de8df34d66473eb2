//! Lists and maps as they are written: of plain values, or of lists and maps again; one type in each.

use super::At;
use super::check::{Checker, Part, price};
use super::name::Type;
use super::parse::{Expr, Kind};
use super::tree::Op;
use super::value::{List, Map, Value};

/// Items that may be written in one list or map.
const ITEMS_WRITTEN_MAX: usize = 64;

/// The type of what was written so far, and how many values that is.
struct Written {
    kind: Option<Type>,
    weight: u32,
}

impl Checker {
    /// `["a", "b"]`
    pub(super) fn list(&mut self, at: &At, items: &[Expr]) -> Part {
        if let Some(wrong) = self.too_many(at, "list", items.len()) {
            return wrong;
        }
        let mut written = Written { kind: None, weight: 1 };
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match self.item(item, &mut written) {
                Ok(value) => values.push(value),
                Err(wrong) => return wrong,
            }
        }
        let kind = Type::List(Box::new(written.kind.unwrap_or(Type::Any)));
        self.written(at, Value::List(List::Own(values.into())), kind, items.len(), written.weight)
    }

    /// `{"prod": 5, "test": 1}`
    pub(super) fn map(&mut self, at: &At, entries: &[[Expr; 2]]) -> Part {
        if let Some(wrong) = self.too_many(at, "map", entries.len()) {
            return wrong;
        }
        let mut written = Written { kind: None, weight: 1 };
        let mut values: Vec<(Box<str>, Value<'static>)> = Vec::with_capacity(entries.len());
        for [key, item] in entries {
            let Kind::Text(name) = &key.kind else {
                return self.wrong(&key.at, "a name in a written map is no string", "write it in quotes: `{\"prod\": 5}`");
            };
            if values.iter().any(|(known, _)| **known == **name) {
                return self.wrong(&key.at, "this name stands twice in one map", "keep one of them");
            }
            match self.item(item, &mut written) {
                Ok(value) => values.push((name.as_str().into(), value)),
                Err(wrong) => return wrong,
            }
        }
        let kind = Type::Map(Box::new(written.kind.unwrap_or(Type::Any)));
        self.written(at, Value::Map(Map::Own(values.into())), kind, entries.len(), written.weight)
    }

    fn too_many(&mut self, at: &At, what: &str, count: usize) -> Option<Part> {
        (count > ITEMS_WRITTEN_MAX).then(|| {
            let message = format!("a {what} of {count} items, more than the {ITEMS_WRITTEN_MAX} that may be written");
            self.wrong(at, message, "bind roles by claims instead")
        })
    }

    /// One of the values, which is of the type of those before it.
    fn item(&mut self, item: &Expr, written: &mut Written) -> Result<Value<'static>, Part> {
        let part = self.part(item);
        let (true, Op::Const(value)) = (part.kind.is_of_values(), part.tree.op) else {
            return Err(self.wrong(&item.at, "an item of a written list or map is no plain value", "write it apart: `a == b || a == c`"));
        };
        let known = written.kind.get_or_insert_with(|| part.kind.clone());
        if !known.fits(&part.kind) {
            let message = format!("an item is {}, and those before it are of another type: {known}", part.kind);
            return Err(self.wrong(&item.at, message, "items of one list have one type"));
        }
        written.weight = written.weight.saturating_add(part.weight);
        Ok(value)
    }

    fn written(&mut self, at: &At, value: Value<'static>, kind: Type, count: usize, weight: u32) -> Part {
        let made = self.make(at, Op::Const(value), kind, price::PART);
        Part { items: u32::try_from(count).unwrap_or(u32::MAX), weight, ..made }
    }
}
