//! `bulkhead fleet` and `bulkhead join-token`: the sidecars, and how one becomes one of them.

use crate::answer::{list, number, text};
use crate::args::Global;
use crate::client::{Ask, Client};
use crate::exit::Exit;
use crate::fault::Failure;
use crate::get::table;
use crate::output::{BAD, Format, Out, paint};
use crate::validate::render::printable;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

/// Show the sidecars, what each of them serves, and what it does not take
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Make tokens with which sidecars join
#[derive(Debug, clap::Args)]
pub(crate) struct JoinToken {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    New(New),
}

/// Make a token; it is printed once, alone, and is good for one sidecar
#[derive(Debug, clap::Args)]
struct New {
    /// Name of the sidecar, as its certificate will say
    #[arg(long, value_name = "NAME")]
    name: String,
    /// How long it is good [default: 1h]
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<String>,
    /// Write whom the sidecar must trust to be the control plane, as PEM
    #[arg(long, value_name = "FILE")]
    trust_bundle: Option<std::path::PathBuf>,
}

/// A trust bundle that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
struct Unwritable {
    path: std::path::PathBuf,
    source: std::io::Error,
}

impl crate::fault::Fault for Unwritable {
    fn exit(&self) -> Exit {
        Exit::of(&self.source)
    }
    fn fix(&self) -> Option<String> {
        None
    }
}

pub(crate) fn run(_: &Args, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let fleet = Client::find(global)?.get("/v1/fleet")?;
    match out.format() {
        Format::Json => out.json(&fleet)?,
        Format::Human => out.raw(&show(&fleet))?,
    }
    Ok(Exit::Done)
}

fn show(fleet: &Value) -> String {
    let row = |sidecar: &Value| {
        let said = |key| text(sidecar, key).unwrap_or_default();
        let is_connected = sidecar.get("connected").and_then(Value::as_bool).unwrap_or_default();
        let serving = sidecar.get("serving").and_then(|epoch| number(epoch, "revision")).map_or("nothing".to_owned(), |at| at.to_string());
        let behind = number(sidecar, "behind").map_or(String::new(), |behind| behind.to_string());
        let held = list(sidecar, "quarantined").len();
        let state = match (is_connected, held) {
            (false, _) => "gone".to_owned(),
            (true, 0) => "connected".to_owned(),
            (true, held) => format!("{held} held"),
        };
        vec![said("name"), state, serving, behind, said("version"), said("since"), said("seen")]
    };
    let sidecars = list(fleet, "sidecars");
    let heads = ["NAME", "STATE", "REVISION", "BEHIND", "VERSION", "SINCE", "SEEN"];
    let mut lines = table(&heads, sidecars.iter().map(row));
    for sidecar in sidecars {
        for held in list(sidecar, "quarantined") {
            let name = text(sidecar, "name").unwrap_or_default();
            let why = list(held, "errors").first().and_then(|error| text(error, "message")).unwrap_or_default();
            let what = format!("{name} holds {}: {why}", text(held, "part").unwrap_or_default());
            lines.push_str(&format!("{}\n", paint(BAD, printable(&what))));
        }
    }
    lines
}

pub(crate) fn join_token(args: &JoinToken, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let Action::New(new) = &args.action;
    let client = Client::find(global)?;
    let made = client.send(&Ask::post("/v1/join-tokens", &json!({ "name": new.name, "expires_in": new.expires_in })))?.body;
    if let Some(path) = &new.trust_bundle {
        let roots = client.send(&Ask::get("/v1/trust-bundle"))?.text;
        std::fs::write(path, roots).map_err(|source| Unwritable { path: path.clone(), source })?;
    }
    match out.format() {
        Format::Json => out.json(&made)?,
        Format::Human => out.say(text(&made, "token").unwrap_or_default())?,
    }
    Ok(Exit::Done)
}

/// How often whoever waits asks.
const ASK: Duration = Duration::from_millis(50);

/// Waits until every connected sidecar serves a revision, and says when each of them does; those that do not within `patience` are named.
pub(crate) fn wait(client: &Client, revision: u64, patience: Duration, out: &mut Out) -> Result<Exit, Failure> {
    let began = Instant::now();
    let mut told = BTreeSet::new();
    loop {
        let fleet = client.get("/v1/fleet")?;
        let mut waiting = Vec::new();
        let mut held = false;
        for sidecar in list(&fleet, "sidecars").iter().filter(|one| one.get("connected").and_then(Value::as_bool) == Some(true)) {
            let name = text(sidecar, "name").unwrap_or_default();
            let serving = sidecar.get("serving").and_then(|epoch| number(epoch, "revision")).unwrap_or_default();
            held |= !list(sidecar, "quarantined").is_empty();
            if serving < revision {
                waiting.push(name);
            } else if told.insert(name.clone()) && out.format() == Format::Human {
                let state = if list(sidecar, "quarantined").is_empty() { "serves" } else { "holds parts of" };
                out.say(format_args!("{} {state} revision {revision} after {} ms", printable(&name), began.elapsed().as_millis()))?;
            }
        }
        if waiting.is_empty() {
            return Ok(if held { Exit::Findings } else { Exit::Done });
        }
        if began.elapsed() > patience {
            let names = waiting.iter().map(|name| printable(name)).collect::<Vec<_>>().join(", ");
            out.warn(format_args!("after {} s these do not serve revision {revision}: {names}", patience.as_secs()));
            return Ok(Exit::Findings);
        }
        thread::sleep(ASK);
    }
}
