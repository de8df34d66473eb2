//! The header itself, from bytes: version 1 is a line of text, version 2 binary with extensions behind the addresses.
//!
//! Cost: per header; one walk over at most 536 bytes, nothing allocated.
//! Strict: what is not exactly as the protocol writes it is refused, so that two readers of one header cannot differ. Pure: the
//! same bytes give the same result however they arrive, and more bytes never change a result other than [`Found::Part`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Bytes of the longest line of version 1, its CR LF included (section 2.1).
const LINE_BYTES_MAX: usize = 107;
/// Bytes of the longest header that is read: what always fits into one segment (section 2.2), far more than extensions take.
pub const HEADER_BYTES_MAX: usize = 536;
/// Where version 1 begins.
const WORD: &[u8] = b"PROXY ";
/// Where version 2 begins: no text, and no HTTP.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before its addresses.
const FIXED_BYTES: usize = 16;
/// The extension that guards a header of version 2 (section 2.2.3).
const CRC32C: u8 = 0x03;

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Something else than a header.
    Nothing,
    /// What may become a header.
    Part,
    /// A header.
    Header(Header),
}

/// A header that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The client; none where the connection is the balancer's own, or it does not know whose.
    pub client: Option<SocketAddr>,
    /// How many bytes it has.
    pub bytes: usize,
}

/// Why a header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Version 1.
    #[error("a line of version 1 is `PROXY`, `TCP4` or `TCP6`, two addresses, two ports, a space between each, and CR LF")]
    Line,
    /// Version 1.
    #[error("a line of version 1 has at most {LINE_BYTES_MAX} bytes")]
    LongLine,
    /// Version 2.
    #[error("version and command {0:#04x} is neither LOCAL nor PROXY of version 2")]
    Command(u8),
    /// Version 2.
    #[error("family and transport {0:#04x} is not TCP over IPv4 or IPv6")]
    Family(u8),
    /// Version 2.
    #[error("it announces {0} bytes, more than {HEADER_BYTES_MAX}")]
    Long(usize),
    /// Version 2.
    #[error("it ends within its addresses")]
    Short,
    /// Version 2.
    #[error("its extensions do not end where it does, or the checksum among them is none")]
    Extensions,
    /// Version 2.
    #[error("its CRC32c is not that of its bytes")]
    Checksum,
}

/// Reads a header from the first bytes of a connection.
///
/// # Errors
/// They begin like a header and cannot become one.
pub fn parse(read: &[u8]) -> Result<Found, Malformed> {
    if read.starts_with(SIGNATURE) {
        return version_2(read);
    }
    if let Some(line) = read.strip_prefix(WORD) {
        return version_1(read, line);
    }
    Ok(if SIGNATURE.starts_with(read) || WORD.starts_with(read) { Found::Part } else { Found::Nothing })
}

fn version_1(read: &[u8], line: &[u8]) -> Result<Found, Malformed> {
    let end = line.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    if end.unwrap_or(line.len()) > LINE_BYTES_MAX - WORD.len() - 2 {
        return Err(Malformed::LongLine);
    }
    let Some((line, end)) = end.and_then(|end| line.split_at_checked(end)) else { return Ok(Found::Part) };
    match end {
        [b'\r', b'\n', after @ ..] => Ok(Found::Header(Header { client: client(line)?, bytes: read.len() - after.len() })),
        [b'\r'] => Ok(Found::Part),
        _ => Err(Malformed::Line),
    }
}

/// The client that a line of version 1 names.
fn client(line: &[u8]) -> Result<Option<SocketAddr>, Malformed> {
    // What follows is for nobody (section 2.1), so it need not be text.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(None);
    }
    let line = std::str::from_utf8(line).map_err(|_| Malformed::Line)?;
    let fields: Vec<&str> = line.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = fields.as_slice() else { return Err(Malformed::Line) };
    let address: fn(&str) -> Option<IpAddr> = match *family {
        "TCP4" => |text| Ipv4Addr::from_str(text).ok().map(IpAddr::V4),
        // Groups of hexadecimal digits; the form that ends in an IPv4 address is none of the protocol's.
        "TCP6" => |text| Ipv6Addr::from_str(text).ok().filter(|_| !text.contains('.')).map(IpAddr::V6),
        _ => return Err(Malformed::Line),
    };
    let both = address(source).zip(address(destination)).zip(port(source_port).zip(port(destination_port)));
    both.map(|((source, _), (port, _))| Some(SocketAddr::new(source, port))).ok_or(Malformed::Line)
}

/// A port without sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port: &u16| port.to_string() == text)
}

fn version_2(read: &[u8]) -> Result<Found, Malformed> {
    let fixed = read.get(SIGNATURE.len()..).and_then(|rest| rest.first_chunk());
    let Some(&[command, family, high, low]) = fixed else { return Ok(Found::Part) };
    let bytes = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Command(command)),
    };
    if bytes > HEADER_BYTES_MAX {
        return Err(Malformed::Long(bytes));
    }
    if !is_local && !matches!(family, 0x00 | 0x11 | 0x21) {
        return Err(Malformed::Family(family));
    }
    let Some(header) = read.get(..bytes) else { return Ok(Found::Part) };
    let block = header.get(FIXED_BYTES..).unwrap_or_default();
    // What LOCAL carries is for nobody, its family included (section 2.2).
    let client = if is_local { None } else { addresses(header, family, block)? };
    Ok(Found::Header(Header { client, bytes }))
}

/// The client that the addresses of version 2 name, once the extensions behind them are looked at.
fn addresses(header: &[u8], family: u8, block: &[u8]) -> Result<Option<SocketAddr>, Malformed> {
    let (client, extensions) = match family {
        0x11 => {
            let (&[a, b, c, d, _, _, _, _, high, low, _, _], rest) = block.split_first_chunk().ok_or(Malformed::Short)?;
            (Some(SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])))), rest)
        }
        0x21 => {
            let (source, rest) = block.split_first_chunk::<16>().ok_or(Malformed::Short)?;
            let (_destination, rest) = rest.split_first_chunk::<16>().ok_or(Malformed::Short)?;
            let (&[high, low, _, _], rest) = rest.split_first_chunk().ok_or(Malformed::Short)?;
            (Some(SocketAddr::from((*source, u16::from_be_bytes([high, low])))), rest)
        }
        _ => (None, block),
    };
    check(header, extensions)?;
    Ok(client)
}

/// Walks over the extensions that end a header; a checksum among them must hold.
fn check(header: &[u8], mut extensions: &[u8]) -> Result<(), Malformed> {
    let mut has_checksum = false;
    while !extensions.is_empty() {
        let (&[kind, high, low], rest) = extensions.split_first_chunk().ok_or(Malformed::Extensions)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(length).ok_or(Malformed::Extensions)?;
        if kind == CRC32C {
            let written: [u8; 4] = value.try_into().map_err(|_| Malformed::Extensions)?;
            if std::mem::replace(&mut has_checksum, true) {
                return Err(Malformed::Extensions);
            }
            let end = header.len() - rest.len();
            if crc32c(header, end - written.len()..end) != u32::from_be_bytes(written) {
                return Err(Malformed::Checksum);
            }
        }
        extensions = rest;
    }
    Ok(())
}

/// CRC-32C of the bytes, those at `cleared` taken as zero. Bit by bit: a table would be larger than the little that is summed.
fn crc32c(bytes: &[u8], cleared: std::ops::Range<usize>) -> u32 {
    let bytes = bytes.iter().enumerate().map(|(at, byte)| if cleared.contains(&at) { 0 } else { *byte });
    !bytes.fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1))))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(read: &[u8]) -> Result<Option<(Option<String>, usize)>, Malformed> {
        Ok(match parse(read)? {
            Found::Header(Header { client, bytes }) => Some((client.map(|client| client.to_string()), bytes)),
            Found::Nothing | Found::Part => None,
        })
    }

    /// A header of version 2.
    fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, block].concat()
    }

    const FOUR: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb];

    /// TCP over IPv4 with these extensions, and a checksum behind them.
    fn guarded(extensions: &[u8]) -> Vec<u8> {
        let mut header = binary(0x21, 0x11, &[FOUR, extensions, &[CRC32C, 0, 4, 0, 0, 0, 0]].concat());
        let value = header.len() - 4;
        let sum = crc32c(&header, 0..0).to_be_bytes();
        header[value..].copy_from_slice(&sum);
        header
    }

    #[test]
    fn a_line_of_version_1_is_exactly_as_the_protocol_writes_it() {
        let unknown_of_107 = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
        let unknown_of_108 = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        for (line, client) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n", Ok(Some("192.0.2.1:4711"))),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Ok(Some("255.255.255.255:65535"))),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 0 0\r\n", Ok(Some("192.0.2.1:0"))),
            ("PROXY TCP6 2001:db8::1 ::1 4711 443\r\n", Ok(Some("[2001:db8::1]:4711"))),
            ("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ::1 1 2\r\n", Ok(Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:1"))),
            ("PROXY UNKNOWN\r\n", Ok(None)),
            ("PROXY UNKNOWN 192.0.2.1 what ever\r\n", Ok(None)),
            (&unknown_of_107, Ok(None)),
            (&unknown_of_108, Err(Malformed::LongLine)),
            ("PROXY UNKNOWNS\r\n", Err(Malformed::Line)),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\n", Err(Malformed::Line)),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\rX", Err(Malformed::Line)),
            ("PROXY TCP4  192.0.2.1 198.51.100.1 4711 443\r\n", Err(Malformed::Line)),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443 \r\n", Err(Malformed::Line)),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4711\r\n", Err(Malformed::Line)),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 04711 443\r\n", Err(Malformed::Line)),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 +4711 443\r\n", Err(Malformed::Line)),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4711 65536\r\n", Err(Malformed::Line)),
            ("PROXY TCP4 192.0.2.01 198.51.100.1 4711 443\r\n", Err(Malformed::Line)),
            ("PROXY TCP4 192.0.2.1 ::1 4711 443\r\n", Err(Malformed::Line)),
            ("PROXY TCP4 2001:db8::1 ::1 4711 443\r\n", Err(Malformed::Line)),
            ("PROXY TCP6 192.0.2.1 198.51.100.1 4711 443\r\n", Err(Malformed::Line)),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 4711 443\r\n", Err(Malformed::Line)),
            ("PROXY TCP6 fe80::1%1 ::1 4711 443\r\n", Err(Malformed::Line)),
            ("PROXY UDP4 192.0.2.1 198.51.100.1 4711 443\r\n", Err(Malformed::Line)),
            ("PROXY tcp4 192.0.2.1 198.51.100.1 4711 443\r\n", Err(Malformed::Line)),
            ("PROXY \r\n", Err(Malformed::Line)),
            ("PROXY / HTTP/1.1\r\n", Err(Malformed::Line)),
        ] {
            let expected = client.map(|client| Some((client.map(str::to_owned), line.len())));
            assert_eq!(header(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn a_header_of_version_2_names_a_tcp_client_or_nobody() {
        let six = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0x12, 0x67, 0x01, 0xbb]].concat();
        for (bytes, client) in [
            (binary(0x21, 0x11, FOUR), Ok(Some("192.0.2.1:4711"))),
            (binary(0x21, 0x21, &six), Ok(Some("[2001:db8::1]:4711"))),
            (binary(0x20, 0x00, b""), Ok(None)),
            (binary(0x20, 0x31, b"whatever"), Ok(None)),
            (binary(0x21, 0x00, b""), Ok(None)),
            (binary(0x21, 0x11, &FOUR[..11]), Err(Malformed::Short)),
            (binary(0x21, 0x21, FOUR), Err(Malformed::Short)),
            (binary(0x21, 0x12, FOUR), Err(Malformed::Family(0x12))),
            (binary(0x21, 0x31, &[0; 216]), Err(Malformed::Family(0x31))),
            (binary(0x21, 0x41, FOUR), Err(Malformed::Family(0x41))),
            (binary(0x11, 0x11, FOUR), Err(Malformed::Command(0x11))),
            (binary(0x22, 0x11, FOUR), Err(Malformed::Command(0x22))),
            (binary(0x20, 0x00, &[0; 520]), Ok(None)),
            (binary(0x20, 0x00, &[0; 521]), Err(Malformed::Long(537))),
        ] {
            let expected = client.map(|client| Some((client.map(str::to_owned), bytes.len())));
            assert_eq!(header(&bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn extensions_are_passed_over_and_a_checksum_must_hold() {
        // The check value of CRC-32C.
        assert_eq!(crc32c(b"123456789", 0..0), 0xe306_9283);
        let noop = &[0x04, 0, 2, 7, 7][..];
        let named = Ok(Some((Some("192.0.2.1:4711".to_owned()), 0)));
        let with =
            |extensions: &[u8]| header(&binary(0x21, 0x11, &[FOUR, extensions].concat())).map(|found| found.map(|(client, _)| (client, 0)));
        assert_eq!(with(noop), named);
        assert_eq!(with(&[0x04, 0]), Err(Malformed::Extensions));
        assert_eq!(with(&[0x04, 0, 3, 7, 7]), Err(Malformed::Extensions));
        assert_eq!(with(&[CRC32C, 0, 3, 7, 7, 7]), Err(Malformed::Extensions));
        assert_eq!(with(&[CRC32C, 0, 4, 0, 0, 0, 0]), Err(Malformed::Checksum));
        let mut sound = guarded(noop);
        assert!(header(&sound).unwrap().is_some());
        sound[20] ^= 1;
        assert_eq!(header(&sound), Err(Malformed::Checksum), "another address than was summed");
        let twice = guarded(&[CRC32C, 0, 4, 0, 0, 0, 0]);
        assert!(matches!(header(&twice), Err(Malformed::Checksum | Malformed::Extensions)));
    }

    #[test]
    fn what_is_no_header_is_told_at_the_first_byte_that_differs() {
        for (read, found) in [
            (&b""[..], Found::Part),
            (b"P", Found::Part),
            (b"PROXY", Found::Part),
            (b"PO", Found::Nothing),
            (b"PROXYS", Found::Nothing),
            (b"GET / HTTP/1.1\r\n", Found::Nothing),
            (b"PRI * HTTP/2.0\r\n", Found::Nothing),
            (b"\x16\x03\x01", Found::Nothing),
            (b"\r\n\r\n\0\r\nQUIT", Found::Part),
            (b"\r\n\r\nGET", Found::Nothing),
        ] {
            assert_eq!(parse(read), Ok(found), "{read:?}");
        }
    }

    /// Headers, and what is nearly one.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let line = prop::sample::select(vec![
            "PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\nGET / HTTP/1.1\r\n",
            "PROXY TCP6 2001:db8::1 ::1 4711 443\r\n",
            "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        ]);
        let line = line.prop_map(|line| line.as_bytes().to_vec());
        let binary = (
            prop::sample::select(vec![0x20, 0x21]),
            prop::sample::select(vec![0x00, 0x11, 0x21, 0x31]),
            prop::collection::vec(any::<u8>(), 0..600),
        )
            .prop_map(|(command, family, block)| binary(command, family, &block));
        let guarded = prop::collection::vec(any::<u8>(), 0..40)
            .prop_map(|value| guarded(&[&[0x05, 0, u8::try_from(value.len()).unwrap()][..], &value].concat()));
        let near = prop_oneof![line, binary, guarded];
        (near, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)).prop_map(|(mut bytes, changes)| {
            for (at, to) in changes {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_result_is_the_same(bytes in nearly(), more in prop::collection::vec(any::<u8>(), 0..8)) {
            let whole = [&bytes[..], &more].concat();
            let mut settled = None;
            for cut in 0..=whole.len() {
                let result = parse(&whole[..cut]);
                if let Ok(Found::Header(header)) = result {
                    prop_assert!(header.bytes <= cut && header.bytes <= HEADER_BYTES_MAX);
                }
                match settled {
                    Some(before) => prop_assert_eq!(result, before, "at {}", cut),
                    None if result != Ok(Found::Part) => settled = Some(result),
                    None => prop_assert!(cut < HEADER_BYTES_MAX, "a header that never ends"),
                }
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let _ = parse(&bytes);
            let _ = parse(&[SIGNATURE, &bytes].concat());
            let _ = parse(&[WORD, &bytes].concat());
        }
    }
}
