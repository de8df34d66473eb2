//! One file of documents: its bytes within bounds, and the documents in it, each once.

use bulkhead_config::compile::files_of;
use bulkhead_config::declared::{self, DocumentId, Origin};
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics, Span};
use bulkhead_config::protocol::Put;
use bulkhead_config::text;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a file that documents name: hundreds of keys or certificates.
pub(crate) const KEY_FILE_BYTES_MAX: usize = 1 << 20;

/// What tells two contents apart.
pub(crate) type Digest = [u8; 32];

/// SHA-256 of a content.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    digest
}

/// What one file declares.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Its documents without mistakes, each identity once.
    pub(crate) puts: Vec<Put>,
    /// Documents that are there, with mistakes.
    pub(crate) broken: Vec<DocumentId>,
    /// Every mistake.
    pub(crate) mistakes: Diagnostics,
    /// Whether a document that is missing may be there all the same.
    pub(crate) hides: bool,
}

/// The bytes of a regular file, at most `most`.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn bytes(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    // A pipe of that name would be waited for: look first, and do not wait should it have changed since.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0).min(most));
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other(format!("it has more than the {most} bytes allowed")));
    }
    Ok(bytes)
}

/// The documents in a file's bytes.
pub(crate) fn parse(shown: &Arc<str>, bytes: &[u8]) -> Contents {
    let text = match text::utf8(bytes) {
        Ok(text) => text,
        Err(mistake) => return Contents::unreadable(mistake.in_file(shown, None)),
    };
    let file = declared::read_file(shown, text);
    let texts: Vec<Arc<str>> = file.texts(text).map(|(_, text)| text.into()).collect();
    let puts = file.documents.into_iter().zip(texts).map(|(document, text)| Put { document, text }).collect();
    // A file that was written half ends in some mistake or other, so with any mistake the rest may be missing by accident.
    let hides = file.truncated || !file.diagnostics.is_empty();
    Contents { puts, broken: file.broken, mistakes: file.diagnostics, hides }
}

/// Whether a mistake stands in a document.
pub(crate) fn is_about(mistake: &Diagnostic, id: &DocumentId) -> bool {
    mistake.document.as_deref().is_some_and(|document| document == id.to_string())
}

/// A mistake of a whole file.
pub(crate) fn mistake(file: &Arc<str>, message: String, hint: &str) -> Diagnostic {
    let span = Span { line: 1, column: 1 };
    let hint = Some(hint.to_owned());
    Diagnostic { file: Arc::clone(file), span, document: None, pointer: "".into(), message, expected: None, found: None, hint }
}

/// That a document is declared in several places: none of them counts, or the order of reading would decide.
pub(crate) fn rivalry(id: &DocumentId, origin: &Origin, elsewhere: &[Origin]) -> Diagnostic {
    let mut others: Vec<String> = elsewhere.iter().map(|other| format!("{}:{}", other.file, other.span.line)).collect();
    others.sort();
    Diagnostic {
        span: origin.span,
        document: Some(id.to_string().into()),
        ..mistake(
            &origin.file,
            format!("the same document stands in {} too", others.join(", ")),
            "keep one of them, or give it another name",
        )
    }
}

impl Contents {
    /// Of a file that could not be read at all.
    pub(crate) fn unreadable(mistake: Diagnostic) -> Self {
        let mut mistakes = Diagnostics::new();
        mistakes.push(mistake);
        Contents { hides: true, mistakes, ..Contents::default() }
    }

    /// Names of the files that the documents refer to, as the compiled policy asks for them.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.puts.iter().flat_map(|put| files_of(&put.document)).map(|named| named.file).collect()
    }
}
