//! Arguments of the lean binary. By hand: a parser of arguments would be the largest thing in it.

use bulkhead_config::unit;
use bulkhead_sidecar::Settings;
use bulkhead_sidecar::telemetry::spool::Sink;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

const HELP: &str = "\
Bulkhead's sidecar: keeps the tenants of the service behind it apart.

Usage: bulkhead-sidecar --documents PATH --data-dir DIR [OPTION]...

  --documents PATH         file or folder of documents; watched
  --data-dir DIR           for the admin socket, addresses.json and the last-known-good policy
  --workers N              threads that serve requests
                           [default: the smaller of the processors it may use and 2]
  --probe-address ADDRESS  for /livez, /startupz, /readyz and /metrics
                           [default: 0.0.0.0:4791]
  --admin-port PORT        the admin on loopback too, with the token in DIR/admin.token
  --access-log -|off|FILE  where a line per request goes; `-` is standard output
                           [default: off]
  --log -|FILE             where the sidecar's own log goes; `-` is standard error
                           [default: -]
  --log-level LEVEL        error, warn, info, debug or trace
                           [default: info]
  --drain-deadline TIME    how long SIGTERM waits for requests that are being answered
                           [default: 30s]
  --help, --version

SIGTERM and SIGINT end it after what is being answered; a second one ends it at once.
Exit codes: 0 ended in order, 64 usage, 69 something it needs is not available.";

/// What the command line says.
pub(crate) struct Arguments {
    /// Where documents stand.
    pub(crate) documents: PathBuf,
    /// Everything else.
    pub(crate) settings: Settings,
}

/// What is asked for.
pub(crate) enum Asked {
    /// A sidecar.
    Run(Box<Arguments>),
    /// A text.
    Text(String),
}

/// What is wrong with a command line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mistake {
    /// No such option.
    #[error("there is no option `{0}`{1}")]
    Unknown(String, String),
    /// An option without its value.
    #[error("`{0}` needs a value")]
    NoValue(String),
    /// A value that cannot be meant.
    #[error("`{0}` of `{1}`: {2}")]
    Value(String, &'static str, String),
    /// A required option.
    #[error("`{0}` is missing")]
    Missing(&'static str),
}

const OPTIONS: [&str; 9] = [
    "--documents",
    "--data-dir",
    "--workers",
    "--probe-address",
    "--admin-port",
    "--access-log",
    "--log",
    "--log-level",
    "--drain-deadline",
];

impl Arguments {
    /// Reads a command line without its first word.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Asked, Mistake> {
        let (mut documents, mut data_dir) = (None, None);
        let mut settings = Settings::new(PathBuf::new());
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let word = word.to_string_lossy().into_owned();
            let (name, given) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(OsString::from(value))),
                None => (word, None),
            };
            match name.as_str() {
                "--help" | "-h" => return Ok(Asked::Text(HELP.to_owned())),
                "--version" | "-V" => return Ok(Asked::Text(format!("bulkhead-sidecar {}", env!("CARGO_PKG_VERSION")))),
                _ => {}
            }
            let Some(option) = OPTIONS.into_iter().find(|option| *option == name) else {
                return Err(Mistake::Unknown(name.clone(), meant(&name)));
            };
            let value = given.or_else(|| words.next()).ok_or(Mistake::NoValue(name))?;
            let text = || value.to_string_lossy().into_owned();
            match option {
                "--documents" => documents = Some(PathBuf::from(value)),
                "--data-dir" => data_dir = Some(PathBuf::from(value)),
                "--workers" => settings.workers = parse(option, &text())?,
                "--probe-address" => settings.probe_address = parse(option, &text())?,
                "--admin-port" => settings.admin_port = Some(parse(option, &text())?),
                "--access-log" => settings.access_log = access_log(&value),
                "--log" if value == "-" => settings.log = Sink::Stderr,
                "--log" => settings.log = Sink::File(value.into()),
                "--log-level" => settings.level = parse(option, &text())?,
                _ => {
                    let deadline = unit::duration(&text());
                    settings.drain_deadline = deadline.map_err(|why| Mistake::Value(text(), option, why.to_string()))?;
                }
            }
        }
        settings.data_dir = data_dir.ok_or(Mistake::Missing("--data-dir"))?;
        let documents = documents.ok_or(Mistake::Missing("--documents"))?;
        Ok(Asked::Run(Box::new(Arguments { documents, settings })))
    }
}

fn access_log(value: &OsString) -> Option<Sink> {
    match value.to_str() {
        Some("off") => None,
        Some("-") => Some(Sink::Stdout),
        _ => Some(Sink::File(value.into())),
    }
}

fn parse<T: FromStr>(option: &'static str, text: &str) -> Result<T, Mistake>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|why: T::Err| Mistake::Value(text.to_owned(), option, why.to_string()))
}

fn meant(name: &str) -> String {
    let nearest = bulkhead_config::diagnostic::nearest(name, OPTIONS);
    nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(words: &[&str]) -> Option<String> {
        Arguments::read(words.iter().map(OsString::from)).err().map(|mistake| mistake.to_string())
    }

    #[test]
    fn a_command_line_with_a_mistake_says_which() {
        for (words, said) in [
            (&["--documents", "d", "--data-dir", "x"][..], None),
            (&["--documents=d", "--data-dir=x", "--workers=2", "--log-level=warn", "--drain-deadline=5s", "--access-log=-"], None),
            (&["--help"], None),
            (&["--documents", "d"], Some("`--data-dir` is missing")),
            (&["--documents"], Some("`--documents` needs a value")),
            (&["--document", "d"], Some("there is no option `--document`; did you mean `--documents`?")),
            (&["serve"], Some("there is no option `serve`")),
            (&["--workers", "0"], Some("`0` of `--workers`: number would be zero for non-zero type")),
            (&["--drain-deadline", "5"], Some("`5` of `--drain-deadline`: the unit is missing; one of ms, s, m, h, d")),
        ] {
            assert_eq!(mistake(words).as_deref(), said, "{words:?}");
        }
    }
}
