//! Readers of the values that several kinds share: texts, names, numbers, quantities, addresses, moments.

use super::reader::{Complaint, Item, Outcome, Seen, wrong};
use crate::diagnostic::Spanned;
use crate::name::{Host, NotAName};
use crate::path::Pattern;
use crate::text::Value;
use crate::unit::{self, Limit, NotAQuantity, UnixSeconds};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Any string.
pub(crate) fn string<'a>(item: &Item<'a>) -> Outcome<&'a Arc<str>> {
    match item.value() {
        Value::Str(text) => Ok(text),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            Err(item.refuse(wrong(format!("{} is no string", item.label())).expected("a string").hint("put it in quotes")))
        }
        _ => Err(item.refuse(wrong(format!("{} is no string", item.label())).expected("a string"))),
    }
}

/// A string of one line for people or for comparison: not empty, no control characters, at most so many characters.
pub(crate) fn line(most: usize) -> impl Fn(&Item<'_>) -> Outcome<String> {
    move |item| {
        let text = string(item)?;
        let (why, hint) = if text.trim().is_empty() {
            ("is empty", "write something that can be seen")
        } else if text.chars().count() > most {
            ("is too long", "shorten it")
        } else if text.chars().any(char::is_control) {
            ("has control characters", "remove tabs, line breaks and what cannot be seen")
        } else {
            return Ok(text.to_string());
        };
        let complaint = wrong(format!("{} {why}", item.label())).expected(format!("1 to {most} characters on one line"));
        Err(item.refuse(complaint.hint(hint)))
    }
}

/// `true` or `false`.
pub(crate) fn truth(item: &Item<'_>) -> Outcome<bool> {
    match item.value() {
        Value::Bool(truth) => Ok(*truth),
        other => {
            let complaint = wrong(format!("{} is neither `true` nor `false`", item.label())).expected("`true` or `false`");
            Err(item.refuse(match other {
                Value::Str(text) if matches!(&*text.to_ascii_lowercase(), "yes" | "on" | "true" | "y") => complaint.hint("write `true`"),
                Value::Str(text) if matches!(&*text.to_ascii_lowercase(), "no" | "off" | "false" | "n") => complaint.hint("write `false`"),
                _ => complaint,
            }))
        }
    }
}

/// A name of any kind of thing.
pub(crate) fn name<T: FromStr<Err = NotAName>>(item: &Item<'_>) -> Outcome<T> {
    let text = string(item)?;
    text.parse().map_err(|why: NotAName| {
        let complaint = wrong(format!("{} is no valid name: {why}", item.label())).expected("a name of a-z, 0-9, `_` and `-`");
        let lower: String = text.trim().to_lowercase().replace([' ', '.'], "_");
        let offered = lower.parse::<T>().is_ok();
        item.refuse(if offered { complaint.hint(format!("write `{lower}`")) } else { complaint })
    })
}

/// A list of names, each of them once.
pub(crate) fn names<T: FromStr<Err = NotAName> + fmt::Display>(item: &Item<'_>) -> Outcome<Vec<Spanned<T>>> {
    set(item, "name", name)
}

/// A list whose items stand once. `what` is what an item is.
pub(crate) fn set<'a, T: fmt::Display>(item: &Item<'a>, what: &str, read: impl Fn(&Item<'a>) -> Outcome<T>) -> Outcome<Vec<Spanned<T>>> {
    let mut seen = Seen::default();
    item.each(|item| {
        let value = read(item)?;
        seen.once(what, &value.to_string(), item)?;
        Ok(item.spanned(value))
    })
}

/// The same, and not empty.
pub(crate) fn some_set<'a, T: fmt::Display>(
    item: &Item<'a>,
    what: &str,
    read: impl Fn(&Item<'a>) -> Outcome<T>,
) -> Outcome<Vec<Spanned<T>>> {
    item.not_empty()?;
    set(item, what, read)
}

/// The values without their places.
pub(crate) fn bare<T>(list: Vec<Spanned<T>>) -> Vec<T> {
    list.into_iter().map(|one| one.value).collect()
}

/// A host name.
pub(crate) fn host(item: &Item<'_>) -> Outcome<Host> {
    let text = string(item)?;
    text.parse().map_err(|_| {
        let complaint = wrong(format!("{} is no host name", item.label())).expected("a DNS name such as `api.example.com`");
        let bare = text.rsplit_once("://").map_or(&**text, |(_, rest)| rest);
        let bare = bare.split(['/', ':']).next().unwrap_or(bare);
        item.refuse(match bare.parse::<Host>() {
            Ok(host) if bare != &**text => complaint.hint(format!("write `{host}`: scheme, port and path are no part of it")),
            _ => complaint,
        })
    })
}

/// A path pattern.
pub(crate) fn pattern(item: &Item<'_>) -> Outcome<Pattern> {
    let text = string(item)?;
    parse_pattern(item, text)
}

/// A path pattern that is a part of the item's text.
pub(crate) fn parse_pattern(item: &Item<'_>, text: &str) -> Outcome<Pattern> {
    text.parse().map_err(|why| {
        let complaint = wrong(format!("{} is no path pattern: {why}", crate::text::show_text(text)));
        let complaint = complaint.expected("a path such as `/v1/items`, `/v1/items/{id}` or `/v1/admin/**`");
        let slashed = format!("/{text}");
        item.refuse(match slashed.parse::<Pattern>() {
            Ok(_) => complaint.hint(format!("write `{slashed}`")),
            Err(_) => complaint,
        })
    })
}

/// A whole number in a range.
pub(crate) fn whole(range: RangeInclusive<u32>) -> impl Fn(&Item<'_>) -> Outcome<u32> {
    move |item| {
        let complaint = |what: &str| {
            wrong(format!("{} is {what}", item.label())).expected(format!("a whole number from {} to {}", range.start(), range.end()))
        };
        let hint = match item.value() {
            Value::Int(number) => {
                return match u32::try_from(*number) {
                    Ok(number) if range.contains(&number) => Ok(number),
                    _ => Err(item.refuse(complaint("out of range"))),
                };
            }
            Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => format!("write `{number}`"),
            Value::Str(text) if text.parse::<u32>().is_ok() => "remove the quotes".to_owned(),
            _ => return Err(item.refuse(complaint("no whole number"))),
        };
        Err(item.refuse(complaint("no whole number").hint(hint)))
    }
}

/// A number from zero up.
pub(crate) fn number_from_zero(item: &Item<'_>) -> Outcome<f64> {
    let complaint = || wrong(format!("{} is no such number", item.label())).expected("a number from 0 up");
    match item.value() {
        #[expect(clippy::cast_precision_loss, reason = "above 2^53 units the last digits of a quota mean nothing")]
        Value::Int(number) if *number >= 0 => Ok(*number as f64),
        Value::Float(number) if *number >= 0.0 => Ok(*number),
        Value::Str(text) if text.parse::<f64>().is_ok_and(f64::is_finite) => Err(item.refuse(complaint().hint("remove the quotes"))),
        _ => Err(item.refuse(complaint())),
    }
}

/// How often something may happen: a whole number, or `unlimited`.
pub(crate) fn limit(item: &Item<'_>) -> Outcome<Limit> {
    match item.value() {
        Value::Str(text) if &**text == "unlimited" => Ok(Limit::Unlimited),
        Value::Str(text) if text.parse::<u32>().is_err() => {
            let complaint = wrong(format!("{} is neither a whole number nor `unlimited`", item.label()));
            Err(item.refuse(complaint.expected("a whole number, or `unlimited`").nearest(text, ["unlimited"])))
        }
        _ => whole(0..=u32::MAX)(item).map(Limit::from),
    }
}

/// A quantity with its unit. `example` is one that is right.
fn quantity<T>(item: &Item<'_>, what: &str, example: &str, parse: impl Fn(&str) -> Result<T, NotAQuantity>) -> Outcome<T> {
    let complaint = |why: &str| wrong(format!("{} is no {what}{why}", item.label())).expected(format!("a {what} such as `{example}`"));
    match item.value() {
        Value::Str(text) => parse(text).map_err(|why| {
            let tight: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            let complaint = complaint(&format!(": {why}"));
            item.refuse(if parse(&tight).is_ok() { complaint.hint(format!("write `{tight}`")) } else { complaint })
        }),
        Value::Int(number) if *number >= 0 => {
            let unit = example.trim_start_matches(|c: char| c.is_ascii_digit());
            Err(item.refuse(complaint(": the unit is missing").hint(format!("write for example `{number}{unit}`"))))
        }
        _ => Err(item.refuse(complaint(""))),
    }
}

/// A duration with its unit; zero is one.
pub(crate) fn duration(item: &Item<'_>) -> Outcome<Duration> {
    quantity(item, "duration", "30s", unit::duration)
}

/// A duration longer than zero, where zero would mean never, or at once.
pub(crate) fn some_duration(item: &Item<'_>) -> Outcome<Duration> {
    match duration(item)? {
        Duration::ZERO => Err(item.refuse(wrong(format!("{} is zero", item.label())).expected("a duration longer than zero"))),
        some => Ok(some),
    }
}

/// A size in bytes, with its unit.
pub(crate) fn size(item: &Item<'_>) -> Outcome<u64> {
    quantity(item, "size", "10MiB", unit::size)
}

/// A part of a hundred, at least one.
pub(crate) fn percent(item: &Item<'_>) -> Outcome<u8> {
    let complaint = || wrong(format!("{} is no percentage", item.label())).expected("a percentage from `1%` to `100%`");
    match item.value() {
        Value::Str(text) => {
            let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            digits
                .and_then(|digits| digits.parse().ok())
                .filter(|percent| (1..=100).contains(percent))
                .ok_or_else(|| item.refuse(complaint()))
        }
        Value::Int(number @ 1..=100) => Err(item.refuse(complaint().hint(format!("write `{number}%`")))),
        _ => Err(item.refuse(complaint())),
    }
}

/// A rate.
pub(crate) fn rate(item: &Item<'_>) -> Outcome<unit::PerPeriod> {
    quantity(item, "rate", "200/s", str::parse)
}

/// One of a few words.
pub(crate) fn word<'w, T: Copy>(item: &Item<'_>, words: &'w [(&'w str, T)]) -> Outcome<T> {
    let text = string(item)?;
    match words.iter().find(|(word, _)| *word == &**text) {
        Some((_, meaning)) => Ok(*meaning),
        None => {
            let known: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            let complaint = wrong(format!("{} does not take {}", item.label(), crate::text::show_text(text)));
            Err(item.refuse(complaint.expected(format!("one of {}", known.join(", "))).nearest(text, words.iter().map(|(word, _)| *word))))
        }
    }
}

/// A block of addresses, without host bits.
pub(crate) fn network(item: &Item<'_>) -> Outcome<IpNet> {
    let text = string(item)?;
    let complaint = || {
        let message = format!("{} is no block of addresses in CIDR form", item.label());
        wrong(message).expected("a block such as `10.0.0.0/8` or `2001:db8::/32`")
    };
    match text.parse::<IpNet>() {
        Ok(network) if network.addr() == network.network() => Ok(network),
        Ok(network) => {
            let message = format!("{} has bits set beyond its prefix", item.label());
            Err(item.refuse(wrong(message).expected("the block's first address").hint(format!("write `{}`", network.trunc()))))
        }
        Err(_) => Err(item.refuse(match text.parse::<IpAddr>() {
            Ok(address) => complaint().hint(format!("write `{}` for that address alone", IpNet::from(address))),
            Err(_) => complaint(),
        })),
    }
}

/// The text of [`header_name`].
pub(crate) fn header(item: &Item<'_>) -> Outcome<String> {
    header_name(item).map(|name| name.as_str().to_owned())
}

/// A request header's name, in lower case; never one that we set ourselves.
pub(crate) fn header_name(item: &Item<'_>) -> Outcome<http::HeaderName> {
    let text = string(item)?;
    let Ok(name) = http::HeaderName::from_str(text) else {
        let complaint = wrong(format!("{} is no header name", item.label()));
        return Err(item.refuse(complaint.expected("a field name such as `x-api-key` (RFC 9110 section 5.1)")));
    };
    if name.as_str().starts_with("x-bulkhead-") {
        return Err(
            item.refuse(wrong(format!("header `{name}` is Bulkhead's own")).hint("choose a name that does not begin with `x-bulkhead-`"))
        );
    }
    Ok(name)
}

/// A moment (RFC 3339) in whole seconds.
pub(crate) fn moment(item: &Item<'_>) -> Outcome<UnixSeconds> {
    let text = string(item)?;
    let read = is_rfc3339(text).then(|| text.parse::<jiff::Timestamp>().ok()).flatten();
    read.map(jiff::Timestamp::as_second).ok_or_else(|| {
        let complaint = wrong(format!("{} is no moment in time", item.label())).expected("RFC 3339 such as `2027-06-30T00:00:00Z`");
        let day = format!("{text}T00:00:00Z");
        item.refuse(if day.parse::<jiff::Timestamp>().is_ok() { complaint.hint(format!("write `{day}`")) } else { complaint })
    })
}

/// The shape `2027-06-30T00:00:00[.9]Z` or with `+01:00`: the crate reads more than the standard allows.
fn is_rfc3339(text: &str) -> bool {
    let Some((day, time)) = text.split_once('T') else { return false };
    let clock = time
        .strip_suffix('Z')
        .or_else(|| time.get(..time.len().saturating_sub(6)).filter(|_| time.rfind(['+', '-']) == time.len().checked_sub(6)));
    let digits_but = |text: &str, marks: &[char]| text.chars().all(|c| c.is_ascii_digit() || marks.contains(&c));
    day.len() == 10 && digits_but(day, &['-']) && clock.is_some_and(|clock| clock.len() >= 8 && digits_but(clock, &[':', '.']))
}

/// An IANA time zone, by its name.
pub(crate) fn zone(item: &Item<'_>) -> Outcome<jiff::tz::TimeZone> {
    let text = string(item)?;
    let zone = jiff::tz::TimeZone::get(text).ok().filter(|zone| zone.iana_name().is_some());
    zone.ok_or_else(|| {
        let complaint = wrong(format!("{} is no IANA time zone", item.label())).expected("a name such as `Europe/Vienna` or `UTC`");
        let known: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
        item.refuse(complaint.nearest(text, known.iter().map(String::as_str)))
    })
}

/// Says that something is meant to come, but is not there yet.
pub(crate) fn not_yet(what: &str, instead: &str) -> Complaint {
    wrong(format!("{what} is not yet supported")).hint(instead)
}
