//! Messages by the grammar of RFC 9112 with the tricks of its trade, and copies of them with a byte changed. The same in each run.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// What a part of a message may be: what every reader takes alike, and what some take in another way.
struct Parts<T: 'static> {
    plain: &'static [T],
    tricks: &'static [T],
}

impl<T: Clone + std::fmt::Debug> Parts<T> {
    /// Mostly plain: a message with two tricks in it says less about either.
    fn any(&self) -> impl Strategy<Value = T> + use<T> {
        prop_oneof![8 => select(self.plain), 1 => select(self.tricks)]
    }
}

const REQUEST_LINES: Parts<&str> = Parts {
    plain: &[
        "GET / HTTP/1.1\r\n",
        "GET /v1/items?x=1&y HTTP/1.1\r\n",
        "POST /v1/items HTTP/1.1\r\n",
        "PUT /%7Eana/caf%C3%A9 HTTP/1.1\r\n",
        "HEAD / HTTP/1.1\r\n",
        "DELETE /a HTTP/1.0\r\n",
        "POST /a HTTP/1.0\r\n",
        "X-OWN /a HTTP/1.1\r\n",
        "GET http://acme.test/a?b HTTP/1.1\r\n",
        "GET http://acme.test HTTP/1.1\r\n",
        "GET http://acme.test?b HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "OPTIONS /a HTTP/1.1\r\n",
        "\r\nGET / HTTP/1.1\r\n",
    ],
    tricks: &[
        "\r\n\r\nGET / HTTP/1.1\r\n",
        "GET /a#b HTTP/1.1\r\n",
        "GET a HTTP/1.1\r\n",
        "GET acme.test:80 HTTP/1.1\r\n",
        "GET ftp://acme.test/ HTTP/1.1\r\n",
        "GET http://globex.test/ HTTP/1.1\r\n",
        "CONNECT acme.test:80 HTTP/1.1\r\n",
        "GET * HTTP/1.1\r\n",
        "GET /a/../b HTTP/1.1\r\n",
        "GET /a//b HTTP/1.1\r\n",
        "GET /a%2fb HTTP/1.1\r\n",
        "GET /a%zz HTTP/1.1\r\n",
        "GET /caf\u{e9} HTTP/1.1\r\n",
        "GET /a?caf\u{e9} HTTP/1.1\r\n",
        "GET / HTTP/1.2\r\n",
        "GET  / HTTP/1.1\r\n",
        "GET / HTTP/1.1\n",
    ],
};
const HOSTS: Parts<&str> = Parts {
    plain: &["Host: acme.test\r\n", "host:acme.test\r\n", "HOST: \t acme.test \r\n"],
    tricks: &[
        "",
        "Host: acme.test\r\nHost: acme.test\r\n",
        "Host: user@acme.test\r\n",
        "Host: acme.test:x\r\n",
        "Host:\r\n",
        "Host: acme.test\n",
    ],
};
const FIELDS: Parts<&str> = Parts {
    plain: &[
        "Accept: */*\r\n",
        "X-Empty:\r\n",
        "X-Blank: \t \r\n",
        "X-Many: a\r\nX-Many: b\r\n",
        "X-Text: caf\u{e9}\t\"x\"\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\n",
        "Expect: 100-continue\r\n",
        "TE: trailers\r\nTrailer: X-Sum\r\n",
        "Cookie: a=1\r\nCookie: b=2\r\n",
        "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: x\r\n",
    ],
    tricks: &[
        "X-Folded: a\r\n b\r\n",
        "X-Spaced : a\r\n",
        "X-Lf: a\n",
        "X-Cr: a\rb\r\n",
        "X-Nul: a\0b\r\n",
        ": a\r\n",
        "Connection: Host\r\n",
        "X-HTTP-Method-Override: DELETE\r\n",
        "content_length: 7\r\n",
    ],
};
/// Fields that say where the body ends, and a body.
const BODIES: Parts<(&str, &str)> = Parts {
    plain: &[
        ("", ""),
        ("Content-Length: 0\r\n", ""),
        ("Content-Length: 5\r\n", "hello"),
        ("content-length:\t005 \r\n", "hello"),
        ("Transfer-Encoding: chunked\r\n", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        ("transfer-encoding: Chunked\r\n", "000a\r\n0123456789\r\n00\r\nX-Sum: 7\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5;a=b;c=\"d\"\r\nhello\r\n0;last\r\n\r\n"),
    ],
    tricks: &[
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
        ("Content-Length: 5, 5\r\n", "hello"),
        ("Content-Length: +5\r\n", "hello"),
        ("Content-Length: 18446744073709551616\r\n", ""),
        ("Content-Length: 5\r\n", "hell"),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\nG"),
        ("Transfer-Encoding: gzip, chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked, identity\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: \u{b}chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5 \r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5;a\u{1}b\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "00000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\nX-Sum: 7\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nX-Sum: 7\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nno field\r\n\r\n"),
    ],
};
const STATUS_LINES: Parts<&str> = Parts {
    plain: &[
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 404 Not Found\r\n",
        "HTTP/1.1 200\r\n",
        "HTTP/1.1 200 \r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 304 Not Modified\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\n",
    ],
    tricks: &[
        "HTTP/1.1 101 Switching Protocols\r\n",
        "HTTP/1.1 200 OK\n",
        "\r\nHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 042 OK\r\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/1.2 200 OK\r\n",
        "HTTP/2 200\r\n",
    ],
};
/// Ends of a head.
const ENDS: Parts<&str> = Parts { plain: &["\r\n"], tricks: &["\n", "\r\r\n"] };
/// Bytes that mean something to one reader or another.
const TELLING: &[u8] = b"\r\n\0 \t:;,_-#%/0159aAXx\x80\xff";

/// A change of one byte.
#[derive(Debug, Clone, Copy)]
enum Change {
    Put,
    Replace,
    Remove,
}

fn message(lines: &Parts<&'static str>, hosts: &Parts<&'static str>) -> impl Strategy<Value = Bytes> {
    let change = (any::<Index>(), select(&[Change::Put, Change::Replace, Change::Remove][..]), select(TELLING));
    let changes = prop_oneof![2 => Just(Vec::new()).boxed(), 1 => prop::collection::vec(change, 1..3).boxed()];
    (lines.any(), hosts.any(), prop::collection::vec(FIELDS.any(), 0..3), BODIES.any(), ENDS.any(), changes).prop_map(
        |(line, host, fields, (framing, body), end, changes)| {
            let mut wire = [line, host, &fields.concat(), framing, end, body].concat().into_bytes();
            for (at, change, byte) in changes {
                let at = at.index(wire.len());
                match change {
                    Change::Put => wire.insert(at, byte),
                    Change::Replace => wire[at] = byte,
                    Change::Remove => drop(wire.remove(at)),
                }
            }
            wire.into()
        },
    )
}

fn take(count: usize, of: &impl Strategy<Value = Bytes>) -> Vec<Bytes> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| of.new_tree(&mut runner).unwrap().current()).collect()
}

pub(super) fn requests(count: usize) -> Vec<Bytes> {
    take(count, &message(&REQUEST_LINES, &HOSTS))
}

pub(super) fn answers(count: usize) -> Vec<Bytes> {
    take(count, &message(&STATUS_LINES, &Parts { plain: &[""], tricks: &[""] }))
}
