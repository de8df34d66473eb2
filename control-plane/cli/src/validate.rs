//! `bulkhead validate`: every mistake in documents and settings at once, with its place and the way out.
//!
//! Reads as the sidecar reads and compiles as the sidecar compiles, so what passes here is served there. A set without any
//! Service is a part of a whole that is not here: what it refers to outside of itself is listed, not judged.

use crate::answer::counted;
use crate::documents::{self, Declared, Source};
use crate::exit::Exit;
use crate::fault::Failure;
use crate::output::{FAINT, Format, GOOD, Out, WARN, paint};
use bulkhead_config::compile::{Catalogue, Outcome};
use bulkhead_config::declared::Kind;
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics, Span};
use bulkhead_config::protocol::{Part, Quarantined};
use bulkhead_config::settings;
use bulkhead_config::snapshot::Snapshot;
use references::{Known, Reference, Standing};
use render::Weight;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

mod certificates;
mod key_sets;
mod references;
pub(crate) mod render;

/// Check documents and settings; change nothing
///
/// It shows every mistake with file, line, column and hint; exit code 1 if there is any. Files are YAML or JSON; a folder means
/// every .yaml, .yml and .json file below it; `-` is the standard input. Documents given together are checked together.
/// Without a Service among them they count as a part: references to what is not here are listed as not checked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files or folders
    #[arg(required = true, value_name = "FILE|DIR|-")]
    paths: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args, out: &mut Out) -> Result<Exit, Failure> {
    let found = check(documents::read(&args.paths)?);
    match out.format() {
        Format::Json => out.json(&found.to_json())?,
        Format::Human => found.show(out)?,
    }
    Ok(if found.mistakes.is_empty() { Exit::Done } else { Exit::Findings })
}

/// What a set of files turned out to be.
struct Found {
    declared: Declared,
    /// Files that hold no documents.
    others: Vec<(Other, Source)>,
    mistakes: Diagnostics,
    /// What is odd and means something all the same.
    warnings: Diagnostics,
    unchecked: Vec<Unchecked>,
}

/// What cannot be judged from what is here.
struct Unchecked {
    file: Arc<str>,
    span: Span,
    what: String,
}

impl From<Reference> for Unchecked {
    fn from(reference: Reference) -> Self {
        Self { file: reference.file, span: reference.span, what: format!("{} is not among these documents", reference.to) }
    }
}

fn check(sources: Vec<Source>) -> Found {
    let mut declared = Declared::default();
    let mut others = Vec::new();
    let mut mistakes = Diagnostics::new();
    for source in sources {
        match Other::of(&source) {
            Some(other) => {
                mistakes.append(other.check(&source));
                others.push((other, source));
            }
            None => declared.add(source),
        }
    }
    mistakes.append(declared.mistakes());
    let (snapshot, mut warnings, mut unchecked) = compile(&declared, &mut mistakes);
    unchecked.append(&mut key_sets::check(&declared, &mut mistakes));
    unchecked.append(&mut certificates::check(&declared, &snapshot, &mut mistakes, &mut warnings));
    mistakes.sort();
    Found { declared, others, mistakes, warnings, unchecked }
}

/// What a file holds in place of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    Settings,
    KeySet,
}

impl Other {
    /// Settings are known by what stands in them, key sets by their name, as where they are served.
    fn of(source: &Source) -> Option<Self> {
        let text = source.text().unwrap_or_default();
        match () {
            () if documents::is_key_set(&source.name) => Some(Other::KeySet),
            // Looked for in the text first, so that a hundred thousand documents are not parsed twice.
            () if text.contains("core") && settings::is_settings(&source.name, text) => Some(Other::Settings),
            () => None,
        }
    }

    fn check(self, source: &Source) -> Diagnostics {
        match self {
            Other::Settings => settings::check(&source.name, source.text().unwrap_or_default()),
            Other::KeySet => key_sets::read(&source.name, &source.content),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Other::Settings => "settings file",
            Other::KeySet => "key set",
        }
    }
}

/// What the documents mean together. Gives it, the warnings, and what only the rest of the set could answer.
fn compile(declared: &Declared, mistakes: &mut Diagnostics) -> (Arc<Snapshot>, Diagnostics, Vec<Unchecked>) {
    let whole = is_whole(declared);
    let references = references(declared);
    let standing: HashMap<_, _> = references.iter().map(|(reference, standing)| ((&reference.file, reference.span), *standing)).collect();
    let Outcome { snapshot, quarantined, warnings, .. } = Catalogue::new().apply(&declared.offer());
    let no_platform = quarantined.iter().any(|held| held.part == Part::Platform);
    for Quarantined { part, diagnostics, .. } in quarantined {
        // What follows from another mistake, or from not seeing everything, is none of its own.
        let follows = |mistake: &Diagnostic| match standing.get(&(&mistake.file, mistake.span)) {
            Some(Standing::Broken) => true,
            Some(Standing::Absent) => !whole,
            Some(Standing::Here) => no_platform && part != Part::Platform,
            None => false,
        };
        diagnostics.into_iter().filter(|mistake| !follows(mistake)).for_each(|mistake| mistakes.push(mistake));
    }
    if whole {
        return (snapshot, warnings, Vec::new());
    }
    // Of a part, most warnings would only say that the rest is not there.
    let absent = references.into_iter().filter(|(_, standing)| *standing == Standing::Absent);
    (snapshot, Diagnostics::new(), absent.map(|(reference, _)| reference.into()).collect())
}

/// Every reference, and whether what it means is in the set.
fn references(declared: &Declared) -> Vec<(Reference, Standing)> {
    let mut known = Known::default();
    declared.documents().for_each(|document| known.add(document));
    declared.files().flat_map(|(_, file)| &file.broken).for_each(|id| known.add_broken(id));
    let all = declared.documents().flat_map(references::of);
    all.map(|reference| (reference.clone(), known.standing(&reference.to))).collect()
}

/// Whether the set is all there is: then it has the Service that everything else is about.
fn is_whole(declared: &Declared) -> bool {
    let broken = declared.files().flat_map(|(_, file)| &file.broken).map(|id| id.kind);
    declared.documents().map(|document| document.id.kind).chain(broken).any(|kind| kind == Kind::Service)
}

impl Found {
    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.declared.files().map(|(source, _)| source).chain(self.others.iter().map(|(_, source)| source))
    }

    fn to_json(&self) -> Value {
        self.mistakes.iter().map(Diagnostic::to_json).collect()
    }

    fn show(&self, out: &mut Out) -> Result<(), Failure> {
        let texts: HashMap<&str, &str> = self.sources().map(|source| (&*source.name, source.text().unwrap_or_default())).collect();
        for (weight, diagnostics) in [(Weight::Mistake, &self.mistakes), (Weight::Warning, &self.warnings)] {
            for diagnostic in diagnostics.iter() {
                let elsewhere = || fs::read_to_string(&*diagnostic.file).ok().map(Cow::Owned);
                let text = texts.get(&*diagnostic.file).copied().map(Cow::Borrowed).or_else(elsewhere);
                out.say(render::diagnostic(weight, diagnostic, text.as_deref()))?;
            }
        }
        let mut told = HashSet::new();
        for Unchecked { file, span, what } in self.unchecked.iter().filter(|unchecked| told.insert(&unchecked.what)) {
            let place = paint(FAINT, format_args!("({file}:{}:{})", span.line, span.column));
            out.say(format_args!("{}: {what} {place}", paint(WARN, "not checked")))?;
        }
        out.say(self.summary())
    }

    /// `2 files: 1 Plan, 2 Tenants; no mistakes`.
    fn summary(&self) -> String {
        let mut kinds: BTreeMap<Kind, u64> = BTreeMap::new();
        for document in self.declared.documents() {
            *kinds.entry(document.id.kind).or_default() += 1;
        }
        let mut read: Vec<String> = kinds.into_iter().map(|(kind, count)| counted(count, kind.as_str())).collect();
        for other in [Other::Settings, Other::KeySet] {
            let count = self.others.iter().filter(|(found, _)| *found == other).count() as u64;
            read.extend((count > 0).then(|| counted(count, other.as_str())));
        }
        let read = if read.is_empty() { "no documents".to_owned() } else { read.join(", ") };
        let files = counted(self.sources().count() as u64, "file");
        match self.mistakes.len() as u64 {
            0 => format!("{files}: {read}; {}", paint(GOOD, "no mistakes")),
            count => format!("{files}: {read}; {}", paint(crate::output::BAD, counted(count, "mistake"))),
        }
    }
}
