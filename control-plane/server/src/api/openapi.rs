//! The description of the API (OpenAPI 3.1), made from the table of endpoints and the schemas of the kinds.

use crate::operation::{Endpoint, Needs, Operation};
use bulkhead_config::declared::Kind;
use http::Method;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The same for people, without a byte from the network: it reads `/openapi.json` and lists what stands there.
pub(super) const PAGE: &str = include_str!("docs.html");

/// Describes the endpoints.
#[must_use]
pub fn describe(endpoints: &[Arc<Endpoint>]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in endpoints {
        let path = paths.entry(endpoint.path.clone()).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(endpoint.method.as_str().to_ascii_lowercase(), operation(endpoint));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bulkhead control plane",
            "version": "1",
            "description": "What operators declare, how it stands on the sidecars, and who did what. Every refusal is problem+json (RFC 9457) that says what, where and how to fix it.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "description": "A token of an operator: `bo1.…`." } },
            "schemas": schemas(),
            "responses": { "Problem": { "description": "Why not", "content": { "application/problem+json": { "schema": reference("Problem") } } } },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut described = json!({
        "operationId": endpoint.id,
        "summary": endpoint.summary,
        "tags": [endpoint.kind.map_or("Others", Kind::as_str)],
        "parameters": parameters(endpoint),
        "responses": responses(endpoint),
    });
    if let Some(described) = described.as_object_mut() {
        if let Some(body) = body(endpoint) {
            described.insert("requestBody".to_owned(), body);
        }
        if endpoint.needs == Needs::Nobody {
            described.insert("security".to_owned(), json!([]));
        }
    }
    described
}

/// What stands in path, query and head.
fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let names = endpoint.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let mut all: Vec<Value> = names.map(path_parameter).collect();
    let limit = || {
        query("limit", "Entries of a page.", json!({ "type": "integer", "minimum": 1, "maximum": super::query::PAGE_MAX, "default": 100 }))
    };
    let text = |name: &str, what: &str| query(name, what, json!({ "type": "string" }));
    let number = |name: &str, what: &str| query(name, what, json!({ "type": "integer", "minimum": 0 }));
    let truth = |name: &str, what: &str| query(name, what, json!({ "type": "boolean", "default": false }));
    let dry_run = || truth("dry_run", "Says what would be done, and does nothing.");
    let conditions = || {
        [
            header("If-Match", "Only if it is this version: its ETag, or `*`: only if it is there."),
            header("If-None-Match", "`*`: only if it is not there."),
            header("Idempotency-Key", "A name for this request: sent again, it is done once."),
        ]
    };
    let idempotency = || header("Idempotency-Key", "A name for this request: sent again, it is done once.");
    match endpoint.operation {
        Operation::List => all.extend([limit(), query("after", "`next` of the page before.", name_schema())]),
        Operation::Read => all.push(header("If-None-Match", "Not if it is this version still: its ETag.")),
        Operation::Create => all.extend([dry_run(), idempotency()]),
        Operation::Replace | Operation::Delete | Operation::Rollback => {
            all.push(dry_run());
            all.extend(conditions());
        }
        Operation::History => all.extend([limit(), number("before", "`next` of the page before.")]),
        Operation::Difference => {
            all.push(required(number("from", "The older revision.")));
            all.push(number("to", "The newer revision; what is declared now, unless named."));
        }
        Operation::TenantConfig => all.push(truth("origin", "Tells which layer gave each value.")),
        Operation::Apply => all.extend([
            dry_run(),
            truth("prune", "Removes what was declared through the API before and is not sent now."),
            text("tenant", "Only this tenant's documents are meant."),
            idempotency(),
        ]),
        Operation::Events => {
            all.extend([
                limit(),
                text("after", "`last` of the page before."),
                text("tenant", "Of this tenant."),
                text("type", "Of this type."),
            ]);
        }
        Operation::Audit => all.extend([
            limit(),
            text("after", "`last` of the page before."),
            text("operator", "By this operator."),
            text("tenant", "About this tenant."),
            query("decision", "With this decision.", json!({ "type": "string", "enum": ["allowed", "denied"] })),
            text("action", "This action."),
        ]),
        _ => {}
    }
    all
}

fn path_parameter(name: &str) -> Value {
    let schema = match name {
        "revision" => json!({ "type": "integer", "minimum": 0 }),
        "id" => json!({ "type": "string", "minLength": 1 }),
        _ => name_schema(),
    };
    json!({ "name": name, "in": "path", "required": true, "schema": schema })
}

fn name_schema() -> Value {
    json!({ "type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$" })
}

fn query(name: &str, what: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "description": what, "schema": schema })
}

fn header(name: &str, what: &str) -> Value {
    json!({ "name": name, "in": "header", "description": what, "schema": { "type": "string" } })
}

fn required(mut parameter: Value) -> Value {
    if let Some(parameter) = parameter.as_object_mut() {
        parameter.insert("required".to_owned(), true.into());
    }
    parameter
}

fn body(endpoint: &Endpoint) -> Option<Value> {
    let json_only = |schema: Value| json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    let documents = |schema: Value| {
        json!({
            "required": true,
            "content": {
                "application/json": { "schema": schema },
                "application/yaml": { "schema": { "type": "string", "description": "The same as YAML; a stream of documents where several may be sent." } },
            },
        })
    };
    match endpoint.operation {
        Operation::Create | Operation::Replace => Some(documents(reference(endpoint.kind.map_or("Document", Kind::as_str)))),
        Operation::Apply | Operation::Validate => {
            let list = json!({ "type": "array", "items": reference("Document") });
            Some(documents(json!({ "anyOf": [reference("Document"), list] })))
        }
        Operation::Rollback => Some(json_only(reference("Rollback"))),
        Operation::MintToken => Some(json_only(reference("NewToken"))),
        Operation::MintJoinToken => Some(json_only(reference("NewJoinToken"))),
        _ => None,
    }
}

/// What may be answered.
fn responses(endpoint: &Endpoint) -> Value {
    let mut all = Map::new();
    let mut good = |status: &str, what: &str, schema: Value| {
        all.insert(status.to_owned(), json!({ "description": what, "content": { "application/json": { "schema": schema } } }));
    };
    let text = |media: &str| json!({ "description": "It does", "content": { media: { "schema": { "type": "string" } } } });
    match endpoint.operation {
        Operation::List => good("200", "A page", page(json!({ "$ref": "#/components/schemas/Listed" }))),
        Operation::History => good("200", "A page, the newest first", page(reference("Version"))),
        Operation::Create => {
            good("201", "Created", reference("Done"));
            good("200", "What would be done", reference("Done"));
        }
        Operation::Replace => {
            good("200", "Replaced", reference("Done"));
            good("201", "Created", reference("Done"));
        }
        Operation::Delete | Operation::Rollback | Operation::Apply => good("200", "Done", reference("Done")),
        Operation::Events | Operation::Audit => good("200", "A page", trail()),
        Operation::MintToken | Operation::MintJoinToken => good("201", "Made", json!({ "type": "object" })),
        Operation::Read | Operation::Version => {
            good("200", "The document itself", reference(endpoint.kind.map_or("Document", Kind::as_str)))
        }
        Operation::Backup => drop(all.insert("200".to_owned(), text("application/gzip"))),
        Operation::TrustBundle => drop(all.insert("200".to_owned(), text("application/x-pem-file"))),
        Operation::Docs => drop(all.insert("200".to_owned(), text("text/html"))),
        Operation::Live | Operation::Ready | Operation::Started | Operation::Metrics => {
            drop(all.insert("200".to_owned(), text("text/plain")))
        }
        _ => good("200", "It is", json!({ "type": "object" })),
    }
    if endpoint.operation == Operation::Read {
        all.insert("304".to_owned(), json!({ "description": "It is this version still" }));
    }
    let problem = json!({ "$ref": "#/components/responses/Problem" });
    let mut may_be = vec!["400", "401", "403", "404", "429", "503"];
    if endpoint.method != Method::GET {
        may_be.extend(["408", "409", "412", "413", "415", "422"]);
    }
    if endpoint.needs == Needs::Nobody {
        may_be.clear();
    }
    if endpoint.operation == Operation::TrustBundle {
        may_be.extend(["404", "503"]);
    }
    for status in may_be {
        all.entry(status.to_owned()).or_insert_with(|| problem.clone());
    }
    Value::Object(all)
}

fn page(items: Value) -> Value {
    json!({
        "type": "object",
        "required": ["items", "next"],
        "properties": { "items": { "type": "array", "items": items }, "next": { "type": ["string", "integer", "null"] } },
    })
}

fn trail() -> Value {
    json!({
        "type": "object",
        "required": ["items", "next", "last"],
        "properties": {
            "items": { "type": "array", "items": { "type": "object" } },
            "next": { "type": ["string", "null"], "description": "Where the next page begins, when there is more." },
            "last": { "type": ["string", "null"], "description": "Where the last of these stands; whoever follows asks for what comes after it." },
        },
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn schemas() -> Value {
    let mut all = Map::new();
    for kind in Kind::ALL {
        let mut schema = kind.schema();
        if let Some(schema) = schema.as_object_mut() {
            // Of a document by itself; within this one they would say that it stands elsewhere.
            schema.remove("$schema");
            schema.remove("$id");
        }
        all.insert(kind.as_str().to_owned(), schema);
    }
    let any: Vec<Value> = Kind::ALL.map(|kind| reference(kind.as_str())).into();
    all.insert("Document".to_owned(), json!({ "anyOf": any }));
    all.insert("Problem".to_owned(), problem());
    let number = || json!({ "type": "integer", "minimum": 0 });
    let maybe = || json!({ "type": ["string", "null"] });
    let about = json!({
        "kind": { "type": "string" }, "tenant": maybe(), "name": { "type": "string" }, "revision": number(), "created": number(),
        "removed": { "type": "boolean" }, "owner": { "enum": ["api", "files"] }, "file": maybe(),
        "changed_by": { "type": "string" }, "changed_at": maybe(), "etag": { "type": "string" },
    });
    all.insert("Version".to_owned(), json!({ "type": "object", "required": ["kind", "name", "revision", "etag"], "properties": about }));
    let mut listed = about;
    if let Some(listed) = listed.as_object_mut() {
        listed.insert("document".to_owned(), reference("Document"));
    }
    all.insert(
        "Listed".to_owned(),
        json!({ "type": "object", "required": ["kind", "name", "revision", "etag", "document"], "properties": listed }),
    );
    all.insert("Done".to_owned(), done());
    let rollback =
        json!({ "type": "object", "required": ["revision"], "additionalProperties": false, "properties": { "revision": number() } });
    all.insert("Rollback".to_owned(), rollback);
    let roles = crate::operator::Role::ALL.map(crate::operator::Role::as_str);
    all.insert(
        "NewToken".to_owned(),
        json!({
            "type": "object",
            "required": ["name", "role"],
            "additionalProperties": false,
            "properties": {
                "name": { "type": "string", "pattern": "^[!-~]{1,63}$" },
                "role": { "enum": roles },
                "tenant": { "type": ["string", "null"] },
                "expires_in": { "type": ["string", "null"], "description": "A duration with its unit, as `12h`." },
            },
        }),
    );
    all.insert(
        "NewJoinToken".to_owned(),
        json!({
            "type": "object",
            "required": ["name"],
            "additionalProperties": false,
            "properties": {
                "name": { "type": "string" },
                "expires_in": { "type": ["string", "null"], "description": "A duration with its unit, as `1h`." },
            },
        }),
    );
    Value::Object(all)
}

fn done() -> Value {
    json!({
        "type": "object",
        "required": ["revision", "incarnation", "dry_run", "documents", "warnings"],
        "properties": {
            "revision": { "type": "integer", "minimum": 0 },
            "incarnation": { "type": "integer", "minimum": 0 },
            "dry_run": { "type": "boolean" },
            "documents": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["kind", "tenant", "name", "became", "revision"],
                    "properties": {
                        "kind": { "type": "string" },
                        "tenant": { "type": ["string", "null"] },
                        "name": { "type": "string" },
                        "became": { "enum": ["created", "changed", "removed", "unchanged"] },
                        "revision": { "type": "integer", "minimum": 0 },
                    },
                },
            },
            "warnings": { "type": "array", "items": { "type": "object" } },
        },
    })
}

fn problem() -> Value {
    json!({
        "type": "object",
        "required": ["type", "title", "status", "code", "detail", "request_id"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "code": { "type": "string", "description": "Stable: what programs decide by." },
            "detail": { "type": "string" },
            "fix": { "type": "string" },
            "request_id": { "type": "string" },
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["pointer", "detail", "line", "column"],
                    "properties": {
                        "pointer": { "type": "string", "description": "JSON pointer (RFC 6901) within the document." },
                        "detail": { "type": "string" },
                        "line": { "type": "integer" },
                        "column": { "type": "integer" },
                        "file": { "type": "string" },
                        "document": { "type": ["string", "null"] },
                        "expected": { "type": ["string", "null"] },
                        "found": { "type": ["string", "null"] },
                        "hint": { "type": ["string", "null"] },
                    },
                },
            },
        },
    })
}
