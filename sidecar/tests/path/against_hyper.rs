//! Against hyper: messages of every kind are read by us and by hyper. What both accept is the same to both, and what one of them
//! alone accepts is named below with the reason; a reason that nothing met is stale and fails.
#![expect(clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod generated;
mod by_hyper;
mod by_us;

use bytes::Bytes;
use http::{HeaderMap, Method};
use std::collections::BTreeMap;

/// Messages of each kind.
const MESSAGES: usize = 8_000;

/// What we refuse and hyper accepts of a client.
const STRICTER_WITH_CLIENTS: [(&str, &str); 26] = [
    ("Asterisk", "`*` is for OPTIONS alone"),
    ("Chunk", "sizes of more than 16 digits, blanks behind a size, control characters in extensions"),
    ("Connect", "no route leads to a tunnel"),
    ("ConnectionNames", "a field that the upstream needs would be dropped on the way"),
    ("EmptyLines", "more than one line before the first one"),
    ("Encoding", "codings besides `chunked` end here, and nothing would tell the upstream of them"),
    ("Host Character", "a host with a user, or with what stands in no name"),
    ("Host Empty", "a Host field without a host"),
    ("Host Port", "a port that is no number"),
    ("HostsDiffer", "target and Host name two hosts, and so perhaps two tenants"),
    ("LengthAndEncoding", "hyper drops the length before anybody sees it"),
    ("LineEnd", "LF alone, which others do not take for the end of a line"),
    ("ManyHosts", "two Host fields, even equal ones"),
    ("ManyLengths", "two lengths, even equal ones, of which hyper says one"),
    ("Misspelt", "`content_length` is Content-Length to upstreams that know fields from their environment"),
    ("NoHost", "whom the request is for is not to be guessed"),
    ("Override", "fields that make another request of this one at the upstream"),
    ("Path DotSegment", "what is matched must be what is forwarded"),
    ("Path EmptySegment", "some upstreams merge slashes"),
    ("Path EncodedSeparator", "some upstreams decode it before they split"),
    ("Path Escape", "a percent sign without two digits"),
    ("Path Fragment", "hyper drops it, and with it a part of the target"),
    ("Path RawByte", "bytes that are not visible ASCII"),
    ("Query", "bytes that are not visible ASCII"),
    ("Target", "neither a path nor a URI of HTTP"),
    ("Trailers", "LF alone where the last line has to end"),
];

/// What we refuse and hyper accepts of an upstream.
const STRICTER_WITH_UPSTREAMS: [(&str, &str); 6] = [
    ("Chunk", "sizes of more than 16 digits, blanks behind a size, control characters in extensions"),
    ("Encoding", "codings besides `chunked`, which the client would not be told of"),
    ("Length", "a list of lengths in one field"),
    ("LengthAndEncoding", "hyper drops the length; and chunks in a version that knows none"),
    ("LineEnd", "LF alone, which others do not take for the end of a line"),
    ("Trailers", "LF alone where the last line has to end"),
];

/// A message as somebody read it.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    /// Method, authority, path and version, or version and status.
    start: Vec<String>,
    /// In the order of their names; those of one name in the order they came in.
    fields: Vec<(String, Vec<u8>)>,
    /// How long its body was said to be.
    length: Option<u64>,
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
}

/// Somebody's reading; the name of the error, where there is none.
type Reading = Result<Message, String>;

fn in_order(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<_> = map.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

/// The name of an error and of what it holds, without numbers and texts.
fn name(error: &impl std::fmt::Debug) -> String {
    let text = format!("{error:?}").replace('(', " ");
    text.split(|c: char| !c.is_alphabetic() && c != ' ').next().unwrap_or_default().trim_end().to_owned()
}

/// What of that hyper accepts we refused for one reason: how often, and the first of them.
type Met = (usize, Bytes);

/// What we refused of what hyper accepts, by reason; fails where two readings differ or hyper refuses what we accept.
fn compare(readings: impl Iterator<Item = (Bytes, Reading, Reading)>) -> BTreeMap<String, Met> {
    let (mut met, mut agreed) = (BTreeMap::new(), 0);
    for (wire, ours, hypers) in readings {
        match (ours, hypers) {
            (Ok(ours), Ok(hypers)) => {
                assert_eq!(ours, hypers, "{:?} is two messages", wire.escape_ascii().to_string());
                agreed += 1;
            }
            (Err(reason), Ok(_)) => met.entry(reason).or_insert((0, wire)).0 += 1,
            (Ok(ours), Err(reason)) => panic!("hyper refuses ({reason}) what we accept, {:?}: {ours:?}", wire.escape_ascii().to_string()),
            (Err(_), Err(_)) => {}
        }
    }
    assert!(agreed > MESSAGES / 4, "only {agreed} of {MESSAGES} messages were accepted by both, so they say little");
    met
}

/// Fails unless the reasons met are the named ones.
fn are_named(met: &BTreeMap<String, Met>, named: &[(&str, &str)]) {
    let names: Vec<&str> = met.keys().map(String::as_str).collect();
    let mut expected: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    expected.sort_unstable();
    assert_eq!(names, expected, "what we alone refuse (left, met {met:#?}) is not what is named (right)");
}

#[tokio::test]
async fn requests_are_to_us_what_they_are_to_hyper_or_refused_for_a_reason() {
    let mut readings = Vec::new();
    for wire in generated::requests(MESSAGES) {
        let hypers = by_hyper::request(&wire).await;
        readings.push((wire.clone(), by_us::request(&wire), hypers));
    }
    are_named(&compare(readings.into_iter()), &STRICTER_WITH_CLIENTS);
}

#[tokio::test]
async fn answers_are_to_us_what_they_are_to_hyper_or_refused_for_a_reason() {
    let mut readings = Vec::new();
    for (at, wire) in generated::answers(MESSAGES).into_iter().enumerate() {
        let method = if at % 4 == 0 { Method::HEAD } else { Method::GET };
        let hypers = by_hyper::answer(&method, &wire).await;
        readings.push((wire.clone(), by_us::answer(&method, &wire), hypers));
    }
    are_named(&compare(readings.into_iter()), &STRICTER_WITH_UPSTREAMS);
}
