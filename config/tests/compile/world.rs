//! Small random worlds: what a platform and a few tenants declare, and requests to them. A world writes itself as documents;
//! `oracle.rs` says what it means without them.

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::fmt::Write as _;

/// Tenants there may be.
pub(crate) const TENANTS: [&str; 3] = ["t0", "t1", "t2"];
const METHODS: [&str; 4] = ["GET", "POST", "DELETE", "PURGE"];
const PATTERNS: [&str; 14] =
    ["/", "/a", "/b", "/a/", "/{x}", "/a/b", "/a/{x}", "/{x}/b", "/{x}/{y}", "/a/**", "/{x}/**", "/**", "/a/b/**", "/{x}/b/{y}"];
const PATHS: [&str; 12] = ["/", "/a", "/b", "/c", "/a/", "/a/b", "/a/c", "/c/b", "/c/c", "/a/b/", "/a/b/c", "/c/b/a"];
/// Values of the claim `roles` and names of users that bindings may mean.
const SUBJECTS: [&str; 3] = ["s0", "s1", "s2"];
const FEATURES: [&str; 2] = ["f0", "f1"];
const PLANS: [&str; 2] = ["p0", "p1"];
const RANGES: [&str; 2] = ["10.0.0.0/8", "10.1.0.0/16"];

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) routes: Vec<Route>,
    pub(crate) plans: Vec<Plan>,
    pub(crate) scope: Scope,
    pub(crate) tenants: Vec<Tenant>,
}

#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) pattern: &'static str,
    pub(crate) is_public: bool,
    pub(crate) feature: Option<&'static str>,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) is_default: bool,
    pub(crate) features: Vec<&'static str>,
}

/// Roles and bindings of the platform, or of one tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    pub(crate) roles: Vec<Role>,
    pub(crate) bindings: Vec<Binding>,
}

#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) inherits: Vec<String>,
    pub(crate) allow: Vec<Rule>,
    pub(crate) deny: Vec<Rule>,
}

#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// None is all.
    pub(crate) methods: Vec<&'static str>,
    pub(crate) paths: Vec<&'static str>,
    pub(crate) sources: Vec<&'static str>,
    /// Days from Monday, and hours; in UTC.
    pub(crate) time: Option<(Vec<usize>, u8, u8)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Binding {
    pub(crate) role: String,
    pub(crate) subject: Subject,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject {
    Claim(&'static str),
    User(&'static str),
    /// The tenant's only key.
    Key,
}

#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) id: &'static str,
    pub(crate) state: &'static str,
    pub(crate) plan: Option<&'static str>,
    pub(crate) features: Vec<&'static str>,
    pub(crate) has_key: bool,
    pub(crate) scope: Scope,
}

/// A request, its tenant named.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) principal: Principal,
    pub(crate) source: &'static str,
    pub(crate) now: i64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Principal {
    Nobody,
    Key,
    Token { user: &'static str, roles: &'static str },
}

/// Worlds without mistakes.
pub(crate) fn world() -> impl Strategy<Value = World> {
    let platform_roles = roles("r", &[], 3);
    let parts = (routes(), plans(), platform_roles, subsequence(TENANTS.to_vec(), 1..=3));
    parts.prop_flat_map(|(routes, plans, roles, ids)| {
        let names: Vec<String> = roles.iter().map(|role| role.name.clone()).collect();
        let tenants: Vec<_> = ids.into_iter().map(|id| tenant(id, names.clone())).collect();
        let bindings = bindings(names, false);
        (Just(routes), Just(plans), Just(roles), bindings, tenants).prop_map(|(routes, plans, roles, bindings, tenants)| World {
            routes,
            plans,
            scope: Scope { roles, bindings },
            tenants,
        })
    })
}

/// One tenant, given the names of the platform's roles.
pub(crate) fn tenant(id: &'static str, platforms: Vec<String>) -> impl Strategy<Value = Tenant> {
    // `r0` may be a role of the platform and of the tenant: then the tenant's own is meant.
    let own = prop_oneof![roles("o", &platforms, 2), roles("r", &[], 1)];
    let state = prop_oneof![4 => Just("active"), 1 => Just("suspended")];
    let parts = (state, option::of(select(PLANS.to_vec())), subsequence(FEATURES.to_vec(), 0..=2), any::<bool>(), own);
    parts.prop_flat_map(move |(state, plan, features, has_key, roles)| {
        let names = platforms.iter().cloned().chain(roles.iter().map(|role| role.name.clone())).collect();
        bindings(names, has_key).prop_map(move |bindings| Tenant {
            id,
            state,
            plan,
            features: features.clone(),
            has_key,
            scope: Scope { roles: roles.clone(), bindings },
        })
    })
}

/// Requests of every sort.
pub(crate) fn request() -> impl Strategy<Value = Request> {
    let principal = prop_oneof![
        1 => Just(Principal::Nobody),
        1 => Just(Principal::Key),
        4 => (select(SUBJECTS.to_vec()), select(SUBJECTS.to_vec())).prop_map(|(user, roles)| Principal::Token { user, roles }),
    ];
    let methods = ["GET", "HEAD", "POST", "DELETE", "PURGE", "LINK"];
    let sources = ["10.1.2.3", "10.2.3.4", "192.0.2.1", "2001:db8::1"];
    let parts = (select(methods.to_vec()), select(PATHS.to_vec()), principal, select(sources.to_vec()), 0i64..14 * 24 * 60);
    parts.prop_map(|(method, path, principal, source, minute)| Request {
        method,
        path,
        principal,
        source,
        now: minute * 60 + 1_795_000_000,
    })
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let route = |pattern| {
        let feature = prop_oneof![3 => Just(None), 1 => select(FEATURES.to_vec()).prop_map(Some)];
        (prop_oneof![4 => Just(false), 1 => Just(true)], feature).prop_map(move |(is_public, feature)| Route {
            pattern,
            is_public,
            feature,
        })
    };
    subsequence(PATTERNS.to_vec(), 1..=6).prop_flat_map(move |patterns| patterns.into_iter().map(route).collect::<Vec<_>>())
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let features = || subsequence(FEATURES.to_vec(), 0..=2);
    (0..=PLANS.len(), features(), features()).prop_map(|(default, first, second)| {
        let plan = |(at, (name, features)): (usize, (&'static str, Vec<&'static str>))| Plan { name, is_default: at == default, features };
        PLANS.into_iter().zip([first, second]).enumerate().map(plan).collect()
    })
}

/// Up to `most` roles, each of which may inherit those before it and the given ones.
fn roles(prefix: &'static str, others: &[String], most: usize) -> BoxedStrategy<Vec<Role>> {
    let others = others.to_vec();
    let bodies = vec((vec(rule(), 0..=2), prop_oneof![3 => vec(rule(), 0..1), 1 => vec(rule(), 1..=1)], vec(any::<bool>(), 6)), 0..=most);
    let named = bodies.prop_map(move |bodies| {
        let mut names = others.clone();
        let mut roles = Vec::new();
        for (at, (allow, deny, chosen)) in bodies.into_iter().enumerate() {
            let name = format!("{prefix}{at}");
            let inherits =
                names.iter().zip(chosen).filter(|(other, chosen)| *chosen && **other != name).map(|(name, _)| name.clone()).collect();
            names.push(name.clone());
            roles.push(Role { name, inherits, allow, deny });
        }
        roles
    });
    named.boxed()
}

fn rule() -> impl Strategy<Value = Rule> {
    let methods = subsequence(METHODS.to_vec(), 0..=2);
    let paths = btree_set(select(PATTERNS.to_vec()), 1..=2).prop_map(|paths| paths.into_iter().collect());
    let sources = prop_oneof![3 => Just(Vec::new()), 1 => subsequence(RANGES.to_vec(), 1..=2)];
    let hours = (0u8..=23, 1u8..=24).prop_filter("an empty window is refused", |(from, to)| from != to);
    let days = subsequence((0..7usize).collect::<Vec<_>>(), 1..=7);
    let time = prop_oneof![3 => Just(None), 1 => (days, hours).prop_map(|(days, (from, to))| Some((days, from, to)))];
    (methods, paths, sources, time).prop_map(|(methods, paths, sources, time)| Rule { methods, paths, sources, time })
}

fn bindings(names: Vec<String>, with_key: bool) -> BoxedStrategy<Vec<Binding>> {
    if names.is_empty() {
        return Just(Vec::new()).boxed();
    }
    let claim = select(SUBJECTS.to_vec()).prop_map(Subject::Claim);
    let user = select(SUBJECTS.to_vec()).prop_map(Subject::User);
    let subject = if with_key { prop_oneof![claim, user, Just(Subject::Key)].boxed() } else { prop_oneof![claim, user].boxed() };
    vec((select(names), subject).prop_map(|(role, subject)| Binding { role, subject }), 0..=3).boxed()
}

impl World {
    /// Its documents: the platform's, then each tenant's, each with the name of its file.
    pub(crate) fn files(&self) -> Vec<(String, String)> {
        let tenants = self.tenants.iter().map(|tenant| (format!("{}.yaml", tenant.id), tenant.documents()));
        std::iter::once(("platform.yaml".to_owned(), self.platform())).chain(tenants).collect()
    }

    fn platform(&self) -> String {
        let mut text = "kind: Service\nname: s\nlisteners: [{ name: http, address: 127.0.0.1:0 }]\n\
                        upstreams: [{ name: app, endpoints: [\"http://127.0.0.1:1\"] }]\nroutes:\n"
            .to_owned();
        for (at, route) in self.routes.iter().enumerate() {
            let access = if route.is_public { ", access: public" } else { "" };
            let feature = route.feature.map_or_else(String::new, |feature| format!(", requires_feature: {feature}"));
            writeln!(text, "  - {{ name: route{at}, path: \"{}\"{access}{feature} }}", route.pattern).unwrap();
        }
        for plan in &self.plans {
            let features = plan.features.join(", ");
            write!(text, "---\nkind: Plan\nname: {}\ndefault: {}\nfeatures: [{features}]\n", plan.name, plan.is_default).unwrap();
        }
        text.push_str(
            "---\nkind: Identity\nname: i\napi_key_header: x-api-key\n\
                       jwt: [{ issuer: i, audiences: [a], algorithms: [EdDSA], jwks: { file: k }, tenant_claim: tenant }]\n",
        );
        self.scope.write(None, &mut text);
        text
    }
}

impl Tenant {
    pub(crate) fn documents(&self) -> String {
        let id = self.id;
        let features = self.features.join(", ");
        let mut text = format!(
            "kind: Tenant\ntenant_id: {id}\nname: T\nemail: t@example.com\nstate: {}\nfeatures: [{features}]\nhosts: [{id}.test]\n",
            self.state
        );
        if let Some(plan) = self.plan {
            writeln!(text, "plan: {plan}").unwrap();
        }
        if self.has_key {
            write!(text, "---\nkind: Identity\ntenant: {id}\nname: keys\napi_keys: [{{ id: key, sha256: {} }}]\n", "ab".repeat(32))
                .unwrap();
        }
        self.scope.write(Some(id), &mut text);
        text
    }
}

impl Scope {
    fn write(&self, tenant: Option<&str>, text: &mut String) {
        let tenant = tenant.map_or_else(String::new, |tenant| format!("tenant: {tenant}\n"));
        for role in &self.roles {
            write!(text, "---\nkind: Role\n{tenant}name: {}\ninherits: [{}]\n", role.name, role.inherits.join(", ")).unwrap();
            for (effect, rules) in [("allow", &role.allow), ("deny", &role.deny)] {
                if !rules.is_empty() {
                    writeln!(text, "{effect}:").unwrap();
                    rules.iter().for_each(|rule| writeln!(text, "  - {}", rule.written()).unwrap());
                }
            }
        }
        for (at, binding) in self.bindings.iter().enumerate() {
            let subject = match binding.subject {
                Subject::Claim(value) => format!("claim: {{ roles: {value} }}"),
                Subject::User(user) => format!("user: {user}"),
                Subject::Key => "api_key: key".to_owned(),
            };
            write!(text, "---\nkind: RoleBinding\n{tenant}name: b{at}\nrole: {}\nsubjects: [{{ {subject} }}]\n", binding.role).unwrap();
        }
    }
}

impl Rule {
    fn written(&self) -> String {
        let quoted = |words: &[&str]| words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let methods = if self.methods.is_empty() { "\"*\"".to_owned() } else { quoted(&self.methods) };
        let mut when = Vec::new();
        if !self.sources.is_empty() {
            when.push(format!("source: [{}]", quoted(&self.sources)));
        }
        if let Some((days, from, to)) = &self.time {
            let days: Vec<&str> = days.iter().map(|&day| ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][day]).collect();
            when.push(format!("time: {{ days: [{}], from: \"{from:02}:00\", to: \"{to:02}:00\", zone: UTC }}", days.join(", ")));
        }
        let when = if when.is_empty() { String::new() } else { format!(", when: {{ {} }}", when.join(", ")) };
        format!("{{ methods: [{methods}], paths: [{}]{when} }}", quoted(&self.paths))
    }
}
