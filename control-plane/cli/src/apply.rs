//! `bulkhead apply`: declares documents through the API, all or nothing.

use crate::answer::{counted, list, number, text};
use crate::args::Global;
use crate::client::{Ask, Client, Error as ClientError};
use crate::documents::{self, Source};
use crate::exit::Exit;
use crate::fault::{Failure, Fault};
use crate::fleet;
use crate::output::{FAINT, Format, GOOD, Out, WARN, paint};
use crate::validate::render::{self, Weight, printable};
use bulkhead_config::declared::File;
use bulkhead_config::diagnostic::Diagnostic;
use bulkhead_config::name::TenantId;
use clap::builder::styling::Style;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Declare documents through the API of a control plane, all or nothing
///
/// Each mistake is shown with its file, line and column, and then nothing is changed. What is the same already stays as it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files or folders of documents; `-` is the standard input
    #[arg(short, long = "file", value_name = "FILE|DIR|-", required = true)]
    files: Vec<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Wait until every connected sidecar serves it, and name those that do not
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "wait")]
    timeout: u64,
    /// Remove what was declared through the API before and is not among these
    #[arg(long)]
    prune: bool,
    /// Only documents of this tenant are meant, above all by --prune
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
}

/// Nothing to send.
#[derive(Debug, thiserror::Error)]
#[error("there is no document in what was named")]
struct Nothing;

impl Fault for Nothing {
    fn exit(&self) -> Exit {
        Exit::NoInput
    }
    fn fix(&self) -> Option<String> {
        Some("name files or folders that hold documents".into())
    }
}

pub(crate) fn run(args: &Args, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let sources = documents::read(&args.files)?;
    let bundle = Bundle::of(&sources);
    // What is wrong by itself is told before anything is sent, with every line in view.
    if !bundle.mistakes.is_empty() {
        return show_mistakes(&bundle.mistakes, &sources, out);
    }
    if bundle.text.is_empty() {
        return Err(Nothing.into());
    }
    let client = Client::find(global)?;
    let tenant = args.tenant.as_ref().map(|tenant| format!("&tenant={tenant}")).unwrap_or_default();
    let target = format!("/v1/apply?dry_run={}&prune={}{tenant}", args.dry_run, args.prune);
    let answer = match client.send(&Ask::post_yaml(&target, bundle.text.clone())) {
        Ok(answer) => answer,
        Err(ClientError::Refused { mistakes, .. }) if !mistakes.is_empty() => {
            let placed: Vec<Diagnostic> = mistakes.into_iter().map(|mistake| bundle.placed(mistake)).collect();
            return show_mistakes(&placed, &sources, out);
        }
        Err(other) => return Err(other.into()),
    };
    match out.format() {
        Format::Json => out.json(&answer.body)?,
        Format::Human => out.raw(&done(&answer.body))?,
    }
    match args.wait {
        true => fleet::wait(&client, number(&answer.body, "revision").unwrap_or_default(), Duration::from_secs(args.timeout), out),
        false => Ok(Exit::Done),
    }
}

fn show_mistakes(mistakes: &[Diagnostic], sources: &[Source], out: &mut Out) -> Result<Exit, Failure> {
    match out.format() {
        Format::Json => out.json(&mistakes.iter().map(Diagnostic::to_json).collect())?,
        Format::Human => {
            for mistake in mistakes {
                let source = sources.iter().find(|source| source.name == mistake.file).and_then(|source| source.text().ok());
                out.say(render::diagnostic(Weight::Mistake, mistake, source))?;
            }
            out.say(format_args!("{}; nothing was changed", counted(mistakes.len() as u64, "mistake")))?;
        }
    }
    Ok(Exit::Findings)
}

/// Documents of several files as one text, and where each of them stood.
#[derive(Default)]
struct Bundle {
    text: String,
    /// The line of the text that each document begins on, its file, and the line it begins on there.
    places: Vec<(u32, Arc<str>, u32)>,
    mistakes: Vec<Diagnostic>,
}

impl Bundle {
    fn of(sources: &[Source]) -> Self {
        let mut bundle = Bundle::default();
        let mut line = 0;
        for source in sources.iter().filter(|source| !documents::is_key_set(&source.name)) {
            let text = match source.text() {
                Ok(text) => text,
                Err(mistakes) => {
                    bundle.mistakes.extend(mistakes);
                    continue;
                }
            };
            let file: File = bulkhead_config::declared::read_file(&source.name, text);
            bundle.mistakes.extend(file.diagnostics.iter().cloned());
            for (document, text) in file.texts(text) {
                bundle.places.push((line + 2, Arc::clone(&source.name), document.origin.span.line));
                bundle.text.push_str("---\n");
                bundle.text.push_str(text);
                if !text.ends_with('\n') {
                    bundle.text.push('\n');
                }
                line = line.saturating_add(1).saturating_add(u32::try_from(text.lines().count()).unwrap_or(u32::MAX));
            }
        }
        bundle
    }

    /// A mistake in the bundle as a mistake in the file it came from.
    fn placed(&self, mut mistake: Diagnostic) -> Diagnostic {
        let before = self.places.iter().rev().find(|(line, _, _)| *line <= mistake.span.line);
        // What is said of documents that are stored already stands in none of these files.
        if let Some((begins, file, line)) = before.filter(|_| mistake.file.starts_with("body.")) {
            mistake.span.line = mistake.span.line - begins + line;
            mistake.file = Arc::clone(file);
        }
        mistake
    }
}

/// What became of each document.
pub(crate) fn done(answer: &Value) -> String {
    let is_dry = answer.get("dry_run").and_then(Value::as_bool).unwrap_or_default();
    let mut lines = String::new();
    let mut changed = 0;
    for document in list(answer, "documents") {
        let became = text(document, "became").unwrap_or_default();
        let style = match became.as_str() {
            "unchanged" => FAINT,
            "removed" => WARN,
            _ => GOOD,
        };
        changed += u64::from(became != "unchanged");
        lines.push_str(&format!("{} {}\n", paint(style, format_args!("{became:<9}")), printable(&name(document))));
    }
    for warning in list(answer, "warnings") {
        let warning = crate::answer::diagnostic(warning);
        lines.push_str(&render::diagnostic(Weight::Warning, &warning, None));
    }
    let revision = number(answer, "revision").unwrap_or_default();
    let (style, what): (Style, String) = match (is_dry, changed) {
        (true, _) => (WARN, "dry run: nothing was changed".to_owned()),
        (false, 0) => (FAINT, format!("nothing to do at revision {revision}")),
        (false, count) => (GOOD, format!("{} changed, revision {revision}", counted(count, "document"))),
    };
    lines.push_str(&format!("{}\n", paint(style, what)));
    lines
}

/// `Role acme_corp/auditor`.
pub(crate) fn name(document: &Value) -> String {
    let part = |key| text(document, key).unwrap_or_default();
    match text(document, "tenant") {
        Some(tenant) => format!("{} {tenant}/{}", part("kind"), part("name")),
        None => format!("{} {}", part("kind"), part("name")),
    }
}
