//! What is about no single document: revisions, a tenant's configuration, events, the audit trail, who asks.

use super::answer::Answer;
use super::documents::stored;
use super::query::Query;
use super::{Api, Asked};
use crate::archive::TrailOf;
use crate::problem::Problem;
use bulkhead_config::effective::{self, Show};
use bulkhead_config::name::TenantId;
use http::StatusCode;
use serde_json::{Value, json};
use std::fmt::Write as _;

impl Api {
    pub(super) fn revision(&self, asked: &Asked) -> Result<Answer, Problem> {
        Query::of(&asked.head, &[])?;
        let epoch = self.changer.shelf().epoch();
        Ok(Answer::json(StatusCode::OK, &json!({ "incarnation": epoch.incarnation, "revision": epoch.revision })))
    }

    /// The sidecars. Whoever is held to a tenant is told how many there are and how far they are, not what others' parts lack.
    pub(super) fn fleet(&self, asked: &Asked) -> Result<Answer, Problem> {
        Query::of(&asked.head, &[])?;
        let mut shown = self.fleet.shown(self.changer.shelf().epoch());
        if asked.operator.tenant.is_some()
            && let Some(sidecars) = shown.get_mut("sidecars").and_then(Value::as_array_mut)
        {
            for sidecar in sidecars.iter_mut().filter_map(Value::as_object_mut) {
                sidecar.remove("quarantined");
                sidecar.remove("alerts");
            }
        }
        Ok(Answer::json(StatusCode::OK, &shown))
    }

    pub(super) fn tenant_config(&self, asked: &Asked) -> Result<Answer, Problem> {
        let query = Query::of(&asked.head, &["origin"])?;
        let show = if query.flag("origin")? { Show::Origins } else { Show::Values };
        let tenant = asked.routed.tenant()?;
        let unknown = || Problem::not_found(format!("tenant {tenant}"));
        if !asked.operator.may_know_of(Some(&tenant)) {
            return Err(unknown());
        }
        let snapshot = self.changer.snapshot();
        let slice = snapshot.tenant(tenant.as_str()).ok_or_else(unknown)?;
        Ok(Answer::json(StatusCode::OK, &effective::of(&snapshot, slice, show)))
    }

    pub(super) async fn events(&self, asked: &Asked) -> Result<Answer, Problem> {
        let query = Query::of(&asked.head, &["limit", "after", "tenant", "type"])?;
        let (tenant, of_type) = (query.get("tenant"), query.get("type"));
        let wanted = |event: &Value| {
            let is = |key: &str, wanted: Option<&str>| wanted.is_none_or(|wanted| event.get(key).and_then(Value::as_str) == Some(wanted));
            is("tenantid", asked.operator.tenant.as_ref().map(TenantId::as_str)) && is("tenantid", tenant) && is("type", of_type)
        };
        let trail = self.archive.trail(TrailOf::Events, query.get("after"), query.limit()?, wanted).await.map_err(stored)?;
        Ok(Answer::json(StatusCode::OK, &json!({ "items": trail.entries, "next": trail.next, "last": trail.last })))
    }

    pub(super) async fn audit(&self, asked: &Asked) -> Result<Answer, Problem> {
        let query = Query::of(&asked.head, &["limit", "after", "operator", "tenant", "decision", "action"])?;
        let tenant = asked.operator.tenant.as_ref().map(TenantId::as_str).or(query.get("tenant"));
        let wanted = |entry: &Value| {
            let is = |key: &str| query.get(key).is_none_or(|wanted| entry.get(key).and_then(Value::as_str) == Some(wanted));
            is("operator") && is("decision") && is("action") && tenant.is_none_or(|tenant| concerns(entry, tenant))
        };
        let mut trail = self.archive.trail(TrailOf::Audit, query.get("after"), query.limit()?, wanted).await.map_err(stored)?;
        // Of what else a change was about, whoever is held to a tenant learns nothing.
        if let Some(tenant) = asked.operator.tenant.as_ref().map(TenantId::as_str) {
            for documents in trail.entries.iter_mut().filter_map(|entry| entry.get_mut("documents")?.as_array_mut()) {
                documents.retain(|document| is_of(document, tenant));
            }
        }
        Ok(Answer::json(StatusCode::OK, &json!({ "items": trail.entries, "next": trail.next, "last": trail.last })))
    }

    pub(super) fn who_am_i(&self, asked: &Asked) -> Result<Answer, Problem> {
        Query::of(&asked.head, &[])?;
        let operator = &asked.operator;
        let shown = json!({
            "name": &*operator.name,
            "role": operator.role.as_str(),
            "tenant": operator.tenant.as_ref().map(TenantId::as_str),
            "proof": &*operator.proof,
        });
        Ok(Answer::json(StatusCode::OK, &shown))
    }

    /// Metrics of the control plane itself.
    pub(super) fn metrics(&self, asked: &Asked) -> Result<Answer, Problem> {
        Query::of(&asked.head, &[])?;
        if asked.operator.tenant.is_some() {
            let detail = "the metrics tell of all tenants, and this operator is held to one";
            return Err(
                Problem::new(StatusCode::FORBIDDEN, "not_permitted", detail).fix("scrape with the token of a viewer of the platform")
            );
        }
        let epoch = self.changer.shelf().epoch();
        let mut out = String::new();
        let mut gauge = |name: &str, help: &str, value: u64| {
            // Writing to a string cannot fail.
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
        };
        gauge("bulkhead_control_revision", "Revision of what is declared.", epoch.revision);
        gauge("bulkhead_control_incarnation", "Incarnation of the store; rises with each restored backup.", epoch.incarnation);
        gauge("bulkhead_control_documents", "Documents that are declared.", u64::try_from(self.changer.shelf().len()).unwrap_or(u64::MAX));
        let all = self.fleet.counts();
        let mut family = |name: &str, help: &str, of: usize| {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} counter\n");
            for (tenant, counts) in &all {
                let _ = writeln!(out, "{name}{{tenant_id=\"{tenant}\"}} {}", counts.get(of).copied().unwrap_or_default());
            }
        };
        family("tenant_requests_total", "Requests of a tenant on all sidecars.", 0);
        family("tenant_refused_total", "Requests of a tenant that were refused, on all sidecars.", 1);
        family("tenant_upstream_errors_total", "Requests of a tenant whose upstream failed, on all sidecars.", 2);
        Ok(Answer::text(StatusCode::OK, "text/plain; version=0.0.4", out))
    }
}

/// Whether an entry of the audit trail is about a tenant.
fn concerns(entry: &Value, tenant: &str) -> bool {
    let documents = entry.get("documents").and_then(Value::as_array);
    documents.into_iter().flatten().any(|document| is_of(document, tenant))
}

/// Whether a document of an entry is a tenant's.
fn is_of(document: &Value, tenant: &str) -> bool {
    let text = |key: &str| document.get(key).and_then(Value::as_str);
    text("tenant") == Some(tenant) || (text("kind") == Some("Tenant") && text("name") == Some(tenant))
}
