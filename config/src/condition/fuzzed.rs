//! What must hold of any text that stands where a condition should, for the fuzzer (`tests/fuzz/`) and the tests below.
//!
//! It is compiled, or refused at places in it. What is compiled costs no more than is published, and is true, false or unclear of
//! whatever is asked, within the steps that it was reckoned to cost; explaining it takes whatever was found.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "all of it is tests: to fail is how it tells")]

use super::cel::{COST_MAX, taken_by};
use super::{Asked, Condition, Fault, Inquiry, Kept, NOTHING, Pattern};
use crate::compile::Catalogue;
use crate::decide::Facts;
use crate::declared::read_file;
use crate::protocol::{Offer, Put};
use crate::snapshot::{FEATURES_MAX, Slice, Snapshot};
use crate::text::{self, Budget, Key, Node, Value};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Monday, 2026-11-23T12:00:00Z.
const NOON: i64 = 1_795_435_200;

/// Whether the bytes up to the first NUL are a condition. What follows it are claims as a token has them.
///
/// # Panics
/// Something of the above does not hold.
pub fn check(data: &[u8]) -> bool {
    let (written, claims) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(data.len()));
    let Ok(written) = std::str::from_utf8(written) else { return false };
    let condition = match Condition::compile(written) {
        Ok(condition) => condition,
        Err((first, more)) => {
            more.iter().chain([&first]).for_each(|fault| stands_in(fault, written));
            return false;
        }
    };
    assert!(condition.cost() <= COST_MAX, "it costs {}", condition.cost());
    let compiled = condition.patterns().iter().map(|pattern| Pattern::compile(pattern).map(Arc::new));
    let Ok(patterns) = compiled.collect::<Result<Vec<_>, _>>() else { return false };
    let claims = text::json::read(claims.get(1..).unwrap_or_default(), Budget::TOKEN).map(|node| node.value);
    WORLD.with(|world| {
        world.holds(&condition, &patterns, &world.claims, &world.asked.asked(b"t.test"));
        world.holds(&condition, &patterns, &claims.unwrap_or(Value::Null), &NOTHING);
    });
    true
}

fn stands_in(fault: &Fault, written: &str) {
    assert!(written.is_char_boundary(fault.at) && !fault.message.is_empty() && !fault.hint.is_empty(), "{fault:?}");
}

/// Whom conditions are asked about: as much of everything as there can be.
struct World {
    snapshot: Arc<Snapshot>,
    claims: Value,
    asked: Kept,
}

thread_local! {
    static WORLD: World = World::new();
}

impl World {
    fn new() -> Self {
        let features: String = (1..FEATURES_MAX).fold("a".to_owned(), |all, n| all + &format!(", f{n}"));
        let tenant = format!("kind: Tenant\ntenant_id: t\nname: T\nemail: t@t.test\nhosts: [t.test]\nfeatures: [{features}]\n");
        let put = read_file("tenant.yaml", &tenant).documents.into_iter().map(|document| Put { document, text: "".into() });
        let snapshot = Catalogue::new().apply(&Offer { put: put.collect(), ..Offer::default() }).snapshot;
        let query = "q=a%20b&".to_owned() + &"x=1&".repeat(super::QUERY_BYTES_MAX / 4 - 2);
        let mut asked = Kept::described(Some(&query));
        for (name, value) in [("x-env", "prod"), ("x-long", &"a".repeat(super::VALUE_BYTES_MAX)), ("x-two", "1"), ("x-two", "1")] {
            asked.describe(name, value);
        }
        Self { snapshot, claims: claims(), asked }
    }

    fn slice(&self) -> &Slice {
        self.snapshot.tenant("t").expect("the tenant is served")
    }

    /// It is true, false or unclear, each time the same, and in as many steps as it costs.
    fn holds(&self, condition: &Condition, patterns: &[Arc<Pattern>], claims: &Value, asked: &Asked<'_>) {
        let facts = Facts {
            route: None,
            method: &http::Method::GET,
            path: "/v1/items",
            source: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
            principal: None,
            now: NOON,
            asked: *asked,
        };
        let claims: &[(Key, Node)] = if let Value::Map(entries) = claims { entries } else { &[] };
        let inquiry = Inquiry { slice: self.slice(), facts: &facts, claims, patterns };
        let (outcome, taken) = taken_by(|| condition.holds(&inquiry));
        assert!(taken <= condition.cost() as usize, "{taken} steps, and it costs {}", condition.cost());
        assert_eq!(outcome, condition.holds(&inquiry));
        if let Err(failure) = &outcome {
            assert!(!condition.told(failure).is_empty());
        }
        assert!(condition.values(&inquiry).iter().all(|value| !value.is_empty()));
    }
}

/// A token as full as it may be: some of every type, and a list of all the values that are left.
fn claims() -> Value {
    let some =
        r#""level":7,"half":2.5,"none":null,"mfa":true,"name":"ä","realm":{"a":[1,[2]],"b":{"c":"d"}},"until":"2027-06-30T08:15:30Z""#;
    let long = "a".repeat(8 << 10);
    let mut json = format!("{{{some},\"long\":\"{long}\",\"digits\":\"{}\",\"other\":{{\"x\":1,\"y\":2}},\"groups\":[0", "1".repeat(300));
    let full = |json: &str| text::json::read(format!("{json}]}}").as_bytes(), Budget::TOKEN).ok();
    let mut claims = full(&json).expect("a token may hold that much");
    for n in 1.. {
        write!(json, ",\"g{n}\"").unwrap();
        match full(&json) {
            Some(more) => claims = more,
            None => break,
        }
    }
    claims.value
}

#[cfg(test)]
mod tests;
