//! An expression into a compiled tree: names resolved, types checked, cost bounded. All mistakes are collected.

use super::name::{Field, Group, Named, ROOTS, Type};
use super::parse::{Expr, Kind};
use super::tree::{Arithmetic, Known, Op, Order, Tree};
use super::value::Value;
use super::{At, COST_MAX, Compiled, FAULTS_MAX, Fault};
use crate::declared::header_is_good;
use crate::diagnostic::nearest;
use crate::snapshot::FEATURES_MAX;
use crate::text::Budget;
use std::borrow::Cow;
use std::sync::Arc;

/// Values that a claim is reckoned with, those in it among them: what a token may hold at the most.
const VALUES_RECKONED: u32 = Budget::TOKEN.nodes as u32;
/// Items that the features of a tenant are reckoned with.
const FEATURES_RECKONED: u32 = FEATURES_MAX as u32;

/// What each part costs; the table in `CONDITIONS.md` says the same.
pub(super) mod price {
    pub(in super::super) const PART: u32 = 1;
    pub(in super::super) const CLAIM: u32 = 2;
    pub(in super::super) const MADE: u32 = 2;
    pub(in super::super) const HEADER: u32 = 4;
    pub(in super::super) const PARAMETER: u32 = 20;
    pub(in super::super) const PREFIX: u32 = 1;
    pub(in super::super) const SCAN: u32 = 20;
    pub(in super::super) const PATTERN: u32 = 100;
    pub(in super::super) const CONVERSION: u32 = 20;
    pub(in super::super) const MOMENT: u32 = 10;
    pub(in super::super) const ZONE: u32 = 40;
}

/// A checked part: its tree, its type, and what it costs at the most.
pub(super) struct Part {
    pub(super) tree: Tree,
    pub(super) kind: Type,
    pub(super) cost: u32,
    /// How many items it has at the most, where it is a list or a map.
    pub(super) items: u32,
    /// How many values it is at the most, with those in it and in these.
    pub(super) weight: u32,
}

impl Part {
    /// The same part, taken out of something of this weight.
    pub(super) fn out_of(self, weight: u32) -> Self {
        if self.kind.is_plain() { self } else { Part { items: weight, weight, ..self } }
    }
}

/// Checks a whole condition.
pub(super) fn check(expr: &Expr) -> Result<Compiled, (Fault, Vec<Fault>)> {
    let mut checker = Checker::default();
    let part = checker.part(expr);
    checker.must_be(&part, &Type::Bool, "a condition");
    let Checker { mut faults, named, headers, patterns, reads, .. } = checker;
    faults.sort_by_key(|fault| fault.at);
    let mut faults = faults.into_iter();
    if let Some(first) = faults.next() {
        return Err((first, faults.collect()));
    }
    Ok(Compiled { tree: part.tree, named, headers, patterns, reads_the_request: reads, cost: part.cost })
}

#[derive(Default)]
pub(super) struct Checker {
    faults: Vec<Fault>,
    /// The items of the macros around.
    pub(super) items: Vec<Item>,
    named: Vec<Tree>,
    headers: Vec<Box<str>>,
    pub(super) patterns: Vec<Arc<str>>,
    reads: bool,
    is_dear: bool,
}

impl Checker {
    /// Writes a mistake down; what stands for the part fits everywhere, so that it is told once.
    pub(super) fn wrong(&mut self, at: &At, message: impl Into<String>, hint: impl Into<String>) -> Part {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault { at: at.start as usize, message: message.into(), hint: hint.into() });
        }
        Part { tree: Tree { at: at.clone(), op: Op::Const(Value::Null) }, kind: Type::Any, cost: 0, items: 0, weight: 0 }
    }

    /// A part is made; whether the whole became too dear with it is told once, where it happened.
    pub(super) fn make(&mut self, at: &At, op: Op, kind: Type, cost: u32) -> Part {
        if cost > COST_MAX && !self.is_dear {
            self.is_dear = true;
            let message = format!("this costs up to {cost}, more than the {COST_MAX} that a condition may cost");
            self.wrong(at, message, "ask less of each item of a list; CONDITIONS.md tells what everything costs");
        }
        let weight = if kind.is_plain() { 1 } else { VALUES_RECKONED };
        Part { tree: Tree { at: at.clone(), op }, kind, cost, items: weight, weight }
    }

    pub(super) fn must_be(&mut self, part: &Part, wanted: &Type, whose: &str) -> bool {
        let fits = part.kind.fits(wanted);
        if !fits {
            let hint = match (&part.kind, wanted) {
                (Type::Group(group), _) => format!("take one of its fields: {}", fields(*group)),
                (_, Type::Bool) => "compare it with something".to_owned(),
                _ => format!("write {wanted} there"),
            };
            self.wrong(&part.tree.at, format!("{whose} is {wanted}, and this is {}", part.kind), hint);
        }
        fits
    }

    /// Checks a part.
    pub(super) fn part(&mut self, expr: &Expr) -> Part {
        let at = &expr.at;
        let constant = |value, kind| (Op::Const(value), kind);
        let (op, kind) = match &expr.kind {
            Kind::Null => constant(Value::Null, Type::Null),
            Kind::Bool(truth) => constant(Value::Bool(*truth), Type::Bool),
            Kind::Int(number) => constant(Value::Int(*number), Type::Int),
            Kind::Uint(number) => constant(Value::Uint(*number), Type::Uint),
            Kind::Double(number) => constant(Value::Double(*number), Type::Double),
            Kind::Text(text) => constant(Value::Text(Cow::Owned(text.clone())), Type::Text),
            Kind::List(items) => return self.list(at, items),
            Kind::Map(entries) => return self.map(at, entries),
            Kind::Name(name) => return self.name(at, name),
            Kind::Field(of, name) => return self.field(at, of, name),
            Kind::Index(of, key) => return self.index(at, of, key),
            Kind::Call(of, name, args) => return self.call(at, of.as_deref(), name, args),
            Kind::Unary(operator, of) => return self.unary(at, operator, of),
            Kind::Binary(operator, two) => return self.binary(at, operator, two),
            Kind::Choice(three) => return self.choice(at, three),
        };
        self.make(at, op, kind, price::PART)
    }

    fn name(&mut self, at: &At, name: &str) -> Part {
        if let Some((out, item)) = self.items.iter().rev().enumerate().find(|(_, item)| item.name == name) {
            let (kind, weight) = (item.kind.clone(), item.weight);
            return self.make(at, Op::Item(u8::try_from(out).unwrap_or(u8::MAX)), kind, price::PART).out_of(weight);
        }
        let group = |group| (Op::Const(Value::Null), Type::Group(group));
        let (op, kind) = match name {
            "request" => group(Group::Request),
            "tenant" => group(Group::Tenant),
            "source" => group(Group::Source),
            "claims" => (Op::Claims, Type::Claims),
            "now" => return self.known(at, Known::Now),
            unknown => {
                let known = ROOTS.iter().copied().chain(self.items.iter().map(|item| &*item.name));
                let hint = nearest(unknown, known).map(|near| format!("did you mean `{near}`?"));
                let hint = hint.unwrap_or_else(|| format!("known: {}", ROOTS.join(", ")));
                return self.wrong(at, format!("`{unknown}` is no name here"), hint);
            }
        };
        self.make(at, op, kind, price::PART)
    }

    fn known(&mut self, at: &At, known: Known) -> Part {
        self.reads |= known.is_kept();
        let part = self.make(at, Op::Known(known), known.type_of(), price::PART);
        self.told(&part);
        match known {
            Known::TenantFeatures => Part { items: FEATURES_RECKONED, weight: FEATURES_RECKONED + 1, ..part },
            _ => part,
        }
    }

    /// What `explain` tells the value of: whatever is read that depends on no item of a macro.
    fn told(&mut self, part: &Part) {
        let is_new = |named: &Tree| named.at != part.tree.at;
        if self.named.iter().all(is_new) && !reads_an_item(&part.tree) {
            // `claims.a.b` is told, and not also `claims.a`.
            self.named.retain(|named| !(named.at.start == part.tree.at.start && named.at.end < part.tree.at.end));
            self.named.push(part.tree.clone());
        }
    }

    fn field(&mut self, at: &At, of: &Expr, name: &str) -> Part {
        let of = self.part(of);
        match &of.kind {
            Type::Group(group) => {
                let group = *group;
                match group.fields().iter().find(|(known, _)| *known == name) {
                    Some((_, Field::Is(known))) => self.known(at, *known),
                    Some((_, Field::Map(named))) => self.make(at, Op::Const(Value::Null), Type::Named(*named), price::PART),
                    None => {
                        let near = nearest(name, group.fields().iter().map(|(known, _)| *known));
                        let hint = near.map_or_else(|| format!("it has: {}", fields(group)), |near| format!("did you mean `{near}`?"));
                        self.wrong(at, format!("`{}` has no field `{name}`", group.name()), hint)
                    }
                }
            }
            Type::Named(named) => {
                let named = *named;
                self.named_value(at, named, name)
            }
            Type::Any | Type::Claims | Type::Map(_) => self.entry(at, of, name),
            kind => {
                let message = format!("{kind} has no fields, so no `{name}`");
                self.wrong(at, message, "only maps have fields; a function wants brackets: `f()`")
            }
        }
    }

    fn entry(&mut self, at: &At, of: Part, name: &str) -> Part {
        let cost = of.cost.saturating_add(price::CLAIM);
        if let Type::Map(kind) = of.kind {
            return self.make(at, Op::Entry(Box::new(of.tree), name.into()), *kind, cost).out_of(of.weight);
        }
        let part = self.make(at, Op::Entry(Box::new(of.tree), name.into()), Type::Any, cost).out_of(of.weight);
        self.told(&part);
        part
    }

    /// A header field or a query parameter.
    fn named_value(&mut self, at: &At, named: Named, name: &str) -> Part {
        if !self.may_name(at, named, name) {
            return self.make(at, Op::Const(Value::Null), Type::Text, 0);
        }
        let (op, cost) = match named {
            Named::Headers => (Op::Header(name.into()), price::HEADER),
            Named::Query => (Op::Parameter(name.into()), price::PARAMETER),
        };
        let part = self.make(at, op, Type::Text, cost);
        self.told(&part);
        part
    }

    /// Whether there is such a header field or parameter.
    pub(super) fn has_named(&mut self, at: &At, named: Named, name: &str) -> Part {
        if !self.may_name(at, named, name) {
            return self.make(at, Op::Const(Value::Null), Type::Bool, 0);
        }
        let (op, cost) = match named {
            Named::Headers => (Op::HasHeader(name.into()), price::HEADER),
            Named::Query => (Op::HasParameter(name.into()), price::PARAMETER),
        };
        let part = self.make(at, op, Type::Bool, cost);
        self.told(&part);
        part
    }

    fn may_name(&mut self, at: &At, named: Named, name: &str) -> bool {
        self.reads = true;
        if named == Named::Query {
            return true;
        }
        match header_is_good(name) {
            Ok(()) => {
                self.headers.push(name.into());
                true
            }
            Err((message, hint)) => {
                self.wrong(at, message, hint);
                false
            }
        }
    }

    fn index(&mut self, at: &At, of: &Expr, key: &Expr) -> Part {
        let of = self.part(of);
        match (&of.kind, &key.kind) {
            (Type::Named(named), Kind::Text(name)) => {
                let named = *named;
                self.named_value(at, named, name)
            }
            (Type::Named(_), _) => self.wrong(
                &key.at,
                "the name of a header or parameter is written there",
                "write it in quotes: `request.headers[\"x-env\"]`",
            ),
            (Type::Any | Type::Claims | Type::Map(_), Kind::Text(name)) => self.entry(at, of, name),
            (Type::Any | Type::Claims | Type::List(_) | Type::Map(_), _) => {
                let kind = match &of.kind {
                    Type::List(item) | Type::Map(item) => (**item).clone(),
                    _ => Type::Any,
                };
                let key = self.part(key);
                match of.kind {
                    Type::List(_) => self.must_be(&key, &Type::Int, "the place in a list"),
                    Type::Claims => self.must_be(&key, &Type::Text, "the name of a claim"),
                    Type::Map(_) => self.must_be(&key, &Type::Text, "the name of an entry"),
                    _ => true,
                };
                let cost = sum(&[&of, &key]).saturating_add(price::CLAIM);
                self.make(at, Op::Index(Box::new([of.tree, key.tree])), kind, cost).out_of(of.weight)
            }
            (kind, _) => {
                let message = format!("{kind} has no entries");
                self.wrong(at, message, "only lists and maps have entries")
            }
        }
    }

    fn unary(&mut self, at: &At, operator: &str, of: &Expr) -> Part {
        let of = self.part(of);
        let cost = of.cost.saturating_add(price::PART);
        if operator == "!" {
            self.must_be(&of, &Type::Bool, "what `!` turns around");
            return self.make(at, Op::Not(Box::new(of.tree)), Type::Bool, cost);
        }
        if !matches!(of.kind, Type::Int | Type::Double | Type::Any) {
            let message = format!("`-` has no meaning for {}", of.kind);
            return self.wrong(at, message, "only an int or a double can be negative");
        }
        match of.tree.op {
            Op::Const(Value::Double(number)) => self.make(at, Op::Const(Value::Double(-number)), of.kind, price::PART),
            _ => self.make(at, Op::Minus(Box::new(of.tree)), of.kind, cost),
        }
    }

    fn choice(&mut self, at: &At, three: &[Expr; 3]) -> Part {
        let [condition, then, otherwise] = three.each_ref().map(|expr| self.part(expr));
        self.must_be(&condition, &Type::Bool, "what stands before `?`");
        let kind = if then.kind == otherwise.kind { then.kind.clone() } else { Type::Any };
        if !then.kind.fits(&otherwise.kind) {
            let message = format!("one side of `:` is {}, the other {}", then.kind, otherwise.kind);
            return self.wrong(at, message, "both sides have one type");
        }
        let cost = sum(&[&condition, &then, &otherwise]).saturating_add(price::PART);
        let (items, weight) = (then.items.max(otherwise.items), then.weight.max(otherwise.weight));
        let made = self.make(at, Op::Choice(Box::new([condition.tree, then.tree, otherwise.tree])), kind, cost);
        Part { items, weight, ..made }
    }

    fn binary(&mut self, at: &At, operator: &'static str, two: &[Expr; 2]) -> Part {
        let [a, b] = two;
        // `"x-env" in request.headers` reads one name.
        if operator == "in"
            && let (Kind::Text(name), Kind::Field(..)) = (&a.kind, &b.kind)
        {
            let maps = self.part(b);
            if let Type::Named(named) = maps.kind {
                return self.has_named(at, named, name);
            }
            let name = self.part(a);
            return self.is_in(at, name, maps);
        }
        let (a, b) = (self.part(a), self.part(b));
        match operator {
            "&&" | "||" => {
                let whose = if operator == "&&" { "a side of `&&`" } else { "a side of `||`" };
                self.must_be(&a, &Type::Bool, whose);
                self.must_be(&b, &Type::Bool, whose);
                let cost = sum(&[&a, &b]).saturating_add(price::PART);
                let two = Box::new([a.tree, b.tree]);
                self.make(at, if operator == "&&" { Op::And(two) } else { Op::Or(two) }, Type::Bool, cost)
            }
            "in" => self.is_in(at, a, b),
            "==" | "!=" => self.equality(at, operator == "==", a, b),
            "<" => self.order(at, Order::Less, a, b),
            "<=" => self.order(at, Order::AtMost, a, b),
            ">" => self.order(at, Order::Greater, a, b),
            ">=" => self.order(at, Order::AtLeast, a, b),
            _ => self.arithmetic(at, operator, a, b),
        }
    }

    fn equality(&mut self, at: &At, is_equal: bool, a: Part, b: Part) -> Part {
        if !a.kind.fits(&b.kind) {
            let hint = if a.kind.is_number() && b.kind.is_number() {
                "write both as one type, for example `double(x)`".to_owned()
            } else if let (Type::Group(group), _) | (_, Type::Group(group)) = (&a.kind, &b.kind) {
                format!("take one of its fields: {}", fields(*group))
            } else {
                "they are never equal; compare values of one type".to_owned()
            };
            let message = format!("{} is compared with {}", a.kind, b.kind);
            return self.wrong(at, message, hint);
        }
        // Where one ends, nothing more is compared.
        let cost = sum(&[&a, &b]).saturating_add(a.weight.min(b.weight).max(price::PART));
        self.make(at, Op::Equal(Box::new([a.tree, b.tree]), is_equal), Type::Bool, cost)
    }

    fn order(&mut self, at: &At, order: Order, a: Part, b: Part) -> Part {
        let is_ordered = |kind: &Type| kind.is_number() || matches!(kind, Type::Any | Type::Bool | Type::Text | Type::Time | Type::Span);
        let fits = a.kind.fits(&b.kind) || (a.kind.is_number() && b.kind.is_number());
        if !fits || !is_ordered(&a.kind) || !is_ordered(&b.kind) {
            let message = format!("{} and {} have no order", a.kind, b.kind);
            return self.wrong(at, message, "numbers, strings, timestamps and durations have one, each among themselves");
        }
        let cost = sum(&[&a, &b]).saturating_add(price::PART);
        self.make(at, Op::Order(Box::new([a.tree, b.tree]), order), Type::Bool, cost)
    }

    fn is_in(&mut self, at: &At, a: Part, b: Part) -> Part {
        let (fits, items) = match &b.kind {
            // The items of a list are compared as far as they and `a` reach.
            Type::List(item) => (a.kind.fits(item), b.items.saturating_mul(a.weight).min(b.weight)),
            Type::Claims | Type::Map(_) => (a.kind.fits(&Type::Text), b.items),
            Type::Any => (a.kind.fits(&Type::Any), b.weight),
            kind => {
                let message = format!("nothing is in {kind}");
                let hint = "`in` looks into a list or a map; of headers it takes a written name: `\"x-env\" in request.headers`";
                return self.wrong(&b.tree.at, message, hint);
            }
        };
        if !fits {
            let message = format!("{} is never in {}", a.kind, b.kind);
            return self.wrong(at, message, "look for a value of the items' type");
        }
        let cost = sum(&[&a, &b]).saturating_add(items).saturating_add(price::PART);
        self.make(at, Op::In(Box::new([a.tree, b.tree])), Type::Bool, cost)
    }

    fn arithmetic(&mut self, at: &At, operator: &str, a: Part, b: Part) -> Part {
        use Type::{Any, Int, Span, Text, Time, Uint};
        let how = match operator {
            "+" => Arithmetic::Plus,
            "-" => Arithmetic::Minus,
            "*" => Arithmetic::Times,
            "/" => Arithmetic::By,
            _ => Arithmetic::Rest,
        };
        let kind = match (&a.kind, &b.kind, operator) {
            (Int, Int, _) | (Uint, Uint, _) => Some(a.kind.clone()),
            (Type::Double, Type::Double, "+" | "-" | "*" | "/") => Some(Type::Double),
            (Text, Text, "+") => Some(Text),
            (Time, Span, "+" | "-") | (Span, Time, "+") => Some(Time),
            (Time, Time, "-") | (Span, Span, "+" | "-") => Some(Span),
            (Any, other, _) | (other, Any, _) if matches!(other, Any | Int | Uint | Type::Double | Text | Time | Span) => Some(Any),
            _ => None,
        };
        let Some(kind) = kind else {
            let message = format!("`{operator}` has no meaning for {} and {}", a.kind, b.kind);
            let hint = if a.kind.is_number() && b.kind.is_number() {
                "write both as one type, for example `double(x)`"
            } else {
                "numbers of one type can be reckoned with, strings be joined, durations be added to timestamps"
            };
            return self.wrong(at, message, hint);
        };
        let own = if matches!(kind, Text | Any) { price::SCAN } else { price::PART };
        let cost = sum(&[&a, &b]).saturating_add(own);
        self.make(at, Op::Arithmetic(Box::new([a.tree, b.tree]), how), kind, cost)
    }
}

/// The item of a macro.
pub(super) struct Item {
    pub(super) name: String,
    pub(super) kind: Type,
    /// What it can be at the most: one item may be nearly all of the list.
    pub(super) weight: u32,
}

/// What parts cost together.
pub(super) fn sum(parts: &[&Part]) -> u32 {
    parts.iter().fold(0, |sum, part| part.cost.saturating_add(sum))
}

fn fields(group: Group) -> String {
    group.fields().iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Whether a path of names begins with the item of a macro.
fn reads_an_item(tree: &Tree) -> bool {
    match &tree.op {
        Op::Item(_) => true,
        Op::Entry(of, _) | Op::HasEntry(of, _) => reads_an_item(of),
        Op::Index(two) => two.iter().any(reads_an_item),
        Op::Known(_) | Op::Claims | Op::Header(_) | Op::Parameter(_) | Op::HasHeader(_) | Op::HasParameter(_) | Op::Const(_) => false,
        // Anything else under a name may hold one somewhere.
        _ => true,
    }
}
