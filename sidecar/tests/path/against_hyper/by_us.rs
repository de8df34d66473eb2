//! A message as we read it, all of it there at once.

use super::{Message, Reading, in_order, name};
use bulkhead_sidecar::fields::Fields;
use bulkhead_sidecar::http1::{answer, chunks, request};
use bulkhead_sidecar::request::head::Head;
use bytes::BytesMut;
use http::{HeaderMap, Method};

/// Where a body ends.
enum End {
    After(u64),
    LastChunk,
    Connection,
}

pub(super) fn request(wire: &[u8]) -> Reading {
    let mut input = BytesMut::from(wire);
    let bounds = request::Bounds { bytes: 1 << 16, fields: 100 };
    let head = request::Reader::default().head(&mut input, &mut Fields::default(), bounds);
    let mut head = head.map_err(|unreadable| name(&unreadable))?.ok_or("Unfinished")?;
    let end = match head.framing {
        request::Framing::Nothing => End::After(0),
        request::Framing::Length(length) => End::After(length),
        request::Framing::Chunked => End::LastChunk,
    };
    let received = &head.received;
    let authority = received.authority.as_ref().map(|authority| String::from_utf8(authority.to_vec()).unwrap());
    let path = received.path.as_ref().map_or("/", |path| path.as_str());
    let start = vec![received.method.to_string(), authority.unwrap_or_default(), path.to_owned(), format!("{:?}", received.version)];
    let fields = map(&received.headers);
    // What is whole and leaves a second reading is refused here.
    Head::normal(&mut head.received).map_err(|ambiguous| name(&ambiguous))?;
    message(start, &fields, &end, input)
}

pub(super) fn answer(method: &Method, wire: &[u8]) -> Reading {
    let mut input = BytesMut::from(wire);
    let head = answer::Reader::default().head(&mut input, method, &mut Fields::default());
    let head = head.map_err(|malformed| name(&malformed))?.ok_or("Unfinished")?;
    let end = match head.framing {
        answer::Framing::Nothing => End::After(0),
        answer::Framing::Length(length) => End::After(length),
        answer::Framing::Chunked => End::LastChunk,
        answer::Framing::UntilEnd => End::Connection,
    };
    message(vec![head.status.to_string()], &map(&head.headers), &end, input)
}

fn map(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::new();
    fields.to_map(&mut map);
    map
}

fn message(start: Vec<String>, fields: &HeaderMap, end: &End, mut input: BytesMut) -> Reading {
    let (mut body, mut trailers) = (Vec::new(), HeaderMap::new());
    match end {
        End::After(length) => {
            let length = usize::try_from(*length).unwrap_or(usize::MAX);
            body.extend_from_slice(input.get(..length).ok_or("UnfinishedBody")?);
        }
        End::Connection => body.extend_from_slice(&input),
        End::LastChunk => {
            let mut chunks = chunks::Chunks::default();
            loop {
                match chunks.next(&mut input).map_err(|malformed| name(&malformed))? {
                    chunks::Piece::Data(data) => body.extend_from_slice(&data),
                    chunks::Piece::End(last) => break trailers = last.unwrap_or_default(),
                    chunks::Piece::Incomplete => return Err("UnfinishedBody".to_owned()),
                }
            }
        }
    }
    let length = if let End::After(length) = end { Some(*length) } else { None };
    Ok(Message { start, fields: in_order(fields), length, body, trailers: in_order(&trailers) })
}
