//! What a sidecar is started with. What may change while it runs comes in by its policy source, or by its settings' own layers.

use crate::connection::Entrance;
use crate::policy::settings_watch::{SettingsError, SettingsSource};
use crate::request::upstream::resolve::Lookup;
use crate::telemetry::spool::Sink;
use bulkhead_config::name::ServiceName;
use bulkhead_config::settings::{Settings as Core, Workers};
use bulkhead_config::snapshot::Endpoint;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Port of probes and metrics.
pub const PROBE_PORT: u16 = 4_791;
/// Workers where nobody says how many, if there are as many processors.
const WORKERS_MAX: usize = 2;

/// What a sidecar is started with.
pub struct Settings {
    /// Where it keeps its admin socket, its token, its addresses and the last-known-good policy. Made if it is not there.
    pub data_dir: PathBuf,
    /// Takes the place of the sidecar that runs with this data directory, usually the same one.
    pub take_over: Option<PathBuf>,
    /// Where probes and metrics are served; port 0: any free one.
    pub probe_address: SocketAddr,
    /// Opens the admin on this port of loopback too; 0: any free one.
    pub admin_port: Option<u16>,
    /// Addresses in place of those that the policy declares.
    pub listen: Vec<(Entrance, SocketAddr)>,
    /// An endpoint in place of those that the policy declares for a service.
    pub endpoint: Option<(ServiceName, Endpoint)>,
    /// Who knows the addresses of upstreams' names.
    pub lookup: Lookup,
    /// Where the access log goes; nowhere if absent.
    pub access_log: Option<Sink>,
    /// Where the application log goes.
    pub log: Sink,
    /// `core.yaml` in effect.
    pub core: Core,
    /// Where `core` was read from; read again when it changes.
    pub source: SettingsSource,
}

impl Settings {
    /// Reads `core` and leaves everything else at its default.
    ///
    /// # Errors
    /// Every mistake in any layer.
    pub fn load(data_dir: PathBuf, source: SettingsSource) -> Result<Self, SettingsError> {
        let core = source.load()?;
        Ok(Self {
            data_dir,
            take_over: None,
            probe_address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PROBE_PORT)),
            admin_port: None,
            listen: Vec::new(),
            endpoint: None,
            lookup: Lookup::system(),
            access_log: None,
            log: Sink::Stderr,
            core,
            source,
        })
    }

    /// How many threads serve requests. `auto`: the smaller of what the process may use (cgroup quota and affinity) and two; a
    /// sidecar is not the application.
    #[must_use]
    pub fn workers(&self) -> NonZeroUsize {
        let count = match self.core.workers() {
            Workers::Count(count) => usize::from(count),
            Workers::Auto => std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(WORKERS_MAX),
        };
        NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN)
    }
}
