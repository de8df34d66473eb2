//! Services into listeners, upstreams and the route trie. Routes are numbered over all services, by service and name.

mod edges;

use super::documents::Documents;
use super::identity::resolve;
use super::mistake::{Count, Hinted, Mistakes, at};
use crate::declared;
use crate::declared::{Document, tls};
use crate::diagnostic::Spanned;
use crate::name::ListenerName;
use crate::path::Trie;
use crate::snapshot::{
    Answered, CertifiedKey, ClientCertificates, Listener, ListenerTls, ProxyProtocol, Route, RouteIndex, Scheme, Service, Upstream,
    UpstreamTls,
};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Routes that all services may have together: each has its rules and limits in every policy.
const ROUTES_MAX: usize = 10_000;

/// All services, and all their routes by index.
pub(super) struct Services {
    pub(super) services: Vec<Arc<Service>>,
    pub(super) routes: Vec<Arc<Route>>,
}

/// Reads the services. Upstreams that are declared as before are kept, so that their connections and health stay good.
pub(super) fn compile(documents: &Documents, before: &[Arc<Service>], mistakes: &mut Mistakes) -> Services {
    let kept: Vec<Arc<Upstream>> = before.iter().flat_map(|service| service.upstreams.iter().cloned()).collect();
    let mut all = Services { services: Vec::new(), routes: Vec::new() };
    let mut taken = Vec::new();
    let mut count = Count::new("routes", ROUTES_MAX);
    for (document, declared) in documents.services() {
        if !count.add(document, declared.routes.len(), mistakes) {
            break;
        }
        let listeners = listeners(document, declared, &mut taken, mistakes);
        let upstreams = upstreams(document, declared, &kept);
        let routes = routes(document, declared, &upstreams, &mut all.routes, mistakes);
        edges::check(document, declared, &routes, mistakes);
        let mut shared_hosts: Vec<_> = declared.shared_hosts.iter().map(|host| host.value.clone()).collect();
        shared_hosts.sort();
        shared_hosts.dedup();
        all.services.push(Arc::new(Service { name: declared.name.clone(), listeners, upstreams, routes, shared_hosts }));
    }
    all
}

/// Routes that send clients to HTTPS where nobody says that a request came by it.
pub(super) fn warn_of_endless_redirects(documents: &Documents, trusted_hops: &[IpNet], mistakes: &mut Mistakes) {
    let sends_to_https =
        |answered: &&Spanned<Answered>| matches!(&answered.value, Answered::Redirect(to) if to.scheme == Some(Scheme::Https));
    for (document, service) in documents.services() {
        if !trusted_hops.is_empty() || service.listeners.iter().any(|listener| listener.tls.is_some()) {
            continue;
        }
        for place in service.routes.iter().filter_map(|route| route.answered.as_ref()).filter(sends_to_https) {
            let warning = at(document, place, "every request is sent to HTTPS, also those that come by it: nobody says so");
            let hint = "give a listener `tls`, or name the balancer that speaks HTTPS in `trusted_hops` of a platform-wide SecurityPolicy";
            mistakes.warn(warning.hint(hint));
        }
    }
}

/// A listener that asks for PROXY headers where nobody's are believed.
pub(super) fn warn_of_unbelieved_headers(documents: &Documents, trusted_hops: &[IpNet], mistakes: &mut Mistakes) {
    if !trusted_hops.is_empty() {
        return;
    }
    for (document, service) in documents.services() {
        let declared = service.listeners.iter().filter_map(|listener| listener.proxy_protocol.as_ref());
        for place in declared.filter(|declared| declared.value != ProxyProtocol::Off) {
            let warning = at(document, place, "no PROXY header will be believed, and connections that bring one are closed");
            mistakes.warn(warning.hint("name the balancers in `trusted_hops` of a platform-wide SecurityPolicy"));
        }
    }
}

/// An address that a listener has, and whose it is.
struct Taken {
    address: SocketAddr,
    whose: String,
}

fn listeners(document: &Document, service: &declared::Service, taken: &mut Vec<Taken>, mistakes: &mut Mistakes) -> Vec<Listener> {
    let mut listeners = Vec::with_capacity(service.listeners.len());
    for declared in &service.listeners {
        let address = declared.address.value;
        if let Some(other) = taken.iter().find(|other| collide(other.address, address)) {
            let message = format!("address {address} is taken by {} ({})", other.whose, other.address);
            mistakes.push(at(document, &declared.address, message).hint("choose another port; port 0 lets the system choose"));
            continue;
        }
        taken.push(Taken { address, whose: whose(service, &declared.name) });
        let proxy_protocol = declared.proxy_protocol.as_ref().map(|declared| declared.value).unwrap_or_default();
        let tls = declared.tls.as_ref().map(|tls| listener_tls(document, tls));
        listeners.push(Listener { name: declared.name.value.clone(), address, proxy_protocol, tls });
    }
    listeners
}

fn whose(service: &declared::Service, listener: &ListenerName) -> String {
    format!("listener `{listener}` of service `{}`", service.name)
}

/// Whether two addresses cannot be listened on together. All addresses of a family hold each of it, and those of IPv6 hold IPv4's
/// too where the system maps them.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let holds = |a: IpAddr, b: IpAddr| a == b || (a.is_unspecified() && (a.is_ipv6() || b.is_ipv4()));
    a.port() != 0 && a.port() == b.port() && (holds(a.ip(), b.ip()) || holds(b.ip(), a.ip()))
}

fn listener_tls(document: &Document, declared: &tls::ListenerTls) -> ListenerTls {
    let roots = |written: &Spanned<String>| resolve(&document.origin.file, &written.value);
    ListenerTls {
        certificates: declared.certificates.iter().map(|certified| certified_key(document, certified)).collect(),
        client_certificates: match &declared.client_certificates {
            tls::ClientCertificates::NotAsked => ClientCertificates::NotAsked,
            tls::ClientCertificates::Optional { roots: written } => ClientCertificates::Optional(roots(written)),
            tls::ClientCertificates::Required { roots: written } => ClientCertificates::Required(roots(written)),
        },
        alpn: declared.alpn.clone(),
        minimum_version: declared.minimum_version,
    }
}

fn upstream_tls(document: &Document, declared: &tls::UpstreamTls) -> UpstreamTls {
    UpstreamTls {
        roots: declared.roots.as_ref().map(|written| resolve(&document.origin.file, &written.value)),
        server_name: declared.server_name.clone(),
        client_certificate: declared.client_certificate.as_ref().map(|certified| certified_key(document, certified)),
    }
}

fn certified_key(document: &Document, declared: &tls::CertifiedKey) -> CertifiedKey {
    let name = |written: &Spanned<String>| resolve(&document.origin.file, &written.value);
    CertifiedKey { certificate: name(&declared.certificate), key: name(&declared.key) }
}

fn upstreams(document: &Document, service: &declared::Service, kept: &[Arc<Upstream>]) -> Vec<Arc<Upstream>> {
    let upstream = |declared: &declared::Upstream| Upstream {
        service: service.name.clone(),
        name: declared.name.value.clone(),
        endpoints: declared.endpoints.iter().map(|endpoint| endpoint.value.clone()).collect(),
        tls: upstream_tls(document, &declared.tls),
        protocol: declared.protocol,
        refresh: declared.refresh,
        retry: declared.retry.clone(),
        outlier: declared.outlier.clone(),
        health_check: declared.health_check.clone(),
        limits: declared.limits.clone(),
        adaptive_concurrency: declared.adaptive_concurrency.clone(),
        connect_timeout: declared.connect_timeout,
        response_timeout: declared.response_timeout,
        idle_timeout: declared.idle_timeout,
        stream_idle_timeout: declared.stream_idle_timeout,
    };
    service.upstreams.iter().map(|declared| super::kept(kept, upstream(declared))).collect()
}

fn routes(
    document: &Document,
    service: &declared::Service,
    upstreams: &[Arc<Upstream>],
    all: &mut Vec<Arc<Route>>,
    mistakes: &mut Mistakes,
) -> Trie<Arc<Route>> {
    let mut trie = Trie::new();
    let mut declared: Vec<_> = service.routes.iter().collect();
    // By name, so that the order in which they are written changes nothing.
    declared.sort_by(|a, b| a.name.value.cmp(&b.name.value));
    for route in declared {
        let Some(upstream) = upstream(document, route, upstreams, mistakes) else { continue };
        let Ok(index) = u32::try_from(all.len()) else { break };
        let compiled = Arc::new(Route {
            index: RouteIndex(index),
            name: route.name.value.clone(),
            pattern: route.path.value.clone(),
            access: route.access,
            upstream: Arc::clone(upstream),
            requires_feature: route.requires_feature.as_ref().map(|feature| feature.value.clone()),
            forward_authorization: route.forward_authorization,
            grpc_message_bytes_max: route.grpc_message_bytes_max,
            response_tenant: route.response_tenant.clone(),
            request_headers: route.request_headers.clone(),
            response_headers: route.response_headers.clone(),
            in_shadow: service.enforce.is_shadow() || route.enforce.is_shadow(),
            rewrite: route.rewrite.clone(),
            answered: route.answered.as_ref().map(|answered| answered.value.clone()),
        });
        match trie.insert(&route.path, Arc::clone(&compiled)) {
            Ok(()) => all.push(compiled),
            Err((there, _)) => {
                let message =
                    format!("path `{}` is that of route `{}`: names of parameters make no difference", route.path.value, there.name);
                mistakes.push(at(document, &route.path, message));
            }
        }
    }
    trie
}

/// Where a route goes: what it names, else the only upstream.
fn upstream<'a>(
    document: &Document,
    route: &declared::Route,
    upstreams: &'a [Arc<Upstream>],
    mistakes: &mut Mistakes,
) -> Option<&'a Arc<Upstream>> {
    let names = || upstreams.iter().map(|upstream| upstream.name.as_str());
    match (&route.upstream, upstreams) {
        (Some(name), _) => {
            let found = upstreams.iter().find(|upstream| upstream.name == name.value);
            if found.is_none() {
                let mistake = at(document, name, format!("upstream `{}` does not exist in this service", name.value));
                mistakes.push(mistake.nearest(name.as_str(), names(), "upstream"));
            }
            found
        }
        (None, [only]) => Some(only),
        (None, [any, ..]) if route.answered.as_ref().is_some_and(|answered| answered.value.is_always()) => Some(any),
        (None, _) => {
            let mistake = at(document, &route.name, format!("route `{}` must name one of several upstreams", route.name.value));
            mistakes.push(mistake.hint(format!("add `upstream:` with one of {}", names().collect::<Vec<_>>().join(", "))));
            None
        }
    }
}
