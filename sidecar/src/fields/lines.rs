//! Lines: fields that we say, as HTTP/1.1 writes them.
//!
//! Cost: per field; its bytes appended to a buffer that is used again. A map of names to values of their own cost four times as much
//! for answers, which mostly go out as they are written here.
//! Names and values are types that hold no line break, or text that is visible ASCII, so none of them ends a line.

use crate::http1::write::field;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Fields, a line each, in the order they were said.
#[derive(Debug, Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// None, in the memory of a buffer.
    #[must_use]
    pub fn within(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self(buffer)
    }

    /// The memory.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As they are written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Where whole lines are appended.
    pub fn end(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// Says a field, whatever was said under its name.
    pub fn add(&mut self, name: &HeaderName, value: &HeaderValue) {
        field(&mut self.0, name.as_str().as_bytes(), value.as_bytes());
    }

    /// Says a field in place of what was said under its name.
    pub fn set(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.remove(name);
        self.add(name, value);
    }

    /// Takes back what was said under a name.
    pub fn remove(&mut self, name: &HeaderName) {
        self.drop_if(|said| said == name.as_str().as_bytes());
    }

    /// Takes back what was said under names of which this is true.
    pub fn drop_if(&mut self, is_such: impl Fn(&[u8]) -> bool) {
        let (mut at, mut kept) = (0, 0);
        while let Some(length) = self.0.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
            let line = at..=at + length;
            at = line.end() + 1;
            if !self.0.get(line.clone()).and_then(parts).is_some_and(|(name, _)| is_such(name)) {
                self.0.copy_within(line, kept);
                kept += length + 1;
            }
        }
        self.0.truncate(kept);
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.split_inclusive(|byte| *byte == b'\n').filter_map(parts)
    }

    /// As a map, for engines that take one.
    pub fn to_map(&self, map: &mut HeaderMap) {
        for (name, value) in self.iter() {
            // Written here, of names and values that are what they are called.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
    }
}

impl From<&HeaderMap> for Lines {
    fn from(map: &HeaderMap) -> Self {
        let mut lines = Self::default();
        map.iter().for_each(|(name, value)| lines.add(name, value));
        lines
    }
}

/// Name and value of a line.
fn parts(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let value = line.get(colon..)?.strip_prefix(b": ")?.strip_suffix(b"\r\n")?;
    Some((line.get(..colon)?, value))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &'static str)]) -> Lines {
        let mut lines = Lines::within(b"left over".to_vec());
        for (name, value) in fields {
            lines.add(&HeaderName::from_static(name), &HeaderValue::from_static(value));
        }
        lines
    }

    #[test]
    fn what_is_taken_back_is_said_no_more_and_the_rest_stays_in_its_order() {
        let mut lines = of(&[("x-a", "1"), ("x-b", "x-a: 2"), ("x-a", ""), ("x-c", "a:b")]);
        lines.remove(&HeaderName::from_static("x-a"));
        assert_eq!(lines.as_bytes(), b"x-b: x-a: 2\r\nx-c: a:b\r\n");
        lines.set(&HeaderName::from_static("x-b"), &HeaderValue::from_static("3"));
        assert_eq!(lines.as_bytes(), b"x-c: a:b\r\nx-b: 3\r\n");
        lines.drop_if(|_| true);
        assert!(lines.is_empty());
    }

    #[test]
    fn a_map_of_them_says_the_same() {
        let lines = of(&[("x-a", "1"), ("x-b", "a: b"), ("x-a", "")]);
        let mut map = HeaderMap::new();
        lines.to_map(&mut map);
        let all: Vec<_> = map.get_all("x-a").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!((map.len(), all, map.get("x-b").unwrap().to_str().unwrap()), (3, vec!["1", ""], "a: b"));
        assert_eq!(Lines::from(&map).iter().count(), 3);
    }
}
