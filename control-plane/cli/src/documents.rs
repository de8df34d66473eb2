//! Documents as files: which files a path means, and their text. What stands in them is `bulkhead_config`'s to say.

use crate::exit::Exit;
use crate::fault::Fault;
use bulkhead_config::compile::{Holds, files_of, misplaced_key_set};
use bulkhead_config::declared::{self, Document, File, Kind};
use bulkhead_config::diagnostic::Diagnostics;
use bulkhead_config::protocol::{Offer, Put};
use bulkhead_config::text;
use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Deeper than this no one files documents; a link that leads back into its own folder does.
const DEPTH_MAX: usize = 32;

/// One file, as the user named it.
#[derive(Debug)]
pub(crate) struct Source {
    /// The name for messages; relative references resolve beside it.
    pub(crate) name: Arc<str>,
    /// Its bytes.
    pub(crate) content: Vec<u8>,
}

/// A path that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} leads back into itself, or is nested more than {DEPTH_MAX} folders deep", .0.display())]
    TooDeep(PathBuf),
    #[error("{} holds no documents: no .yaml, .yml or .json file", .0.display())]
    Empty(PathBuf),
}

impl Fault for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::Unreadable { source, .. } => Exit::of(source),
            Error::TooDeep(_) => Exit::BadData,
            Error::Empty(_) => Exit::NoInput,
        }
    }
    fn fix(&self) -> Option<String> {
        match self {
            Error::Unreadable { .. } => None,
            Error::TooDeep(_) => Some("name the folders or files one by one".into()),
            Error::Empty(_) => Some("name a file, or a folder that holds documents".into()),
        }
    }
}

/// Files and what was read in them.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    files: Vec<(Source, File)>,
}

/// Reads everything below a path; mistakes are kept with their files.
pub(crate) fn declared(path: &Path) -> Result<Declared, Error> {
    let mut declared = Declared::default();
    for source in read(&[path.to_owned()])? {
        declared.add(source);
    }
    Ok(declared)
}

impl Source {
    /// Its text.
    ///
    /// # Errors
    /// The mistake that it is not UTF-8, with its place.
    pub(crate) fn text(&self) -> Result<&str, Diagnostics> {
        text::utf8(&self.content).map_err(|mistake| {
            let mut mistakes = Diagnostics::new();
            mistakes.push(mistake.in_file(&self.name, None));
            mistakes
        })
    }
}

impl Declared {
    /// Reads one more file.
    pub(crate) fn add(&mut self, source: Source) {
        let file = match source.text() {
            Ok(text) => declared::read_file(&source.name, text),
            Err(diagnostics) => File { truncated: true, diagnostics, ..File::default() },
        };
        self.files.push((source, file));
    }

    /// Every document without mistakes.
    pub(crate) fn documents(&self) -> impl Iterator<Item = &Document> {
        self.files.iter().flat_map(|(_, file)| &file.documents).map(|document| &**document)
    }

    /// Every file and what was read in it.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&Source, &File)> {
        self.files.iter().map(|(source, file)| (source, file))
    }

    /// Ids of the tenants.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = &str> {
        self.documents().filter(|document| document.id.kind == Kind::Tenant).map(|document| document.id.name.as_str())
    }

    /// Every mistake of the readers. A key set that was read for documents has one alone: its name.
    pub(crate) fn mistakes(&self) -> Diagnostics {
        let named = self.documents().flat_map(files_of);
        let key_sets: HashSet<Arc<str>> = named.filter(|named| named.holds == Holds::KeySet).map(|named| named.file).collect();
        let mut mistakes = Diagnostics::new();
        for (source, file) in &self.files {
            match key_sets.contains(&source.name) && !file.diagnostics.is_empty() {
                true => mistakes.push(misplaced_key_set(&source.name)),
                false => mistakes.append(file.diagnostics.clone()),
            }
        }
        mistakes
    }

    /// All of it as one offer, for the compiler.
    pub(crate) fn offer(&self) -> Offer {
        let texts = self.files.iter().flat_map(|(source, file)| file.texts(source.text().unwrap_or_default()));
        let put = texts.map(|(document, text)| Put { document: document.clone(), text: text.into() }).collect();
        Offer { complete: true, put, ..Offer::default() }
    }
}

/// Every file that these paths mean, in the order named, folders sorted. `-` is the standard input. What two of the paths mean,
/// a folder and a file in it, is read once; two names within one folder are two files, as where it is served.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Source>, Error> {
    let mut sources = Vec::new();
    let mut known = HashSet::new();
    for path in paths {
        let mut found = Vec::new();
        if path.as_os_str() == "-" {
            sources.push(standard_input()?);
            continue;
        } else if metadata(path)?.is_dir() {
            walk(path, 0, &mut found)?;
        } else {
            found.push(path.clone());
        }
        if found.is_empty() {
            return Err(Error::Empty(path.clone()));
        }
        let place = |path: &PathBuf| fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        for path in found.iter().filter(|path| !known.contains(&place(path))) {
            sources.push(file(path)?);
        }
        known.extend(found.iter().map(place));
    }
    Ok(sources)
}

/// Whether a folder holds any document, or is not there at all.
pub(crate) fn is_empty(folder: &Path) -> Result<bool, Error> {
    if !folder.exists() {
        return Ok(true);
    }
    let mut found = Vec::new();
    walk(folder, 0, &mut found)?;
    Ok(found.is_empty())
}

fn standard_input() -> Result<Source, Error> {
    let mut content = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut content);
    read.map_err(|source| Error::Unreadable { path: "the standard input".into(), source })?;
    Ok(Source { name: "stdin".into(), content })
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::TooDeep(folder.to_owned()));
    }
    let unreadable = |source| Error::Unreadable { path: folder.to_owned(), source };
    let entries: io::Result<Vec<PathBuf>> = fs::read_dir(folder).map_err(unreadable)?.map(|entry| Ok(entry?.path())).collect();
    let mut entries = entries.map_err(unreadable)?;
    entries.sort();
    for path in entries.into_iter().filter(|path| !is_hidden(path)) {
        if metadata(&path)?.is_dir() {
            walk(&path, depth + 1, found)?;
        } else if is_document(&path) {
            found.push(path);
        }
    }
    Ok(())
}

fn metadata(path: &Path) -> Result<fs::Metadata, Error> {
    fs::metadata(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })
}

fn file(path: &Path) -> Result<Source, Error> {
    let content = fs::read(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    Ok(Source { name: path.to_string_lossy().into(), content })
}

/// What editors and Kubernetes (`..data`) keep beside the documents.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'))
}

/// By its name: YAML and JSON, but not the key sets (`*.jwks.json`) that documents refer to.
fn is_document(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    !is_key_set(&name) && [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending))
}

/// By its name, as where it is served.
pub(crate) fn is_key_set(name: &str) -> bool {
    name.ends_with(".jwks.json") || name.ends_with(".jwks")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_folder_means_its_documents_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tenants")).unwrap();
        for name in ["b.yaml", "a.json", "issuer.jwks.json", ".b.yaml.swp", "notes.txt", "tenants/t.yml"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let sources = read(&[dir.path().to_owned()]).unwrap();
        let names: Vec<String> = sources.iter().map(|source| source.name.replace(&*dir.path().to_string_lossy(), "")).collect();
        assert_eq!(names, ["/a.json", "/b.yaml", "/tenants/t.yml"]);
    }

    #[test]
    fn what_two_paths_mean_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("a.yaml"), "").unwrap();
        std::os::unix::fs::symlink(path("a.yaml"), path("b.yaml")).unwrap();
        assert_eq!(read(&[path("a.yaml"), dir.path().to_owned(), path("b.yaml")]).unwrap().len(), 1);
        assert_eq!(read(&[dir.path().to_owned()]).unwrap().len(), 2, "the sidecar reads both, so both are judged");
    }

    #[test]
    fn a_link_into_its_own_folder_is_told_and_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).unwrap();
        assert!(matches!(read(&[dir.path().to_owned()]), Err(Error::TooDeep(_) | Error::Unreadable { .. })));
    }
}
