//! Backup: all that is stored, as one archive. Whoever runs the store makes it, since nobody else may open it meanwhile.

use super::answer::Answer;
use super::documents::refused;
use super::query::Query;
use super::{Api, Asked};
use crate::audit::{Attempt, Decision};
use crate::problem::Problem;
use http::StatusCode;
use std::sync::Arc;

impl Api {
    pub(super) async fn backup(&self, asked: &Asked) -> Result<Answer, Problem> {
        Query::of(&asked.head, &[])?;
        let make = self.backup.clone().ok_or_else(|| {
            let detail = "the store of this control plane is not its own to back up";
            Problem::new(StatusCode::CONFLICT, "no_backup", detail).fix("back up the store with its own means")
        })?;
        // Before it is made: who carries everything away stands in the trail, and in the backup too.
        let attempt = Attempt {
            operator: Some(asked.operator.clone()),
            from: asked.from.clone(),
            action: Arc::from(asked.endpoint.id.as_str()),
            decision: Decision::Allowed,
            reason: None,
            documents: Vec::new(),
            revision: None,
            at: (self.now)(),
        };
        self.changer.note(attempt).await.map_err(refused)?;
        let made = tokio::task::spawn_blocking(move || make()).await;
        let made = made.unwrap_or_else(|_| Err("a defect of Bulkhead stopped it".to_owned()));
        let archive = made.map_err(|why| Problem::unavailable(format!("no backup was made: {why}")))?;
        Ok(Answer::text(StatusCode::OK, "application/gzip", archive))
    }
}
