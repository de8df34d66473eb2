//! Kind `QuotaPolicy`: how much of the service a tenant, a user, a key or an address may take.

use super::Enforce;
use super::read::Head;
use super::reader::{Item, Map, Outcome, named, spanned, wrong};
use super::schema::{self, Schema, optional, required};
use super::value;
use crate::diagnostic::Spanned;
use crate::name::{LimitName, PlanName, RouteName, TenantId};
use crate::unit::{Limit, PerPeriod};
use serde_json::json;
use std::time::Duration;

/// Limits; all policies that match a request stack.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaPolicy {
    /// Which requests it counts.
    pub applies_to: AppliesTo,
    /// Its limits.
    pub limits: Vec<LimitRule>,
    /// Whether it refuses.
    pub enforce: Enforce,
}

/// Which requests a policy is about; a key left out means all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AppliesTo {
    /// Tenants on these plans; platform-wide only.
    pub plans: Option<Vec<Spanned<PlanName>>>,
    /// These tenants; platform-wide only.
    pub tenants: Option<Vec<Spanned<TenantId>>>,
    /// These routes.
    pub routes: Option<Vec<Spanned<RouteName>>>,
}

/// One limit.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitRule {
    /// Its name; live state is keyed by it, so it survives edits.
    pub name: Spanned<LimitName>,
    /// What has a budget of its own.
    pub per: Per,
    /// What is counted.
    pub counted: Counted,
}

/// What has a budget of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Per {
    /// The whole tenant.
    Tenant,
    /// Each principal of it, API keys included.
    User,
    /// Each API key of it; requests without one are not counted.
    ApiKey,
    /// Each client address; of IPv6, the 64 bits that one client is given at least.
    ClientAddress,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// `rate: 200/s, burst: 400`: a steady rate with a burst (GCRA).
    Rate {
        /// The steady rate.
        rate: PerPeriod,
        /// How many may come at once.
        burst: u32,
    },
    /// `requests: 5, window: 1m`: never more than so many in any such span (sliding window).
    Sliding {
        /// How many.
        requests: Limit,
        /// The span.
        window: Duration,
    },
    /// `concurrent: 64`: so many in flight.
    Concurrent {
        /// How many.
        concurrent: Limit,
    },
}

impl AppliesTo {
    pub(super) fn read(head: &Head<'_>, map: &mut Map<'_>) -> Outcome<Self> {
        let read = map.optional("applies_to", |item| {
            let mut map = item.map()?;
            for key in ["plans", "tenants"] {
                head.platform_only(&mut map, key, "a tenant's own policy is about that tenant alone");
            }
            let plans = map.optional("plans", |item| value::some_set(item, "plan", value::name));
            let tenants = map.optional("tenants", |item| value::some_set(item, "tenant", value::name));
            let routes = map.optional("routes", |item| value::some_set(item, "route", value::name));
            map.finish();
            Ok(Self { plans: plans?, tenants: tenants?, routes: routes? })
        });
        Ok(read?.unwrap_or_default())
    }
}

impl QuotaPolicy {
    pub(super) fn read(head: &Head<'_>, map: &mut Map<'_>) -> Outcome<Self> {
        let applies_to = AppliesTo::read(head, map);
        let limits = map.some("limits", named("limit", "name", LimitRule::read));
        let enforce = Enforce::read_of(head, map);
        Ok(Self { applies_to: applies_to?, limits: limits?, enforce: enforce? })
    }
}

impl LimitRule {
    fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let name = map.required("name", spanned(value::name));
        let pers = [("tenant", Per::Tenant), ("user", Per::User), ("api_key", Per::ApiKey), ("client_address", Per::ClientAddress)];
        let per = map.required("per", |item| value::word(item, &pers));
        let counted = Counted::read(&mut map);
        map.finish();
        Ok(Self { name: name?, per: per?, counted: counted? })
    }
}

impl Counted {
    /// Exactly one of `rate` (with `burst`), `requests` (with `window`) and `concurrent`.
    fn read(map: &mut Map<'_>) -> Outcome<Self> {
        let rate = map.optional("rate", value::rate);
        let burst = map.optional("burst", value::whole(1..=u32::MAX));
        let requests = map.optional("requests", value::limit);
        let window = map.optional("window", window);
        let concurrent = map.optional("concurrent", value::limit);
        let (rate, burst, requests, window, concurrent) = (rate?, burst?, requests?, window?, concurrent?);
        let item = map.item();
        let missing = |key: &str, because: &str| Err(item.refuse_absent(key, wrong(format!("`{key}` is missing")).hint(because)));
        match (rate, requests, concurrent) {
            (Some(rate), None, None) if window.is_none() => Ok(Counted::Rate { rate, burst: burst.unwrap_or(rate.count.get()) }),
            (None, Some(requests), None) if burst.is_none() => match window {
                Some(window) => Ok(Counted::Sliding { requests, window }),
                None => missing("window", "`requests` are counted in a window, for example `window: 1m`"),
            },
            (None, None, Some(concurrent)) if burst.is_none() && window.is_none() => Ok(Counted::Concurrent { concurrent }),
            (None, None, None) if window.is_some() => missing("requests", "a window counts requests, for example `requests: 5`"),
            (None, None, None) if burst.is_some() => missing("rate", "a burst belongs to a rate, for example `rate: 200/s`"),
            _ => {
                let expected = "exactly one of `rate` (with `burst`), `requests` with `window`, and `concurrent`";
                Err(item.refuse(wrong(format!("{} does not say what it counts", item.label())).expected(expected)))
            }
        }
    }
}

fn window(item: &Item<'_>) -> Outcome<Duration> {
    match value::duration(item)? {
        short if short < Duration::from_secs(1) => Err(item.refuse(wrong("`window` is shorter than a second").expected("at least `1s`"))),
        window => Ok(window),
    }
}

impl AppliesTo {
    pub(super) fn schema() -> Schema {
        let some = |description: &str| schema::some(schema::names(description));
        let fields = vec![
            optional("plans", some("Tenants on these plans; platform-wide only.")),
            optional("tenants", some("These tenants; platform-wide only.")),
            optional("routes", some("These routes.")),
        ];
        schema::object("Which requests it is about; what is left out means all.", fields)
    }

    /// What a tenant's policy may not say: it is about that tenant alone.
    pub(super) fn without_scope() -> Schema {
        schema::without(&["plans", "tenants"])
    }
}

impl QuotaPolicy {
    pub(super) fn schema() -> schema::Parts {
        let fields = vec![
            optional("enforce", Enforce::schema()),
            optional("applies_to", AppliesTo::schema()),
            required("limits", schema::some(schema::list("Its limits; a request must pass them all.", LimitRule::schema()))),
        ];
        let more = schema::by_scope(
            Some(json!({ "properties": { "applies_to": AppliesTo::without_scope(), "enforce": Enforce::schema_of_tenant() } })),
            None,
        );
        ("How much of the service a tenant, a user, a key or an address may take. All policies that match stack.", fields, more)
    }
}

impl LimitRule {
    fn schema() -> Schema {
        let burst = schema::whole("How many may come at once; left out: as many as the rate's number.", &(1..=u32::MAX));
        let pers = ["tenant", "user", "api_key", "client_address"];
        let fields = vec![
            required("name", schema::name("Its name; what is left of it survives edits under this name.")),
            required("per", schema::word("What has a budget of its own.", &pers)),
            optional("rate", schema::text("A steady rate.", "^0*[1-9][0-9]*/[smhd]$", &["200/s", "1000/h"])),
            optional("burst", burst),
            optional("requests", schema::limit("How many in any `window`; 0: none.")),
            optional("window", schema::some_duration("The span that slides; at least 1s.")),
            optional("concurrent", schema::limit("How many in flight at once; 0: none.")),
        ];
        let way = |needed: &[&str], forbidden: &[&str]| schema::with(schema::without(forbidden), "required", json!(needed));
        let ways = json!([
            way(&["rate"], &["requests", "window", "concurrent"]),
            way(&["requests", "window"], &["rate", "burst", "concurrent"]),
            way(&["concurrent"], &["rate", "burst", "requests", "window"]),
        ]);
        let description = "One limit: `rate` with `burst`, `requests` with `window`, or `concurrent`.";
        schema::with(schema::object(description, fields), "oneOf", ways)
    }
}
