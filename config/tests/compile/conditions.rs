//! What holds for every condition that somebody may write: it is compiled or refused with a place in it, and whatever a request
//! brings, it holds, does not, or is unclear. Nothing panics, and nothing is dearer than what is published.

use super::support::{NOON, PLATFORM, all};
use bulkhead_config::compile::Catalogue;
use bulkhead_config::condition::Condition;
use bulkhead_config::explain::{Explanation, Question, Verdict, explain};
use proptest::prelude::*;
use proptest::sample::select;

/// Words that conditions are made of, some of them with a trap in it.
const WORDS: &[&str] = &[
    "request",
    "claims",
    "tenant",
    "source",
    "now",
    "x",
    ".",
    "headers",
    "query",
    "method",
    "features",
    "address",
    "level",
    "groups",
    "realm",
    "[",
    "]",
    "(",
    ")",
    ",",
    "?",
    ":",
    "==",
    "!=",
    "<",
    ">=",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "in",
    "has",
    "size",
    "matches",
    "all",
    "exists",
    "exists_one",
    "int",
    "uint",
    "double",
    "string",
    "timestamp",
    "duration",
    "in_cidr",
    "startsWith",
    "contains",
    "getHours",
    "true",
    "false",
    "null",
    "0",
    "1",
    "-9223372036854775808",
    "9223372036854775807",
    "18446744073709551615u",
    "1.5",
    "1e308",
    "''",
    "'a'",
    "'\\u00e4'",
    "\"x-env\"",
    "'2027-06-30T08:15:30Z'",
    "'1h'",
    "'10.0.0.0/8'",
    "'(a+)+$'",
    "'Europe/Vienna'",
    "//",
    "{",
    "}",
    "=",
    "'",
    "\\",
    "ä",
    "\n",
];

/// Expressions that are mostly well formed.
fn expression() -> impl Strategy<Value = String> {
    let leaf = select(
        &[
            "claims.level",
            "claims.groups",
            "claims.realm",
            "claims.name",
            "claims.none",
            "claims",
            "request.method",
            "request.size",
            "request.headers['x-env']",
            "request.query.q",
            "tenant.features",
            "tenant.id",
            "source.address",
            "now",
            "true",
            "false",
            "null",
            "0",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
            "3u",
            "0.0",
            "1.5e300",
            "'a'",
            "''",
            "'ä'",
            "[1, 2]",
            "['a']",
            "[]",
            "duration('1h')",
            "timestamp('9999-12-30T00:00:00Z')",
        ][..],
    )
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 3, |inner| {
        let operator = select(&["==", "!=", "<", "<=", ">", ">=", "&&", "||", "+", "-", "*", "/", "%", "in"][..]);
        let function = select(&["size", "int", "uint", "double", "string", "timestamp", "duration"][..]);
        let method = select(&["startsWith", "endsWith", "contains"][..]);
        let part =
            select(&["getHours()", "getFullYear('Europe/Vienna')", "matches('(a|b)+$')", "size()", "realm", "getMilliseconds()"][..]);
        let each = select(&["all", "exists", "exists_one"][..]);
        prop_oneof![
            4 => (inner.clone(), operator, inner.clone()).prop_map(|(a, o, b)| format!("({a} {o} {b})")),
            1 => inner.clone().prop_map(|a| format!("!{a}")),
            1 => inner.clone().prop_map(|a| format!("-({a})")),
            2 => (function, inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            2 => (inner.clone(), method, inner.clone()).prop_map(|(a, m, b)| format!("{a}.{m}({b})")),
            1 => (inner.clone(), part).prop_map(|(a, p)| format!("{a}.{p}")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[{b}]")),
            1 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            2 => (inner.clone(), each, inner).prop_map(|(a, e, b)| format!("{a}.{e}(item, {b} == item)")),
        ]
    })
}

/// What becomes of a request where this condition decides.
fn asked(condition: &str) -> Explanation {
    let quoted = serde_json::Value::from(condition).to_string();
    let role = format!(
        "kind: Role\nname: conditional\nallow: [{{ methods: ['*'], paths: ['/**'], when: {{ condition: {quoted} }} }}]\n---\n\
         kind: Tenant\ntenant_id: t\nname: T\nemail: t@t.test\nhosts: [t.test]\n"
    );
    let snapshot = Catalogue::new().apply(&all(&[("platform.yaml", PLATFORM), ("role.yaml", &role)])).snapshot;
    let json = r#"{"path":"/v1/items?q=a%20b","tenant":"t","roles":["conditional"],"source":"10.1.2.3","headers":{"x-env":"prod"},
        "claims":{"tenant":"t","level":7,"groups":["a","b",3],"realm":{"a":[1],"size":2.5},"name":"ä"}}"#;
    explain(&snapshot, &Question::from_json(json.as_bytes(), NOON).unwrap())
}

fn faults(condition: &str) -> Vec<bulkhead_config::condition::Fault> {
    Condition::compile(condition).map_or_else(|(first, more)| std::iter::once(first).chain(more).collect(), |_| Vec::new())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_is_compiled_or_refused_at_a_place_in_it(words in proptest::collection::vec(select(WORDS), 0..40), joined in select(&["", " "][..])) {
        let text = words.join(joined);
        for fault in faults(&text) {
            prop_assert!(text.is_char_boundary(fault.at) && !fault.message.is_empty() && !fault.hint.is_empty(), "{text}: {fault:?}");
        }
    }

    #[test]
    fn any_characters_are_compiled_or_refused(text in ".{0,200}") {
        prop_assert!(faults(&text).iter().all(|fault| text.is_char_boundary(fault.at)));
    }

    #[test]
    fn whatever_is_compiled_costs_no_more_than_is_published(text in expression()) {
        if let Ok(condition) = Condition::compile(&text) {
            prop_assert!(condition.cost() <= 10_000, "{text}: {}", condition.cost());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_compiled_holds_or_does_not_or_is_unclear(text in expression().prop_filter("compiles", |text| faults(text).is_empty())) {
        let told = asked(&text);
        let near = told.nearest.join("; ");
        let is_told = told.verdict == Verdict::Allowed || near.contains("its condition is false") || near.contains("its condition is unclear");
        prop_assert!(is_told, "{text}: {told}");
    }
}

#[test]
fn what_is_allowed_tells_the_values_its_condition_read() {
    let told = asked("claims.level > 6 && request.headers['x-env'] == \"prod\" && claims.groups.exists(g, g == \"a\")");
    assert_eq!(told.verdict, Verdict::Allowed);
    assert_eq!(told.values, ["`claims.level` is 7", "`request.headers['x-env']` is `prod`", "`claims.groups` is [`a`, `b`, 3]"]);
}

#[test]
fn a_deep_expression_is_refused_and_not_followed() {
    for deep in ["(".repeat(2_000), "!".repeat(2_000), "-".repeat(2_000), "[".repeat(2_000), "a?".repeat(1_000), "a.".repeat(1_000)] {
        assert!(!faults(&deep).is_empty());
    }
    let long = vec!["true"; 300].join("&&");
    assert!(faults(&long).iter().any(|fault| fault.message.contains("256 parts")), "{:?}", faults(&long));
}
