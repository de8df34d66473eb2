//! The PROXY header of a balancer.

use crate::connection::proxy_header::{Found, HEADER_BYTES_MAX, Header, Malformed, parse};
use crate::fields::Fields;
use crate::http1::request::{Bounds, Reader};
use bytes::BytesMut;
use std::net::{IpAddr, SocketAddr};

/// Whether the bytes begin with a header that is accepted.
///
/// # Panics
/// More bytes change what was found, a header is a request too, or its client is another one when we write it.
pub fn check(data: &[u8]) -> bool {
    // What lies beyond the longest header changes nothing, as the loop shows at its end.
    let data = data.get(..HEADER_BYTES_MAX + 64).unwrap_or(data);
    let Ok(Found::Header(header)) = settled(data) else { return false };
    assert!(header.bytes <= HEADER_BYTES_MAX && header.bytes <= data.len());
    let (written, behind) = data.split_at(header.bytes);
    assert_eq!(parse(written), Ok(Found::Header(header)), "what follows changes it");
    assert_eq!(parse(&written[..header.bytes - 1]), Ok(Found::Part), "its last byte is none of it");
    let again = binary(header.client);
    assert_eq!(parse(&[&again, behind].concat()), Ok(Found::Header(Header { client: header.client, bytes: again.len() })));
    let request = Reader::default().head(&mut BytesMut::from(data), &mut Fields::default(), Bounds { bytes: 1_024, fields: 20 });
    assert!(!matches!(request, Ok(Some(_))), "a reader that knows no such header takes it for a request");
    true
}

/// What is found however many bytes there are: once it is more than a part, it stays.
fn settled(data: &[u8]) -> Result<Found, Malformed> {
    let mut settled = Ok(Found::Part);
    for cut in 0..=data.len() {
        let found = parse(&data[..cut]);
        if settled == Ok(Found::Part) {
            assert!(found != Ok(Found::Part) || cut < HEADER_BYTES_MAX, "a header that never ends");
            settled = found;
        } else {
            assert_eq!(found, settled, "another byte changes what was found");
        }
    }
    settled
}

/// A header of version 2 that names this client, or nobody.
fn binary(client: Option<SocketAddr>) -> Vec<u8> {
    let (command, family, addresses) = match client {
        None => (0x20, 0x00, Vec::new()),
        Some(client) => match client.ip() {
            IpAddr::V4(ip) => (0x21, 0x11, [&ip.octets()[..], &[0; 4]].concat()),
            IpAddr::V6(ip) => (0x21, 0x21, [&ip.octets()[..], &[0; 16]].concat()),
        },
    };
    let ports = client.map(|client| [client.port().to_be_bytes(), [0; 2]].concat()).unwrap_or_default();
    let length = u16::try_from(addresses.len() + ports.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, &addresses, &ports].concat()
}
