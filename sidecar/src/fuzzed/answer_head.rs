//! The head of an upstream's answer.

use super::{arrivals, grammar};
use crate::fields::Fields;
use crate::http1::answer::{Framing, Head, Reader};
use crate::http1::write;
use crate::request::outgoing::end_answer_hop;
use bytes::BytesMut;
use http::{Method, StatusCode};

/// Whether the bytes begin with an answer that is accepted. The first says what is answered: HEAD if it is odd, else GET.
///
/// # Panics
/// It is another one when it arrives in other pieces, it has another reading, or what goes down for it has.
pub fn check(data: &[u8]) -> bool {
    let Some((method, data)) = data.split_first() else { return false };
    let method = if method & 1 == 1 { Method::HEAD } else { Method::GET };
    let [first, others @ ..] = arrivals(data).map(|pieces| read(&method, pieces));
    for other in others {
        assert_eq!(format!("{first:?}"), format!("{other:?}"), "the same bytes in other pieces are another answer");
    }
    let Some((head, rest)) = first else { return false };
    let plain = last_head(data);
    assert_eq!(data.len() - rest.len(), plain.length, "the head ends elsewhere");
    agree(&head, &plain);
    goes_down(&method, head);
    true
}

/// The head and what is left behind it.
fn read(method: &Method, pieces: Vec<&[u8]>) -> Option<(Head, Vec<u8>)> {
    let (mut reader, mut fields, mut input) = (Reader::default(), Fields::default(), BytesMut::new());
    let mut pieces = pieces.into_iter();
    while let Some(piece) = pieces.next() {
        input.extend_from_slice(piece);
        if let Some(head) = reader.head(&mut input, method, &mut fields).ok()? {
            return Some((head, [&input, &pieces.collect::<Vec<_>>().concat()[..]].concat()));
        }
    }
    None
}

/// The head behind the informational ones, with the bytes of all of them.
fn last_head(data: &[u8]) -> grammar::Head<'_> {
    let mut skipped = 0;
    loop {
        let mut plain = grammar::head(&data[skipped..]).expect("an accepted head is written as the grammar says");
        assert_eq!(data[skipped..].first(), Some(&b'H'), "nothing stands before a head");
        skipped += plain.length;
        if !matches!(plain.start[1], [b'1', _, _]) || plain.start[1] == b"101" {
            plain.length = skipped;
            return plain;
        }
    }
}

/// What the reader says of a head is what stands there.
fn agree(head: &Head, plain: &grammar::Head<'_>) {
    assert!(matches!(plain.start[0], b"HTTP/1.1" | b"HTTP/1.0"));
    assert_eq!(head.status.as_str().as_bytes(), plain.start[1]);
    let mut fields: Vec<_> = head.headers.iter().map(|field| (field.name.to_vec(), field.value)).collect();
    let lengths = plain.all("content-length");
    if lengths.len() > 1 {
        // The same length twice is said once.
        fields.retain(|(name, _)| name != b"content-length");
    }
    let expected = plain.fields.iter().filter(|(name, _)| lengths.len() < 2 || name != b"content-length");
    assert!(fields.iter().eq(expected), "other fields");
    let (codings, is_11) = (plain.all("transfer-encoding"), plain.start[0] == b"HTTP/1.1");
    match head.framing {
        Framing::Chunked => assert!(codings.len() == 1 && codings[0].eq_ignore_ascii_case(b"chunked") && lengths.is_empty() && is_11),
        Framing::Length(length) => {
            let says_so = |text: &&[u8]| text.iter().all(u8::is_ascii_digit) && str::from_utf8(text).unwrap().parse() == Ok(length);
            assert!(codings.is_empty() && !lengths.is_empty() && lengths.iter().all(says_so));
        }
        Framing::UntilEnd => assert!(codings.is_empty() && lengths.is_empty() && !head.keeps),
        Framing::Nothing => {}
    }
}

/// What the client gets for it is one head that reads as the same answer.
fn goes_down(method: &Method, head: Head) {
    let Head { status, headers: mut fields, framing, .. } = head;
    end_answer_hop(&mut fields);
    let (written, again) = match framing {
        Framing::Nothing if matches!(status, StatusCode::NO_CONTENT | StatusCode::SWITCHING_PROTOCOLS) => {
            (Some(write::Framing::Nothing), Framing::Nothing)
        }
        Framing::Nothing if *method == Method::HEAD || status == StatusCode::NOT_MODIFIED => (None, Framing::Nothing),
        Framing::Nothing => (Some(write::Framing::Length(0)), Framing::Nothing),
        Framing::Length(length) => (Some(write::Framing::Length(length)), Framing::Length(length)),
        Framing::Chunked | Framing::UntilEnd => (Some(write::Framing::Chunked), Framing::Chunked),
    };
    let mut wire = Vec::new();
    write::answer(&mut wire, status, &fields, None, written);
    wire.extend_from_slice(b"\r\n");
    let (head, rest) = read(method, vec![&wire]).expect("what goes down can be read");
    assert_eq!((head.status, head.framing, &rest[..]), (status, again, &b""[..]));
    let is_framing = |name: &[u8]| matches!(name, b"content-length" | b"transfer-encoding");
    let passed = |fields: &Fields| -> Vec<(Vec<u8>, Vec<u8>)> {
        fields.iter().filter(|field| !is_framing(field.name)).map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
    };
    assert_eq!(passed(&head.headers), passed(&fields));
}
