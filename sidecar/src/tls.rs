//! TLS: what handshakes are made with, on both sides, from the files that the policy names.
//!
//! Cost: per connection; one lookup by listener or by what an upstream declares. What is here is immutable: a change makes another
//! [`Tls`], and connections keep what they began with.
//! A file that cannot be used any more takes nothing away: the listener or upstream goes on with what it had. A listener that never
//! had a certificate, or whose demands on clients are new and cannot be met, refuses every handshake: serving it in the clear, or
//! by demands nobody declares any more, would be worse than not at all.

mod accept;
mod certificate;
mod connect;
mod listener;
mod names;
pub(crate) mod validity;

pub use accept::{NotAccepted, accept, refuse};
pub use connect::{NotConnected, connect};
pub(crate) use connect::{asking, shake_hands};
pub use listener::Server;

use crate::connection::Entrance;
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics, Span};
use bulkhead_config::name::ServiceName;
use bulkhead_config::snapshot::{ListenerTls, Platform, Scheme, UpstreamTls};
use bulkhead_config::unit::UnixSeconds;
use connect::Dialer;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use std::collections::HashMap;
use std::sync::Arc;

/// Seconds after which certificates are looked at again.
const LOOK_AGAIN: UnixSeconds = 60 * 60;

/// Contents of files, by the names that the policy gives them.
pub type Contents = HashMap<Arc<str>, Arc<[u8]>>;

/// Everything that handshakes are made with.
#[derive(Debug, Default)]
pub struct Tls {
    listeners: HashMap<Entrance, Made<ListenerTls, Server>>,
    upstreams: HashMap<UpstreamTls, Made<UpstreamTls, Dialer>>,
    /// Read once, when first needed: a system's bundle changes with its packages, and those ask for a restart.
    system: Option<Arc<RootCertStore>>,
}

/// What was made of a declaration and the files it names.
#[derive(Debug)]
struct Made<D, T> {
    declared: D,
    /// As they were when it was made, or could not be.
    files: Vec<Option<Arc<[u8]>>>,
    /// When that was.
    at: UnixSeconds,
    /// What was found then.
    found: Findings,
    /// `None`: nothing good was ever there.
    good: Option<Arc<T>>,
}

/// How a listener is spoken to.
#[derive(Debug, Clone)]
pub enum Door {
    /// In the clear.
    Plain,
    /// Over TLS.
    Tls(Arc<Server>),
    /// Over TLS, but there is no certificate to show.
    Shut,
}

/// What came of reading the files.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Files that are not taken over.
    pub refused: Vec<Diagnostic>,
    /// What is odd, but used.
    pub warnings: Diagnostics,
}

/// What reading needs beside the files.
struct Reading<'a> {
    files: &'a Contents,
    provider: Arc<CryptoProvider>,
    now: UnixSeconds,
    found: Findings,
}

impl Tls {
    /// Makes what `platform` declares, from `files`. What neither changed in its declaration nor in its files is kept from `before`.
    /// `instead` is a service whose upstreams are replaced by an endpoint with TLS.
    #[must_use]
    pub fn load(
        platform: &Platform,
        instead: Option<&ServiceName>,
        files: &Contents,
        before: &Arc<Tls>,
        now: UnixSeconds,
    ) -> (Arc<Tls>, Findings) {
        let mut reading = Reading { files, provider: Arc::new(aws_lc_rs::default_provider()), now, found: Findings::default() };
        let mut found = Findings::default();
        let mut tls = Tls { system: before.system.clone(), ..Tls::default() };
        for service in platform.services() {
            for listener in &service.listeners {
                let Some(declared) = &listener.tls else { continue };
                let entrance = Entrance { service: service.name.clone(), listener: listener.name.clone() };
                let made = listener::make(declared, before.listeners.get(&entrance), &mut reading);
                found.add(&made.found);
                tls.listeners.insert(entrance, made);
            }
            for upstream in &service.upstreams {
                let is_dialled = upstream.endpoints.iter().any(|endpoint| endpoint.scheme == Scheme::Https);
                if (is_dialled || instead == Some(&service.name)) && !tls.upstreams.contains_key(&upstream.tls) {
                    let known = before.upstreams.get(&upstream.tls);
                    let made = connect::make(&upstream.tls, known, &mut tls.system, &mut reading);
                    found.add(&made.found);
                    tls.upstreams.insert(upstream.tls.clone(), made);
                }
            }
        }
        let tls = if tls.is_same(before) { Arc::clone(before) } else { Arc::new(tls) };
        (tls, found.once())
    }

    /// How a listener is spoken to.
    #[must_use]
    pub fn door(&self, entrance: &Entrance) -> Door {
        match self.listeners.get(entrance) {
            None => Door::Plain,
            Some(Made { good: Some(server), .. }) => Door::Tls(Arc::clone(server)),
            Some(Made { good: None, .. }) => Door::Shut,
        }
    }

    /// How endpoints that are declared like this are dialled; `None`: they cannot be.
    fn dialer(&self, declared: &UpstreamTls) -> Option<&Arc<Dialer>> {
        self.upstreams.get(declared).and_then(|made| made.good.as_ref())
    }

    fn is_same(&self, other: &Tls) -> bool {
        same(&self.listeners, &other.listeners) && same(&self.upstreams, &other.upstreams)
    }
}

/// Whether both hold the same: what is kept is shared.
fn same<K: Eq + std::hash::Hash, D: PartialEq, T>(a: &HashMap<K, Made<D, T>>, b: &HashMap<K, Made<D, T>>) -> bool {
    let shared = |a: &Option<Arc<T>>, b: &Option<Arc<T>>| a.as_ref().map(Arc::as_ptr) == b.as_ref().map(Arc::as_ptr);
    let is_same =
        |one: &Made<D, T>, other: &Made<D, T>| one.declared == other.declared && one.files == other.files && shared(&one.good, &other.good);
    a.len() == b.len() && a.iter().all(|(key, one)| b.get(key).is_some_and(|other| is_same(one, other)))
}

impl<D: Clone + PartialEq, T> Made<D, T> {
    /// It itself, if nothing changed that it was made of. Made anew once an hour all the same: time passes for certificates too.
    fn still(&self, declared: &D, files: &[Option<Arc<[u8]>>], now: UnixSeconds) -> Option<Self> {
        let is_same = self.declared == *declared && self.files == files && (self.at..self.at + LOOK_AGAIN).contains(&now);
        let Self { declared, files, at, found, good } = self;
        is_same.then(|| Self { declared: declared.clone(), files: files.clone(), at: *at, found: found.clone(), good: good.clone() })
    }
}

impl Findings {
    /// Several listeners may name one file.
    fn add(&mut self, more: &Findings) {
        self.refused.extend_from_slice(&more.refused);
        self.warnings.append(more.warnings.clone());
    }

    fn once(mut self) -> Self {
        self.refused.sort_by(|a, b| (&a.file, &a.message).cmp(&(&b.file, &b.message)));
        self.refused.dedup();
        self.warnings.sort();
        self
    }
}

impl<'a> Reading<'a> {
    /// What stands in a file.
    fn file(&self, name: &Arc<str>) -> Result<&'a [u8], Box<Diagnostic>> {
        let absent = || wrong(name, "it cannot be read", "put the file there, readable for this process");
        self.files.get(name).map(|contents| &**contents).ok_or_else(absent)
    }

    fn contents<'n>(&self, names: impl IntoIterator<Item = &'n Arc<str>>) -> Vec<Option<Arc<[u8]>>> {
        names.into_iter().map(|name| self.files.get(name).cloned()).collect()
    }
}

/// What is wrong with a file as a whole.
fn wrong(file: &Arc<str>, message: impl Into<String>, hint: impl Into<String>) -> Box<Diagnostic> {
    Box::new(Diagnostic {
        file: Arc::clone(file),
        span: Span { line: 1, column: 1 },
        document: None,
        pointer: "".into(),
        message: message.into(),
        expected: None,
        found: None,
        hint: Some(hint.into()),
    })
}
