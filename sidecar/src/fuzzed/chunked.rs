//! A body in chunks.

use super::{arrivals, grammar};
use crate::http1::chunks::{Chunks, Piece};
use crate::http1::write;
use bytes::BytesMut;
use http::HeaderMap;

/// Below this many bytes no bound on lines, trailers or their number is met.
const BOUNDLESS: usize = 256;

/// Whether the bytes begin with a whole body.
///
/// # Panics
/// It is another one when it arrives in other pieces, it has another reading, or what we write of it has.
pub fn check(data: &[u8]) -> bool {
    // Trailers that come byte by byte are read at the end of each line: the last one ends here.
    let data = &[data, b"\n"].concat()[..];
    let [first, others @ ..] = arrivals(data).map(decode);
    for other in others {
        assert_eq!(first, other, "the same bytes in other pieces are another body");
    }
    let plain = grammar::chunked(data);
    if data.len() < BOUNDLESS {
        assert_eq!(plain.is_some(), matches!(first, Decoded::Whole { .. }), "the grammar says otherwise");
    }
    let Decoded::Whole { body, trailers, rest } = first else { return false };
    let plain = plain.expect("an accepted body is written as the grammar says");
    assert_eq!((&body, data.len() - rest.len()), (&plain.body, plain.length));
    let mut expected = HeaderMap::new();
    for (name, value) in &plain.trailers {
        expected.append(http::HeaderName::from_bytes(name).unwrap(), http::HeaderValue::from_bytes(value).unwrap());
    }
    assert_eq!(trailers.clone().unwrap_or_default(), expected);
    let mut wire = Vec::new();
    write::chunk(&mut wire, &body);
    write::last_chunk(&mut wire, trailers.as_ref());
    assert_eq!(decode(vec![&wire]), Decoded::Whole { body, trailers, rest: Vec::new() }, "written, it is another body");
    true
}

/// What becomes of bytes.
#[derive(Debug, PartialEq)]
enum Decoded {
    Whole { body: Vec<u8>, trailers: Option<HeaderMap>, rest: Vec<u8> },
    Unfinished,
    Refused,
}

fn decode(pieces: Vec<&[u8]>) -> Decoded {
    let (mut chunks, mut input, mut body) = (Chunks::default(), BytesMut::new(), Vec::new());
    let mut pieces = pieces.into_iter();
    loop {
        match chunks.next(&mut input) {
            Ok(Piece::Data(data)) => body.extend_from_slice(&data),
            Ok(Piece::End(trailers)) => {
                return Decoded::Whole { body, trailers, rest: [&input, &pieces.collect::<Vec<_>>().concat()[..]].concat() };
            }
            Ok(Piece::Incomplete) => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None => return Decoded::Unfinished,
            },
            Err(_) => return Decoded::Refused,
        }
    }
}
