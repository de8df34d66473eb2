//! Accept: the handshake with a client, from its first byte.
//!
//! Cost: per connection; what the handshake takes, and no more system calls: the first bytes are looked at on their way into it.

use super::listener::Server;
use rustls::Error;
use rustls::server::Acceptor;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use tokio::net::TcpStream;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

/// First byte of a handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 0x16;
/// An alert that ends everything, in the clear: 112, `unrecognized_name` (RFC 6066 section 3), and 80, `internal_error`.
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];
const INTERNAL_ERROR: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 80];
/// Enough for a greeting with a post-quantum share.
const FIRST_READ: usize = 4 << 10;

/// Why a client is not let in.
#[derive(Debug, thiserror::Error)]
pub enum NotAccepted {
    /// It does not speak TLS; what it said is lost, the connection is not.
    #[error("it does not speak TLS")]
    Plain(TcpStream),
    /// It names a host that no certificate is for.
    #[error("it names host `{0}`, which no certificate is for")]
    UnknownName(String),
    /// There is no certificate to show.
    #[error("there is no certificate to show; `bulkhead status` says why")]
    NoCertificate,
    /// It did not end the handshake in time.
    #[error("it did not end the handshake in time")]
    Late,
    /// It left, or both have nothing in common.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

impl NotAccepted {
    /// Every label, for metrics.
    pub const LABELS: &'static [&'static str] =
        &["plain", "unknown_name", "no_certificate", "late", "client_certificate", "protocol", "left"];

    /// Its name in logs and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            NotAccepted::Plain(_) => "plain",
            NotAccepted::UnknownName(_) => "unknown_name",
            NotAccepted::NoCertificate => "no_certificate",
            NotAccepted::Late => "late",
            NotAccepted::Failed(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
                Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => "client_certificate",
                Some(_) => "protocol",
                None => "left",
            },
        }
    }

    /// Whether a client that says and does nothing wrong brings it about: health checks come and go without a word.
    #[must_use]
    pub fn is_ordinary(&self) -> bool {
        self.label() == "left"
    }
}

/// Shakes hands with a client.
///
/// # Errors
/// Why there is no session.
pub async fn accept(stream: TcpStream, server: &Server) -> Result<TlsStream<TcpStream>, NotAccepted> {
    let mut greeting = Greeting::default();
    let accepted = loop {
        match poll_fn(|cx| greeting.poll(&stream, cx)).await? {
            Step::More => {}
            Step::Plain => return Err(NotAccepted::Plain(stream)),
            Step::Complete(accepted) => break accepted,
        }
    };
    let named = accepted.client_hello().server_name().map(str::to_owned);
    match named {
        Some(name) if !server.names.serves(Some(&name)) => {
            tell(&stream, &UNRECOGNIZED_NAME);
            Err(NotAccepted::UnknownName(name))
        }
        _ => Ok(StartHandshake::from_parts(*accepted, stream).into_stream(server.config.clone()).await?),
    }
}

/// Sends a client away where there is nothing to show it.
pub async fn refuse(stream: TcpStream) -> NotAccepted {
    // Closing a socket with unread bytes resets it, and the client would not learn why.
    match poll_fn(|cx| Greeting::default().poll(&stream, cx)).await {
        Err(error) => error.into(),
        Ok(Step::Plain) => NotAccepted::Plain(stream),
        Ok(Step::More | Step::Complete(_)) => {
            tell(&stream, &INTERNAL_ERROR);
            NotAccepted::NoCertificate
        }
    }
}

/// A few bytes always find room in a socket that nothing was written to; where not, its end says enough.
fn tell(stream: &TcpStream, alert: &[u8]) {
    let _ = stream.try_write(alert);
}

/// What a client says first.
#[derive(Default)]
struct Greeting {
    acceptor: Acceptor,
    has_begun: bool,
}

enum Step {
    More,
    Plain,
    Complete(Box<rustls::server::Accepted>),
}

impl Greeting {
    /// The buffer lives for the length of the call: a connection that has not spoken yet holds none.
    fn poll(&mut self, stream: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<Step>> {
        let mut buffer = [0; FIRST_READ];
        loop {
            ready!(stream.poll_read_ready(cx))?;
            match stream.try_read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(length) => return Poll::Ready(self.take(buffer.get(..length).unwrap_or_default(), stream)),
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8], stream: &TcpStream) -> io::Result<Step> {
        let Some(first) = bytes.first() else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        if !std::mem::replace(&mut self.has_begun, true) && *first != HANDSHAKE {
            return Ok(Step::Plain);
        }
        while !bytes.is_empty() {
            self.acceptor.read_tls(&mut bytes)?;
        }
        match self.acceptor.accept() {
            Ok(Some(accepted)) => Ok(Step::Complete(Box::new(accepted))),
            Ok(None) => Ok(Step::More),
            Err((error, mut alert)) => {
                let mut words = Vec::new();
                if alert.write_all(&mut words).is_ok() {
                    tell(stream, &words);
                }
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }
}
