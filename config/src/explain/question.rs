//! A described request into facts: tenant, route and principal, in the order in which the sidecar finds them.

use super::{Explanation, Question, Verdict, decision};
use crate::condition::Kept;
use crate::decide::Facts;
use crate::diagnostic::nearest;
use crate::path;
use crate::snapshot::{Credential, Issuer, Principal, RoleInfo, RoleSet, Route, Scope, Service, Shadow, Slice, Snapshot};
use crate::text::{Budget, Node, Value, json};
use crate::unit::UnixSeconds;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// An explanation, or in the error one that ended before a decision could be asked for.
type Answer<T> = Result<T, Box<Explanation>>;

/// Answers a question.
pub(super) fn answer(snapshot: &Snapshot, question: &Question) -> Answer<Explanation> {
    let asked = Asked { snapshot, question };
    let method = http::Method::from_bytes(question.method.as_bytes())
        .map_err(|_| asked.unclear(format!("`{}` is no HTTP method", question.method)))?;
    let (path, query) = question.path.split_once('?').map_or((&*question.path, None), |(path, query)| (path, Some(query)));
    let path = path::normalise(path).map_err(|why| asked.refused(400, "ambiguous_request", format!("the path {why}")))?;
    let slice = asked.tenant()?;
    let service = asked.service(&path)?;
    let route = service.and_then(|service| service.route(&path));
    // Who it comes from matters only where anything is served; of a tenant on hold not even its roles are known.
    let principal = if slice.state().is_served() {
        asked.principal(slice).map_err(|refused| asked.unless_passed(slice, route, refused))?
    } else {
        None
    };
    let host = question.host.as_deref().map(bare_host).unwrap_or_default();
    let told = told(question, query);
    let facts = Facts {
        route,
        method: &method,
        path: &path,
        // An address nobody can come from: outside every range that a rule may name but for all addresses.
        source: question.source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        principal: principal.as_ref().map(|(principal, held)| (principal, *held)),
        now: question.now,
        asked: told.asked(host.as_bytes()),
    };
    Ok(decision::explain(snapshot, slice, &facts))
}

/// What the question says of the request beside its path.
fn told(question: &Question, query: Option<&str>) -> Kept {
    let mut told = Kept::described(query);
    question.headers.iter().for_each(|(name, value)| told.describe(name, value));
    told
}

struct Asked<'a> {
    snapshot: &'a Snapshot,
    question: &'a Question,
}

impl<'a> Asked<'a> {
    fn unclear(&self, because: impl Into<String>) -> Box<Explanation> {
        self.ended(Verdict::Unclear, because)
    }

    fn refused(&self, status: u16, problem: &'static str, because: impl Into<String>) -> Box<Explanation> {
        self.ended(Verdict::Refused { status, problem }, because)
    }

    fn ended(&self, verdict: Verdict, because: impl Into<String>) -> Box<Explanation> {
        let request = format!("{} {}", self.question.method, self.question.path);
        Box::new(Explanation::new(self.snapshot, request, verdict, because))
    }

    /// Whose request it is: named and proved must agree.
    fn tenant(&self) -> Answer<&'a Arc<Slice>> {
        let named = self.named()?;
        let proved = self.proved()?;
        match (named, proved) {
            (Some(named), Some(proved)) if named.id() != proved.id() => {
                let because = format!("the request names tenant `{}`, and its credential proves tenant `{}`", named.id(), proved.id());
                Err(self.refused(403, "other_tenant", because))
            }
            (Some(slice), _) | (None, Some(slice)) => Ok(slice),
            (None, None) if self.question.host.is_some() && !self.question.has_credential() => {
                Err(self.refused(401, "missing_credential", "a shared host names no tenant, and no credential proves one"))
            }
            (None, None) if self.question.host.is_some() => {
                Err(self.unclear("a shared host names no tenant, and which one the credential proves is not given"))
            }
            (None, None) => Err(self.unclear("neither host nor tenant is given, so nothing says whose request it is")),
        }
    }

    /// The tenant that the host names; none where the host is shared, or not given.
    fn named(&self) -> Answer<Option<&'a Arc<Slice>>> {
        let Some(written) = &self.question.host else { return Ok(None) };
        let host = bare_host(written);
        let services = self.snapshot.platform().services();
        if services.iter().any(|service| service.is_shared_host(&host)) {
            return Ok(None);
        }
        if let Some(slice) = self.snapshot.tenant_by_host(&host) {
            return Ok(Some(slice));
        }
        let mut unknown = self.refused(404, "unknown_tenant", format!("host `{host}` names no tenant"));
        let hosts =
            self.snapshot.tenants().flat_map(|slice| slice.hosts()).chain(services.iter().flat_map(|service| &service.shared_hosts));
        if let Some(near) = nearest(&host, hosts.map(|host| host.as_str())) {
            unknown.nearest.push(match self.snapshot.tenant_by_host(near) {
                Some(slice) => format!("host `{near}` names tenant `{}`", slice.id()),
                None => format!("host `{near}` is shared"),
            });
        }
        Err(unknown)
    }

    /// The tenant that the credential proves, or that is asked about.
    fn proved(&self) -> Answer<Option<&'a Arc<Slice>>> {
        let claimed = self.claimed_tenant();
        let Some(id) = self.question.tenant.as_deref().or(claimed) else { return Ok(None) };
        if let Some(claimed) = claimed
            && claimed != id
        {
            let because = format!("the token's claim names tenant `{claimed}`, and the question asks about tenant `{id}`");
            return Err(self.refused(403, "other_tenant", because));
        }
        if let Some(slice) = self.snapshot.tenant(id) {
            return Ok(Some(slice));
        }
        let mut unknown = self.refused(404, "unknown_tenant", format!("tenant `{id}` does not exist"));
        if let Some(near) = nearest(id, self.snapshot.tenants().map(|slice| slice.id().as_str())) {
            unknown.nearest.push(format!("tenant `{near}` exists"));
        }
        Err(unknown)
    }

    /// The tenant that the claims name by the claim of their platform-wide issuer. A token whose issuer is one of the asked
    /// tenant's own has no such claim.
    fn claimed_tenant(&self) -> Option<&'a str> {
        let claims = self.question.claims.as_ref()?;
        let own = self.question.tenant.as_deref().and_then(|id| self.snapshot.tenant(id)).map_or(&[][..], |slice| slice.policy().issuers());
        match issuer_of(claims, own, self.snapshot.platform().issuers())? {
            issuer if issuer.scope == Scope::Platform => text(claims, issuer.tenant_claim.as_deref()?),
            _ => None,
        }
    }

    /// Who it comes from, with the roles that bindings and the question give.
    fn principal(&self, slice: &Slice) -> Answer<Option<(Principal, RoleSet)>> {
        let question = self.question;
        if !question.has_credential() {
            return Ok(None);
        }
        let principal = match &question.api_key {
            Some(_) if question.claims.is_some() || question.user.is_some() => {
                return Err(self.unclear("a request has a token or an API key, not both"));
            }
            Some(id) => self.api_key(slice, id)?,
            None => self.token(slice)?,
        };
        let mut held = slice.policy().roles_of(&principal);
        for name in &question.roles {
            held = held.union(self.supposed(slice, name)?);
        }
        Ok(Some((principal, held)))
    }

    /// A bad credential that is only recorded: the request goes on as one without any.
    fn unless_passed(&self, slice: &Slice, route: Option<&Arc<Route>>, mut refused: Box<Explanation>) -> Box<Explanation> {
        let shadow = Shadow::of(self.snapshot.platform(), slice, route.map(|route| &**route));
        if route.is_some() && shadow.has(Shadow::CREDENTIAL) {
            refused.verdict = refused.verdict.in_shadow();
        }
        refused
    }

    fn api_key(&self, slice: &Slice, id: &str) -> Answer<Principal> {
        let known = slice.policy().api_keys.iter().find(|(known, _)| known.as_str() == id);
        let Some((id, key)) = known else {
            let mut unknown = self.refused(401, "invalid_api_key", format!("tenant `{}` has no API key `{id}`", slice.id()));
            if let Some(near) = nearest(id, slice.policy().api_keys.iter().map(|(known, _)| known.as_str())) {
                unknown.nearest.push(format!("API key `{near}` exists"));
            }
            return Err(unknown);
        };
        if key.expires.is_some_and(|expires| expires <= self.question.now) {
            return Err(self.refused(401, "invalid_api_key", format!("API key `{id}` of tenant `{}` has expired", slice.id())));
        }
        Ok(Principal { user: id.as_str().into(), credential: Credential::ApiKey(id.clone()) })
    }

    fn token(&self, slice: &Slice) -> Answer<Principal> {
        let no_claims = Value::Map(Vec::new());
        let claims = self.question.claims.as_ref().unwrap_or(&no_claims);
        let platform = self.snapshot.platform().issuers();
        let issuer = issuer_of(claims, slice.policy().issuers(), platform);
        if let (None, Some(iss)) = (issuer, text(claims, "iss")) {
            let mut unknown = self.refused(401, "invalid_token", format!("issuer `{iss}` is neither the tenant's nor the platform's"));
            let known = slice.policy().issuers().iter().chain(platform).map(|issuer| issuer.issuer.as_str());
            unknown.nearest.extend(nearest(iss, known).map(|near| format!("issuer `{near}` exists")));
            return Err(unknown);
        }
        let user = self.question.user.as_deref().or_else(|| text(claims, "sub")).unwrap_or("somebody");
        let credential = Credential::Token {
            scope: issuer.map_or(Scope::Platform, |issuer| issuer.scope),
            issuer: issuer.map_or("", |issuer| &issuer.issuer).into(),
            claims: Arc::new(claims.clone()),
        };
        Ok(Principal { user: user.into(), credential })
    }

    /// What a role that the question supposes carries: the tenant's own before the platform's.
    fn supposed(&self, slice: &Slice, name: &str) -> Answer<RoleSet> {
        let roles = slice.policy().roles();
        let of = |scope| roles.iter().find(|info: &&RoleInfo| info.scope == scope && info.name.as_str() == name);
        if let Some(info) = of(Scope::Tenant).or_else(|| of(Scope::Platform)) {
            return Ok(info.carries);
        }
        let mut unknown = self.unclear(format!("role `{name}` does not exist for tenant `{}`", slice.id()));
        if let Some(near) = nearest(name, roles.iter().map(|info| info.name.as_str())) {
            unknown.nearest.push(format!("role `{near}` exists"));
        }
        Err(unknown)
    }

    /// The service it comes to: the named one, the only one, or the only one with such a route.
    fn service(&self, path: &str) -> Answer<Option<&'a Arc<Service>>> {
        let services = self.snapshot.platform().services();
        let names = || services.iter().map(|service| service.name.as_str());
        if let Some(name) = &self.question.service {
            let found = services.iter().find(|service| service.name.as_str() == name);
            return found.map(Some).ok_or_else(|| {
                let mut unknown = self.unclear(format!("service `{name}` does not exist"));
                unknown.nearest.extend(nearest(name, names()).map(|near| format!("service `{near}` exists")));
                unknown
            });
        }
        let mut with_route = services.iter().filter(|service| service.route(path).is_some());
        match (with_route.next(), with_route.next()) {
            (Some(_), Some(_)) => {
                Err(self.unclear(format!("several services have such a route: name one of {}", names().collect::<Vec<_>>().join(", "))))
            }
            (found, _) => Ok(found),
        }
    }
}

/// A host as it is looked up: lower case, without port and without the trailing dot.
fn bare_host(written: &str) -> String {
    let bare = written.split_once(':').map_or(written, |(host, _)| host);
    bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase()
}

/// The issuer of claims: the tenant's own first. Claims without `iss` are taken for the platform's first.
fn issuer_of<'a>(claims: &Value, own: &'a [Arc<Issuer>], platform: &'a [Arc<Issuer>]) -> Option<&'a Arc<Issuer>> {
    match text(claims, "iss") {
        Some(iss) => own.iter().chain(platform).find(|issuer| issuer.issuer == iss),
        None => platform.first(),
    }
}

/// A claim that is text.
fn text<'a>(claims: &'a Value, name: &str) -> Option<&'a str> {
    claims.get(name)?.value.as_str()
}

/// What a question as JSON may hold.
const KEYS: [&str; 12] = ["service", "host", "tenant", "method", "path", "headers", "claims", "user", "api_key", "roles", "source", "at"];

/// Reads a question from a JSON object; `now` where it has no `at` (RFC 3339).
pub(super) fn read(bytes: &[u8], now: UnixSeconds) -> Result<Question, String> {
    let root = json::read(bytes, Budget::TOKEN).map_err(|mistake| mistake.to_string())?;
    let Value::Map(entries) = &root.value else { return Err("a question is a JSON object".to_owned()) };
    let mut question = Question::new("GET", "", now);
    for (key, node) in entries {
        let key = &*key.text;
        match key {
            "service" => question.service = Some(string(key, node)?),
            "host" => question.host = Some(string(key, node)?),
            "tenant" => question.tenant = Some(string(key, node)?),
            "method" => question.method = string(key, node)?,
            "path" => question.path = string(key, node)?,
            "user" => question.user = Some(string(key, node)?),
            "api_key" => question.api_key = Some(string(key, node)?),
            "headers" => question.headers = fields(key, node)?,
            "claims" => question.claims = Some(claims(&node.value)?),
            "roles" => question.roles = strings(key, node)?,
            "source" => {
                let written = string(key, node)?;
                question.source = Some(written.parse().map_err(|_| format!("`source` is an IP address, not `{written}`"))?);
            }
            "at" => {
                let written = string(key, node)?;
                let at: jiff::Timestamp = written.parse().map_err(|_| format!("`at` is a time as RFC 3339 writes it, not `{written}`"))?;
                question.now = at.as_second();
            }
            unknown => {
                let near = nearest(unknown, KEYS).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                return Err(format!("`{unknown}` is no field of a question{near}"));
            }
        }
    }
    if question.path.is_empty() { Err("a question needs a `path`".to_owned()) } else { Ok(question) }
}

fn claims(value: &Value) -> Result<Value, String> {
    match value {
        Value::Map(_) => Ok(value.clone()),
        _ => Err("`claims` is a JSON object".to_owned()),
    }
}

fn fields(key: &str, node: &Node) -> Result<Vec<(String, String)>, String> {
    let Value::Map(entries) = &node.value else { return Err(format!("`{key}` is a JSON object")) };
    entries.iter().map(|(name, node)| Ok((name.text.to_string(), string(&name.text, node)?))).collect()
}

fn string(key: &str, node: &Node) -> Result<String, String> {
    node.value.as_str().map(str::to_owned).ok_or_else(|| format!("`{key}` is a string"))
}

fn strings(key: &str, node: &Node) -> Result<Vec<String>, String> {
    let wrong = || format!("`{key}` is a list of strings");
    let Value::List(items) = &node.value else { return Err(wrong()) };
    items.iter().map(|item| item.value.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}
