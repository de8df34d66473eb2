//! Functions and macros: which there are, what they take, and what is resolved before any request.

use super::At;
use super::check::{Checker, Part, price, sum};
use super::convert::convert;
use super::moment::{PARTS, Part as MomentPart};
use super::name::Type;
use super::parse::{Expr, Kind};
use super::pattern;
use super::tree::{Into, Op, Quantifier, Within};
use crate::diagnostic::nearest;
use ipnet::IpNet;
use jiff::tz::TimeZone;

const MACROS: [&str; 5] = ["all", "exists", "exists_one", "filter", "map"];
const CONVERSIONS: [(&str, Into, Type); 6] = [
    ("int", Into::Int, Type::Int),
    ("uint", Into::Uint, Type::Uint),
    ("double", Into::Double, Type::Double),
    ("string", Into::Text, Type::Text),
    ("timestamp", Into::Time, Type::Time),
    ("duration", Into::Span, Type::Span),
];
const WITHIN: [(&str, Within); 3] = [("startsWith", Within::Start), ("endsWith", Within::End), ("contains", Within::Anywhere)];
/// What is called as `f(x)` beside conversions, and as `x.f()` beside macros, `WITHIN` and parts of moments.
const FUNCTIONS: [&str; 4] = ["has", "size", "matches", "in_cidr"];
const METHODS: [&str; 2] = ["size", "matches"];
/// What CEL has and conditions do not, and what is written instead.
const LEFT_OUT: [(&str, &str); 3] = [
    ("type", "compare with a value of the type that is meant: `claims.level == 7`; a conversion such as `int(x)` takes what fits"),
    ("dyn", "claims are of any type as they are; make another value fit with a conversion, such as `double(x)`"),
    ("bytes", "write a string"),
];

impl Checker {
    pub(super) fn call(&mut self, at: &At, of: Option<&Expr>, name: &str, args: &[Expr]) -> Part {
        match (of, name, args) {
            (Some(over), "all", args) => self.each(at, over, Quantifier::All, args),
            (Some(over), "exists", args) => self.each(at, over, Quantifier::Exists, args),
            (Some(over), "exists_one", args) => self.each(at, over, Quantifier::ExistsOne, args),
            (Some(over), "filter", args) => self.filter(at, over, args),
            (Some(over), "map", args) => self.map_macro(at, over, args),
            (None, "has", [field]) => self.has(at, field),
            (None, "size", [of]) | (Some(of), "size", []) => self.size(at, of),
            (None, "matches", [of, pattern]) | (Some(of), "matches", [pattern]) => self.matches(at, of, pattern),
            (None, "in_cidr", [address, block]) => self.in_block(at, address, block),
            (Some(of), _, [part]) if within_of(name).is_some() => {
                let within = within_of(name).unwrap_or(Within::Anywhere);
                self.within(at, name, [of, part], within)
            }
            (Some(of), _, [] | [_]) if moment_of(name).is_some() => {
                let part = moment_of(name).unwrap_or(MomentPart::Seconds);
                self.moment(at, of, name, part, args.first())
            }
            (None, _, [of]) if CONVERSIONS.iter().any(|(known, ..)| *known == name) => self.conversion(at, name, of),
            (of, name, args) => self.unknown(at, of.is_some(), name, args.len()),
        }
    }

    fn unknown(&mut self, at: &At, is_method: bool, name: &str, args: usize) -> Part {
        let methods = METHODS.into_iter().chain(MACROS);
        let methods = methods.chain(WITHIN.iter().map(|(name, _)| *name)).chain(PARTS.iter().map(|(name, _)| *name));
        let functions = FUNCTIONS.into_iter().chain(CONVERSIONS.iter().map(|(name, ..)| *name));
        let (methods, functions): (Vec<_>, Vec<_>) = (methods.collect(), functions.collect());
        let (own, others) = if is_method { (&methods, &functions) } else { (&functions, &methods) };
        if own.contains(&name) {
            let message = format!("`{name}` does not take {args} arguments");
            return self.wrong(at, message, "CONDITIONS.md tells what each function takes");
        }
        if others.contains(&name) {
            let hint = if is_method { format!("write `{name}(x)`") } else { format!("write `x.{name}(…)`") };
            return self.wrong(at, format!("`{name}` is not called like this"), hint);
        }
        if let Some((_, hint)) = LEFT_OUT.iter().find(|(known, _)| *known == name) {
            return self.wrong(at, format!("`{name}` is no part of conditions"), *hint);
        }
        let hint = nearest(name, own.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        self.wrong(at, format!("there is no function `{name}`"), hint.unwrap_or_else(|| format!("there are: {}", own.join(", "))))
    }

    /// `has(claims.mfa)`
    fn has(&mut self, at: &At, field: &Expr) -> Part {
        let (of, name) = match &field.kind {
            Kind::Field(of, name) => (of, name),
            Kind::Index(of, key) => match &key.kind {
                Kind::Text(name) => (of, name),
                _ => return self.wrong(&field.at, "`has` asks for a name that is written there", "write `has(claims.mfa)`"),
            },
            _ => return self.wrong(&field.at, "`has` asks for a field", "write `has(claims.mfa)`"),
        };
        let of = self.part(of);
        match &of.kind {
            Type::Named(named) => {
                let named = *named;
                self.has_named(at, named, name)
            }
            Type::Any | Type::Claims | Type::Map(_) => {
                let cost = of.cost.saturating_add(price::CLAIM);
                self.make(at, Op::HasEntry(Box::new(of.tree), (&**name).into()), Type::Bool, cost)
            }
            kind => {
                let message = format!("{kind} always has the same fields");
                self.wrong(at, message, "ask `has` of claims, headers and query parameters")
            }
        }
    }

    fn size(&mut self, at: &At, of: &Expr) -> Part {
        let of = self.part(of);
        if !matches!(of.kind, Type::Any | Type::Text | Type::List(_) | Type::Map(_) | Type::Claims) {
            let message = format!("{} has no size", of.kind);
            return self.wrong(at, message, "strings, lists, maps and claims have one");
        }
        let cost = of.cost.saturating_add(price::SCAN);
        self.make(at, Op::Size(Box::new(of.tree)), Type::Int, cost)
    }

    fn within(&mut self, at: &At, name: &str, two: [&Expr; 2], within: Within) -> Part {
        let [text, part] = two.map(|expr| self.part(expr));
        self.must_be(&text, &Type::Text, &format!("what `{name}` looks at"));
        self.must_be(&part, &Type::Text, &format!("what `{name}` looks for"));
        let own = if within == Within::Anywhere { price::SCAN } else { price::PREFIX };
        let cost = sum(&[&text, &part]).saturating_add(own);
        let [text, part] = [text, part].map(|part| part.tree);
        self.make(at, Op::Text(Box::new([text, part]), within), Type::Bool, cost)
    }

    fn matches(&mut self, at: &At, of: &Expr, pattern_of: &Expr) -> Part {
        let of = self.part(of);
        self.must_be(&of, &Type::Text, "what a pattern is matched with");
        let Kind::Text(written) = &pattern_of.kind else {
            return self.wrong(&pattern_of.at, "a pattern is written there, not computed", "write it in quotes");
        };
        if let Err((message, hint)) = pattern::is_good(written) {
            return self.wrong(&pattern_of.at, message, hint);
        }
        let number = self.number_of(written);
        let cost = of.cost.saturating_add(price::PATTERN);
        self.make(at, Op::Matches(Box::new(of.tree), number), Type::Bool, cost)
    }

    /// The number that a condition has for a pattern: its parts do not hold it, as its automaton is made later.
    fn number_of(&mut self, written: &str) -> usize {
        let known = self.patterns.iter().position(|known| **known == *written);
        known.unwrap_or_else(|| {
            self.patterns.push(written.into());
            self.patterns.len() - 1
        })
    }

    fn in_block(&mut self, at: &At, address: &Expr, block: &Expr) -> Part {
        let address = self.part(address);
        if !matches!(address.kind, Type::Any | Type::Text | Type::Address) {
            let message = format!("{} is no address", address.kind);
            return self.wrong(&address.tree.at, message, "write `source.address`");
        }
        let Kind::Text(written) = &block.kind else {
            return self.wrong(&block.at, "a block of addresses is written there", "write it in quotes: `\"10.0.0.0/8\"`");
        };
        let Some(block_of) = written.parse::<IpNet>().ok().filter(|block| block.addr() == block.network()) else {
            return self.wrong(&block.at, "this is no block of addresses", "write it like `\"10.0.0.0/8\"`, with zeros behind the prefix");
        };
        let cost = address.cost.saturating_add(price::CONVERSION);
        self.make(at, Op::InBlock(Box::new(address.tree), block_of), Type::Bool, cost)
    }

    fn conversion(&mut self, at: &At, name: &str, of: &Expr) -> Part {
        let Some((_, into, kind)) = CONVERSIONS.iter().find(|(known, ..)| *known == name) else {
            return self.unknown(at, false, name, 1);
        };
        let of = self.part(of);
        use Type::{Address, Any, Bool, Double, Int, Span, Text, Time, Uint};
        let takes = matches!(
            (into, &of.kind),
            (_, Any | Text)
                | (Into::Int, Int | Uint | Double | Time)
                | (Into::Uint | Into::Double, Int | Uint | Double)
                | (Into::Text, Bool | Int | Uint | Double | Time | Span | Address)
                | (Into::Time, Int | Time)
                | (Into::Span, Span)
        );
        if !takes {
            let message = format!("{} cannot be made {kind}", of.kind);
            return self.wrong(at, message, "CONDITIONS.md tells what can be converted");
        }
        // What is written there is converted now, so that a mistake in it is one of the document.
        if let Op::Const(value) = &of.tree.op {
            return match convert(value.clone(), *into) {
                Some(value) => self.make(at, Op::Const(value), kind.clone(), price::PART),
                None => self.wrong(&of.tree.at, format!("this is not {kind}"), example(*into)),
            };
        }
        let cost = of.cost.saturating_add(price::CONVERSION);
        self.make(at, Op::Convert(Box::new(of.tree), *into), kind.clone(), cost)
    }

    fn moment(&mut self, at: &At, of: &Expr, name: &str, part: MomentPart, zone: Option<&Expr>) -> Part {
        let of = self.part(of);
        let has_it = match of.kind {
            Type::Time | Type::Any => true,
            Type::Span => part.is_of_durations() && zone.is_none(),
            _ => false,
        };
        if !has_it {
            let message = format!("{} has no `{name}`", of.kind);
            return self.wrong(at, message, "a timestamp has it, such as `now`");
        }
        let zone = match zone.map(|zone| (&zone.kind, &zone.at)) {
            None => None,
            Some((Kind::Text(written), zone_at)) => match TimeZone::get(written) {
                Ok(zone) => Some(zone),
                Err(_) => return self.wrong(zone_at, format!("`{written}` is no IANA time zone"), "write a name such as `Europe/Vienna`"),
            },
            Some((_, zone_at)) => {
                return self.wrong(zone_at, "a time zone is written there", "write a name in quotes, such as `\"Europe/Vienna\"`");
            }
        };
        let cost = of.cost.saturating_add(if zone.is_some() { price::ZONE } else { price::MOMENT });
        self.make(at, Op::Moment(Box::new(of.tree), part, zone), Type::Int, cost)
    }
}

fn within_of(name: &str) -> Option<Within> {
    WITHIN.iter().find(|(known, _)| *known == name).map(|(_, within)| *within)
}

fn moment_of(name: &str) -> Option<MomentPart> {
    PARTS.iter().find(|(known, _)| *known == name).map(|(_, part)| *part)
}

fn example(into: Into) -> &'static str {
    match into {
        Into::Int | Into::Uint | Into::Double => "write a number within the type's range",
        Into::Time => "write it as RFC 3339 does: `timestamp(\"2027-06-30T00:00:00Z\")`",
        Into::Span => "write it like `duration(\"1h30m\")`, with h, m, s, ms, us or ns",
        Into::Text => "write it in quotes",
    }
}
