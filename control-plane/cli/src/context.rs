//! Which bulkhead a command means: a data directory, given by flag, variable or a context that `up` registered.
//!
//! Order: `--data-dir`, `--context`, `BULKHEAD_DATA_DIR`, the context `dev`, the default directory.

use crate::admin::Admin;
use crate::args::Global;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::files::{self, Readers};
use bulkhead_config::diagnostic::nearest;
use serde_json::{Map, Value, json};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Name under which `up` registers itself.
pub(crate) const DEFAULT: &str = "dev";

/// A bulkhead on this machine, running or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its data directory.
    pub(crate) data_dir: PathBuf,
    /// The file or folder of documents it serves.
    pub(crate) documents: PathBuf,
}

/// Why no bulkhead can be meant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no context is called `{name}`")]
    Unknown { name: String, known: Vec<String> },
    #[error("cannot read the contexts in {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the contexts in {} are damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("cannot write the contexts to {}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("neither {0} nor HOME is set, so there is no default directory")]
    Homeless(&'static str),
}

impl Fault for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::Unknown { .. } | Error::Homeless(_) => Exit::Configuration,
            Error::Unreadable { source, .. } | Error::Unwritable { source, .. } => Exit::of(source),
            Error::Damaged { .. } => Exit::BadData,
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Error::Unknown { name, known } => Some(match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "`bulkhead up` registers one".into(),
                None => format!("there are: {}", known.join(", ")),
            }),
            Error::Damaged { .. } => Some("delete the file; the next `bulkhead up` writes it again".into()),
            Error::Homeless(_) => Some("name a data directory with --data-dir".into()),
            Error::Unreadable { .. } | Error::Unwritable { .. } => Some("name the data directory with --data-dir".into()),
        }
    }
}

/// The bulkhead that a command means.
pub(crate) fn find(global: &Global) -> Result<Place, Error> {
    let contexts = || Contexts::read(&contexts_file()?);
    if let Some(data_dir) = &global.data_dir {
        return Ok(at(data_dir));
    }
    if let Some(name) = &global.context {
        return contexts()?.named(name);
    }
    if let Some(data_dir) = set("BULKHEAD_DATA_DIR") {
        return Ok(at(Path::new(&data_dir)));
    }
    match contexts()?.named(DEFAULT) {
        Err(Error::Unknown { .. }) => Ok(at(&default_data_dir(DEFAULT)?)),
        found => found,
    }
}

/// The data directory that `up` keeps: named, or the default one of its environment. Never a context's: those follow `up`.
pub(crate) fn data_dir(global: &Global, environment: &str) -> Result<PathBuf, Error> {
    if let Some(data_dir) = &global.data_dir {
        return Ok(data_dir.clone());
    }
    match set("BULKHEAD_DATA_DIR") {
        Some(data_dir) => Ok(data_dir.into()),
        None => default_data_dir(environment),
    }
}

/// What `up` tells of itself.
#[derive(Debug)]
pub(crate) struct Registration<'a> {
    /// The environment it runs as.
    pub(crate) environment: &'a str,
    /// Where it is.
    pub(crate) place: &'a Place,
    /// The operator's token.
    pub(crate) token_file: &'a Path,
    /// What it listens on.
    pub(crate) addresses: Value,
}

/// A context that another bulkhead had, and still runs.
#[derive(Debug)]
pub(crate) struct Displaced {
    name: String,
    entry: Value,
    /// Where that other one is.
    pub(crate) place: Place,
}

/// Registers a bulkhead, so that later commands mean it. What other contexts say stays. Gives back whom it takes the context from.
pub(crate) fn register(name: &str, told: &Registration<'_>) -> Result<Option<Displaced>, Error> {
    let path = contexts_file()?;
    let mut contexts = Contexts::read(&path)?;
    let entry = json!({
        "environment": told.environment,
        "data_dir": told.place.data_dir,
        "documents": told.place.documents,
        "token_file": told.token_file,
        "addresses": told.addresses,
    });
    let before = contexts.entries.insert(name.to_owned(), entry);
    contexts.write()?;
    let displaced = before.and_then(|entry| Some(Displaced { name: name.to_owned(), place: place(&entry)?, entry }));
    Ok(displaced.filter(|displaced| displaced.place.data_dir != told.place.data_dir && Admin::of(&displaced.place).is_there()))
}

/// At its end: whoever had the context before has it again, if they still run and nobody else has taken it.
pub(crate) fn give_back(displaced: Displaced, by: &Place) -> Result<(), Error> {
    let mut contexts = Contexts::read(&contexts_file()?)?;
    let is_ours = contexts.entries.get(&displaced.name).and_then(place).is_some_and(|place| place.data_dir == by.data_dir);
    if !is_ours || !Admin::of(&displaced.place).is_there() {
        return Ok(());
    }
    contexts.entries.insert(displaced.name, displaced.entry);
    contexts.write()
}

/// A data directory that was named: where its documents are, only a context can tell.
fn at(data_dir: &Path) -> Place {
    let registered = contexts_file().and_then(|path| Contexts::read(&path)).ok();
    let known = registered.and_then(|contexts| contexts.of(data_dir));
    known.unwrap_or_else(|| Place { data_dir: data_dir.to_owned(), documents: data_dir.join("documents") })
}

/// The file of contexts, as it stands.
struct Contexts {
    path: PathBuf,
    entries: Map<String, Value>,
}

impl Contexts {
    /// A file that is not there holds none.
    fn read(path: &Path) -> Result<Self, Error> {
        let damaged = |reason: String| Error::Damaged { path: path.to_owned(), reason };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Self { path: path.to_owned(), entries: Map::new() }),
            Err(source) => return Err(Error::Unreadable { path: path.to_owned(), source }),
        };
        let mut file: Value = serde_json::from_slice(&text).map_err(|cause| damaged(cause.to_string()))?;
        match file.get_mut("contexts").map(Value::take) {
            Some(Value::Object(entries)) => Ok(Self { path: path.to_owned(), entries }),
            _ => Err(damaged("there is no object `contexts`".into())),
        }
    }

    fn named(&self, name: &str) -> Result<Place, Error> {
        let unknown = || Error::Unknown { name: name.to_owned(), known: self.entries.keys().cloned().collect() };
        let entry = self.entries.get(name).ok_or_else(unknown)?;
        place(entry).ok_or_else(|| Error::Damaged { path: self.path.clone(), reason: format!("`{name}` names no data directory") })
    }

    fn of(&self, data_dir: &Path) -> Option<Place> {
        let wanted = fs::canonicalize(data_dir).ok()?;
        self.entries.values().filter_map(place).find(|place| place.data_dir == wanted)
    }

    fn write(&self) -> Result<(), Error> {
        let text = format!("{:#}\n", json!({ "contexts": self.entries }));
        let dir = self.path.parent().unwrap_or(Path::new("."));
        files::make_private_dir(dir)
            .and_then(|()| files::replace(&self.path, text.as_bytes(), Readers::Owner))
            .map_err(|source| Error::Unwritable { path: self.path.clone(), source })
    }
}

fn place(entry: &Value) -> Option<Place> {
    let path = |key| entry.get(key).and_then(Value::as_str).map(PathBuf::from);
    let data_dir = path("data_dir")?;
    let documents = path("documents").unwrap_or_else(|| data_dir.join("documents"));
    Some(Place { data_dir, documents })
}

fn contexts_file() -> Result<PathBuf, Error> {
    Ok(xdg("XDG_CONFIG_HOME", ".config")?.join("bulkhead/contexts.json"))
}

fn default_data_dir(environment: &str) -> Result<PathBuf, Error> {
    Ok(xdg("XDG_DATA_HOME", ".local/share")?.join("bulkhead").join(environment))
}

/// XDG base directories: a relative path in the variable counts as unset.
fn xdg(variable: &'static str, below_home: &str) -> Result<PathBuf, Error> {
    let named = set(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let fallback = || set("HOME").map(|home| Path::new(&home).join(below_home));
    named.or_else(fallback).ok_or(Error::Homeless(variable))
}

/// A variable that is set to something.
fn set(variable: &str) -> Option<OsString> {
    env::var_os(variable).filter(|value| !value.is_empty())
}
