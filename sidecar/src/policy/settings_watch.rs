//! Settings, read again: when their file changes and on SIGHUP.
//!
//! What can take effect at once does: the log level, whether and how often is measured, and whatever readers take from
//! [`Current`]. The rest is named in log and status until the next start. Mistakes leave everything as it is.

use super::folder::bytes;
use super::status::Status;
use super::watch::{Interest, Stop, Watch, Woken};
use crate::telemetry::log::{Level, Log, Value};
use crate::telemetry::metrics::Metrics;
use arc_swap::ArcSwap;
use bulkhead_config::diagnostic::Diagnostics;
use bulkhead_config::settings::{self, Environment, Settings, Sources};
use bulkhead_config::text::{self, Budget};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

const COMPONENT: &str = "core.config";

/// The settings of this moment, for readers that take them anew each time.
pub type Current = ArcSwap<Settings>;

/// Where settings are read from, as often as need be.
#[derive(Debug, Clone)]
pub struct SettingsSource {
    /// Picks the built-in layer.
    pub environment: Environment,
    /// A file over it.
    pub file: Option<PathBuf>,
    /// The variables this process was started with.
    pub variables: BTreeMap<String, String>,
    /// Flags, `core.x.y=value`.
    pub flags: Vec<String>,
}

/// Why settings cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file.
    #[error("the settings in {} cannot be read: {cause}; name a file that is there, or leave it out", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// What is written.
    #[error("{0}")]
    Mistakes(Diagnostics),
}

impl SettingsSource {
    /// Reads all layers.
    ///
    /// # Errors
    /// When the file cannot be read, and every mistake in any layer.
    pub fn load(&self) -> Result<Settings, SettingsError> {
        let name = self.file.as_ref().map(|path| path.display().to_string());
        let text = self.file.as_deref().map(read).transpose()?;
        let file = name.as_deref().zip(text.as_deref());
        let Self { environment, variables, flags, .. } = self;
        settings::load(&Sources { environment: *environment, file, variables, flags }).map_err(SettingsError::Mistakes)
    }
}

fn read(path: &Path) -> Result<String, SettingsError> {
    let unreadable = |cause| SettingsError::Unreadable { path: path.to_owned(), cause };
    let bytes = bytes(path, Budget::FILE.bytes).map_err(unreadable)?;
    let name: Arc<str> = path.display().to_string().into();
    let text = text::utf8(&bytes).map_err(|mistake| {
        let mut mistakes = Diagnostics::new();
        mistakes.push(mistake.in_file(&name, None));
        SettingsError::Mistakes(mistakes)
    })?;
    Ok(text.to_owned())
}

/// What settings act on.
pub struct Hands {
    /// Takes the level.
    pub log: Log,
    /// Takes whether and how often is measured.
    pub metrics: Arc<Metrics>,
    /// Names what waits for a restart.
    pub status: Arc<Status>,
    /// Takes all of it.
    pub current: Arc<Current>,
}

impl Hands {
    /// Puts settings into effect, as far as that goes without a restart.
    pub fn take(&self, settings: Settings) {
        if let Ok(level) = settings.log_level().as_str().parse::<Level>() {
            self.log.set_level(level);
        }
        self.metrics.enable(settings.prometheus_enabled());
        self.metrics.collect_every(settings.collection_interval());
        self.current.store(Arc::new(settings));
    }
}

/// Reads the settings again whenever there may be others, until `stop` is ready. What `hands.current` holds at first is what
/// this process was started with.
pub async fn follow(source: SettingsSource, hands: Hands, stop: impl Future<Output = ()>) {
    let started_with = hands.current.load_full();
    let (changed, mut changes) = mpsc::channel(1);
    let _watching = source.file.clone().and_then(|file| watch(file, changed.clone(), &hands.log));
    let mut hangup = signal(SignalKind::hangup()).ok();
    if hangup.is_none() {
        hands.log.warn(COMPONENT, None, "SIGHUP cannot be received; settings are read again when their file changes", &[]);
    }
    let mut stop = std::pin::pin!(stop);
    loop {
        let was_asked = tokio::select! {
            biased;
            () = &mut stop => return,
            Some(()) = changes.recv() => false,
            () = received(&mut hangup) => true,
        };
        let reading = source.clone();
        // A panic of the reader is logged by its hook, and costs this reading alone.
        if let Ok(read) = spawn_blocking(move || reading.load()).await {
            reload(&started_with, read, &hands, was_asked);
        }
    }
}

/// The next SIGHUP.
async fn received(hangup: &mut Option<tokio::signal::unix::Signal>) {
    let received = match hangup {
        Some(hangup) => hangup.recv().await,
        None => None,
    };
    if received.is_none() {
        std::future::pending::<()>().await;
    }
}

fn reload(started_with: &Settings, read: Result<Settings, SettingsError>, hands: &Hands, was_asked: bool) {
    let settings = match read {
        Ok(settings) => settings,
        Err(error) => {
            hands.log.warn(COMPONENT, None, "settings are not taken over", &[("mistakes", Value::Shown(&error))]);
            hands.status.settings_mistakes(Some(error.to_string()));
            return;
        }
    };
    hands.status.settings_mistakes(None);
    let changed = differing(&hands.current.load(), &settings).join(", ");
    let waiting = started_with.needs_restart(&settings);
    hands.status.needs_restart(waiting.iter().map(ToString::to_string).collect());
    hands.take(settings);
    // A remark in the file is no news; somebody who asked wants an answer.
    if was_asked || !changed.is_empty() {
        let waiting = waiting.join(", ");
        let more = [("changed", Value::from(&changed)), ("need_a_restart", Value::from(&waiting))];
        hands.log.info(COMPONENT, None, "settings were read again", &more);
    }
}

/// Keys whose values differ, as far as that can be shown.
fn differing(before: &Settings, after: &Settings) -> Vec<&'static str> {
    let mut keys = before.needs_restart(after);
    let pairs = before.entries().iter().zip(after.entries());
    keys.extend(pairs.filter(|(before, after)| before.shown != after.shown).map(|(_, after)| after.key));
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Ends the watching thread when it is dropped.
struct Watching(Stop);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Watches the folder of a file: its name may be a link, and a save may replace it.
fn watch(file: PathBuf, changed: mpsc::Sender<()>, log: &Log) -> Option<Watching> {
    let (mut watch, stop) = Watch::new();
    let look = move || {
        // Nothing yet, so that a change between the start and the first look is seen.
        let mut known = None;
        loop {
            watch.begin();
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if let Ok(metadata) = folder.metadata() {
                watch.directory(folder, &metadata, Interest::All);
            }
            watch.finish();
            let now = bytes(&file, Budget::FILE.bytes).ok();
            if known.as_ref() != Some(&now) {
                known = Some(now);
                // One that waits to be looked at is as good as two.
                let _ = changed.try_send(());
            }
            if watch.wait() == Woken::Stop || changed.is_closed() {
                return;
            }
        }
    };
    match std::thread::Builder::new().name("settings".to_owned()).spawn(look) {
        Ok(_) => Some(Watching(stop)),
        Err(error) => {
            let more = [("cause", Value::Shown(&error))];
            log.warn(COMPONENT, None, "the settings' file cannot be watched; send SIGHUP after a change", &more);
            None
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Counted;
    use crate::telemetry::spool::Sink;
    use std::fs;
    use std::num::NonZeroUsize;
    use std::time::Duration;

    fn hands(settings: Settings) -> Hands {
        let counted = Counted {
            workers: NonZeroUsize::MIN,
            refusals: [].into(),
            upstream_steps: [].into(),
            proxy_headers: [].into(),
            logs: Vec::new(),
        };
        Hands {
            log: Log::start(Sink::Other(Box::new(std::io::sink())), Level::Info).unwrap(),
            metrics: Arc::new(Metrics::new(counted).unwrap()),
            status: Arc::new(Status::default()),
            current: Arc::new(Current::from_pointee(settings)),
        }
    }

    fn source(file: &Path) -> SettingsSource {
        SettingsSource { environment: Environment::Dev, file: Some(file.to_owned()), variables: BTreeMap::new(), flags: Vec::new() }
    }

    async fn until(happened: impl Fn() -> bool) {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_changed_file_takes_effect_but_for_what_needs_a_restart_and_mistakes_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("core.yaml");
        // As editors do it.
        let save = |text: &str| {
            fs::write(folder.path().join(".core.yaml.new"), text).unwrap();
            fs::rename(folder.path().join(".core.yaml.new"), &file).unwrap();
        };
        save("core: { logging: { level: info }, sidecar: { workers: 1 } }");
        let hands = hands(source(&file).load().unwrap());
        let (log, metrics, status) = (hands.log.clone(), Arc::clone(&hands.metrics), Arc::clone(&hands.status));
        let current = Arc::clone(&hands.current);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let following = tokio::spawn(follow(source(&file), hands, async { drop(stopped.await) }));

        save("core: { logging: { level: debug }, metrics: { prometheus_enabled: false }, sidecar: { workers: 2 } }");
        until(|| log.tells(Level::Debug)).await;
        until(|| !current.load().prometheus_enabled() && !metrics.is_enabled()).await;
        assert_eq!(status.to_json(0)["settings_that_need_a_restart"], serde_json::json!(["core.sidecar.workers"]));

        save("core: { loging: { level: warn } }");
        until(|| !status.to_json(0)["settings_mistakes"].is_null()).await;
        let told = status.to_json(0)["settings_mistakes"].to_string();
        assert!(told.contains("core.yaml:1:9") && told.contains("logging"), "{told}");
        assert!(log.tells(Level::Debug) && !metrics.is_enabled());

        save("core: { logging: { level: warn }, sidecar: { workers: 1 } }");
        until(|| !log.tells(Level::Info) && metrics.is_enabled()).await;
        until(|| status.to_json(0)["settings_mistakes"].is_null()).await;
        assert_eq!(status.to_json(0)["settings_that_need_a_restart"], serde_json::json!([]));
        stop.send(()).unwrap();
        following.await.unwrap();
    }

    #[tokio::test]
    async fn sighup_is_answered_even_if_nothing_changed() {
        let source = SettingsSource { file: None, ..source(Path::new("")) };
        let (lines, written) = std::sync::mpsc::channel();
        let mut hands = hands(source.load().unwrap());
        hands.log = Log::start(Sink::Other(Box::new(Lines(lines))), Level::Info).unwrap();
        let following = tokio::spawn(follow(source, hands, std::future::pending()));
        // Until it has run once, the signal would end this process.
        tokio::task::yield_now().await;
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
        let told = std::cell::RefCell::new(Vec::new());
        until(|| {
            told.borrow_mut().extend(written.try_iter().flatten());
            String::from_utf8_lossy(&told.borrow()).contains("settings were read again")
        })
        .await;
        following.abort();
    }

    /// Hands over what is logged.
    struct Lines(std::sync::mpsc::Sender<Vec<u8>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_file_that_is_not_there_or_no_text_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = source(&folder.path().join("none.yaml")).load().unwrap_err();
        assert!(matches!(error, SettingsError::Unreadable { .. }) && error.to_string().contains("none.yaml"), "{error}");
        fs::write(folder.path().join("core.yaml"), b"core: \xff").unwrap();
        let error = source(&folder.path().join("core.yaml")).load().unwrap_err();
        assert!(error.to_string().contains("core.yaml:1:7"), "{error}");
    }
}
