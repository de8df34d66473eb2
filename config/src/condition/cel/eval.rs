//! The walk over a compiled condition, once per request that comes so far.
//!
//! Cost: bounded by the cost that was checked; recursion no deeper than the parser lets in.

use super::convert::convert;
use super::pattern::Pattern;
use super::steps;
use super::tree::{Arithmetic, Known, Op, Order, Quantifier, Tree, Within};
use super::value::{List, Map, Outcome, Value, fail};
use crate::condition::{Found, QUERY_BYTES_MAX, decoded, parameter};
use crate::decide::Facts;
use crate::snapshot::Slice;
use crate::text::{Key, Node};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

const NOT_THERE: &str = "not there";
const WRONG_TYPE: &str = "of a type that does not fit there";
const OVERFLOW: &str = "out of range";
/// Bytes of a string that is looked through, or joined of others: a claim may have 16 KiB and be asked about for each item of a list,
/// and `map` after `map` could double a string until no memory is left.
const LOOKED_THROUGH_BYTES_MAX: usize = 4 << 10;
const TOO_LONG: &str = "longer than 4 KiB";

/// What a condition is asked about.
pub(crate) struct Inquiry<'a> {
    pub(crate) slice: &'a Slice,
    pub(crate) facts: &'a Facts<'a>,
    /// The claims that its rule may count.
    pub(crate) claims: &'a [(Key, Node)],
    /// Its patterns, by number.
    pub(crate) patterns: &'a [Arc<Pattern>],
}

/// The item of a macro, and those of the macros around it.
pub(super) struct Items<'i, 'a> {
    value: Value<'a>,
    outer: Option<&'i Items<'i, 'a>>,
}

type Around<'i, 'a> = Option<&'i Items<'i, 'a>>;

/// A part that is true or false.
pub(super) fn truth<'a>(tree: &'a Tree, scope: &Inquiry<'a>, items: Around<'_, 'a>) -> Outcome<bool> {
    match eval(tree, scope, items)? {
        Value::Bool(truth) => Ok(truth),
        _ => fail(&tree.at, "neither true nor false"),
    }
}

/// The value of a part.
pub(super) fn eval<'a>(tree: &'a Tree, scope: &Inquiry<'a>, items: Around<'_, 'a>) -> Outcome<Value<'a>> {
    steps::step();
    let at = &tree.at;
    let both = |two: &'a [Tree; 2]| -> Outcome<(Value<'a>, Value<'a>)> {
        let [a, b] = two;
        Ok((eval(a, scope, items)?, eval(b, scope, items)?))
    };
    Ok(match &tree.op {
        Op::Const(value) => value.lent(),
        Op::Known(known) => return known_value(*known, tree, scope),
        Op::Claims => Value::Map(Map::Claim(scope.claims)),
        Op::Header(name) => return field(scope.facts.asked.fields.find(name), tree, Cow::Borrowed),
        Op::Parameter(name) => return query(name, tree, scope),
        Op::HasHeader(name) => Value::Bool(scope.facts.asked.fields.find(name) != Found::Absent),
        Op::HasParameter(name) => Value::Bool(in_query(name, scope) != Found::Absent),
        Op::Item(out) => return item(items, *out, tree),
        Op::Entry(of, name) => return entry(&eval(of, scope, items)?, name, tree),
        Op::HasEntry(of, name) => match eval(of, scope, items)? {
            Value::Map(map) => Value::Bool(map.has(name)),
            _ => return fail(&of.at, "no map"),
        },
        Op::Index(two) => match both(two)? {
            (of @ Value::Map(_), Value::Text(name)) => return entry(&of, &name, tree),
            (Value::List(list), index) => return usize_of(&index).and_then(|at| list.get(at)).map_or_else(|| fail(at, NOT_THERE), Ok),
            _ => return fail(at, WRONG_TYPE),
        },
        Op::Not(of) => Value::Bool(!truth(of, scope, items)?),
        Op::Minus(of) => return minus(&eval(of, scope, items)?).map_or_else(|| fail(at, OVERFLOW), Ok),
        Op::And(two) => Value::Bool(!joined(two, false, scope, items)?),
        Op::Or(two) => Value::Bool(joined(two, true, scope, items)?),
        Op::Choice(three) => {
            let [condition, then, otherwise] = &**three;
            return eval(if truth(condition, scope, items)? { then } else { otherwise }, scope, items);
        }
        Op::Equal(two, wanted) => {
            let (a, b) = both(two)?;
            Value::Bool(a.equals(&b) == *wanted)
        }
        Op::Order(two, order) => return ordered(&both(two)?, *order).map_or_else(|| fail(at, WRONG_TYPE), |truth| Ok(Value::Bool(truth))),
        Op::Arithmetic(two, how) => return arithmetic(both(two)?, *how).or_else(|why| fail(at, why)),
        Op::In(two) => match both(two)? {
            (value, Value::List(list)) => Value::Bool(list.has(&value)),
            (Value::Text(name), Value::Map(map)) => Value::Bool(map.has(&name)),
            _ => return fail(at, WRONG_TYPE),
        },
        Op::Text(two, within) => match both(two)? {
            (Value::Text(text), Value::Text(part)) => Value::Bool(match within {
                Within::Start => text.starts_with(&*part),
                Within::End => text.ends_with(&*part),
                Within::Anywhere => looked_through(&text, tree)?.contains(&*part),
            }),
            _ => return fail(at, WRONG_TYPE),
        },
        Op::Size(of) => match eval(of, scope, items)? {
            Value::Text(text) => size(looked_through(&text, tree)?.chars().count()),
            Value::List(list) => size(list.len()),
            Value::Map(map) => size(map.len()),
            _ => return fail(at, WRONG_TYPE),
        },
        Op::Matches(of, number) => match (eval(of, scope, items)?, scope.patterns.get(*number)) {
            (Value::Text(text), Some(pattern)) => Value::Bool(pattern.is_in(looked_through(&text, tree)?)),
            _ => return fail(at, WRONG_TYPE),
        },
        Op::InBlock(of, block) => match eval(of, scope, items)? {
            Value::Address(address) => Value::Bool(block.contains(&address)),
            Value::Text(text) => match text.parse::<std::net::IpAddr>() {
                Ok(address) => Value::Bool(block.contains(&address.to_canonical())),
                Err(_) => return fail(&of.at, "no address"),
            },
            _ => return fail(&of.at, WRONG_TYPE),
        },
        Op::Convert(of, into) => return convert(eval(of, scope, items)?, *into).map_or_else(|| fail(at, "not to be converted"), Ok),
        Op::Moment(of, part, zone) => match eval(of, scope, items)? {
            Value::Time(time) => Value::Int(part.of_time(time, zone.as_ref())),
            Value::Span(span) if zone.is_none() => return part.of_span(span).map_or_else(|| fail(at, WRONG_TYPE), |n| Ok(Value::Int(n))),
            _ => return fail(at, WRONG_TYPE),
        },
        Op::Each(two, quantifier) => return each(two, *quantifier, scope, items),
        Op::Filter(two) => return filter(two, scope, items),
        Op::Map(three) => return map(three, scope, items),
    })
}

fn known_value<'a>(known: Known, tree: &Tree, scope: &Inquiry<'a>) -> Outcome<Value<'a>> {
    let text = |text: &'a str| Ok(Value::Text(Cow::Borrowed(text)));
    let (facts, slice) = (scope.facts, scope.slice);
    match known {
        Known::Method => text(facts.method.as_str()),
        Known::Path => text(facts.path),
        Known::Host => text(std::str::from_utf8(facts.asked.host).unwrap_or_default()),
        Known::Route => text(facts.route.map_or("", |route| route.name.as_str())),
        Known::Size => match facts.asked.size.map(i64::try_from) {
            Some(Ok(size)) => Ok(Value::Int(size)),
            _ => fail(&tree.at, "not known before the body has come"),
        },
        Known::TenantId => text(slice.id().as_str()),
        Known::TenantPlan => text(slice.plan().map_or("", |plan| plan.as_str())),
        Known::TenantFeatures => Ok(Value::List(List::Features(slice.features()))),
        Known::SourceAddress if facts.source.is_unspecified() => fail(&tree.at, "not known"),
        Known::SourceAddress => Ok(Value::Address(facts.source.to_canonical())),
        Known::Now => jiff::Timestamp::from_second(facts.now).map(Value::Time).or_else(|_| fail(&tree.at, OVERFLOW)),
    }
}

/// A string that is short enough to be looked through.
fn looked_through<'t>(text: &'t str, tree: &Tree) -> Outcome<&'t str> {
    steps::bytes(text.len().min(LOOKED_THROUGH_BYTES_MAX));
    if text.len() > LOOKED_THROUGH_BYTES_MAX { fail(&tree.at, TOO_LONG) } else { Ok(text) }
}

fn field<'a>(found: Found<'a>, tree: &Tree, text: impl FnOnce(&'a str) -> Cow<'a, str>) -> Outcome<Value<'a>> {
    match found {
        Found::One(value) => Ok(Value::Text(text(value))),
        Found::Absent => fail(&tree.at, NOT_THERE),
        Found::Unclear => fail(&tree.at, "not clear: it stands twice, is too long, or is no text"),
    }
}

fn query<'a>(name: &str, tree: &Tree, scope: &Inquiry<'a>) -> Outcome<Value<'a>> {
    match in_query(name, scope) {
        Found::One(encoded) => match decoded(encoded) {
            Some(text) => Ok(Value::Text(text)),
            None => field(Found::Unclear, tree, Cow::Borrowed),
        },
        found => field(found, tree, Cow::Borrowed),
    }
}

fn in_query<'a>(name: &str, scope: &Inquiry<'a>) -> Found<'a> {
    steps::bytes(scope.facts.asked.query.map_or(0, str::len).min(QUERY_BYTES_MAX));
    parameter(scope.facts.asked.query, name)
}

fn item<'a>(items: Around<'_, 'a>, out: u8, tree: &Tree) -> Outcome<Value<'a>> {
    let mut found = items;
    for _ in 0..out {
        found = found.and_then(|items| items.outer);
    }
    found.map_or_else(|| fail(&tree.at, NOT_THERE), |items| Ok(items.value.clone()))
}

fn entry<'a>(of: &Value<'a>, name: &str, tree: &Tree) -> Outcome<Value<'a>> {
    match of {
        Value::Map(map) => map.get(name).map_or_else(|| fail(&tree.at, NOT_THERE), Ok),
        _ => fail(&tree.at, "asked of something that is no map"),
    }
}

fn usize_of(index: &Value<'_>) -> Option<usize> {
    match index {
        Value::Int(at) => usize::try_from(*at).ok(),
        Value::Uint(at) => usize::try_from(*at).ok(),
        _ => None,
    }
}

fn size<'a>(count: usize) -> Value<'a> {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

fn minus<'a>(value: &Value<'_>) -> Option<Value<'a>> {
    match value {
        Value::Int(number) => number.checked_neg().map(Value::Int),
        Value::Double(number) => Some(Value::Double(-number)),
        _ => None,
    }
}

/// `||` where either decides by being `decisive` itself; `&&` is the same of the opposites. What decides absorbs the failure of
/// the other, on whichever side it stands. Whether one was decisive, seen from `||`; of `&&` the caller takes the opposite.
fn joined<'a>(two: &'a [Tree; 2], decisive: bool, scope: &Inquiry<'a>, items: Around<'_, 'a>) -> Outcome<bool> {
    let [a, b] = two;
    let first = truth(a, scope, items);
    if first == Ok(decisive) {
        return Ok(true);
    }
    match (first, truth(b, scope, items)) {
        (_, Ok(second)) if second == decisive => Ok(true),
        (Err(failure), _) | (Ok(_), Err(failure)) => Err(failure),
        (Ok(_), Ok(_)) => Ok(false),
    }
}

fn ordered((a, b): &(Value<'_>, Value<'_>), order: Order) -> Option<bool> {
    let Some(found) = a.order(b) else {
        // Not a number is not less than anything, and not a failure.
        return (a.is_number() && b.is_number()).then_some(false);
    };
    Some(match order {
        Order::Less => found == Ordering::Less,
        Order::AtMost => found != Ordering::Greater,
        Order::Greater => found == Ordering::Greater,
        Order::AtLeast => found != Ordering::Less,
    })
}

fn arithmetic<'a>(two: (Value<'a>, Value<'a>), how: Arithmetic) -> Result<Value<'a>, &'static str> {
    use Arithmetic::{By, Minus, Plus, Rest, Times};
    let out = OVERFLOW;
    match (two, how) {
        ((Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)), By | Rest) => Err("divided by zero"),
        ((Value::Int(a), Value::Int(b)), how) => match how {
            Plus => a.checked_add(b),
            Minus => a.checked_sub(b),
            Times => a.checked_mul(b),
            By => a.checked_div(b),
            Rest => a.checked_rem(b),
        }
        .map(Value::Int)
        .ok_or(out),
        ((Value::Uint(a), Value::Uint(b)), how) => match how {
            Plus => a.checked_add(b),
            Minus => a.checked_sub(b),
            Times => a.checked_mul(b),
            By => a.checked_div(b),
            Rest => a.checked_rem(b),
        }
        .map(Value::Uint)
        .ok_or(out),
        ((Value::Double(a), Value::Double(b)), Plus) => Ok(Value::Double(a + b)),
        ((Value::Double(a), Value::Double(b)), Minus) => Ok(Value::Double(a - b)),
        ((Value::Double(a), Value::Double(b)), Times) => Ok(Value::Double(a * b)),
        ((Value::Double(a), Value::Double(b)), By) => Ok(Value::Double(a / b)),
        ((Value::Text(a), Value::Text(b)), Plus) if a.len() + b.len() > LOOKED_THROUGH_BYTES_MAX => Err(TOO_LONG),
        ((Value::Text(a), Value::Text(b)), Plus) => {
            steps::bytes(a.len() + b.len());
            Ok(Value::Text(Cow::Owned(a.into_owned() + &b)))
        }
        ((Value::Time(a), Value::Span(b)) | (Value::Span(b), Value::Time(a)), Plus) => a.checked_add(b).map(Value::Time).map_err(|_| out),
        ((Value::Time(a), Value::Span(b)), Minus) => a.checked_sub(b).map(Value::Time).map_err(|_| out),
        ((Value::Time(a), Value::Time(b)), Minus) => Ok(Value::Span(a.duration_since(b))),
        ((Value::Span(a), Value::Span(b)), Plus) => a.checked_add(b).map(Value::Span).ok_or(out),
        ((Value::Span(a), Value::Span(b)), Minus) => a.checked_sub(b).map(Value::Span).ok_or(out),
        _ => Err(WRONG_TYPE),
    }
}

/// A macro. What decides absorbs failures of other items, as `&&` and `||` do; `exists_one` absorbs none.
fn each<'a>(two: &'a [Tree; 2], quantifier: Quantifier, scope: &Inquiry<'a>, items: Around<'_, 'a>) -> Outcome<Value<'a>> {
    let [over, body] = two;
    let (mut failure, mut held) = (None, 0_usize);
    for value in gone_through(over, scope, items)? {
        let inner = Items { value, outer: items };
        match (truth(body, scope, Some(&inner)), quantifier) {
            (Ok(false), Quantifier::All) => return Ok(Value::Bool(false)),
            (Ok(true), Quantifier::Exists) => return Ok(Value::Bool(true)),
            (Ok(holds), _) => held += usize::from(holds),
            (Err(why), Quantifier::ExistsOne) => return Err(why),
            (Err(why), _) => failure = failure.or(Some(why)),
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    Ok(Value::Bool(match quantifier {
        Quantifier::All => true,
        Quantifier::Exists => false,
        Quantifier::ExistsOne => held == 1,
    }))
}

/// The items that pass a test. Nothing is absorbed: which items there are would depend on what could not be said.
fn filter<'a>(two: &'a [Tree; 2], scope: &Inquiry<'a>, items: Around<'_, 'a>) -> Outcome<Value<'a>> {
    let [over, test] = two;
    let mut kept = Vec::new();
    for value in gone_through(over, scope, items)? {
        let inner = Items { value, outer: items };
        if truth(test, scope, Some(&inner))? {
            steps::step();
            kept.push(inner.value);
        }
    }
    Ok(Value::List(List::Own(kept.into())))
}

/// What each item that passes a test becomes.
fn map<'a>(three: &'a [Tree; 3], scope: &Inquiry<'a>, items: Around<'_, 'a>) -> Outcome<Value<'a>> {
    let [over, test, body] = three;
    let mut made = Vec::new();
    for value in gone_through(over, scope, items)? {
        let inner = Items { value, outer: items };
        if truth(test, scope, Some(&inner))? {
            steps::step();
            made.push(eval(body, scope, Some(&inner))?);
        }
    }
    Ok(Value::List(List::Own(made.into())))
}

/// The items of a list, or the names of a map, which a macro goes through.
fn gone_through<'a>(over: &'a Tree, scope: &Inquiry<'a>, items: Around<'_, 'a>) -> Outcome<impl Iterator<Item = Value<'a>>> {
    let value = eval(over, scope, items)?;
    let count = match &value {
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        _ => return fail(&over.at, "neither list nor map"),
    };
    let item = move |at: usize| match &value {
        Value::List(list) => list.get(at),
        Value::Map(map) => map.name(at).map(Value::Text),
        _ => None,
    };
    Ok((0..count).inspect(|_| steps::step()).map_while(item))
}
