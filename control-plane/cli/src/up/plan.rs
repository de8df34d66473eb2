//! What of the documents is replaced for this start: the demo's listener, its upstream, and whether the bundled service runs.

use super::Args;
use super::ground::Ground;
use crate::demo;
use crate::exit::Exit;
use crate::fault::Fault;
use bulkhead_config::declared::Service;
use bulkhead_config::name::{ListenerName, ServiceName};
use bulkhead_config::settings::Environment;
use bulkhead_sidecar::connection::Entrance;
use std::net::SocketAddr;

use bulkhead_config::snapshot::Scheme;

pub(super) use bulkhead_config::snapshot::Endpoint;

/// Name of the demo's Service.
const DEMO: &str = "demo";

/// What this start does to what is declared.
pub(super) struct Plan {
    /// The service that the flags are about: the demo's, else the only one.
    pub(super) service: Option<ServiceName>,
    /// Where the bundled service is to listen.
    pub(super) demo: Option<SocketAddr>,
    /// Where requests of the service go, in place of its endpoints.
    pub(super) endpoint: Option<(ServiceName, Endpoint)>,
    /// Where the service is served, in place of its listener's address.
    pub(super) listen: Option<(Entrance, SocketAddr)>,
    /// Whether the bundled service listens elsewhere than the documents say.
    demo_moved: bool,
}

/// A flag about a service that is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{flag} is about the demo's Service, and the documents declare {declared}")]
    NoService { flag: &'static str, declared: String },
    #[error("--listen is about the first listener of service `{0}`, and it has none")]
    NoListener(ServiceName),
}

impl Fault for Error {
    fn exit(&self) -> Exit {
        Exit::Configuration
    }
    fn fix(&self) -> Option<String> {
        Some("leave the flag out and write the address in the Service's document".into())
    }
}

impl Plan {
    pub(super) fn of(args: &Args, ground: &Ground) -> Result<Self, Error> {
        let service = service(ground);
        let needed = |flag| service.ok_or_else(|| Error::NoService { flag, declared: declared(ground) });
        let endpoint = match &args.upstream {
            Some(upstream) => Some((needed("--upstream")?.name.clone(), upstream.clone())),
            None => None,
        };
        if args.demo_address.is_some() {
            needed("--demo-address")?;
        }
        let listen = match args.listen {
            Some(address) => Some((entrance(needed("--listen")?)?, address)),
            None => None,
        };
        let bundled = args.upstream.is_none() && args.env == Environment::Dev && ground.services().any(asks_for_the_demo);
        Ok(Self {
            service: service.map(|service| service.name.clone()),
            demo: args.demo_address.or(bundled.then_some(demo::ADDRESS)),
            endpoint,
            listen,
            demo_moved: args.demo_address.is_some(),
        })
    }

    /// Sends the service's requests to where the bundled service listens, if that is not where the documents say.
    pub(super) fn demo_is_at(&mut self, address: SocketAddr) {
        if let (true, Some(service)) = (self.demo_moved, &self.service) {
            let endpoint = Endpoint { scheme: Scheme::Http, host: address.ip().to_string(), port: address.port() };
            self.endpoint = Some((service.clone(), endpoint));
        }
    }
}

fn service(ground: &Ground) -> Option<&Service> {
    let named = ground.services().find(|service| service.name.as_str() == DEMO);
    let mut all = ground.services();
    named.or_else(|| all.next().filter(|_| all.next().is_none()))
}

/// `no Service`, `a, b`.
fn declared(ground: &Ground) -> String {
    let names: Vec<&str> = ground.services().map(|service| service.name.as_str()).collect();
    if names.is_empty() { "no Service".to_owned() } else { names.join(", ") }
}

fn entrance(service: &Service) -> Result<Entrance, Error> {
    let first: Option<ListenerName> = service.listeners.first().map(|listener| listener.name.value.clone());
    let listener = first.ok_or_else(|| Error::NoListener(service.name.clone()))?;
    Ok(Entrance { service: service.name.clone(), listener })
}

/// Whether an endpoint is the address of the bundled service.
fn asks_for_the_demo(service: &Service) -> bool {
    let is_local = |host: &str| host == "localhost" || host == demo::ADDRESS.ip().to_string();
    let mut endpoints = service.upstreams.iter().flat_map(|upstream| &upstream.endpoints);
    endpoints.any(|endpoint| endpoint.port == demo::ADDRESS.port() && is_local(&endpoint.host))
}
