//! Paths: one normal form, decided once and before any match, and the patterns that are matched against it.
//!
//! INVARIANT (matched is forwarded): what a pattern is matched against is byte for byte what goes to the upstream.
//! What two parties could read in two ways is refused here, never repaired: encoded slashes, backslashes and NUL, dot
//! segments in any encoding, empty segments, raw non-ASCII, fragments, malformed escapes (RFC 3986 sections 2 and 6.2).
//!
//! Cost: per request; no allocation when the path is already in normal form.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a path can be read in two ways. The message completes "the path …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// It does not begin with `/`.
    #[error("does not begin with `/`")]
    NotAbsolute,
    /// `%2f`, `%5c` or `%00`.
    #[error("hides `{0}` behind an escape, which some servers decode before they split the path and some after")]
    EncodedSeparator(&'static str),
    /// `%` without two hexadecimal digits.
    #[error("has a `%` without two hexadecimal digits after it")]
    Escape,
    /// `.` or `..`, plain, encoded, or with a `;` behind it.
    #[error("has a `.` or `..` segment, which some servers resolve and some do not")]
    DotSegment,
    /// `//`.
    #[error("has an empty segment (`//`), which some servers drop and some keep")]
    EmptySegment,
    /// `\`.
    #[error("has a backslash, which some servers take for `/`")]
    Backslash,
    /// `#`.
    #[error("has a fragment (`#`), which never belongs into a request")]
    Fragment,
    /// A byte that RFC 3986 allows only as an escape.
    #[error("has a byte (0x{0:02x}) that may stand there only percent-encoded")]
    RawByte(u8),
}

/// Bytes that may stand in a path as they are: `pchar` of RFC 3986 section 3.3 without `%`, and `/`.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let bytes = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:@/";
    let mut at = 0;
    while at < bytes.len() {
        #[expect(clippy::indexing_slicing, reason = "a constant: an index out of range would not compile")]
        {
            table[bytes[at] as usize] = true;
        }
        at += 1;
    }
    table
};

fn is_plain(byte: u8) -> bool {
    PLAIN.get(usize::from(byte)).copied().unwrap_or(false)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Brings a path (without query) into its normal form: unreserved characters decoded, hexadecimal digits in upper case.
///
/// # Errors
/// What makes it ambiguous.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, Ambiguous> {
    if !path.starts_with('/') {
        return Err(Ambiguous::NotAbsolute);
    }
    let normal = if path.bytes().all(is_plain) { Cow::Borrowed(path) } else { Cow::Owned(decode(path)?) };
    segments_are_plain(&normal)?;
    Ok(normal)
}

/// Decodes what is unreserved, refuses what must not hide, keeps the rest escaped.
fn decode(path: &str) -> Result<String, Ambiguous> {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let (high, low) = (rest.next().and_then(hex), rest.next().and_then(hex));
                let (Some(high), Some(low)) = (high, low) else { return Err(Ambiguous::Escape) };
                match high << 4 | low {
                    b'/' => return Err(Ambiguous::EncodedSeparator("/")),
                    b'\\' => return Err(Ambiguous::EncodedSeparator("\\")),
                    0 => return Err(Ambiguous::EncodedSeparator("NUL")),
                    decoded if is_unreserved(decoded) => normal.push(char::from(decoded)),
                    decoded => {
                        use fmt::Write as _;
                        // Writing to a String cannot fail.
                        let _ = write!(normal, "%{decoded:02X}");
                    }
                }
            }
            b'\\' => return Err(Ambiguous::Backslash),
            b'#' => return Err(Ambiguous::Fragment),
            byte if is_plain(byte) => normal.push(char::from(byte)),
            byte => return Err(Ambiguous::RawByte(byte)),
        }
    }
    Ok(normal)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// No segment but the last is empty, and none is a dot segment, also not for servers that cut path parameters (`..;x`).
fn segments_are_plain(path: &str) -> Result<(), Ambiguous> {
    // Behind a slash, or there is none: most paths need not be cut.
    let next = path.bytes().skip(1);
    if !path.bytes().zip(next).any(|pair| matches!(pair, (b'/', b'/' | b'.'))) {
        return Ok(());
    }
    let mut segments = segments(path).peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err(Ambiguous::EmptySegment);
        }
        if segment.starts_with('.') {
            let bare = segment.split(';').next().unwrap_or(segment);
            if bare == "." || bare == ".." {
                return Err(Ambiguous::DotSegment);
            }
        }
    }
    Ok(())
}

/// The segments of an absolute path: `/a/b` has two, `/` one that is empty, `/a/` two of which the last is empty.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// One segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Segment {
    /// This text; empty only as the last one, for a trailing slash.
    Literal(Arc<str>),
    /// `{x}`: one segment that is not empty.
    Any(Arc<str>),
    /// Final `**`: one or more segments, the last possibly empty.
    Rest,
}

/// A path pattern: `/v1/items`, `/v1/items/{id}`, `/v1/admin/**`. Case-sensitive; a trailing slash is another path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    segments: Arc<[Segment]>,
}

/// Why a text is no pattern. The message completes "`…` is no path pattern: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAPattern {
    /// As a path it would be ambiguous.
    #[error("a path that {0}")]
    Path(#[from] Ambiguous),
    /// `**` before the end, or beside other text.
    #[error("`**` stands alone and last")]
    Rest,
    /// `{` without `}`, an empty or malformed name, text beside it.
    #[error("a parameter is a whole segment, `{{name}}` with a name of a-z, 0-9 and `_`")]
    Parameter,
    /// The same parameter name twice.
    #[error("parameter `{0}` stands twice")]
    Twice(String),
    /// `*` alone.
    #[error("`*` alone is no wildcard; one segment is `{{name}}`, any number of them `**`")]
    Star,
    /// More than [`Pattern::SEGMENTS_MAX`].
    #[error("it has more than 64 segments")]
    TooLong,
}

impl Pattern {
    /// Segments a pattern may have.
    pub const SEGMENTS_MAX: usize = 64;

    /// Whether a path in normal form matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let mut path = segments(path);
        for segment in &*self.segments {
            match (segment, path.next()) {
                (Segment::Rest, Some(_)) => return true,
                (Segment::Literal(text), Some(found)) if **text == *found => {}
                (Segment::Any(_), Some(found)) if !found.is_empty() => {}
                _ => return false,
            }
        }
        path.next().is_none()
    }

    /// What stands before a final `**`, if all of that is literal; without a slash at its end.
    #[must_use]
    pub fn before_rest(&self) -> Option<String> {
        let (Segment::Rest, before) = self.segments.split_last()? else { return None };
        let mut text = String::new();
        for segment in before {
            let Segment::Literal(literal) = segment else { return None };
            text.push('/');
            text.push_str(literal);
        }
        Some(text)
    }

    /// How the paths of this pattern relate to those of a route's pattern.
    #[must_use]
    pub fn relation(&self, route: &Pattern) -> Relation {
        let mut relation = Relation::Covers;
        let mut theirs = route.segments.iter();
        for ours in &*self.segments {
            match (ours, theirs.next()) {
                (Segment::Rest, Some(_)) => return relation,
                (Segment::Literal(a), Some(Segment::Literal(b))) if a == b => {}
                (Segment::Any(_), Some(Segment::Literal(text))) if !text.is_empty() => {}
                (Segment::Any(_), Some(Segment::Any(_))) => {}
                (Segment::Literal(text), Some(Segment::Any(_))) if !text.is_empty() => relation = Relation::Partial,
                // Whatever of ours is left can be met by one or more segments of theirs, but not by all of them.
                (Segment::Literal(_) | Segment::Any(_), Some(Segment::Rest)) => return Relation::Partial,
                _ => return Relation::Disjoint,
            }
        }
        if theirs.next().is_none() { relation } else { Relation::Disjoint }
    }
}

/// How a rule's pattern relates to a route's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It matches every path of the route.
    Covers,
    /// It matches some: each request's path must be tested.
    Partial,
    /// It matches none.
    Disjoint,
}

impl FromStr for Pattern {
    type Err = NotAPattern;
    fn from_str(text: &str) -> Result<Self, NotAPattern> {
        // Braces are no path characters; with the parameters taken for a plain word, the rest must be a path in normal form.
        let plain: String = text.chars().filter(|c| !matches!(c, '{' | '}')).collect();
        let normal = normalise(&plain)?;
        if normal != plain {
            return Err(NotAPattern::Path(Ambiguous::Escape));
        }
        let mut pattern: Vec<Segment> = Vec::new();
        for written in segments(text) {
            if pattern.last() == Some(&Segment::Rest) {
                return Err(NotAPattern::Rest);
            }
            let segment = Segment::read(written)?;
            if let Segment::Any(name) = &segment
                && pattern.contains(&segment)
            {
                return Err(NotAPattern::Twice(name.to_string()));
            }
            pattern.push(segment);
        }
        if pattern.len() > Self::SEGMENTS_MAX {
            return Err(NotAPattern::TooLong);
        }
        Ok(Self { segments: pattern.into() })
    }
}

impl Segment {
    fn read(written: &str) -> Result<Segment, NotAPattern> {
        if written == "**" {
            return Ok(Segment::Rest);
        }
        if let Some(name) = written.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            return if good { Ok(Segment::Any(name.into())) } else { Err(NotAPattern::Parameter) };
        }
        match written {
            "*" => Err(NotAPattern::Star),
            _ if written.contains("**") => Err(NotAPattern::Rest),
            _ if written.contains(['{', '}']) => Err(NotAPattern::Parameter),
            _ => Ok(Segment::Literal(written.into())),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &*self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Any(name) => write!(f, "/{{{name}}}")?,
                Segment::Rest => f.write_str("/**")?,
            }
        }
        Ok(())
    }
}

/// Patterns with a value each; the most specific that matches a path wins, segment by segment: literal, `{x}`, `**`.
#[derive(Debug, PartialEq)]
pub struct Trie<T> {
    root: Branch<T>,
}

#[derive(Debug, PartialEq)]
struct Branch<T> {
    /// Sorted by text.
    literals: Vec<(Arc<str>, Branch<T>)>,
    any: Option<Box<Branch<T>>>,
    rest: Option<T>,
    here: Option<T>,
}

impl<T> Branch<T> {
    fn new() -> Self {
        Self { literals: Vec::new(), any: None, rest: None, here: None }
    }

    fn literal(&mut self, text: &Arc<str>) -> &mut Branch<T> {
        let at = match self.literals.binary_search_by(|(known, _)| (**known).cmp(text)) {
            Ok(at) => at,
            Err(at) => {
                self.literals.insert(at, (Arc::clone(text), Branch::new()));
                at
            }
        };
        #[expect(clippy::indexing_slicing, reason = "found or inserted at this place just above")]
        &mut self.literals[at].1
    }

    /// Depth first, most specific first. Visits each branch at most once, so the cost is bounded by the patterns there are.
    fn find(&self, path: Option<&str>) -> Option<&T> {
        let Some(path) = path else { return self.here.as_ref() };
        // Segments are short: a search that is made for long texts would take longer to begin.
        let end = path.bytes().position(|byte| byte == b'/').unwrap_or(path.len());
        let (segment, after) = path.split_at_checked(end).unwrap_or((path, ""));
        let after = after.strip_prefix('/');
        if let Ok(at) = self.literals.binary_search_by(|(known, _)| (**known).cmp(segment))
            && let Some(found) = self.literals.get(at).and_then(|(_, branch)| branch.find(after))
        {
            return Some(found);
        }
        if !segment.is_empty()
            && let Some(found) = self.any.as_ref().and_then(|branch| branch.find(after))
        {
            return Some(found);
        }
        self.rest.as_ref()
    }

    fn collect<'a>(&'a self, into: &mut Vec<&'a T>) {
        into.extend(self.here.as_ref());
        for (_, branch) in &self.literals {
            branch.collect(into);
        }
        if let Some(branch) = &self.any {
            branch.collect(into);
        }
        into.extend(self.rest.as_ref());
    }
}

impl<T> Trie<T> {
    /// No pattern yet.
    #[must_use]
    pub fn new() -> Self {
        Self { root: Branch::new() }
    }

    /// Adds a pattern. Two patterns that differ in names of parameters only are the same: the value there is comes back.
    ///
    /// # Errors
    /// The value that is there already, with the one that could not be added.
    pub fn insert(&mut self, pattern: &Pattern, value: T) -> Result<(), (&T, T)> {
        let mut branch = &mut self.root;
        let mut is_rest = false;
        for segment in &*pattern.segments {
            branch = match segment {
                Segment::Literal(text) => branch.literal(text),
                Segment::Any(_) => branch.any.get_or_insert_with(|| Box::new(Branch::new())),
                Segment::Rest => {
                    is_rest = true;
                    break;
                }
            };
        }
        let place = if is_rest { &mut branch.rest } else { &mut branch.here };
        match place {
            Some(there) => Err((there, value)),
            None => {
                *place = Some(value);
                Ok(())
            }
        }
    }

    /// The value of the most specific pattern that matches a path in normal form.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&T> {
        self.root.find(Some(path.strip_prefix('/')?))
    }

    /// Every value, in the order of the patterns.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        let mut all = Vec::new();
        self.root.collect(&mut all);
        all.into_iter()
    }
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn one_path_has_one_normal_form() {
        for (written, normal) in [
            ("/", "/"),
            ("/v1/items/", "/v1/items/"),
            ("/v1/%69tems", "/v1/items"),
            ("/a%20b", "/a%20b"),
            ("/a%c3%a4", "/a%C3%A4"),
            ("/a%2Eb", "/a.b"),
            ("/%7euser", "/~user"),
            ("/a%252fb", "/a%252fb"),
            ("/...", "/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/a;v=1", "/a;v=1"),
        ] {
            assert_eq!(normalise(written).as_deref(), Ok(normal), "{written}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for (written, why) in [
            ("", Ambiguous::NotAbsolute),
            ("v1", Ambiguous::NotAbsolute),
            ("/a%2fb", Ambiguous::EncodedSeparator("/")),
            ("/a%2Fb", Ambiguous::EncodedSeparator("/")),
            ("/a%5cb", Ambiguous::EncodedSeparator("\\")),
            ("/a%00", Ambiguous::EncodedSeparator("NUL")),
            ("/a%", Ambiguous::Escape),
            ("/a%2", Ambiguous::Escape),
            ("/a%zz", Ambiguous::Escape),
            ("/a/../b", Ambiguous::DotSegment),
            ("/a/./b", Ambiguous::DotSegment),
            ("/a/%2e%2e/b", Ambiguous::DotSegment),
            ("/a/.%2e", Ambiguous::DotSegment),
            ("/a/..;/b", Ambiguous::DotSegment),
            ("/..", Ambiguous::DotSegment),
            ("//a", Ambiguous::EmptySegment),
            ("/a//b", Ambiguous::EmptySegment),
            ("/a//", Ambiguous::EmptySegment),
            ("/a\\b", Ambiguous::Backslash),
            ("/a#b", Ambiguous::Fragment),
            ("/ä", Ambiguous::RawByte(0xc3)),
            ("/a b", Ambiguous::RawByte(b' ')),
            ("/a{b}", Ambiguous::RawByte(b'{')),
        ] {
            assert_eq!(normalise(written).err(), Some(why), "{written}");
        }
    }

    #[test]
    fn patterns_match_what_they_say() {
        for (written, path, meant) in [
            ("/v1/items", "/v1/items", true),
            ("/v1/items", "/v1/items/", false),
            ("/v1/items", "/v1/Items", false),
            ("/v1/items/{id}", "/v1/items/7", true),
            ("/v1/items/{id}", "/v1/items/", false),
            ("/v1/items/{id}", "/v1/items", false),
            ("/v1/items/{id}", "/v1/items/7/8", false),
            ("/v1/items/**", "/v1/items", false),
            ("/v1/items/**", "/v1/items/", true),
            ("/v1/items/**", "/v1/items/7/8/", true),
            ("/**", "/", true),
            ("/**", "/a", true),
            ("/", "/", true),
            ("/", "/a", false),
        ] {
            assert_eq!(pattern(written).matches(path), meant, "{written} on {path}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "v1", "/a/**/b", "/a**", "/a/{}", "/a/{Id}", "/{a}/{a}", "/a{id}", "/a/*", "/a//b", "/a/../b", "/%69", "/a b"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_most_specific_route_wins_whatever_came_first() {
        let patterns = ["/**", "/v1/items", "/v1/items/{id}", "/v1/items/new", "/v1/**", "/v1/{kind}/new/x", "/v1/items/"];
        for backwards in [false, true] {
            let mut trie = Trie::new();
            let mut order = patterns.to_vec();
            if backwards {
                order.reverse();
            }
            for text in order {
                assert!(trie.insert(&pattern(text), text).is_ok());
            }
            for (path, meant) in [
                ("/", "/**"),
                ("/v1/items", "/v1/items"),
                ("/v1/items/", "/v1/items/"),
                ("/v1/items/new", "/v1/items/new"),
                ("/v1/items/7", "/v1/items/{id}"),
                // Back from the literal `items` to `{kind}`: `/v1/items/new` has nothing below it.
                ("/v1/items/new/x", "/v1/{kind}/new/x"),
                ("/v1/items/7/8", "/v1/**"),
                ("/v2", "/**"),
            ] {
                assert_eq!(trie.find(path), Some(&meant), "{path}");
            }
        }
    }

    #[test]
    fn patterns_that_differ_in_names_only_are_one_place() {
        let mut trie = Trie::new();
        assert!(trie.insert(&pattern("/a/{x}"), 1).is_ok());
        assert_eq!(trie.insert(&pattern("/a/{y}"), 2).unwrap_err(), (&1, 2));
    }

    #[test]
    fn a_rule_covers_touches_or_misses_a_route() {
        for (rule, route, meant) in [
            ("/**", "/v1/items", Relation::Covers),
            ("/**", "/", Relation::Covers),
            ("/v1/items", "/v1/items", Relation::Covers),
            ("/v1/items/**", "/v1/items", Relation::Disjoint),
            ("/v1/items/**", "/v1/items/{id}", Relation::Covers),
            ("/v1/items/{x}", "/v1/items/{id}", Relation::Covers),
            ("/v1/items/7", "/v1/items/{id}", Relation::Partial),
            ("/v1/admin/audit/**", "/v1/admin/**", Relation::Partial),
            ("/v1/{x}", "/**", Relation::Partial),
            ("/v1/items", "/v2/items", Relation::Disjoint),
            ("/v1/{x}/a", "/v1/{y}/b", Relation::Disjoint),
            ("/v1/{x}", "/v1/", Relation::Disjoint),
        ] {
            assert_eq!(pattern(rule).relation(&pattern(route)), meant, "{rule} on {route}");
        }
    }
}
