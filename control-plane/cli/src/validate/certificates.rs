//! The certificates and keys that documents name: whether TLS can be spoken with them, by the sidecar's own reading of them.

use super::Unchecked;
use crate::documents::Declared;
use bulkhead_config::compile::resolve;
use bulkhead_config::declared::{Body, Document};
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics, Spanned};
use bulkhead_config::snapshot::Snapshot;
use bulkhead_sidecar::tls::{Contents, Tls};
use jiff::Timestamp;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::Arc;

/// Where a document names a file.
type Place<'a> = (&'a Document, &'a Spanned<String>);

/// Checks every such file; gives those that are not here. They are often made where they are served, so that is no mistake.
pub(super) fn check(declared: &Declared, snapshot: &Snapshot, mistakes: &mut Diagnostics, warnings: &mut Diagnostics) -> Vec<Unchecked> {
    let places: HashMap<Arc<str>, Place<'_>> = declared.documents().flat_map(named).collect();
    let (mut contents, mut absent) = (Contents::new(), Vec::new());
    for (file, (document, written)) in &places {
        match fs::read(&**file) {
            Ok(content) => drop(contents.insert(Arc::clone(file), content.into())),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let what = format!("`{file}` is not there");
                absent.push(Unchecked { file: document.origin.file.clone(), span: written.span, what });
            }
            Err(cause) => mistakes.push(about(document, written, &format!("`{file}` cannot be read: {cause}"), None)),
        }
    }
    absent.sort_by(|a, b| a.what.cmp(&b.what));
    let (_, found) = Tls::load(snapshot.platform(), None, &contents, &Arc::default(), Timestamp::now().as_second());
    // What could not be read was named above.
    let place = |one: &Diagnostic| places.get(&one.file).filter(|_| contents.contains_key(&one.file));
    // Said at the document: the line of a file with a key is nothing to show.
    let there = |one: &Diagnostic| {
        let (document, written) = place(one)?;
        Some(about(document, written, &format!("`{}`: {}", one.file, one.message), one.hint.clone()))
    };
    found.refused.iter().filter_map(there).for_each(|mistake| mistakes.push(mistake));
    found.warnings.iter().filter_map(there).for_each(|warning| warnings.push(warning));
    absent
}

fn named(document: &Document) -> Vec<(Arc<str>, Place<'_>)> {
    match &document.body {
        Body::Service(service) => {
            service.files().map(|written| (resolve(&document.origin.file, &written.value), (document, written))).collect()
        }
        _ => Vec::new(),
    }
}

fn about(document: &Document, written: &Spanned<String>, message: &str, hint: Option<String>) -> Diagnostic {
    Diagnostic {
        file: document.origin.file.clone(),
        span: written.span,
        document: Some(document.id.to_string().into()),
        pointer: written.pointer.clone(),
        message: message.to_owned(),
        expected: None,
        found: None,
        hint,
    }
}
