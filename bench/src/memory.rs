//! Memory: what a sidecar takes at rest, for each idle connection, and for each tenant.
//!
//! Resident memory (`VmRSS`) of a sidecar with one worker, once it has come to rest. What is common to all connections is paid by
//! the first fifty, before anything is counted.

use crate::sidecar::{Sidecar, service, sidecar_under_test, unusable};
use crate::versus::Ended;
use crate::versus::step::Error;
use clap::Args;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

/// Connections before those that are counted.
const WARM_UP: u32 = 50;
/// Connections of one loopback address; the sidecar takes 4,096 of each.
const PER_SOURCE: u32 = 1_000;
/// Tenants of the second sidecar.
const TENANTS: u32 = 1_000;
/// What is promised of an idle connection, and of a sidecar at rest.
const CONNECTION_MAX: f64 = 8.0 * KIB;
const REST_MAX: f64 = 12e6;
const KIB: f64 = 1_024.0;

/// Measure what our sidecar takes at rest, for each idle connection and for each tenant
///
/// Builds the sidecar with profile `dist`, starts it with one worker, and holds connections that made one request each. All
/// traffic stays on 127.0.0.0/8.
#[derive(Args)]
pub(crate) struct Options {
    /// Connections to hold, one figure for each number
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1000,5000", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: Vec<u32>,

    /// End with code 1 when a target is missed
    #[arg(long)]
    gate: bool,

    /// Take the sidecar as it was built last
    #[arg(long)]
    no_build: bool,

    /// Measure this sidecar, and build none
    #[arg(long, value_name = "FILE", conflicts_with = "no_build")]
    sidecar: Option<PathBuf>,

    /// Bulkhead's source tree [default: where this program was built from]
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
}

/// One figure.
struct Figure {
    of: String,
    bytes: f64,
    at_most: Option<f64>,
}

impl Figure {
    fn misses(&self) -> bool {
        self.at_most.is_some_and(|most| self.bytes > most)
    }
}

/// From an empty target folder to the table.
pub(crate) fn run(options: &Options) -> Result<Ended, Error> {
    let program = sidecar_under_test(options.sidecar.as_deref(), options.repo.as_deref(), options.no_build)?;
    let most = options.connections.iter().copied().max().unwrap_or_default();
    allow_files(u64::from(most) + u64::from(WARM_UP) + 256)?;
    let figures = measure(&program, &options.connections)?;
    print!("{}", table(&figures));
    Ok(if options.gate && figures.iter().any(Figure::misses) { Ended::TargetMissed } else { Ended::Done })
}

fn measure(program: &Path, connections: &[u32]) -> Result<Vec<Figure>, Error> {
    let service = service()?;
    let mut figures = Vec::new();
    for &count in connections {
        let sidecar = start(program, &documents(service, 1))?;
        let address = sidecar.address().ok_or_else(|| absent("the sidecar's listener"))?;
        let _first = hold(address, 0..WARM_UP)?;
        let before = sidecar.resident()?;
        let held = hold(address, WARM_UP..WARM_UP + count)?;
        let each = grown(before, sidecar.resident()?) / f64::from(count);
        drop(held);
        figures.push(Figure { of: format!("an idle keep-alive connection, of {count}"), bytes: each, at_most: Some(CONNECTION_MAX) });
    }
    let one = start(program, &documents(service, 1))?.resident()?;
    let many = start(program, &documents(service, 1 + TENANTS))?.resident()?;
    figures.push(Figure { of: format!("{TENANTS} tenants"), bytes: grown(one, many), at_most: None });
    figures.insert(0, Figure { of: "a sidecar at rest".to_owned(), bytes: grown(0, one), at_most: Some(REST_MAX) });
    Ok(figures)
}

fn start(program: &Path, documents: &str) -> Result<Sidecar, Error> {
    Sidecar::start(program, &[("all.yaml", documents)])
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a process; a few of them make no difference")]
fn grown(before: u64, after: u64) -> f64 {
    after.saturating_sub(before) as f64
}

/// A public service in front of `service`, and so many tenants of one plan.
fn documents(service: SocketAddr, tenants: u32) -> String {
    let mut text = format!(
        "kind: Plan\nname: all\ndefault: true\n---\nkind: Service\nname: bench\nlisteners:\n  - {{ name: http, address: \"127.0.0.1:0\" }}\n\
         upstreams:\n  - {{ name: app, endpoints: [\"http://{service}\"] }}\nroutes:\n  - {{ name: all, path: \"/**\", access: public }}\n"
    );
    for number in 0..tenants {
        // Writing to a text cannot fail.
        let _ = write!(text, "---\ntenant_id: t{number}\nname: T\nemail: t@example.com\nhosts: [t{number}.bench]\n");
    }
    text
}

/// Connections that made one request each; the sources differ, since one source may hold so many.
fn hold(address: SocketAddr, numbers: std::ops::Range<u32>) -> Result<Vec<TcpStream>, Error> {
    numbers.map(|number| asked(address, source(number)).map_err(unusable(format!("connection {number}")))).collect()
}

fn source(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + number / PER_SOURCE)
}

fn asked(address: SocketAddr, source: Ipv4Addr) -> std::io::Result<TcpStream> {
    let descriptor = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&descriptor, &SocketAddr::from((source, 0)))?;
    connect(&descriptor, &address)?;
    let mut stream = TcpStream::from(descriptor);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: t0.bench\r\n\r\n")?;
    let (mut read, mut buffer) = (Vec::new(), [0; 4_096]);
    while !read.ends_with(b"\r\n\r\nok") {
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => read.extend_from_slice(buffer.get(..length).unwrap_or_default()),
        }
    }
    if read.starts_with(b"HTTP/1.1 200") { Ok(stream) } else { Err(std::io::Error::other("the answer is not 200")) }
}

/// Lets this process, and the sidecars it starts, have so many files open.
fn allow_files(count: u64) -> Result<(), Error> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= count) {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(count), ..limit }).map_err(|cause| Error::Unusable {
        what: format!("a limit of {count} open files"),
        why: format!("{cause}; raise it (`ulimit -Hn`) or hold fewer with --connections"),
    })
}

fn absent(what: &str) -> Error {
    Error::Unusable { what: what.to_owned(), why: "it is not in its addresses.json".to_owned() }
}

fn table(figures: &[Figure]) -> String {
    let mut text = "| resident memory of | measured | promised |\n|---|---|---|\n".to_owned();
    for figure in figures {
        let promised = match figure.at_most {
            Some(most) if figure.misses() => format!("{}: **missed**", shown(most)),
            Some(most) => format!("{}: met", shown(most)),
            None => String::new(),
        };
        // Writing to a text cannot fail.
        let _ = writeln!(text, "| {} | {} | {promised} |", figure.of, shown(figure.bytes));
    }
    text
}

fn shown(bytes: f64) -> String {
    if bytes >= 1e6 { format!("{:.1} MB", bytes / 1e6) } else { format!("{:.1} KiB", bytes / KIB) }
}
