//! Many documents at once: applied all or nothing, or only looked at.

use super::answer::{Answer, shown};
use super::body;
use super::query::Query;
use super::{Api, Asked};
use crate::change::{Edit, Expects};
use crate::document::Owner;
use crate::problem::Problem;
use bulkhead_config::declared::DocumentId;
use bulkhead_config::diagnostic::Diagnostic;
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;

impl Api {
    /// A change set. With `prune=true` what was declared through the API before and is not sent now goes away; of one tenant
    /// alone with `tenant=ID`.
    pub(super) async fn apply(&self, asked: &Asked) -> Result<Answer, Problem> {
        let query = Query::of(&asked.head, &["dry_run", "prune", "tenant"])?;
        let puts = self.documents(asked).await?;
        if puts.is_empty() {
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_document", "the body holds no document");
            return Err(problem.fix("send at least one; to remove documents use DELETE"));
        }
        let only = query.get("tenant");
        if let Some(only) = only
            && let Some(other) = puts.iter().find(|put| tenant_of(&put.document.id) != Some(only))
        {
            let detail = format!("{} does not belong to tenant {}", other.document.id, shown(only));
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "other_tenant", detail).fix("leave it out, or leave out `tenant`"));
        }
        let declared: BTreeSet<DocumentId> = puts.iter().map(|put| put.document.id.clone()).collect();
        let mut edits: Vec<Edit> = puts
            .into_iter()
            .map(|put| Edit { id: put.document.id.clone(), to: Some(put), owner: body::owner(), expects: Expects::Anything })
            .collect();
        if query.flag("prune")? {
            let of_api = self.changer.shelf().all().into_iter().filter(|version| version.owner == Owner::Api);
            let meant = of_api.filter(|version| only.is_none_or(|only| tenant_of(&version.id) == Some(only)));
            let meant =
                meant.filter(|version| asked.operator.tenant.is_none() || asked.operator.tenant.as_ref() == version.id.tenant.as_ref());
            let gone = meant.filter(|version| !declared.contains(&version.id));
            let incarnation = self.changer.shelf().epoch().incarnation;
            // What was changed since is not what was meant to go.
            let expects = |tag: String| Expects::Tag(tag.into());
            edits.extend(gone.map(|version| Edit {
                id: version.id.clone(),
                to: None,
                owner: Owner::Api,
                expects: expects(version.etag(incarnation)),
            }));
        }
        let done = self.submit(asked, edits, query.flag("dry_run")?).await?;
        Ok(self.done(StatusCode::OK, &done))
    }

    /// A report on documents, read by themselves: 200 whatever it says.
    pub(super) async fn validate(&self, asked: &Asked) -> Result<Answer, Problem> {
        Query::of(&asked.head, &[])?;
        let (puts, mistakes) = self.read_body(asked).await?;
        let errors: Vec<Value> = mistakes.iter().map(Diagnostic::to_json).collect();
        let documents: Vec<String> = puts.iter().map(|put| put.document.id.to_string()).collect();
        let report = json!({ "is_valid": errors.is_empty(), "documents": documents, "errors": errors });
        Ok(Answer::json(StatusCode::OK, &report))
    }
}

/// Whose a document is; a Tenant is its own.
fn tenant_of(id: &DocumentId) -> Option<&str> {
    use bulkhead_config::declared::Kind;
    match id.kind {
        Kind::Tenant => Some(id.name.as_str()),
        _ => id.tenant.as_ref().map(|tenant| tenant.as_str()),
    }
}
