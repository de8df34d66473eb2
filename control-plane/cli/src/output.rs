//! Where results and remarks go: results to stdout, remarks to stderr, colours only where a terminal shows them.

use crate::exit::Exit;
use crate::fault::{self, Failure, Fault};
use anstream::AutoStream;
use clap::builder::styling::{AnsiColor, Style};
use clap::builder::{EnumValueParser, PathBufValueParser, TypedValueParser};
use serde_json::Value;
use std::fmt::Display;
use std::io::{self, Stderr, Stdout, Write};
use std::path::PathBuf;

/// Form of a command's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Human,
    /// One JSON value.
    Json,
}

/// What `--output` means: the form of results, and to `backup` the file that is its result. One type, since it is one flag to the parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// A form.
    Form(Format),
    /// A file; what is said about it is for people.
    File(PathBuf),
}

impl Output {
    /// Reads a form.
    pub(crate) fn form() -> impl TypedValueParser<Value = Self> {
        EnumValueParser::<Format>::new().map(Self::Form)
    }

    /// Reads the name of a file.
    pub(crate) fn file() -> impl TypedValueParser<Value = Self> {
        PathBufValueParser::new().map(Self::File)
    }

    /// The form in which results are told.
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Form(format) => *format,
            Self::File(_) => Format::Human,
        }
    }
}

/// A heading or the thing that matters.
pub(crate) const STRONG: Style = Style::new().bold();
/// What is wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What deserves a look.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default().bold();
/// What is right.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// What to do.
pub(crate) const HINT: Style = AnsiColor::Cyan.on_default().bold();
/// Scaffolding: gutters, origins.
pub(crate) const FAINT: Style = Style::new().dimmed();

/// Text in a style.
pub(crate) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Both streams of this process.
pub(crate) struct Out {
    format: Format,
    stdout: AutoStream<Stdout>,
    stderr: AutoStream<Stderr>,
}

impl Out {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, stdout: anstream::stdout(), stderr: anstream::stderr() }
    }

    /// The form that results are asked for in.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// One line of results, for people.
    pub(crate) fn say(&mut self, line: impl Display) -> Result<(), Failure> {
        writeln!(self.stdout, "{line}").map_err(Failure::from_stdout)
    }

    /// Results that are a text of their own, byte for byte.
    pub(crate) fn raw(&mut self, text: &str) -> Result<(), Failure> {
        self.stdout.write_all(text.as_bytes()).and_then(|()| self.stdout.flush()).map_err(Failure::from_stdout)
    }

    /// Results as JSON.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), Failure> {
        writeln!(self.stdout, "{value:#}").map_err(Failure::from_stdout)
    }

    /// A remark about the work: never mixed with results. A stderr that nobody reads stops nothing.
    pub(crate) fn remark(&mut self, line: impl Display) {
        let _ = writeln!(self.stderr, "{line}");
    }

    /// A remark that deserves a look.
    pub(crate) fn warn(&mut self, what: impl Display) {
        let label = paint(WARN, "warning");
        self.remark(format_args!("{label}: {what}"));
    }

    /// Says why the command ended early; gives its exit code.
    pub(crate) fn failed(&mut self, failure: &Failure) -> Exit {
        let Failure::Fault(fault) = failure else { return Exit::Done };
        match self.format {
            Format::Human => self.explain(fault.as_ref()),
            Format::Json => self.remark(format_args!("{:#}", fault::to_json(fault.as_ref()))),
        }
        fault.exit()
    }

    fn explain(&mut self, fault: &dyn Fault) {
        let (error, help) = (paint(BAD, "error"), paint(HINT, "help"));
        self.remark(format_args!("{error}: {}", fault::chain(fault)));
        if let Some(fix) = fault.fix() {
            self.remark(format_args!("{help}: {fix}"));
        }
    }
}

/// Results that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the results")]
struct Unwritable(#[source] io::Error);

impl Fault for Unwritable {
    fn exit(&self) -> Exit {
        Exit::Io
    }
    fn fix(&self) -> Option<String> {
        Some("look at where stdout leads: a full disk, a closed descriptor".into())
    }
}

impl Failure {
    fn from_stdout(cause: io::Error) -> Self {
        if cause.kind() == io::ErrorKind::BrokenPipe { Failure::ReaderGone } else { Unwritable(cause).into() }
    }
}
