//! Notices that something changed in a few directories. What changed is not its business: whoever asked reads them again.
//!
//! Directories are watched one by one, each before it is read, so that nothing falls between reading and watching, and a
//! directory that was replaced under its name is watched anew. Links are followed by who reads, never here.

use crate::clock::{Clock, Origin};
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Silence after which a change counts as over: an editor's save is several steps.
const QUIET: Duration = Duration::from_millis(50);
/// Longest wait for silence: what never stops changing is read all the same.
const NOISE_MAX: Duration = Duration::from_millis(500);
/// Reads again without being told: a link's target elsewhere, a network file system, a lost event.
const RESCAN: Duration = Duration::from_secs(30);
/// The same where directories cannot be watched.
const RESCAN_BLIND: Duration = Duration::from_secs(2);
/// Events that wait to be looked at; more only mean that something changed.
const EVENTS_MAX: usize = 1_024;

/// Why [`Watch::wait`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Something changed, or it is time to look again.
    Look,
    /// Nobody wants to know any more.
    Stop,
}

/// Which entries of a watched directory matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Every one.
    All,
    /// One of this name.
    Only(OsString),
}

/// What the notifying thread hands over.
enum Wake {
    Paths(Vec<PathBuf>),
    Anything,
    Stop,
}

/// One watched directory.
struct Watched {
    /// Device and inode: the same name may become another directory.
    identity: (u64, u64),
    interest: Interest,
    round: u64,
}

/// Ends a [`Watch`] from another thread.
#[derive(Debug, Clone)]
pub(crate) struct Stop(SyncSender<Wake>);

impl Stop {
    /// Wakes the watch to end; when its queue is full it is awake and finds its listener gone.
    pub(crate) fn stop(&self) {
        let _ = self.0.try_send(Wake::Stop);
    }
}

/// Directories under watch.
pub(crate) struct Watch {
    watcher: Option<RecommendedWatcher>,
    wakes: Receiver<Wake>,
    lost: Arc<AtomicBool>,
    directories: HashMap<PathBuf, Watched>,
    round: u64,
    blind: Option<String>,
    clock: Clock,
}

impl Watch {
    /// Watches nothing yet.
    pub(crate) fn new() -> (Watch, Stop) {
        let (sender, wakes) = sync_channel(EVENTS_MAX);
        let lost = Arc::new(AtomicBool::new(false));
        let (watcher, blind) = match notify::recommended_watcher(handler(sender.clone(), Arc::clone(&lost))) {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let clock = Clock::new(Origin::begin());
        (Watch { watcher, wakes, lost, directories: HashMap::new(), round: 0, blind, clock }, Stop(sender))
    }

    /// Why changes are found by looking again only; `None` while every directory is watched.
    pub(crate) fn blind(&self) -> Option<&str> {
        self.blind.as_deref()
    }

    /// Begins a round of reading: directories that are not named again until [`Watch::finish`] are let go.
    pub(crate) fn begin(&mut self) {
        self.round += 1;
        if self.watcher.is_some() {
            self.blind = None;
        }
    }

    /// Watches a directory from here on. To be called before reading it.
    pub(crate) fn directory(&mut self, path: &Path, metadata: &Metadata, interest: Interest) {
        let Some(watcher) = &mut self.watcher else { return };
        let Ok(path) = std::path::absolute(path) else { return };
        let identity = (metadata.dev(), metadata.ino());
        if let Some(known) = self.directories.get_mut(&path)
            && known.identity == identity
        {
            // Twice in one round (the folder beside its own key file): the wider interest counts.
            if known.round != self.round || interest == Interest::All {
                known.interest = interest;
            }
            known.round = self.round;
            return;
        }
        match watcher.watch(&path, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.directories.insert(path, Watched { identity, interest, round: self.round });
            }
            // Gone since it was listed: the next look will not find it either.
            Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
            Err(error) => self.blind = Some(blindness(&error)),
        }
    }

    /// Ends a round of reading.
    pub(crate) fn finish(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let round = self.round;
        self.directories.retain(|path, watched| {
            let keep = watched.round == round;
            if !keep {
                // A directory that is gone took its watch along.
                let _ = watcher.unwatch(path);
            }
            keep
        });
    }

    /// Waits until something changed and is quiet again, or until it is time to look anyway.
    pub(crate) fn wait(&mut self) -> Woken {
        let patience = if self.blind.is_some() { RESCAN_BLIND } else { RESCAN };
        let began = self.clock.now();
        loop {
            let left = patience.saturating_sub(self.clock.now().since(began));
            match self.wakes.recv_timeout(left) {
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return Woken::Stop,
                Err(RecvTimeoutError::Timeout) => return Woken::Look,
                Ok(wake) => {
                    if self.matters(wake) {
                        return self.settle();
                    }
                }
            }
        }
    }

    /// Waits for silence, but not for ever.
    fn settle(&mut self) -> Woken {
        let began = self.clock.now();
        loop {
            let left = NOISE_MAX.saturating_sub(self.clock.now().since(began));
            match self.wakes.recv_timeout(QUIET.min(left)) {
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return Woken::Stop,
                Err(RecvTimeoutError::Timeout) => return Woken::Look,
                Ok(wake) => {
                    self.matters(wake);
                }
            }
        }
    }

    /// Whether an event is about something watched for.
    fn matters(&mut self, wake: Wake) -> bool {
        let mut matters = self.lost.swap(false, Ordering::Relaxed);
        let paths = match wake {
            Wake::Paths(paths) => paths,
            Wake::Anything => return true,
            Wake::Stop => return matters,
        };
        for path in paths {
            // A watched directory that is itself moved or deleted loses its watch: it is watched anew when it is read again.
            if let Some(watched) = self.directories.get_mut(&path) {
                watched.identity = (0, 0);
                matters = true;
            }
            let above = path.parent().and_then(|parent| self.directories.get(parent));
            matters |= above.is_some_and(|watched| match &watched.interest {
                Interest::All => true,
                Interest::Only(name) => path.file_name() == Some(name),
            });
        }
        matters
    }
}

/// Runs on the notifying thread: never waits, and what does not fit is remembered as lost.
fn handler(wakes: SyncSender<Wake>, lost: Arc<AtomicBool>) -> impl Fn(notify::Result<notify::Event>) + Send + 'static {
    move |event| {
        let wake = match event {
            Ok(event) if event.need_rescan() => Wake::Anything,
            Ok(event) if changes(&event.kind) => Wake::Paths(event.paths),
            Ok(_) => return,
            Err(_) => Wake::Anything,
        };
        if wakes.try_send(wake).is_err() {
            lost.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether an event can mean another content. Reading is no change, or our own reading would wake us for ever.
fn changes(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(access) => *access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// What keeps directories from being watched, and what helps.
fn blindness(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "the system watches no more directories (raise the sysctls fs.inotify.max_user_watches and max_user_instances)".to_owned()
        }
        _ => error.to_string(),
    }
}
