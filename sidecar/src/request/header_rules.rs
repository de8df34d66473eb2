//! Header rules: what a route does to the header fields of its requests and answers.
//!
//! Cost: none for routes without rules. Else one look at each field that came, and each field that comes written once; a value
//! without variables is the one that was made when the document was read.
//! A field of which a piece is not known (who asks, on a public route) is left out, and what a client sent under its name is gone
//! all the same: nobody but us says it.

use crate::fields::{Fields, Lines};
use crate::http1::write::field;
use bulkhead_config::snapshot::{FieldValue, HeaderRules, Piece, Variable};
use std::borrow::Cow;
use std::io::Write as _;

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
    fn write(&self, pieces: &[Piece], out: &mut Vec<u8>) -> Option<()> {
        let begun = out.len();
        for piece in pieces {
            let is_known = match piece {
                Piece::Text(text) => say(out, Some(text.as_bytes())),
                Piece::Variable(Variable::Tenant) => say(out, self.tenant.map(str::as_bytes)),
                Piece::Variable(Variable::User) => say(out, self.user.as_deref().map(str::as_bytes)),
                Piece::Variable(Variable::Route) => say(out, Some(self.route.as_bytes())),
                Piece::Variable(Variable::DecisionId) => say(out, Some(&self.decision)),
                // Writing to a Vec cannot fail.
                Piece::Variable(Variable::Source) => write!(out, "{}", self.source).ok(),
            };
            if is_known.is_none() {
                out.truncate(begun);
                return None;
            }
        }
        Some(())
    }
}

fn say(out: &mut Vec<u8>, text: Option<&[u8]>) -> Option<()> {
    out.extend_from_slice(text?);
    Some(())
}

/// Drops what goes.
pub fn drop(rules: &HeaderRules, fields: &mut Fields) {
    if !rules.drop.is_empty() {
        // As an upstream may read it that takes `_` for `-`.
        fields.drop_if(|field| rules.drop.are_read_in(field.name));
    }
}

/// Writes what comes, as lines.
pub fn write(rules: &HeaderRules, known: &Known<'_>, out: &mut Vec<u8>) {
    for line in &rules.write {
        let name = line.name.as_str().as_bytes();
        match &line.value {
            FieldValue::Fixed(value) => field(out, name, value.as_bytes()),
            FieldValue::Made(pieces) => {
                let begun = out.len();
                out.extend_from_slice(name);
                out.extend_from_slice(b": ");
                match known.write(pieces, out) {
                    Some(()) => out.extend_from_slice(b"\r\n"),
                    None => out.truncate(begun),
                }
            }
        }
    }
}

/// Says what comes besides what we say already, of which what goes is taken back.
pub fn enter(rules: &HeaderRules, known: &Known<'_>, own: &mut Lines) {
    if !own.is_empty() && !rules.drop.is_empty() {
        own.drop_if(|name| rules.drop.are_read_in(name));
    }
    write(rules, known, own.end());
}
