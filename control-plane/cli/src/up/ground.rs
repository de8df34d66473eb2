//! What `up` stands on: its data directory, taken for itself alone, the documents and, in dev, the demo's issuer.
//!
//! What the user made of the documents is kept: only a folder without any is filled, and only a key set that is missing is
//! written, beside the document that names it for the demo's issuer.

use crate::context::Place;
use crate::demo;
use crate::documents::{self, Declared};
use crate::exit::Exit;
use crate::fault::{Failure, Fault};
use crate::files::{self, Readers};
use crate::issuer::Issuer;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bulkhead_config::compile::resolve;
use bulkhead_config::declared::{Body, Jwks, Service};
use bulkhead_config::name::{ListenerName, ServiceName};
use bulkhead_config::settings::Environment;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// A data directory that this process holds.
pub(super) struct Ground {
    pub(super) place: Place,
    pub(super) declared: Declared,
    /// Key sets that were made beside documents of the user's.
    pub(super) made_key_sets: Vec<PathBuf>,
    /// Key sets of the demo's issuer that hold another key than this directory's: its tokens are refused.
    pub(super) foreign_key_sets: Vec<PathBuf>,
    /// Held as long as this process lives, so that a second one is told and does not share the files.
    _lock: File,
}

/// Why a data directory cannot be stood on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("another bulkhead runs on {}", .0.display())]
    Taken(PathBuf),
    #[error("cannot write {}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("there is no file or folder {}", .0.display())]
    NoDocuments(PathBuf),
    #[error("the demo's documents are for dev only, and this is {0}")]
    DemoOutsideDev(Environment),
    #[error("{} holds the key of a dev issuer, and this is {}", .0.display(), .1)]
    DevIssuer(PathBuf, Environment),
    #[error("the system gives no random bytes for a token")]
    NoRandom,
}

impl Fault for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::Taken(_) => Exit::Unavailable,
            Error::Unwritable { source, .. } => Exit::of(source),
            Error::NoDocuments(_) => Exit::NoInput,
            Error::DemoOutsideDev(_) | Error::DevIssuer(..) => Exit::Configuration,
            Error::NoRandom => Exit::Io,
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Error::Taken(_) => Some("stop it, or keep this one elsewhere with --data-dir DIR".into()),
            Error::Unwritable { .. } => Some("choose a directory you may write to with --data-dir DIR".into()),
            Error::NoDocuments(_) => Some("name what is there with --documents, or leave it out for the demo's".into()),
            Error::DemoOutsideDev(_) => Some("name your documents with --documents PATH".into()),
            Error::DevIssuer(..) => Some("use another --data-dir: whoever holds that key makes tokens for every tenant".into()),
            Error::NoRandom => None,
        }
    }
}

impl Ground {
    /// Takes a data directory and fills in what it lacks.
    pub(super) fn prepare(data_dir: &Path, documents: Option<&Path>, environment: Environment) -> Result<Self, Failure> {
        let unwritable = |source| Error::Unwritable { path: data_dir.to_owned(), source };
        files::make_private_dir(data_dir).map_err(unwritable)?;
        // Later commands run elsewhere: what is registered must not depend on where this one was called.
        let data_dir = fs::canonicalize(data_dir).map_err(unwritable)?;
        let lock = take(&data_dir)?;
        let documents = match documents {
            Some(named) => absolute(named)?,
            None => own_documents(&data_dir, environment)?,
        };
        write_token(&data_dir)?;
        let declared = documents::declared(&documents)?;
        let KeySets { mut made, foreign } = issuer(&data_dir, &declared, environment)?;
        // In our own folder it is what a first start does.
        made.retain(|path| !path.starts_with(&data_dir));
        let place = Place { data_dir, documents };
        Ok(Self { place, declared, made_key_sets: made, foreign_key_sets: foreign, _lock: lock })
    }

    /// The services that the documents declare.
    pub(super) fn services(&self) -> impl Iterator<Item = &Service> {
        self.declared.documents().filter_map(|document| match &document.body {
            Body::Service(service) => Some(&**service),
            _ => None,
        })
    }

    /// Where a listener's address is written, `file:line`.
    pub(super) fn place_of(&self, service: &ServiceName, listener: &ListenerName) -> Option<String> {
        self.declared.documents().find_map(|document| match &document.body {
            Body::Service(declared) if declared.name == *service => {
                let listener = declared.listeners.iter().find(|declared| declared.name.value == *listener)?;
                Some(format!("{}:{}", document.origin.file, listener.address.span.line))
            }
            _ => None,
        })
    }

    /// Whether the documents have what the demo's lines to try are about.
    pub(super) fn is_the_demo(&self) -> bool {
        ["acme_corp", "globex"].iter().all(|tenant| self.declared.tenants().any(|declared| declared == *tenant))
    }

    /// Where the operator's token stands.
    pub(super) fn token_file(&self) -> PathBuf {
        token_file(&self.place.data_dir)
    }
}

/// The path from the root. A link in it stays one: Kubernetes swaps a volume by pointing a link elsewhere.
fn absolute(named: &Path) -> Result<PathBuf, Error> {
    let there = std::path::absolute(named).ok().filter(|path| path.exists());
    there.ok_or_else(|| Error::NoDocuments(named.to_owned()))
}

/// The lock lasts as long as the process, however it ends.
fn take(data_dir: &Path) -> Result<File, Error> {
    let path = data_dir.join("up.lock");
    let unwritable = |source| Error::Unwritable { path: path.clone(), source };
    let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(unwritable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::Taken(data_dir.to_owned())),
        Err(TryLockError::Error(cause)) => Err(unwritable(cause)),
    }
}

/// `DIR/documents`, filled with the demo's at the first start in dev.
fn own_documents(data_dir: &Path, environment: Environment) -> Result<PathBuf, Failure> {
    let folder = data_dir.join("documents");
    if documents::is_empty(&folder)? {
        if environment != Environment::Dev {
            return Err(Error::DemoOutsideDev(environment).into());
        }
        fill(&folder, data_dir).map_err(|source| Error::Unwritable { path: folder.clone(), source })?;
    }
    Ok(folder)
}

/// All of the documents or none: what a start that was cut off left behind would else pass for the user's.
fn fill(folder: &Path, data_dir: &Path) -> io::Result<()> {
    if folder.exists() {
        return demo::write_documents(folder);
    }
    let beside = data_dir.join(".documents.new");
    match fs::remove_dir_all(&beside) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    demo::write_documents(&beside)?;
    fs::rename(&beside, folder)
}

fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.token")
}

/// The operator's token, made once.
pub(crate) fn write_token(data_dir: &Path) -> Result<(), Error> {
    let path = token_file(data_dir);
    if path.exists() {
        return Ok(());
    }
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| Error::NoRandom)?;
    let text = format!("{}\n", BASE64_URL_SAFE_NO_PAD.encode(secret));
    files::replace(&path, text.as_bytes(), Readers::Owner).map_err(|source| Error::Unwritable { path, source })
}

/// What became of the key sets of the demo's issuer.
#[derive(Default)]
struct KeySets {
    made: Vec<PathBuf>,
    /// They hold another key.
    foreign: Vec<PathBuf>,
}

/// In dev the issuer and its key sets; elsewhere makes sure that there is none.
fn issuer(data_dir: &Path, declared: &Declared, environment: Environment) -> Result<KeySets, Failure> {
    if environment != Environment::Dev {
        let key = Issuer::key_path(data_dir);
        return if key.exists() { Err(Error::DevIssuer(key, environment).into()) } else { Ok(KeySets::default()) };
    }
    let issuer = Issuer::open_or_make(data_dir)?;
    let mut sets = KeySets::default();
    for path in key_sets(declared) {
        match fs::read_to_string(&path) {
            Ok(set) if set.contains(issuer.kid()) => {}
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let written = files::replace(&path, issuer.jwks().as_bytes(), Readers::Anyone);
                written.map_err(|source| Error::Unwritable { path: path.clone(), source })?;
                sets.made.push(path);
            }
            Ok(_) | Err(_) => sets.foreign.push(path),
        }
    }
    Ok(sets)
}

/// The files in which documents look for the keys of the demo's issuer.
fn key_sets(declared: &Declared) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for document in declared.documents() {
        let Body::Identity(identity) = &document.body else { continue };
        for issuer in identity.jwt.iter().filter(|issuer| *issuer.issuer == bulkhead_issuer::ISSUER) {
            let Jwks::File(written) = &issuer.jwks.value else { continue };
            paths.push(PathBuf::from(&*resolve(&document.origin.file, written)));
        }
    }
    paths.dedup();
    paths
}
