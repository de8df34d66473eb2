//! Samples by name, and a document's tree as the schemas' oracle takes it.

use bulkhead_config::declared::Kind;
use bulkhead_config::text::{self, Budget, Node, Text, Value};
use std::path::{Path, PathBuf};

/// Every sample that has no mistake: name and text.
pub(crate) fn samples() -> Vec<(String, String)> {
    let mut files = Vec::new();
    collect(&folder("samples"), &mut files);
    files.sort();
    let read = |file: PathBuf| (file.display().to_string(), std::fs::read_to_string(&file).unwrap());
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "mistakes" {
            collect(&path, files);
        } else if !path.is_dir() && !name.ends_with(".jwks.json") {
            files.push(path);
        }
    }
}

/// A folder of this crate.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Whether a document's tree is valid by the schema of its kind.
pub(crate) fn schema_accepts(root: &Node) -> bool {
    let written = root.value.get("kind").and_then(|kind| kind.value.as_str()).unwrap_or("Tenant");
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == written).unwrap();
    let validator = jsonschema::validator_for(&kind.schema()).unwrap();
    validator.is_valid(&to_json(&root.value))
}

/// The documents of a text, as trees.
pub(crate) fn trees(name: &str, text: &str) -> Vec<Node> {
    text::read(name, text, Budget::FILE).trees.into_iter().filter_map(|tree| tree.root).collect()
}

/// The same tree without places.
pub(crate) fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Int(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Str(text) => text.to_string().into(),
        Value::List(items) => items.iter().map(|item| to_json(&item.value)).collect(),
        Value::Map(entries) => entries.iter().map(|(key, node)| (key.text.to_string(), to_json(&node.value))).collect(),
    }
}

/// A tree with its places, as `{key@line:column value@line:column}@line:column`.
pub(crate) fn picture(node: &Node) -> String {
    let inner = match &node.value {
        Value::List(items) => format!("[{}]", items.iter().map(picture).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let entry = |key: &text::Key, node| format!("{}@{}:{} {}", key.text, key.span.line, key.span.column, picture(node));
            format!("{{{}}}", entries.iter().map(|(key, node)| entry(key, node)).collect::<Vec<_>>().join(", "))
        }
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Str(text) => format!("{text:?}"),
    };
    format!("{inner}@{}:{}", node.span.line, node.span.column)
}

/// The documents of a text, as pictures.
pub(crate) fn pictures(text: &Text) -> Vec<String> {
    text.trees.iter().filter_map(|tree| tree.root.as_ref()).map(picture).collect()
}
