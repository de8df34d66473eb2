//! Chunks: a chunked body, decoded as it arrives (RFC 9112 section 7.1).
//!
//! Cost: per chunk; its size line looked at once, its bytes shared with the buffer they came in.
//! Lines end in CRLF and nothing else, a size has at most 16 digits, extensions are skipped within a bound, trailers are fields.

use super::Malformed;
use super::section::{Section, Untidy};
use crate::fields::Fields;
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use httparse::{EMPTY_HEADER, Status};

/// Bytes of a size line with its extensions.
const LINE_BYTES_MAX: usize = 1 << 10;
/// Bytes of size lines beyond what goes with a chunk: a size, and extensions of twice the chunk's size. Nothing is done with
/// extensions, so who sends more of them than of the body is after what reading them costs.
const EXTRA_BYTES_MAX: u64 = 16 << 10;
const BYTES_OF_A_SIZE: u64 = 16;
/// Bytes of trailers.
const TRAILER_BYTES_MAX: usize = 16 << 10;
/// Fields of trailers.
const TRAILERS_MAX: usize = 64;

/// Where in a body the decoder stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Size,
    Data(u64),
    /// CRLF behind the bytes of a chunk.
    DataEnd,
    Trailers,
    Done,
}

/// A decoder of one body.
#[derive(Debug, Default)]
pub struct Chunks {
    place: Place,
    /// Bytes of size lines that no chunk has paid for.
    extra_bytes: u64,
    /// Bytes of trailers that were looked at and held no end.
    seen: usize,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Nothing before more bytes arrive.
    Incomplete,
    /// Bytes of the body.
    Data(Bytes),
    /// The end, with trailers if there are any.
    End(Option<HeaderMap>),
}

impl Chunks {
    /// Takes the next piece out of `input`.
    ///
    /// # Errors
    /// Why it is none.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            self.place = match self.place {
                Place::Size => match line(input, LINE_BYTES_MAX)? {
                    None => return Ok(Piece::Incomplete),
                    Some(line) => match self.paid_for(&line, size(&line)?)? {
                        0 => Place::Trailers,
                        size => Place::Data(size),
                    },
                },
                Place::Data(_) if input.is_empty() => return Ok(Piece::Incomplete),
                Place::Data(left) => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let data = input.split_to(length).freeze();
                    let left = left.saturating_sub(length as u64);
                    self.place = if left == 0 { Place::DataEnd } else { Place::Data(left) };
                    return Ok(Piece::Data(data));
                }
                Place::DataEnd => match (input.first(), input.get(1)) {
                    (Some(b'\r'), Some(b'\n')) => {
                        input.advance(2);
                        Place::Size
                    }
                    (None | Some(b'\r'), None) => return Ok(Piece::Incomplete),
                    _ => return Err(Malformed::Chunk),
                },
                // Without a new line end nothing is new to a parser.
                Place::Trailers if self.seen > 0 && !has_line_end(input, self.seen) => {
                    self.seen = input.len();
                    return Ok(Piece::Incomplete);
                }
                Place::Trailers => match trailers(input)? {
                    None => {
                        self.seen = input.len();
                        return Ok(Piece::Incomplete);
                    }
                    Some(trailers) => {
                        self.place = Place::Done;
                        return Ok(Piece::End(trailers));
                    }
                },
                Place::Done => return Ok(Piece::End(None)),
            };
        }
    }
}

impl Chunks {
    /// The size of a chunk, unless what its line has besides is too much.
    fn paid_for(&mut self, line: &[u8], size: u64) -> Result<u64, Malformed> {
        let paid = size.saturating_mul(2).saturating_add(BYTES_OF_A_SIZE);
        self.extra_bytes = (self.extra_bytes + line.len() as u64).saturating_sub(paid);
        if self.extra_bytes > EXTRA_BYTES_MAX { Err(Malformed::Chunk) } else { Ok(size) }
    }
}

/// Whether a line ends behind the bytes that were looked at, or there are more of them than trailers have.
fn has_line_end(input: &[u8], seen: usize) -> bool {
    input.len() >= TRAILER_BYTES_MAX || input.get(seen..).unwrap_or_default().contains(&b'\n')
}

/// A line without its CRLF; nothing while it is not whole.
fn line(input: &mut BytesMut, most: usize) -> Result<Option<Bytes>, Malformed> {
    match input.iter().take(most).position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = input.split_to(end + 1).freeze();
            let length = line.strip_suffix(b"\r\n").ok_or(Malformed::Chunk)?.len();
            Ok(Some(line.slice(..length)))
        }
        None if input.len() < most => Ok(None),
        None => Err(Malformed::Chunk),
    }
}

/// The size at the start of a line; an extension may follow behind `;`.
fn size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at_checked(digits).ok_or(Malformed::Chunk)?;
    // Blanks belong to an extension (section 7.1.1): alone they are the size's, and not every reader takes them for nothing.
    let is_extension = rest.iter().find(|byte| !matches!(byte, b' ' | b'\t')) == Some(&b';');
    let has_control = rest.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t');
    if digits.is_empty() || digits.len() > 16 || !(rest.is_empty() || is_extension) || has_control {
        return Err(Malformed::Chunk);
    }
    let text = std::str::from_utf8(digits).map_err(|_| Malformed::Chunk)?;
    u64::from_str_radix(text, 16).map_err(|_| Malformed::Chunk)
}

/// The fields behind the last chunk and the empty line that ends them; nothing while they are not whole.
fn trailers(input: &mut BytesMut) -> Result<Option<Option<HeaderMap>>, Malformed> {
    if input.starts_with(b"\r\n") {
        input.advance(2);
        return Ok(Some(None));
    }
    let (mut space, mut section) = ([EMPTY_HEADER; TRAILERS_MAX], Section::default());
    let length = match httparse::parse_headers(input, &mut space) {
        Ok(Status::Complete((length, parsed))) if length <= TRAILER_BYTES_MAX => {
            section.take(input.get(..length).unwrap_or_default(), 0, parsed).map_err(|Untidy| Malformed::Trailers)?;
            length
        }
        Ok(Status::Partial) if input.len() < TRAILER_BYTES_MAX => return Ok(None),
        _ => return Err(Malformed::Trailers),
    };
    let (mut fields, mut trailers) = (Fields::default(), HeaderMap::new());
    section.fill(&mut fields, input.split_to(length)).map_err(|Untidy| Malformed::Trailers)?;
    fields.to_map(&mut trailers);
    Ok(Some(Some(trailers)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Body, trailers and what is left behind them.
    type Decoded = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// Decodes what arrives in pieces.
    fn decode<'a>(arrivals: impl IntoIterator<Item = &'a [u8]>) -> Result<Decoded, Malformed> {
        let (mut chunks, mut input, mut body) = (Chunks::default(), BytesMut::new(), Vec::new());
        let mut end = None;
        for arrival in arrivals {
            input.extend_from_slice(arrival);
            while end.is_none() {
                match chunks.next(&mut input)? {
                    Piece::Incomplete => break,
                    Piece::Data(data) => body.extend_from_slice(&data),
                    Piece::End(trailers) => end = Some(trailers),
                }
            }
        }
        Ok((body, end.ok_or(Malformed::Chunk)?, input.to_vec()))
    }

    #[test]
    fn a_body_ends_with_its_last_chunk_and_trailers() {
        let (body, trailers, rest) = decode([&b"3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\nnext"[..]]).unwrap();
        assert_eq!((&body[..], trailers, &rest[..]), (&b"abc0123456789"[..], None, &b"next"[..]));
        let (_, trailers, _) = decode([&b"0\r\nx-sum: 7\r\n\r\n"[..]]).unwrap();
        assert_eq!(trailers.unwrap().get("x-sum").unwrap(), "7");
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for bad in [
            &b"3\nabc\r\n0\r\n\r\n"[..],
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"3\r\nabc0\r\n\r\n",
            b"\r\nabc",
            b"-1\r\n",
            b"0x3\r\nabc\r\n",
            b"3 3\r\nabc\r\n",
            b"11111111111111111\r\n",
            b"3;a\rb\r\nabc\r\n",
            b"3;a\0b\r\nabc\r\n",
            b"3 \r\nabc\r\n",
            b"0\r\n\n",
            b"0\r\nx-sum: 7\n\r\n",
            b"0\r\nx-sum: 7\r\n\n",
            b"0\r\nno field\r\n\r\n",
        ] {
            assert!(decode([bad]).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(decode([&vec![b'1'; LINE_BYTES_MAX + 1][..]]).is_err());
        assert!(decode([&b"0\r\n"[..], &b"a: b\r\n".repeat(TRAILER_BYTES_MAX / 6 + 1)[..]]).is_err());
    }

    proptest! {
        #[test]
        fn a_body_is_the_same_however_it_is_cut(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            step in 1_usize..9,
        ) {
            let mut wire = Vec::new();
            for part in &parts {
                crate::http1::write::chunk(&mut wire, part);
            }
            crate::http1::write::last_chunk(&mut wire, None);
            wire.extend_from_slice(b"rest");
            let (body, trailers, rest) = decode(wire.chunks(step)).unwrap();
            prop_assert_eq!((body, trailers, &rest[..]), (parts.concat(), None, &b"rest"[..]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode([&bytes[..]]);
        }
    }

    #[test]
    fn extensions_are_no_larger_than_what_they_extend() {
        let read = |extension: usize, data: usize, count: usize| {
            let (mut chunks, mut input) = (Chunks::default(), BytesMut::new());
            for _ in 0..count {
                input.extend_from_slice(format!("{data:x};{}\r\n{}\r\n", "x".repeat(extension), "y".repeat(data)).as_bytes());
            }
            loop {
                match chunks.next(&mut input) {
                    Ok(Piece::Data(_)) => {}
                    Ok(piece) => return Ok(piece),
                    Err(malformed) => return Err(malformed),
                }
            }
        };
        assert_eq!(read(1_000, 600, 1_000), Ok(Piece::Incomplete));
        assert_eq!(read(1_000, 1, 16), Ok(Piece::Incomplete), "a few are nothing");
        assert_eq!(read(1_000, 1, 17), Err(Malformed::Chunk));
        assert_eq!(read(0, 1, 100_000), Ok(Piece::Incomplete), "a size is free");
    }
}
