//! JSON (RFC 8259), for documents and for what tokens carry.

use crate::support::{picture, pictures, to_json};
use bulkhead_config::text::{self, Budget, Fault, json};
use proptest::prelude::*;

#[test]
fn every_value_knows_its_place() {
    let text = "{\n  \"a\": [1, -2.5, 1e2, \"\\u00e4\\ud83d\\ude00\\n\\/\"],\n\t\"ä\": {\"b\": null}, \"c\": true\n}\n";
    let meant = r#"{a@2:3 [1@2:9, -2.5@2:12, 100.0@2:18, "ä😀\n/"@2:23]@2:8, ä@3:2 {b@3:8 null@3:13}@3:7, c@3:20 true@3:25}@1:1"#;
    assert_eq!(json::read(text.as_bytes(), Budget::FILE).map(|node| picture(&node)), Ok(meant.to_owned()));
}

#[test]
fn what_is_not_json_is_refused() {
    for (text, meant) in [
        ("", "1:1 a value, the end"),
        ("{\"a\": 1,}", "1:9 a key in double quotes, `}`"),
        ("[1,]", "1:4 a value, `]`"),
        ("[1 2]", "1:4 `,` or `]`, `2`"),
        ("{\"a\" 1}", "1:6 `:`, `1`"),
        ("{a: 1}", "1:2 a key in double quotes, `a`"),
        ("{'a': 1}", "1:2 a key in double quotes, `'`"),
        ("[1] // x", "1:5 the end, `/`"),
        ("/* x */ 1", "1:1 a value, `/`"),
        ("01", "1:1 a number, a leading zero"),
        ("-01", "1:1 a number, a leading zero"),
        ("+1", "1:1 a value, `+`"),
        (".5", "1:1 a value, `.`"),
        ("1.", "1:3 a digit, the end"),
        ("1e", "1:3 a digit, the end"),
        ("-", "1:2 a digit, the end"),
        ("NaN", "1:1 a value, `N`"),
        ("nul", "1:1 a value, `nul`"),
        ("True", "1:1 a value, `T`"),
        ("\"a", "1:3 a character or `\"`, the end"),
        ("\"a\nb\"", "1:3 a character or `\"`, `\\n`"),
        ("\"\\x\"", "1:3 one of `\"`, `\\`, `/`, `b`, `f`, `n`, `r`, `t`, `u` after the backslash, `x`"),
        ("\"\\u12\"", "1:4 four hexadecimal digits, `1`"),
        ("\"\\u+123\"", "1:4 four hexadecimal digits, `+`"),
        ("\"\\ud800\"", "1:8 a pair of surrogates, the high one first, `\"`"),
        ("\"\\ud800\\u0041\"", "1:14 a pair of surrogates, the high one first, `\"`"),
        ("\"\\udc00\"", "1:8 a pair of surrogates, the high one first, `\"`"),
        ("\u{feff}1", "1:1 a value, `\\u{feff}`"),
        ("1\u{c}", "1:2 the end, `\\u{c}`"),
    ] {
        let mistake = json::read(text.as_bytes(), Budget::FILE).unwrap_err();
        let Fault::Json { expected, found, .. } = mistake.fault else { panic!("{text}: {mistake}") };
        assert_eq!(format!("{}:{} {expected}, {found}", mistake.span.line, mistake.span.column), meant, "{text}");
    }
}

#[test]
fn what_would_be_read_in_two_ways_or_cost_too_much_is_refused() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (text, meant) in [
        ("{\"a\": 1, \"\\u0061\": 2}".to_owned(), "line 1, column 10: key `a` stands twice in one mapping, first on line 1"),
        ("1e999".to_owned(), "line 1, column 1: a number that is not finite"),
        (deep(17), "line 1, column 17: it is nested more than 16 levels deep"),
        (format!("[{}1]", "1,".repeat(300)), "line 1, column 600: the text holds more than 300 values, aliases expanded"),
        (" ".repeat(20_000), "line 1, column 1: the text has 20000 bytes, more than the 16384 allowed"),
    ] {
        assert_eq!(json::read(text.as_bytes(), Budget::TOKEN).unwrap_err().to_string(), meant);
    }
    assert!(json::read(deep(16).as_bytes(), Budget::TOKEN).is_ok());
    assert_eq!(json::read(b"\"\xff\"", Budget::TOKEN).unwrap_err().fault, Fault::Utf8);
}

#[test]
fn a_file_holds_one_document_or_a_list_of_them() {
    let text = "[\n  {\"a\": 1},\n  {\"a\": 2, \"a\": 3}\n]\n";
    let read = text::read("list.JSON", text, Budget::FILE);
    assert_eq!(pictures(&read), ["{a@2:4 1@2:9}@2:3", "{a@3:4 2@3:9}@3:3"]);
    let own: Vec<&str> = read.trees.iter().map(|tree| &text[tree.bytes.clone()]).collect();
    assert_eq!(own, ["{\"a\": 1}", "{\"a\": 2, \"a\": 3}"]);
    assert_eq!(read.trees.iter().map(|tree| tree.mistakes.len()).collect::<Vec<_>>(), [0, 1]);
    // After a syntax error nothing says where the next document begins.
    let read = text::read("list.json", "[{\"a\": 1}, {\"a\" 2}, {\"a\": 3}]", Budget::FILE);
    assert_eq!((read.trees.len(), read.cut.map(|cut| cut.span.column)), (1, Some(17)));
}

/// `-0` is a float to serde and the integer 0 to us; what fits `u64` alone an integer to serde and a float to us.
fn alike(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Number(number) if number.as_f64() == Some(0.0) => 0.into(),
        serde_json::Value::Number(number) if number.as_i64().is_none() => number.as_f64().into(),
        serde_json::Value::Array(items) => items.into_iter().map(alike).collect(),
        serde_json::Value::Object(map) => map.into_iter().map(|(key, value)| (key, alike(value))).collect(),
        value => value,
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let scalar = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        "[ -~äß😀\\n\\t]{0,12}".prop_map(Into::into),
    ];
    scalar.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map("[ -~ä]{0,6}", inner, 0..6).prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Bytes that mean something in JSON.
const TELLING: &[u8] = b"{}[],:\"\\0123456789.-+eEntfu /\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_serde_writes_is_read_as_it_was(value in any_json(), is_pretty in any::<bool>()) {
        let text = if is_pretty { format!("{value:#}") } else { value.to_string() };
        let read = json::read(text.as_bytes(), Budget::FILE);
        prop_assert_eq!(read.map(|node| to_json(&node.value)), Ok(value));
    }

    /// serde is the oracle; only what it lets pass and we do not is told by name.
    #[test]
    fn a_changed_text_is_json_to_us_if_it_is_json(
        value in any_json(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(TELLING.to_vec())), 1..4),
    ) {
        let mut bytes = value.to_string().into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let (ours, theirs) = (json::read(&bytes, Budget::FILE), serde_json::from_slice::<serde_json::Value>(&bytes));
        match (ours, theirs) {
            (Ok(node), Ok(theirs)) => prop_assert_eq!(alike(to_json(&node.value)), alike(theirs)),
            (Err(mistake), Ok(_)) => prop_assert!(matches!(mistake.fault, Fault::Duplicate { .. }), "{}", mistake),
            (Ok(_), Err(why)) => prop_assert!(false, "read what is no JSON: {}", why),
            (Err(_), Err(_)) => {}
        }
    }
}
