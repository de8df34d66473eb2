//! `bulkhead schema`: the JSON Schema of each kind, for editors and for programs that write documents.

use crate::exit::Exit;
use crate::fault::{Failure, Fault};
use crate::files::{self, Readers};
use crate::output::Out;
use bulkhead_config::declared::Kind;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Print the JSON Schema (2020-12) of a kind of documents
///
/// An editor with a YAML language server checks while you write, once a document begins with:
///   # yaml-language-server: $schema=DIR/Role.schema.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The kind, as documents write it
    #[arg(value_parser = kinds(), ignore_case = true, required_unless_present = "all")]
    kind: Option<Kind>,
    /// Write the schemas of all kinds to this folder instead
    #[arg(long, value_name = "DIR", conflicts_with = "kind")]
    all: Option<PathBuf>,
}

/// Schemas that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
struct Unwritable {
    path: PathBuf,
    source: io::Error,
}

impl Fault for Unwritable {
    fn exit(&self) -> Exit {
        Exit::of(&self.source)
    }
    fn fix(&self) -> Option<String> {
        Some("name a folder you may write to".into())
    }
}

pub(crate) fn run(args: &Args, out: &mut Out) -> Result<Exit, Failure> {
    if let Some(kind) = args.kind {
        out.json(&kind.schema())?;
    }
    if let Some(folder) = &args.all {
        write_all(folder)?;
        out.remark(format_args!("{} schemas are in {}", Kind::ALL.len(), folder.display()));
    }
    Ok(Exit::Done)
}

fn write_all(folder: &Path) -> Result<(), Unwritable> {
    fs::create_dir_all(folder).map_err(|source| Unwritable { path: folder.to_owned(), source })?;
    for kind in Kind::ALL {
        let path = folder.join(format!("{kind}.schema.json"));
        let text = format!("{:#}\n", kind.schema());
        files::replace(&path, text.as_bytes(), Readers::Anyone).map_err(|source| Unwritable { path, source })?;
    }
    Ok(())
}

/// The kinds by name, in whatever case, for help and completion too.
fn kinds() -> impl TypedValueParser<Value = Kind> {
    let names = PossibleValuesParser::new(Kind::ALL.map(Kind::as_str));
    names.try_map(|name| Kind::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(&name)).ok_or("there is no such kind"))
}
