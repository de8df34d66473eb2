//! Messages on the stream between a control plane and its sidecars: how an offer is cut, put together again and signed, and what each
//! message means here.
//!
//! Whatever a peer sends is an offer or a report within bounds, or a [`WireError`]; nothing here panics, and no message makes the reader
//! keep more than [`OFFER_BYTES_MAX`]. A document that this version cannot read is no error of the stream: it is broken, and named.

use crate::declared::{DocumentId, read_file};
use crate::diagnostic::{Diagnostic, Diagnostics, Span};
use crate::protocol::{Broken, Offer, Part, Put, Quarantined, Report, Serving};
use crate::snapshot::Epoch;
use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use std::sync::Arc;

#[expect(missing_docs, reason = "generated from proto/push.proto, which says what each message means")]
pub mod message {
    include!(concat!(env!("OUT_DIR"), "/bulkhead.push.v1.rs"));
}

pub mod frame;

/// Version of the protocol that this program speaks. A peer of another one is refused.
pub const PROTOCOL_VERSION: u32 = 1;
/// Path of the stream.
pub const FOLLOW: &str = "/bulkhead.push.v1.Push/Follow";
/// Path of the enrolment.
pub const ENROL: &str = "/bulkhead.push.v1.Push/Enrol";
/// Bytes of one message.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Bytes of the bodies of one chunk; a document that alone has more goes alone.
const BODY_BYTES: usize = 1 << 20;
/// Documents, removals and files of one chunk.
const BODY_ITEMS: usize = 1_000;
/// Bytes of all bodies of one offer.
pub const OFFER_BYTES_MAX: usize = 1 << 30;
/// Lines above a document that its places count.
const LINES_ABOVE_MAX: usize = 200_000;
/// Bytes of all diagnostics of one report.
const REPORT_BYTES: usize = 2 << 20;
/// Diagnostics that are told of one part.
const DIAGNOSTICS_MAX: usize = 20;
/// Parts that one report names.
const PARTS_MAX: usize = 10_000;

/// What a peer sent that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not a message.
    #[error("it is no message of this protocol")]
    Garbled,
    /// A field without which it means nothing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// Larger than anything that is sent.
    #[error("it has more than the {0} bytes or items allowed")]
    TooLarge(usize),
    /// A chunk that does not follow the one before.
    #[error("chunk {found} of an offer came where {expected} was to come")]
    Order {
        /// What was to come.
        expected: u32,
        /// What came.
        found: u32,
    },
    /// A chunk of another offer before the last one came.
    #[error("a chunk of another offer came in the middle of one")]
    Mixed,
    /// Another protocol.
    #[error("the peer speaks version {0} of the protocol, and this is version {PROTOCOL_VERSION}")]
    Version(u32),
}

/// An offer that came whole.
#[derive(Debug)]
pub struct Assembled {
    /// What it changes; its epoch is set.
    pub offer: Offer,
    /// Where it leads.
    pub epoch: Epoch,
    /// The state it starts from; `None`: it is everything there is.
    pub base: Option<Epoch>,
    /// What its signature is over.
    pub signed: Vec<u8>,
    /// As it came; empty: none.
    pub signature: Vec<u8>,
}

/// A document as it travels.
#[derive(Debug, Clone)]
pub struct Carried {
    /// Which.
    pub id: DocumentId,
    /// YAML or JSON, one document.
    pub text: Arc<str>,
    /// Where it stands.
    pub file: Arc<str>,
    /// Its first line there.
    pub line: u32,
}

/// An offer as it travels.
#[derive(Debug, Clone, Default)]
pub struct Parcel {
    /// New or changed documents.
    pub put: Vec<Carried>,
    /// Documents that are gone.
    pub remove: Vec<DocumentId>,
    /// What stands in files that documents name.
    pub files: Vec<(Arc<str>, Option<Bytes>)>,
}

/// Cuts an offer into chunks. The last one is without its signature, which is over what comes beside it.
#[must_use]
pub fn chunks(parcel: Parcel, base: Option<Epoch>, epoch: Epoch) -> (Vec<message::Chunk>, Vec<u8>) {
    let mut cut = Cut::default();
    for carried in parcel.put {
        let Carried { id, text, file, line } = carried;
        let document = message::Document { id: Some(id_message(&id)), text: text.to_string(), file: file.to_string(), line };
        cut.make_room(document.encoded_len());
        cut.body.put.push(document);
    }
    for id in &parcel.remove {
        let id = id_message(id);
        cut.make_room(id.encoded_len());
        cut.body.remove.push(id);
    }
    for (name, contents) in parcel.files {
        let file = message::File { name: name.to_string(), contents };
        cut.make_room(file.encoded_len());
        cut.body.files.push(file);
    }
    cut.close();
    let last = cut.bodies.len().saturating_sub(1);
    let (base_message, epoch_message) = (base.map(epoch_to), epoch_to(epoch));
    let mut digest = Sha256::new();
    let chunk = |(index, body): (usize, Bytes)| {
        digest.update(&body);
        message::Chunk {
            epoch: Some(epoch_message),
            base: base_message,
            // An offer within its bounds has far fewer chunks than a u32 counts.
            index: u32::try_from(index).unwrap_or(u32::MAX),
            is_last: index == last,
            body,
            signature: Vec::new(),
        }
    };
    let chunks = cut.bodies.into_iter().enumerate().map(chunk).collect();
    (chunks, signed(base, epoch, &digest.finalize()))
}

/// What a signature is over: the states an offer joins, and the digest of its bodies as they were sent.
fn signed(base: Option<Epoch>, epoch: Epoch, digest: &[u8]) -> Vec<u8> {
    let mut signed = b"bulkhead push v1\0".to_vec();
    for epoch in [base, Some(epoch)] {
        signed.push(u8::from(epoch.is_some()));
        let Epoch { incarnation, revision } = epoch.unwrap_or(Epoch { incarnation: 0, revision: 0 });
        signed.extend_from_slice(&incarnation.to_be_bytes());
        signed.extend_from_slice(&revision.to_be_bytes());
    }
    signed.extend_from_slice(digest);
    signed
}

/// Bodies that are being filled.
#[derive(Default)]
struct Cut {
    bodies: Vec<Bytes>,
    body: message::ChunkBody,
    bytes: usize,
    items: usize,
}

impl Cut {
    fn make_room(&mut self, bytes: usize) {
        if self.items >= BODY_ITEMS || (self.items > 0 && self.bytes + bytes > BODY_BYTES) {
            self.close();
        }
        self.bytes += bytes;
        self.items += 1;
    }

    fn close(&mut self) {
        let body = std::mem::take(&mut self.body);
        self.bodies.push(body.encode_to_vec().into());
        (self.bytes, self.items) = (0, 0);
    }
}

/// Puts chunks together.
#[derive(Debug, Default)]
pub struct Assembler {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    epoch: Epoch,
    base: Option<Epoch>,
    next: u32,
    bytes: usize,
    digest: Sha256,
    offer: Offer,
}

impl Assembler {
    /// Takes the next chunk; gives the offer with its last one. After an error it waits for the beginning of another offer.
    ///
    /// # Errors
    /// What is wrong with the chunk.
    pub fn take(&mut self, chunk: message::Chunk) -> Result<Option<Assembled>, WireError> {
        let open = self.open.take();
        let epoch = epoch_from(chunk.epoch.ok_or(WireError::Missing("epoch"))?);
        let base = chunk.base.map(epoch_from);
        let mut open = match open {
            None => Open { epoch, base, next: 0, bytes: 0, digest: Sha256::new(), offer: Offer::default() },
            Some(open) if open.epoch == epoch && open.base == base => open,
            Some(_) => return Err(WireError::Mixed),
        };
        if chunk.index != open.next {
            return Err(WireError::Order { expected: open.next, found: chunk.index });
        }
        open.bytes = open.bytes.saturating_add(chunk.body.len());
        if open.bytes > OFFER_BYTES_MAX {
            return Err(WireError::TooLarge(OFFER_BYTES_MAX));
        }
        open.digest.update(&chunk.body);
        open.next = open.next.saturating_add(1);
        open.add(message::ChunkBody::decode(chunk.body).map_err(|_| WireError::Garbled)?)?;
        if !chunk.is_last {
            self.open = Some(open);
            return Ok(None);
        }
        let Open { epoch, base, digest, mut offer, .. } = open;
        offer.complete = base.is_none();
        offer.epoch = Some(epoch);
        Ok(Some(Assembled { offer, epoch, base, signed: signed(base, epoch, &digest.finalize()), signature: chunk.signature }))
    }
}

impl Open {
    fn add(&mut self, body: message::ChunkBody) -> Result<(), WireError> {
        // What is small on the wire and large here is bounded by its number.
        if body.put.len() + body.remove.len() + body.files.len() > BODY_ITEMS {
            return Err(WireError::TooLarge(BODY_ITEMS));
        }
        for document in body.put {
            let written = document.id.clone().ok_or(WireError::Missing("id"))?;
            match id_from(&written) {
                Some(id) => match read(&id, &document) {
                    Ok(put) => self.offer.put.push(put),
                    Err(broken) => self.offer.broken.push(broken),
                },
                None => self.offer.broken.push(unknown(&written, &document)),
            }
        }
        for id in body.remove {
            // What this version does not know it never had.
            self.offer.remove.extend(id_from(&id));
        }
        self.offer.files.extend(body.files.into_iter().map(|file| {
            let contents = file.contents.map(|contents| Arc::from(&*contents));
            (Arc::from(file.name), contents)
        }));
        Ok(())
    }
}

/// The document that a message carries.
fn read(id: &DocumentId, document: &message::Document) -> Result<Put, Broken> {
    Put::read(id, &document.file, document.line, &document.text).map_err(|diagnostics| Broken {
        file: document.file.as_str().into(),
        id: Some(id.clone()),
        diagnostics,
    })
}

impl Put {
    /// A document from its text alone; places in it are those of the file it stands in, where it begins on `line`.
    ///
    /// # Errors
    /// What is wrong with it: it was written for another version of this program, or is another document.
    pub fn read(id: &DocumentId, file: &str, line: u32, text: &str) -> Result<Self, Diagnostics> {
        // Beyond that, places are told as if it stood there: each line above costs a byte of memory, and who sends it chooses the line.
        let above = usize::try_from(line.saturating_sub(1)).unwrap_or(0).min(LINES_ABOVE_MAX);
        let placed = format!("{}{text}", "\n".repeat(above));
        let read = read_file(file, &placed);
        match read.documents.into_iter().next() {
            Some(document) if document.id == *id => Ok(Put { document, text: text.into() }),
            Some(document) => {
                let mut mistakes = read.diagnostics;
                mistakes.push(mistake(file, line, format!("the text of {id} holds {}", document.id), Some(id.to_string())));
                Err(mistakes)
            }
            None if read.diagnostics.is_empty() => {
                let mut mistakes = Diagnostics::new();
                mistakes.push(mistake(file, line, format!("the text of {id} holds no document"), Some(id.to_string())));
                Err(mistakes)
            }
            None => Err(read.diagnostics),
        }
    }
}

/// A document of which not even the identity can be read: of a kind, for example, that a newer version has.
fn unknown(id: &message::DocumentId, document: &message::Document) -> Broken {
    let mut diagnostics = Diagnostics::new();
    let what = format!("this version knows no document `{} {}/{}`", id.kind, id.tenant, id.name);
    diagnostics.push(mistake(&document.file, document.line, what, None));
    Broken { file: document.file.as_str().into(), id: None, diagnostics }
}

fn mistake(file: &str, line: u32, message: String, document: Option<String>) -> Diagnostic {
    Diagnostic {
        file: file.into(),
        span: Span { line, column: 1 },
        document: document.map(Into::into),
        pointer: "".into(),
        message,
        expected: None,
        found: None,
        hint: Some("run the same version on both planes".to_owned()),
    }
}

/// An epoch as it travels.
#[must_use]
pub fn epoch_to(epoch: Epoch) -> message::Epoch {
    message::Epoch { incarnation: epoch.incarnation, revision: epoch.revision }
}

/// An epoch that came.
#[must_use]
pub fn epoch_from(epoch: message::Epoch) -> Epoch {
    Epoch { incarnation: epoch.incarnation, revision: epoch.revision }
}

fn id_message(id: &DocumentId) -> message::DocumentId {
    let tenant = id.tenant.as_ref().map(ToString::to_string).unwrap_or_default();
    message::DocumentId { kind: id.kind.as_str().to_owned(), tenant, name: id.name.to_string() }
}

fn id_from(id: &message::DocumentId) -> Option<DocumentId> {
    let tenant = match id.tenant.as_str() {
        "" => None,
        tenant => Some(tenant.parse().ok()?),
    };
    Some(DocumentId { kind: id.kind.parse().ok()?, tenant, name: id.name.parse().ok()? })
}

/// A report as it travels, within bounds.
#[must_use]
pub fn report_to(report: &Report) -> message::Report {
    let parts = |parts: &[Part]| parts.iter().take(PARTS_MAX).map(part_to).collect();
    // Which parts are held is told of all of them; why, as long as the message has room.
    let mut room = REPORT_BYTES;
    let quarantined = |quarantined: &Quarantined| {
        let mut diagnostics = Vec::new();
        for diagnostic in quarantined.diagnostics.iter().take(DIAGNOSTICS_MAX).map(diagnostic_to) {
            let bytes = diagnostic.encoded_len();
            if bytes > room {
                break;
            }
            room -= bytes;
            diagnostics.push(diagnostic);
        }
        message::Quarantined {
            part: Some(part_to(&quarantined.part)),
            serves_last_good: quarantined.serving == Serving::LastGood,
            diagnostics,
        }
    };
    message::Report {
        epoch: Some(epoch_to(report.epoch)),
        accepted: parts(&report.accepted),
        gone: parts(&report.gone),
        quarantined: report.quarantined.iter().take(PARTS_MAX).map(quarantined).collect(),
    }
}

/// A report that came.
///
/// # Errors
/// What is missing in it.
pub fn report_from(report: message::Report) -> Result<Report, WireError> {
    let parts = |parts: Vec<message::Part>| parts.into_iter().take(PARTS_MAX).map(part_from).collect::<Result<Vec<_>, _>>();
    let quarantined = |quarantined: message::Quarantined| {
        let mut diagnostics = Diagnostics::new();
        quarantined.diagnostics.into_iter().take(DIAGNOSTICS_MAX).for_each(|diagnostic| diagnostics.push(diagnostic_from(diagnostic)));
        Ok(Quarantined {
            part: part_from(quarantined.part.ok_or(WireError::Missing("part"))?)?,
            diagnostics,
            serving: if quarantined.serves_last_good { Serving::LastGood } else { Serving::Held },
        })
    };
    Ok(Report {
        epoch: epoch_from(report.epoch.ok_or(WireError::Missing("epoch"))?),
        accepted: parts(report.accepted)?,
        gone: parts(report.gone)?,
        quarantined: report.quarantined.into_iter().take(PARTS_MAX).map(quarantined).collect::<Result<_, WireError>>()?,
    })
}

fn part_to(part: &Part) -> message::Part {
    use message::part::Part as Said;
    let said = match part {
        Part::Platform => Said::Platform(message::Platform {}),
        Part::Tenant(tenant) => Said::Tenant(tenant.to_string()),
        Part::File(file) => Said::File(file.to_string()),
    };
    message::Part { part: Some(said) }
}

fn part_from(part: message::Part) -> Result<Part, WireError> {
    use message::part::Part as Said;
    match part.part.ok_or(WireError::Missing("part"))? {
        Said::Platform(_) => Ok(Part::Platform),
        Said::Tenant(tenant) => tenant.parse().map(Part::Tenant).map_err(|_| WireError::Garbled),
        Said::File(file) => Ok(Part::File(file.into())),
    }
}

fn diagnostic_to(diagnostic: &Diagnostic) -> message::Diagnostic {
    message::Diagnostic {
        file: diagnostic.file.to_string(),
        line: diagnostic.span.line,
        column: diagnostic.span.column,
        document: diagnostic.document.as_deref().map(str::to_owned),
        pointer: diagnostic.pointer.to_string(),
        message: diagnostic.message.clone(),
        expected: diagnostic.expected.clone(),
        found: diagnostic.found.clone(),
        hint: diagnostic.hint.clone(),
    }
}

fn diagnostic_from(diagnostic: message::Diagnostic) -> Diagnostic {
    Diagnostic {
        file: diagnostic.file.into(),
        span: Span { line: diagnostic.line, column: diagnostic.column },
        document: diagnostic.document.map(Into::into),
        pointer: diagnostic.pointer.into(),
        message: diagnostic.message,
        expected: diagnostic.expected,
        found: diagnostic.found,
        hint: diagnostic.hint,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
