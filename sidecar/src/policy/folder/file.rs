//! One file of documents: its bytes within bounds, and the documents in it, each once.

use super::list::Stamp;
use bulkhead_config::compile::files_of;
use bulkhead_config::declared::{self, DocumentId, Origin};
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics, Span};
use bulkhead_config::protocol::Put;
use bulkhead_config::text::{self, Budget};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;

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

/// A file to be read, because it may have changed.
pub(crate) struct Due<'p> {
    pub(crate) path: &'p Path,
    pub(crate) stamp: Stamp,
    /// As the user named the folder, and the path within it.
    pub(crate) shown: Arc<str>,
    /// What it held when it was read last.
    pub(crate) known: Option<Digest>,
}

/// What a reading found.
pub(crate) struct Reading {
    /// `None`: it could not be read.
    pub(crate) digest: Option<Digest>,
    /// `None`: it is what it was.
    pub(crate) contents: Option<Contents>,
}

/// Threads that read many files. The folder's own is one of them.
const READERS_MAX: usize = 4;
/// Files for which it is worth to start one.
const PER_READER: usize = 8;

/// Reads files, each for itself: what they cost is parsing, so it is shared by as many threads as there are CPUs.
pub(crate) fn read_all(due: &[Due<'_>]) -> Vec<Reading> {
    let cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let readers = cpus.min(READERS_MAX).min(due.len() / PER_READER).max(1);
    let share = due.len().div_ceil(readers).max(1);
    let (own, others) = due.split_at(share.min(due.len()));
    thread::scope(|scope| {
        let others: Vec<_> = others.chunks(share).map(|some| (some, scope.spawn(|| read_some(some)))).collect();
        let mut all = read_some(own);
        for (some, reader) in others {
            // A reader that failed on a defect of ours fails here again, where it is told.
            all.extend(reader.join().unwrap_or_else(|_| read_some(some)));
        }
        all
    })
}

fn read_some(due: &[Due<'_>]) -> Vec<Reading> {
    due.iter().map(read).collect()
}

fn read(due: &Due<'_>) -> Reading {
    let bytes = match bytes(due.path, Budget::FILE.bytes) {
        Ok(bytes) => bytes,
        Err(why) => return Reading { digest: None, contents: Some(Contents::unreadable(unreadable(&due.shown, &why.to_string()))) },
    };
    let digest = Some(digest(&bytes));
    let contents = match &*bytes {
        _ if due.known == digest => None,
        // Emptied by a save in progress, a full disk or a power cut far more often than on purpose.
        [] => Some(Contents::unreadable(empty(&due.shown))),
        bytes => Some(parse(&due.shown, bytes)),
    };
    Reading { digest, contents }
}

/// The documents in a file's bytes.
pub(crate) fn parse(shown: &Arc<str>, bytes: &[u8]) -> Contents {
    let text = match text::utf8(bytes) {
        Ok(text) => text,
        Err(mistake) => return Contents::unreadable(mistake.in_file(shown, None)),
    };
    let file = declared::read_file(shown, text);
    let texts: Vec<Arc<str>> = file.texts(text).map(|(_, text)| text.into()).collect();
    // Of ten thousand tenants with twenty roles each, all are held here at once.
    let puts = file.documents.into_iter().zip(texts).map(|(document, text)| Put { document: document.packed(), text }).collect();
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

/// That a file cannot be read.
pub(crate) fn unreadable(shown: &Arc<str>, why: &str) -> Diagnostic {
    mistake(shown, format!("it cannot be read: {why}"), "what was read from it before is kept until it can be read or is deleted")
}

/// That nothing stands in it.
fn empty(shown: &Arc<str>) -> Diagnostic {
    mistake(shown, "the file is empty".to_owned(), "what it held is kept; delete the file if it shall hold nothing")
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
