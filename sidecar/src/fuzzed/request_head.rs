//! The head of a client's request.

use super::{arrivals, grammar, upward};
use crate::fields::Fields;
use crate::http1::request::{Bounds, Framing, Head, Reader};
use crate::http1::write;
use bytes::BytesMut;

/// Small, so that a fuzzer meets them.
const BOUNDS: Bounds = Bounds { bytes: 512, fields: 8 };

/// Whether the bytes begin with a head that is accepted.
///
/// # Panics
/// It is another one when it arrives in other pieces, it has another reading, or what goes up for it has.
pub fn check(data: &[u8]) -> bool {
    // Who sends byte by byte is read at the end of each line: the last one ends here.
    let data = &[data, b"\n"].concat()[..];
    let [first, others @ ..] = arrivals(data).map(|pieces| read(pieces));
    for other in others {
        assert_eq!(told(&first), told(&other), "the same bytes in other pieces are another request");
    }
    let Some((head, rest)) = first else { return false };
    let length = data.len() - rest.len();
    assert!(length <= BOUNDS.bytes && head.received.headers.len() <= BOUNDS.fields, "a head within its bounds");
    let plain = grammar::head(data).expect("an accepted head is written as the grammar says");
    assert_eq!(length, plain.length, "the head ends elsewhere");
    agree(&head, &plain);
    upward::check(
        head.received,
        match head.framing {
            Framing::Nothing => write::Framing::Nothing,
            Framing::Length(length) => write::Framing::Length(length),
            Framing::Chunked => write::Framing::Chunked,
        },
    );
    true
}

/// The head and what is left behind it.
fn read(pieces: Vec<&[u8]>) -> Option<(Head, Vec<u8>)> {
    let (mut reader, mut fields, mut input) = (Reader::default(), Fields::default(), BytesMut::new());
    let mut pieces = pieces.into_iter();
    while let Some(piece) = pieces.next() {
        input.extend_from_slice(piece);
        match reader.head(&mut input, &mut fields, BOUNDS) {
            Ok(None) => assert!(input.len() < BOUNDS.bytes, "more is kept of an unfinished head than it may have"),
            Ok(Some(head)) => return Some((head, [&input, &pieces.collect::<Vec<_>>().concat()[..]].concat())),
            Err(_) => return None,
        }
    }
    None
}

fn told(read: &Option<(Head, Vec<u8>)>) -> String {
    format!("{read:?}")
}

/// What the reader says of a head is what stands there.
fn agree(head: &Head, plain: &grammar::Head<'_>) {
    let received = &head.received;
    let [method, target, version] = plain.start[..] else { panic!("a first line of three parts") };
    assert!(grammar::is_token(method) && !target.is_empty() && target.iter().all(|byte| *byte > b' ' && *byte != 0x7f));
    assert_eq!((received.method.as_str().as_bytes(), &*format!("{:?}", received.version)), (method, str::from_utf8(version).unwrap()));
    let fields: Vec<_> = received.headers.iter().map(|field| (field.name.to_vec(), field.value)).collect();
    assert_eq!(fields, plain.fields);
    let is_fragment = target.contains(&b'#');
    if !is_fragment {
        let path = received.path.as_ref().map_or("", |path| path.as_str()).as_bytes();
        match &received.authority {
            None => assert_eq!(path, target),
            // What names no path means the root, or the server as a whole.
            Some(authority) => {
                let behind_scheme = target.windows(3).position(|window| window == b"://").map_or(0, |at| at + 3);
                let rest = target[behind_scheme..].strip_prefix(&authority[..]).expect("the authority stands behind the scheme");
                assert!(path == rest || path == [b"/", rest].concat() || (path.is_empty() && rest.is_empty()), "another path");
            }
        }
    }
    let framing = match (&plain.all("transfer-encoding")[..], &plain.all("content-length")[..]) {
        ([], []) => Some(Framing::Nothing),
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") && version == b"HTTP/1.1" => Some(Framing::Chunked),
        ([], [length]) if length.iter().all(u8::is_ascii_digit) => {
            str::from_utf8(length).unwrap().parse().ok().map(|length| if length == 0 { Framing::Nothing } else { Framing::Length(length) })
        }
        _ => None,
    };
    match framing {
        Some(framing) if !is_fragment => assert_eq!((head.framing, &received.fault), (framing, &None)),
        _ => assert!(received.fault.is_some() && !head.keeps, "whose end nobody knows ends the connection"),
    }
}
