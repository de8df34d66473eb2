//! Header rules: what a route does to the header fields of its requests and answers.
//!
//! Cost: none for routes without rules. Else one look at each field that came, and each field that comes written once.
//! A field of which a piece is not known (who asks, on a public route) is left out, and what a client sent under its name is gone
//! all the same: nobody but us says it.

use crate::fields::Fields;
use bulkhead_config::snapshot::{HeaderLine, HeaderRules, Piece, Variable};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;

/// What the variables stand for.
pub struct Known<'a> {
    /// The tenant, if it was proved, or named where nothing is asked.
    pub tenant: Option<&'a str>,
    /// The user, as it may stand in a field.
    pub user: Option<Cow<'a, str>>,
    /// The route.
    pub route: &'a str,
    /// The decision.
    pub decision: [u8; 18],
    /// The client.
    pub source: std::net::IpAddr,
}

impl Known<'_> {
    /// Writes a value to the end of `out`; nothing, if a piece of it is not known.
    fn write(&self, line: &HeaderLine, out: &mut Vec<u8>) -> Option<()> {
        let begun = out.len();
        for piece in &line.value {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Variable(variable) => match self.of(*variable) {
                    Some(text) => out.extend_from_slice(&text),
                    None => {
                        out.truncate(begun);
                        return None;
                    }
                },
            }
        }
        Some(())
    }

    fn of(&self, variable: Variable) -> Option<Cow<'_, [u8]>> {
        Some(match variable {
            Variable::Tenant => self.tenant?.as_bytes().into(),
            Variable::User => self.user.as_deref()?.as_bytes().into(),
            Variable::Route => self.route.as_bytes().into(),
            Variable::DecisionId => self.decision[..].into(),
            Variable::Source => self.source.to_string().into_bytes().into(),
        })
    }
}

/// Drops what goes.
pub fn drop(rules: &HeaderRules, fields: &mut Fields) {
    if !rules.drop.is_empty() {
        // As an upstream may read it that takes `_` for `-`.
        fields.drop_if(|field| rules.drop.iter().any(|name| is_read_as(field.name, name.as_bytes())));
    }
}

fn is_read_as(name: &[u8], known: &[u8]) -> bool {
    let spelled = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.len() == known.len() && name.iter().zip(known).all(|(one, other)| spelled(*one) == spelled(*other))
}

/// Writes what comes, as lines.
pub fn write(rules: &HeaderRules, known: &Known<'_>, out: &mut Vec<u8>) {
    for line in &rules.write {
        let begun = out.len();
        out.extend_from_slice(line.name.as_bytes());
        out.extend_from_slice(b": ");
        match known.write(line, out) {
            Some(()) => out.extend_from_slice(b"\r\n"),
            None => out.truncate(begun),
        }
    }
}

/// Enters what comes into a map.
pub fn enter(rules: &HeaderRules, known: &Known<'_>, map: &mut HeaderMap) {
    let mut value = Vec::new();
    for line in &rules.write {
        value.clear();
        // Both were read as what they are.
        if known.write(line, &mut value).is_some()
            && let (Ok(name), Ok(value)) = (HeaderName::from_bytes(line.name.as_bytes()), HeaderValue::from_bytes(&value))
        {
            map.append(name, value);
        }
    }
}
