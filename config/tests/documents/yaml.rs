//! YAML as documents are written in it: what is read, where it stands, and what is refused.

use crate::support::{picture, pictures};
use bulkhead_config::declared::read_file;
use bulkhead_config::text::{self, Budget, Fault, Text};

const SMALL: Budget = Budget { bytes: 10_000, depth: 8, nodes: 1_000 };

fn read(text: &str) -> Text {
    text::read("text.yaml", text, SMALL)
}

/// Every mistake of a text as `line:column what`.
fn mistakes(text: &str) -> Vec<String> {
    let read = read(text);
    let all = read.trees.into_iter().flat_map(|tree| tree.mistakes).chain(read.cut);
    all.map(|one| format!("{}:{} {}", one.span.line, one.span.column, one.fault)).collect()
}

#[test]
fn every_value_knows_its_place() {
    for (text, meant) in [
        ("a: 1\nb: [x, {c: ~}]\n", r#"{a@1:1 1@1:4, b@2:1 ["x"@2:5, {c@2:9 null@2:12}@2:8]@2:4}@1:1"#),
        ("a:\n  - b: 1\n    c: 2\n", r#"{a@1:1 [{b@2:5 1@2:8, c@3:5 2@3:8}@2:5]@2:3}@1:1"#),
        // Nothing stands where its key does.
        ("a:\nb: 1\n", r#"{a@1:1 null@1:1, b@2:1 1@2:4}@1:1"#),
        ("ä: ö\nü: 1\n", r#"{ä@1:1 "ö"@1:4, ü@2:1 1@2:4}@1:1"#),
        ("# comment\n\n---\n# comment\na: |\n  x\n  y\n", "{a@5:1 \"x\\ny\\n\"@6:3}@5:1"),
        ("a: 'it''s'\nb: \"\\u00e4\\t\"\n", "{a@1:1 \"it's\"@1:4, b@2:1 \"ä\\t\"@2:4}@1:1"),
        ("{\"a\": [1, 2.0, \"3\", true, null]}", r#"{a@1:2 [1@1:8, 2.0@1:11, "3"@1:16, true@1:21, null@1:27]@1:7}@1:1"#),
        ("\u{feff}a: 1\n", "{a@1:1 1@1:4}@1:1"),
        ("a: 1\r\nb: 2\r\n", "{a@1:1 1@1:4, b@2:1 2@2:4}@1:1"),
        ("x: &x [1]\ny: *x\n", "{x@1:1 [1@1:8]@1:7, y@2:1 [1@1:8]@1:7}@1:1"),
        ("'<<': 1\n", "{<<@1:1 1@1:7}@1:1"),
    ] {
        assert_eq!(pictures(&read(text)), [meant], "{text}");
    }
}

#[test]
fn documents_are_told_apart_and_empty_ones_are_none() {
    for (text, meant) in [
        ("", vec![]),
        ("\n# nothing\n", vec![]),
        ("---\n---\n# nothing\n---\n", vec![]),
        ("a: 1\n---\nb: 1\n...\n---\nc: 1\n", vec!["a: 1\n", "---\nb: 1\n...\n", "---\nc: 1\n"]),
        ("# of a\na: 1\n--- # of b\nb: 1\n", vec!["# of a\na: 1\n", "--- # of b\nb: 1\n"]),
    ] {
        let own: Vec<&str> = read(text).trees.iter().map(|tree| &text[tree.bytes.clone()]).collect();
        assert_eq!(own, meant, "{text}");
    }
}

#[test]
fn what_is_broken_in_one_document_hides_no_other() {
    for broken in ["a: [1\n", "a: \"x\n", "a: {b: 1\nc: 2\n", "a: b: c\n", "a: @x\n", "- a\nb: 1\n", "a: *\n", "%YAML 1.2\n"] {
        let text = format!("first: 1\n---\n{broken}---\nlast: 1\n");
        let read = read(&text);
        let whole: Vec<String> = read.trees.iter().filter(|tree| tree.whole).filter_map(|tree| tree.root.as_ref()).map(picture).collect();
        let last = text.lines().count();
        assert!(read.cut.is_none());
        assert_eq!(whole, ["{first@1:1 1@1:8}@1:1".to_owned(), format!("{{last@{last}:1 1@{last}:7}}@{last}:1")], "{text}");
        assert_eq!(read.trees.iter().map(|tree| tree.mistakes.len()).sum::<usize>(), 1, "{text}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for (text, meant) in [
        ("a: 1\na: 2\n", vec!["2:1 key `a` stands twice in one mapping, first on line 1"]),
        (
            "a: {b: 1, b: 2}\nc: 1\nc: 2\n",
            vec!["1:11 key `b` stands twice in one mapping, first on line 1", "3:1 key `c` stands twice in one mapping, first on line 2"],
        ),
        ("1: a\n", vec!["1:1 a key that is not a string"]),
        ("true: a\n", vec!["1:1 a key that is not a string"]),
        ("~: a\n", vec!["1:1 a key that is not a string"]),
        ("? [a]\n: 1\n", vec!["1:3 a key that is not a string"]),
        ("? {a: 1}\n: 1\n", vec!["1:3 a key that is not a string"]),
        ("a: &x b\n*x : 1\n", vec!["2:1 an alias as a key"]),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", vec!["3:3 `<<` merges are not read"]),
        ("a: !!str 1\n", vec!["1:4 tags are not read"]),
        ("a: !x {b: 1}\n", vec!["1:4 tags are not read"]),
        ("--- !x\na: 1\n", vec!["1:5 tags are not read"]),
        ("a: *x\n", vec!["1:4 alias `*x` has no anchor `&x` before it in this document"]),
        ("a: &x 1\n---\na: *x\n", vec!["3:4 alias `*x` has no anchor `&x` before it in this document"]),
        ("a: &x [*x]\n", vec!["1:8 an alias that refers to the value it stands in"]),
        ("a: .inf\n", vec!["1:4 a number that is not finite"]),
        ("a: 1e999\n", vec!["1:4 a number that is not finite"]),
        ("%TAG ! tag:x,2000:\n---\na: 1\n", vec!["1:1 directives are not read"]),
        ("a:\n\tb: 1\n", vec!["2:2 this is not YAML: a tab in the indentation"]),
        ("a: [1, 2\n", vec!["1:4 this is not YAML: a list or mapping in brackets goes on where it should not"]),
        ("a: 'x\n", vec!["1:4 this is not YAML: a quote that is never closed"]),
        ("a: 1\n  b: 2\n", vec!["2:4 this is not YAML: a second `: ` in one value"]),
        ("a: 1\n b: 2\n", vec!["2:3 this is not YAML: a second `: ` in one value"]),
        ("a:\n    b: 1\n  c: 2\n", vec!["3:3 this is not YAML: a line that fits no level above it"]),
        ("a: \"\\q\"\n", vec!["1:4 this is not YAML: an escape that does not exist"]),
        ("a: %b\n", vec!["1:4 this is not YAML: `%` cannot begin a value"]),
        ("a: \u{0}\n", vec!["1:4 this is not YAML: `\\0` cannot begin a value"]),
    ] {
        assert_eq!(mistakes(text), meant, "{text}");
    }
}

#[test]
fn a_text_costs_no_more_than_its_budget() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(mistakes(&deep(8)), Vec::<String>::new());
    assert_eq!(mistakes(&deep(9)).len(), 1);
    assert_eq!(mistakes(&format!("{}\n", "- ".repeat(9))).len(), 1);
    assert_eq!(mistakes(&deep(400)), ["1:10 it is nested more than 8 levels deep"]);
    assert_eq!(mistakes(&"x".repeat(10_001)), ["1:1 the text has 10001 bytes, more than the 10000 allowed"]);
    assert_eq!(mistakes(&format!("[{}]", "1,".repeat(1_001))), ["1:2000 the text holds more than 1000 values, aliases expanded"]);
    // An alias is as deep as what it repeats.
    assert_eq!(mistakes(&format!("- &a {}\n- [[*a]]\n", deep(6))), ["2:5 it is nested more than 8 levels deep"]);
}

#[test]
fn laughter_ends_before_the_memory() {
    let mut laughs = String::from("a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for (name, before) in ('b'..='i').zip('a'..) {
        laughs.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(", ")));
    }
    let read = text::read("laughs.yaml", &laughs, Budget::FILE);
    assert!(matches!(read.cut.map(|cut| cut.fault), Some(Fault::Nodes(_))));
    // Nested anchors cost the square of the text, so the copies count.
    let nested = format!("{}1{}", (0..60).map(|at| format!("&a{at} [")).collect::<String>(), "]".repeat(60));
    assert!(text::read("nested.yaml", &nested, Budget { nodes: 200, ..Budget::FILE }).cut.is_some());
}

#[test]
fn what_is_pasted_is_not_repeated() {
    // A long key is in every pointer below it, and a long value in what is said of it.
    let long = "x".repeat(2_000);
    assert_eq!(mistakes(&format!("? {long}\n: 1\n")), ["1:3 a key of more than 1024 bytes"]);
    let json = text::read("long.json", &format!("{{\"{long}\": 1}}"), SMALL);
    assert_eq!(json.cut.map(|cut| cut.fault), Some(Fault::LongKey(1_024)));
    let pasted = "y".repeat(100_000);
    let text = format!(
        "kind: {pasted}\nname: r\n---\nkind: Role\nname: r\nallow: ['GET /{pasted} ', {pasted}, 'G {pasted}']\n{long}: 1\na: *{pasted}\n\
         b: !{pasted} 1\n"
    );
    let told = read_file("long.yaml", &text).diagnostics.to_string();
    assert!(told.len() < 6_000, "{told}");
}

#[test]
fn nobody_is_told_more_mistakes_than_anybody_reads() {
    let unknown: String = (0..1_000).map(|at| format!("k{at}: 1\n")).collect();
    let broken = vec!["a: [\n"; 1_000].join("---\n");
    let methods: Vec<String> = (0..1_000).map(|at| format!("M{at}X")).collect();
    assert!(
        read_file("m.yaml", &format!("kind: Role\nname: r\nallow: ['{} /a']\n", methods.join(",")))
            .diagnostics
            .to_string()
            .contains("more than 64 methods")
    );
    let rules = format!("kind: Role\nname: r\nallow: [{}]\n", vec!["x"; 1_000].join(", "));
    for text in [format!("kind: Role\nname: r\n{unknown}"), broken, rules, vec!["name: x\n"; 1_000].join("---\n")] {
        let file = read_file("many.yaml", &text);
        assert!((200..=201).contains(&file.diagnostics.len()), "{}", file.diagnostics.len());
        assert!(file.documents.is_empty() && (file.truncated || !file.broken.is_empty()));
    }
}

#[test]
fn a_mapping_of_many_keys_knows_them_all() {
    let keys: String = (0..40).map(|at| format!("k{at}: 1\n")).collect();
    for at in [0, 15, 16, 17, 39] {
        let told = mistakes(&format!("{keys}k{at}: 2\n"));
        assert_eq!(told, [format!("41:1 key `k{at}` stands twice in one mapping, first on line {}", at + 1)]);
    }
}

#[test]
fn bytes_that_are_no_text_are_named_by_their_place() {
    for (bytes, meant) in [
        (&b"a: 1\nb: \xff\n"[..], "line 2, column 4: a byte that is not UTF-8"),
        (b"\xc3\xa4\xc3", "line 1, column 2: a byte that is not UTF-8"),
        (b"\xff\xfea\0", "line 1, column 1: the text is UTF-16"),
    ] {
        assert_eq!(text::utf8(bytes).unwrap_err().to_string(), meant);
    }
    assert_eq!(text::utf8("ä".as_bytes()), Ok("ä"));
}
