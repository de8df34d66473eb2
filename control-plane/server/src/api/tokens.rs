//! Tokens of operators: made, listed, revoked. The text of one is shown once.

use super::answer::{Answer, shown};
use super::body;
use super::documents::refused;
use super::query::Query;
use super::{Api, Asked};
use crate::identity::NotMinted;
use crate::operator::{Minted, Role, Wanted};
use crate::problem::Problem;
use bulkhead_config::name::TenantId;
use bulkhead_config::unit;
use http::StatusCode;
use serde_json::{Value, json};

/// Characters of an operator's name.
const NAME_MAX: usize = 63;

impl Api {
    pub(super) fn tokens(&self, asked: &Asked) -> Result<Answer, Problem> {
        Query::of(&asked.head, &[])?;
        Ok(Answer::json(StatusCode::OK, &json!({ "items": self.operators.shown(), "next": null })))
    }

    pub(super) async fn mint_token(&self, asked: &Asked) -> Result<Answer, Problem> {
        Query::of(&asked.head, &[])?;
        let now = (self.now)();
        let wanted = self.wanted(asked, now)?;
        let minted = wanted.mint(now).ok_or_else(|| Problem::unavailable("the system gives no random numbers"))?;
        let Minted { token, text } = minted;
        let mut body = token.shown();
        self.operators.enter(&self.changer, token, &asked.operator, &asked.from).await.map_err(refused)?;
        if let Some(body) = body.as_object_mut() {
            body.insert("token".to_owned(), text.into());
        }
        Ok(Answer::json(StatusCode::CREATED, &body))
    }

    pub(super) async fn revoke_token(&self, asked: &Asked) -> Result<Answer, Problem> {
        Query::of(&asked.head, &[])?;
        let id = asked.routed.get("id").unwrap_or_default();
        let was_there = self.operators.revoke(&self.changer, id, &asked.operator, &asked.from).await.map_err(refused)?;
        if !was_there {
            return Err(Problem::not_found(format!("token {}", shown(id))));
        }
        Ok(Answer::json(StatusCode::OK, &json!({ "id": id, "revoked": true })))
    }

    pub(super) async fn mint_join_token(&self, asked: &Asked) -> Result<Answer, Problem> {
        Query::of(&asked.head, &[])?;
        let fields = body::object(&asked.body, &["name", "expires_in"])?;
        let bad = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", detail);
        let name = fields.get("name").and_then(Value::as_str).ok_or_else(|| bad("`name` is missing".to_owned()).fix("name the sidecar"))?;
        let lifetime = match fields.get("expires_in").and_then(Value::as_str) {
            None => crate::identity::JOIN_LIFETIME,
            Some(written) => unit::duration(written).map_err(|why| bad(format!("`expires_in`: {why}")).fix("write `1h`, for example"))?,
        };
        let identity = self.identity.as_ref().ok_or_else(no_identity)?;
        let (token, ticket) = identity.mint(name, lifetime).await.map_err(|why| match why {
            NotMinted::Name(why) => bad(format!("`name`: {why}")),
            NotMinted::Random | NotMinted::Store(_) => Problem::unavailable(why.to_string()),
        })?;
        let attempt = crate::identity::minted(&asked.operator, &asked.from, &ticket, (self.now)());
        self.changer.note(attempt).await.map_err(refused)?;
        let made = json!({
            "id": ticket.id.as_str(),
            "name": ticket.name.as_str(),
            "expires": crate::operator::moment(ticket.expires),
            "token": token.expose(),
        });
        Ok(Answer::json(StatusCode::CREATED, &made))
    }

    pub(super) async fn trust_bundle(&self) -> Result<Answer, Problem> {
        let identity = self.identity.as_ref().ok_or_else(no_identity)?;
        let roots = identity.roots().await.map_err(|why| Problem::unavailable(why.to_string()))?;
        Ok(Answer::text(StatusCode::OK, "application/x-pem-file", roots))
    }

    /// What a new token shall prove.
    fn wanted(&self, asked: &Asked, now: i64) -> Result<Wanted, Problem> {
        let fields = body::object(&asked.body, &["name", "role", "tenant", "expires_in"])?;
        let bad = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", detail);
        let text = |key: &str| match fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(bad(format!("`{key}` is no text")).fix(format!("write `{key}` in quotes"))),
        };
        let name = text("name")?.ok_or_else(|| bad("`name` is missing".to_owned()).fix("say who will use it"))?;
        let is_good = !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_good {
            return Err(bad(format!("`name` is {}", shown(name))).fix(format!("write 1 to {NAME_MAX} visible ASCII characters")));
        }
        let role = text("role")?.ok_or_else(|| bad("`role` is missing".to_owned()))?;
        let role: Role = role.parse().map_err(|why: crate::operator::NotARole| bad(why.to_string()))?;
        let tenant = text("tenant")?.map(|tenant| tenant.parse::<TenantId>().map_err(|why| bad(format!("`tenant`: {why}")))).transpose()?;
        match (role, &tenant) {
            (Role::PlatformAdmin, Some(_)) => {
                return Err(bad("a platform-admin cannot be held to a tenant".to_owned()).fix("make it a tenant-admin"));
            }
            (Role::TenantAdmin, None) => return Err(bad("a tenant-admin needs `tenant`".to_owned()).fix("say whose admin it is")),
            (_, Some(tenant)) => self.exists(tenant)?,
            _ => {}
        }
        let expires = match text("expires_in")? {
            None => None,
            Some(written) => {
                let lasts = unit::duration(written).map_err(|why| bad(format!("`expires_in`: {why}")).fix("write `12h`, for example"))?;
                Some(now.saturating_add(i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX)))
            }
        };
        Ok(Wanted { name: name.into(), role, tenant, expires })
    }
}

fn no_identity() -> Problem {
    Problem::not_found("authority here: this control plane has no sidecars but its own")
        .fix("run `bulkhead control-plane` for sidecars elsewhere")
}
