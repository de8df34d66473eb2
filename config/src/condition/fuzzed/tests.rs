//! Conditions that somebody may write: seeds and changed copies of them, words in any order, and expressions that mostly fit.

use super::*;
use crate::explain::{Explanation, Question, Verdict, explain};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::path::Path;

/// Words that conditions are made of, some of them with a trap in it.
const WORDS: &str = "request claims tenant source now x . headers query method features address level groups realm [ ] ( ) , ? : == != \
    < >= && || ! - + * / % in has size matches all exists exists_one filter map int uint double string timestamp duration in_cidr \
    startsWith contains getHours true false null 0 1 -9223372036854775808 9223372036854775807 18446744073709551615u 1.5 1e308 '' 'a' \
    '\\u00e4' \"x-env\" '2027-06-30T08:15:30Z' '1h' '10.0.0.0/8' '(a+)+$' 'Europe/Vienna' // { } = ' \\ ä \n \
    claims.groups tenant.features";

fn words() -> impl Strategy<Value = String> {
    let word = select(WORDS.split(' ').collect::<Vec<_>>());
    (vec(word, 0..40), select(&["", " "][..])).prop_map(|(words, between)| words.join(between))
}

/// Where the item of the macro around stands, until that has a name for it.
const ITEM: &str = "@";

/// Expressions by what they are.
struct Expressions {
    truth: BoxedStrategy<String>,
    number: BoxedStrategy<String>,
    text: BoxedStrategy<String>,
    list: BoxedStrategy<String>,
    map: BoxedStrategy<String>,
}

impl Expressions {
    fn leaves() -> Self {
        let of = |words: &'static str| select(words.split(' ').collect::<Vec<_>>()).prop_map(str::to_owned).boxed();
        Self {
            truth: of("true false claims.mfa has(claims.none) has(request.query.q) now<timestamp('9999-12-30T00:00:00Z') @"),
            number: of("0 -1 3 9223372036854775807 -9223372036854775808 claims.level claims.half request.size @"),
            text: of("'' 'a' 'ä' '2027-06-30T08:15:30Z' '1h' claims.name claims.until claims.long claims.digits claims.none request.path \
                request.method request.query.q request.query.x request.headers['x-env'] request.headers['x-two'] tenant.id @ @"),
            list: of("tenant.features claims.groups claims.realm.a [1,2] ['a','g7'] [[1],[2,3]] [] claims @"),
            map: of("claims claims.realm claims.other {'a':1,'b':2} {'a':[1],'b':[]} {} @"),
        }
    }

    fn grown(&self) -> Self {
        let Self { truth, number, text, list, map } = self;
        let any = || prop_oneof![truth.clone(), number.clone(), text.clone(), list.clone(), map.clone()];
        let two = |of: &BoxedStrategy<String>, signs: &'static str| {
            let sign = select(signs.split(' ').collect::<Vec<_>>());
            (of.clone(), sign, of.clone()).prop_map(|(a, sign, b)| format!("({a} {sign} {b})"))
        };
        let call = |of: &BoxedStrategy<String>, names: &'static str| {
            let name = select(names.split(' ').collect::<Vec<_>>());
            (name, of.clone()).prop_map(|(name, of)| format!("{name}({of})"))
        };
        let method = |of: &BoxedStrategy<String>, calls: &'static str| {
            let call = select(calls.split(' ').collect::<Vec<_>>());
            (of.clone(), call).prop_map(|(of, call)| format!("{of}.{call}"))
        };
        let each = select(&["all", "exists", "exists_one"][..]);
        Self {
            truth: prop_oneof![
                2 => truth.clone(),
                2 => two(truth, "&& || == !="),
                1 => truth.clone().prop_map(|a| format!("!{a}")),
                2 => two(number, "== != < <= > >="),
                2 => two(text, "== != < >="),
                1 => two(list, "== !="),
                1 => two(map, "== !="),
                1 => (any(), any()).prop_map(|(a, b)| format!("({a} == {b})")),
                2 => (any(), list.clone()).prop_map(|(a, b)| format!("({a} in {b})")),
                1 => (text.clone(), map.clone()).prop_map(|(a, b)| format!("({a} in {b})")),
                1 => method(text, "startsWith('a') contains('aa') matches('(a|b)+$') endsWith('\u{e4}')"),
                1 => (text.clone(), text.clone()).prop_map(|(a, b)| format!("{a}.contains({b})")),
                4 => (list.clone(), each, truth.clone()).prop_map(|(over, each, asked)| over_items(&over, each, &[&asked])),
            ]
            .boxed(),
            number: prop_oneof![
                2 => number.clone(),
                2 => two(number, "+ - * / %"),
                1 => call(number, "int double - uint"),
                1 => call(text, "size int double"),
                1 => call(list, "size"),
                1 => call(map, "size"),
                1 => method(text, "size() getHours()"),
                1 => (list.clone(), number.clone()).prop_map(|(list, at)| format!("{list}[{at}]")),
                1 => (map.clone(), text.clone()).prop_map(|(map, name)| format!("{map}[{name}]")),
            ]
            .boxed(),
            text: prop_oneof![
                3 => text.clone(),
                2 => two(text, "+"),
                1 => call(number, "string"),
                1 => (truth.clone(), text.clone(), text.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
                1 => (list.clone(), number.clone()).prop_map(|(list, at)| format!("{list}[{at}]")),
            ]
            .boxed(),
            list: prop_oneof![
                3 => list.clone(),
                2 => (list.clone(), truth.clone()).prop_map(|(over, asked)| over_items(&over, "filter", &[&asked])),
                2 => (list.clone(), any()).prop_map(|(over, made)| over_items(&over, "map", &[&made])),
                1 => (list.clone(), truth.clone(), any()).prop_map(|(over, asked, made)| over_items(&over, "map", &[&asked, &made])),
                1 => vec(written(), 0..5).prop_map(|items| format!("[{}]", items.join(","))),
                1 => map.clone(),
            ]
            .boxed(),
            map: prop_oneof![
                3 => map.clone(),
                1 => vec(written(), 0..5).prop_map(|items| {
                    let entries = items.iter().enumerate().map(|(at, item)| format!("'k{at}':{item}"));
                    format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
                }),
            ]
            .boxed(),
        }
    }
}

/// A value that may stand in a written list, and mostly of one type.
fn written() -> impl Strategy<Value = String> {
    let number = select(&["1", "2", "7"][..]).prop_map(str::to_owned);
    let other = select(&["'a'", "1.5", "[1,2]", "{'a':1}", "true", "null"][..]).prop_map(str::to_owned);
    prop_oneof![6 => number, 1 => other]
}

/// A macro, with a name for the item that what is asked of it goes by.
fn over_items(over: &str, name: &str, asked: &[&str]) -> String {
    // Deeper macros have longer names.
    let longest = asked.iter().map(|asked| asked.matches("item").count()).max().unwrap_or_default();
    let item = format!("item{longest}");
    let asked = asked.iter().map(|asked| asked.replace(ITEM, &item)).collect::<Vec<_>>();
    format!("{over}.{name}({item}, {})", asked.join(", "))
}

fn expression() -> impl Strategy<Value = String> {
    let grown = Expressions::leaves().grown().grown().grown();
    grown.truth.prop_map(|text| text.replace(ITEM, "claims.name"))
}

/// What becomes of a request where this condition decides.
fn asked(condition: &str) -> Explanation {
    let quoted = serde_json::Value::from(condition).to_string();
    let role = format!(
        "kind: Role\nname: conditional\nallow: [{{ methods: ['*'], paths: ['/**'], when: {{ condition: {quoted} }} }}]\n---\n\
         kind: Tenant\ntenant_id: t\nname: T\nemail: t@t.test\nhosts: [t.test]\n---\n{}",
        include_str!("../../../samples/platform.yaml")
    );
    let put = read_file("all.yaml", &role).documents.into_iter().map(|document| Put { document, text: "".into() });
    let snapshot = Catalogue::new().apply(&Offer { put: put.collect(), ..Offer::default() }).snapshot;
    let json = r#"{"path":"/v1/items?q=a%20b","tenant":"t","roles":["conditional"],"source":"10.1.2.3","headers":{"x-env":"prod"},
        "claims":{"tenant":"t","level":7,"groups":["a","b",3],"realm":{"a":[1],"size":2.5},"name":"ä"}}"#;
    explain(&snapshot, &Question::from_json(json.as_bytes(), NOON).unwrap())
}

fn faults(condition: &str) -> Vec<Fault> {
    Condition::compile(condition).map_or_else(|(first, more)| std::iter::once(first).chain(more).collect(), |_| Vec::new())
}

fn compiles() -> impl Strategy<Value = String> {
    expression().prop_filter("compiles", |text| faults(text).is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn what_must_hold_of_a_condition_holds_of_words_in_any_order(text in words()) {
        check(text.as_bytes());
    }

    #[test]
    fn what_must_hold_of_a_condition_holds_of_any_characters(text in ".{0,200}") {
        check(text.as_bytes());
    }

    #[test]
    fn what_must_hold_of_a_condition_holds_of_expressions_that_mostly_fit(text in expression()) {
        check(text.as_bytes());
    }

    #[test]
    fn what_is_compiled_takes_no_more_steps_than_it_costs(text in compiles()) {
        prop_assert!(check(text.as_bytes()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn whatever_is_compiled_holds_or_does_not_or_is_unclear(text in compiles()) {
        let told = asked(&text);
        let near = told.nearest.join("; ");
        let is_refused = ["false", "unclear"].iter().any(|how| near.contains(&format!("its condition is {how}")));
        prop_assert!(is_refused || told.verdict == Verdict::Allowed, "{text}: {told}");
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

#[test]
fn a_token_is_full() {
    let claims = claims();
    let is_full = |value: &Value| matches!(value, Value::List(items) if items.len() > 250);
    assert!(matches!(&claims, Value::Map(entries) if entries.iter().any(|(name, node)| &*name.text == "groups" && is_full(&node.value))));
}

/// The seeds of the fuzzer, by their names.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds/conditions");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

#[test]
fn a_seed_is_what_its_name_says_and_what_must_hold_of_it_holds() {
    let seeds = seeds();
    for kind in ["good", "bad"] {
        assert!(seeds.iter().any(|(name, _)| name.starts_with(kind)), "there is no seed that is {kind}");
    }
    for (name, seed) in seeds {
        assert_eq!(check(&seed), name.starts_with("good"), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn what_must_hold_of_a_seed_holds_of_its_changed_copies(
        seed in any::<Index>(),
        changes in vec((any::<Index>(), select(WORDS.split(' ').collect::<Vec<_>>()), 0..6_usize), 1..4),
    ) {
        let seeds = seeds();
        let mut bytes = seed.get(&seeds).1.clone();
        for (at, word, lost) in changes {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..bytes.len().min(at + lost), word.bytes());
        }
        check(&bytes);
    }
}
