//! Texts that nobody meant: whatever happens to a sample, reading it ends, and says so or gives documents.

use crate::support::samples;
use bulkhead_config::declared::read_file;
use bulkhead_config::settings::{self, Environment, Sources};
use bulkhead_config::text::{self, Budget};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a careless hand, a bad merge or an attacker does to a text.
#[derive(Debug, Clone)]
enum Change {
    Cut(usize, usize),
    Insert(usize, String),
    Repeat(usize, usize),
    Swap(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let scraps = prop::sample::select(vec![
        "\t",
        "\n",
        "\n---\n",
        "...",
        "{",
        "}",
        "[",
        "]",
        ": ",
        "- ",
        "&a ",
        "*a",
        "!!str ",
        "<<: *a",
        "\"",
        "'",
        "|",
        ">",
        "%YAML 1.1\n",
        "# ",
        "\u{feff}",
        "\0",
        "ü",
        "\u{2028}",
        "null",
        ".inf",
        "1e999",
        "99999999999999999999",
        "kind: Role",
        "tenant: acme",
        "? ",
        ",",
        "\r",
        "\\u",
    ]);
    let at = 0..10_000_usize;
    prop_oneof![
        (at.clone(), 1..40_usize).prop_map(|(at, length)| Change::Cut(at, length)),
        (at.clone(), scraps).prop_map(|(at, scrap)| Change::Insert(at, scrap.to_owned())),
        (at.clone(), any::<char>()).prop_map(|(at, c)| Change::Insert(at, c.to_string())),
        (at.clone(), 1..200_usize).prop_map(|(at, length)| Change::Repeat(at, length)),
        (at.clone(), at).prop_map(|(a, b)| Change::Swap(a, b)),
    ]
}

/// Places count in characters and wrap, so that every change does something to every sample.
fn apply(text: &mut Vec<char>, change: &Change) {
    let length = text.len().max(1);
    match change {
        Change::Cut(at, count) => drop(text.drain((at % length).min(text.len())..(at % length + count).min(text.len()))),
        Change::Insert(at, scrap) => {
            let at = (at % length).min(text.len());
            text.splice(at..at, scrap.chars());
        }
        Change::Repeat(at, count) => {
            let at = (at % length).min(text.len());
            let part = text[at..(at + count).min(text.len())].to_vec();
            text.splice(at..at, part);
        }
        Change::Swap(a, b) if !text.is_empty() => text.swap(a % length, b % length),
        Change::Swap(..) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_document_is_read_or_refused(
        sample in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..8),
        is_json in any::<bool>(),
    ) {
        let samples = samples();
        let (_, text) = &samples[sample.index(samples.len())];
        let mut text: Vec<char> = text.chars().collect();
        changes.iter().for_each(|change| apply(&mut text, change));
        let text: String = text.into_iter().collect();
        let file = read_file(if is_json { "mutated.json" } else { "mutated.yaml" }, &text);

        // What is not whole is named, and what is named has a place in the text.
        prop_assert_eq!(file.diagnostics.is_empty(), file.broken.is_empty() && !file.truncated);
        let lines = u32::try_from(text.split(['\n', '\r']).count()).unwrap();
        for diagnostic in file.diagnostics.iter() {
            prop_assert!((1..=lines + 1).contains(&diagnostic.span.line) && diagnostic.span.column >= 1, "{}", diagnostic);
        }
        for (_, own) in file.texts(&text) {
            prop_assert!(!own.is_empty());
        }
        for id in &file.broken {
            prop_assert!(file.documents.iter().all(|document| document.id != *id), "{} is both good and broken", id);
        }
    }

    #[test]
    fn mutated_settings_are_read_or_refused(changes in prop::collection::vec(change(), 1..8)) {
        let mut text: Vec<char> = include_str!("../../environments/dev/core.yaml").chars().collect();
        changes.iter().for_each(|change| apply(&mut text, change));
        let text: String = text.into_iter().collect();
        let _ = settings::check("core.yaml", &text);
        let variables = BTreeMap::new();
        let file = Some(("core.yaml", text.as_str()));
        let loaded = settings::load(&Sources { environment: Environment::Dev, file, variables: &variables, flags: &[] });
        // Every key is there, or something is wrong.
        prop_assert!(loaded.map_or_else(|mistakes| !mistakes.is_empty(), |settings| settings.entries().len() == 14));
    }

    #[test]
    fn bytes_of_a_token_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = text::json::read(&bytes, Budget::TOKEN);
    }
}
