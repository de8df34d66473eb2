//! Documents from a text: which document each one is, then the reader of its kind.
//!
//! A document with mistakes is still told by its kind and name where those can be read, so that whoever keeps the last good
//! version knows which one to keep.

use super::reader::{Book, Item, Map, Outcome, wrong};
use super::{Body, Document, DocumentId, File, Kind, Origin, value};
use super::{CachePolicy, Identity, Plan, QuotaPolicy, Role, RoleBinding, SecurityPolicy, Service, Tenant};
use crate::diagnostic::{Diagnostic, Diagnostics, Span, nearest};
use crate::name::{DocumentName, NotAName, TenantId};
use crate::text::{self, Budget, Fault, MISTAKES_MAX, Mistake, START, Tree};
use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

/// Reads every document of a text. `name` is the file as the user knows it; it tells JSON (`.json`) from YAML.
#[must_use]
pub fn read_file(name: &str, text: &str) -> File {
    let name: Arc<str> = name.into();
    let read = text::read(&name, text, Budget::FILE);
    let (mut file, source) = (File::default(), Arc::from(text));
    let mut seen: BTreeMap<DocumentId, Span> = BTreeMap::new();
    for tree in read.trees {
        if file.diagnostics.len() >= MISTAKES_MAX {
            file.diagnostics.push(too_many(&name, tree.span));
            file.truncated = true;
            break;
        }
        let (span, bytes) = (tree.span, tree.bytes.clone());
        let mut outcome = document(tree, &name, &source);
        if let Some(id) = &outcome.id {
            match seen.get(id) {
                Some(first) => outcome.diagnostics.push(twice(&name, id, *first, span)),
                None => drop(seen.insert(id.clone(), span)),
            }
        }
        file.add(outcome, bytes);
    }
    if let Some(cut) = read.cut {
        file.diagnostics.push(cut.in_file(&name, None));
        file.truncated = true;
    }
    file.diagnostics.sort();
    file
}

/// Reads a text that holds exactly one document.
///
/// # Errors
/// Every mistake in it; none or more than one document is a mistake too.
pub fn read_document(name: &str, text: &str) -> Result<Arc<Document>, Diagnostics> {
    let mut file = read_file(name, text);
    let count = file.documents.len() + file.broken.len();
    if file.diagnostics.is_empty() && count != 1 {
        let book = Book::new(&name.into(), &text.into(), None, Vec::new());
        book.at(START, wrong(format!("the text holds {count} documents")).expected("exactly one document"));
        return Err(book.close());
    }
    match file.documents.pop() {
        Some(document) if file.diagnostics.is_empty() => Ok(document),
        _ => Err(file.diagnostics),
    }
}

fn too_many(name: &Arc<str>, span: Span) -> Diagnostic {
    let mistake = Mistake { span, pointer: "".into(), fault: Fault::Mistakes(MISTAKES_MAX) };
    mistake.in_file(name, None)
}

/// The same document twice in one file. Neither of them is taken: never the first, never the last.
fn twice(name: &Arc<str>, id: &DocumentId, first: Span, again: Span) -> Diagnostic {
    let fault = Fault::Twice { id: id.to_string(), first };
    Mistake { span: again, pointer: "".into(), fault }.in_file(name, Some(id.to_string().into()))
}

impl File {
    /// Enters one document.
    fn add(&mut self, outcome: Read, bytes: Range<usize>) {
        let good = outcome.diagnostics.is_empty();
        self.diagnostics.append(outcome.diagnostics);
        match (outcome.id, outcome.document) {
            (_, Some(document)) if good => {
                self.documents.push(Arc::new(document));
                self.ranges.push(bytes);
            }
            (Some(id), _) => {
                // Its namesake above, if there is one, is no better.
                if let Some(at) = self.documents.iter().position(|known| known.id == id) {
                    self.documents.remove(at);
                    self.ranges.remove(at);
                }
                if !self.broken.contains(&id) {
                    self.broken.push(id);
                }
            }
            (None, _) => self.truncated |= outcome.ours,
        }
    }

    /// Each document with its own text, comments included: that text alone reads as the same document. `text` is what
    /// [`read_file`] was given.
    pub fn texts<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (&'a Arc<Document>, &'a str)> {
        self.documents.iter().zip(&self.ranges).map(|(document, range)| (document, text.get(range.clone()).unwrap_or_default()))
    }
}

/// What came of one document.
struct Read {
    id: Option<DocumentId>,
    document: Option<Document>,
    /// Whether it may be a document of ours; those of kinds that are not there yet are not.
    ours: bool,
    diagnostics: Diagnostics,
}

/// Reads one document.
fn document(tree: Tree, file: &Arc<str>, source: &Arc<str>) -> Read {
    let id = identify(&tree);
    let book = Book::new(file, source, id.as_ref().map(|id| id.to_string().into()), tree.mistakes);
    let later = tree.root.as_ref().and_then(|root| root.value.get("kind")?.value.as_str()).is_some_and(|kind| LATER.contains(&kind));
    // What a syntax error cut off is not missing: of such a document only the error is told.
    let body = tree.root.as_ref().filter(|_| tree.whole).and_then(|root| Item::root(root, &book).map().and_then(read).ok());
    let origin = Origin { file: Arc::clone(file), span: tree.span };
    let document = id.clone().zip(body).filter(|_| book.is_empty()).map(|(id, body)| Document { id, origin, body });
    if document.is_none() && book.is_empty() {
        // A document that vanished without a word would be the worst mistake of all.
        book.at(tree.span, wrong("which document this is cannot be read").expected("`kind` and `name`"));
    }
    Read { id, document, ours: !later, diagnostics: book.close() }
}

/// Which document it is; complains about nothing. Only a safe answer is one: who takes a tenant's document for the
/// platform's would drop the tenant's.
fn identify(tree: &Tree) -> Option<DocumentId> {
    let unsure = |fault: &Fault| matches!(fault, Fault::Duplicate { .. } | Fault::Key { .. } | Fault::Merge | Fault::AliasKey);
    if tree.mistakes.iter().any(|mistake| mistake.pointer.is_empty() && unsure(&mistake.fault)) {
        return None;
    }
    let root = &tree.root.as_ref()?.value;
    let text = |key: &str| root.get(key).map(|node| node.value.as_str());
    let kind = match text("kind") {
        Some(written) => written?.parse().ok()?,
        None => root.get("tenant_id").map(|_| Kind::Tenant)?,
    };
    if kind.is_platform_wide() {
        let name = if kind == Kind::Tenant { "tenant_id" } else { "name" };
        return Some(DocumentId { kind, tenant: None, name: text(name)??.parse().ok()? });
    }
    let tenant = match text("tenant") {
        Some(written) => Some(written?.parse().ok()?),
        // It may stand behind the place where the text broke off, or be misspelt.
        None if !tree.whole || root.keys().any(|key| nearest(key, ["tenant"]).is_some()) => return None,
        None => None,
    };
    Some(DocumentId { kind, tenant, name: text("name")??.parse().ok()? })
}

/// A text that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no kind {}", text::show_text(written))]
pub struct NotAKind {
    written: String,
}

impl NotAKind {
    /// The kind that may be meant: `role`, `ROLE` and `role_binding` are as clear as a slip of one letter.
    #[must_use]
    pub fn meant(&self) -> Option<Kind> {
        let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-', ' '], "");
        let known = Kind::ALL.map(|kind| plain(kind.as_str()));
        let meant = nearest(&plain(&self.written), known.iter().map(String::as_str))?;
        Kind::ALL.into_iter().zip(&known).find(|(_, known)| *known == meant).map(|(kind, _)| kind)
    }
}

impl FromStr for Kind {
    type Err = NotAKind;
    fn from_str(text: &str) -> Result<Self, NotAKind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| NotAKind { written: text.to_owned() })
    }
}

impl Kind {
    /// Whether no document of this kind belongs to a tenant.
    #[must_use]
    pub const fn is_platform_wide(self) -> bool {
        matches!(self, Kind::Tenant | Kind::Plan | Kind::Service)
    }
}

/// Whose document it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The platform's.
    Platform,
    /// One tenant's.
    Tenant,
}

/// What every document says first.
pub(super) struct Head<'a> {
    pub(super) scope: Scope,
    name: Outcome<DocumentName>,
    document: Item<'a>,
}

impl Head<'_> {
    /// The document's name as the name of what it declares.
    pub(super) fn name<T: FromStr<Err = NotAName>>(&self) -> Outcome<T> {
        let name = self.name.as_ref().map_err(|reported| *reported)?;
        name.as_str().parse().map_err(|why: NotAName| self.document.refuse(wrong(why.to_string())))
    }

    /// Refuses a field that only the platform's documents may have.
    pub(super) fn platform_only(&self, map: &mut Map<'_>, key: &'static str, why: &str) {
        if self.scope == Scope::Tenant {
            map.forbidden(key, wrong(format!("`{key}` stands only in platform-wide documents")).hint(why));
        }
    }
}

/// Reads a document's fields by its kind.
fn read(mut map: Map<'_>) -> Outcome<Body> {
    let kind = match map.field("kind") {
        Some(item) => kind(&item)?,
        None if map.has("tenant_id") => Kind::Tenant,
        None => {
            let complaint = wrong("`kind` is missing").expected(kinds());
            return Err(map.item().refuse_absent("kind", complaint.hint("a document says what it is, for example `kind: Role`")));
        }
    };
    let head = head(kind, &mut map);
    let body = match kind {
        Kind::Tenant => Tenant::read(&head, &mut map).map(Box::new).map(Body::Tenant),
        Kind::Plan => Plan::read(&head, &mut map).map(Box::new).map(Body::Plan),
        Kind::Service => Service::read(&head, &mut map).map(Box::new).map(Body::Service),
        Kind::Identity => Identity::read(&head, &mut map).map(Box::new).map(Body::Identity),
        Kind::Role => Role::read(&head, &mut map).map(Box::new).map(Body::Role),
        Kind::RoleBinding => RoleBinding::read(&head, &mut map).map(Box::new).map(Body::RoleBinding),
        Kind::QuotaPolicy => QuotaPolicy::read(&head, &mut map).map(Box::new).map(Body::QuotaPolicy),
        Kind::SecurityPolicy => SecurityPolicy::read(&head, &mut map).map(Box::new).map(Body::SecurityPolicy),
        Kind::CachePolicy => CachePolicy::read(&head, &mut map).map(Box::new).map(Body::CachePolicy),
    };
    map.finish();
    head.name.and(body)
}

/// `kind`.
fn kind(item: &Item<'_>) -> Outcome<Kind> {
    let written = value::string(item)?;
    if LATER.contains(&&**written) {
        let instead = format!("write {}", kinds());
        return Err(item.refuse(value::not_yet(&format!("kind `{written}`"), &instead)));
    }
    written.parse().map_err(|why: NotAKind| {
        let complaint = wrong(why.to_string()).expected(kinds());
        item.refuse(match why.meant() {
            Some(kind) => complaint.hint(format!("did you mean `{kind}`?")),
            None => complaint,
        })
    })
}

fn kinds() -> String {
    format!("one of {}", Kind::ALL.map(Kind::as_str).join(", "))
}

/// `tenant` and `name`, which for a Tenant is its `tenant_id`.
fn head<'a>(kind: Kind, map: &mut Map<'a>) -> Head<'a> {
    let document = map.item().clone();
    if kind.is_platform_wide() {
        map.forbidden("tenant", wrong(format!("a {kind} belongs to no tenant")).hint("remove `tenant`"));
    }
    let scope = if !kind.is_platform_wide() && map.has("tenant") { Scope::Tenant } else { Scope::Platform };
    if !kind.is_platform_wide() {
        // A tenant that cannot be read is written down; the rest is read as the tenant's all the same.
        let _ = map.optional("tenant", value::name::<TenantId>);
    }
    let name = map.required(if kind == Kind::Tenant { "tenant_id" } else { "name" }, value::name);
    Head { scope, name, document }
}

/// Kinds that are meant to come; what they are told is "not yet", not "unknown".
const LATER: [&str; 9] = ["Schema", "AlertRule", "Channel", "Escalation", "Template", "Locale", "Workflow", "EventHandler", "Metric"];
