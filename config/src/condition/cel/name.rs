//! Names that conditions may read, and their types.

use super::tree::Known;
use std::fmt;

/// Static types. `Any` is what a claim is: its type is known per request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    Any,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Time,
    Span,
    Address,
    List(Box<Type>),
    /// A map that is written in the condition: names to values of one type.
    Map(Box<Type>),
    Claims,
    /// Header fields or query parameters: read one by one, by a name that is written there.
    Named(Named),
    /// `request`, `tenant` or `source`: no value, only fields.
    Group(Group),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Headers,
    Query,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Request,
    Tenant,
    Source,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Any => "a claim's value",
            Type::Null => "null",
            Type::Bool => "a bool",
            Type::Int => "an int",
            Type::Uint => "a uint",
            Type::Double => "a double",
            Type::Text => "a string",
            Type::Time => "a timestamp",
            Type::Span => "a duration",
            Type::Address => "an address",
            Type::List(_) => "a list",
            Type::Map(_) => "a map",
            Type::Claims => "the map of claims",
            Type::Named(Named::Headers) => "the map of headers",
            Type::Named(Named::Query) => "the map of query parameters",
            Type::Group(group) => return write!(f, "the group `{}`", group.name()),
        })
    }
}

impl Type {
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Type::Int | Type::Uint | Type::Double)
    }

    /// Whether there are values of it: of a group only its fields have one, of headers only each of them.
    pub(super) fn is_of_values(&self) -> bool {
        !matches!(self, Type::Named(_) | Type::Group(_))
    }

    /// Whether a value of it holds no others.
    pub(super) fn is_plain(&self) -> bool {
        self.is_of_values() && !matches!(self, Type::Any | Type::List(_) | Type::Map(_) | Type::Claims)
    }

    /// Whether a value of one may be a value of the other.
    pub(super) fn fits(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Any, other) | (other, Type::Any) => other.is_of_values(),
            (Type::List(a), Type::List(b)) | (Type::Map(a), Type::Map(b)) => a.fits(b),
            (Type::Map(a), Type::Claims) | (Type::Claims, Type::Map(a)) => a.fits(&Type::Any),
            // An address compares with its text.
            (Type::Address, Type::Text) | (Type::Text, Type::Address) => true,
            (Type::Named(_) | Type::Group(_), _) => false,
            (a, b) => a == b,
        }
    }
}

/// What stands alone.
pub(super) const ROOTS: [&str; 5] = ["request", "claims", "tenant", "source", "now"];

impl Group {
    pub(super) fn name(self) -> &'static str {
        match self {
            Group::Request => "request",
            Group::Tenant => "tenant",
            Group::Source => "source",
        }
    }

    /// Its fields.
    pub(super) fn fields(self) -> &'static [(&'static str, Field)] {
        use Field::{Is, Map};
        match self {
            Group::Request => &[
                ("method", Is(Known::Method)),
                ("path", Is(Known::Path)),
                ("host", Is(Known::Host)),
                ("route", Is(Known::Route)),
                ("size", Is(Known::Size)),
                ("headers", Map(Named::Headers)),
                ("query", Map(Named::Query)),
            ],
            Group::Tenant => &[("id", Is(Known::TenantId)), ("plan", Is(Known::TenantPlan)), ("features", Is(Known::TenantFeatures))],
            Group::Source => &[("address", Is(Known::SourceAddress))],
        }
    }
}

/// A field of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Is(Known),
    Map(Named),
}

impl Known {
    pub(super) fn type_of(self) -> Type {
        match self {
            Known::Size => Type::Int,
            Known::TenantFeatures => Type::List(Box::new(Type::Text)),
            Known::SourceAddress => Type::Address,
            Known::Now => Type::Time,
            Known::Method | Known::Path | Known::Host | Known::Route | Known::TenantId | Known::TenantPlan => Type::Text,
        }
    }

    /// Whether only the request itself knows it, so that it must be kept with a decision.
    pub(super) fn is_kept(self) -> bool {
        self == Known::Size
    }
}
