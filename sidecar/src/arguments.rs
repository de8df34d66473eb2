//! Arguments of the lean binary. By hand: a parser of arguments would be the largest thing in it.

use bulkhead_config::settings::Environment;
use bulkhead_sidecar::Settings;
use bulkhead_sidecar::policy::ControlPlane;
use bulkhead_sidecar::policy::settings_watch::{SettingsError, SettingsSource};
use bulkhead_sidecar::telemetry::spool::Sink;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::str::FromStr;

const HELP: &str = "\
Bulkhead's sidecar: keeps the tenants of the service behind it apart.

Usage: bulkhead-sidecar --documents PATH --data-dir DIR [OPTION]...
       bulkhead-sidecar --control-plane HOST:PORT --data-dir DIR [OPTION]...

  --documents PATH         file or folder of documents; watched
  --control-plane HOST:PORT
                           is fed by a control plane instead; what was served last is served
                           until it answers
  --join TOKEN             for a first certificate; better in $BULKHEAD_JOIN_TOKEN, where
                           `ps` shows it to nobody
  --trust-bundle FILE      whom to trust to be the control plane, until enrolment says whom
  --data-dir DIR           for the admin socket, addresses.json and the last-known-good policy
  --take-over DIR          takes the place of the sidecar that runs with this data directory
  --env dev|staging|prod   picks the built-in settings [default: $BULKHEAD_ENV, else dev]
  --settings FILE          core.yaml over them; read again when it changes and on SIGHUP
  --set core.KEY=VALUE     one setting over all others; may stand several times
  --workers N              same as --set core.sidecar.workers=N
  --log-level LEVEL        same as --set core.logging.level=LEVEL
  --shadow                 same as --set core.sidecar.shadow=true: records what it would refuse,
                           and lets it through
  --drain-deadline TIME    same as --set core.sidecar.drain_deadline=TIME
  --probe-address ADDRESS  for /livez, /startupz, /readyz and /metrics
                           [default: 0.0.0.0:4791]
  --admin-port PORT        the admin on loopback too, with the token in DIR/admin.token
  --access-log -|off|FILE  where a line per request goes; `-` is standard output
                           [default: off]
  --log -|FILE             where the sidecar's own log goes; `-` is standard error
                           [default: -]
  --help, --version

SIGTERM and SIGINT end it after what is being answered; a second one ends it at once.
Exit codes: 0 ended in order, 64 usage, 69 something it needs is not available.";

/// What the command line says.
pub(crate) struct Arguments {
    /// Where policy comes from.
    pub(crate) source: Source,
    /// Everything else.
    pub(crate) settings: Settings,
}

/// Where policy comes from: exactly one of these.
pub(crate) enum Source {
    /// A file or a folder.
    Documents(PathBuf),
    /// A control plane.
    ControlPlane(ControlPlane),
}

/// What is asked for.
pub(crate) enum Asked {
    /// A sidecar.
    Run(Box<Arguments>),
    /// A text.
    Text(String),
}

/// What is wrong with a command line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Mistake {
    /// No such option.
    #[error("there is no option `{0}`{1}")]
    Unknown(String, String),
    /// An option without its value.
    #[error("`{0}` needs a value")]
    NoValue(&'static str),
    /// A value that cannot be meant.
    #[error("`{0}` of `{1}`: {2}")]
    Value(String, &'static str, String),
    /// A required option.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// Options that cannot stand together.
    #[error("`{0}` cannot stand beside `{1}`: policy comes from one place")]
    Beside(&'static str, &'static str),
    /// Settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// An option without a value.
const SHADOW: &str = "--shadow";

const OPTIONS: [&str; 16] = [
    "--documents",
    "--control-plane",
    "--join",
    "--trust-bundle",
    "--data-dir",
    "--take-over",
    "--env",
    "--settings",
    "--set",
    "--workers",
    "--log-level",
    "--drain-deadline",
    "--probe-address",
    "--admin-port",
    "--access-log",
    "--log",
];

impl Arguments {
    /// Reads a command line without its first word, beside the process's variables.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>, variables: BTreeMap<String, String>) -> Result<Asked, Mistake> {
        let mut given: BTreeMap<&'static str, OsString> = BTreeMap::new();
        let mut flags = Vec::new();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let (name, value) = split(word);
            match name.as_str() {
                "--help" | "-h" => return Ok(Asked::Text(HELP.to_owned())),
                "--version" | "-V" => return Ok(Asked::Text(format!("bulkhead-sidecar {}", env!("CARGO_PKG_VERSION")))),
                _ => {}
            }
            if name == SHADOW {
                match value {
                    None => flags.push("core.sidecar.shadow=true".to_owned()),
                    Some(value) => {
                        let why = "it takes no value".to_owned();
                        return Err(Mistake::Value(value.to_string_lossy().into_owned(), SHADOW, why));
                    }
                }
                continue;
            }
            let Some(option) = OPTIONS.into_iter().find(|option| *option == name) else {
                return Err(Mistake::Unknown(name.clone(), meant(&name)));
            };
            let value = value.or_else(|| words.next()).ok_or(Mistake::NoValue(option))?;
            let setting = |key: &str| format!("core.{key}={}", value.to_string_lossy());
            match option {
                "--set" => flags.push(value.to_string_lossy().into_owned()),
                "--workers" => flags.push(setting("sidecar.workers")),
                "--log-level" => flags.push(setting("logging.level")),
                "--drain-deadline" => flags.push(setting("sidecar.drain_deadline")),
                _ => drop(given.insert(option, value)),
            }
        }
        let environment = match given.remove("--env") {
            Some(name) => parse("--env", &name)?,
            None => variables.get("BULKHEAD_ENV").map_or(Ok(Environment::Dev), |name| parse("BULKHEAD_ENV", OsStr::new(name)))?,
        };
        let mut text = |option| given.remove(option).map(|value| value.to_string_lossy().into_owned());
        let (address, joining) = (text("--control-plane").unwrap_or_default(), text("--join"));
        let join_token = joining.or_else(|| variables.get("BULKHEAD_JOIN_TOKEN").cloned()).filter(|token| !token.is_empty());
        let mut path = |option| given.remove(option).map(PathBuf::from);
        let (documents, trust_bundle, data_dir) = (path("--documents"), path("--trust-bundle"), path("--data-dir"));
        let data_dir = data_dir.ok_or(Mistake::Missing("--data-dir"))?;
        let (file, take_over) = (path("--settings"), path("--take-over"));
        let mut settings = Settings::load(data_dir, SettingsSource { environment, file, variables, flags })?;
        settings.take_over = take_over;
        let source = source(documents, ControlPlane { address, join_token, trust_bundle, data_dir: settings.data_dir.clone() })?;
        if let Some(address) = given.get("--probe-address") {
            settings.probe_address = parse("--probe-address", address)?;
        }
        settings.admin_port = given.get("--admin-port").map(|port| parse("--admin-port", port)).transpose()?;
        settings.access_log = given.get("--access-log").and_then(access_log);
        if let Some(file) = given.remove("--log").filter(|file| file != "-") {
            settings.log = Sink::File(file.into());
        }
        Ok(Asked::Run(Box::new(Arguments { source, settings })))
    }
}

/// The one place policy comes from.
fn source(documents: Option<PathBuf>, control_plane: ControlPlane) -> Result<Source, Mistake> {
    match (documents, control_plane.address.is_empty()) {
        (Some(_), false) => Err(Mistake::Beside("--control-plane", "--documents")),
        (Some(_), true) if control_plane.trust_bundle.is_some() => Err(Mistake::Beside("--trust-bundle", "--documents")),
        (Some(documents), true) => Ok(Source::Documents(documents)),
        (None, false) => Ok(Source::ControlPlane(control_plane)),
        (None, true) => Err(Mistake::Missing("--documents` or `--control-plane")),
    }
}

/// `--name=value`, or a name alone.
fn split(word: OsString) -> (String, Option<OsString>) {
    let word = word.to_string_lossy().into_owned();
    match word.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.into())),
        None => (word, None),
    }
}

fn access_log(value: &OsString) -> Option<Sink> {
    match value.to_str() {
        Some("off") => None,
        Some("-") => Some(Sink::Stdout),
        _ => Some(Sink::File(value.into())),
    }
}

fn parse<T: FromStr>(option: &'static str, value: &OsStr) -> Result<T, Mistake>
where
    T::Err: std::fmt::Display,
{
    let text = value.to_string_lossy();
    text.parse().map_err(|why: T::Err| Mistake::Value(text.clone().into_owned(), option, why.to_string()))
}

fn meant(name: &str) -> String {
    let nearest = bulkhead_config::diagnostic::nearest(name, OPTIONS.into_iter().chain([SHADOW]));
    nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(words: &[&str]) -> Option<String> {
        Arguments::read(words.iter().map(OsString::from), BTreeMap::new()).err().map(|mistake| mistake.to_string())
    }

    #[test]
    fn all_mistakes_in_settings_are_said_at_once() {
        let said = mistake(&["--documents=d", "--data-dir=x", "--workers=0", "--drain-deadline=5"]).unwrap_or_default();
        assert!(said.contains("`0` is no number of workers") && said.contains("`5` is no duration"), "{said}");
    }

    #[test]
    fn a_command_line_with_a_mistake_says_which() {
        for (words, said) in [
            (&["--documents", "d", "--data-dir", "x"][..], None),
            (&["--documents=d", "--data-dir=x", "--workers=2", "--log-level=warn", "--drain-deadline=5s", "--access-log=-"], None),
            (&["--documents=d", "--data-dir=x", "--take-over=x"], None),
            (&["--shadow", "--documents=d", "--data-dir=x"], None),
            (&["--shadow=no", "--documents=d"], Some("`no` of `--shadow`: it takes no value")),
            (&["--shadows"], Some("there is no option `--shadows`; did you mean `--shadow`?")),
            (&["--documents=d", "--data-dir=x", "--take-over"], Some("`--take-over` needs a value")),
            (&["--control-plane=cp:4781", "--data-dir=x", "--join=t", "--trust-bundle=ca.pem"], None),
            (
                &["--control-plane=cp:4781", "--documents=d", "--data-dir=x"],
                Some("`--control-plane` cannot stand beside `--documents`: policy comes from one place"),
            ),
            (
                &["--documents=d", "--trust-bundle=ca.pem", "--data-dir=x"],
                Some("`--trust-bundle` cannot stand beside `--documents`: policy comes from one place"),
            ),
            (&["--data-dir=x"], Some("`--documents` or `--control-plane` is missing")),
            (&["--help"], None),
            (&["--documents", "d"], Some("`--data-dir` is missing")),
            (&["--documents"], Some("`--documents` needs a value")),
            (&["--document", "d"], Some("there is no option `--document`; did you mean `--documents`?")),
            (&["serve"], Some("there is no option `serve`")),
            (&["--env", "production"], Some("`production` of `--env`: `production` is no environment; one of dev, staging, prod")),
            (
                &["--documents=d", "--data-dir=x", "--probe-address=here"],
                Some("`here` of `--probe-address`: invalid socket address syntax"),
            ),
        ] {
            assert_eq!(mistake(words).as_deref(), said, "{words:?}");
        }
    }
}
