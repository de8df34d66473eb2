//! The documents of one part as they were written: what is compared, kept and, when a version is taken back, read again.

use bulkhead_config::declared::DocumentId;
use bulkhead_config::diagnostic::Diagnostics;
use bulkhead_config::protocol::Put;
use std::sync::Arc;

/// One document as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) id: DocumentId,
    /// The file it stood in.
    pub(crate) file: Arc<str>,
    /// The line it began on.
    pub(crate) line: u32,
    pub(crate) text: Arc<str>,
}

/// All documents of one part, by identity. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Texts(Arc<[Text]>);

impl Text {
    /// What an offer brought.
    pub(crate) fn of(put: &Put) -> Self {
        let origin = &put.document.origin;
        Text { id: put.document.id.clone(), file: Arc::clone(&origin.file), line: origin.span.line, text: Arc::clone(&put.text) }
    }

    /// Reads the document again; places in it are those of the file it stood in.
    ///
    /// # Errors
    /// What is wrong with it: it was written for another version of this program.
    pub(crate) fn read(&self) -> Result<Put, Diagnostics> {
        Put::read(&self.id, &self.file, self.line, &self.text)
    }
}

/// The same document, wherever it stands.
impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.text == other.text
    }
}

impl Texts {
    /// Sorts them; of one identity the last counts.
    pub(crate) fn new(mut texts: Vec<Text>) -> Self {
        texts.reverse();
        texts.sort_by(|a, b| a.id.cmp(&b.id));
        texts.dedup_by(|a, b| a.id == b.id);
        Texts(texts.into())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Text> {
        self.0.iter()
    }

    pub(crate) fn has(&self, id: &DocumentId) -> bool {
        self.0.binary_search_by(|text| text.id.cmp(id)).is_ok()
    }

    /// Whether each of them stands in the same file as its like.
    pub(crate) fn stand_like(&self, other: &Texts) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.iter().map(|text| &text.file).eq(other.iter().map(|text| &text.file))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same documents but for these.
    pub(crate) fn with(&self, put: impl IntoIterator<Item = Text>, remove: &[&DocumentId]) -> Self {
        let kept = self.iter().filter(|text| !remove.contains(&&text.id)).cloned();
        Texts::new(kept.chain(put).collect())
    }
}

impl PartialEq for Texts {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}
