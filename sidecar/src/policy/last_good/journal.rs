//! The ledger on disk: `DIR/policy/journal`, one line for each new state of a part, the last line of a part counts.
//!
//! A line is the SHA-256 of its record in hex, a space, and the record as JSON: whole on its own, so damage costs the lines it
//! hits, and a line is trusted for its hash alone. Lines are written before what they tell of is served and synchronised
//! right after: a process that dies loses nothing it wrote, and a machine that dies loses at most the last lines, after which
//! the part counts as changed while nothing ran. The journal is rewritten without what is superseded when it has grown, but
//! keeps for ten minutes what each change replaced.

use super::ledger::{Entry, Phase, Trial};
use super::texts::{Text, Texts};
use bulkhead_config::declared::{DocumentId, Kind};
use bulkhead_config::protocol::Part;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, IntoInnerError, Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Version of the records.
const VERSION: u64 = 1;
/// Longest line that is read: more than the documents of any part, before and after a change.
const LINE_BYTES_MAX: u64 = 256 << 20;
/// Damaged lines after which the rest is not read: this is no journal of ours.
const DAMAGE_MAX: usize = 100;
/// A journal below this is not worth rewriting.
const SMALL_BYTES: u64 = 1 << 20;
/// How long what a change replaced stays in the journal.
const KEPT: Duration = Duration::from_secs(600);
/// Growth at which a journal is rewritten even though changes never pause for [`KEPT`].
const GROWTH_MAX: u64 = 16;

/// What one line tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) part: Part,
    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) at_ms: u64,
    /// The revision it belongs to.
    pub(crate) revision: u64,
    /// `None`: it is declared no more.
    pub(crate) entry: Option<Entry>,
}

/// What a journal held when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) records: Vec<Record>,
    /// What could not be trusted, and where, for people.
    pub(crate) damage: Vec<String>,
}

/// The file.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// `None`: nothing can be appended, the next write makes it anew.
    file: Option<File>,
    bytes: u64,
    /// What it would have after rewriting, when it was last known.
    live_bytes: u64,
    last_ms: u64,
}

impl Journal {
    /// Opens the journal in a folder, and reads what is there. A damaged one is set aside as `journal.damaged`; what its hashes
    /// prove is returned, and the next write makes it anew.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn open(folder: &Path) -> io::Result<(Self, Recovered)> {
        let path = folder.join("journal");
        let mut recovered = Recovered::default();
        let mut bytes = 0;
        match File::open(&path) {
            Ok(file) => bytes = read(file, &mut recovered)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => recovered.damage.push(error.to_string()),
        }
        let mut journal = Self { path, file: None, bytes, live_bytes: bytes, last_ms: 0 };
        if recovered.damage.is_empty() {
            journal.file = Some(append_to(&journal.path)?);
        } else if journal.path.exists() {
            fs::rename(&journal.path, journal.path.with_extension("damaged"))?;
        }
        Ok((journal, recovered))
    }

    /// Writes records behind the others. They survive this process from here on.
    ///
    /// # Errors
    /// When they cannot be written; the next call of [`Journal::rewrite`] repairs the file.
    pub(crate) fn append(&mut self, records: impl IntoIterator<Item = Record>) -> io::Result<()> {
        let mut lines = Vec::new();
        for record in records {
            self.last_ms = self.last_ms.max(record.at_ms);
            line(&record, &mut lines);
        }
        let written = self
            .file
            .as_mut()
            .ok_or_else(|| io::Error::other("the journal has to be written anew"))
            .and_then(|file| file.write_all(&lines));
        if written.is_err() {
            // What stands there may be half a line.
            self.file = None;
        }
        self.bytes += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        written
    }

    /// Makes what was appended survive the machine.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), |file| file.sync_data())
    }

    /// Lets go of the file: it is another process's, until [`Journal::rewrite`] makes it anew.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    /// Whether it is time to rewrite.
    pub(crate) fn is_overgrown(&self, now_ms: u64) -> bool {
        let quiet = now_ms.saturating_sub(self.last_ms) > u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        let growth = self.bytes / self.live_bytes.max(SMALL_BYTES);
        self.file.is_none() || (growth >= 2 && quiet) || growth >= GROWTH_MAX
    }

    /// Replaces everything by these records. Until it is done the old file counts, afterwards the new one.
    ///
    /// # Errors
    /// When it cannot be written; the old file stays.
    pub(crate) fn rewrite(&mut self, records: impl IntoIterator<Item = Record>) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = BufWriter::new(create(&new)?);
        let (mut bytes, mut buffer) = (0, Vec::new());
        for record in records {
            buffer.clear();
            line(&record, &mut buffer);
            file.write_all(&buffer)?;
            bytes += u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        }
        file.into_inner().map_err(IntoInnerError::into_error)?.sync_data()?;
        fs::rename(&new, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        (self.bytes, self.live_bytes) = (bytes, bytes);
        self.file = Some(append_to(&self.path)?);
        Ok(())
    }
}

/// Documents are nobody else's business: they hold hashes of keys and names of customers.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Reads every line, as far as hashes prove them. The bytes of the file.
fn read(file: File, recovered: &mut Recovered) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let (mut line, mut number, mut total) = (Vec::new(), 0_u64, 0);
    loop {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(total);
        }
        total += u64::try_from(read).unwrap_or(u64::MAX);
        number += 1;
        match parse(&line) {
            Ok(record) => recovered.records.push(record),
            Err(why) => recovered.damage.push(format!("line {number} {why}")),
        }
        if recovered.damage.len() >= DAMAGE_MAX {
            recovered.damage.push("what follows is not read".to_owned());
            return Ok(total);
        }
    }
}

/// One line, if its hash proves it and it is understood.
fn parse(line: &[u8]) -> Result<Record, &'static str> {
    let line = line.strip_suffix(b"\n").ok_or("was not written to its end")?;
    let (hash, record) = line.split_at_checked(64).ok_or("is damaged")?;
    let record = record.strip_prefix(b" ").ok_or("is damaged")?;
    if hash != hex(record).as_bytes() {
        return Err("is damaged");
    }
    let value: Value = serde_json::from_slice(record).map_err(|_| "is not understood")?;
    if value.get("version").and_then(Value::as_u64) != Some(VERSION) {
        return Err("was written by another version of this program");
    }
    record_of(&value).ok_or("is not understood")
}

/// Writes one line behind others.
fn line(record: &Record, lines: &mut Vec<u8>) {
    let json = json_of(record).to_string();
    lines.extend_from_slice(hex(json.as_bytes()).as_bytes());
    lines.push(b' ');
    lines.extend_from_slice(json.as_bytes());
    lines.push(b'\n');
}

fn hex(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut hex = String::with_capacity(64);
    for byte in digest.as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn json_of(record: &Record) -> Value {
    let mut value = json!({ "version": VERSION, "at": record.at_ms, "revision": record.revision, "part": part_json(&record.part) });
    if let (Some(entry), Some(map)) = (&record.entry, value.as_object_mut()) {
        map.insert("good".to_owned(), entry.good.as_ref().map_or(Value::Null, texts_json));
        map.insert("trial".to_owned(), entry.trial.as_ref().map_or(Value::Null, trial_json));
    }
    value
}

fn record_of(value: &Value) -> Option<Record> {
    let entry = match value.get("good") {
        None => None,
        Some(good) => Some(Entry { good: optional(good, texts_of)?, trial: optional(value.get("trial")?, trial_of)? }),
    };
    let part = part_of(value.get("part")?)?;
    Some(Record { part, at_ms: value.get("at")?.as_u64()?, revision: value.get("revision")?.as_u64()?, entry })
}

/// What `null` or a value means; the outer `None`: it is not understood.
fn optional<T>(value: &Value, of: impl Fn(&Value) -> Option<T>) -> Option<Option<T>> {
    if value.is_null() { Some(None) } else { of(value).map(Some) }
}

fn part_json(part: &Part) -> Value {
    match part {
        Part::Platform => json!("platform"),
        Part::Tenant(tenant) => json!({ "tenant": tenant.as_str() }),
        Part::File(file) => json!({ "file": &**file }),
    }
}

fn part_of(value: &Value) -> Option<Part> {
    if value.as_str() == Some("platform") {
        return Some(Part::Platform);
    }
    value.get("tenant")?.as_str()?.parse().ok().map(Part::Tenant)
}

fn trial_json(trial: &Trial) -> Value {
    let together = match trial.phase {
        Phase::Withheld { together } => together,
        Phase::Retried { together } => Some(together),
        Phase::Probation | Phase::Suspect | Phase::Condemned => None,
    };
    json!({ "phase": trial.phase.to_string(), "together": together.map(NonZeroUsize::get), "documents": texts_json(&trial.texts) })
}

fn trial_of(value: &Value) -> Option<Trial> {
    let together = value.get("together")?.as_u64().and_then(|count| NonZeroUsize::new(usize::try_from(count).ok()?));
    let phase = match value.get("phase")?.as_str()? {
        "probation" => Phase::Probation,
        "suspect" => Phase::Suspect,
        "withheld" => Phase::Withheld { together },
        "retried" => Phase::Retried { together: together? },
        "condemned" => Phase::Condemned,
        _ => return None,
    };
    Some(Trial::recorded(texts_of(value.get("documents")?)?, phase))
}

fn texts_json(texts: &Texts) -> Value {
    let document = |text: &Text| {
        json!({
            "kind": text.id.kind.as_str(),
            "tenant": text.id.tenant.as_ref().map(|tenant| tenant.as_str()),
            "name": text.id.name.as_str(),
            "file": &*text.file,
            "line": text.line,
            "text": &*text.text,
        })
    };
    texts.iter().map(document).collect()
}

fn texts_of(value: &Value) -> Option<Texts> {
    let document = |value: &Value| {
        let text = |name: &str| value.get(name)?.as_str();
        let kind = text("kind")?;
        let id = DocumentId {
            kind: Kind::ALL.into_iter().find(|known| known.as_str() == kind)?,
            tenant: optional(value.get("tenant")?, |tenant| tenant.as_str()?.parse().ok())?,
            name: text("name")?.parse().ok()?,
        };
        let line = u32::try_from(value.get("line")?.as_u64()?).ok()?;
        Some(Text { id, file: text("file")?.into(), line, text: text("text")?.into() })
    };
    value.as_array()?.iter().map(document).collect::<Option<Vec<_>>>().map(Texts::new)
}
