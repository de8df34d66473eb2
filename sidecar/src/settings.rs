//! What a sidecar is started with. Everything that can change while it runs comes in by its policy source instead.

use crate::admin::Setting;
use crate::connection::Entrance;
use crate::policy::PROBATION;
use crate::telemetry::log::Level;
use crate::telemetry::spool::Sink;
use bulkhead_config::name::ServiceName;
use bulkhead_config::snapshot::Endpoint;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Port of probes and metrics.
pub const PROBE_PORT: u16 = 4_791;
/// Workers where nobody says how many, if there are as many processors.
const WORKERS_MAX: usize = 2;

/// What a sidecar is started with.
pub struct Settings {
    /// Where it keeps its admin socket, its token, its addresses and the last-known-good policy. Made if it is not there.
    pub data_dir: PathBuf,
    /// How many threads serve requests.
    pub workers: NonZeroUsize,
    /// Where probes and metrics are served; port 0: any free one.
    pub probe_address: SocketAddr,
    /// Opens the admin on this port of loopback too; 0: any free one.
    pub admin_port: Option<u16>,
    /// Addresses in place of those that the policy declares.
    pub listen: Vec<(Entrance, SocketAddr)>,
    /// An endpoint in place of those that the policy declares for a service.
    pub endpoint: Option<(ServiceName, Endpoint)>,
    /// Where the access log goes; nowhere if absent.
    pub access_log: Option<Sink>,
    /// Where the application log goes.
    pub log: Sink,
    /// Lines of this level and above are written.
    pub level: Level,
    /// How long a drain waits for what is being answered.
    pub drain_deadline: Duration,
    /// How long a version of the policy must be served to count as good.
    pub probation: Duration,
    /// Whether `/metrics` answers.
    pub metrics_enabled: bool,
    /// How often the system is read for metrics.
    pub metrics_interval: Duration,
    /// Settings in effect, as the admin shows them.
    pub shown: Vec<Setting>,
}

impl Settings {
    /// Settings with defaults for everything but the data directory.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            workers: default_workers(),
            probe_address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PROBE_PORT)),
            admin_port: None,
            listen: Vec::new(),
            endpoint: None,
            access_log: None,
            log: Sink::Stderr,
            level: Level::Info,
            drain_deadline: Duration::from_secs(30),
            probation: PROBATION,
            metrics_enabled: true,
            metrics_interval: Duration::from_secs(30),
            shown: Vec::new(),
        }
    }
}

/// The smaller of what the process may use (cgroup quota and affinity) and two: a sidecar is not the application.
#[must_use]
pub fn default_workers() -> NonZeroUsize {
    let usable = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(usable.min(WORKERS_MAX)).unwrap_or(NonZeroUsize::MIN)
}
