//! The operators' tokens as they stand now, and how they change: each change in the store first, with its audit entry.

use crate::audit::{Attempt, Decision, From};
use crate::change::{Changer, Refused};
use crate::operator::{Operator, Operators, Role, Token, Unproved, sha256};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde_json::Value;
use std::sync::{Arc, PoisonError, RwLock};

/// Characters of 256 bits in base64url: what is shorter is no secret.
pub const SECRET_CHARACTERS_MIN: usize = 43;

/// Tokens of operators, shared by everybody who answers.
#[derive(Debug, Default)]
pub struct Operatory {
    operators: RwLock<Operators>,
    /// SHA-256 of the token that stands in the data directory: whoever reads it is a platform-admin.
    of_the_directory: Option<[u8; 32]>,
}

impl Operatory {
    /// With what the store holds, and the token that stands in the data directory.
    #[must_use]
    pub fn new(tokens: impl IntoIterator<Item = Token>, of_the_directory: Option<&str>) -> Self {
        let mut operators = Operators::default();
        tokens.into_iter().for_each(|token| operators.insert(token));
        Self {
            operators: RwLock::new(operators),
            of_the_directory: of_the_directory
                .map(str::trim)
                .filter(|text| text.len() >= SECRET_CHARACTERS_MIN)
                .map(|text| sha256(text.as_bytes())),
        }
    }

    /// Whom a presented text proves.
    ///
    /// # Errors
    /// Why it proves nobody.
    pub fn prove(&self, presented: &str, now: i64) -> Result<Operator, Unproved> {
        if presented.len() < SECRET_CHARACTERS_MIN {
            return Err(Unproved::Malformed);
        }
        let is_the_directorys = |known: &[u8; 32]| verify_slices_are_equal(&sha256(presented.as_bytes()), known).is_ok();
        if self.of_the_directory.as_ref().is_some_and(is_the_directorys) {
            return Ok(Operator { name: "admin".into(), role: Role::PlatformAdmin, tenant: None, proof: "data directory".into() });
        }
        self.operators.read().unwrap_or_else(PoisonError::into_inner).prove(presented, now)
    }

    /// Every token, as it may be shown.
    #[must_use]
    pub fn shown(&self) -> Vec<Value> {
        self.operators.read().unwrap_or_else(PoisonError::into_inner).tokens().map(Token::shown).collect()
    }

    /// Enters a token.
    ///
    /// # Errors
    /// When it cannot be stored: then it proves nobody.
    pub async fn enter(self: &Arc<Self>, changer: &Arc<Changer>, token: Token, by: &Operator, from: &From) -> Result<(), Refused> {
        let attempt = attempt("createToken", by, from, format!("{} {} for {}", token.role, token.id, token.name));
        let (operatory, changer) = (Arc::clone(self), Arc::clone(changer));
        // In a task of its own: whoever asked may hang up, and what is stored must be known here too.
        let entered = tokio::spawn(async move {
            changer.token(&token.id, Some(&token), attempt).await?;
            operatory.operators.write().unwrap_or_else(PoisonError::into_inner).insert(token);
            Ok(())
        });
        entered.await.unwrap_or(Err(Refused::Defect))
    }

    /// Takes a token away; whether there was one.
    ///
    /// # Errors
    /// When that cannot be stored: then it stays.
    pub async fn revoke(self: &Arc<Self>, changer: &Arc<Changer>, id: &str, by: &Operator, from: &From) -> Result<bool, Refused> {
        if self.operators.read().unwrap_or_else(PoisonError::into_inner).token(id).is_none() {
            return Ok(false);
        }
        let (operatory, changer, id) = (Arc::clone(self), Arc::clone(changer), id.to_owned());
        let attempt = attempt("deleteToken", by, from, id.clone());
        // As above: a token that the store has no more must prove nobody.
        let revoked = tokio::spawn(async move {
            changer.token(&id, None, attempt).await?;
            Ok(operatory.operators.write().unwrap_or_else(PoisonError::into_inner).remove(&id))
        });
        revoked.await.unwrap_or(Err(Refused::Defect))
    }
}

fn attempt(action: &str, by: &Operator, from: &From, about: String) -> Attempt {
    Attempt {
        operator: Some(by.clone()),
        from: from.clone(),
        action: Arc::from(action),
        decision: Decision::Allowed,
        reason: Some(about),
        documents: Vec::new(),
        revision: None,
        at: 0,
    }
}
