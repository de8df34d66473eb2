//! Kind `Identity`: who may prove to be whom.

use super::Enforce;
use super::introspection::Introspection;
use super::jwks::Jwks;
use super::read::{Head, Scope};
use super::reader::{Item, Map, Outcome, named, spanned, wrong};
use super::revoked::Revoked;
use super::schema::{self, Schema, optional, required};
use super::value;
use crate::diagnostic::Spanned;
use crate::name::KeyId;
use crate::spiffe::{NotASpiffeId, SpiffePattern};
use crate::unit::UnixSeconds;
use serde_json::json;
use std::fmt;

/// Token issuers, API keys and workloads, of the platform or of one tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// Issuers of tokens.
    pub jwt: Vec<JwtIssuer>,
    /// Header that carries API keys; platform-wide only. Lower case.
    pub api_key_header: Option<Spanned<String>>,
    /// API keys; only within a tenant.
    pub api_keys: Vec<ApiKey>,
    /// Workloads, known by their certificates; only within a tenant.
    pub spiffe: Vec<Workload>,
    /// Who is asked about other tokens.
    pub introspection: Option<Introspection>,
    /// What proves nobody any more.
    pub revoked: Revoked,
    /// Whether a missing or bad credential is refused.
    pub enforce: Enforce,
}

/// Signature algorithms of tokens (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
}

/// One issuer of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct JwtIssuer {
    /// `iss`, compared byte by byte.
    pub issuer: Spanned<String>,
    /// One of them must be in `aud`.
    pub audiences: Vec<String>,
    /// What its tokens may be signed with (RFC 8725 section 3.1).
    pub algorithms: Vec<Algorithm>,
    /// Its keys.
    pub jwks: Spanned<Jwks>,
    /// Claim that names the tenant: required platform-wide, forbidden within a tenant.
    pub tenant_claim: Option<Spanned<String>>,
    /// Accepted difference of clocks in seconds.
    pub leeway_seconds: u32,
    /// Passes `Authorization` on to the upstream.
    pub forward: bool,
}

/// One API key, known by its hash.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    /// Its id.
    pub id: Spanned<KeyId>,
    /// SHA-256 of the key's whole text.
    pub sha256: [u8; 32],
    /// It is refused from then on.
    pub expires: Option<UnixSeconds>,
}

/// Who shows a certificate with one of these SPIFFE ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Which ids.
    pub id: Spanned<SpiffePattern>,
    /// As whom it comes; absent: its id.
    pub user: Option<String>,
}

impl Algorithm {
    /// Every algorithm, by the name tokens carry.
    pub const ALL: [(&'static str, Algorithm); 4] =
        [("EdDSA", Algorithm::EdDsa), ("ES256", Algorithm::Es256), ("RS256", Algorithm::Rs256), ("PS256", Algorithm::Ps256)];
}

/// The name tokens carry (`alg`).
impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, algorithm)| algorithm == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl JwtIssuer {
    /// Where `leeway` is absent.
    pub const LEEWAY_SECONDS: u32 = 30;
    /// More than this between two clocks is no difference of clocks.
    pub const LEEWAY_SECONDS_MAX: u32 = 300;
}

impl Identity {
    pub(super) fn read(head: &Head<'_>, map: &mut Map<'_>) -> Outcome<Self> {
        let jwt = map.list("jwt", named("issuer", "issuer", |item| JwtIssuer::read(item, head.scope)));
        head.platform_only(map, "api_key_header", "one header carries the keys of all tenants");
        let api_key_header = map.optional("api_key_header", spanned(key_header));
        if head.scope == Scope::Platform {
            let complaint = wrong("`api_keys` stands only in a tenant's documents").hint("add `tenant:`; a key belongs to one tenant");
            map.forbidden("api_keys", complaint);
        }
        let api_keys = map.list("api_keys", named("key", "id", ApiKey::read));
        if head.scope == Scope::Platform {
            let complaint = wrong("`spiffe` stands only in a tenant's documents");
            map.forbidden(
                "spiffe",
                complaint.hint("add `tenant:`; a certificate says nothing of tenants, so a tenant names its workloads"),
            );
        }
        let spiffe = map.list("spiffe", named("workload", "id", Workload::read));
        let introspection = map.optional("introspection", |item| Introspection::read(item, head.scope));
        let revoked = map.optional("revoked", |item| Revoked::read(head, item));
        let enforce = Enforce::read_of(head, map);
        let (jwt, api_key_header, api_keys, spiffe) = (jwt?, api_key_header?, api_keys?, spiffe?);
        let (introspection, revoked, enforce) = (introspection?, revoked?.unwrap_or_default(), enforce?);
        let identity = Self { jwt, api_key_header, api_keys, spiffe, introspection, revoked, enforce };
        if identity.is_empty() {
            let fields = "`jwt`, `api_keys`, `spiffe`, `introspection`, `revoked` or `api_key_header`";
            let complaint = wrong("it declares nothing").expected(fields);
            return Err(map.item().refuse_absent("jwt", complaint));
        }
        Ok(identity)
    }

    fn is_empty(&self) -> bool {
        let Self { jwt, api_key_header, api_keys, spiffe, introspection, revoked, enforce: _ } = self;
        let has_list = !jwt.is_empty() || !api_keys.is_empty() || !spiffe.is_empty();
        !has_list && api_key_header.is_none() && introspection.is_none() && revoked.is_empty()
    }
}

impl JwtIssuer {
    fn read(item: &Item<'_>, scope: Scope) -> Outcome<Self> {
        let mut map = item.map()?;
        let issuer = map.required("issuer", spanned(value::line(512)));
        let audiences = map.required("audiences", |item| value::some_set(item, "audience", value::line(512)));
        let algorithms = map.required("algorithms", |item| value::some_set(item, "algorithm", algorithm));
        let jwks = map.required("jwks", spanned(|item| Jwks::read(item, scope)));
        let tenant_claim = match scope {
            Scope::Platform => map.required("tenant_claim", spanned(value::line(200))).map(Some),
            Scope::Tenant => {
                let complaint = wrong("`tenant_claim` stands only in platform-wide documents");
                map.forbidden("tenant_claim", complaint.hint("remove it: an issuer of a tenant proves that tenant and no other"));
                Ok(None)
            }
        };
        let leeway = map.optional("leeway", leeway);
        let forward = map.optional("forward", value::truth);
        map.finish();
        Ok(Self {
            issuer: issuer?,
            audiences: value::bare(audiences?),
            algorithms: value::bare(algorithms?),
            jwks: jwks?,
            tenant_claim: tenant_claim?,
            leeway_seconds: leeway?.unwrap_or(Self::LEEWAY_SECONDS),
            forward: forward?.unwrap_or_default(),
        })
    }
}

fn algorithm(item: &Item<'_>) -> Outcome<Algorithm> {
    let text = value::string(item)?;
    if let Some((_, algorithm)) = Algorithm::ALL.iter().find(|(name, _)| *name == &**text) {
        return Ok(*algorithm);
    }
    let names = Algorithm::ALL.map(|(name, _)| name);
    let complaint = wrong(format!("{} is no algorithm that tokens may use", item.label())).expected(names.join(", "));
    let same = names.iter().find(|name| name.eq_ignore_ascii_case(text));
    Err(item.refuse(match same {
        Some(name) => complaint.hint(format!("write `{name}`")),
        None if text.starts_with("HS") => complaint.hint("a shared secret would let every holder make tokens; use a key pair"),
        None if text.eq_ignore_ascii_case("none") => complaint.hint("a token without signature proves nothing"),
        None => complaint.nearest(text, names),
    }))
}

fn leeway(item: &Item<'_>) -> Outcome<u32> {
    let written = value::duration(item)?;
    let most = JwtIssuer::LEEWAY_SECONDS_MAX;
    match u32::try_from(written.as_secs()) {
        Ok(seconds) if seconds <= most && written.subsec_nanos() == 0 => Ok(seconds),
        _ => Err(item.refuse(wrong("`leeway` is no difference of clocks").expected(format!("whole seconds, at most {most}s")))),
    }
}

/// Header names that mean something to somebody between client and upstream; so does what begins with `x-forwarded-`.
const TAKEN: [&str; 22] = [
    "accept",
    "authorization",
    "baggage",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "origin",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// The header that carries API keys: one that means nothing else to anybody between client and upstream.
fn key_header(item: &Item<'_>) -> Outcome<String> {
    let name = value::header(item)?;
    if TAKEN.contains(&name.as_str()) || name.starts_with("x-forwarded-") {
        let complaint = wrong(format!("header `{name}` has another meaning"));
        return Err(item.refuse(complaint.expected("a header of its own").hint("write `x-api-key`")));
    }
    Ok(name)
}

impl ApiKey {
    fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let id = map.required("id", spanned(value::name));
        let sha256 = map.required("sha256", sha256);
        let expires = map.optional("expires", value::moment);
        map.finish();
        Ok(Self { id: id?, sha256: sha256?, expires: expires? })
    }
}

impl Workload {
    fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let id = map.required("id", spanned(spiffe_pattern));
        let user = map.optional("user", value::line(255));
        map.finish();
        Ok(Self { id: id?, user: user? })
    }
}

fn spiffe_pattern(item: &Item<'_>) -> Outcome<SpiffePattern> {
    let text = value::string(item)?;
    text.parse().map_err(|why: NotASpiffeId| {
        let complaint = wrong(format!("{} is no SPIFFE id: {why}", item.label()));
        let complaint = complaint.expected("`spiffe://trust-domain/path`, or `spiffe://trust-domain/path/*`");
        let starred = format!("{}/*", text.trim_end_matches(['*', '/']));
        item.refuse(match starred.parse::<SpiffePattern>() {
            Ok(meant) => complaint.hint(format!("write `{meant}` for all below it")),
            Err(_) => complaint,
        })
    })
}

/// 64 hexadecimal digits.
fn sha256(item: &Item<'_>) -> Outcome<[u8; 32]> {
    let complaint = || wrong(format!("{} is no SHA-256", item.label())).expected("64 hexadecimal digits");
    // Sixty-four decimal digits read as a number: as rare as it is confusing.
    let text = value::string(item)?;
    if text.starts_with("bk1.") {
        return Err(
            item.refuse(complaint().hint("write the key's hash, never the key; `bulkhead api-key new` prints both; make a new key"))
        );
    }
    let mut digest = [0; 32];
    let mut digits = text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
    for byte in &mut digest {
        let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else { return Err(item.refuse(complaint())) };
        *byte = high << 4 | low;
    }
    match digits.next() {
        None => Ok(digest),
        Some(_) => Err(item.refuse(complaint())),
    }
}

impl Identity {
    pub(super) fn schema() -> schema::Parts {
        let header = schema::header("Header that carries API keys; platform-wide only.");
        let header = schema::with(
            header,
            "not",
            json!({ "pattern": format!("^(({})$|{})", schema::any_case(&TAKEN), schema::any_case(&["x-forwarded-"])) }),
        );
        let fields = vec![
            optional("jwt", schema::list("Issuers of tokens.", JwtIssuer::schema())),
            optional("api_key_header", header),
            optional("api_keys", schema::list("API keys of the tenant.", ApiKey::schema())),
            optional("spiffe", schema::list("Workloads of the tenant, known by their certificates.", Workload::schema())),
            optional("introspection", Introspection::schema()),
            optional("revoked", Revoked::schema()),
            optional("enforce", Enforce::schema()),
        ];
        let filled = |key: &str| json!({ "required": [key], "properties": { key: { "minItems": 1 } } });
        let tenants = json!({ "properties": { "tenant_claim": false, "jwks": Jwks::schema_of_tenant() } });
        let mut more = schema::by_scope(
            Some(json!({ "properties": {
                "api_key_header": false,
                "enforce": Enforce::schema_of_tenant(),
                "introspection": schema::without(&["tenant_claim"]),
                "jwt": { "items": tenants },
            } })),
            Some(json!({ "properties": {
                "api_keys": false,
                "spiffe": false,
                "revoked": Revoked::schema_of_platform(),
                "introspection": { "required": ["tenant_claim"] },
                "jwt": { "items": { "required": ["tenant_claim"] } },
            } })),
        );
        let (header, asked) = (json!({ "required": ["api_key_header"] }), json!({ "required": ["introspection"] }));
        more.push(("anyOf", json!([filled("jwt"), filled("api_keys"), filled("spiffe"), Revoked::schema_of_some(), asked, header])));
        ("Who may prove to be whom: issuers of tokens, API keys, workloads.", fields, more)
    }
}

impl JwtIssuer {
    fn schema() -> Schema {
        let algorithm = json!({ "enum": Algorithm::ALL.map(|(name, _)| name) });
        let audiences = schema::set_of("One of them must be in `aud`.", schema::line("An audience.", 512));
        let claim = "Claim that names the tenant; required platform-wide, forbidden within a tenant.";
        let fields = vec![
            required("issuer", schema::line("`iss` of its tokens.", 512)),
            required("audiences", schema::some(audiences)),
            required("algorithms", schema::some(schema::set_of("What its tokens may be signed with.", algorithm))),
            required("jwks", Jwks::schema()),
            optional("tenant_claim", schema::line(claim, 200)),
            optional("leeway", schema::text("Accepted difference of clocks, at most 300s; left out: 30s.", "^[0-9]+(ms|s|m)$", &["30s"])),
            optional("forward", schema::truth("Whether `Authorization` is passed on to the upstream.")),
        ];
        schema::object("An issuer of tokens.", fields)
    }
}

impl Workload {
    fn schema() -> Schema {
        let segment = r"(?!\.{1,2}(/|$))[A-Za-z0-9._-]+";
        let pattern = format!(r"^spiffe://[a-z0-9._-]+(/{segment})*/({segment}|\*)$");
        let id = "SPIFFE id in its certificate (URI SAN); a final `*` stands for everything below.";
        let id = schema::text(id, &pattern, &["spiffe://acme.example/ns/prod/sa/web", "spiffe://acme.example/ns/prod/*"]);
        let id = schema::with(id, "maxLength", json!(255));
        let fields = vec![required("id", id), optional("user", schema::line("As whom it comes; left out: its id.", 255))];
        schema::object("Who shows a certificate with this SPIFFE id.", fields)
    }
}

impl ApiKey {
    fn schema() -> Schema {
        let sha256 = "SHA-256 of the key's whole text in hexadecimal; `bulkhead api-key new` prints it.";
        let fields = vec![
            required("id", schema::name("Its id, unique within the tenant.")),
            required("sha256", json!({ "type": "string", "description": sha256, "pattern": "^[0-9A-Fa-f]{64}$" })),
            optional("expires", schema::text("It is refused from then on (RFC 3339).", schema::MOMENT, &["2027-06-30T00:00:00Z"])),
        ];
        schema::object("An API key, known by its hash.", fields)
    }
}
