//! The form of a backup: a `.tar.gz` of a manifest and of sealed members.
//!
//! ```text
//! manifest.json          format, store, revisions, schema, key; name, size and SHA-256 of each member
//! records-00000.sealed   records of the store, each behind its length; compressed, then sealed
//! ```
//! Compressed before they are sealed, since nothing sealed gets smaller. The manifest is in the clear, so that whoever has many backups can
//! tell them apart; all that a restore goes by is bound into the seal of every member, with its number and how many there are. So
//! members cannot be changed, left out, put in another order or under another manifest by anybody without the key.

use aws_lc_rs::digest::{SHA256, digest};
use bulkhead_config::seal::{CannotOpen, CannotSeal, Fingerprint, Key, Place, Sealed, WriterId};
use bulkhead_store::{Header, Identity, Record, Revision, Snapshot};
use bytes::{Buf, BufMut, Bytes};
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write as _};

/// The form that this version writes and reads. Another form has another number.
const FORMAT: u64 = 1;
const MANIFEST: &str = "manifest.json";
/// What a member holds of records before they are compressed; the last record may go beyond.
const MEMBER_BYTES: usize = 4 << 20;
/// What an archive has at most, unpacked: it is held in memory, on both sides of the API.
const ARCHIVE_BYTES_MAX: u64 = 250 << 20;
/// What of it are records; the rest is room for the manifest, heads of files and seals.
const RECORDS_BYTES_MAX: u64 = 240 << 20;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotWrite {
    #[error(transparent)]
    Store(#[from] bulkhead_store::Error),
    #[error(transparent)]
    Seal(#[from] CannotSeal),
    #[error("the system gives no random bytes")]
    NoRandom,
    #[error("the backup has more than {RECORDS_BYTES_MAX} bytes, the most that is written; stop the control plane and copy its store")]
    TooLarge,
    #[error("the backup cannot be packed")]
    Pack(#[from] io::Error),
}

/// Why a backup is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotRead {
    #[error("it is damaged: {0}; take another backup")]
    Damaged(String),
    #[error("it has format {0}, and this version reads {FORMAT}; restore it with the version that made it")]
    Format(u64),
    #[error("it is sealed with key {sealed}, and the key given is {given}; give that one: core.security.encryption_key, or --key-file")]
    OtherKey { sealed: Fingerprint, given: Fingerprint },
}

/// A backup, every hash and seal of it checked.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) header: Header,
    /// Records behind their lengths, in order.
    members: Vec<Bytes>,
}

/// Packs what a store held, sealed with a key.
pub(crate) fn write(snapshot: &Snapshot, key: &Key, made: &str) -> Result<Vec<u8>, CannotWrite> {
    let header = snapshot.header();
    let mut id = [0; WriterId::BYTES];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| CannotWrite::NoRandom)?;
    let writer = key.writer(WriterId::drawn(id));
    let packed = pack(snapshot)?;
    let mut members = Vec::with_capacity(packed.len());
    for (number, plain) in packed.iter().enumerate() {
        let bound = bound(&header, number, packed.len());
        members.push((name(number), writer.seal(&place(&bound), plain)?.into_bytes()));
    }
    let manifest = manifest(&header, key.fingerprint(), made, &members);
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    append(&mut tar, MANIFEST, format!("{manifest:#}\n").as_bytes())?;
    for (name, bytes) in &members {
        append(&mut tar, name, bytes)?;
    }
    let archive = tar.into_inner()?.finish()?;
    Ok(archive)
}

/// The records in members, compressed.
fn pack(snapshot: &Snapshot) -> Result<Vec<Vec<u8>>, CannotWrite> {
    let (mut packed, mut plain, mut size) = (Vec::new(), Vec::new(), 0_u64);
    let mut end = |plain: &mut Vec<u8>| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(plain)?;
        plain.clear();
        let member = gzip.finish()?;
        size = size.saturating_add(member.len() as u64);
        packed.push(member);
        if size > RECORDS_BYTES_MAX { Err(CannotWrite::TooLarge) } else { Ok(()) }
    };
    for record in snapshot.records()? {
        let bytes = record?.to_bytes();
        plain.put_u32_le(u32::try_from(bytes.len()).map_err(|_| CannotWrite::TooLarge)?);
        plain.put_slice(&bytes);
        if plain.len() >= MEMBER_BYTES {
            end(&mut plain)?;
        }
    }
    // There is always one: an empty store has a seal too.
    end(&mut plain)?;
    Ok(packed)
}

fn append<W: io::Write>(tar: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(0);
    tar.append_data(&mut header, name, bytes)
}

fn manifest(header: &Header, key: Fingerprint, made: &str, members: &[(String, Vec<u8>)]) -> Value {
    let members = members.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes.len(), "sha256": sha256(bytes) }));
    let Header { identity, revision, kept, last_lease } = header;
    json!({
        "format": FORMAT,
        "made": made,
        "cluster": format!("{:016x}", identity.cluster),
        "incarnation": identity.incarnation,
        "revision": revision.get(),
        "kept": kept.get(),
        "last_lease": last_lease,
        "schema": bulkhead_store::SCHEMA,
        "key": key.to_string(),
        "members": members.collect::<Vec<_>>(),
    })
}

/// Checks an archive whole: form, hashes, seals, and that every record reads. Nothing of it counts before.
pub(crate) fn read(archive: &[u8], key: &Key) -> Result<Opened, CannotRead> {
    let mut files = unpack(archive)?;
    let manifest = files.remove(MANIFEST).ok_or_else(|| damaged("it has no manifest.json"))?;
    let manifest: Value = serde_json::from_slice(&manifest).map_err(|_| damaged("its manifest.json is no JSON"))?;
    let format = number(&manifest, "format")?;
    if format != FORMAT {
        return Err(CannotRead::Format(format));
    }
    let header = header(&manifest)?;
    let listed = manifest.get("members").and_then(Value::as_array).ok_or_else(|| damaged("its manifest lists no members"))?;
    let mut members = Vec::with_capacity(listed.len());
    for (position, member) in listed.iter().enumerate() {
        let name = name(position);
        let sealed = files.remove(&name).ok_or_else(|| damaged(format!("{name} is missing")))?;
        if member.get("sha256").and_then(Value::as_str) != Some(sha256(&sealed).as_str()) {
            return Err(damaged(format!("{name} is not what the manifest says")));
        }
        members.push(open(&sealed, key, &bound(&header, position, listed.len()), &name)?);
    }
    if members.is_empty() {
        return Err(damaged("it has no records, and even an empty store has some"));
    }
    match files.keys().next() {
        Some(more) => Err(damaged(format!("it holds {}, which its manifest does not list", more.escape_debug()))),
        None => Ok(Opened { header, members }),
    }
}

/// The files of an archive that is whole to its last byte.
fn unpack(archive: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, CannotRead> {
    let cut = |cause: io::Error| damaged(cause.to_string());
    let mut gzip = GzDecoder::new(archive);
    let mut plain = Vec::new();
    // All of it, so that the checksum at its end is asked.
    let read = (&mut gzip).take(ARCHIVE_BYTES_MAX + 1).read_to_end(&mut plain).map_err(cut)?;
    if read as u64 > ARCHIVE_BYTES_MAX {
        return Err(damaged(format!("it unpacks to more than the {ARCHIVE_BYTES_MAX} bytes that are written")));
    }
    if !gzip.into_inner().is_empty() {
        return Err(damaged("something stands behind its end"));
    }
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(&*plain).entries().map_err(cut)? {
        let mut entry = entry.map_err(cut)?;
        let name = entry.path().map_err(cut)?.display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(cut)?;
        if files.insert(name.clone(), content).is_some() {
            return Err(damaged(format!("{} stands in it twice", name.escape_debug())));
        }
    }
    Ok(files)
}

/// The records of a member.
fn open(sealed: &[u8], key: &Key, bound: &str, name: &str) -> Result<Bytes, CannotRead> {
    let sealed = Sealed::parse(sealed).map_err(|why| damaged(format!("{name}: {why}")))?;
    let packed = key.open(&place(bound), &sealed).map_err(|why| match why {
        CannotOpen::OtherKey { sealed, held } => CannotRead::OtherKey { sealed, given: held },
        CannotOpen::Refused { .. } => damaged(format!("{name} does not open: it, or the manifest, was changed")),
    })?;
    let mut plain = Vec::new();
    // What opens was written by us, so it is as long as we wrote it.
    GzDecoder::new(packed.as_slice()).read_to_end(&mut plain).map_err(|cause| damaged(format!("{name}: {cause}")))?;
    let plain = Bytes::from(plain);
    match Records(plain.clone()).find_map(Result::err) {
        Some(why) => Err(damaged(format!("{name}: {why}"))),
        None => Ok(plain),
    }
}

impl Opened {
    /// Its records, in order.
    pub(crate) fn records(self) -> impl Iterator<Item = Result<Record, &'static str>> {
        self.members.into_iter().flat_map(Records)
    }
}

/// Records behind their lengths.
struct Records(Bytes);

impl Iterator for Records {
    type Item = Result<Record, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let length = self.0.try_get_u32_le().ok().and_then(|length| usize::try_from(length).ok());
        match length.filter(|length| *length <= self.0.len()) {
            Some(length) => Some(Record::from_bytes(self.0.split_to(length)).ok_or("a record is of no kind that this version knows")),
            None => {
                // Or it would be asked again and again.
                self.0.clear();
                Some(Err("a record is cut"))
            }
        }
    }
}

fn header(manifest: &Value) -> Result<Header, CannotRead> {
    let cluster = manifest.get("cluster").and_then(Value::as_str).and_then(|hex| u64::from_str_radix(hex, 16).ok());
    Ok(Header {
        identity: Identity {
            cluster: cluster.ok_or_else(|| damaged("its manifest names no cluster"))?,
            incarnation: number(manifest, "incarnation")?,
        },
        revision: Revision::new(number(manifest, "revision")?),
        kept: Revision::new(number(manifest, "kept")?),
        last_lease: number(manifest, "last_lease")?,
    })
}

fn number(manifest: &Value, name: &str) -> Result<u64, CannotRead> {
    manifest.get(name).and_then(Value::as_u64).ok_or_else(|| damaged(format!("its manifest has no number `{name}`")))
}

fn name(number: usize) -> String {
    format!("records-{number:05}.sealed")
}

/// What a member is sealed for: all that the manifest says for a restore, and its place in the archive.
fn bound(header: &Header, number: usize, count: usize) -> String {
    let Header { identity: Identity { cluster, incarnation }, revision, kept, last_lease } = header;
    let schema = bulkhead_store::SCHEMA;
    format!("{number} of {count}, store {cluster:016x}.{incarnation}, revisions {kept} to {revision}, lease {last_lease}, schema {schema}")
}

fn place(bound: &str) -> Place<'_> {
    Place { tenant: None, kind: "backup", name: bound, epoch: 0 }
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn damaged(what: impl Into<String>) -> CannotRead {
    CannotRead::Damaged(what.into())
}
