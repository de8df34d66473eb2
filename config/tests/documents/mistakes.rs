//! One mistake per row: where it is found, what is said of it, and whether the schema of the kind sees it too.

mod services;

use crate::support::{schema_accepts, trees};
use bulkhead_config::declared::read_file;

/// Whether a mistake can be said in JSON Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Schema {
    Sees,
    /// What it would have to know, JSON Schema cannot say, or not in a pattern that anybody could check.
    Blind,
}
use Schema::{Blind, Sees};
use services::{SERVICE, SERVICES};

/// A document, the place of its mistake, and a part of what is said.
type Row = (&'static str, (u32, u32), &'static str, Schema);

#[test]
fn every_mistake_is_told_with_its_place_and_its_remedy() {
    let tables = [TENANTS, PLANS, IDENTITIES, ROLES, BINDINGS, QUOTAS, SECURITY, CACHES];
    let rows = tables.into_iter().flatten().map(|(text, place, says, schema)| ((*text).to_owned(), place, says, Some(*schema)));
    let services = SERVICES.iter().map(|(good, bad, place, says, schema)| (SERVICE.replacen(good, bad, 1), place, says, Some(*schema)));
    let kinds = KINDS.iter().map(|(text, place, says)| ((*text).to_owned(), place, says, None));
    let wrong: Vec<String> =
        rows.chain(services).chain(kinds).filter_map(|(text, place, says, schema)| try_row(&text, *place, says, schema)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is not as the row says.
fn try_row(text: &str, place: (u32, u32), says: &str, schema: Option<Schema>) -> Option<String> {
    let file = read_file("row.yaml", text);
    let [one] = file.diagnostics.iter().collect::<Vec<_>>()[..] else { return Some(format!("{text}{}", file.diagnostics)) };
    let at = (one.span.line, one.span.column);
    if at != place || one.hint.is_none() || !one.to_string().contains(says) || !file.documents.is_empty() {
        return Some(format!("{text}{one}\nmeant: {place:?} {says}"));
    }
    let meant = schema?;
    let sees = if trees("row.yaml", text).iter().all(schema_accepts) { Blind } else { Sees };
    (sees != meant).then(|| format!("{text}{one}\nschema: meant {meant:?}, is {sees:?}"))
}

const TENANTS: &[Row] = &[
    ("tenant_id: a\nname: A\nemail: a@b.c\nhost: a.b\n", (4, 1), "did you mean `hosts`?", Sees),
    ("tenant_id: a\nemail: a@b.c\n", (1, 1), "`name` is missing", Sees),
    ("tenant_id: a\nnmae: A\nemail: a@b.c\n", (2, 1), "did you mean `name`?", Sees),
    ("tenant_id: A\nname: A\nemail: a@b.c\n", (1, 12), "write `a`", Sees),
    ("tenant_id: 5\nname: A\nemail: a@b.c\n", (1, 12), "put it in quotes", Sees),
    ("tenant_id: a\ntenant: b\nname: A\nemail: a@b.c\n", (2, 9), "a Tenant belongs to no tenant", Sees),
    ("tenant_id: a\nname: ' '\nemail: a@b.c\n", (2, 7), "`name` is empty", Sees),
    ("tenant_id: a\nname: \"A\\tB\"\nemail: a@b.c\n", (2, 7), "control characters", Sees),
    ("tenant_id: a\nname: A\nemail: a.b.c\n", (3, 8), "`email` is no e-mail address", Sees),
    ("tenant_id: a\nname: A\nemail: a..b@c\n", (3, 8), "`email` is no e-mail address", Sees),
    ("tenant_id: a\nname: A\nemail: \"a@b.c\\nBcc: d@e.f\"\n", (3, 8), "`email` is no e-mail address", Sees),
    ("tenant_id: a\nname: A\nemail: a@127.0.0.1\n", (3, 8), "`email` is no e-mail address", Sees),
    ("tenant_id: a\nname: A\nemail: a@b.c\napi_quota_per_hour: -1\n", (4, 21), "out of range", Sees),
    ("tenant_id: a\nname: A\nemail: a@b.c\napi_quota_per_hour: 4294967296\n", (4, 21), "from 0 to 4294967295", Sees),
    ("tenant_id: a\nname: A\nemail: a@b.c\napi_quota_per_hour: 1.5\n", (4, 21), "no whole number", Sees),
    ("tenant_id: a\nname: A\nemail: a@b.c\napi_quota_per_hour: 5000.0\n", (4, 21), "write `5000`", Blind),
    ("tenant_id: a\nname: A\nemail: a@b.c\napi_quota_per_hour: '5'\n", (4, 21), "remove the quotes", Sees),
    ("tenant_id: a\nname: A\nemail: a@b.c\nstorage_quota_gb: -0.1\n", (4, 19), "a number from 0 up", Sees),
    ("tenant_id: a\nname: A\nemail: a@b.c\nstorage_quota_gb: 1e10\n", (4, 19), "an exabyte", Sees),
    ("tenant_id: a\nname: A\nemail: a@b.c\nstorage_quota_gb: .nan\n", (4, 19), "a finite number", Sees),
    ("tenant_id: a\nname: A\nemail: a@b.c\nfeatures: x\n", (4, 11), "write `[\"x\"]`", Sees),
    ("tenant_id: a\nname: A\nemail: a@b.c\nfeatures: [x, y, x]\n", (4, 18), "stands twice, first on line 4", Sees),
    ("tenant_id: a\nname: A\nemail: a@b.c\nhosts: [https://a.b/c]\n", (4, 9), "write `a.b`", Sees),
    ("tenant_id: a\nname: A\nemail: a@b.c\nhosts: [10.0.0.1]\n", (4, 9), "no host name", Sees),
    ("tenant_id: a\nname: A\nemail: a@b.c\nhosts: [a.b, A.B.]\n", (4, 14), "host `a.b` stands twice", Blind),
    ("tenant_id: a\nname: A\nemail: a@b.c\nlocale: de_AT\n", (4, 9), "write `de-AT`", Sees),
    ("tenant_id: a\nname: A\nemail: a@b.c\ntime_zone: Europe/Viena\n", (4, 12), "did you mean `Europe/Vienna`?", Blind),
    ("tenant_id: a\nname: A\nemail: a@b.c\nstate: suspend\n", (4, 8), "did you mean `suspended`?", Sees),
    ("tenant_id: a\nname: A\nemail: a@b.c\nplan:\n", (4, 1), "found nothing", Sees),
];

const PLANS: &[Row] = &[
    ("kind: Plan\nname: p\ntenant: a\n", (3, 9), "a Plan belongs to no tenant", Sees),
    ("kind: Plan\n", (1, 1), "`name` is missing", Sees),
    ("kind: Plan\nname: p\ndefault: yes\n", (3, 10), "write `true`", Sees),
    ("kind: Plan\nname: p\ndefault: null\n", (3, 10), "`true` or `false`", Sees),
];

const IDENTITIES: &[Row] = &[
    ("kind: Identity\nname: i\n", (1, 1), "it declares nothing", Sees),
    ("kind: Identity\nname: i\napi_key_header: Authorization\n", (3, 17), "has another meaning", Sees),
    ("kind: Identity\nname: i\napi_key_header: X-Bulkhead-Key\n", (3, 17), "Bulkhead's own", Sees),
    ("kind: Identity\nname: i\napi_key_header: x key\n", (3, 17), "no header name", Sees),
    ("kind: Identity\nname: i\ntenant: a\napi_key_header: x-api-key\n", (4, 17), "stands only in platform-wide documents", Sees),
    ("kind: Identity\nname: i\napi_keys: []\napi_key_header: x-api-key\n", (3, 11), "add `tenant:`", Sees),
    ("kind: Identity\nname: i\nrevoked: { api_keys: [k] }\n", (3, 22), "add `tenant:`", Sees),
    (
        "kind: Identity\nname: i\ntenant: a\nintrospection: { url: 'https://a/i', client_id: c, client_secret: hunter2, audiences: [x] }\n",
        (4, 67),
        "stands in the document",
        Sees,
    ),
    (
        "kind: Identity\nname: i\nintrospection: { url: 'https://a/i', client_id: c, client_secret: { file: s }, audiences: [x] }\n",
        (3, 16),
        "`tenant_claim` is missing",
        Sees,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\nintrospection: { url: 'https://a/i', client_id: c, client_secret: { file: ../s }, audiences: \
         [x] }\n",
        (4, 75),
        "leads out of the folder",
        Blind,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\nintrospection: { url: 'http://a/i', client_id: c, client_secret: { file: s }, audiences: [x] \
         }\n",
        (4, 23),
        "write `https://a/i`",
        Sees,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\nintrospection: { url: 'https://a/i', client_id: c, client_secret: { file: s }, audiences: \
         [x], remember: 1h }\n",
        (4, 106),
        "1s to 10m",
        Sees,
    ),
    ("kind: Identity\nname: i\nrevoked: {}\n", (1, 1), "it declares nothing", Sees),
    ("kind: Identity\nname: i\nrevoked: { tokens: [a, a] }\n", (3, 24), "stands twice", Sees),
    ("kind: Identity\nname: i\nrevoked: { users: mallory }\n", (3, 19), "write `[\"mallory\"]`", Sees),
    ("kind: Identity\nname: i\nrevoked: { issued_before: 2026-01-01 }\n", (3, 27), "write `2026-01-01T00:00:00Z`", Sees),
    ("kind: Identity\nname: i\napi_key_header: x-api-key\nrevoked: { subjects: [a] }\n", (4, 12), "fields here: tokens", Sees),
    ("kind: Identity\nname: i\nspiffe: []\napi_key_header: x-api-key\n", (3, 9), "add `tenant:`", Sees),
    ("kind: Identity\ntenant: a\nname: i\nspiffe: []\n", (1, 1), "it declares nothing", Sees),
    ("kind: Identity\ntenant: a\nname: i\nspiffe: [{ id: 'spiffe://a' }]\n", (4, 16), "write `spiffe://a/*`", Sees),
    ("kind: Identity\ntenant: a\nname: i\nspiffe: [{ id: 'spiffe://a/*/b' }]\n", (4, 16), "its path is none", Sees),
    ("kind: Identity\ntenant: a\nname: i\nspiffe: [{ id: 'https://a/b' }]\n", (4, 16), "does not begin with `spiffe://`", Sees),
    ("kind: Identity\ntenant: a\nname: i\nspiffe: [{ id: 'spiffe://A/b' }]\n", (4, 16), "its trust domain is none", Sees),
    ("kind: Identity\ntenant: a\nname: i\nspiffe: [{ id: 'spiffe://a/b', roles: [x] }]\n", (4, 32), "fields here: id, user", Sees),
    (
        "kind: Identity\nname: i\njwt: [{ issuer: a, audiences: [b], algorithms: [ES256], jwks: { file: f } }]\n",
        (3, 7),
        "`tenant_claim` is missing",
        Sees,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\njwt: [{ issuer: a, audiences: [b], algorithms: [ES256], jwks: { file: f }, tenant_claim: t \
         }]\n",
        (4, 90),
        "proves that tenant and no other",
        Sees,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\njwt: [{ issuer: a, audiences: [], algorithms: [ES256], jwks: { file: f } }]\n",
        (4, 31),
        "`audiences` is empty",
        Sees,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\njwt: [{ issuer: a, audiences: [b], algorithms: [HS256], jwks: { file: f } }]\n",
        (4, 49),
        "use a key pair",
        Sees,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\njwt: [{ issuer: a, audiences: [b], algorithms: [none], jwks: { file: f } }]\n",
        (4, 49),
        "proves nothing",
        Sees,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\njwt: [{ issuer: a, audiences: [b], algorithms: [eddsa], jwks: { file: f } }]\n",
        (4, 49),
        "write `EdDSA`",
        Sees,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\njwt: [{ issuer: a, audiences: [b], algorithms: [ES256], jwks: { url: 'http://a/b' } }]\n",
        (4, 70),
        "write `https://a/b`",
        Sees,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\njwt: [{ issuer: a, audiences: [b], algorithms: [ES256], jwks: { url: 'https://a/b', file: f \
         } }]\n",
        (4, 91),
        "two places for one key set",
        Sees,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\njwt: [{ issuer: a, audiences: [b], algorithms: [ES256], jwks: { url: 'https://a/b', refresh: \
         25h } }]\n",
        (4, 94),
        "1s to 24h",
        Blind,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\njwt: [{ issuer: a, audiences: [b], algorithms: [ES256], jwks: { url: 'https://me:pw@a/b' } \
         }]\n",
        (4, 70),
        "a name or password in it",
        Sees,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\njwt: [{ issuer: a, audiences: [b], algorithms: [ES256], jwks: { file: ../b/f } }]\n",
        (4, 71),
        "leads out of the folder",
        Sees,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\njwt: [{ issuer: a, audiences: [b], algorithms: [ES256], jwks: { file: /etc/passwd } }]\n",
        (4, 71),
        "leads out of the folder",
        Sees,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\njwt: [{ issuer: a, audiences: [b], algorithms: [ES256], jwks: { file: f/ } }]\n",
        (4, 71),
        "names a folder",
        Sees,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\njwt: [{ issuer: a, audiences: [b], algorithms: [ES256], jwks: { file: f }, leeway: 10m }]\n",
        (4, 84),
        "at most 300s",
        Blind,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\njwt:\n  - { issuer: a, audiences: [b], algorithms: [ES256], jwks: { file: f } }\n  - { \
         issuer: a, audiences: [c], algorithms: [ES256], jwks: { file: f } }\n",
        (6, 15),
        "issuer `a` stands twice, first on line 5",
        Blind,
    ),
    ("kind: Identity\nname: i\ntenant: a\napi_keys: [{ id: c, sha256: abc }]\n", (4, 29), "64 hexadecimal digits", Sees),
    ("kind: Identity\nname: i\ntenant: a\napi_keys: [{ id: c, sha256: bk1.a.c.secret }]\n", (4, 29), "found an API key", Sees),
    (
        "kind: Identity\nname: i\ntenant: a\napi_keys: [{ id: c, sha256: \
         fa9bc3008fcd6f9f5dd466df154af10cca50915402be3f9f0726815a562119a3, expires: 2027-06-30 }]\n",
        (4, 104),
        "write `2027-06-30T00:00:00Z`",
        Sees,
    ),
    (
        "kind: Identity\nname: i\ntenant: a\napi_keys: [{ id: c, sha256: \
         fa9bc3008fcd6f9f5dd466df154af10cca50915402be3f9f0726815a562119a3, expires: '2027-06-31T00:00:00Z' }]\n",
        (4, 104),
        "no moment in time",
        Blind,
    ),
];

const ROLES: &[Row] = &[
    ("kind: Role\nname: r\ntenant: a\ndelegable: true\n", (4, 12), "stands only in platform-wide documents", Sees),
    ("kind: Role\nname: r\ninherits: a\n", (3, 11), "a list", Sees),
    ("kind: Role\nname: r\nallow: [GET]\n", (3, 9), "write `GET /path`", Sees),
    ("kind: Role\nname: r\nallow: [/a]\n", (3, 9), "write `GET /a`", Sees),
    ("kind: Role\nname: r\nallow: [get /a]\n", (3, 9), "did you mean `GET`?", Sees),
    ("kind: Role\nname: r\nallow: [GTE /a]\n", (3, 9), "did you mean `GET`?", Blind),
    ("kind: Role\nname: r\nallow: ['GET, PUT /a']\n", (3, 9), "write `GET,PUT /a`", Sees),
    ("kind: Role\nname: r\nallow: ['GET  /a']\n", (3, 9), "write `GET /a`", Sees),
    ("kind: Role\nname: r\nallow: ['*,GET /a']\n", (3, 9), "already means every method", Sees),
    ("kind: Role\nname: r\nallow: ['GET,GET /a']\n", (3, 9), "method `GET` stands twice", Blind),
    ("kind: Role\nname: r\nallow: [GET /a/**/b]\n", (3, 9), "`**` stands alone and last", Blind),
    ("kind: Role\nname: r\nallow: [5]\n", (3, 9), "`METHODS /path`", Sees),
    ("kind: Role\nname: r\nallow: [{ methods: ['*', GET], paths: [/a] }]\n", (3, 20), "already means every method", Sees),
    ("kind: Role\nname: r\nallow: [{ methods: '*', paths: [/a] }]\n", (3, 20), "write `[\"*\"]`", Sees),
    ("kind: Role\nname: r\nallow: [{ methods: [GET], path: [/a] }]\n", (3, 27), "did you mean `paths`?", Sees),
    ("kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a, /a] }]\n", (3, 39), "path `/a` stands twice", Sees),
    ("kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: {} }]\n", (3, 46), "says nothing", Sees),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { condition: 'clams.mfa' } }]\n",
        (3, 60),
        "did you mean `claims`?",
        Blind,
    ),
    ("kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { condition: 5 } }]\n", (3, 59), "is no string", Sees),
    ("kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { condition: '' } }]\n", (3, 59), "should", Sees),
    ("kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { headers: {} } }]\n", (3, 57), "names 0 headers", Sees),
    ("kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { headers: [x-env] } }]\n", (3, 57), "is no mapping", Sees),
    ("kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { headers: { X-Env: prod } } }]\n", (3, 66), "write `x-env`", Sees),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { headers: { 'x env': prod } } }]\n",
        (3, 68),
        "is no header name",
        Sees,
    ),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { headers: { authorization: x } } }]\n",
        (3, 74),
        "carries credentials",
        Blind,
    ),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { headers: { x-bulkhead-user: x } } }]\n",
        (3, 76),
        "Bulkhead's own",
        Blind,
    ),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { headers: { x-env: [a, b] } } }]\n",
        (3, 66),
        "write `{ any_of: [a, b] }`",
        Sees,
    ),
    ("kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { headers: { x-env: 5 } } }]\n", (3, 66), "put it in quotes", Sees),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { headers: { x-env: { any_of: [] } } } }]\n",
        (3, 76),
        "is empty",
        Sees,
    ),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { headers: { x-env: { any_of: [a, a] } } } }]\n",
        (3, 80),
        "value `a` stands twice",
        Sees,
    ),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { headers: { x-env: { any_of: [a], prefix: b } } } }]\n",
        (3, 66),
        "exactly one of",
        Sees,
    ),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { headers: { x-env: { present: 'yes' } } } }]\n",
        (3, 77),
        "write `true`",
        Sees,
    ),
    ("kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { query: { '': b } } }]\n", (3, 61), "names nothing", Sees),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { claims: { level: 1.5 } } }]\n",
        (3, 65),
        "put it in quotes",
        Sees,
    ),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { claims: { level: { any_of: [1, true, [x]] } } } }]\n",
        (3, 85),
        "is no string",
        Sees,
    ),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { claim: { level: 1 } } }]\n",
        (3, 48),
        "did you mean `claims`?",
        Sees,
    ),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { source: [10.0.0.1/8] } }]\n",
        (3, 57),
        "write `10.0.0.0/8`",
        Blind,
    ),
    ("kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { source: [10.0.0.1] } }]\n", (3, 57), "write `10.0.0.1/32`", Sees),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { time: { zone: UTC } } }]\n",
        (3, 54),
        "neither days nor hours",
        Sees,
    ),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { time: { days: [mon] } } }]\n",
        (3, 54),
        "`zone` is missing",
        Sees,
    ),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { time: { days: [monday], zone: UTC } } }]\n",
        (3, 63),
        "`mon`, `tue`",
        Sees,
    ),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { time: { from: '8:00', to: '18:00', zone: UTC } } }]\n",
        (3, 62),
        "from `00:00` to `23:59`",
        Sees,
    ),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { time: { from: '08:00', zone: UTC } } }]\n",
        (3, 54),
        "`to` is missing",
        Sees,
    ),
    (
        "kind: Role\nname: r\nallow: [{ methods: [GET], paths: [/a], when: { time: { from: '08:00', to: '08:00', zone: UTC } } }]\n",
        (3, 54),
        "the same time",
        Blind,
    ),
];

const BINDINGS: &[Row] = &[
    ("kind: RoleBinding\nname: b\nsubjects: [{ user: u }]\n", (1, 1), "`role` is missing", Sees),
    (
        "kind: RoleBinding\nname: b\ntenant: t\nenforce: shadow\nrole: r\nsubjects: [{ user: u }]\n",
        (4, 10),
        "stands only in platform-wide documents",
        Sees,
    ),
    ("kind: RoleBinding\nname: b\nrole: r\nsubjects: []\n", (4, 11), "`subjects` is empty", Sees),
    ("kind: RoleBinding\nname: b\nrole: r\nsubjects: [{}]\n", (4, 12), "exactly one of", Sees),
    ("kind: RoleBinding\nname: b\nrole: r\nsubjects: [{ user: u, claim: { a: b } }]\n", (4, 12), "exactly one of", Sees),
    ("kind: RoleBinding\nname: b\nrole: r\nsubjects: [{ claim: { a: [b] } }]\n", (4, 26), "a subject for each", Sees),
    ("kind: RoleBinding\nname: b\nrole: r\nsubjects: [{ claim: { a: 1.5 } }]\n", (4, 26), "a whole number", Sees),
    ("kind: RoleBinding\nname: b\nrole: r\nsubjects: [{ claim: {} }]\n", (4, 21), "names no claim", Sees),
    ("kind: RoleBinding\nname: b\nrole: r\nsubjects: [{ api_key: k }]\n", (4, 23), "a key belongs to one tenant", Sees),
];

const QUOTAS: &[Row] = &[
    ("kind: QuotaPolicy\nname: q\nlimits: []\n", (3, 9), "`limits` is empty", Sees),
    ("kind: QuotaPolicy\nname: q\nenforce: off\nlimits: [{ name: a, per: user, rate: 1/s }]\n", (3, 10), "`enforce`, `shadow`", Sees),
    (
        "kind: QuotaPolicy\nname: q\ntenant: t\nenforce: shadow\nlimits: [{ name: a, per: user, rate: 1/s }]\n",
        (4, 10),
        "in its Tenant document",
        Sees,
    ),
    ("kind: QuotaPolicy\nname: q\nlimits: [{ name: a, per: ip, rate: 1/s }]\n", (3, 26), "`client_address`", Sees),
    ("kind: QuotaPolicy\nname: q\nlimits: [{ name: a, per: user }]\n", (3, 10), "exactly one of", Sees),
    ("kind: QuotaPolicy\nname: q\nlimits: [{ name: a, per: user, rate: 1/s, concurrent: 1 }]\n", (3, 10), "exactly one of", Sees),
    ("kind: QuotaPolicy\nname: q\nlimits: [{ name: a, per: user, requests: 1 }]\n", (3, 10), "`window` is missing", Sees),
    ("kind: QuotaPolicy\nname: q\nlimits: [{ name: a, per: user, window: 1m }]\n", (3, 10), "`requests` is missing", Sees),
    ("kind: QuotaPolicy\nname: q\nlimits: [{ name: a, per: user, burst: 1 }]\n", (3, 10), "`rate` is missing", Sees),
    ("kind: QuotaPolicy\nname: q\nlimits: [{ name: a, per: user, rate: 5 }]\n", (3, 38), "write for example `5/s`", Sees),
    ("kind: QuotaPolicy\nname: q\nlimits: [{ name: a, per: user, rate: 0/s }]\n", (3, 38), "no rate", Sees),
    ("kind: QuotaPolicy\nname: q\nlimits: [{ name: a, per: user, rate: 5/w }]\n", (3, 38), "/s, /m, /h, /d", Sees),
    ("kind: QuotaPolicy\nname: q\nlimits: [{ name: a, per: user, rate: 5/s, burst: 0 }]\n", (3, 50), "from 1 to", Sees),
    ("kind: QuotaPolicy\nname: q\nlimits: [{ name: a, per: user, requests: many, window: 1m }]\n", (3, 42), "or `unlimited`", Sees),
    ("kind: QuotaPolicy\nname: q\nlimits: [{ name: a, per: user, requests: 5, window: 10ms }]\n", (3, 53), "at least `1s`", Blind),
    (
        "kind: QuotaPolicy\nname: q\nlimits: [{ name: a, per: user, rate: 1/s }, { name: a, per: user, rate: 2/s }]\n",
        (3, 53),
        "limit `a` stands twice",
        Blind,
    ),
    (
        "kind: QuotaPolicy\nname: q\ntenant: t\napplies_to: { plans: [p] }\nlimits: [{ name: a, per: user, rate: 1/s }]\n",
        (4, 22),
        "that tenant alone",
        Sees,
    ),
    (
        "kind: QuotaPolicy\nname: q\napplies_to: { routes: [] }\nlimits: [{ name: a, per: user, rate: 1/s }]\n",
        (3, 23),
        "`routes` is empty",
        Sees,
    ),
];

const SECURITY: &[Row] = &[
    ("kind: SecurityPolicy\nname: s\nenforce: shadow\n", (3, 10), "cannot be in shadow", Sees),
    ("kind: SecurityPolicy\nname: s\nrequest: { header_bytes_max: 10 }\n", (3, 30), "write for example `10MiB`", Sees),
    ("kind: SecurityPolicy\nname: s\nrequest: { header_bytes_max: 10B }\n", (3, 30), "from 1KiB to 1MiB", Blind),
    ("kind: SecurityPolicy\nname: s\nrequest: { headers_max: 0 }\n", (3, 25), "from 1 to 1000", Sees),
    ("kind: SecurityPolicy\nname: s\nrequest: { body_bytes_max: 10K }\n", (3, 28), "`K` is no unit", Sees),
    ("kind: SecurityPolicy\nname: s\nrequest: { head_timeout: 0s }\n", (3, 26), "longer than zero", Sees),
    ("kind: SecurityPolicy\nname: s\ncors: { origins: ['*'], credentials: true }\n", (3, 38), "name the origins one by one", Sees),
    ("kind: SecurityPolicy\nname: s\ncors: { origins: ['null'], credentials: true }\n", (3, 41), "act for a signed-in user", Sees),
    ("kind: SecurityPolicy\nname: s\ncors: { origins: ['*'], private_network: true }\n", (3, 42), "reach this network", Sees),
    ("kind: SecurityPolicy\nname: s\ncors: { origins: ['*', https://a.b] }\n", (3, 18), "beside other origins", Sees),
    ("kind: SecurityPolicy\nname: s\ncors: { origins: [null] }\n", (3, 19), "in quotes for pages that have none", Sees),
    ("kind: SecurityPolicy\nname: s\ncors: { origins: ['https://*.a.b'] }\n", (3, 19), "no origin", Sees),
    ("kind: SecurityPolicy\nname: s\ncors: { origins: [https://a.b], headers: ['*'] }\n", (3, 43), "name the headers", Sees),
    ("kind: SecurityPolicy\nname: s\ncors: { origins: [https://a.b], headers: [x y] }\n", (3, 43), "no header name", Sees),
    ("kind: SecurityPolicy\nname: s\ncors: { origins: [https://a.b], max_age: 2d }\n", (3, 42), "a duration up to `1d`", Blind),
    ("kind: SecurityPolicy\nname: s\ncors: { origins: [https://A.b/] }\n", (3, 19), "browsers send `https://a.b`", Sees),
    ("kind: SecurityPolicy\nname: s\ncors: { origins: ['https://a.b:443'] }\n", (3, 19), "browsers send `https://a.b`", Sees),
    ("kind: SecurityPolicy\nname: s\ncors: { origins: [https://a.b], methods: ['*'] }\n", (3, 43), "name the methods", Sees),
    ("kind: SecurityPolicy\nname: s\ntenant: t\nsecurity_headers: {}\n", (4, 19), "which all tenants share", Sees),
    ("kind: SecurityPolicy\nname: s\nsecurity_headers: { referrer_policy: unsafe-url }\n", (3, 38), "one of `no-referrer`", Sees),
    ("kind: SecurityPolicy\nname: s\nsecurity_headers: { frame_ancestors: all }\n", (3, 38), "`none`, `self`, or a list", Sees),
    ("kind: SecurityPolicy\nname: s\nsecurity_headers: { frame_ancestors: [a.b] }\n", (3, 39), "an origin such as", Sees),
    (
        "kind: SecurityPolicy\nname: s\nsecurity_headers: { content_security_policy: \"default-src 'self', x\" }\n",
        (3, 46),
        "begin another policy",
        Blind,
    ),
    (
        "kind: SecurityPolicy\nname: s\nsecurity_headers: { content_security_policy: img-src a; img-src b }\n",
        (3, 46),
        "`img-src` stands twice",
        Blind,
    ),
    (
        "kind: SecurityPolicy\nname: s\nsecurity_headers: { content_security_policy: frame-ancestors a, frame_ancestors: none }\n",
        (3, 46),
        "say it in `frame_ancestors` alone",
        Blind,
    ),
    ("kind: SecurityPolicy\nname: s\nsecurity_headers: { permissions_policy: 'camera none' }\n", (3, 41), "features such as", Blind),
    (
        "kind: SecurityPolicy\nname: s\nsecurity_headers: { strict_transport_security: { preload: true } }\n",
        (3, 59),
        "add `include_subdomains: true`",
        Blind,
    ),
    ("kind: SecurityPolicy\nname: s\ntenant: t\ntrusted_hops: [10.0.0.0/8]\n", (4, 15), "whom the platform believes", Sees),
];

const CACHES: &[Row] = &[
    ("kind: CachePolicy\nname: c\ntenant: t\nenforce: shadow\n", (4, 10), "stands only in platform-wide documents", Sees),
    ("kind: CachePolicy\nname: c\nttl: 60\n", (3, 6), "write for example `60s`", Sees),
    ("kind: CachePolicy\nname: c\ntenant: t\nshare: public\n", (4, 8), "must not reach another", Sees),
    ("kind: CachePolicy\nname: c\nkey: { headers: [Cookie] }\n", (3, 18), "write `share: user`", Sees),
    ("kind: CachePolicy\nname: c\ntags: [X]\n", (3, 8), "write `x`", Sees),
];

/// Mistakes in what a document is; no schema is asked, for nobody knows which.
const KINDS: &[(&str, (u32, u32), &str)] = &[
    ("name: x\n", (1, 1), "`kind` is missing"),
    ("kind: role\nname: x\n", (1, 7), "did you mean `Role`?"),
    ("kind: quota_policy\nname: x\n", (1, 7), "did you mean `QuotaPolicy`?"),
    ("kind: Rule\nname: x\n", (1, 7), "did you mean `Role`?"),
    ("kind: Widget\nname: x\n", (1, 7), "there is no kind `Widget`"),
    ("kind: AlertRule\nname: x\n", (1, 7), "not yet supported"),
    ("kind: [Role]\nname: x\n", (1, 7), "`kind` is no string"),
    ("- kind: Role\n  name: x\n", (1, 1), "put `---` between documents"),
    ("hello\n", (1, 1), "the document is no mapping"),
];
