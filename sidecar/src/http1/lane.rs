//! Lane: a socket with what was read of it and not yet taken, and what is to be written and has not gone yet.
//!
//! Cost: per read and write; one system call, no copy of large pieces, buffers that are used again.
//! What is written is held back until every task that is ready has had its turn, once. Writes then follow each other closely, and
//! a peer that was woken by the first finds the others when it is done with it; woken for each, it costs an interrupt of its
//! processor each time, which is more than polling twice.

use crate::socket::Socket;
use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};

/// Bytes read at once, at first and at most: what fills the buffer may have more behind it.
pub const READ_BYTES: usize = 8 << 10;
const READ_BYTES_MAX: usize = 32 << 10;
/// A piece of a body up to this size is copied behind what waits already, so that both go out at once.
const COPIED_MAX: usize = 8 << 10;
/// Waiting bytes to which more is added before they go.
pub const WAITING_MAX: usize = 32 << 10;
/// What ends a chunk, and what ends a chunk and the body.
const CHUNK_END: &[u8] = b"\r\n";
const LAST_CHUNK_END: &[u8] = b"\r\n0\r\n\r\n";

/// One connection's bytes.
#[derive(Debug)]
pub struct Lane {
    /// The connection.
    pub socket: Socket,
    /// Bytes read and not yet taken.
    pub input: BytesMut,
    /// Bytes that wait to go out.
    pub output: Vec<u8>,
    /// Bytes the next read asks for.
    read_bytes: usize,
    /// How much of `output` went.
    sent: usize,
    /// What waits was held back already.
    is_held: bool,
    /// The system took less than what waits.
    is_blocked: bool,
    /// A piece that goes out behind `output`, as it is.
    piece: Bytes,
    /// What ends the piece, if it is a chunk.
    tail: &'static [u8],
}

impl Lane {
    /// A lane over a socket from which `input` was read already.
    #[must_use]
    pub fn new(socket: Socket, input: BytesMut) -> Self {
        Self {
            socket,
            input,
            output: Vec::new(),
            read_bytes: READ_BYTES,
            sent: 0,
            is_held: false,
            is_blocked: false,
            piece: Bytes::new(),
            tail: b"",
        }
    }

    /// Reads some bytes; none at the end.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < self.read_bytes / 2 {
            self.input.reserve(self.read_bytes);
        }
        let room = self.input.capacity() - self.input.len();
        let length = ready!(pin!(self.socket.read_buf(&mut self.input)).poll(cx))?;
        if length == room {
            self.read_bytes = (2 * self.read_bytes).min(READ_BYTES_MAX);
        }
        Poll::Ready(Ok(length))
    }

    /// Whether nothing waits to go out.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.output.len() == self.sent && self.piece.is_empty() && self.tail.is_empty()
    }

    /// Whether not a byte of what waits has gone yet.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        self.sent == 0 && !self.output.is_empty()
    }

    /// Whether more may be added to what waits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.piece.is_empty() && self.tail.is_empty() && self.output.len() - self.sent < WAITING_MAX
    }

    /// Adds a piece of a body; only where there is room.
    pub fn put(&mut self, data: Bytes) {
        if data.len() <= COPIED_MAX {
            self.output.extend_from_slice(&data);
        } else {
            self.piece = data;
        }
    }

    /// Adds a chunk; only where there is room. An empty one would be the last and is left out.
    pub fn put_chunk(&mut self, data: Bytes) {
        if data.len() <= COPIED_MAX {
            super::write::chunk(&mut self.output, &data);
        } else {
            super::write::chunk_size(&mut self.output, data.len());
            self.piece = data;
            self.tail = CHUNK_END;
        }
    }

    /// Adds the last chunk; with trailers only where there is room.
    pub fn put_last_chunk(&mut self, trailers: Option<&HeaderMap>) {
        if self.tail == CHUNK_END && trailers.is_none() {
            self.tail = LAST_CHUNK_END;
        } else {
            super::write::last_chunk(&mut self.output, trailers);
        }
    }

    /// Writes what waits; `Ready` once all of it is with the system.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.holds_back() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        while !self.is_flushed() {
            let waiting = self.output.get(self.sent..).unwrap_or_default();
            let socket = Pin::new(&mut self.socket);
            let length = match (self.piece.is_empty(), self.tail.is_empty()) {
                (true, true) => socket.poll_write(cx, waiting),
                _ => socket.poll_write_vectored(cx, &[IoSlice::new(waiting), IoSlice::new(&self.piece), IoSlice::new(self.tail)]),
            };
            self.is_blocked = length.is_pending();
            // A socket that takes nothing of something will take nothing ever.
            match ready!(length)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => self.went(length),
            }
        }
        self.output.clear();
        self.sent = 0;
        self.is_held = false;
        // A session takes what the system does not.
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.is_blocked = flushed.is_pending();
        flushed
    }

    /// Whether the peer takes nothing, or less than there is.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Whether others go first. A large piece keeps its reader busy for long enough.
    fn holds_back(&mut self) -> bool {
        let holds_back = !self.is_held && self.piece.is_empty() && !self.is_flushed();
        self.is_held |= holds_back;
        holds_back
    }

    fn went(&mut self, length: usize) {
        let of_output = length.min(self.output.len() - self.sent);
        let of_piece = (length - of_output).min(self.piece.len());
        let of_tail = length - of_output - of_piece;
        self.sent += of_output;
        if of_piece == self.piece.len() {
            // Not an empty view of it: that would hold its buffer.
            self.piece = Bytes::new();
        } else {
            self.piece.advance(of_piece);
        }
        self.tail = self.tail.get(of_tail..).unwrap_or_default();
    }

    /// Gives back what a large body made it need; to be called when nothing waits.
    pub fn shrink(&mut self) {
        if self.read_bytes > READ_BYTES {
            self.read_bytes = READ_BYTES;
            self.input = BytesMut::new();
        }
        if self.is_flushed() && self.output.capacity() > READ_BYTES_MAX {
            self.output = Vec::new();
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::Arc;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (Lane, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (peer, _) = listener.accept().await.unwrap();
        (Lane::new(stream.into(), BytesMut::new()), peer)
    }

    #[tokio::test]
    async fn pieces_large_and_small_go_out_in_order_whatever_the_peer_takes() {
        let (mut lane, mut peer) = pair().await;
        let large = Bytes::from(vec![b'x'; 3 << 20]);
        let expected = [b"head ".as_slice(), b"300000\r\n", &large, b"\r\n2\r\nab\r\n300000\r\n", &large, b"\r\n0\r\n\r\n"].concat();
        let send = async {
            lane.output.extend_from_slice(b"head ");
            lane.put_chunk(large.clone());
            assert!(!lane.has_room(), "a large piece waits alone");
            poll_fn(|cx| lane.poll_flush(cx)).await.unwrap();
            lane.put_chunk(Bytes::from_static(b"ab"));
            lane.put_chunk(large.clone());
            lane.put_last_chunk(None);
            poll_fn(|cx| lane.poll_flush(cx)).await.unwrap();
            assert!(lane.is_flushed());
            lane.socket.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (_, read) = tokio::join!(send, peer.read_to_end(&mut received));
        read.unwrap();
        assert!(received == expected, "{} bytes of {}", received.len(), expected.len());
    }

    /// A lane over TLS, and its peer.
    async fn pair_over_tls() -> (Lane, tokio_rustls::client::TlsStream<TcpStream>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap().self_signed(&key).unwrap().der().clone();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = server.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (peer, _) = listener.accept().await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
        let both = tokio::join!(acceptor.accept(stream), connector.connect("a.test".try_into().unwrap(), peer));
        (Lane::new(both.0.unwrap().into(), BytesMut::new()), both.1.unwrap())
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_blocks_also_where_a_session_has_room() {
        let (mut lane, _peer) = pair_over_tls().await;
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            lane.output.extend_from_slice(&[0; 4_096]);
            // The first time it is held back.
            let _ = lane.poll_flush(&mut cx);
            assert!(lane.is_held || lane.is_flushed());
            if lane.poll_flush(&mut cx).is_pending() {
                break;
            }
        }
        assert!(lane.is_flushed(), "the session had room");
        assert!(lane.is_blocked(), "and yet its peer is waited for");
    }

    #[tokio::test]
    async fn what_a_large_body_needed_is_given_back() {
        let (mut lane, mut peer) = pair().await;
        peer.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
        while lane.read_bytes < READ_BYTES_MAX {
            poll_fn(|cx| lane.poll_read(cx)).await.unwrap();
        }
        lane.shrink();
        assert_eq!((lane.read_bytes, lane.input.capacity()), (READ_BYTES, 0));
    }
}
