//! Roles and bindings of a tenant at rest: as bytes, without the nodes and places that they are read into, and all of it in them.
//!
//! They are by far the most of what many tenants declare, and nobody reads them between two changes. Text would do as well, but it
//! would have to be parsed, and a change of the platform compiles every tenant again.
//!
//! INVARIANT (what is packed reads as it was): unpacking gives the same document, places and pointers included. A document with
//! anything this form has no room for is not packed.

use super::role::{ClaimValue, When};
use super::{Body, Document, DocumentId, Enforce, Kind, Origin, Role, RoleBinding, Rule, Subject};
use crate::diagnostic::{Span, Spanned};
use crate::name::TenantId;
use crate::text::below;
use std::str::FromStr;
use std::sync::Arc;

/// What a role or a binding of a tenant declares; only [`Document::packed`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed(Box<[u8]>);

impl Document {
    /// The same, in less room where it is a tenant's role without conditions, or a tenant's binding.
    #[must_use]
    pub fn packed(self: &Arc<Self>) -> Arc<Document> {
        let mut pen = Pen { bytes: Vec::new(), first_line: self.origin.span.line };
        match &self.body {
            Body::Role(role) if self.id.tenant.is_some() && has_no_conditions(role) => pen.role(role),
            Body::RoleBinding(binding) if self.id.tenant.is_some() => pen.binding(binding),
            _ => return Arc::clone(self),
        }
        let body = Body::Packed(Packed(pen.bytes.into()));
        Arc::new(Document { id: self.id.clone(), origin: self.origin.clone(), body })
    }

    /// The same, as it was before it was packed.
    #[must_use]
    pub fn unpacked(self: &Arc<Self>) -> Arc<Document> {
        let Body::Packed(Packed(bytes)) = &self.body else { return Arc::clone(self) };
        let body = Page { rest: bytes, first_line: self.origin.span.line }.body(self.id.name.as_str());
        // By the invariant there is a body; the packed one stands for a defect, and no reader takes it for anything.
        let Some(body) = body else { return Arc::clone(self) };
        Arc::new(Document { id: self.id.clone(), origin: self.origin.clone(), body })
    }
}

fn has_no_conditions(role: &Role) -> bool {
    role.allow.iter().chain(&role.deny).all(|rule| rule.when == When::default())
}

/// Packed documents of one tenant, in the order of their identities, in one piece.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sheaf {
    tenant: TenantId,
    /// Files they stand in.
    files: Box<[Arc<str>]>,
    bytes: Box<[u8]>,
}

impl Sheaf {
    /// Those of these documents that are packed, all of them of `tenant`.
    pub(crate) fn of<'a>(tenant: &TenantId, documents: impl Iterator<Item = &'a Arc<Document>>) -> Self {
        let (mut files, mut pen) = (Vec::new(), Pen::default());
        for document in documents {
            let Body::Packed(Packed(body)) = &document.body else { continue };
            let Origin { file, span } = &document.origin;
            let known = files.iter().position(|known: &Arc<str>| known == file);
            pen.number(known.unwrap_or(files.len()));
            if known.is_none() {
                files.push(Arc::clone(file));
            }
            pen.place(*span);
            pen.text(document.id.name.as_str());
            pen.number(body.len());
            pen.bytes.extend_from_slice(body);
        }
        Self { tenant: tenant.clone(), files: files.into(), bytes: pen.bytes.into() }
    }

    /// The documents, unpacked.
    pub(crate) fn documents(&self) -> impl Iterator<Item = Arc<Document>> {
        let mut page = Page { rest: &self.bytes, first_line: 0 };
        std::iter::from_fn(move || {
            let file = self.files.get(page.number()?)?;
            let (span, name) = (page.place()?, page.text()?);
            let body = Page { rest: page.bytes()?, first_line: span.line }.body(name)?;
            let kind = if matches!(body, Body::Role(_)) { Kind::Role } else { Kind::RoleBinding };
            let id = DocumentId { kind, tenant: Some(self.tenant.clone()), name: name.parse().ok()? };
            Some(Arc::new(Document { id, origin: Origin { file: Arc::clone(file), span }, body }))
        })
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
    first_line: u32,
}

impl<'a> Page<'a> {
    fn body(&mut self, name: &str) -> Option<Body> {
        Some(match self.number()? {
            ROLE => Body::Role(Box::new(self.role(name)?)),
            _ => Body::RoleBinding(Box::new(self.binding()?)),
        })
    }

    fn role(&mut self, name: &str) -> Option<Role> {
        Some(Role {
            name: name.parse().ok()?,
            delegable: self.truth()?,
            enforce: self.enforce()?,
            inherits: self.list("/inherits", Self::parsed)?,
            allow: self.list("/allow", Self::rule)?,
            deny: self.list("/deny", Self::rule)?,
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

    fn binding(&mut self) -> Option<RoleBinding> {
        Some(RoleBinding {
            enforce: self.enforce()?,
            role: self.spanned("/role", Self::parsed)?,
            subjects: self.list("/subjects", Self::subject)?,
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

    fn list<T>(&mut self, pointer: &str, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<Spanned<T>>> {
        (0..self.number()?).map(|at| self.spanned(&below(pointer, &at.to_string()), &read)).collect()
    }

    fn spanned<T>(&mut self, usual: &str, read: impl Fn(&mut Self) -> Option<T>) -> Option<Spanned<T>> {
        let span = self.place()?;
        let pointer = match self.text()? {
            "" => usual,
            other => other,
        };
        Some(Spanned { span, pointer: pointer.into(), value: read(self)? })
    }

    fn place(&mut self) -> Option<Span> {
        let (line, column) = (u32::try_from(self.number()?).ok()?, u32::try_from(self.number()?).ok()?);
        Some(Span { line: self.first_line.wrapping_add(line), column })
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
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
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

    fn documents(text: &str) -> Vec<Arc<Document>> {
        let mut read = read_file("all.yaml", text);
        assert!(read.diagnostics.is_empty(), "{:?}", read.diagnostics);
        read.documents.sort_by(|a, b| a.id.cmp(&b.id));
        read.documents
    }

    fn is_packed(document: &Arc<Document>) -> bool {
        matches!(document.body, Body::Packed(_))
    }

    #[test]
    fn what_is_packed_reads_as_it_was() {
        let documents = documents(TEXT);
        let packed: Vec<Arc<Document>> = documents.iter().map(Document::packed).collect();
        assert!(packed.len() == 3 && packed.iter().all(is_packed), "{packed:?}");
        let unpacked: Vec<Arc<Document>> = packed.iter().map(Document::unpacked).collect();
        // Equality leaves out places; what is shown does not.
        assert_eq!(format!("{unpacked:#?}"), format!("{documents:#?}"));

        let sheaf = Sheaf::of(&"acme".parse().unwrap(), packed.iter());
        let unpacked: Vec<Arc<Document>> = sheaf.documents().collect();
        assert_eq!(format!("{unpacked:#?}"), format!("{documents:#?}"));
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
        assert!(documents(conditions).iter().all(|document| !is_packed(&document.packed())));
    }

    #[test]
    fn numbers_of_any_size_come_back() {
        for number in [0, 1, 127, 128, 300, u32::MAX as usize, usize::MAX] {
            let mut pen = Pen::default();
            pen.number(number);
            assert_eq!(Page { rest: &pen.bytes, first_line: 0 }.number(), Some(number));
        }
        assert_eq!(Page { rest: &[0x80], first_line: 0 }.number(), None);
        assert_eq!(Page { rest: &[], first_line: 0 }.number(), None);
    }
}
