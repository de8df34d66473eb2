//! Host: the name a request is for, as hosts are compared: in lower case, without port and without one trailing dot.
//!
//! Cost: per request; no allocation unless it has capital letters.

use bytes::Bytes;

/// A host and, where it was named, its port.
#[derive(Debug, Clone)]
pub struct Host {
    /// In lower case; what goes to the upstream.
    value: Bytes,
    /// Bytes of the name.
    name: usize,
    /// Where the port's digits begin.
    port: usize,
}

/// Why a text names no host. The message completes "the host …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAHost {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// A character that is in no host name.
    #[error("has a character that stands in no host name")]
    Character,
    /// Digits missing or too many.
    #[error("has a port that is no number up to 65535")]
    Port,
    /// More than 253 bytes.
    #[error("is longer than the 253 bytes that names have")]
    TooLong,
}

impl Host {
    /// Reads the value of a Host field or an authority: no user, a name or an address literal, perhaps a port.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(value: Bytes) -> Result<Host, NotAHost> {
        let bytes = &*value;
        let (end, has_capitals) = end_of_name(bytes)?;
        let (name, rest) = bytes.split_at_checked(end).ok_or(NotAHost::Character)?;
        let port = match rest {
            [] => end,
            [b':', digits @ ..] if is_port(digits) => end + 1,
            [b':', ..] => return Err(NotAHost::Port),
            _ => return Err(NotAHost::Character),
        };
        let bare = name.strip_suffix(b".").unwrap_or(name).len();
        match bare {
            0 => return Err(NotAHost::Empty),
            254.. => return Err(NotAHost::TooLong),
            _ => {}
        }
        if !has_capitals {
            return Ok(Host { name: bare, port, value });
        }
        let lower = bytes.to_ascii_lowercase();
        Ok(Host { name: bare, port, value: lower.into() })
    }

    /// The name alone.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII passes `read`.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The name alone, of which nobody asks that it be text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.value.get(..self.name).unwrap_or_default()
    }

    /// Name and port, as a Host field for the upstream.
    #[must_use]
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// The port, if it is named.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        std::str::from_utf8(self.digits()).ok()?.parse().ok()
    }

    /// The same, where nothing else of it is needed.
    #[must_use]
    pub fn into_value(self) -> Bytes {
        self.value
    }

    /// Whether both mean one place: the same name, and the same port where both name one.
    #[must_use]
    pub fn same_place(&self, other: &Host) -> bool {
        let (ours, theirs) = (self.digits(), other.digits());
        self.as_str() == other.as_str() && (ours == theirs || ours.is_empty() || theirs.is_empty())
    }

    fn digits(&self) -> &[u8] {
        self.value.get(self.port..).unwrap_or_default()
    }
}

/// What a byte is in a name.
#[derive(Clone, Copy)]
enum Class {
    Plain,
    Capital,
    Colon,
    None,
}

/// One look at each byte instead of three comparisons: every request has a host.
const CLASS: [Class; 256] = {
    let mut class = [Class::None; 256];
    let mut byte = 0;
    while byte < class.len() {
        #[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "byte < 256; made by the compiler")]
        {
            class[byte] = match byte as u8 {
                b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' => Class::Plain,
                b'A'..=b'Z' => Class::Capital,
                b':' => Class::Colon,
                _ => Class::None,
            };
        }
        byte += 1;
    }
    class
};

/// Where the name ends, which is at the colon before a port or behind the bracket of an IPv6 literal, and whether it has capitals.
fn end_of_name(bytes: &[u8]) -> Result<(usize, bool), NotAHost> {
    if bytes.first() == Some(&b'[') {
        let end = bytes.iter().position(|&b| b == b']').ok_or(NotAHost::Character)?;
        let inside = bytes.get(1..end).unwrap_or_default();
        let good = !inside.is_empty() && inside.iter().all(|&b| b.is_ascii_hexdigit() || b == b':' || b == b'.');
        let has_capitals = inside.iter().any(u8::is_ascii_uppercase);
        return if good { Ok((end + 1, has_capitals)) } else { Err(NotAHost::Character) };
    }
    let mut has_capitals = false;
    for (at, byte) in bytes.iter().enumerate() {
        match CLASS.get(usize::from(*byte)) {
            Some(Class::Plain) => {}
            Some(Class::Capital) => has_capitals = true,
            Some(Class::Colon) => return Ok((at, has_capitals)),
            _ => return Err(NotAHost::Character),
        }
    }
    Ok((bytes.len(), has_capitals))
}

fn is_port(digits: &[u8]) -> bool {
    let number = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
    number.is_some_and(|number| number.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_compared_in_lower_case_without_port_and_trailing_dot() {
        for (written, name) in [
            ("acme.localhost", Ok("acme.localhost")),
            ("Acme.LocalHost.:8080", Ok("acme.localhost")),
            ("127.0.0.1:80", Ok("127.0.0.1")),
            ("[::1]:80", Ok("[::1]")),
            ("", Err(NotAHost::Empty)),
            (".", Err(NotAHost::Empty)),
            (":80", Err(NotAHost::Empty)),
            ("a:", Err(NotAHost::Port)),
            ("a:+1", Err(NotAHost::Port)),
            ("a:65536", Err(NotAHost::Port)),
            ("a:1:2", Err(NotAHost::Port)),
            ("user@a", Err(NotAHost::Character)),
            ("a b", Err(NotAHost::Character)),
            ("a/b", Err(NotAHost::Character)),
            ("[::1", Err(NotAHost::Character)),
            ("[]", Err(NotAHost::Character)),
            ("[::1]x", Err(NotAHost::Character)),
            ("a,b", Err(NotAHost::Character)),
        ] {
            let host = Host::read(Bytes::from_static(written.as_bytes()));
            assert_eq!(host.as_ref().map(Host::as_str).map_err(|e| *e), name, "{written}");
        }
    }
}
