//! The archive: what a control plane knows, as keys of its store.
//!
//! ```text
//! /head                                incarnation, revision, end of the audit trail
//! /documents/KIND/TENANT/NAME          the newest version of a document
//! /history/KIND/TENANT/NAME/REVISION   every version, removals too
//! /audit/NUMBER                        the audit trail
//! /events/REVISION/NUMBER              the outbox
//! /tokens/ID                           tokens of operators
//! /answers/OPERATOR/KEY                what was answered to requests with an idempotency key, for a day
//! ```
//! Numbers are written with leading zeros, so that keys sort as they do. History keys are ours: a compaction of the store eats none.
//! A change with its versions, audit entry, events and answer is one change set: all of it is there or none.

use crate::audit::{self, Tip};
use crate::change::Outcome;
use crate::document::{Version, id_of, key_of};
use crate::event::Became;
use crate::operator::Token;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulkhead_config::declared::DocumentId;
use bulkhead_config::snapshot::Epoch;
use bulkhead_store::change_set::{ChangeSets, Committed};
use bulkhead_store::{Entry, Key, Keys, Op, Range, Revision, Store, Txn};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The key that every change compares and sets.
const HEAD: &str = "/head";
/// How long an answer is kept for its idempotency key, in seconds.
const ANSWER_KEPT: i64 = 86_400;
/// How long to wait before the store is asked again what became of a change.
const AGAIN: Duration = Duration::from_millis(100);
/// Entries of a trail that one request looks at, whatever it picks of them.
const LOOKED_AT_MAX: usize = 20_000;
/// Entries read at once.
const PAGE: usize = 1_000;

/// Documents and what goes with them, in a store.
pub struct Archive {
    store: Arc<dyn Store>,
    sets: ChangeSets,
    /// The head that the next change must find: the store's revision of it, and what it says.
    head: Mutex<(Revision, Bytes)>,
}

/// Why something cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store says so.
    #[error(transparent)]
    Store(#[from] bulkhead_store::Error),
    /// Somebody else wrote in between: another control plane on the same store.
    #[error("another control plane has written to the same store since this one started")]
    Conflict,
    /// What is stored is nothing this version of the program wrote.
    #[error(
        "what is stored under `{key}` cannot be read: {why}; it was written by another version, or the store is damaged: `bulkhead restore`"
    )]
    Unreadable {
        /// The key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Everything that a start needs.
#[derive(Debug)]
pub struct Loaded {
    /// What is declared.
    pub epoch: Epoch,
    /// The end of the audit trail.
    pub tip: Tip,
    /// Every document.
    pub documents: Vec<Version>,
    /// Every token of an operator.
    pub tokens: Vec<Token>,
}

/// One change, whole.
#[derive(Debug)]
pub struct Commit<'a> {
    /// What will be declared.
    pub epoch: Epoch,
    /// Every document it changes.
    pub versions: &'a [Version],
    /// Who made it.
    pub audit: audit::Entry,
    /// The end of the audit trail with that.
    pub tip: Tip,
    /// What it tells the world.
    pub events: Vec<Value>,
    /// What is answered to whom.
    pub answer: Option<Answer>,
}

/// What was answered to a request with an idempotency key.
#[derive(Debug, Clone)]
pub struct Answer {
    /// To whom.
    pub operator: Arc<str>,
    /// The key.
    pub key: Arc<str>,
    /// SHA-256 of the request.
    pub request: [u8; 32],
    /// What was declared then.
    pub epoch: Epoch,
    /// What became of each document.
    pub documents: Vec<Outcome>,
    /// When, in seconds since 1970-01-01 UTC.
    pub at: i64,
}

/// A page of what is kept in order.
#[derive(Debug)]
pub struct Trail {
    /// JSON, one entry each.
    pub entries: Vec<Value>,
    /// Where the next page begins, when there is more.
    pub next: Option<String>,
    /// Where the last one that was looked at stands: whoever follows asks for what comes after it.
    pub last: Option<String>,
}

impl Archive {
    /// Opens what a store holds; a store that holds nothing becomes the first incarnation.
    ///
    /// # Errors
    /// When it cannot be read, or was not written by this program.
    pub async fn open(store: Arc<dyn Store>) -> Result<(Self, Loaded), ArchiveError> {
        let sets = ChangeSets::open(Arc::clone(&store), Key::from(HEAD)).await?;
        let head = sets.head().await?;
        let (epoch, tip) = match head.revision {
            Revision::ZERO => (Epoch { incarnation: 1, revision: 0 }, Tip::default()),
            _ => read_head(&head.value)?,
        };
        let archive = Self { store, sets, head: Mutex::new((head.revision, head.value.clone())) };
        let documents = archive.all("/documents/", |key, entry| {
            let id = id_of(key).ok_or("it names no document")?;
            Version::from_bytes(id, &entry.value).map_err(|why| why.to_string())
        });
        let documents = documents.await?;
        let tokens = archive.all("/tokens/", |_, entry| Token::from_bytes(&entry.value).map_err(|why| why.to_string())).await?;
        Ok((archive, Loaded { epoch, tip, documents, tokens }))
    }

    /// Stores a change, whole.
    ///
    /// # Errors
    /// When nothing of it was stored.
    pub async fn commit(&self, commit: Commit<'_>) -> Result<(), ArchiveError> {
        let mut ops = Vec::with_capacity(2 * commit.versions.len() + commit.events.len() + 2);
        for version in commit.versions {
            let (key, bytes) = (key_of(&version.id), Bytes::from(version.to_bytes()));
            ops.push(Op::put(format!("/history/{key}/{:020}", version.revision), bytes.clone()));
            ops.push(match version.text {
                Some(_) => Op::put(format!("/documents/{key}"), bytes),
                None => Op::delete(format!("/documents/{key}")),
            });
        }
        for (number, event) in commit.events.iter().enumerate() {
            ops.push(Op::put(format!("/events/{:020}/{number:05}", commit.epoch.revision), event.to_string()));
        }
        ops.push(audit_op(commit.audit));
        if let Some(answer) = commit.answer {
            ops.push(Op::put(answer_key(&answer.operator, &answer.key), answer.to_bytes()));
        }
        self.flip(commit.epoch, commit.tip, ops).await
    }

    /// Adds to the audit trail what changed nothing.
    ///
    /// # Errors
    /// When it was not stored.
    pub async fn append(&self, epoch: Epoch, entry: audit::Entry, tip: Tip) -> Result<(), ArchiveError> {
        self.flip(epoch, tip, vec![audit_op(entry)]).await
    }

    /// Enters a token of an operator, or takes it away, with its audit entry.
    ///
    /// # Errors
    /// When it was not stored.
    pub async fn token(&self, epoch: Epoch, id: &str, token: Option<&Token>, entry: audit::Entry, tip: Tip) -> Result<(), ArchiveError> {
        let key = format!("/tokens/{id}");
        let op = match token {
            Some(token) => Op::put(key, token.to_bytes()),
            None => Op::delete(key),
        };
        self.flip(epoch, tip, vec![op, audit_op(entry)]).await
    }

    /// Keeps an answer to a request that changed nothing.
    ///
    /// # Errors
    /// When it was not stored.
    pub async fn keep(&self, epoch: Epoch, tip: Tip, answer: Answer) -> Result<(), ArchiveError> {
        self.flip(epoch, tip, vec![Op::put(answer_key(&answer.operator, &answer.key), answer.to_bytes())]).await
    }

    async fn flip(&self, epoch: Epoch, tip: Tip, ops: Vec<Op>) -> Result<(), ArchiveError> {
        let value = head_bytes(epoch, tip);
        let (mut expected, last) = self.head.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let at = loop {
            match self.sets.commit(expected, value.clone(), ops.clone()).await {
                Ok(Committed::Done { head, .. }) => break head.revision,
                // Our own head at a newer revision: a large set was rolled forward since.
                Ok(Committed::Conflict { head }) if head.value == last && head.revision != expected => expected = head.revision,
                Ok(Committed::Conflict { .. }) => return Err(ArchiveError::Conflict),
                Err(bulkhead_store::Error::Uncertain { cause }) => {
                    // Nobody is answered before it is known which it was. The digest in the head tells our change from every other.
                    let head = loop {
                        match self.sets.head().await {
                            Ok(head) => break head,
                            Err(_) => tokio::time::sleep(AGAIN).await,
                        }
                    };
                    if head.value != value {
                        return Err(bulkhead_store::Error::Uncertain { cause }.into());
                    }
                    break head.revision;
                }
                Err(why) => return Err(why.into()),
            }
        };
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = (at, value);
        Ok(())
    }

    /// What was answered under an idempotency key.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn answer(&self, operator: &str, key: &str) -> Result<Option<Answer>, ArchiveError> {
        let at = answer_key(operator, key);
        let Some(entry) = self.get(&at).await? else { return Ok(None) };
        let read = Answer::from_bytes(operator, key, &entry.value);
        read.map(Some).ok_or(ArchiveError::Unreadable { key: at, why: "it is no answer".to_owned() })
    }

    /// Forgets answers that are older than a day.
    ///
    /// # Errors
    /// When they cannot be read or removed; those that were removed stay so.
    pub async fn forget_answers(&self, now: i64) -> Result<(), ArchiveError> {
        let at = |entry: &Entry| serde_json::from_slice::<Value>(&entry.value).ok().and_then(|kept| kept.get("at")?.as_i64());
        let all = self.all("/answers/", |_, entry| Ok((entry.key.clone(), at(entry)))).await?;
        let old = all.into_iter().filter(|(_, at)| at.is_none_or(|at| now.saturating_sub(at) > ANSWER_KEPT));
        for (key, _) in old {
            self.store.txn(Txn::new().then(Op::Delete { keys: Keys::One(key) })).await?;
        }
        Ok(())
    }

    /// Versions of a document, the newest first, older than `before`, at most `limit`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn history(&self, id: &DocumentId, before: Option<u64>, limit: usize) -> Result<Vec<Version>, ArchiveError> {
        let prefix = format!("/history/{}/", key_of(id));
        let mut versions =
            self.all(&prefix, |_, entry| Version::from_bytes(id.clone(), &entry.value).map_err(|why| why.to_string())).await?;
        versions.retain(|version| before.is_none_or(|before| version.revision < before));
        versions.reverse();
        versions.truncate(limit);
        Ok(versions)
    }

    /// One version of a document.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn version(&self, id: &DocumentId, revision: u64) -> Result<Option<Version>, ArchiveError> {
        let key = format!("/history/{}/{revision:020}", key_of(id));
        let Some(entry) = self.get(&key).await? else { return Ok(None) };
        let read = Version::from_bytes(id.clone(), &entry.value);
        read.map(Some).map_err(|why| ArchiveError::Unreadable { key, why: why.to_string() })
    }

    /// Events or audit entries after a key, in order, those that `wanted` picks, at most `limit`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn trail(
        &self,
        of: TrailOf,
        after: Option<&str>,
        limit: usize,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Trail, ArchiveError> {
        let prefix = of.prefix();
        let mut range = Range::of(Keys::prefix(prefix)).limit(PAGE);
        range.after = after.map(|after| Key::from(format!("{prefix}{after}")));
        let (mut entries, mut last) = (Vec::new(), after.map(str::to_owned));
        let mut looked_at = 0;
        loop {
            let page = self.sets.range(range.clone()).await?;
            for entry in &page.entries {
                let value: Value = serde_json::from_slice(&entry.value).map_err(|_| unreadable(&entry.key, "it is not JSON"))?;
                let is_wanted = wanted(&value);
                if (is_wanted && entries.len() == limit) || looked_at == LOOKED_AT_MAX {
                    return Ok(Trail { entries, next: last.clone(), last });
                }
                looked_at += 1;
                entries.extend(is_wanted.then_some(value));
                last = text_of(&entry.key).strip_prefix(prefix).map(str::to_owned);
            }
            match range.following(&page) {
                Some(following) => range = following,
                None => return Ok(Trail { entries, next: None, last }),
            }
        }
    }

    /// One entry, past no set that is still being rolled forward.
    async fn get(&self, key: &str) -> Result<Option<Entry>, ArchiveError> {
        Ok(self.sets.range(Range::of(Keys::One(Key::from(key)))).await?.entries.pop())
    }

    /// Everything below a prefix.
    async fn all<T>(&self, prefix: &str, read: impl Fn(&str, &Entry) -> Result<T, String>) -> Result<Vec<T>, ArchiveError> {
        let mut range = Range::of(Keys::prefix(prefix)).limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = self.sets.range(range.clone()).await?;
            for entry in &page.entries {
                let key = text_of(&entry.key);
                let name = key.strip_prefix(prefix).unwrap_or_default();
                all.push(read(name, entry).map_err(|why| unreadable(&entry.key, &why))?);
            }
            match range.following(&page) {
                Some(following) => range = following,
                None => return Ok(all),
            }
        }
    }
}

/// What is kept in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrailOf {
    /// What happened.
    Events,
    /// Who did what.
    Audit,
}

impl TrailOf {
    fn prefix(self) -> &'static str {
        match self {
            TrailOf::Events => "/events/",
            TrailOf::Audit => "/audit/",
        }
    }
}

impl Answer {
    fn to_bytes(&self) -> Vec<u8> {
        let documents: Vec<Value> = self.documents.iter().map(|one| json!([key_of(&one.id), one.became.as_str(), one.revision])).collect();
        let kept = json!({
            "request": URL_SAFE_NO_PAD.encode(self.request),
            "incarnation": self.epoch.incarnation,
            "revision": self.epoch.revision,
            "documents": documents,
            "at": self.at,
        });
        kept.to_string().into_bytes()
    }

    fn from_bytes(operator: &str, key: &str, bytes: &[u8]) -> Option<Self> {
        let kept: Value = serde_json::from_slice(bytes).ok()?;
        let number = |key: &str| kept.get(key)?.as_u64();
        let documents = kept.get("documents")?.as_array()?.iter();
        let documents: Option<Vec<Outcome>> = documents
            .map(|one| {
                let became = one.get(1)?.as_str()?;
                let became =
                    [Became::Created, Became::Changed, Became::Removed, Became::Unchanged].into_iter().find(|b| b.as_str() == became);
                Some(Outcome { id: id_of(one.get(0)?.as_str()?)?, became: became?, revision: one.get(2)?.as_u64()? })
            })
            .collect();
        Some(Self {
            operator: operator.into(),
            key: key.into(),
            request: URL_SAFE_NO_PAD.decode(kept.get("request")?.as_str()?).ok()?.try_into().ok()?,
            epoch: Epoch { incarnation: number("incarnation")?, revision: number("revision")? },
            documents: documents?,
            at: kept.get("at")?.as_i64()?,
        })
    }
}

fn head_bytes(epoch: Epoch, tip: Tip) -> Bytes {
    let head = json!({
        "incarnation": epoch.incarnation,
        "revision": epoch.revision,
        "audit": { "length": tip.length, "digest": URL_SAFE_NO_PAD.encode(tip.digest) },
    });
    head.to_string().into()
}

fn read_head(bytes: &[u8]) -> Result<(Epoch, Tip), ArchiveError> {
    let read = || {
        let head: Value = serde_json::from_slice(bytes).ok()?;
        let number = |key: &str| head.get(key)?.as_u64();
        let audit = head.get("audit")?;
        let digest = URL_SAFE_NO_PAD.decode(audit.get("digest")?.as_str()?).ok()?.try_into().ok()?;
        let tip = Tip { length: audit.get("length")?.as_u64()?, digest };
        Some((Epoch { incarnation: number("incarnation")?, revision: number("revision")? }, tip))
    };
    read().ok_or(ArchiveError::Unreadable { key: HEAD.to_owned(), why: "it is no head".to_owned() })
}

fn audit_op(entry: audit::Entry) -> Op {
    Op::put(format!("/audit/{:020}", entry.number), entry.bytes)
}

/// A key that no operator can make mean another's: what it says goes in as base64url.
fn answer_key(operator: &str, key: &str) -> String {
    format!("/answers/{}/{}", URL_SAFE_NO_PAD.encode(operator), URL_SAFE_NO_PAD.encode(key))
}

fn text_of(key: &Key) -> String {
    String::from_utf8_lossy(key.as_bytes()).into_owned()
}

fn unreadable(key: &Key, why: &str) -> ArchiveError {
    ArchiveError::Unreadable { key: text_of(key), why: why.to_owned() }
}
