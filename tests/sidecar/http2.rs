//! HTTP/2 as RFC 9113 and RFC 7541 have it: each case is what a client sends and the one reaction its section allows.

use bulkhead_tests::{Frame, Http2, Origin, PREFACE, Pki, Reply, World, block, flag, kind};

/// What a server does about what it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    /// GOAWAY with this code, and the end.
    Ends(u32),
    /// RST_STREAM with this code; the connection goes on.
    Resets(u32),
    /// The end, without a word.
    Closes,
    /// Nothing: it goes on.
    GoesOn,
}
use Reaction::{Closes, Ends, GoesOn, Resets};

// Error codes (RFC 9113 section 7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

// Settings (RFC 9113 section 6.5.2).
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;

const HOST: &str = "acme.localhost";
/// Where everybody may ask, so that no credential is needed.
const PATH: &str = "/healthz";

/// One case: its section, what is sent in one write after both sides have accepted each other's settings, and what follows.
struct Case {
    section: &'static str,
    name: &'static str,
    frames: Vec<Frame>,
    expected: Reaction,
}

fn case(section: &'static str, name: &'static str, expected: Reaction, frames: Vec<Frame>) -> Case {
    Case { section, name, frames, expected }
}

fn get() -> Vec<(&'static str, &'static str)> {
    vec![(":method", "GET"), (":scheme", "http"), (":path", PATH), (":authority", HOST)]
}

/// The fields of a GET with one of its own replaced, or left out where there is no value.
fn get_but(name: &str, value: Option<&'static str>) -> Vec<(&'static str, &'static str)> {
    get()
        .into_iter()
        .filter_map(|(known, old)| if known == name { value.map(|value| (known, value)) } else { Some((known, old)) })
        .collect()
}

fn get_and(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [get(), more.to_vec()].concat()
}

fn headers(stream: u32, fields: &[(&str, &str)]) -> Frame {
    Frame::headers(stream, fields)
}

/// HEADERS of a request whose body is to come.
fn post(stream: u32, more: &[(&'static str, &'static str)]) -> Frame {
    let fields = [get_but(":method", Some("POST")), more.to_vec()].concat();
    Frame::new(kind::HEADERS, flag::END_HEADERS, stream, block(&fields))
}

/// HEADERS whose block is these bytes after the fields of a GET.
fn block_with(more: &[u8]) -> Frame {
    Frame::new(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, [block(&get()), more.to_vec()].concat())
}

fn data(stream: u32, flags: u8, payload: &[u8]) -> Frame {
    Frame::new(kind::DATA, flags, stream, payload)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Frame {
    Frame::new(kind, flags, stream, payload)
}

/// Frames: format, size, header blocks, types (sections 4 and 6).
fn framing() -> Vec<Case> {
    let large = vec![0; 16_385];
    let whole = block(&get());
    let (half, rest) = whole.split_at(10);
    let begun = || frame(kind::HEADERS, flag::END_STREAM, 1, half);
    vec![
        case("4.1", "a frame of an unknown type is ignored", GoesOn, vec![frame(0xbe, 0, 0, &[0; 8])]),
        case("4.1", "unknown flags are ignored", GoesOn, vec![frame(kind::PING, 0x16, 0, b"flagged!")]),
        case("4.1", "the reserved bit is ignored", GoesOn, vec![frame(kind::PING, 0, 1 << 31, b"reserved")]),
        case("4.2", "DATA larger than the largest frame", Ends(FRAME_SIZE_ERROR), vec![post(1, &[]), data(1, flag::END_STREAM, &large)]),
        case(
            "4.2",
            "HEADERS larger than the largest frame",
            Ends(FRAME_SIZE_ERROR),
            vec![frame(kind::HEADERS, flag::END_HEADERS, 1, &large)],
        ),
        case("4.3", "a block that cannot be decoded", Ends(COMPRESSION_ERROR), vec![frame(kind::HEADERS, 5, 1, &[0xff; 12])]),
        case("4.3", "another frame within a block", Ends(PROTOCOL_ERROR), vec![begun(), frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 1])]),
        case("4.3", "HEADERS of another stream within a block", Ends(PROTOCOL_ERROR), vec![begun(), headers(3, &get())]),
        case("5.5", "a frame of an unknown type within a block", Ends(PROTOCOL_ERROR), vec![begun(), frame(0xbe, 0, 0, &[])]),
        case("6.1", "DATA of the connection", Ends(PROTOCOL_ERROR), vec![data(0, 0, b"x")]),
        case("6.1", "padding longer than its DATA", Ends(PROTOCOL_ERROR), vec![post(1, &[]), data(1, flag::PADDED, &[6, 0, 0])]),
        case("6.2", "HEADERS of the connection", Ends(PROTOCOL_ERROR), vec![headers(0, &get())]),
        case(
            "6.2",
            "padding longer than its HEADERS",
            Ends(PROTOCOL_ERROR),
            vec![frame(kind::HEADERS, flag::PADDED | flag::END_HEADERS, 1, &[9, 0])],
        ),
        case("6.3", "PRIORITY of the connection", Ends(PROTOCOL_ERROR), vec![frame(kind::PRIORITY, 0, 0, &[0, 0, 0, 1, 1])]),
        case("6.3", "PRIORITY of another length", Resets(FRAME_SIZE_ERROR), vec![headers(1, &get()), frame(kind::PRIORITY, 0, 1, &[0; 4])]),
        case("6.4", "RST_STREAM of the connection", Ends(PROTOCOL_ERROR), vec![Frame::reset(0, 8)]),
        case(
            "6.4",
            "RST_STREAM of another length",
            Ends(FRAME_SIZE_ERROR),
            vec![headers(1, &get()), frame(kind::RST_STREAM, 0, 1, &[0; 3])],
        ),
        case("6.5", "SETTINGS that accept and set", Ends(FRAME_SIZE_ERROR), vec![frame(kind::SETTINGS, flag::ACK, 0, &[0; 6])]),
        case("6.5", "SETTINGS of a stream", Ends(PROTOCOL_ERROR), vec![frame(kind::SETTINGS, 0, 1, &[])]),
        case("6.5", "SETTINGS of another length", Ends(FRAME_SIZE_ERROR), vec![frame(kind::SETTINGS, 0, 0, &[0; 5])]),
        case("6.5.2", "a push that is neither on nor off", Ends(PROTOCOL_ERROR), vec![Frame::settings(&[(ENABLE_PUSH, 2)])]),
        case("6.5.2", "a window beyond the largest", Ends(FLOW_CONTROL_ERROR), vec![Frame::settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)])]),
        case("6.5.2", "frames smaller than the smallest limit", Ends(PROTOCOL_ERROR), vec![Frame::settings(&[(MAX_FRAME_SIZE, 16_383)])]),
        case("6.5.2", "frames larger than the largest limit", Ends(PROTOCOL_ERROR), vec![Frame::settings(&[(MAX_FRAME_SIZE, 1 << 24)])]),
        case("6.5.2", "an unknown setting is ignored", GoesOn, vec![Frame::settings(&[(0xff, 1)])]),
        case("6.6", "PUSH_PROMISE of a client", Ends(PROTOCOL_ERROR), vec![frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0, 0, 0, 2])]),
        case("6.7", "PING that answers nothing is not answered", GoesOn, vec![frame(kind::PING, flag::ACK, 0, b"no reply")]),
        case("6.7", "PING of a stream", Ends(PROTOCOL_ERROR), vec![frame(kind::PING, 0, 1, &[0; 8])]),
        case("6.7", "PING of another length", Ends(FRAME_SIZE_ERROR), vec![frame(kind::PING, 0, 0, &[0; 6])]),
        case("6.8", "GOAWAY of a stream", Ends(PROTOCOL_ERROR), vec![frame(kind::GOAWAY, 0, 1, &[0; 8])]),
        case("6.9", "a window of the connection opened by nothing", Ends(PROTOCOL_ERROR), vec![Frame::window(0, 0)]),
        case("6.9", "a window of a stream opened by nothing", Resets(PROTOCOL_ERROR), vec![headers(1, &get()), Frame::window(1, 0)]),
        case("6.9", "WINDOW_UPDATE of another length", Ends(FRAME_SIZE_ERROR), vec![frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3])]),
        case("6.9.1", "a window of the connection beyond the largest", Ends(FLOW_CONTROL_ERROR), vec![Frame::window(0, 0x7fff_ffff)]),
        case(
            "6.9.1",
            "a window of a stream beyond the largest",
            Resets(FLOW_CONTROL_ERROR),
            vec![headers(1, &get()), Frame::window(1, 0x7fff_ffff)],
        ),
        case("6.10", "a block in several frames", GoesOn, vec![begun(), frame(kind::CONTINUATION, flag::END_HEADERS, 1, rest)]),
        case(
            "6.10",
            "CONTINUATION of the connection",
            Ends(PROTOCOL_ERROR),
            vec![begun(), frame(kind::CONTINUATION, flag::END_HEADERS, 0, rest)],
        ),
        case("6.10", "CONTINUATION of nothing", Ends(PROTOCOL_ERROR), vec![headers(1, &get()), frame(kind::CONTINUATION, 4, 1, rest)]),
        case("7", "an unknown error code is no error", GoesOn, vec![headers(1, &get()), Frame::reset(1, 0xff)]),
    ]
}

/// Streams: their states and numbers (section 5).
fn streams() -> Vec<Case> {
    let asked = || headers(1, &get());
    vec![
        case("5.1", "DATA of an idle stream", Ends(PROTOCOL_ERROR), vec![data(1, 0, b"x")]),
        case("5.1", "RST_STREAM of an idle stream", Ends(PROTOCOL_ERROR), vec![Frame::reset(1, 8)]),
        case("5.1", "WINDOW_UPDATE of an idle stream", Ends(PROTOCOL_ERROR), vec![Frame::window(1, 100)]),
        case("5.1", "CONTINUATION of an idle stream", Ends(PROTOCOL_ERROR), vec![frame(kind::CONTINUATION, 4, 1, &[])]),
        case("5.1", "PRIORITY of an idle stream is ignored", GoesOn, vec![frame(kind::PRIORITY, 0, 7, &[0, 0, 0, 0, 1])]),
        case("5.1", "DATA after the end of a stream", Resets(STREAM_CLOSED), vec![asked(), data(1, 0, b"x")]),
        case("5.1", "HEADERS after the end of a stream", Resets(STREAM_CLOSED), vec![asked(), headers(1, &get())]),
        case("5.1", "WINDOW_UPDATE after the end of a stream is ignored", GoesOn, vec![asked(), Frame::window(1, 100)]),
        case("5.1", "DATA after a reset", Resets(STREAM_CLOSED), vec![post(1, &[]), Frame::reset(1, 8), data(1, 0, b"x")]),
        case("5.1", "HEADERS after a reset", Resets(STREAM_CLOSED), vec![asked(), Frame::reset(1, 8), headers(1, &get())]),
        case("5.1.1", "a stream of an even number", Ends(PROTOCOL_ERROR), vec![headers(2, &get())]),
        case("5.1.1", "a stream of a smaller number", Ends(PROTOCOL_ERROR), vec![headers(5, &get()), headers(3, &get())]),
        case("5.1.2", "one stream too many", Resets(REFUSED_STREAM), (0..129).map(|n| headers(2 * n + 1, &get())).collect()),
    ]
}

/// Messages: fields, pseudo-fields, lengths (section 8).
fn messages() -> Vec<Case> {
    let malformed =
        |section, name, fields: Vec<(&'static str, &'static str)>| case(section, name, Resets(PROTOCOL_ERROR), vec![headers(1, &fields)]);
    let trailer = |fields: &[(&str, &str)], flags| frame(kind::HEADERS, flag::END_HEADERS | flags, 1, &block(fields));
    let mut late = get();
    late.rotate_left(1);
    late.insert(0, ("x-early", "1"));
    vec![
        case("8.1", "trailers that do not end the stream", Resets(PROTOCOL_ERROR), vec![post(1, &[]), trailer(&[("x-trailer", "1")], 0)]),
        case(
            "8.1",
            "a pseudo-field among trailers",
            Resets(PROTOCOL_ERROR),
            vec![post(1, &[]), trailer(&[(":method", "GET")], flag::END_STREAM)],
        ),
        case(
            "8.1.1",
            "less than its Content-Length",
            Resets(PROTOCOL_ERROR),
            vec![post(1, &[("content-length", "5")]), data(1, flag::END_STREAM, b"abc")],
        ),
        case(
            "8.1.1",
            "more than its Content-Length",
            Resets(PROTOCOL_ERROR),
            vec![post(1, &[("content-length", "2")]), data(1, 0, b"ab"), data(1, flag::END_STREAM, b"c")],
        ),
        malformed("8.2", "a name in upper case", get_and(&[("X-Upper", "1")])),
        malformed("8.2.1", "a line feed in a value", get_and(&[("x-line", "a\nb")])),
        malformed("8.2.1", "NUL in a value", get_and(&[("x-nul", "a\0b")])),
        malformed("8.2.1", "a colon in a name", get_and(&[("x:y", "1")])),
        malformed("8.2.1", "a space before a value", get_and(&[("x-space", " 1")])),
        malformed("8.2.2", "Connection", get_and(&[("connection", "keep-alive")])),
        malformed("8.2.2", "Transfer-Encoding", get_and(&[("transfer-encoding", "chunked")])),
        malformed("8.2.2", "TE other than trailers", get_and(&[("te", "gzip")])),
        case("8.2.2", "TE of trailers", GoesOn, vec![headers(1, &get_and(&[("te", "trailers")]))]),
        malformed("8.3", "an unknown pseudo-field", get_and(&[(":unknown", "1")])),
        malformed("8.3", "a pseudo-field of answers", get_and(&[(":status", "200")])),
        malformed("8.3", "a pseudo-field after a field", late),
        malformed("8.3.1", "no method", get_but(":method", None)),
        malformed("8.3.1", "no scheme", get_but(":scheme", None)),
        malformed("8.3.1", "no path", get_but(":path", None)),
        malformed("8.3.1", "an empty path", get_but(":path", Some(""))),
        malformed("8.3.1", "two methods", get_and(&[(":method", "GET")])),
        malformed("8.3.1", "two schemes", get_and(&[(":scheme", "http")])),
        malformed("8.3.1", "two paths", get_and(&[(":path", PATH)])),
    ]
}

/// HPACK (RFC 7541).
fn hpack() -> Vec<Case> {
    let broken = |section, name, bytes: &[u8]| case(section, name, Ends(COMPRESSION_ERROR), vec![block_with(bytes)]);
    vec![
        broken("7541 2.3.3", "an index beyond both tables", &[0xff, 0x7f]),
        broken("7541 2.3.3", "a name beyond both tables", &[0x7f, 0x7f, 1, b'x']),
        broken("7541 4.2", "a change of size at the end of a block", &[0x20]),
        broken("7541 5.1", "an integer without end", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        broken("7541 5.2", "padding of a whole byte", &[0, 0x82, 0x1f, 0xff, 1, b'x']),
        broken("7541 5.2", "padding of zeros", &[0, 0x81, 0x18, 1, b'x']),
        broken("7541 5.2", "the end-of-string symbol", &[0, 0x84, 0xff, 0xff, 0xff, 0xff, 1, b'x']),
        broken("7541 6.1", "index zero", &[0x80]),
        broken("7541 6.3", "a table larger than allowed", &[0x3f, 0xff, 0x7f]),
    ]
}

/// Where the engine below us does something else, and what. A case that stands here and is right fails the test: then it must go.
const DEVIATIONS: &[(&str, Reaction)] = &[
    // Errors of the connection told by the most general code (section 7 leaves that open).
    ("a block that cannot be decoded", Ends(PROTOCOL_ERROR)),
    ("RST_STREAM of another length", Ends(PROTOCOL_ERROR)),
    ("SETTINGS that accept and set", Ends(PROTOCOL_ERROR)),
    ("SETTINGS of another length", Ends(PROTOCOL_ERROR)),
    ("a window beyond the largest", Ends(PROTOCOL_ERROR)),
    ("PING of another length", Ends(PROTOCOL_ERROR)),
    ("WINDOW_UPDATE of another length", Ends(PROTOCOL_ERROR)),
    ("an index beyond both tables", Ends(PROTOCOL_ERROR)),
    ("a name beyond both tables", Ends(PROTOCOL_ERROR)),
    ("a change of size at the end of a block", Ends(PROTOCOL_ERROR)),
    ("an integer without end", Ends(PROTOCOL_ERROR)),
    ("padding of a whole byte", Ends(PROTOCOL_ERROR)),
    ("padding of zeros", Ends(PROTOCOL_ERROR)),
    ("the end-of-string symbol", Ends(PROTOCOL_ERROR)),
    ("index zero", Ends(PROTOCOL_ERROR)),
    ("a table larger than allowed", Ends(PROTOCOL_ERROR)),
    // Errors of one stream that end the connection (section 5.4.2 warns of it, and does not forbid it).
    ("PRIORITY of another length", Ends(PROTOCOL_ERROR)),
    ("a window of a stream opened by nothing", Ends(PROTOCOL_ERROR)),
    ("DATA after the end of a stream", Ends(PROTOCOL_ERROR)),
    ("HEADERS after the end of a stream", Ends(PROTOCOL_ERROR)),
    ("HEADERS after a reset", Ends(PROTOCOL_ERROR)),
    ("a name in upper case", Ends(PROTOCOL_ERROR)),
    ("a line feed in a value", Ends(PROTOCOL_ERROR)),
    ("NUL in a value", Ends(PROTOCOL_ERROR)),
    ("a colon in a name", Ends(PROTOCOL_ERROR)),
    ("an unknown pseudo-field", Ends(PROTOCOL_ERROR)),
    // Left out on the way up, so that nobody reads it.
    ("a pseudo-field among trailers", GoesOn),
    // Goes up as it is; whoever reads HTTP/1.1 takes the space for none (RFC 9112 section 5.1).
    ("a space before a value", GoesOn),
];

/// What came of it: read until the connection ends or a stream is reset for an error, or two PINGs are answered, the second sent
/// after the first came back: a server answers PING before it says what it thinks of a stream.
fn reaction(mut connection: Http2, frames: &[Frame]) -> Reaction {
    let (first, second) = (Frame::ping(b"first of"), Frame::ping(b"two ping"));
    // What cannot be written is told by what can be read.
    let _ = connection.write(&[frames, std::slice::from_ref(&first)].concat());
    loop {
        match connection.read() {
            None => return Closes,
            Some(frame) if frame.kind == kind::GOAWAY => return Ends(frame.code()),
            // An answer that came before its question ended is followed by NO_ERROR.
            Some(frame) if frame.kind == kind::RST_STREAM && frame.code() != 0 => return Resets(frame.code()),
            Some(frame) if frame.is(kind::PING, flag::ACK) && frame.payload == first.payload => {
                let _ = connection.write(std::slice::from_ref(&second));
            }
            Some(frame) if frame.is(kind::PING, flag::ACK) && frame.payload == second.payload => return GoesOn,
            Some(_) => {}
        }
    }
}

/// Runs every case, each on a connection of its own.
fn run(connect: impl Fn() -> Http2) {
    let cases: Vec<Case> = [framing(), streams(), messages(), hpack()].into_iter().flatten().collect();
    let mut wrong = Vec::new();
    for case in &cases {
        let deviation = DEVIATIONS.iter().find(|(name, _)| *name == case.name).map(|(_, reaction)| *reaction);
        let (observed, expected) = (reaction(connect(), &case.frames), deviation.unwrap_or(case.expected));
        if observed != expected {
            wrong.push(format!("section {}: {}: {observed:?} instead of {expected:?}", case.section, case.name));
        }
        assert_ne!(deviation, Some(case.expected), "{}: is no deviation", case.name);
    }
    for (name, _) in DEVIATIONS {
        assert!(cases.iter().any(|case| case.name == *name), "{name}: is no case");
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// It never answers, so that streams stay as the client left them.
fn silent() -> Origin {
    Origin::with(|_| Reply::Hang)
}

#[test]
fn every_case_of_the_standard_meets_its_reaction() {
    let world = World::with(silent(), |_| {});
    run(|| Http2::connect(world.address(), HOST));
}

#[test]
fn every_case_meets_its_reaction_over_tls_too() {
    let pki = Pki::new();
    let world = World::with(silent(), |folder| {
        pki.certify(&[HOST]).write(folder, "a");
        let path = folder.join("platform.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let tls = "    tls: { certificates: [{ certificate: { file: a.pem }, key: { file: a.key } }] }\n";
        std::fs::write(&path, text.replace("    address: 127.0.0.1:0", &format!("{tls}    address: 127.0.0.1:0"))).unwrap();
    });
    let client = pki.client().offering(&["h2"]);
    run(|| Http2::over(client.connect(world.address(), HOST).unwrap(), HOST).agree(&[]));
}

#[test]
fn the_first_frame_is_settings() {
    let world = World::start();
    let mut connection = Http2::raw(world.address(), HOST);
    connection.write_raw(&[PREFACE, &Frame::ping(b"too soon").bytes()].concat()).unwrap();
    let end = connection.until(|frame| frame.kind == kind::GOAWAY).expect("a last word");
    assert_eq!(end.code(), PROTOCOL_ERROR);
    assert_eq!(connection.until(|_| true), None, "and nothing after it");
}

#[test]
fn a_window_of_nothing_holds_the_answer_and_opening_it_lets_it_go() {
    let world = World::start();
    let mut connection = Http2::with_settings(world.address(), HOST, &[(INITIAL_WINDOW_SIZE, 0)]);
    let request = headers(1, &get());
    connection.write(&[request, Frame::ping(b"held yet")]).unwrap();
    let head = connection.until(|frame| frame.kind == kind::HEADERS).expect("a head");
    assert_eq!(head.payload[0], 0x88, "`:status` 200 by its index");
    connection.write(&[Frame::ping(b"held now")]).unwrap();
    let next = connection.until(|frame| frame.kind == kind::DATA || frame.payload == b"held now").expect("an answer");
    assert_eq!(next.kind, kind::PING, "no byte of the body without a window");
    connection.write(&[Frame::settings(&[(INITIAL_WINDOW_SIZE, 1)])]).unwrap();
    let first = connection.until(|frame| frame.kind == kind::DATA).expect("a body");
    assert_eq!(first.payload.len(), 1, "as much as the window lets through");
    connection.write(&[Frame::window(1, 1_000)]).unwrap();
    connection.until(|frame| frame.is(kind::DATA, flag::END_STREAM)).expect("the rest");
}

#[test]
fn a_hundred_requests_at_once_are_all_answered_on_one_connection() {
    let world = World::start();
    let mut connection = Http2::connect(world.address(), HOST);
    for round in 0..5 {
        let frames: Vec<Frame> = (0..100).map(|n| headers(200 * round + 2 * n + 1, &get())).collect();
        connection.write(&frames).unwrap();
        let mut left = 100;
        while left > 0 {
            let frame = connection.read().expect("it goes on");
            assert!(frame.kind != kind::RST_STREAM && frame.kind != kind::GOAWAY, "{frame:?}");
            if frame.kind == kind::HEADERS {
                assert_eq!(frame.payload[0], 0x88, "`:status` 200 by its index");
            }
            left -= u32::from((frame.kind == kind::DATA || frame.kind == kind::HEADERS) && frame.flags & flag::END_STREAM != 0);
        }
    }
}

#[test]
fn a_connection_that_brought_all_the_requests_it_may_is_told_to_go_and_its_last_one_is_answered() {
    let world = World::start();
    let mut connection = Http2::connect(world.address(), HOST);
    // Clients may leave numbers out.
    connection.write(&[headers(200_001, &get())]).unwrap();
    let (mut is_answered, mut is_told) = (false, false);
    while let Some(frame) = connection.read() {
        is_told |= frame.kind == kind::GOAWAY && frame.code() == 0;
        is_answered |= frame.is(kind::DATA, flag::END_STREAM);
        if frame.kind == kind::PING && frame.flags & flag::ACK == 0 {
            connection.write(&[Frame { flags: flag::ACK, ..frame }]).unwrap();
        }
    }
    assert!(is_answered && is_told);
}
