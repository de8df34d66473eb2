//! Settings: `core.yaml` in layers, with the layer that gave each value.
//!
//! Layers, each over the one before: base, environment (both built in), a file, `BULKHEAD__*` variables, flags. The last
//! that speaks of a key decides. `${VAR}` acts on the values of files only, never on text, so no variable can add a key.
//! What a secret is, no error and no listing shows.

use crate::declared::reader::{Outcome, wrong};
use crate::diagnostic::{Diagnostics, Span};
use crate::text::{self, Budget};
use layer::Layers;
use read::Reader;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

mod key;
mod layer;
mod interpolate;
mod read;
mod secret;

pub use secret::Secret;

/// Where the product runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Environment {
    /// On a developer's machine: basic, embedded, demo tenants.
    Dev,
    /// As prod, smaller.
    Staging,
    /// For customers.
    Prod,
}

impl Environment {
    /// Every environment.
    pub const ALL: [Environment; 3] = [Environment::Dev, Environment::Staging, Environment::Prod];

    /// `dev`, `staging`, `prod`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Environment::Dev => "dev",
            Environment::Staging => "staging",
            Environment::Prod => "prod",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no environment; one of dev, staging, prod")]
pub struct NotAnEnvironment(String);

impl FromStr for Environment {
    type Err = NotAnEnvironment;
    fn from_str(text: &str) -> Result<Self, NotAnEnvironment> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| NotAnEnvironment(text.to_owned()))
    }
}

/// What settings are made from, beside the built-in layers.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// Picks the built-in layer.
    pub environment: Environment,
    /// A file: its name as the user knows it, and its text.
    pub file: Option<(&'a str, &'a str)>,
    /// The process's variables: those that begin with `BULKHEAD__` are settings, the others are what `${VAR}` means.
    pub variables: &'a BTreeMap<String, String>,
    /// Flags, `core.x.y=value`.
    pub flags: &'a [String],
}

/// Every setting, read and checked.
#[derive(Debug, Clone)]
pub struct Settings {
    environment: Environment,
    encryption_key: Option<Secret<[u8; 32]>>,
    audit_enabled: bool,
    redis_url: Option<Secret<String>>,
    default_ttl: Duration,
    prometheus_enabled: bool,
    collection_interval: Duration,
    smtp_host: Option<String>,
    smtp_port: u16,
    slack_webhook_url: Option<Secret<String>>,
    log_level: Level,
    workers: Workers,
    drain_deadline: Duration,
    probation: Duration,
    shadow: bool,
    entries: Vec<Entry>,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is broken and needs somebody.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What an operator wants to know on a normal day.
    Info,
    /// For whoever looks for a fault.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// Every level, the gravest first.
    pub const ALL: [Level; 5] = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

    /// As settings write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

/// How many threads serve requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// As many as the container has CPUs, at most two.
    Auto,
    /// So many.
    Count(u16),
}

/// One setting as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `core.cache.default_ttl`.
    pub key: &'static str,
    /// Its value as settings write it; a secret is redacted.
    pub shown: String,
    /// What gave it.
    pub origin: Origin,
}

impl Entry {
    /// Its value as JSON: a number or a truth value where it is one, `null` where it is unset.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        if self.origin == Origin::Unset {
            return serde_json::Value::Null;
        }
        let typed = serde_json::from_str::<serde_json::Value>(&self.shown).ok();
        // Only what reads back as it was written: a host `1e3` is no thousand.
        let typed = typed.filter(|value| (value.is_number() || value.is_boolean()) && format!("{value}") == self.shown);
        typed.unwrap_or_else(|| self.shown.as_str().into())
    }
}

/// What gave a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing: it is unset, which means something.
    Unset,
    /// A file, built in or the operator's, and the place there.
    File(Arc<str>, Span),
    /// A variable of the process.
    Variable(Arc<str>),
    /// A flag.
    Flag,
}

/// `config/environments/dev/core.yaml:7`, `variable BULKHEAD__CORE__CACHE__DEFAULT_TTL`, `flag`, `unset`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Unset => f.write_str("unset"),
            Origin::File(file, span) => write!(f, "{file}:{}", span.line),
            Origin::Variable(name) => write!(f, "variable {name}"),
            Origin::Flag => f.write_str("flag"),
        }
    }
}

/// Reads the settings.
///
/// # Errors
/// Every mistake in every layer.
pub fn load(sources: &Sources<'_>) -> Result<Settings, Diagnostics> {
    let mut layers = Layers::default();
    for (name, text) in layer::built_in(sources.environment).into_iter().chain(sources.file) {
        layers.file(name, text);
    }
    layers.variables(sources.variables);
    layers.flags(sources.flags);
    let mut reader = Reader::new(layers, sources.variables);
    let settings = Settings::read(&mut reader, sources.environment);
    // Values are read although a key is unknown: one run shows all mistakes.
    let (entries, mistakes) = reader.finish();
    match settings {
        Ok(settings) => mistakes.into_result(Settings { entries, ..settings }),
        Err(_) => mistakes.into_result(()).and(Err(Diagnostics::new())),
    }
}

/// Checks a file of settings on its own: keys, values, the form of `${VAR}`. Whether variables are set is not asked.
#[must_use]
pub fn check(name: &str, text: &str) -> Diagnostics {
    let mut layers = Layers::default();
    layers.file(name, text);
    read::check(layers)
}

/// Whether a text is a file of settings rather than of documents: `core` stands at its top.
#[must_use]
pub fn is_settings(name: &str, text: &str) -> bool {
    let read = text::read(name, text, Budget::FILE);
    let root = read.trees.first().and_then(|tree| tree.root.as_ref());
    root.is_some_and(|root| root.value.get("core").is_some() && root.value.get("kind").is_none())
}

impl Settings {
    /// Which environment they are for.
    #[must_use]
    pub fn environment(&self) -> Environment {
        self.environment
    }

    /// `core.security.encryption_key`: the key-encryption key. `None` in dev only, which makes one in its data folder.
    #[must_use]
    pub fn encryption_key(&self) -> Option<&Secret<[u8; 32]>> {
        self.encryption_key.as_ref()
    }

    /// `core.security.audit_enabled`: whether decisions are audited; changes always are.
    #[must_use]
    pub fn audit_enabled(&self) -> bool {
        self.audit_enabled
    }

    /// `core.cache.redis_url`: level 2 of the cache. `None`: level 1 alone.
    #[must_use]
    pub fn redis_url(&self) -> Option<&Secret<String>> {
        self.redis_url.as_ref()
    }

    /// `core.cache.default_ttl`: for a CachePolicy without a `ttl`.
    #[must_use]
    pub fn default_ttl(&self) -> Duration {
        self.default_ttl
    }

    /// `core.metrics.prometheus_enabled`: whether `/metrics` answers.
    #[must_use]
    pub fn prometheus_enabled(&self) -> bool {
        self.prometheus_enabled
    }

    /// `core.metrics.collection_interval`: how often the system is looked at.
    #[must_use]
    pub fn collection_interval(&self) -> Duration {
        self.collection_interval
    }

    /// `core.alerts.channels.email`: host and port of the mail server. `None`: no channel `email`.
    #[must_use]
    pub fn smtp(&self) -> Option<(&str, u16)> {
        self.smtp_host.as_deref().map(|host| (host, self.smtp_port))
    }

    /// `core.alerts.channels.slack.webhook_url`. `None`: no channel `slack`.
    #[must_use]
    pub fn slack_webhook_url(&self) -> Option<&Secret<String>> {
        self.slack_webhook_url.as_ref()
    }

    /// `core.logging.level`.
    #[must_use]
    pub fn log_level(&self) -> Level {
        self.log_level
    }

    /// `core.sidecar.workers`.
    #[must_use]
    pub fn workers(&self) -> Workers {
        self.workers
    }

    /// `core.sidecar.drain_deadline`: how long requests in flight may take to finish.
    #[must_use]
    pub fn drain_deadline(&self) -> Duration {
        self.drain_deadline
    }

    /// `core.sidecar.probation`: how long a changed part must serve before it counts as good after a crash.
    #[must_use]
    pub fn probation(&self) -> Duration {
        self.probation
    }

    /// `core.sidecar.shadow`: whether the whole sidecar only records what it would refuse.
    #[must_use]
    pub fn shadow(&self) -> bool {
        self.shadow
    }

    /// Every setting as it may be shown, in the order of its key.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Keys whose value differs in `other` and takes effect with the next start only.
    #[must_use]
    pub fn needs_restart(&self, other: &Settings) -> Vec<&'static str> {
        let differs = [
            (key::REDIS_URL.path, self.redis_url != other.redis_url),
            (key::ENCRYPTION_KEY.path, self.encryption_key != other.encryption_key),
            (key::PROBATION.path, self.probation != other.probation),
            (key::SHADOW.path, self.shadow != other.shadow),
            (key::WORKERS.path, self.workers != other.workers),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    fn read(reader: &mut Reader<'_>, environment: Environment) -> Outcome<Self> {
        let encryption_key = reader.optional(&key::ENCRYPTION_KEY);
        let audit_enabled = reader.required(&key::AUDIT_ENABLED);
        let redis_url = reader.optional(&key::REDIS_URL);
        let default_ttl = reader.required(&key::DEFAULT_TTL);
        let prometheus_enabled = reader.required(&key::PROMETHEUS_ENABLED);
        let collection_interval = reader.required(&key::COLLECTION_INTERVAL);
        let smtp_host = reader.optional(&key::SMTP_HOST);
        let smtp_port = reader.required(&key::SMTP_PORT);
        let slack_webhook_url = reader.optional(&key::SLACK_WEBHOOK_URL);
        let log_level = reader.required(&key::LOG_LEVEL);
        let workers = reader.required(&key::WORKERS);
        let drain_deadline = reader.required(&key::DRAIN_DEADLINE);
        let probation = reader.required(&key::PROBATION);
        let shadow = reader.required(&key::SHADOW);
        let (encryption_key, audit_enabled) = (encryption_key?, audit_enabled?);
        if environment != Environment::Dev {
            safe(reader, environment, encryption_key.is_some(), audit_enabled)?;
        }
        Ok(Self {
            environment,
            encryption_key,
            audit_enabled,
            redis_url: redis_url?,
            default_ttl: default_ttl?,
            prometheus_enabled: prometheus_enabled?,
            collection_interval: collection_interval?,
            smtp_host: smtp_host?,
            smtp_port: smtp_port?,
            slack_webhook_url: slack_webhook_url?,
            log_level: log_level?,
            workers: workers?,
            drain_deadline: drain_deadline?,
            probation: probation?,
            shadow: shadow?,
            entries: Vec::new(),
        })
    }
}

/// What serves customers must keep its secrets and its audit trail.
fn safe(reader: &mut Reader<'_>, environment: Environment, has_key: bool, is_audited: bool) -> Outcome<()> {
    let key = if has_key {
        Ok(())
    } else {
        let complaint = wrong(format!("no key to encrypt with, which {environment} needs")).expected("32 bytes in base64");
        Err(reader.refuse(
            &key::ENCRYPTION_KEY,
            complaint.hint("set ENCRYPTION_KEY, for example to the output of `head -c 32 /dev/urandom | base64`, and keep it"),
        ))
    };
    let audit = if is_audited {
        Ok(())
    } else {
        let complaint = wrong(format!("{environment} does not run without the audit of decisions")).expected("`true`");
        Err(reader.refuse(&key::AUDIT_ENABLED, complaint.hint("remove the line that says `false`")))
    };
    key.and(audit)
}
