//! Macros: what is asked of each item of a list, or made of it.

use super::At;
use super::check::{Checker, Item, Part, price};
use super::name::{ROOTS, Type};
use super::parse::{Expr, Kind};
use super::tree::{Op, Quantifier};

/// Macros within each other.
const MACROS_MAX: usize = 4;

impl Checker {
    /// `list.all(item, condition)`, `.exists(…)`, `.exists_one(…)`
    pub(super) fn each(&mut self, at: &At, over: &Expr, quantifier: Quantifier, args: &[Expr]) -> Part {
        let [item, body] = args else {
            return self.wrong(at, "a macro takes a name and a condition", "write `list.exists(x, x == \"a\")`");
        };
        let (over, [body]) = match self.go_through(at, over, item, [body]) {
            Ok(gone_through) => gone_through,
            Err(wrong) => return wrong,
        };
        self.must_be(&body, &Type::Bool, "what is asked of each item");
        let cost = turns(&over, body.cost.saturating_add(price::PART));
        self.make(at, Op::Each(Box::new([over.tree, body.tree]), quantifier), Type::Bool, cost)
    }

    /// `list.filter(item, condition)`
    pub(super) fn filter(&mut self, at: &At, over: &Expr, args: &[Expr]) -> Part {
        let [item, test] = args else {
            return self.wrong(at, "`filter` takes a name and a condition", "write `list.filter(x, x != \"a\")`");
        };
        let (over, [test]) = match self.go_through(at, over, item, [test]) {
            Ok(gone_through) => gone_through,
            Err(wrong) => return wrong,
        };
        self.must_be(&test, &Type::Bool, "what is asked of each item");
        let cost = turns(&over, test.cost.saturating_add(price::PART + price::MADE));
        let kind = Type::List(Box::new(item_type(&over.kind).unwrap_or(Type::Any)));
        let made = self.make(at, Op::Filter(Box::new([over.tree, test.tree])), kind, cost);
        Part { items: over.items, weight: over.weight, ..made }
    }

    /// `list.map(item, value)`, `list.map(item, condition, value)`
    pub(super) fn map_macro(&mut self, at: &At, over: &Expr, args: &[Expr]) -> Part {
        let every = Expr { at: at.clone(), kind: Kind::Bool(true) };
        let (item, test, body) = match args {
            [item, body] => (item, &every, body),
            [item, test, body] => (item, test, body),
            _ => return self.wrong(at, "`map` takes a name, perhaps a condition, and a value", "write `list.map(x, x + \"a\")`"),
        };
        let (over, [test, body]) = match self.go_through(at, over, item, [test, body]) {
            Ok(gone_through) => gone_through,
            Err(wrong) => return wrong,
        };
        self.must_be(&test, &Type::Bool, "what is asked of each item");
        if !body.kind.is_of_values() {
            return self.wrong(&body.tree.at, format!("a list holds no such thing as {}", body.kind), "take one of its fields");
        }
        let own = test.cost.saturating_add(body.cost).saturating_add(price::PART + price::MADE);
        let cost = turns(&over, own);
        let weight = over.items.saturating_mul(body.weight).saturating_add(1);
        let kind = Type::List(Box::new(body.kind));
        let made = self.make(at, Op::Map(Box::new([over.tree, test.tree, body.tree])), kind, cost);
        Part { items: over.items, weight, ..made }
    }

    /// What is gone through, and what is said of each item, checked while the item has its name.
    fn go_through<const N: usize>(&mut self, at: &At, over: &Expr, item: &Expr, said: [&Expr; N]) -> Result<(Part, [Part; N]), Part> {
        let Kind::Name(name) = &item.kind else {
            return Err(self.wrong(&item.at, "a macro takes a name for the item first", "write `list.exists(x, x == \"a\")`"));
        };
        let over = self.part(over);
        let Some(kind) = item_type(&over.kind) else {
            let message = format!("{} has no items to go through", over.kind);
            return Err(self.wrong(&over.tree.at, message, "macros go through lists, and through the names of maps and claims"));
        };
        if ROOTS.contains(&&**name) || self.items.iter().any(|known| known.name == *name) {
            return Err(self.wrong(&item.at, format!("`{name}` has a meaning already"), "take another name for the item"));
        }
        if self.items.len() == MACROS_MAX {
            return Err(self.wrong(at, format!("more than {MACROS_MAX} macros within each other"), "take it apart"));
        }
        self.items.push(Item { name: name.clone(), kind, weight: over.weight });
        let said = said.map(|expr| self.part(expr));
        self.items.pop();
        Ok((over, said))
    }
}

/// What the items of a list are; of a map, its names.
fn item_type(of: &Type) -> Option<Type> {
    match of {
        Type::List(item) => Some((**item).clone()),
        Type::Claims | Type::Map(_) => Some(Type::Text),
        Type::Any => Some(Type::Any),
        _ => None,
    }
}

fn turns(over: &Part, each: u32) -> u32 {
    each.saturating_mul(over.items).saturating_add(over.cost).saturating_add(price::PART)
}
