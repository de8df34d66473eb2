//! Revocations: certificates that count no more although they hold, by number, or all of a name up to a moment.
//!
//! Data, for whoever keeps and sends it. It stays short by itself: what has expired need not be revoked.

use super::{Peer, Serial};
use bulkhead_config::spiffe::SpiffeId;
use bulkhead_config::unit::UnixSeconds;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What was revoked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    /// With the end of each certificate, after which it need not stand here.
    serials: BTreeMap<Serial, UnixSeconds>,
    names: BTreeMap<SpiffeId, Revoked>,
}

/// All certificates of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Revoked {
    /// Those issued up to then.
    since: UnixSeconds,
    /// The end of the last of them.
    until: UnixSeconds,
}

/// Bytes that hold no revocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these are no revocations as they are written; restore them from a backup, and until then let nobody in by certificate")]
pub struct NotRevocations;

impl Revocations {
    /// Revokes one certificate.
    pub fn revoke(&mut self, serial: Serial, until: UnixSeconds) {
        self.serials.insert(serial, until);
    }

    /// Revokes every certificate of a name that was issued up to `now`, the last of which ends at `until`. One issued later counts.
    pub fn revoke_all(&mut self, id: SpiffeId, now: UnixSeconds, until: UnixSeconds) {
        let known = self.names.get(&id).copied().unwrap_or(Revoked { since: now, until });
        self.names.insert(id, Revoked { since: known.since.max(now), until: known.until.max(until) });
    }

    /// Forgets what has expired.
    pub fn prune(&mut self, now: UnixSeconds) {
        self.serials.retain(|_, until| *until >= now);
        self.names.retain(|_, revoked| revoked.until >= now);
    }

    /// Whether a peer's certificate was revoked.
    #[must_use]
    pub fn include(&self, peer: &Peer) -> bool {
        self.serials.contains_key(&peer.serial) || self.names.get(&peer.id).is_some_and(|revoked| peer.issued <= revoked.since)
    }

    /// As they are kept.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let serials: Map<_, _> = self.serials.iter().map(|(serial, until)| (serial.to_string(), (*until).into())).collect();
        let name = |(id, revoked): (&SpiffeId, &Revoked)| (id.to_string(), json!({ "since": revoked.since, "until": revoked.until }));
        json!({ "serials": serials, "names": self.names.iter().map(name).collect::<Map<_, _>>() })
    }

    /// Reads what [`Revocations::to_json`] wrote.
    ///
    /// # Errors
    /// When it is anything else: what cannot be read is not taken for nothing revoked.
    pub fn from_json(value: &Value) -> Result<Self, NotRevocations> {
        Self::read(value).ok_or(NotRevocations)
    }

    fn read(value: &Value) -> Option<Self> {
        let serial = |(text, until): (&String, &Value)| Some((Serial::read(text)?, until.as_i64()?));
        let name = |(text, revoked): (&String, &Value)| {
            Some((text.parse().ok()?, Revoked { since: revoked.get("since")?.as_i64()?, until: revoked.get("until")?.as_i64()? }))
        };
        Some(Self {
            serials: value.get("serials")?.as_object()?.iter().map(serial).collect::<Option<_>>()?,
            names: value.get("names")?.as_object()?.iter().map(name).collect::<Option<_>>()?,
        })
    }
}

impl Serial {
    fn read(text: &str) -> Option<Self> {
        let number = u128::from_str_radix(text, 16).ok()?;
        let serial = Self(number.to_be_bytes());
        (serial.to_string() == text).then_some(serial)
    }
}
