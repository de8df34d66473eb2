//! System: what the machine or the container shows of CPU, memory and disk, and what this process takes of it.
//!
//! Where a cgroup (v2) limits CPU or memory, that limit is the whole; else the machine is. Readings that the system does not
//! give are left out, never guessed. Read at an interval, on a thread that may wait for a slow disk.

use crate::telemetry::metrics::Metrics;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One look at the system.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Reading {
    /// CPU time used of what may be used since the look before, 0 to 1.
    pub(crate) cpu: Option<f64>,
    /// Memory used, and how much there is.
    pub(crate) memory: Option<(u64, u64)>,
    /// Space used of the data directory's file system, 0 to 1.
    pub(crate) disk: Option<f64>,
}

/// Looks at the system now, soon, and then ever less often down to `core.metrics.collection_interval`, for as long as it is
/// polled: CPU needs two looks, the first scrape should find it, and the effort of starting should not stand there for long.
pub async fn watch(metrics: Arc<Metrics>, data_dir: PathBuf) {
    let mut system = System::new(Path::new("/proc"), Path::new("/sys/fs/cgroup"), data_dir);
    let mut pause = Duration::from_millis(200);
    loop {
        let looked = tokio::task::spawn_blocking(move || {
            let reading = system.look();
            (system, reading)
        });
        let Ok((again, reading)) = looked.await else { return };
        system = again;
        metrics.system(reading);
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(metrics.interval());
    }
}

struct System {
    proc: PathBuf,
    /// The cgroup's folder and those above it up to the root: a limit may stand in any of them.
    cgroups: Vec<PathBuf>,
    data_dir: PathBuf,
    before: Option<Cpu>,
}

/// CPU time in one unit: used, and passed times the CPUs that may be used.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cpu {
    used: f64,
    whole: f64,
}

impl System {
    fn new(proc: &Path, cgroup_root: &Path, data_dir: PathBuf) -> Self {
        let own = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let own = cgroup_root.join(own);
        let cgroups = own.ancestors().take_while(|folder| folder.starts_with(cgroup_root)).map(Path::to_owned).collect();
        Self { proc: proc.to_owned(), cgroups, data_dir, before: None }
    }

    fn look(&mut self) -> Reading {
        let cpu = self.cgroup_cpu().or_else(|| self.machine_cpu());
        let before = std::mem::replace(&mut self.before, cpu);
        let ratio = cpu.zip(before).filter(|(now, before)| now.whole > before.whole);
        Reading {
            cpu: ratio.map(|(now, before)| ((now.used - before.used) / (now.whole - before.whole)).clamp(0.0, 1.0)),
            memory: self.cgroup_memory().or_else(|| self.machine_memory()),
            disk: disk(&self.data_dir),
        }
    }

    /// `cpu.max` is `quota period` in microseconds, or `max period`.
    #[expect(clippy::disallowed_methods, reason = "once per collection interval, off the workers")]
    fn cgroup_cpu(&self) -> Option<Cpu> {
        let limited = self.cgroups.iter().find_map(|folder| {
            let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            Some((folder, quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?))
        });
        let (folder, cpus) = limited?;
        let used = field(&fs::read_to_string(folder.join("cpu.stat")).ok()?, "usage_usec")? as f64;
        // Any fixed moment does: only differences count.
        let began = *BEGAN.get_or_init(Instant::now);
        Some(Cpu { used, whole: Instant::now().duration_since(began).as_secs_f64() * 1e6 * cpus })
    }

    /// The first line of `/proc/stat`: ticks of user, nice, system, idle, iowait and others.
    fn machine_cpu(&self) -> Option<Cpu> {
        let text = fs::read_to_string(self.proc.join("stat")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // Guests are contained in user and nice; counting them again would show more than there is.
        let ticks: Vec<f64> = line.split_whitespace().take(8).map_while(|tick| tick.parse().ok()).collect();
        let whole = ticks.iter().sum();
        let idle: f64 = ticks.iter().skip(3).take(2).sum();
        Some(Cpu { used: whole - idle, whole })
    }

    fn cgroup_memory(&self) -> Option<(u64, u64)> {
        let limited = self.cgroups.iter().find_map(|folder| {
            let limit = fs::read_to_string(folder.join("memory.max")).ok()?;
            Some((folder, limit.trim().parse::<u64>().ok()?))
        });
        let (folder, limit) = limited?;
        let current: u64 = fs::read_to_string(folder.join("memory.current")).ok()?.trim().parse().ok()?;
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        Some((current.saturating_sub(field(&stat, "inactive_file").unwrap_or(0)), limit))
    }

    fn machine_memory(&self) -> Option<(u64, u64)> {
        let text = fs::read_to_string(self.proc.join("meminfo")).ok()?;
        let whole = field(&text, "MemTotal:")? << 10;
        Some((whole.saturating_sub(field(&text, "MemAvailable:")? << 10), whole))
    }
}

static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();

/// The number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut words = text.lines().map(str::split_whitespace).find_map(|mut words| (words.next() == Some(name)).then_some(words))?;
    words.next()?.parse().ok()
}

/// As `df` counts: of what ordinary users may fill.
fn disk(folder: &Path) -> Option<f64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    let whole = used.saturating_add(stat.f_bavail);
    (whole > 0).then(|| used as f64 / whole as f64)
}

/// What this process takes, under the names that every Prometheus client uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Process {
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) virtual_bytes: Option<u64>,
    pub(crate) threads: Option<u64>,
    pub(crate) start_seconds: Option<f64>,
    pub(crate) open_fds: Option<u64>,
    pub(crate) max_fds: Option<u64>,
}

impl Process {
    pub(crate) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat").ok().and_then(|text| field(&text, "btime"));
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let of_stat = Self::of_stat(&stat, boot, ticks_per_second, rustix::param::page_size());
        let max_fds = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Self { open_fds: open_fds(), max_fds, ..of_stat }
    }

    /// Of the line in `/proc/self/stat`, whose second member, the name, may hold blanks and parentheses.
    fn of_stat(line: &str, boot: Option<u64>, ticks_per_second: f64, page: usize) -> Self {
        let after_name = line.rsplit_once(") ").map_or("", |(_, rest)| rest);
        // The manual counts from 1 and begins with pid and name.
        let member = |number: usize| after_name.split_whitespace().nth(number - 3).and_then(|word| word.parse::<u64>().ok());
        let seconds = |ticks: u64| ticks as f64 / ticks_per_second;
        Self {
            cpu_seconds: member(14).zip(member(15)).map(|(user, system)| seconds(user + system)),
            threads: member(20),
            start_seconds: member(22).zip(boot).map(|(since_boot, boot)| boot as f64 + seconds(since_boot)),
            virtual_bytes: member(23),
            resident_bytes: member(24).map(|pages| pages.saturating_mul(u64::try_from(page).unwrap_or(4_096))),
            open_fds: None,
            max_fds: None,
        }
    }
}

/// The folder's size tells since Linux 6.2; before, it is zero and its entries have to be counted.
fn open_fds() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.size() {
        0 => u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok(),
        known => Some(known),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn without_a_limit_the_machine_is_the_whole() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("proc/self/cgroup", "0::/user.slice\n"),
                ("proc/stat", "cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 1 1 1\n"),
                ("proc/meminfo", "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    400 kB\n"),
                ("cgroup/user.slice/cpu.max", "max 100000\n"),
                ("cgroup/user.slice/memory.max", "max\n"),
            ],
        );
        let mut system = System::new(&root.path().join("proc"), &root.path().join("cgroup"), root.path().to_owned());
        let first = system.look();
        assert_eq!((first.cpu, first.memory), (None, Some((600 << 10, 1_000 << 10))));
        assert!(first.disk.is_some_and(|used| (0.0..=1.0).contains(&used)));
        write(root.path(), &[("proc/stat", "cpu  125 0 125 750 100 0 0 0 60 0\n")]);
        assert_eq!(system.look().cpu, Some(0.5));
    }

    #[test]
    fn a_limit_of_a_group_above_is_the_whole() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("proc/self/cgroup", "0::/pod/container\n"),
                ("proc/stat", "cpu  1 1 1 1 1 1 1 1 1 1\n"),
                ("cgroup/pod/container/cpu.max", "max 100000\n"),
                ("cgroup/pod/cpu.max", "50000 100000\n"),
                ("cgroup/pod/cpu.stat", "usage_usec 1000\nuser_usec 900\n"),
                ("cgroup/pod/container/memory.max", "1000\n"),
                ("cgroup/pod/container/memory.current", "700\n"),
                ("cgroup/pod/container/memory.stat", "anon 1\ninactive_file 100\n"),
            ],
        );
        let mut system = System::new(&root.path().join("proc"), &root.path().join("cgroup"), root.path().to_owned());
        assert_eq!(system.look().memory, Some((600, 1_000)));
        // More CPU time than could have passed: shown as all of it.
        write(root.path(), &[("cgroup/pod/cpu.stat", "usage_usec 999999999999\n")]);
        assert_eq!(system.look().cpu, Some(1.0));
    }

    #[test]
    fn what_the_system_does_not_give_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        let mut system = System::new(&root.path().join("proc"), &root.path().join("cgroup"), root.path().join("gone"));
        assert_eq!(system.look(), Reading::default());
        assert_eq!(Process::of_stat("", None, 100.0, 4_096), Process::default());
    }

    #[test]
    fn a_name_with_blanks_and_parentheses_shifts_nothing() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194304 0 0 0 0 250 50 0 0 20 0 9 0 1000 8192 3 18446744073709551615";
        let process = Process::of_stat(line, Some(1_000), 100.0, 4_096);
        assert_eq!(process.cpu_seconds, Some(3.0));
        assert_eq!(process.threads, Some(9));
        assert_eq!(process.start_seconds, Some(1_010.0));
        assert_eq!((process.virtual_bytes, process.resident_bytes), (Some(8_192), Some(3 * 4_096)));
    }

    #[test]
    fn this_process_shows_all_of_it() {
        let process = Process::read();
        assert!(process.cpu_seconds.is_some() && process.start_seconds.is_some() && process.threads.is_some());
        assert!(process.open_fds.is_some_and(|fds| fds > 0) && process.resident_bytes.is_some_and(|bytes| bytes > 0));
    }
}
