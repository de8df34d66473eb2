//! Kinds `Tenant` and `Plan`.

use super::Enforce;
use super::read::Head;
use super::reader::{Item, Map, Outcome, spanned, wrong};
use super::schema::{self, Field, Schema, optional, required};
use super::value;
use crate::diagnostic::Spanned;
use crate::name::{Feature, Host, PlanName, TenantId};
use serde_json::json;

/// Where a tenant is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TenantState {
    /// Served.
    #[default]
    Active,
    /// Every request is refused with its own problem.
    Suspended,
    /// Being taken down: refused like `suspended`.
    Offboarding,
}

/// A customer of the service.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    /// Its id.
    pub tenant_id: Spanned<TenantId>,
    /// Its name for people.
    pub name: String,
    /// Where welcome and notices go.
    pub email: String,
    /// Requests in a clock hour (UTC); absent: the plan's.
    pub api_quota_per_hour: Option<Spanned<u32>>,
    /// Storage in units of 10^9 bytes; absent: the plan's.
    pub storage_quota_gb: Option<Spanned<f64>>,
    /// Added to the plan's.
    pub features: Vec<Spanned<Feature>>,
    /// Absent: the default plan.
    pub plan: Option<Spanned<PlanName>>,
    /// Host names that name this tenant.
    pub hosts: Vec<Spanned<Host>>,
    /// BCP 47 language tag.
    pub locale: Option<String>,
    /// IANA time zone.
    pub time_zone: Option<String>,
    /// Where it is in its life.
    pub state: TenantState,
    /// Whether its requests are refused.
    pub enforce: Enforce,
}

/// Defaults that tenants share.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Its name.
    pub name: PlanName,
    /// For tenants that name no plan.
    pub default: bool,
    /// Requests in a clock hour (UTC); absent: no such limit.
    pub api_quota_per_hour: Option<Spanned<u32>>,
    /// Storage in units of 10^9 bytes; absent: no such limit.
    pub storage_quota_gb: Option<Spanned<f64>>,
    /// What its tenants have.
    pub features: Vec<Spanned<Feature>>,
    /// Whether its tenants are refused what takes a feature, and what is beyond their hourly quota.
    pub enforce: Enforce,
}

/// Largest storage quota, in units of 10^9 bytes: an exabyte.
const STORAGE_GB_MAX: f64 = 1e9;

impl Tenant {
    pub(super) fn read(_: &Head<'_>, map: &mut Map<'_>) -> Outcome<Self> {
        let tenant_id = map.required("tenant_id", spanned(value::name));
        let name = map.required("name", value::line(200));
        let email = map.required("email", email);
        let (api_quota_per_hour, storage_quota_gb, features) = quotas(map);
        let plan = map.optional("plan", spanned(value::name));
        let hosts = map.optional("hosts", |item| value::set(item, "host", value::host));
        let locale = map.optional("locale", locale);
        let time_zone = map.optional("time_zone", value::zone);
        let states = [("active", TenantState::Active), ("suspended", TenantState::Suspended), ("offboarding", TenantState::Offboarding)];
        let state = map.optional("state", |item| value::word(item, &states));
        let enforce = Enforce::read(map);
        Ok(Self {
            tenant_id: tenant_id?,
            name: name?,
            email: email?,
            api_quota_per_hour: api_quota_per_hour?,
            storage_quota_gb: storage_quota_gb?,
            features: features?,
            plan: plan?,
            hosts: hosts?.unwrap_or_default(),
            locale: locale?,
            time_zone: time_zone?.and_then(|zone| zone.iana_name().map(str::to_owned)),
            state: state?.unwrap_or_default(),
            enforce: enforce?,
        })
    }
}

impl Plan {
    pub(super) fn read(head: &Head<'_>, map: &mut Map<'_>) -> Outcome<Self> {
        let default = map.optional("default", value::truth);
        let (api_quota_per_hour, storage_quota_gb, features) = quotas(map);
        let enforce = Enforce::read(map);
        Ok(Self {
            name: head.name()?,
            default: default?.unwrap_or_default(),
            api_quota_per_hour: api_quota_per_hour?,
            storage_quota_gb: storage_quota_gb?,
            features: features?,
            enforce: enforce?,
        })
    }
}

type Quotas = (Outcome<Option<Spanned<u32>>>, Outcome<Option<Spanned<f64>>>, Outcome<Vec<Spanned<Feature>>>);

/// What a tenant takes from its plan where it says nothing itself.
fn quotas(map: &mut Map<'_>) -> Quotas {
    (
        map.optional("api_quota_per_hour", spanned(value::whole(0..=u32::MAX))),
        map.optional("storage_quota_gb", spanned(storage)),
        map.optional("features", value::names).map(Option::unwrap_or_default),
    )
}

fn storage(item: &Item<'_>) -> Outcome<f64> {
    match value::number_from_zero(item)? {
        number if number <= STORAGE_GB_MAX => Ok(number),
        _ => Err(item.refuse(wrong(format!("{} is more than can be meant", item.label())).expected("at most 1000000000 (an exabyte)"))),
    }
}

/// An address that mail servers agree on: RFC 5321 without quoted local parts, comments and address literals.
fn email(item: &Item<'_>) -> Outcome<String> {
    let text = value::string(item)?;
    let atext = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let local_good = |local: &str| local.len() <= 64 && local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(atext));
    let good = text.len() <= 254
        && text.rsplit_once('@').is_some_and(|(local, domain)| {
            local_good(local) && !domain.ends_with('.') && !domain.contains('_') && domain.parse::<Host>().is_ok()
        });
    if good {
        return Ok(text.to_string());
    }
    let complaint = wrong(format!("{} is no e-mail address", item.label())).expected("an address such as `admin@example.com`");
    Err(item.refuse(complaint.hint(if text.contains('@') { "one name, `@`, and a DNS name" } else { "the `@` is missing" })))
}

fn locale(item: &Item<'_>) -> Outcome<String> {
    let text = value::string(item)?;
    if is_language_tag(text) {
        return Ok(text.to_string());
    }
    let complaint = wrong(format!("{} is no language tag", item.label())).expected("a BCP 47 tag such as `en` or `de-AT`");
    let dashed = text.replace('_', "-");
    Err(item.refuse(if is_language_tag(&dashed) { complaint.hint(format!("write `{dashed}`")) } else { complaint }))
}

/// A language tag (RFC 5646) by its shape: `en`, `de-AT`, `zh-Hant-TW`.
fn is_language_tag(text: &str) -> bool {
    let mut subtags = text.split('-');
    let language = subtags.next().unwrap_or_default();
    text.len() <= 35
        && (2..=3).contains(&language.len())
        && language.chars().all(|c| c.is_ascii_alphabetic())
        && subtags.all(|subtag| (1..=8).contains(&subtag.len()) && subtag.chars().all(|c| c.is_ascii_alphanumeric()))
}

impl Tenant {
    pub(super) fn schema() -> schema::Parts {
        let mut fields = vec![
            required("tenant_id", schema::name("Its id; never changes.")),
            required("name", schema::line("Its name for people.", 200)),
            required("email", email_schema()),
        ];
        fields.extend(quota_fields("left out: its plan's"));
        let hosts = "Host names that name this tenant; each belongs to one tenant only.";
        let state = "Where it is in its life; only an active tenant is served.";
        fields.extend([
            optional("plan", schema::name("Its plan; left out: the default plan.")),
            optional("hosts", schema::set_of(hosts, schema::host("A DNS name."))),
            optional("locale", locale_schema()),
            optional("time_zone", schema::text("IANA time zone.", "^[A-Za-z0-9_+/-]+$", &["Europe/Vienna", "UTC"])),
            optional("state", schema::word(state, &["active", "suspended", "offboarding"])),
            optional("enforce", Enforce::schema()),
        ]);
        ("A customer of the service.", fields, Vec::new())
    }
}

impl Plan {
    pub(super) fn schema() -> schema::Parts {
        let mut fields = vec![optional("default", schema::truth("Whether it is the plan of tenants that name none."))];
        fields.extend(quota_fields("left out: no such limit"));
        fields.push(optional("enforce", Enforce::schema()));
        ("Defaults that tenants share.", fields, Vec::new())
    }
}

fn quota_fields(absent: &str) -> Vec<Field> {
    let storage = json!({
        "type": "number", "minimum": 0, "maximum": STORAGE_GB_MAX,
        "description": format!("Storage in units of 10^9 bytes; {absent}."),
    });
    vec![
        optional("api_quota_per_hour", schema::whole(&format!("Requests in a clock hour (UTC); 0: none; {absent}."), &(0..=u32::MAX))),
        optional("storage_quota_gb", storage),
        optional("features", schema::names("Features, which routes may demand; those of plan and tenant unite.")),
    ]
}

fn email_schema() -> Schema {
    let atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+";
    let label = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
    let pattern = format!(r"^(?=[^@]{{1,64}}@){atom}(\.{atom})*@(?!(.*\.)?[0-9]+$)({label}\.)*{label}$");
    let schema = schema::text("Where welcome and notices go.", &pattern, &["admin@example.com"]);
    schema::with(schema, "maxLength", json!(254))
}

fn locale_schema() -> Schema {
    let schema = schema::text("Language tag (BCP 47).", "^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$", &["en", "de-AT"]);
    schema::with(schema, "maxLength", json!(35))
}
