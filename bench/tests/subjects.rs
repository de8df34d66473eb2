//! Our subject of the comparison: documents the sidecar can serve, and those that the published figures are about.
#![expect(clippy::unwrap_used, reason = "tests")]

use bulkhead_config::compile::Catalogue;
use bulkhead_config::declared::{Body, Document, DocumentId, read_file};
use bulkhead_config::protocol::{Offer, Put};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn subjects() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("versus/subjects")
}

/// The documents of each feature, with the ports that `bench.yaml` has.
fn documents_by_feature() -> BTreeMap<String, Vec<Arc<Document>>> {
    let subject: Value = serde_json::from_str(&std::fs::read_to_string(subjects().join("bulkhead.json")).unwrap()).unwrap();
    let documents_of = |feature: &Value| {
        let files = feature.get("files").unwrap().as_object().unwrap();
        let templates = files.iter().filter_map(|(name, file)| Some((name, file.get("template")?.as_str()?)));
        templates.flat_map(|(name, template)| read(name, &std::fs::read_to_string(subjects().join(template)).unwrap())).collect()
    };
    let features = subject.get("features").unwrap().as_object().unwrap();
    features.iter().map(|(name, feature)| (name.clone(), documents_of(feature))).collect()
}

fn read(name: &str, template: &str) -> Vec<Arc<Document>> {
    let file = read_file(name, &template.replace("{port}", "8080").replace("{upstream_port}", "20900"));
    assert!(file.diagnostics.is_empty(), "{name}:\n{}", file.diagnostics);
    file.documents
}

#[test]
fn every_feature_compiles_and_nothing_is_quarantined() {
    for (feature, documents) in documents_by_feature() {
        let put = documents.into_iter().map(|document| Put { document, text: "".into() }).collect();
        let outcome = Catalogue::new().apply(&Offer { complete: true, put, ..Offer::default() });
        assert_eq!(outcome.quarantined, [], "{feature}");
        assert!(outcome.snapshot.tenant_by_host("tenant-a.bench").is_some(), "{feature}");
    }
}

#[test]
fn full_is_the_policy_that_the_figures_are_published_for() {
    fn declared(documents: Vec<Arc<Document>>) -> BTreeMap<DocumentId, Body> {
        documents.into_iter().map(|document| (document.id.clone(), document.body.clone())).collect()
    }
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/samples/bench.yaml");
    let published = declared(read("bench.yaml", &std::fs::read_to_string(sample).unwrap()));
    let full = declared(documents_by_feature().remove("full").unwrap());
    assert_eq!(full, published);
}
