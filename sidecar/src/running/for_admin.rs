//! What the admin asks of a running sidecar.

use super::Addresses;
use crate::admin::{Replay, Setting, Sidecar};
use crate::clock::{Clock, Origin};
use crate::connection::listeners::Shown;
use crate::policy::settings_watch::Current;
use crate::policy::{Live, Status};
use crate::request::shadow::{Afterwards, Findings};
use crate::request::upstream::fleet::{Adapted, Fleet};
use crate::telemetry::decisions::DecisionId;
use crate::worker::{Mail, Mailbox};
use arc_swap::ArcSwap;
use bulkhead_config::name::{KeyId, TenantId};
use bulkhead_config::settings::Entry;
use bulkhead_config::snapshot::Snapshot;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// A worker that does not answer within this time is passed over.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The sidecar as the admin sees it.
pub(super) struct ForAdmin {
    pub(super) status: Arc<Status>,
    pub(super) live: Arc<Live>,
    pub(super) listeners: Arc<ArcSwap<Value>>,
    pub(super) settings: Arc<Current>,
    pub(super) workers: Vec<Mailbox>,
    pub(super) drain_wanted: watch::Sender<bool>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) origin: Origin,
}

impl Sidecar for ForAdmin {
    fn status(&self) -> Map<String, Value> {
        let now = Clock::new(self.origin).now().unix_ms;
        let mut status = Map::new();
        status.insert("policy".to_owned(), self.status.to_json(now));
        status.insert("listeners".to_owned(), (**self.listeners.load()).clone());
        status.insert("adaptive_concurrency".to_owned(), self.fleet.adapted().iter().map(adapted_json).collect());
        status
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.live.load().snapshot)
    }

    fn settings(&self) -> Vec<Setting> {
        let settings = self.settings.load();
        let entries = settings.entries().iter();
        let setting = |entry: &Entry| Setting { key: entry.key.to_owned(), shown: entry.to_json(), origin: entry.origin.to_string() };
        entries.map(setting).collect()
    }

    async fn decision(&self, id: DecisionId) -> Option<Replay> {
        for worker in &self.workers {
            let (answer, replay) = oneshot::channel();
            let asked = async {
                worker.send(Mail::Decision(id, answer)).await.ok()?;
                replay.await.ok()?
            };
            if let Ok(Some(replay)) = tokio::time::timeout(ANSWER_WITHIN, asked).await {
                return Some(replay);
            }
        }
        None
    }

    async fn api_key_uses(&self, tenant: TenantId) -> HashMap<KeyId, u64> {
        let mut last: HashMap<KeyId, u64> = HashMap::new();
        for worker in &self.workers {
            let (answer, uses) = oneshot::channel();
            let asked = async {
                worker.send(Mail::ApiKeyUses(tenant.clone(), answer)).await.ok()?;
                uses.await.ok()
            };
            for (id, at) in tokio::time::timeout(ANSWER_WITHIN, asked).await.ok().flatten().unwrap_or_default() {
                last.entry(id).and_modify(|known| *known = at.max(*known)).or_insert(at);
            }
        }
        last
    }

    async fn shadow(&self, afterwards: Afterwards) -> Findings {
        let mut all = Findings::default();
        for worker in &self.workers {
            let (answer, found) = oneshot::channel();
            let asked = async {
                worker.send(Mail::Shadow(afterwards, answer)).await.ok()?;
                found.await.ok()
            };
            all.join(tokio::time::timeout(ANSWER_WITHIN, asked).await.ok().flatten().unwrap_or_default());
        }
        all
    }

    fn drain(&self) {
        // Nobody listens only while the process ends anyway.
        let _ = self.drain_wanted.send(true);
    }
}

/// Listeners for status: which one, the declared address, and where it listens or why not.
pub(super) fn listeners_json(shown: &[Shown]) -> Value {
    let one = |shown: &Shown| {
        let mut one = json!({
            "service": shown.entrance.service.as_str(),
            "name": shown.entrance.listener.as_str(),
            "declared": shown.declared.to_string(),
        });
        if let Some(members) = one.as_object_mut() {
            match &shown.listens {
                Ok(address) => members.insert("address".to_owned(), address.to_string().into()),
                Err(why) => members.insert("failure".to_owned(), why.as_str().into()),
            };
        }
        one
    };
    shown.iter().map(one).collect()
}

/// An adaptive limit for status.
fn adapted_json(adapted: &Adapted) -> Value {
    let Adapted { service, upstream, endpoint, told } = adapted;
    json!({ "service": service, "upstream": upstream, "endpoint": endpoint, "limit": told.limit, "in_flight": told.in_flight })
}

impl Addresses {
    /// As it stands in `DIR/addresses.json`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let listener = |(entrance, address): &(Arc<super::Entrance>, std::net::SocketAddr)| json!({ "service": entrance.service.as_str(), "name": entrance.listener.as_str(), "address": address.to_string() });
        let mut all = json!({
            "listeners": self.listeners.iter().map(listener).collect::<Vec<_>>(),
            "probes": self.probes.to_string(),
            "admin": self.admin.display().to_string(),
        });
        if let (Some(port), Some(members)) = (self.admin_port, all.as_object_mut()) {
            members.insert("admin_port".to_owned(), port.to_string().into());
        }
        all.to_string()
    }
}
