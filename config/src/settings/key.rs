//! The keys: what each is called, how its value is read, and what may be shown of it.

use super::{Level, Secret, Workers};
use crate::declared::reader::{Complaint, wrong};
use crate::name::Host;
use crate::text::show_text;
use crate::unit;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Every key there is. Those above the line are a contract; MISSION says what they mean.
pub(super) const KEYS: [&dyn Known; 14] = [
    &ENCRYPTION_KEY,
    &AUDIT_ENABLED,
    &REDIS_URL,
    &DEFAULT_TTL,
    &PROMETHEUS_ENABLED,
    &COLLECTION_INTERVAL,
    &SMTP_HOST,
    &SMTP_PORT,
    &SLACK_WEBHOOK_URL,
    // ----
    &LOG_LEVEL,
    &WORKERS,
    &DRAIN_DEADLINE,
    &PROBATION,
    &SHADOW,
];

pub(super) const ENCRYPTION_KEY: Key<Secret<[u8; 32]>> = Key::new("core.security.encryption_key", encryption_key).secret().may_stay_unset();
pub(super) const AUDIT_ENABLED: Key<bool> = Key::new("core.security.audit_enabled", truth).not_quoted();
pub(super) const REDIS_URL: Key<Secret<String>> = Key::new("core.cache.redis_url", redis_url).secret();
pub(super) const DEFAULT_TTL: Key<Duration> = Key::new("core.cache.default_ttl", |text| seconds(text, 0..=31_622_400)).not_quoted();
pub(super) const PROMETHEUS_ENABLED: Key<bool> = Key::new("core.metrics.prometheus_enabled", truth).not_quoted();
pub(super) const COLLECTION_INTERVAL: Key<Duration> =
    Key::new("core.metrics.collection_interval", |text| seconds(text, 1..=3_600)).not_quoted();
pub(super) const SMTP_HOST: Key<String> = Key::new("core.alerts.channels.email.smtp_host", host);
pub(super) const SMTP_PORT: Key<u16> = Key::new("core.alerts.channels.email.smtp_port", |text| whole(text, 1..=u16::MAX)).not_quoted();
pub(super) const SLACK_WEBHOOK_URL: Key<Secret<String>> =
    Key::new("core.alerts.channels.slack.webhook_url", webhook).secret().may_stay_unset();
pub(super) const LOG_LEVEL: Key<Level> = Key::new("core.logging.level", level);
pub(super) const WORKERS: Key<Workers> = Key::new("core.sidecar.workers", workers);
pub(super) const DRAIN_DEADLINE: Key<Duration> = Key::new("core.sidecar.drain_deadline", duration);
pub(super) const PROBATION: Key<Duration> = Key::new("core.sidecar.probation", duration);
pub(super) const SHADOW: Key<bool> = Key::new("core.sidecar.shadow", truth).not_quoted();

/// One key and what it is read as.
pub(super) struct Key<T> {
    pub(super) path: &'static str,
    pub(super) read: fn(&str) -> Result<T, Complaint>,
    traits: Traits,
}

/// What is true of a key whatever it is read as.
#[derive(Clone, Copy)]
pub(super) struct Traits {
    /// Its value is shown to nobody.
    pub(super) is_secret: bool,
    /// A `${VAR}` that is not set means that the key is not.
    pub(super) may_stay_unset: bool,
    /// In YAML its value is a number or a truth value, not a string.
    pub(super) is_quoted: bool,
}

impl<T> Key<T> {
    const fn new(path: &'static str, read: fn(&str) -> Result<T, Complaint>) -> Self {
        Self { path, read, traits: Traits { is_secret: false, may_stay_unset: false, is_quoted: true } }
    }

    const fn secret(mut self) -> Self {
        self.traits.is_secret = true;
        self
    }

    const fn may_stay_unset(mut self) -> Self {
        self.traits.may_stay_unset = true;
        self
    }

    const fn not_quoted(mut self) -> Self {
        self.traits.is_quoted = false;
        self
    }
}

/// A key without the type of its value.
pub(super) trait Known: Sync {
    fn path(&self) -> &'static str;
    fn traits(&self) -> Traits;
    /// Whether a text is a value of it.
    fn check(&self, text: &str) -> Result<(), Complaint>;
}

impl<T> Known for Key<T> {
    fn path(&self) -> &'static str {
        self.path
    }

    fn traits(&self) -> Traits {
        self.traits
    }

    fn check(&self, text: &str) -> Result<(), Complaint> {
        (self.read)(text).map(|_| ())
    }
}

fn encryption_key(text: &str) -> Result<Secret<[u8; 32]>, Complaint> {
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(Secret::new).ok_or_else(|| {
        let complaint = wrong("the encryption key is not 32 bytes in base64").expected("44 characters, the last of them `=`");
        complaint.hint("`head -c 32 /dev/urandom | base64` makes one")
    })
}

fn truth(text: &str) -> Result<bool, Complaint> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(format!("{} is neither `true` nor `false`", show_text(text))).expected("`true` or `false`")),
    }
}

fn redis_url(text: &str) -> Result<Secret<String>, Complaint> {
    let rest = text.strip_prefix("redis://").or_else(|| text.strip_prefix("rediss://"));
    match rest.and_then(|rest| rest.split(['/', '?']).next()) {
        Some(authority) if is_authority(authority) => Ok(Secret::new(text.to_owned())),
        _ => Err(wrong("the address of Redis is no URL").expected("`redis://host:port` or `rediss://host:port`")),
    }
}

fn webhook(text: &str) -> Result<Secret<String>, Complaint> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest.and_then(|rest| rest.split(['/', '?']).next()) {
        Some(authority) if is_authority(authority) && !text.contains(char::is_whitespace) => Ok(Secret::new(text.to_owned())),
        _ => Err(wrong("the webhook is no URL").expected("`https://hooks.slack.com/services/…`")),
    }
}

/// `[user[:password]@]host[:port]`
fn is_authority(text: &str) -> bool {
    let place = text.rsplit_once('@').map_or(text, |(_, place)| place);
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (place, None),
    };
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_host = literal.parse::<IpAddr>().is_ok() || host.parse::<Host>().is_ok();
    is_host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn host(text: &str) -> Result<String, Complaint> {
    let good = text.parse::<IpAddr>().is_ok() || text.parse::<Host>().is_ok();
    if good { Ok(text.to_owned()) } else { Err(wrong("the mail server is no host").expected("a host name or an address, without port")) }
}

fn whole(text: &str, range: RangeInclusive<u16>) -> Result<u16, Complaint> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && range.contains(number));
    number.ok_or_else(|| {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        wrong(format!("{} is no such number", show_text(text))).expected(expected)
    })
}

/// Bare seconds: the keys that `core.yaml` always had take them.
fn seconds(text: &str, range: RangeInclusive<u32>) -> Result<Duration, Complaint> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && range.contains(number));
    number.map(|seconds: u32| Duration::from_secs(seconds.into())).ok_or_else(|| {
        let complaint = wrong(format!("{} is no number of seconds", show_text(text)));
        let complaint = complaint.expected(format!("whole seconds from {} to {}, without unit", range.start(), range.end()));
        match unit::duration(text) {
            Ok(meant) if meant.subsec_nanos() == 0 => complaint.hint(format!("write `{}`", meant.as_secs())),
            _ => complaint,
        }
    })
}

fn duration(text: &str) -> Result<Duration, Complaint> {
    let complaint = || wrong(format!("{} is no duration", show_text(text))).expected("a duration longer than zero, such as `30s`");
    match unit::duration(text) {
        Ok(Duration::ZERO) => Err(complaint()),
        Ok(duration) => Ok(duration),
        Err(unit::NotAQuantity::NoUnit(_)) => Err(complaint().hint(format!("write for example `{text}s`"))),
        Err(_) => Err(complaint()),
    }
}

fn level(text: &str) -> Result<Level, Complaint> {
    let levels = Level::ALL.map(Level::as_str);
    Level::ALL.into_iter().find(|level| level.as_str() == text).ok_or_else(|| {
        let complaint = wrong(format!("{} is no log level", show_text(text))).expected(levels.map(|one| format!("`{one}`")).join(", "));
        complaint.nearest(&text.to_ascii_lowercase(), levels)
    })
}

fn workers(text: &str) -> Result<Workers, Complaint> {
    if text == "auto" {
        return Ok(Workers::Auto);
    }
    match whole(text, 1..=64) {
        Ok(count) => Ok(Workers::Count(count)),
        Err(_) => Err(wrong(format!("{} is no number of workers", show_text(text))).expected("`auto`, or a whole number from 1 to 64")),
    }
}
