//! What one tenant has, in effect, and which layer gave each value: the defaults, its plan, the platform, or the tenant itself.
//!
//! For operators: `config show`, the admin socket and the API print this. Secrets are in no snapshot; of keys only ids appear.

use crate::declared::role::ClaimValue;
use crate::declared::{Counted, Per, Subject, Tenant, TenantState};
use crate::snapshot::{Bounds, LimitSpec, Platform, Policy, Scope, Slice, SliceState, Snapshot};
use crate::unit::{Limit, show_duration};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The layer that gave a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Nobody wrote it.
    Default,
    /// The tenant's plan.
    Plan,
    /// Documents of the platform.
    Platform,
    /// Documents of the tenant.
    Tenant,
}

impl Layer {
    /// As it is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::Default => "default",
            Layer::Plan => "plan",
            Layer::Platform => "platform",
            Layer::Tenant => "tenant",
        }
    }
}

impl From<Scope> for Layer {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Platform => Layer::Platform,
            Scope::Tenant => Layer::Tenant,
        }
    }
}

/// Values are shown alone, or with their layer as `{"value": …, "origin": …}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Alone.
    Values,
    /// With their layer.
    Origins,
}

impl Show {
    fn value(self, value: impl Into<Value>, origin: impl Into<Layer>) -> Value {
        match self {
            Show::Values => value.into(),
            Show::Origins => json!({ "value": value.into(), "origin": origin.into().as_str() }),
        }
    }
}

/// What a tenant has in effect.
#[must_use]
pub fn of(snapshot: &Snapshot, slice: &Slice, show: Show) -> Value {
    let tenant = slice.written.tenant();
    let mut all = Map::new();
    all.insert("tenant_id".to_owned(), slice.id.as_str().into());
    all.insert("revision".to_owned(), snapshot.epoch.revision.into());
    if let Some(tenant) = tenant {
        people(tenant, show, &mut all);
    }
    all.insert("state".to_owned(), state(slice, tenant, show));
    all.insert("hosts".to_owned(), list(&slice.hosts, |host| show.value(host.as_str(), Layer::Tenant)));
    quotas(slice, tenant, show, &mut all);
    policy(snapshot, slice.policy(), show, &mut all);
    Value::Object(all)
}

/// What no request depends on.
fn people(tenant: &Tenant, show: Show, all: &mut Map<String, Value>) {
    let texts = [
        ("name", Some(&tenant.name)),
        ("email", Some(&tenant.email)),
        ("locale", tenant.locale.as_ref()),
        ("time_zone", tenant.time_zone.as_ref()),
    ];
    for (key, text) in texts {
        let origin = if text.is_some() { Layer::Tenant } else { Layer::Default };
        all.insert(key.to_owned(), show.value(text.map(String::as_str), origin));
    }
}

fn state(slice: &Slice, tenant: Option<&Tenant>, show: Show) -> Value {
    let text = match slice.state {
        SliceState::Declared(TenantState::Active) => "active",
        SliceState::Declared(TenantState::Suspended) => "suspended",
        SliceState::Declared(TenantState::Offboarding) => "offboarding",
        SliceState::Held => "held",
    };
    let written = tenant.is_some_and(|tenant| tenant.state != TenantState::default());
    show.value(text, if written { Layer::Tenant } else { Layer::Default })
}

/// The plan, and what comes from it unless the tenant says otherwise.
fn quotas(slice: &Slice, tenant: Option<&Tenant>, show: Show, all: &mut Map<String, Value>) {
    let own = |written: bool, known: bool| match (written, known) {
        (true, _) => Layer::Tenant,
        (false, true) => Layer::Plan,
        (false, false) => Layer::Default,
    };
    let plan = slice.plan.as_ref().map(|plan| plan.as_str());
    let plan_origin = match tenant.is_some_and(|tenant| tenant.plan.is_some()) {
        true => Layer::Tenant,
        // The plan that is marked `default: true`.
        false => plan.map_or(Layer::Default, |_| Layer::Platform),
    };
    all.insert("plan".to_owned(), show.value(plan, plan_origin));
    let written = tenant.is_some_and(|tenant| tenant.api_quota_per_hour.is_some());
    let quota = slice.api_quota_per_hour.map_or(Value::from("unlimited"), limit);
    all.insert("api_quota_per_hour".to_owned(), show.value(quota, own(written, slice.api_quota_per_hour.is_some())));
    let written = tenant.is_some_and(|tenant| tenant.storage_quota_gb.is_some());
    let quota = slice.storage_quota_gb.map_or(Value::from("unlimited"), Value::from);
    all.insert("storage_quota_gb".to_owned(), show.value(quota, own(written, slice.storage_quota_gb.is_some())));
    let features = list(&slice.features, |feature| {
        let written = tenant.is_some_and(|tenant| tenant.features.iter().any(|own| own.value == *feature));
        show.value(feature.as_str(), own(written, true))
    });
    all.insert("features".to_owned(), features);
}

/// Roles, bindings, limits, proof and bounds.
fn policy(snapshot: &Snapshot, policy: &Policy, show: Show, all: &mut Map<String, Value>) {
    let platform = snapshot.platform();
    all.insert("roles".to_owned(), list(policy.roles(), |role| show.value(role.name.as_str(), role.scope)));
    let bindings = policy.bindings().map(|binding| {
        let role = policy.roles().get(binding.role).map(|role| role.name.as_str());
        let subjects: Vec<String> = binding.subjects.iter().map(subject).collect();
        show.value(json!({ "name": binding.name.as_str(), "role": role, "subjects": subjects }), binding.scope)
    });
    all.insert("bindings".to_owned(), bindings.collect());
    all.insert("limits".to_owned(), list(policy.limits(), |spec| show.value(counted(spec), whose(spec))));
    let issuers = policy.issuers().iter().chain(platform.issuers());
    all.insert("issuers".to_owned(), issuers.map(|issuer| show.value(issuer.issuer.as_str(), issuer.scope)).collect());
    all.insert("api_keys".to_owned(), list(&policy.api_keys, |(id, _)| show.value(id.as_str(), Layer::Tenant)));
    all.insert("request".to_owned(), bounds(policy.bounds(), platform, show));
    let origin = match policy.max_staleness() {
        None => Layer::Default,
        same if same == platform.max_staleness => Layer::Platform,
        Some(_) => Layer::Tenant,
    };
    all.insert("max_staleness".to_owned(), show.value(policy.max_staleness().map(show_duration), origin));
    let origin = match policy.cors() {
        None => Layer::Default,
        same if same == platform.cors() => Layer::Platform,
        Some(_) => Layer::Tenant,
    };
    all.insert("cors".to_owned(), show.value(policy.cors().map(|cors| cors.show()), origin));
    let headers = platform.security_headers().into_iter().flat_map(|headers| headers.show());
    all.insert("security_headers".to_owned(), headers.map(|header| show.value(header, Layer::Platform)).collect());
}

fn bounds(own: &Bounds, platform: &Platform, show: Show) -> Value {
    let (of_platform, written) = (&platform.bounds, &platform.written);
    let value = |value: Value, same: bool, written: bool| {
        let origin = match (same, written) {
            (false, _) => Layer::Tenant,
            (true, true) => Layer::Platform,
            (true, false) => Layer::Default,
        };
        show.value(value, origin)
    };
    let number = |own: u64, platform: u64, written: bool| value(own.into(), own == platform, written);
    let time = |own: Duration, platform: Duration, written: bool| value(show_duration(own).into(), own == platform, written);
    json!({
        "header_bytes_max": number(own.header_bytes_max, of_platform.header_bytes_max, written.header_bytes_max.is_some()),
        "headers_max": number(own.headers_max.into(), of_platform.headers_max.into(), written.headers_max.is_some()),
        "body_bytes_max": number(own.body_bytes_max, of_platform.body_bytes_max, written.body_bytes_max.is_some()),
        "head_timeout": time(own.head_timeout, of_platform.head_timeout, written.head_timeout.is_some()),
        "body_idle_timeout": time(own.body_idle_timeout, of_platform.body_idle_timeout, written.body_idle_timeout.is_some()),
    })
}

fn whose(spec: &LimitSpec) -> Layer {
    spec.id.tenant.as_ref().map_or(Layer::Platform, |_| Layer::Tenant)
}

fn counted(spec: &LimitSpec) -> Value {
    let per = match spec.per {
        Per::Tenant => "tenant",
        Per::User => "user",
        Per::ApiKey => "api_key",
        Per::ClientAddress => "client_address",
    };
    let mut all = Map::new();
    all.insert("policy".to_owned(), spec.id.policy.as_str().into());
    all.insert("name".to_owned(), spec.id.limit.as_str().into());
    all.insert("per".to_owned(), per.into());
    match &spec.counted {
        Counted::Rate { rate, burst } => {
            all.insert("rate".to_owned(), rate.to_string().into());
            all.insert("burst".to_owned(), (*burst).into());
        }
        Counted::Sliding { requests, window } => {
            all.insert("requests".to_owned(), limit(*requests));
            all.insert("window".to_owned(), show_duration(*window).into());
        }
        Counted::Concurrent { concurrent } => {
            all.insert("concurrent".to_owned(), limit(*concurrent));
        }
    }
    Value::Object(all)
}

fn limit(limit: Limit) -> Value {
    match limit {
        Limit::Unlimited => "unlimited".into(),
        Limit::Closed => 0.into(),
        Limit::AtMost(most) => most.get().into(),
    }
}

fn subject(subject: &Subject) -> String {
    match subject {
        Subject::User(user) => format!("user {user}"),
        Subject::ApiKey(id) => format!("api_key {id}"),
        Subject::Claim(claims) => {
            let claim = |(name, value): &(String, ClaimValue)| match value {
                ClaimValue::Str(text) => format!("{name}: {text}"),
                ClaimValue::Int(number) => format!("{name}: {number}"),
                ClaimValue::Bool(flag) => format!("{name}: {flag}"),
            };
            format!("claim {}", claims.iter().map(claim).collect::<Vec<_>>().join(", "))
        }
    }
}

fn list<T>(items: &[T], show: impl Fn(&T) -> Value) -> Value {
    items.iter().map(show).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::compile::Catalogue;
    use crate::declared::read_file;
    use crate::protocol::{Offer, Put};
    use std::sync::Arc;

    fn snapshot() -> Arc<Snapshot> {
        let mut offer = Offer { complete: true, ..Offer::default() };
        for (name, text) in [
            ("platform.yaml", include_str!("../samples/platform.yaml")),
            ("tenants/acme_corp.yaml", include_str!("../samples/tenants/acme_corp.yaml")),
            ("tenants/globex.yaml", include_str!("../samples/tenants/globex.yaml")),
        ] {
            let file = read_file(name, text);
            assert!(file.diagnostics.is_empty(), "{}", file.diagnostics);
            offer.put.extend(file.documents.into_iter().map(|document| Put { document, text: text.into() }));
        }
        Catalogue::new().apply(&offer).snapshot
    }

    fn shown(tenant: &str, show: Show) -> Value {
        let snapshot = snapshot();
        of(&snapshot, snapshot.tenant(tenant).unwrap(), show)
    }

    #[test]
    fn a_tenant_overrides_its_plan_and_adds_to_its_features() {
        let acme = shown("acme_corp", Show::Origins);
        for (key, value, origin) in [
            ("name", json!("ACME Corporation"), "tenant"),
            ("time_zone", json!(null), "default"),
            ("state", json!("active"), "default"),
            ("plan", json!("premium"), "tenant"),
            ("api_quota_per_hour", json!(50_000), "tenant"),
            ("storage_quota_gb", json!(100.0), "tenant"),
            ("max_staleness", json!(null), "default"),
        ] {
            assert_eq!(acme[key], json!({ "value": value, "origin": origin }), "{key}");
        }
        assert_eq!(
            acme["features"],
            json!([
                { "value": "analytics", "origin": "tenant" },
                { "value": "audio_processing", "origin": "tenant" },
                { "value": "reports", "origin": "plan" },
            ])
        );
        assert_eq!(acme["request"]["head_timeout"], json!({ "value": "10s", "origin": "platform" }));
        assert_eq!(acme["request"]["body_idle_timeout"], json!({ "value": "30s", "origin": "default" }));
        assert_eq!((&acme["cors"]["origin"], &acme["cors"]["value"]["max_age_seconds"]), (&json!("platform"), &json!("600")));
        let globex = shown("globex", Show::Origins);
        assert_eq!(globex["api_quota_per_hour"], json!({ "value": 1_000, "origin": "plan" }));
        assert_eq!(globex["email"], json!({ "value": "ops@globex.example", "origin": "tenant" }));
    }

    #[test]
    fn what_decides_is_listed_with_whose_it_is() {
        let acme = shown("acme_corp", Show::Origins);
        let listed = |key: &str, value: Value, origin: &str| {
            let item = json!({ "value": value, "origin": origin });
            assert!(acme[key].as_array().unwrap().contains(&item), "{item} is not in {}", acme[key]);
        };
        listed("roles", json!("reader"), "platform");
        listed("roles", json!("auditor"), "tenant");
        listed("bindings", json!({ "name": "ci_edits", "role": "editor", "subjects": ["api_key ci"] }), "tenant");
        listed("bindings", json!({ "name": "readers", "role": "reader", "subjects": ["claim roles: reader"] }), "platform");
        let reports = json!({ "policy": "reports_premium", "name": "reports", "per": "tenant", "requests": 600, "window": "1m" });
        listed("limits", reports, "platform");
        listed("api_keys", json!("ci"), "tenant");
        listed("issuers", json!("https://issuer.bulkhead.localhost"), "platform");
        assert!(!acme.to_string().contains("fa9bc300"), "no hash of a key is shown");
    }

    #[test]
    fn security_headers_are_shown_as_answers_carry_them() {
        let text = include_str!("../samples/platform.yaml").replace("\ncors:\n", "\nsecurity_headers: {}\ncors:\n");
        let snapshot = |text: &str| {
            let documents = read_file("all", text).documents.into_iter();
            let put = documents.map(|document| Put { document, text: "".into() }).collect();
            Catalogue::new().apply(&Offer { put, ..Offer::default() }).snapshot
        };
        let tenant = "\n---\nkind: Tenant\ntenant_id: t\nname: T\nemail: t@t.test\n";
        let shown = |text: &str, show| {
            let snapshot = snapshot(&format!("{text}{tenant}"));
            of(&snapshot, snapshot.tenant("t").unwrap(), show)["security_headers"].clone()
        };
        let nosniff = json!({ "name": "x-content-type-options", "value": "nosniff" });
        assert_eq!(shown(&text, Show::Origins)[0], json!({ "value": nosniff, "origin": "platform" }));
        let listed = shown(&text, Show::Values);
        let transport = json!({ "name": "strict-transport-security", "value": "max-age=31536000", "over": "tls" });
        assert_eq!((&listed[0], listed.as_array().unwrap().last().unwrap()), (&nosniff, &transport));
        assert_eq!(shown(include_str!("../samples/platform.yaml"), Show::Origins), json!([]));
    }

    #[test]
    fn without_origins_values_stand_alone() {
        let globex = shown("globex", Show::Values);
        assert_eq!(globex["plan"], "free");
        assert_eq!(globex["hosts"], json!(["globex.localhost"]));
        assert_eq!(globex["request"]["head_timeout"], "10s");
        assert_eq!(globex["limits"][0]["per"], "tenant");
    }
}
