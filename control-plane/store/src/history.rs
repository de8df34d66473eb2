//! Keys of what a document was: `/history/KIND/TENANT/NAME/NUMBER`.
//!
//! They are entries like all others, written in the change set of their document, so no compaction forgets them. The number is the change
//! set's own ([`crate::change_set::Head`]): known before it is committed, and the same on every engine. It is written with all its digits,
//! so that a document's past reads in its order.

use crate::model::{Key, Keys};

const ROOT: &str = "/history";
/// Stands for the tenant of what is platform-wide. No tenant's name begins with it.
const PLATFORM: &str = "-";
/// Digits of the largest number.
const DIGITS: usize = 20;

/// A document, as history names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document<'a> {
    /// Its kind.
    pub kind: &'a str,
    /// Its tenant; none when it is platform-wide.
    pub tenant: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
}

impl Document<'_> {
    /// What it was after the change set of this number.
    pub fn after(&self, number: u64) -> Key {
        Key::from(format!("{}{number:0DIGITS$}", self.folder()))
    }

    /// All that it was, oldest first.
    pub fn all(&self) -> Keys {
        Keys::prefix(self.folder())
    }

    fn folder(&self) -> String {
        let tenant = self.tenant.map_or_else(|| PLATFORM.to_owned(), segment);
        format!("{ROOT}/{}/{tenant}/{}/", segment(self.kind), segment(self.name))
    }
}

/// The number of the change set that a key of history belongs to.
pub fn number(key: &Key) -> Option<u64> {
    let text = std::str::from_utf8(key.as_bytes()).ok()?;
    let digits = text.strip_prefix(ROOT)?.rsplit_once('/')?.1;
    if digits.len() == DIGITS { digits.parse().ok() } else { None }
}

/// A name that may hold what separates names.
fn segment(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: Document<'_> = Document { kind: "Role", tenant: Some("acme"), name: "reader" };

    #[test]
    fn the_past_of_a_document_reads_in_its_order() {
        let keys = [9, 10, 100, u64::MAX].map(|number| ROLE.after(number));
        assert!(keys.is_sorted());
        assert_eq!(keys.first().map(Key::to_string).as_deref(), Some("/history/Role/acme/reader/00000000000000000009"));
        assert_eq!(keys.each_ref().map(number), [9, 10, 100, u64::MAX].map(Some));
        assert!(keys.iter().all(|key| ROLE.all().contain(key)));
    }

    #[test]
    fn no_document_reads_the_past_of_another() {
        let others = [
            Document { name: "reader2", ..ROLE },
            Document { name: "reader/1", ..ROLE },
            Document { name: "reader%2F1", ..ROLE },
            Document { tenant: None, ..ROLE },
            Document { tenant: Some("acme/reader"), name: "x", ..ROLE },
            Document { kind: "RoleBinding", ..ROLE },
        ];
        for (place, other) in others.iter().enumerate() {
            assert!(!ROLE.all().contain(&other.after(1)), "{other:?}");
            assert!(others.iter().skip(place.saturating_add(1)).all(|next| next.after(1) != other.after(1)), "{other:?}");
        }
        assert_eq!(number(&Key::from("/history/Role/acme/reader/9")), None);
        assert_eq!(number(&Key::from("/elsewhere/00000000000000000009")), None);
    }
}
