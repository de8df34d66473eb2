//! Fields: the header section of a message as a list, in the order it came, over the one buffer it came in.
//!
//! Cost: per field; sixteen bytes in a list that is used again, no allocation, no hash. What is asked for is known by number, so
//! that a look for it compares bytes of a list of a few, and for what is not there one bit; what is dropped is marked, not moved.
//! A map of names to values of their own cost a fifth of a plain request: most fields are only passed on.

mod lines;

pub use lines::Lines;

use bulkhead_config::condition;
use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::ops::Range;

macro_rules! names {
    ($($length:literal => { $($(#[$doc:meta])* $name:ident = $text:literal,)* })*) => {
        /// Names that somebody on the path of a request asks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Name {
            $($($(#[$doc])* $name,)*)*
            /// Any other.
            Other,
        }

        impl Name {
            /// Every name but `Other`, with its text.
            #[cfg(test)]
            const ALL: &'static [(Name, &'static [u8])] = &[$($((Name::$name, $text),)*)*];

            /// The name that these bytes are, in lower case. By length first: a comparison with each would cost more than all else
            /// that is done with a field.
            fn of(text: &[u8]) -> Name {
                match text.len() {
                    $($length => match text {
                        $($text => Name::$name,)*
                        _ => Name::Other,
                    },)*
                    _ => Name::Other,
                }
            }
        }
    };
}

names! {
    2 => {
        /// `TE`
        Te = b"te",
    }
    4 => {
        /// `Host`
        Host = b"host",
        /// `Date`
        Date = b"date",
    }
    6 => {
        /// `Expect`
        Expect = b"expect",
        /// `Accept`
        Accept = b"accept",
        /// `Cookie`
        Cookie = b"cookie",
    }
    7 => {
        /// `Upgrade`
        Upgrade = b"upgrade",
    }
    9 => {
        /// `Forwarded`
        Forwarded = b"forwarded",
    }
    10 => {
        /// `Connection`
        Connection = b"connection",
        /// `Keep-Alive`
        KeepAlive = b"keep-alive",
        /// `Tracestate`
        Tracestate = b"tracestate",
    }
    11 => {
        /// `Traceparent`
        Traceparent = b"traceparent",
    }
    12 => {
        /// `Content-Type`
        ContentType = b"content-type",
    }
    13 => {
        /// `Authorization`
        Authorization = b"authorization",
    }
    14 => {
        /// `Content-Length`
        ContentLength = b"content-length",
    }
    15 => {
        /// `X-Forwarded-For`
        ForwardedFor = b"x-forwarded-for",
    }
    16 => {
        /// `Proxy-Connection`
        ProxyConnection = b"proxy-connection",
        /// `X-Forwarded-Host`
        ForwardedHost = b"x-forwarded-host",
    }
    17 => {
        /// `Transfer-Encoding`
        TransferEncoding = b"transfer-encoding",
        /// `X-Forwarded-Proto`
        ForwardedProto = b"x-forwarded-proto",
    }
    18 => {
        /// `Proxy-Authenticate`
        ProxyAuthenticate = b"proxy-authenticate",
    }
    19 => {
        /// `Proxy-Authorization`
        ProxyAuthorization = b"proxy-authorization",
    }
}

/// One field.
#[derive(Debug, Clone, Copy)]
struct Place {
    name: Name,
    is_dropped: bool,
    /// Bytes of the name.
    length: u16,
    /// Where it begins.
    start: u32,
    value: (u32, u32),
}

impl Place {
    fn name(&self) -> Range<usize> {
        let start = self.start as usize;
        start..start + usize::from(self.length)
    }

    fn value(&self) -> Range<usize> {
        self.value.0 as usize..self.value.1 as usize
    }
}

/// Something is longer than a header section can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a field is longer than fields can be")]
pub struct TooLong;

/// A header section. Names are in lower case.
#[derive(Debug, Default, Clone)]
pub struct Fields {
    text: Bytes,
    list: Vec<Place>,
    noted: Noted,
}

/// Which names were noted, as bits: most of what is asked for is not there.
#[derive(Debug, Default, Clone, Copy)]
struct Noted(u32);

impl Noted {
    fn add(&mut self, name: Name) {
        self.0 |= 1 << name as u32;
    }

    fn has(self, name: Name) -> bool {
        self.0 & (1 << name as u32) != 0
    }
}

// Every name has its bit.
const _: () = assert!((Name::Other as u32) < u32::BITS);

/// One field of a section.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// Which of the known ones it is.
    pub known: Name,
    /// Its name.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

impl Field<'_> {
    /// Its name as text.
    #[must_use]
    pub fn name_str(&self) -> &str {
        // Names are tokens (RFC 9110 section 5.1), which are ASCII.
        std::str::from_utf8(self.name).unwrap_or_default()
    }
}

impl Fields {
    /// None, keeping the memory of the list.
    pub fn clear(&mut self) {
        self.text = Bytes::new();
        self.list.clear();
        self.noted = Noted::default();
    }

    /// Notes that a field has its name and its value at these places of `text`, and writes the name in lower case.
    ///
    /// # Errors
    /// They are longer than fields can be.
    pub(crate) fn note(&mut self, text: &mut [u8], name: Range<usize>, value: Range<usize>) -> Result<(), TooLong> {
        text.get_mut(name.clone()).ok_or(TooLong)?.make_ascii_lowercase();
        self.note_lower(text, name, value)
    }

    /// The same of a name that is in lower case already.
    ///
    /// # Errors
    /// They are longer than fields can be.
    pub(crate) fn note_lower(&mut self, text: &[u8], name: Range<usize>, value: Range<usize>) -> Result<(), TooLong> {
        let known = Name::of(text.get(name.clone()).ok_or(TooLong)?);
        let length = u16::try_from(name.len()).map_err(|_| TooLong)?;
        let place = |at: usize| u32::try_from(at).map_err(|_| TooLong);
        let place =
            Place { name: known, is_dropped: false, length, start: place(name.start)?, value: (place(value.start)?, place(value.end)?) };
        self.list.push(place);
        self.noted.add(known);
        Ok(())
    }

    /// What the noted places are places of.
    pub(crate) fn over(&mut self, text: Bytes) {
        self.text = text;
    }

    /// All that are not dropped, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.list.iter().filter(|place| !place.is_dropped).map(|place| self.field(place))
    }

    fn field(&self, place: &Place) -> Field<'_> {
        let at = |range: Range<usize>| self.text.get(range).unwrap_or_default();
        Field { known: place.name, name: at(place.name()), value: at(place.value()) }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Every value of a name.
    pub fn get_all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let places = self.places(name).iter().filter(move |place| place.name == name && !place.is_dropped);
        places.map(|place| self.text.get(place.value()).unwrap_or_default())
    }

    /// Where a name may stand.
    fn places(&self, name: Name) -> &[Place] {
        if self.noted.has(name) { &self.list } else { &[] }
    }

    /// The first value of a name.
    #[must_use]
    pub fn get(&self, name: Name) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The first value of a name, sharing the buffer.
    #[must_use]
    pub fn share(&self, name: Name) -> Option<Bytes> {
        let place = self.places(name).iter().find(|place| place.name == name && !place.is_dropped)?;
        Some(self.text.slice(place.value()))
    }

    /// Every value of a name that need not be a known one.
    pub fn get_named(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        self.iter().filter(move |field| field.name == name.as_str().as_bytes()).map(|field| field.value)
    }

    /// Every value of a name as text; what is not visible ASCII is left out.
    pub fn texts(&self, name: Name) -> impl Iterator<Item = &str> {
        self.get_all(name).filter_map(visible)
    }

    /// Drops every field of which this is true.
    pub fn drop_if(&mut self, is_such: impl Fn(Field<'_>) -> bool) {
        let Self { text, list, .. } = self;
        for place in list {
            let at = |range: Range<usize>| text.get(range).unwrap_or_default();
            place.is_dropped |= is_such(Field { known: place.name, name: at(place.name()), value: at(place.value()) });
        }
    }

    /// Drops every field of some names.
    pub fn remove_all(&mut self, names: &[Name]) {
        names.iter().for_each(|name| self.remove(*name));
    }

    /// Drops every field of a name.
    pub fn remove(&mut self, name: Name) {
        if self.noted.has(name) {
            for place in &mut self.list {
                place.is_dropped |= place.name == name;
            }
        }
    }

    /// Drops every field of a name but the first.
    pub fn keep_first(&mut self, name: Name) {
        for place in self.list.iter_mut().filter(|place| place.name == name).skip(1) {
            place.is_dropped = true;
        }
    }

    /// Writes the fields that are not dropped and that `passes` lets pass, a line each. What came as it is written goes in runs.
    pub fn write(&self, out: &mut Vec<u8>, passes: impl Fn(Name) -> bool) {
        let mut run = 0..0;
        let copy = |out: &mut Vec<u8>, run: Range<usize>| out.extend_from_slice(self.text.get(run).unwrap_or_default());
        for place in self.list.iter().filter(|place| !place.is_dropped && passes(place.name)) {
            let (name, value) = (place.name(), place.value());
            let is_line = self.text.get(name.end..value.start) == Some(b": ") && self.text.get(value.end..value.end + 2) == Some(b"\r\n");
            if is_line && run.end == name.start {
                run.end = value.end + 2;
                continue;
            }
            copy(out, std::mem::replace(&mut run, 0..0));
            if is_line {
                run = name.start..value.end + 2;
            } else {
                copy(out, name);
                out.extend_from_slice(b": ");
                copy(out, value);
                out.extend_from_slice(b"\r\n");
            }
        }
        copy(out, run);
    }

    /// As a map, for engines that take one.
    pub fn to_map(&self, map: &mut HeaderMap) {
        map.reserve(self.list.len());
        for field in self.iter() {
            // Both were read as what they are; a list of another kind is not made.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(field.value)) {
                map.append(name, value);
            }
        }
    }
}

/// Whether a value begins with this media type, which is written in lower case: types have no case (RFC 9110 section 8.3.1). The
/// last byte is compared first, because most types begin alike.
#[must_use]
pub fn begins_with_type(value: &[u8], kind: &[u8]) -> bool {
    let last = |text: &[u8]| text.last().map(u8::to_ascii_lowercase);
    value.get(..kind.len()).is_some_and(|start| last(start) == last(kind) && start.eq_ignore_ascii_case(kind))
}

/// A value as text, if it is visible ASCII.
#[must_use]
pub fn visible(value: &[u8]) -> Option<&str> {
    // Whole, without a way out in between, so that the compiler looks at many bytes at once: a token is long.
    let is_visible = value.iter().fold(true, |all, byte| all & matches!(byte, b' '..=b'~' | b'\t'));
    std::str::from_utf8(value).ok().filter(|_| is_visible)
}

/// As conditions of rules look for them.
impl condition::Fields for Fields {
    fn find(&self, name: &str) -> condition::Found<'_> {
        // A field that `Connection` names ends at this hop: the upstream does not see what a rule would have matched.
        let tokens = self.get_all(Name::Connection).flat_map(|value| value.split(|&byte| byte == b','));
        if tokens.into_iter().any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_bytes())) {
            return condition::Found::Unclear;
        }
        condition::Found::of(self.iter().filter(|field| field.name == name.as_bytes()).map(|field| field.value))
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        let mut text = BytesMut::with_capacity(map.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum());
        let mut fields = Fields { list: Vec::with_capacity(map.len()), ..Fields::default() };
        for (name, value) in map {
            let start = text.len();
            text.extend_from_slice(name.as_str().as_bytes());
            let middle = text.len();
            text.extend_from_slice(b": ");
            // Blanks at its ends belong to no value (RFC 9113 section 8.2.1), and in HTTP/1 nobody would read them as its.
            text.extend_from_slice(value.as_bytes().trim_ascii());
            let end = text.len();
            text.extend_from_slice(b"\r\n");
            // An engine's bounds on a section are far below what a place can tell.
            if fields.note(&mut text, start..middle, middle + 2..end).is_err() {
                text.truncate(start);
            }
        }
        fields.over(text.freeze());
        fields
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &'static str)]) -> Fields {
        let mut all = HeaderMap::new();
        for (name, value) in fields {
            all.append(*name, HeaderValue::from_static(value));
        }
        Fields::from(&all)
    }

    #[test]
    fn every_known_name_is_known_by_its_text_and_no_other() {
        for (name, text) in Name::ALL {
            assert_eq!(Name::of(text), *name);
        }
        for other in ["", "hosts", "x-forwarded", "HOST", "tee"] {
            assert_eq!(Name::of(other.as_bytes()), Name::Other, "{other}");
        }
    }

    #[test]
    fn what_is_dropped_is_no_longer_there() {
        let mut fields = of(&[("host", "a"), ("x-mine", "1"), ("accept", "b"), ("accept", "c")]);
        fields.remove(Name::Accept);
        fields.drop_if(|field| field.name == b"x-mine");
        assert_eq!((fields.len(), fields.get(Name::Accept), fields.get(Name::Host)), (1, None, Some(&b"a"[..])));
        assert_eq!(fields.get_named(&"x-mine".parse().unwrap()).count(), 0);
    }

    #[test]
    fn a_section_answers_for_its_own_fields_and_none_of_the_last() {
        let mut fields = of(&[("host", "a"), ("x-mine", "1")]);
        assert_eq!((fields.get(Name::Host), fields.get(Name::Accept)), (Some(&b"a"[..]), None));
        fields.clear();
        let mut text = *b"Accept: b\r\n";
        fields.note(&mut text, 0..6, 8..9).unwrap();
        fields.over(Bytes::copy_from_slice(&text));
        assert_eq!((fields.get(Name::Host), fields.get(Name::Accept)), (None, Some(&b"b"[..])));
        fields.remove_all(&[Name::Host, Name::Accept]);
        assert!(fields.is_empty());
    }

    #[test]
    fn lines_are_written_as_they_are_whatever_stands_between_them() {
        let mut text = *b"Host: a\r\nX-Mine:1\r\nAccept: b\r\nCookie: c\r\nX-Last: \r\n";
        let mut fields = Fields::default();
        for (name, value) in [(0..4, 6..7), (9..15, 16..17), (19..25, 27..28), (30..36, 38..39), (41..47, 49..49)] {
            fields.note(&mut text, name, value).unwrap();
        }
        fields.over(Bytes::copy_from_slice(&text));
        let mut out = Vec::new();
        fields.write(&mut out, |name| name != Name::Cookie);
        assert_eq!(String::from_utf8(out).unwrap(), "host: a\r\nx-mine: 1\r\naccept: b\r\nx-last: \r\n");
    }

    #[test]
    fn a_value_is_text_if_every_byte_of_it_is_visible_wherever_it_stands() {
        for length in [0, 1, 7, 31, 32, 33, 100] {
            let text = "t\t ~".repeat(25);
            assert_eq!(visible(&text.as_bytes()[..length]), Some(&text[..length]));
            for (at, byte) in (0..length).flat_map(|at| [0, 0x1f, 0x7f, 0x80, 0xff].map(|byte| (at, byte))) {
                let mut bytes = text.as_bytes()[..length].to_vec();
                bytes[at] = byte;
                assert_eq!(visible(&bytes), None, "{byte:#x} at {at} of {length}");
            }
        }
    }

    #[test]
    fn blanks_around_a_value_are_none_of_it() {
        let fields = of(&[("accept", " \ta b\t"), ("x-blank", " ")]);
        assert_eq!(fields.iter().map(|field| field.value).collect::<Vec<_>>(), [&b"a b"[..], b""]);
    }

    #[test]
    fn a_map_is_the_same_there_and_back() {
        let fields = of(&[("host", "a"), ("accept", "b"), ("accept", "c"), ("x-empty", "")]);
        let mut map = HeaderMap::new();
        fields.to_map(&mut map);
        let all: Vec<_> = map.get_all("accept").iter().collect();
        assert_eq!(
            (map.len(), all, map.get("x-empty").unwrap()),
            (4, vec![&HeaderValue::from_static("b"), &HeaderValue::from_static("c")], &HeaderValue::from_static(""))
        );
    }
}
