//! The published schemas are the code's. To write them anew:
//! `BULKHEAD_WRITE_SCHEMAS=1 cargo test -p bulkhead-config --test documents schemas`.

use crate::support::folder;
use bulkhead_config::declared::Kind;

#[test]
fn the_published_schemas_are_those_of_the_code() {
    for kind in Kind::ALL {
        let file = folder("schema").join(format!("{kind}.schema.json"));
        let schema = kind.schema();
        if std::env::var_os("BULKHEAD_WRITE_SCHEMAS").is_some() {
            std::fs::write(&file, format!("{schema:#}\n")).unwrap();
        }
        let published = std::fs::read_to_string(&file).unwrap_or_default();
        let same = serde_json::from_str::<serde_json::Value>(&published).is_ok_and(|published| published == schema);
        assert!(same, "{} differs from the code; the header of this file says how to write it anew", file.display());
    }
}

#[test]
fn every_schema_is_a_schema() {
    for kind in Kind::ALL {
        assert!(jsonschema::draft202012::meta::is_valid(&kind.schema()), "{kind}");
    }
}

#[test]
fn what_a_schema_gives_as_an_example_it_accepts() {
    for kind in Kind::ALL {
        examples(&kind.schema());
    }
}

/// Looks through a schema for parts with examples, and tries them.
fn examples(schema: &serde_json::Value) {
    if let Some(examples) = schema.get("examples").and_then(|examples| examples.as_array()) {
        let validator = jsonschema::validator_for(schema).unwrap();
        examples.iter().for_each(|example| assert!(validator.is_valid(example), "{example} by {schema:#}"));
    }
    match schema {
        serde_json::Value::Object(parts) => parts.values().for_each(examples),
        serde_json::Value::Array(parts) => parts.iter().for_each(examples),
        _ => {}
    }
}
