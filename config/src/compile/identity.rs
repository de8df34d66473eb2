//! Identities into issuers and API keys of one scope.

use super::documents::Documents;
use super::mistake::{Hinted, Mistakes, at};
use crate::declared::{self, Body, Document, Jwks, JwtIssuer};
use crate::diagnostic::{Diagnostic, Span, Spanned};
use crate::name::KeyId;
use crate::snapshot::{ApiKey, Introspection, IntrospectionUrl, Issuer, KeySource, KeyUrl, Revoked, Scope, Shadow, Workload};
use std::sync::Arc;
use std::time::Duration;

/// Who may prove to be whom, within one scope.
pub(super) struct Identities {
    /// By `iss`.
    pub(super) issuers: Vec<Arc<Issuer>>,
    /// Sorted by id.
    pub(super) api_keys: Vec<(KeyId, ApiKey)>,
    pub(super) api_key_header: Option<http::HeaderName>,
    /// The closest pattern first.
    pub(super) workloads: Vec<Workload>,
    pub(super) revoked: Option<Arc<Revoked>>,
    pub(super) introspection: Option<Arc<Introspection>>,
}

/// Reads the identities of one scope. What was there before and is declared the same is kept, so that what was derived from it
/// (verified tokens) stays good.
pub(super) fn compile(documents: &Documents, scope: Scope, before: &[Arc<Issuer>], mistakes: &mut Mistakes) -> Identities {
    let revoked = Revoked::of(documents.identities().map(|(_, identity)| &identity.revoked)).map(Arc::new);
    let mut found =
        Identities { issuers: Vec::new(), api_keys: Vec::new(), api_key_header: None, workloads: Vec::new(), revoked, introspection: None };
    for (document, identity) in documents.identities() {
        for declared in &identity.jwt {
            add_issuer(&mut found.issuers, document, declared, scope, before, mistakes);
        }
        for key in &identity.api_keys {
            if found.api_keys.iter().any(|(known, _)| *known == key.id.value) {
                let mistake = at(document, &key.id, format!("API key `{}` stands twice in this tenant", key.id.value));
                mistakes.push(mistake.hint("the id is part of the key's text: make another key with an id of its own"));
            } else {
                found.api_keys.push((key.id.value.clone(), ApiKey { sha256: key.sha256, expires: key.expires }));
            }
        }
        for declared in &identity.spiffe {
            if found.workloads.iter().any(|known| known.id == declared.id.value) {
                let mistake = at(document, &declared.id, format!("workload `{}` stands twice in this tenant", declared.id.value));
                mistakes.push(mistake.hint("it can come as one user only: remove one"));
            } else {
                found.workloads.push(Workload { id: declared.id.value.clone(), user: declared.user.as_deref().map(Into::into) });
            }
        }
        if let Some(declared) = &identity.introspection {
            let again = found.introspection.replace(Arc::new(introspection(document, declared, scope))).is_some();
            if again {
                let mistake = at(document, &declared.url, "two documents say who is asked about tokens");
                mistakes.push(mistake.hint("a token says nothing of who made it, so one server is asked: keep one"));
            }
        }
        if let Some(written) = &identity.api_key_header {
            let name = http::HeaderName::from_bytes(written.as_bytes());
            match (name, &found.api_key_header) {
                (Err(_), _) => mistakes.push(at(document, written, format!("`{}` is no header name", written.value))),
                (Ok(name), Some(other)) if name != *other => {
                    let mistake = at(document, written, format!("another Identity has API keys in header `{other}`"));
                    mistakes.push(mistake.hint("a platform has one header for API keys: name the same, or leave it out here"));
                }
                (Ok(name), _) => found.api_key_header = Some(name),
            }
        }
    }
    found.issuers.sort_by(|a, b| a.issuer.cmp(&b.issuer));
    found.api_keys.sort_by(|(a, _), (b, _)| a.cmp(b));
    found.workloads.sort_by(|a, b| (b.id.exactness(), &a.id).cmp(&(a.id.exactness(), &b.id)));
    found
}

/// What the identities of the platform put in shadow: whether a missing or bad credential is refused.
pub(super) fn shadow(documents: &Documents) -> Shadow {
    let mut identities = documents.identities();
    if identities.any(|(_, identity)| identity.enforce.is_shadow()) { Shadow::CREDENTIAL } else { Shadow::NONE }
}

/// API keys that no request can show, because the platform says in no document where.
pub(super) fn warn_of_unheard_keys(documents: &Documents, mistakes: &mut Mistakes) {
    let mut keys = documents.identities().flat_map(|(document, identity)| identity.api_keys.iter().map(move |key| (document, key)));
    if let Some((document, first)) = keys.next() {
        let warning = at(document, &first.id, "no request can show this API key: no platform-wide Identity has `api_key_header`");
        mistakes.warn(warning.hint("add an Identity without `tenant:` that says `api_key_header: x-api-key`"));
    }
}

fn add_issuer(
    issuers: &mut Vec<Arc<Issuer>>,
    document: &Document,
    declared: &JwtIssuer,
    scope: Scope,
    before: &[Arc<Issuer>],
    mistakes: &mut Mistakes,
) {
    if issuers.iter().any(|known| known.issuer == declared.issuer.value) {
        let whose = if scope == Scope::Platform { "the platform's issuers" } else { "this tenant's issuers" };
        let mistake = at(document, &declared.issuer, format!("issuer `{}` stands twice among {whose}", declared.issuer.value));
        mistakes.push(mistake.hint("a token is verified by one declaration: merge them"));
        return;
    }
    let issuer = Issuer {
        issuer: declared.issuer.value.clone(),
        audiences: declared.audiences.clone(),
        algorithms: declared.algorithms.clone(),
        keys: key_source(document, &declared.jwks.value),
        tenant_claim: declared.tenant_claim.as_ref().map(|claim| claim.value.clone()),
        leeway: Duration::from_secs(u64::from(declared.leeway_seconds)),
        forward: declared.forward,
        scope,
    };
    issuers.push(super::kept(before, issuer));
}

fn key_source(document: &Document, jwks: &Jwks) -> KeySource {
    match jwks {
        Jwks::File(written) => KeySource::File(resolve(&document.origin.file, written)),
        Jwks::Url { url, refresh, roots } => {
            let roots = roots.as_ref().map(|roots| resolve(&document.origin.file, &roots.value));
            let name = match &roots {
                None => url.as_str().into(),
                Some(roots) => format!("{url} (roots {roots})").into(),
            };
            KeySource::Url(Arc::new(KeyUrl { name, url: url.clone(), roots, refresh: *refresh }))
        }
    }
}

fn introspection(document: &Document, declared: &declared::Introspection, scope: Scope) -> Introspection {
    Introspection {
        asked: Arc::new(introspection_url(document, declared)),
        audiences: declared.audiences.clone(),
        tenant_claim: declared.tenant_claim.clone(),
        remember: declared.remember,
        forward: declared.forward,
        scope,
    }
}

fn introspection_url(document: &Document, declared: &declared::Introspection) -> IntrospectionUrl {
    let resolved = |written: &Spanned<String>| resolve(&document.origin.file, &written.value);
    let (client_secret, roots) = (resolved(&declared.client_secret), declared.roots.as_ref().map(resolved));
    let (url, client_id) = (declared.url.value.clone(), declared.client_id.clone());
    let believed = roots.as_ref().map(|roots| format!(", roots {roots}")).unwrap_or_default();
    let name = format!("{url} (client `{client_id}`, secret {client_secret}{believed})").into();
    IntrospectionUrl { name, url, client_id, client_secret, roots }
}

/// Whom a document names to be asked about tokens.
#[must_use]
pub fn introspection_of(document: &Document) -> Option<Arc<IntrospectionUrl>> {
    let Body::Identity(identity) = &document.body else { return None };
    identity.introspection.as_ref().map(|declared| Arc::new(introspection_url(document, declared)))
}

/// The name of a file that a document names: beside the document, unless it is absolute. Textual only, since this crate reads
/// nothing: who offers the documents offers the files under the same names.
#[must_use]
pub fn resolve(document_file: &str, written: &str) -> Arc<str> {
    match document_file.rfind('/').and_then(|slash| document_file.get(..=slash)) {
        Some(folder) if !written.starts_with('/') => format!("{folder}{written}").into(),
        _ => written.into(),
    }
}

/// That a file which documents name as a key set would itself be read for documents.
#[must_use]
pub fn misplaced_key_set(file: &Arc<str>) -> Diagnostic {
    Diagnostic {
        file: Arc::clone(file),
        span: Span { line: 1, column: 1 },
        document: None,
        pointer: "".into(),
        message: "it is named as a key set and stands among the documents".to_owned(),
        expected: None,
        found: None,
        hint: Some("name it `….jwks.json` or `….jwks`, so that it is not read for documents".to_owned()),
    }
}

/// A file that a document names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// Its resolved name.
    pub file: Arc<str>,
    /// What it is to hold.
    pub holds: Holds,
}

/// What a file is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    /// A JSON Web Key Set.
    KeySet,
    /// Certificates or a private key, in PEM.
    Pem,
    /// A secret on one line.
    Secret,
}

/// Files that a document names.
#[must_use]
pub fn files_of(document: &Document) -> Vec<Named> {
    let named = |holds, written: &str| Named { file: resolve(&document.origin.file, written), holds };
    match &document.body {
        Body::Identity(identity) => identity
            .jwt
            .iter()
            .filter_map(|issuer| match &issuer.jwks.value {
                Jwks::File(written) => Some(named(Holds::KeySet, written)),
                jwks @ Jwks::Url { .. } => jwks.roots().map(|roots| named(Holds::Pem, &roots.value)),
            })
            .chain(identity.introspection.iter().flat_map(|asked| {
                let roots = asked.roots.iter().map(|roots| named(Holds::Pem, &roots.value));
                roots.chain([named(Holds::Secret, &asked.client_secret.value)])
            }))
            .collect(),
        Body::Service(service) => service.files().map(|written| named(Holds::Pem, &written.value)).collect(),
        _ => Vec::new(),
    }
}

/// URLs of key sets that a document names.
#[must_use]
pub fn key_urls_of(document: &Document) -> Vec<Arc<KeyUrl>> {
    let Body::Identity(identity) = &document.body else { return Vec::new() };
    let sources = identity.jwt.iter().map(|issuer| key_source(document, &issuer.jwks.value));
    let url = |source| match source {
        KeySource::File(_) => None,
        KeySource::Url(url) => Some(url),
    };
    sources.filter_map(url).collect()
}
