//! The key sets that documents name: whether they can be read and are what they should be.

use super::Unchecked;
use crate::documents::Declared;
use bulkhead_config::compile::resolve;
use bulkhead_config::declared::{Body, Document, Jwks, JwtIssuer};
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics};
use bulkhead_config::text::{Budget, Value, json};
use std::fs;
use std::io;
use std::sync::Arc;

/// Checks every key set; gives those that are not here. A key set is often made where it is served, so that is no mistake.
pub(super) fn check(declared: &Declared, mistakes: &mut Diagnostics) -> Vec<Unchecked> {
    let mut absent = Vec::new();
    for (document, issuer) in declared.documents().flat_map(issuers) {
        // What a URL gives is asked where it is served.
        let Jwks::File(written) = &issuer.jwks.value else { continue };
        let file = resolve(&document.origin.file, written);
        match fs::read(&*file) {
            Ok(content) => mistakes.append(read(&file, &content)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let what = format!("key set `{file}` is not there");
                absent.push(Unchecked { file: document.origin.file.clone(), span: issuer.jwks.span, what });
            }
            Err(cause) => mistakes.push(unreadable(document, issuer, &file, &cause)),
        }
    }
    absent
}

fn issuers(document: &Document) -> impl Iterator<Item = (&Document, &JwtIssuer)> {
    let issuers = match &document.body {
        Body::Identity(identity) => identity.jwt.as_slice(),
        _ => &[],
    };
    issuers.iter().map(move |issuer| (document, issuer))
}

/// RFC 7517 section 5: an object with a list `keys`. What the single keys must be is checked where they are used.
pub(super) fn read(file: &Arc<str>, content: &[u8]) -> Diagnostics {
    let mut mistakes = Diagnostics::new();
    match json::read(content, Budget::FILE) {
        Ok(set) if matches!(set.value.get("keys").map(|keys| &keys.value), Some(Value::List(_))) => {}
        Ok(set) => mistakes.push(Diagnostic {
            file: Arc::clone(file),
            span: set.span,
            document: None,
            pointer: "/keys".into(),
            message: "this is no key set".into(),
            expected: Some("a JSON object with a list `keys` (RFC 7517)".into()),
            found: None,
            hint: None,
        }),
        Err(mistake) => mistakes.push(mistake.in_file(file, None)),
    }
    mistakes
}

fn unreadable(document: &Document, issuer: &JwtIssuer, file: &str, cause: &io::Error) -> Diagnostic {
    Diagnostic {
        file: document.origin.file.clone(),
        span: issuer.jwks.span,
        document: Some(document.id.to_string().into()),
        pointer: issuer.jwks.pointer.clone(),
        message: format!("the key set `{file}` cannot be read: {cause}"),
        expected: None,
        found: None,
        hint: None,
    }
}
