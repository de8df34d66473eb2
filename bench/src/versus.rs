//! The comparison: our sidecar and its peers behind the same load, in interleaved rounds of one run.
//!
//! Installing, building and measuring belong to those who know how (`install.sh`, cargo, `compare.py`). Here they are put in
//! order and ended when asked to, and our medians are set beside the peers'.

mod figures;
pub(crate) mod step;
mod targets;

use clap::{Args, ValueEnum};
use figures::Figures;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use step::{Error, Steps};
use targets::Comparison;

/// The run without a proxy.
const DIRECT: &str = "direct";
/// Name of our subject in `subjects/bulkhead.json`, thus in every table.
const OURS: &str = "bulkhead";

/// Run our sidecar beside Envoy, HAProxy, nginx and pingora, and print CPU per request, ratios and targets
///
/// Installs the peers and the load tools, builds the sidecar with profile `dist`, then measures: every proxy has one worker
/// and the same upstream, rounds are interleaved, and the figure is CPU time per completed request (median). All traffic
/// stays on 127.0.0.1. bench/versus/README.md says how the figures are taken.
#[derive(Args)]
pub(crate) struct Options {
    /// Scenarios to run, or `all`; `--list` names them
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "plain,full,cold")]
    scenario: Vec<String>,

    /// Peers to run beside ours, or `none`; `--list` names them
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "tokio-relay,haproxy,haproxy-jwtcache,nginx,envoy,envoy-jwtcache,pingora"
    )]
    only: Vec<String>,

    /// Interleaved rounds; medians are over these
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Length of one round of one proxy
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    secs: u32,

    /// Where proxies and load run
    #[arg(long, value_enum, default_value_t = Pin::Split)]
    pin: Pin,

    /// Requests per second of the open-loop scenarios (`rate`, `fullrate`)
    #[arg(long, value_name = "N", default_value_t = 3000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,

    /// File for every round and median as JSON [default: versus.json in cargo's target folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// File to append all tables to, as Markdown
    #[arg(long, value_name = "FILE")]
    md: Option<PathBuf>,

    /// End with code 1 when a target is missed or could not be measured
    #[arg(long)]
    gate: bool,

    /// Take peers and tools as they are
    #[arg(long)]
    no_install: bool,

    /// Take the sidecar as it was built last
    #[arg(long)]
    no_build: bool,

    /// List scenarios and peers, and do nothing else
    #[arg(long)]
    list: bool,

    /// Bulkhead's source tree [default: where this program was built from]
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
}

/// Placement on CPUs.
#[derive(Clone, Copy, ValueEnum)]
enum Pin {
    /// Proxy on CPU 1, load and upstream on CPU 0
    Split,
    /// Anywhere, as the scheduler likes
    None,
    /// All on CPU 1: the mode for latency at a low rate
    One,
}

impl Pin {
    fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::None => "none",
            Self::One => "one",
        }
    }

    fn check(self) -> Result<(), Error> {
        match (self, std::thread::available_parallelism()) {
            (Self::Split | Self::One, Ok(cpus)) if cpus.get() < 2 => {
                Err(Error::Usage("this machine has no CPU 1 to pin the proxy to; --pin none compares without pinning".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// How a comparison ended that ran to its end.
pub(crate) enum Ended {
    Done,
    TargetMissed,
}

/// From an empty machine to the ratios.
pub(crate) fn run(options: &Options) -> Result<Ended, Error> {
    let mut steps = Steps::new()?;
    let harness = Harness::find(options)?;
    // Before minutes are spent: a misspelt name, or no Python, ends it here.
    let list = steps.output("python3", harness.compare(options).arg("--list"))?;
    if options.list {
        print!("{list}");
        return Ok(Ended::Done);
    }
    options.pin.check()?;
    if !options.no_install {
        eprintln!(
            "install: what is missing of Envoy, HAProxy, nginx, Varnish, pingora, wrk and h2load, into {}; about four minutes on two cores \
             the first time, then seconds",
            peers_folder().display()
        );
        steps.run("bash", Command::new("bash").arg(harness.folder.join("install.sh")))?;
    }
    let target = target_folder(&mut steps, &harness.repo)?;
    let sidecar = built_sidecar(&mut steps, &harness.repo, options.no_build)?;
    let out = options.out.clone().unwrap_or_else(|| target.join("versus.json"));
    eprintln!("measure: {} with {OURS} beside {}", options.scenario.join(", "), options.only.join(", "));
    steps.run("python3", &mut measure(options, &harness, &sidecar, &out)?)?;

    let figures = Figures::read(&out)?;
    let comparison = Comparison::of(&figures, &options.only);
    println!("{comparison}");
    if let Some(md) = &options.md {
        append(md, &comparison.to_string())?;
    }
    if let Some((scenario, reason)) = figures.left_out() {
        return Err(Error::LeftOut { scenario: scenario.to_owned(), reason: reason.to_owned() });
    }
    Ok(if options.gate && comparison.misses_a_target() { Ended::TargetMissed } else { Ended::Done })
}

/// Where the harness and the source tree around it are.
struct Harness {
    repo: PathBuf,
    folder: PathBuf,
}

impl Harness {
    fn find(options: &Options) -> Result<Self, Error> {
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
        let repo = options.repo.clone().unwrap_or_else(|| built_from.parent().unwrap_or(built_from).to_owned());
        let folder = repo.join("bench/versus");
        match folder.join("compare.py").is_file() {
            true => Ok(Self { repo, folder }),
            false => Err(Error::Absent {
                what: folder.join("compare.py").display().to_string(),
                brings: "name Bulkhead's source tree with --repo DIR",
            }),
        }
    }

    fn compare(&self, options: &Options) -> Command {
        let mut only = options.only.clone();
        // What a proxy adds to a latency is told by the way without one.
        if options.scenario.iter().any(|scenario| scenario.ends_with("rate") || scenario == "all")
            && !only.iter().any(|peer| peer == DIRECT)
        {
            only.push(DIRECT.to_owned());
        }
        let mut command = Command::new("python3");
        command.arg(self.folder.join("compare.py")).args(["--scenario", &options.scenario.join(",")]).args(["--only", &only.join(",")]);
        command
    }
}

fn measure(options: &Options, harness: &Harness, sidecar: &Path, out: &Path) -> Result<Command, Error> {
    let mut command = harness.compare(options);
    command
        .arg("--subject-json")
        .arg(harness.folder.join("subjects/bulkhead.json"))
        .args(["--rounds", &options.rounds.to_string(), "--secs", &options.secs.to_string(), "--pin", options.pin.name()])
        .args(["--rate", &options.rate.to_string()])
        .arg("--out")
        .arg(out)
        // The subject names the binary without a folder, so that the file serves any target folder.
        .env("PATH", with_first(sidecar.parent().unwrap_or(Path::new(".")))?);
    if let Some(md) = &options.md {
        command.arg("--md").arg(md);
    }
    Ok(command)
}

fn with_first(folder: &Path) -> Result<OsString, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders)
        .map_err(|_| Error::Unusable { what: folder.display().to_string(), why: "a folder in PATH cannot have `:` in its name".to_owned() })
}

/// The folder `install.sh` fills; its default is the script's own.
fn peers_folder() -> PathBuf {
    match std::env::var_os("PEERS").filter(|folder| !folder.is_empty()) {
        Some(folder) => folder.into(),
        None => std::env::temp_dir().join("peers"),
    }
}

fn cargo(repo: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repo);
    command
}

/// The sidecar with profile `dist`, built unless it is to be taken as it is.
pub(crate) fn built_sidecar(steps: &mut Steps, repo: &Path, as_it_is: bool) -> Result<PathBuf, Error> {
    let sidecar = target_folder(steps, repo)?.join("dist/bulkhead-sidecar");
    if !as_it_is {
        eprintln!("build: bulkhead-sidecar with profile dist; some minutes the first time, all of its crates in one unit");
        steps.run("cargo", cargo(repo).args(["build", "--profile", "dist", "-p", "bulkhead-sidecar"]))?;
    }
    if !sidecar.is_file() {
        return Err(Error::Absent { what: sidecar.display().to_string(), brings: "leave out --no-build" });
    }
    Ok(sidecar)
}

/// cargo's target folder, which environment and configuration may have moved.
fn target_folder(steps: &mut Steps, repo: &Path) -> Result<PathBuf, Error> {
    let text = steps.output("cargo", cargo(repo).args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let folder = metadata.get("target_directory").and_then(|folder| folder.as_str());
    folder.map(PathBuf::from).ok_or_else(|| Error::Unusable {
        what: "the answer of `cargo metadata`".to_owned(),
        why: "it names no target_directory".to_owned(),
    })
}

fn append(file: &Path, text: &str) -> Result<(), Error> {
    let wrote = OpenOptions::new().create(true).append(true).open(file).and_then(|mut file| writeln!(file, "{text}"));
    wrote.map_err(|cause| Error::Unusable { what: file.display().to_string(), why: cause.to_string() })
}
