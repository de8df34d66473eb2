//! What ships as a sample is right, and what ships as a mistake is wrong in the way it says.

use crate::support::{folder, samples, schema_accepts, trees};
use bulkhead_config::compile::Catalogue;
use bulkhead_config::declared::{Kind, read_document, read_file};
use bulkhead_config::protocol::{Offer, Put};
use std::collections::BTreeSet;

#[test]
fn every_sample_reads_without_a_mistake() {
    let mut kinds = BTreeSet::new();
    for (name, text) in samples() {
        let file = read_file(&name, &text);
        assert!(file.diagnostics.is_empty(), "{}", file.diagnostics);
        assert!(!file.documents.is_empty() && file.broken.is_empty() && !file.truncated, "{name}");
        kinds.extend(file.documents.iter().map(|document| document.id.kind));
    }
    assert_eq!(kinds, BTreeSet::from(Kind::ALL), "a kind has no sample");
}

#[test]
fn every_sample_is_valid_by_the_schema_of_its_kind() {
    for (name, text) in samples() {
        for root in trees(&name, &text) {
            assert!(schema_accepts(&root), "{name}:{}", root.span.line);
        }
    }
}

#[test]
fn the_samples_of_all_kinds_stand_together() {
    let mut offer = Offer { complete: true, ..Offer::default() };
    for (name, text) in samples().into_iter().filter(|(name, _)| name.contains("samples/kinds/")) {
        let file = read_file(&name, &text);
        offer.put.extend(file.texts(&text).map(|(document, text)| Put { document: document.clone(), text: text.into() }));
    }
    let outcome = Catalogue::new().apply(&offer);
    let wrong: Vec<String> = outcome.quarantined.iter().map(|part| part.diagnostics.to_string()).collect();
    assert!(wrong.is_empty() && outcome.snapshot.tenant_count() == 3, "{}", wrong.join("\n"));
}

#[test]
fn the_text_of_a_document_alone_reads_as_the_same_document() {
    for (name, text) in samples() {
        // A byte order mark moves no document and belongs to none.
        for text in [text.clone(), format!("\u{feff}{text}"), text.replace('\n', "\r\n")] {
            for (document, own) in read_file(&name, &text).texts(&text) {
                let again = read_document(&name, own).unwrap();
                assert_eq!((&again.id, &again.body), (&document.id, &document.body), "{own}");
            }
        }
    }
}

#[test]
fn five_mistakes_are_five_diagnostics() {
    let text = std::fs::read_to_string(folder("samples/mistakes/five.yaml")).unwrap();
    let found: Vec<(u32, u32, String)> =
        read_file("five.yaml", &text).diagnostics.iter().map(|one| (one.span.line, one.span.column, one.hint.clone().unwrap())).collect();
    let meant = [
        (4, 1, "did you mean `name`?"),
        (5, 8, "the `@` is missing"),
        (6, 21, "remove the quotes"),
        (12, 37, "write for example `20/s`"),
        (20, 22, "write `10.0.0.0/8`"),
    ];
    assert_eq!(found, meant.map(|(line, column, says)| (line, column, says.to_owned())));
}
