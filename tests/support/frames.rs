//! HTTP/2 frame by frame: a client that sends exactly the frames it is given, right or wrong.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113 section 6).
pub mod kind {
    pub const DATA: u8 = 0x0;
    pub const HEADERS: u8 = 0x1;
    pub const PRIORITY: u8 = 0x2;
    pub const RST_STREAM: u8 = 0x3;
    pub const SETTINGS: u8 = 0x4;
    pub const PUSH_PROMISE: u8 = 0x5;
    pub const PING: u8 = 0x6;
    pub const GOAWAY: u8 = 0x7;
    pub const WINDOW_UPDATE: u8 = 0x8;
    pub const CONTINUATION: u8 = 0x9;
}

/// Flags of frames.
pub mod flag {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// SETTINGS with these values.
    pub fn settings(values: &[(u16, u32)]) -> Self {
        let payload: Vec<u8> = values.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        Self::new(kind::SETTINGS, 0, 0, payload)
    }

    /// WINDOW_UPDATE of a stream, or of the connection (0).
    pub fn window(stream: u32, more: u32) -> Self {
        Self::new(kind::WINDOW_UPDATE, 0, stream, more.to_be_bytes())
    }

    /// RST_STREAM.
    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(kind::RST_STREAM, 0, stream, code.to_be_bytes())
    }

    /// PING with this payload.
    pub fn ping(payload: &[u8; 8]) -> Self {
        Self::new(kind::PING, 0, 0, payload.as_slice())
    }

    /// HEADERS with these fields and nothing behind.
    pub fn headers(stream: u32, fields: &[(&str, &str)]) -> Self {
        Self::new(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, block(fields))
    }

    /// Whether it is of this type and has these flags.
    pub fn is(&self, kind: u8, flags: u8) -> bool {
        self.kind == kind && self.flags & flags == flags
    }

    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == kind::GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a frame is small").to_be_bytes();
        let head = [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes()].concat();
        [head, self.payload.clone()].concat()
    }
}

/// Fields as a header block: literals, neither indexed nor compressed (RFC 7541 section 6.2.2).
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for bytes in [name.as_ref(), value.as_ref()] {
            integer(&mut block, bytes.len());
            block.extend_from_slice(bytes);
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn integer(block: &mut Vec<u8>, value: usize) {
    let small = |value: usize| u8::try_from(value).expect("less than 128");
    if value < 127 {
        return block.push(small(value));
    }
    block.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        block.push(small(rest % 128) | 0x80);
        rest /= 128;
    }
    block.push(small(rest));
}

/// A connection of frames.
pub struct Http2 {
    stream: Box<dyn ReadWrite>,
    authority: String,
}

/// What frames go over.
pub trait ReadWrite: Read + Write {}

impl<S: Read + Write> ReadWrite for S {}

impl Http2 {
    /// A connection that has said nothing yet; requests made by it name `authority`.
    pub fn raw(to: SocketAddr, authority: &str) -> Self {
        let stream = TcpStream::connect(to).unwrap_or_else(|why| panic!("connecting to {to}: {why}"));
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream.set_write_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        Self::over(stream, authority)
    }

    /// A connection over any stream, that has said nothing yet.
    pub fn over(stream: impl ReadWrite + 'static, authority: &str) -> Self {
        Self { stream: Box::new(stream), authority: authority.to_owned() }
    }

    /// A connection whose settings both sides have accepted.
    pub fn connect(to: SocketAddr, authority: &str) -> Self {
        Self::with_settings(to, authority, &[])
    }

    /// Likewise, with these settings of the client.
    pub fn with_settings(to: SocketAddr, authority: &str, settings: &[(u16, u32)]) -> Self {
        Self::raw(to, authority).agree(settings)
    }

    /// The same connection, once both sides have accepted each other's settings.
    pub fn agree(mut self, settings: &[(u16, u32)]) -> Self {
        self.write_raw(&[PREFACE, &Frame::settings(settings).bytes()].concat()).expect("it takes the preface");
        let mut owed = 2;
        while owed > 0 {
            let frame = self.read().expect("it speaks HTTP/2");
            if frame.kind == kind::SETTINGS {
                owed -= 1;
                if frame.flags & flag::ACK == 0 {
                    self.write(&[Frame::new(kind::SETTINGS, flag::ACK, 0, [])]).expect("it goes on");
                }
            }
        }
        self
    }

    /// The fields of a GET.
    pub fn get<'a>(&'a self, path: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", &self.authority)]
    }

    /// Sends frames in one write.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn write(&mut self, frames: &[Frame]) -> std::io::Result<()> {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        self.write_raw(&bytes)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn write_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// The next frame; nothing when the connection has ended.
    ///
    /// # Panics
    /// When nothing comes for half a minute.
    pub fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame that `wanted` likes; nothing when the connection ended before.
    pub fn until(&mut self, mut wanted: impl FnMut(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.read()?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    fn read_exact(&mut self, into: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(into) {
            Ok(()) => Some(()),
            Err(why) => {
                let is_silent = matches!(why.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                assert!(!is_silent, "nothing came for half a minute");
                None
            }
        }
    }
}
