//! The compiled form: a small tree in which every name, function and pattern is resolved.

use super::At;
use super::moment::Part;
use super::value::Value;
use ipnet::IpNet;
use jiff::tz::TimeZone;

/// One part of a condition, with its place in the text.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) at: At,
    pub(super) op: Op,
}

/// What a part does.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// A value written there, or a list or a map of such.
    Const(Value<'static>),
    /// Something that is known of each request.
    Known(Known),
    /// All claims.
    Claims,
    /// A header field by its name.
    Header(Box<str>),
    /// A query parameter by its name.
    Parameter(Box<str>),
    /// Whether there is such a field.
    HasHeader(Box<str>),
    /// Whether there is such a parameter.
    HasParameter(Box<str>),
    /// The item of a macro, so many macros further out.
    Item(u8),
    /// An entry of a map.
    Entry(Box<Tree>, Box<str>),
    /// Whether a map has such an entry.
    HasEntry(Box<Tree>, Box<str>),
    /// An item of a list, or an entry of a map.
    Index(Box<[Tree; 2]>),
    Not(Box<Tree>),
    Minus(Box<Tree>),
    And(Box<[Tree; 2]>),
    Or(Box<[Tree; 2]>),
    Choice(Box<[Tree; 3]>),
    /// Whether two are equal, or not.
    Equal(Box<[Tree; 2]>, bool),
    Order(Box<[Tree; 2]>, Order),
    Arithmetic(Box<[Tree; 2]>, Arithmetic),
    In(Box<[Tree; 2]>),
    /// Whether one string is somehow in another.
    Text(Box<[Tree; 2]>, Within),
    Size(Box<Tree>),
    /// Whether a pattern, by its number, is somewhere in a string.
    Matches(Box<Tree>, usize),
    InBlock(Box<Tree>, IpNet),
    Convert(Box<Tree>, Into),
    /// A part of a moment, by the clock of a zone; or of a duration.
    Moment(Box<Tree>, Part, Option<TimeZone>),
    /// A macro: a list, and what is asked of each item.
    Each(Box<[Tree; 2]>, Quantifier),
    /// A list, and what is asked of an item that is kept.
    Filter(Box<[Tree; 2]>),
    /// A list, what is asked of an item that counts, and what becomes of it.
    Map(Box<[Tree; 3]>),
}

/// What is known of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Method,
    Path,
    Host,
    Route,
    Size,
    TenantId,
    TenantPlan,
    TenantFeatures,
    SourceAddress,
    Now,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Plus,
    Minus,
    Times,
    By,
    Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    Start,
    End,
    Anywhere,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    Int,
    Uint,
    Double,
    Text,
    Time,
    Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantifier {
    All,
    Exists,
    ExistsOne,
}
