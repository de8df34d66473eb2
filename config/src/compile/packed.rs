//! Roles and bindings of a tenant at rest: in a tenth of the room that they take as documents, with every place in them.
//!
//! They are by far the most of what many tenants declare, and nobody reads them between two changes. Text would do as well, but it
//! takes ten times as long to read, and a change of the platform compiles every tenant again.
//!
//! INVARIANT (what is packed reads as it was): unpacking gives the same documents, places and pointers included. A document with
//! anything this form has no room for is not packed.

use crate::declared::role::{ClaimValue, When};
use crate::declared::{Body, Document, DocumentId, Enforce, Kind, Origin, Role, RoleBinding, Rule, Subject};
use crate::diagnostic::{Span, Spanned};
use crate::name::TenantId;
use crate::text::below;
use std::str::FromStr;
use std::sync::Arc;

/// Documents of one tenant, in the order of their identities.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Packed {
    tenant: TenantId,
    /// Files they stand in.
    files: Box<[Arc<str>]>,
    bytes: Box<[u8]>,
}

impl Packed {
    /// Packs documents of `tenant` that [`can_be_packed`] is true of.
    pub(super) fn of<'a>(tenant: &TenantId, documents: impl Iterator<Item = &'a Document>) -> Self {
        let (mut files, mut pen) = (Vec::new(), Pen::default());
        for document in documents {
            let file = &document.origin.file;
            let known = files.iter().position(|known: &Arc<str>| known == file);
            pen.number(known.unwrap_or(files.len()));
            if known.is_none() {
                files.push(Arc::clone(file));
            }
            pen.document(document);
        }
        Self { tenant: tenant.clone(), files: files.into(), bytes: pen.bytes.into() }
    }

    /// The documents.
    pub(super) fn documents(&self) -> impl Iterator<Item = Arc<Document>> {
        let mut page = Page { rest: &self.bytes };
        std::iter::from_fn(move || {
            let file = self.files.get(page.number()?)?;
            page.document(&self.tenant, file).map(Arc::new)
        })
    }
}

/// Whether a document is a tenant's role without conditions, or a tenant's binding.
pub(super) fn can_be_packed(document: &Document) -> bool {
    document.id.tenant.is_some()
        && match &document.body {
            Body::Role(role) => role.allow.iter().chain(&role.deny).all(|rule| rule.when == When::default()),
            Body::RoleBinding(_) => true,
            _ => false,
        }
}

/// Writes.
#[derive(Default)]
struct Pen {
    bytes: Vec<u8>,
    /// The line on which the document begins: others are counted from it.
    first_line: u32,
}

impl Pen {
    fn document(&mut self, document: &Document) {
        let Document { id, origin, body } = document;
        self.first_line = 0;
        self.place(origin.span);
        self.first_line = origin.span.line;
        self.text(id.name.as_str());
        match body {
            Body::Role(role) => self.role(role),
            Body::RoleBinding(binding) => self.binding(binding),
            // Not packed, by `can_be_packed`.
            _ => {}
        }
    }

    fn role(&mut self, role: &Role) {
        let Role { name: _, delegable, inherits, allow, deny, enforce } = role;
        self.number(ROLE);
        self.number(usize::from(*delegable));
        self.number(usize::from(enforce.is_shadow()));
        self.list("/inherits", inherits, |pen, role| pen.text(role.as_str()));
        self.list("/allow", allow, Self::rule);
        self.list("/deny", deny, Self::rule);
    }

    fn rule(&mut self, rule: &Rule) {
        let Rule { methods, paths, when: _ } = rule;
        self.number(methods.as_ref().map_or(0, |methods| methods.len() + 1));
        methods.iter().flatten().for_each(|method| self.text(method));
        self.number(paths.len());
        paths.iter().for_each(|path| self.text(&path.to_string()));
    }

    fn binding(&mut self, binding: &RoleBinding) {
        let RoleBinding { role, subjects, enforce } = binding;
        self.number(BINDING);
        self.number(usize::from(enforce.is_shadow()));
        self.spanned("/role", role, |pen, role| pen.text(role.as_str()));
        self.list("/subjects", subjects, Self::subject);
    }

    fn subject(&mut self, subject: &Subject) {
        match subject {
            Subject::User(user) => {
                self.number(USER);
                self.text(user);
            }
            Subject::ApiKey(id) => {
                self.number(API_KEY);
                self.text(id.as_str());
            }
            Subject::Claim(claims) => {
                self.number(CLAIMS + claims.len());
                for (name, value) in claims {
                    self.text(name);
                    self.claim(value);
                }
            }
        }
    }

    fn claim(&mut self, value: &ClaimValue) {
        match value {
            ClaimValue::Bool(truth) => self.number(usize::from(*truth)),
            ClaimValue::Int(number) => {
                self.number(INT);
                self.bytes.extend_from_slice(&number.to_le_bytes());
            }
            ClaimValue::Str(text) => {
                self.number(STR);
                self.text(text);
            }
        }
    }

    fn list<T>(&mut self, pointer: &str, items: &[Spanned<T>], write: impl Fn(&mut Self, &T)) {
        self.number(items.len());
        for (at, item) in items.iter().enumerate() {
            self.spanned(&below(pointer, &at.to_string()), item, &write);
        }
    }

    /// A value with its place; its pointer only where it is not the one it has by where it stands.
    fn spanned<T>(&mut self, usual: &str, item: &Spanned<T>, write: impl Fn(&mut Self, &T)) {
        self.place(item.span);
        let pointer = if *item.pointer == *usual { "" } else { &item.pointer };
        self.text(pointer);
        write(self, &item.value);
    }

    fn place(&mut self, Span { line, column }: Span) {
        self.number(line.wrapping_sub(self.first_line) as usize);
        self.number(column as usize);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Seven bits a byte, the lowest first; all but the last have the eighth set.
    fn number(&mut self, mut number: usize) {
        while let more @ 1.. = number >> 7 {
            self.bytes.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
            number = more;
        }
        self.bytes.push(u8::try_from(number).unwrap_or_default());
    }
}

const ROLE: usize = 0;
const BINDING: usize = 1;
const USER: usize = 0;
const API_KEY: usize = 1;
/// And so many more as there are claims.
const CLAIMS: usize = 2;
/// Above the two truth values.
const INT: usize = 2;
const STR: usize = 3;

/// Reads. Nothing at the end, and where a [`Pen`] did not write it.
struct Page<'a> {
    rest: &'a [u8],
}

impl<'a> Page<'a> {
    fn document(&mut self, tenant: &TenantId, file: &Arc<str>) -> Option<Document> {
        let span = self.place(0)?;
        let name = self.text()?;
        let first_line = span.line;
        let (kind, body) = match self.number()? {
            ROLE => (Kind::Role, Body::Role(Box::new(self.role(name, first_line)?))),
            _ => (Kind::RoleBinding, Body::RoleBinding(Box::new(self.binding(first_line)?))),
        };
        let id = DocumentId { kind, tenant: Some(tenant.clone()), name: name.parse().ok()? };
        Some(Document { id, origin: Origin { file: Arc::clone(file), span }, body })
    }

    fn role(&mut self, name: &str, first_line: u32) -> Option<Role> {
        Some(Role {
            name: name.parse().ok()?,
            delegable: self.truth()?,
            enforce: self.enforce()?,
            inherits: self.list("/inherits", first_line, Self::parsed)?,
            allow: self.list("/allow", first_line, Self::rule)?,
            deny: self.list("/deny", first_line, Self::rule)?,
        })
    }

    fn rule(&mut self) -> Option<Rule> {
        let methods = match self.number()?.checked_sub(1) {
            Some(count) => Some((0..count).map(|_| self.text().map(str::to_owned)).collect::<Option<_>>()?),
            None => None,
        };
        let paths = (0..self.number()?).map(|_| self.parsed()).collect::<Option<_>>()?;
        Some(Rule { methods, paths, when: When::default() })
    }

    fn binding(&mut self, first_line: u32) -> Option<RoleBinding> {
        Some(RoleBinding {
            enforce: self.enforce()?,
            role: self.spanned("/role", first_line, Self::parsed)?,
            subjects: self.list("/subjects", first_line, Self::subject)?,
        })
    }

    fn subject(&mut self) -> Option<Subject> {
        Some(match self.number()? {
            USER => Subject::User(self.text()?.to_owned()),
            API_KEY => Subject::ApiKey(self.parsed()?),
            claims => {
                let claim = |_| Some((self.text()?.to_owned(), self.claim()?));
                Subject::Claim((CLAIMS..claims).map(claim).collect::<Option<_>>()?)
            }
        })
    }

    fn claim(&mut self) -> Option<ClaimValue> {
        Some(match self.number()? {
            STR => ClaimValue::Str(self.text()?.to_owned()),
            INT => {
                let (number, rest) = self.rest.split_first_chunk()?;
                self.rest = rest;
                ClaimValue::Int(i64::from_le_bytes(*number))
            }
            truth => ClaimValue::Bool(truth != 0),
        })
    }

    fn list<T>(&mut self, pointer: &str, first_line: u32, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<Spanned<T>>> {
        (0..self.number()?).map(|at| self.spanned(&below(pointer, &at.to_string()), first_line, &read)).collect()
    }

    fn spanned<T>(&mut self, usual: &str, first_line: u32, read: impl Fn(&mut Self) -> Option<T>) -> Option<Spanned<T>> {
        let span = self.place(first_line)?;
        let pointer = match self.text()? {
            "" => usual,
            other => other,
        };
        Some(Spanned { span, pointer: pointer.into(), value: read(self)? })
    }

    fn place(&mut self, first_line: u32) -> Option<Span> {
        let (line, column) = (u32::try_from(self.number()?).ok()?, u32::try_from(self.number()?).ok()?);
        Some(Span { line: first_line.wrapping_add(line), column })
    }

    fn parsed<T: FromStr>(&mut self) -> Option<T> {
        self.text()?.parse().ok()
    }

    fn enforce(&mut self) -> Option<Enforce> {
        self.truth().map(|is_shadow| if is_shadow { Enforce::Shadow } else { Enforce::Enforce })
    }

    fn truth(&mut self) -> Option<bool> {
        self.number().map(|truth| truth != 0)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.number()?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        std::str::from_utf8(text).ok()
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = 0;
        for shift in (0..usize::BITS).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::declared::read_file;

    /// Everything a role or a binding of a tenant can say.
    const TEXT: &str = "\
# a comment before the first
kind: Role
tenant: acme
name: auditor
inherits: [reader, 'editor']
allow:
  - GET,PROPFIND /v1/items/{id}
  - { methods: ['*'], paths: [/v1/audit/**, /v1/items, /] }
deny: [DELETE /v1/items/**]
---
{ kind: RoleBinding, tenant: acme, name: some, role: auditor, subjects: [ { user: 'ä, \"b\"' }, { api_key: ci-1 },
  { claim: { groups: audit, level: -3, far: 9223372036854775807, mfa: true, old: false, empty: '' } } ] }
---
kind: Role
tenant: acme
name: nothing
";

    fn packable(text: &str) -> Vec<Arc<Document>> {
        let mut read = read_file("all.yaml", text);
        assert!(read.diagnostics.is_empty(), "{:?}", read.diagnostics);
        read.documents.sort_by(|a, b| a.id.cmp(&b.id));
        read.documents.retain(|document| can_be_packed(document));
        read.documents
    }

    #[test]
    fn what_is_packed_reads_as_it_was() {
        let documents = packable(TEXT);
        assert_eq!(documents.len(), 3);
        let packed = Packed::of(&"acme".parse().unwrap(), documents.iter().map(|document| &**document));
        let again: Vec<Arc<Document>> = packed.documents().collect();
        // Equality leaves out places; what is shown does not.
        assert_eq!(format!("{again:#?}"), format!("{documents:#?}"));
    }

    #[test]
    fn what_has_no_room_in_it_is_not_packed() {
        let conditions = "
kind: Role
tenant: acme
name: r
allow: [{ methods: [GET], paths: [/a], when: { source: [10.0.0.0/8] } }]
---
kind: Role
name: platforms
---
kind: Tenant
tenant_id: acme
name: A
email: a@example.com
";
        assert_eq!(packable(conditions), []);
    }

    #[test]
    fn numbers_of_any_size_come_back() {
        for number in [0, 1, 127, 128, 300, u32::MAX as usize, usize::MAX] {
            let mut pen = Pen::default();
            pen.number(number);
            assert_eq!(Page { rest: &pen.bytes }.number(), Some(number));
        }
        assert_eq!(Page { rest: &[0x80] }.number(), None);
        assert_eq!(Page { rest: &[] }.number(), None);
    }
}
