//! An explanation for people, in aligned lines, and for programs, as JSON.

use super::decision::scope;
use super::{Bound, Explanation, HeldRole, TenantFacts, Verdict};
use crate::declared::{Counted, Per, TenantState};
use crate::snapshot::{Access, Answered, Effect, LimitSpec, Route, RuleId, SliceState};
use crate::unit::{Limit, show_duration};
use serde_json::{Value as Json, json};
use std::fmt;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verdict {
            Verdict::Allowed => write!(f, "{}: allowed", self.request)?,
            Verdict::Refused { status, problem } => write!(f, "{}: {status} {problem}", self.request)?,
            Verdict::Shadow { status, problem } => write!(f, "{}: would be refused (shadow) with {status} {problem}", self.request)?,
            Verdict::Unclear => write!(f, "{}: cannot be said", self.request)?,
        }
        line(f, "because", &self.because)?;
        for value in &self.values {
            line(f, "where", value)?;
        }
        for near in &self.nearest {
            line(f, "near", near)?;
        }
        if let Some(tenant) = &self.tenant {
            line(f, "tenant", tenant)?;
        }
        if let Some(route) = &self.route {
            line(f, "route", Shown(&**route))?;
        }
        if let Some(becomes) = &self.becomes {
            line(f, "then", becomes)?;
        }
        for role in &self.roles {
            line(f, "role", role)?;
        }
        if let Some(quota) = self.api_quota_per_hour {
            line(f, "limit", format!("api_quota_per_hour: {} in a clock hour", Shown(&quota)))?;
        }
        for limit in &self.limits {
            line(f, "limit", Shown(limit))?;
        }
        line(f, "epoch", format!("{}.{}", self.epoch.incarnation, self.epoch.revision))
    }
}

fn line(f: &mut fmt::Formatter<'_>, what: &str, text: impl fmt::Display) -> fmt::Result {
    write!(f, "\n  {what:<8} {text}")
}

impl fmt::Display for TenantFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, {}", self.id, state(self.state))?;
        match &self.plan {
            Some(plan) => write!(f, ", on plan `{plan}`")?,
            None => f.write_str(", without plan")?,
        }
        match self.features.as_slice() {
            [] => f.write_str(", without features"),
            features => write!(f, ", with {}", features.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        }
    }
}

impl fmt::Display for HeldRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of the {}", self.name, scope(self.scope))?;
        if self.by.is_empty() {
            return f.write_str(", as supposed");
        }
        for (at, bound) in self.by.iter().enumerate() {
            write!(f, "{} {bound}", if at == 0 { ", by" } else { " and" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "binding `{}` ({})", self.name, self.place)?;
        match &self.through {
            Some(role) => write!(f, " through `{role}`"),
            None => Ok(()),
        }
    }
}

/// How a type of the snapshot looks in an explanation.
struct Shown<'a, T>(&'a T);

impl fmt::Display for Shown<'_, Route> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = self.0;
        write!(f, "`{}` of service `{}`: {}", route.name, route.upstream.service, route.pattern)?;
        match &route.answered {
            Some(answered) if answered.is_always() => f.write_str(", answered here"),
            _ => write!(f, " to upstream `{}`", route.upstream.name),
        }
    }
}

impl fmt::Display for Shown<'_, LimitSpec> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.0;
        write!(f, "`{}` of QuotaPolicy ", limit.id.limit)?;
        match &limit.id.tenant {
            Some(tenant) => write!(f, "`{tenant}/{}`: ", limit.id.policy)?,
            None => write!(f, "`{}`: ", limit.id.policy)?,
        }
        match &limit.counted {
            Counted::Rate { rate, burst } => write!(f, "{rate}, burst {burst}")?,
            Counted::Sliding { requests, window } => write!(f, "{} in {}", Shown(requests), show_duration(*window))?,
            Counted::Concurrent { concurrent } => write!(f, "{} at once", Shown(concurrent))?,
        }
        write!(f, " per {}", per(limit.per))
    }
}

impl fmt::Display for Shown<'_, Limit> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Limit::Unlimited => f.write_str("unlimited"),
            Limit::Closed => f.write_str("0"),
            Limit::AtMost(most) => write!(f, "{most}"),
        }
    }
}

fn per(per: Per) -> &'static str {
    match per {
        Per::Tenant => "tenant",
        Per::User => "user",
        Per::ApiKey => "api_key",
        Per::ClientAddress => "client_address",
    }
}

fn state(state: SliceState) -> &'static str {
    match state {
        SliceState::Declared(TenantState::Active) => "active",
        SliceState::Declared(TenantState::Suspended) => "suspended",
        SliceState::Declared(TenantState::Offboarding) => "offboarding",
        SliceState::Held => "held",
    }
}

impl Explanation {
    /// For programs. Keys stay; more may come.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let (verdict, status, problem) = match self.verdict {
            Verdict::Allowed => ("allowed", None, None),
            Verdict::Refused { status, problem } => ("refused", Some(status), Some(problem)),
            Verdict::Shadow { status, problem } => ("shadow", Some(status), Some(problem)),
            Verdict::Unclear => ("unclear", None, None),
        };
        json!({
            "verdict": verdict,
            "status": status,
            "code": problem,
            "request": self.request,
            "because": self.because,
            "rule": self.rule.as_deref().map(rule),
            "values": self.values,
            "nearest": self.nearest,
            "tenant": self.tenant.as_ref().map(|tenant| json!({
                "id": tenant.id.as_str(),
                "plan": tenant.plan.as_ref().map(|plan| plan.as_str()),
                "state": state(tenant.state),
                "features": tenant.features.iter().map(|feature| feature.as_str()).collect::<Vec<_>>(),
            })),
            "route": self.route.as_ref().map(|route| json!({
                "service": route.upstream.service.as_str(),
                "name": route.name.as_str(),
                "path": route.pattern.to_string(),
                "access": if route.access == Access::Public { "public" } else { "authenticated" },
                "upstream": (!route.answered.as_ref().is_some_and(Answered::is_always)).then(|| route.upstream.name.as_str()),
                "requires_feature": route.requires_feature.as_ref().map(|feature| feature.as_str()),
            })),
            "becomes": self.becomes,
            "roles": self.roles.iter().map(|role| json!({
                "name": role.name.as_str(),
                "scope": scope(role.scope),
                "by": role.by.iter().map(|bound| json!({
                    "binding": bound.name,
                    "file": &*bound.place.file,
                    "line": bound.place.line,
                    "through": bound.through.as_ref().map(|role| role.as_str()),
                })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "limits": self.limits.iter().map(limit).collect::<Vec<_>>(),
            "api_quota_per_hour": self.api_quota_per_hour.as_ref().map(number),
            "epoch": { "incarnation": self.epoch.incarnation, "revision": self.epoch.revision },
        })
    }
}

fn rule(rule: &RuleId) -> Json {
    json!({
        "role": rule.role.as_str(),
        "scope": scope(rule.scope),
        "effect": if rule.effect == Effect::Allow { "allow" } else { "deny" },
        "text": rule.text,
        "file": &*rule.file,
        "line": rule.line,
    })
}

fn limit(limit: &LimitSpec) -> Json {
    let mut shown = json!({
        "policy": limit.id.policy.as_str(),
        "tenant": limit.id.tenant.as_ref().map(|tenant| tenant.as_str()),
        "name": limit.id.limit.as_str(),
        "per": per(limit.per),
    });
    let counted = match &limit.counted {
        Counted::Rate { rate, burst } => json!({ "rate": rate.to_string(), "burst": burst }),
        Counted::Sliding { requests, window } => json!({ "requests": number(requests), "window": show_duration(*window) }),
        Counted::Concurrent { concurrent } => json!({ "concurrent": number(concurrent) }),
    };
    if let (Json::Object(shown), Json::Object(counted)) = (&mut shown, counted) {
        shown.extend(counted);
    }
    shown
}

fn number(limit: &Limit) -> Json {
    match limit {
        Limit::Unlimited => json!("unlimited"),
        Limit::Closed => json!(0),
        Limit::AtMost(most) => json!(most.get()),
    }
}
