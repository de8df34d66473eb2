//! Lane: a socket with what was read of it and not yet taken, and what is to be written and has not gone yet.
//!
//! Cost: per read and write; one system call, no copy of large pieces, buffers that are used again.
//! What is small and whole need not be written by who made it: it may leave with the [departures](crate::worker::Departures).

use crate::socket::Socket;
use crate::worker::Departs;
use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use std::cell::RefCell;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};

/// Bytes read at once, at first and at most: what fills the buffer may have more behind it.
pub const READ_BYTES: usize = 8 << 10;
const READ_BYTES_MAX: usize = 32 << 10;
/// A piece of a body up to this size is copied behind what waits already, so that both go out at once.
pub const COPIED_MAX: usize = 8 << 10;
/// Waiting bytes to which more is added before they go.
pub const WAITING_MAX: usize = 32 << 10;
/// Memory for what goes out that is kept while nothing does.
const KEPT_MAX: usize = 2 * READ_BYTES;
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
    /// What waits leaves with the departures.
    is_leaving: bool,
    /// Who is woken if it does not leave whole.
    owner: Option<Waker>,
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
            is_leaving: false,
            owner: None,
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
        self.is_leaving = false;
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

    /// Whether what waits may leave with the departures: a large piece keeps its reader busy for long enough by itself, and what the
    /// system did not take before is its owner's to see to.
    #[must_use]
    pub fn may_leave(&self) -> bool {
        !self.is_blocked && self.sent == 0 && self.piece.is_empty() && self.tail.is_empty()
    }

    /// What waits is to leave with the departures; if it does not leave whole, `owner` is woken. Whether they must be told.
    #[must_use]
    pub fn leave(&mut self, owner: &Waker) -> bool {
        match &mut self.owner {
            Some(known) => known.clone_from(owner),
            none => *none = Some(owner.clone()),
        }
        !std::mem::replace(&mut self.is_leaving, true)
    }

    /// Whether what waits leaves without its owner.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Whether its owner must see to what waits.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        !self.is_leaving && (self.is_blocked || !self.is_flushed())
    }

    /// It leaves.
    pub fn depart(&mut self) {
        self.is_leaving = false;
        // Not kept: it would hold its task's memory.
        let Some(owner) = self.owner.take() else { return };
        if !matches!(self.poll_flush(&mut Context::from_waker(&owner)), Poll::Ready(Ok(()))) {
            // What is wrong its owner finds when it tries for itself.
            self.is_blocked = true;
            owner.wake();
        }
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

    /// Gives back what a large body made it need, of what is empty; to be called where the peer may be silent for long.
    pub fn shrink(&mut self) {
        if self.read_bytes > READ_BYTES && self.input.is_empty() {
            self.read_bytes = READ_BYTES;
            self.input = BytesMut::new();
        }
        if self.output.capacity() > KEPT_MAX && self.is_flushed() {
            (self.output, self.sent) = (Vec::new(), 0);
        }
    }
}

impl Departs for RefCell<Lane> {
    fn depart(&self) {
        self.borrow_mut().depart();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
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
            if lane.poll_flush(&mut cx).is_pending() {
                break;
            }
        }
        assert!(lane.is_flushed(), "the session had room");
        assert!(lane.is_blocked(), "and yet its peer is waited for");
    }

    #[tokio::test]
    async fn what_leaves_by_itself_and_does_not_leave_whole_is_its_owners_again() {
        let (mut lane, mut peer) = pair().await;
        let bell = Arc::new(Bell(AtomicBool::new(false)));
        let owner = Waker::from(Arc::clone(&bell));
        lane.output.extend_from_slice(b"small");
        assert!(lane.may_leave() && lane.leave(&owner) && !lane.leave(&owner), "the departures are told once");
        lane.depart();
        assert!(lane.is_flushed() && !lane.is_leaving() && !bell.0.load(Ordering::Relaxed));
        let length = 8 << 20;
        lane.output.resize(length, b'x');
        assert!(lane.leave(&owner) && !lane.is_stuck());
        lane.depart();
        assert!(bell.0.load(Ordering::Relaxed) && lane.is_stuck() && !lane.may_leave());
        let mut received = vec![0; b"small".len() + length];
        let (sent, read) = tokio::join!(poll_fn(|cx| lane.poll_flush(cx)), peer.read_exact(&mut received));
        sent.unwrap();
        read.unwrap();
        assert!(!lane.is_stuck() && received.ends_with(b"xxx") && received.starts_with(b"smallx"));
    }

    /// Tells whether it was rung.
    struct Bell(AtomicBool);
    impl std::task::Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn what_a_large_body_needed_is_given_back() {
        let (mut lane, mut peer) = pair().await;
        peer.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
        while lane.read_bytes < READ_BYTES_MAX {
            poll_fn(|cx| lane.poll_read(cx)).await.unwrap();
        }
        lane.shrink();
        assert_eq!(lane.read_bytes, READ_BYTES_MAX, "not of what is still to be taken");
        lane.input.clear();
        lane.output.resize(WAITING_MAX, b'x');
        lane.shrink();
        assert_eq!((lane.read_bytes, lane.input.capacity()), (READ_BYTES, 0));
        assert_eq!(lane.output.len(), WAITING_MAX, "not of what is still to go");
        poll_fn(|cx| lane.poll_flush(cx)).await.unwrap();
        lane.shrink();
        assert_eq!(lane.output.capacity(), 0);
    }
}
