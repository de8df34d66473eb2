//! The control plane: how long a change takes until every sidecar has it, what it costs with many tenants, and how long a restart takes.
//!
//! The control plane runs in this process on a store in a file; the sidecars are real gRPC clients over loopback, which take in every offer
//! and report it. So figures hold for both ends on one machine, and in production each sidecar has its own.

use crate::versus::Ended;
use crate::versus::step::Error;
use bulkhead_config::protocol::{Put, Report};
use bulkhead_config::snapshot::Epoch;
use bulkhead_config::wire::message::from_control_plane::Said as Told;
use bulkhead_config::wire::message::from_sidecar::Said;
use bulkhead_config::wire::message::{FromControlPlane, FromSidecar, Hello};
use bulkhead_config::wire::{Assembler, FOLLOW, PROTOCOL_VERSION, report_to};
use bulkhead_server::audit::From;
use bulkhead_server::change::{Change, Edit, Expects};
use bulkhead_server::document::Owner;
use bulkhead_server::operator::Operator;
use bulkhead_server::{Running, Settings};
use bulkhead_store::{Embedded, Options as StoreOptions, Store};
use bytes::{Buf, Bytes, BytesMut};
use clap::Args;
use http::Request;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Sidecars that connect at the same time.
const WAVE: u32 = 100;
/// Documents of one change set.
const SET: u32 = 5_000;

/// Measure our control plane: a change until every sidecar has it, change sets, memory, a restart
#[derive(Args)]
pub(crate) struct Options {
    /// How many tenants are declared
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    tenants: u32,

    /// How many sidecars follow
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    streams: u32,

    /// How many changes are made
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    changes: u32,
}

pub(crate) fn run(options: &Options) -> Result<Ended, Error> {
    let failed = |why: String| Error::Unusable { what: "the control plane cannot be measured".to_owned(), why };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|why| failed(why.to_string()))?;
    let table = runtime.block_on(measure(options)).map_err(failed)?;
    print!("{table}");
    Ok(Ended::Done)
}

async fn measure(options: &Options) -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(|why| why.to_string())?;
    let before = anonymous();
    let control = start(folder.path()).await?;
    let mut sets = Vec::new();
    let platform = "kind: Plan\nname: free\ndefault: true\n";
    declare(&control, &[platform.to_owned()]).await?;
    for first in (0..options.tenants).step_by(SET as usize) {
        let texts: Vec<String> = (first..options.tenants.min(first + SET)).map(|number| tenant(number, 0)).collect();
        let began = Instant::now();
        declare(&control, &texts).await?;
        sets.push((texts.len(), began.elapsed()));
    }
    let memory = anonymous().saturating_sub(before);
    let push = control.push_address().ok_or("it does not push")?;
    let (taken, mut takes) = mpsc::channel(64);
    let now = control.changer().shelf().epoch();
    // Wave by wave, as sidecars with backoff and jitter come.
    for first in (0..options.streams).step_by(WAVE as usize) {
        let wave = first..options.streams.min(first + WAVE);
        let count = u32::try_from(wave.len()).unwrap_or(WAVE);
        for number in wave {
            let taken = taken.clone();
            tokio::spawn(async move {
                if let Err(why) = follow(push, number, taken).await {
                    eprintln!("sidecar {number} follows no more: {why}");
                }
            });
        }
        wait(&mut takes, now, count).await?;
    }
    let mut whole = Vec::new();
    let mut accepted = Vec::new();
    for change in 0..options.changes {
        let began = Instant::now();
        let epoch = declare(&control, &[tenant(change % options.tenants, change + 1)]).await?;
        accepted.push(began.elapsed());
        wait(&mut takes, epoch, options.streams).await?;
        whole.push(began.elapsed());
    }
    control.stop().await;
    let began = Instant::now();
    let again = start(folder.path()).await?;
    let restart = began.elapsed();
    again.stop().await;
    let (set, took) = sets.iter().max_by_key(|(_, took)| *took).copied().unwrap_or_default();
    let each = memory as f64 / 1_024.0 / f64::from(options.tenants);
    let line = |what: String, value: String| format!("| {what} | {value} |\n");
    Ok([
        format!(
            "{} tenants, {} sidecars, {} changes of one tenant each\n\n| | |\n|---|---|\n",
            options.tenants, options.streams, options.changes
        ),
        line("a change, stored: p50, p99".into(), format!("{}, {}", at(&mut accepted, 50), at(&mut accepted, 99))),
        line("a change, on every sidecar: p50, p99".into(), format!("{}, {}", at(&mut whole, 50), at(&mut whole, 99))),
        line(format!("a change set of {set} documents, the slowest"), milliseconds(took)),
        line("memory of a tenant".into(), format!("{each:.1} KiB")),
        line("a restart until it answers".into(), milliseconds(restart)),
    ]
    .concat())
}

async fn start(folder: &Path) -> Result<Running, String> {
    let path = folder.join("store.redb");
    let opened = tokio::task::spawn_blocking(move || Embedded::open(path, StoreOptions::default())).await;
    let embedded = opened.map_err(|why| why.to_string())?.map_err(|why| why.to_string())?;
    let incarnation = embedded.identity().incarnation;
    let store: Arc<dyn Store> = Arc::new(embedded);
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let push_address = Some(address);
    let settings = Settings { store, incarnation, address, push_address, identity: None, admin_token: None, backup: None, now: || 0 };
    bulkhead_server::start(settings).await.map_err(|why| why.to_string())
}

fn tenant(number: u32, version: u32) -> String {
    format!(
        "kind: Tenant\ntenant_id: t{number}\nname: Tenant {number} version {version}\nemail: ops@t{number}.example\nhosts: [t{number}.example]\n"
    )
}

/// Declares documents in one change.
async fn declare(control: &Running, texts: &[String]) -> Result<Epoch, String> {
    let edit = |text: &String| {
        let document = bulkhead_config::declared::read_document("bench.yaml", text).map_err(|_| "a document of ours has mistakes")?;
        let id = document.id.clone();
        Ok(Edit { id, to: Some(Put { document, text: text.as_str().into() }), owner: Owner::Api, expects: Expects::Anything })
    };
    let change = Change {
        by: Operator::embedded("bench"),
        from: From { address: "in process".into(), request_id: "bench".into() },
        action: "apply".into(),
        edits: texts.iter().map(edit).collect::<Result<_, &str>>()?,
        dry_run: false,
        idempotency: None,
    };
    let done = control.changer().submit(change).await.map_err(|why| format!("{why:?}"))?;
    Ok(done.epoch)
}

/// Waits until so many sidecars have an epoch.
async fn wait(takes: &mut mpsc::Receiver<Epoch>, epoch: Epoch, streams: u32) -> Result<(), String> {
    let mut there = 0;
    while there < streams {
        let taken = tokio::time::timeout(Duration::from_secs(60), takes.recv()).await;
        match taken {
            Ok(Some(taken)) if taken == epoch => there += 1,
            Ok(Some(_)) => {}
            _ => return Err(format!("{there} of {streams} sidecars have revision {} after a minute", epoch.revision)),
        }
    }
    Ok(())
}

/// One sidecar: takes in every offer, reports it, and says which epoch it has, until the control plane ends.
async fn follow(to: SocketAddr, number: u32, taken: mpsc::Sender<Epoch>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (says, said) = mpsc::channel(8);
    let hello = Hello { protocol_version: PROTOCOL_VERSION, name: format!("s{number}"), version: "bench".into(), serving: None };
    says.send(framed(&FromSidecar { said: Some(Said::Hello(hello)) })).await?;
    let request = Request::post(FOLLOW).header("content-type", "application/grpc").header("te", "trailers");
    let answer = sender.send_request(request.body(StreamBody::new(ReceiverStream::new(said)))?).await?;
    let status = answer.headers().get("grpc-status").cloned();
    let mut body = answer.into_body();
    let (mut read, mut assembler) = (BytesMut::new(), Assembler::default());
    let mut has_begun = false;
    while let Some(message) = next(&mut body, &mut read).await {
        if let Some(Told::Chunk(chunk)) = message.said
            && let Some(whole) = assembler.take(chunk)?
        {
            let report = Report { epoch: whole.epoch, accepted: Vec::new(), gone: Vec::new(), quarantined: Vec::new() };
            taken.send(whole.epoch).await?;
            says.send(framed(&FromSidecar { said: Some(Said::Report(report_to(&report))) })).await?;
            has_begun = true;
        }
    }
    if has_begun { Ok(()) } else { Err(format!("its stream ended before anything came (grpc-status {status:?})").into()) }
}

/// The next message of a stream (gRPC over HTTP/2: a byte, a length, the message).
async fn next(body: &mut Incoming, read: &mut BytesMut) -> Option<FromControlPlane> {
    loop {
        if let Some((&[_, a, b, c, d], rest)) = read.split_first_chunk::<5>() {
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
            if rest.len() >= length {
                read.advance(5);
                return FromControlPlane::decode(read.split_to(length)).ok();
            }
        }
        read.extend_from_slice(body.frame().await?.ok()?.data_ref()?);
    }
}

fn framed(message: &FromSidecar) -> Result<Frame<Bytes>, Infallible> {
    let body = message.encode_to_vec();
    let mut frame = vec![0];
    // A message of ours is far shorter than a length may be.
    frame.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(Frame::data(frame.into()))
}

/// Anonymous memory of this process, in bytes.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or_default() * 1_024
}

fn at(times: &mut [Duration], percent: usize) -> String {
    times.sort_unstable();
    let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(index).copied().map(milliseconds).unwrap_or_default()
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}
