//! The command line of `load`.

use super::answer::Names;
use super::churn::Churn;
use super::pace::Ramp;
use super::plan::{Header, Message, Share, Target};
use super::slo::Slo;
use bulkhead_issuer::Claims;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Load a service with requests of many tenants and check whose data each answer is
///
/// With --rate requests are due at fixed times, whatever the answers do, and latency counts from then: a server that stalls is
/// charged for all who would have come meanwhile. Without it each connection asks again after its answer.
#[derive(Args)]
pub(crate) struct Options {
    /// Where requests go: http://HOST[:PORT][/PATH], or https://
    #[arg(required_unless_present = "self_test")]
    pub(super) url: Option<Target>,

    /// Speak HTTP/2: over TLS by ALPN, in the clear with prior knowledge
    #[arg(long)]
    pub(super) http2: bool,

    /// Requests at once on each connection of HTTP/2
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) streams: u32,

    /// Make unary gRPC calls of the method that the URL's path names, as /package.Service/Method; implies --http2
    #[arg(long, requires = "message", conflicts_with_all = ["method", "body", "body_size"])]
    pub(super) grpc: bool,

    /// Message of a call, as it is encoded: FILE, or hex:BYTES
    #[arg(long, value_name = "MESSAGE", requires = "grpc")]
    pub(super) message: Option<Message>,

    /// File of authorities to trust, in PEM [default: those of this system]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(super) ca: Option<PathBuf>,

    /// Trust whoever answers: for servers of your own with certificates that nobody signed
    #[arg(long)]
    pub(super) insecure: bool,

    /// Name the certificate has to be for, and that TLS asks for [default: the URL's host]
    #[arg(long, value_name = "HOST")]
    pub(super) server_name: Option<String>,

    /// Requests a second (open loop)
    #[arg(long, value_name = "N", value_parser = rate, conflicts_with = "think")]
    pub(super) rate: Option<f64>,

    /// Requests a second that rise evenly, FROM:TO:TIME as 1000:20000:10s, and then stay (open loop)
    #[arg(long, value_name = "RAMP", conflicts_with_all = ["rate", "think"])]
    pub(super) ramp: Option<Ramp>,

    /// Pause of a connection between answer and next request (closed loop), like 20ms
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    pub(super) think: Duration,

    /// Connections at once; a closed loop makes all of them, an open loop as many as it needs
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_000))]
    pub(super) connections: u32,

    /// Length of what is counted
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(super) duration: Duration,

    /// Length of what runs before and is not counted
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    pub(super) warm_up: Duration,

    /// End after so many requests, should the duration not be over
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    pub(super) requests: u64,

    /// Longest wait for an answer, from sending
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(super) timeout: Duration,

    /// Requests after which a connection is replaced
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) requests_per_connection: u64,

    /// Tenants of the mix, each NAME[@HOST][=WEIGHT]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(super) tenants: Vec<Share>,

    /// Skew over the list: the weight of its n-th tenant is divided by n to the power of this
    #[arg(long, value_name = "EXPONENT", default_value_t = 0.0, value_parser = skew)]
    pub(super) zipf: f64,

    /// File of tenants and requests with their weights, instead of the options that describe one kind of request
    #[arg(long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["tenants", "zipf", "method", "path", "body", "body_size", "expect", "grpc", "message"])]
    pub(super) mix: Option<PathBuf>,

    /// File of lines `TENANT TOKEN`, sent as bearer tokens
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,

    /// Make each tenant's token, signed with this Ed25519 key in PEM; that of `bulkhead up` is issuer.key.pem in its data directory
    #[arg(long, value_name = "FILE", conflicts_with = "token_file")]
    pub(super) issuer_key: Option<PathBuf>,

    /// Roles of made tokens
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "issuer_key")]
    pub(super) role: Vec<String>,

    /// Claims of made tokens to add or override, a JSON object; `null` takes one away, `{tenant}` is the tenant's name
    #[arg(long, value_name = "JSON", value_parser = bulkhead_issuer::object, requires = "issuer_key")]
    pub(super) claims: Option<Claims>,

    /// Change policy during the load: a folder of documents that a sidecar watches, or a command for the shell
    #[arg(long, value_name = "DIR|CMD", conflicts_with = "self_test")]
    pub(super) policy_churn: Option<Churn>,

    /// Time between two changes of policy
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s", requires = "policy_churn")]
    pub(super) every: Duration,

    /// Method
    #[arg(long, value_name = "NAME", default_value = "GET", value_parser = method)]
    pub(super) method: String,

    /// Path instead of the URL's; `{tenant}` is the tenant's name
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub(super) path: Option<String>,

    /// Header to add, `NAME: VALUE`; `{tenant}` in its value is the tenant's name
    #[arg(long, value_name = "HEADER")]
    pub(super) header: Vec<Header>,

    /// Body
    #[arg(long, value_name = "TEXT", conflicts_with = "body_size")]
    pub(super) body: Option<String>,

    /// Body of so many bytes
    #[arg(long, value_name = "BYTES")]
    pub(super) body_size: Option<usize>,

    /// Statuses that are as expected [default: every 2xx]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = status)]
    pub(super) expect: Vec<u16>,

    /// Where an answer names its tenant: a header's name, or a JSON pointer into its body such as /told/tenant
    #[arg(long, value_name = "WHERE")]
    pub(super) answer_tenant: Option<Names>,

    /// What is promised, as p99=5ms,p99.9=20ms,failed=0.1%; code 1 if it does not hold
    #[arg(long, value_name = "PROMISE")]
    pub(super) slo: Option<Slo>,

    /// Search the highest rate at which --slo holds, from --rate [1000], in steps of --duration
    #[arg(long, requires = "slo", conflicts_with_all = ["ramp", "think", "requests", "samples", "self_test"])]
    pub(super) find_max: bool,

    /// File for every answer, as comma-separated values
    #[arg(long, value_name = "FILE")]
    pub(super) samples: Option<PathBuf>,

    /// Seed of the mix: the same seed gives the same order of tenants
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,

    /// File for the result as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,

    /// Measure the load itself: against a server that only answers, on another CPU
    #[arg(long, conflicts_with = "url")]
    pub(super) self_test: bool,

    /// With --self-test: take turns with wrk before the same servers, as many rounds, and compare the percentiles of both
    #[arg(long, value_name = "ROUNDS", requires = "self_test", value_parser = clap::value_parser!(u32).range(1..=100))]
    #[arg(conflicts_with_all = ["rate", "ramp", "think", "http2", "grpc", "mix", "tenants", "requests", "samples", "output"])]
    pub(super) wrk: Option<u32>,
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate > 0.0 && *rate <= 1e7);
    rate.ok_or_else(|| "it is not a number above zero, of at most ten million".to_owned())
}

pub(super) fn skew(text: &str) -> Result<f64, String> {
    let skew = text.parse().ok().filter(|skew: &f64| (0.0..=10.0).contains(skew));
    skew.ok_or_else(|| "it is not a number from 0 to 10".to_owned())
}

/// A time such as 500ms, 30s or 5m; at most a day.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.find(|c: char| c.is_ascii_alphabetic()).and_then(|at| text.split_at_checked(at)).unwrap_or((text, ""));
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("it has no unit of us, ms, s or m, as in 500ms".to_owned()),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * scale).filter(|seconds| (0.0..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "it is not a time from 0 to a day, as 30s".to_owned())
}

pub(super) fn method(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase());
    fits.then(|| text.to_owned()).ok_or_else(|| "it is not a method such as GET".to_owned())
}

pub(super) fn path(text: &str) -> Result<String, String> {
    let fits = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned()).ok_or_else(|| "it does not begin with / or has other than printable ASCII".to_owned())
}

/// A status of HTTP, or of gRPC.
pub(super) fn status(text: &str) -> Result<u16, String> {
    let status = text.parse().ok().filter(|status: &u16| matches!(status, 0..=16 | 100..=599));
    status.ok_or_else(|| "it is neither a status of HTTP, 100 to 599, nor of gRPC, 0 to 16".to_owned())
}
