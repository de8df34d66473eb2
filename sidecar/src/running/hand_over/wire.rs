//! What the two processes say: a line of JSON each, a socket's line with its descriptor beside it.
//!
//! Either may be of another version of this program, so whatever is not understood is named or passed over, never guessed.

use crate::connection::Entrance;
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg,
    sendmsg,
};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Bytes of the longest line: names and addresses are short.
const LINE_BYTES_MAX: usize = 4 << 10;
/// Descriptors that one read takes; the kernel ends a read behind a line that carries any.
const DESCRIPTORS_A_READ: usize = 4;

/// Which listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Which {
    /// Of probes and metrics.
    Probes,
    /// A listener of a service.
    Listener(Arc<Entrance>),
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// The new one is there; `by` names its version for people.
    TakeOver { version: u64, by: String },
    /// A socket and the address that was declared for it.
    Socket { which: Which, declared: SocketAddr },
    /// The data directory is left, and so many sockets were said.
    Yours { sockets: u64 },
    /// The new one serves from now on.
    Ready,
    /// The old one accepts no more.
    Gone,
    /// The old one stays.
    Refused(String),
}

impl Message {
    fn to_json(&self) -> Value {
        match self {
            Message::TakeOver { version, by } => json!({ "take_over": version, "by": by }),
            Message::Socket { which: Which::Probes, declared } => json!({ "socket": "probes", "declared": declared.to_string() }),
            Message::Socket { which: Which::Listener(entrance), declared } => json!({
                "socket": "listener",
                "service": entrance.service.as_str(),
                "listener": entrance.listener.as_str(),
                "declared": declared.to_string(),
            }),
            Message::Yours { sockets } => json!({ "yours": sockets }),
            Message::Ready => json!({ "ready": true }),
            Message::Gone => json!({ "gone": true }),
            Message::Refused(why) => json!({ "refused": why }),
        }
    }

    fn of_json(line: &Value) -> Option<Self> {
        let text = |name: &str| line.get(name).and_then(Value::as_str);
        let number = |name: &str| line.get(name).and_then(Value::as_u64);
        if let Some(version) = number("take_over") {
            return Some(Message::TakeOver { version, by: text("by").unwrap_or("another version").to_owned() });
        }
        if let Some(kind) = text("socket") {
            let declared = text("declared")?.parse().ok()?;
            let which = match kind {
                "probes" => Which::Probes,
                "listener" => {
                    let (service, listener) = (text("service")?.parse().ok()?, text("listener")?.parse().ok()?);
                    Which::Listener(Arc::new(Entrance { service, listener }))
                }
                _ => return None,
            };
            return Some(Message::Socket { which, declared });
        }
        if let Some(why) = text("refused") {
            return Some(Message::Refused(why.to_owned()));
        }
        if let Some(sockets) = number("yours") {
            return Some(Message::Yours { sockets });
        }
        let says = |name: &str| line.get(name) == Some(&Value::Bool(true));
        if says("ready") {
            return Some(Message::Ready);
        }
        says("gone").then_some(Message::Gone)
    }
}

/// The two ends of a hand-over, as one of them has them.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
    read: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, read: Vec::new(), descriptors: VecDeque::new() }
    }

    /// Says a line.
    ///
    /// # Errors
    /// The other end is gone.
    pub(super) async fn say(&self, message: &Message) -> io::Result<()> {
        self.send(message, &[]).await
    }

    /// Says a line with a descriptor.
    ///
    /// # Errors
    /// The other end is gone.
    pub(super) async fn hand(&self, message: &Message, descriptor: impl AsFd) -> io::Result<()> {
        self.send(message, &[descriptor.as_fd()]).await
    }

    async fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let line = format!("{}\n", message.to_json());
        let mut rest = line.as_bytes();
        let mut descriptors = descriptors;
        while !rest.is_empty() {
            let send = || {
                let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
                let mut beside = SendAncillaryBuffer::new(&mut space);
                if !descriptors.is_empty() {
                    beside.push(SendAncillaryMessage::ScmRights(descriptors));
                }
                Ok(sendmsg(&self.stream, &[IoSlice::new(rest)], &mut beside, SendFlags::NOSIGNAL)?)
            };
            let sent = self.stream.async_io(Interest::WRITABLE, send).await?;
            // They went with the first byte.
            descriptors = &[];
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// The next line that is understood, with its descriptor if it carries one; nothing once the other end is gone.
    ///
    /// # Errors
    /// The other end says no lines of JSON, or a socket without its descriptor.
    pub(super) async fn hear(&mut self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        loop {
            while let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let line: Value = serde_json::from_slice(&line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                // Also where the kind of socket is unknown: each has one, and they come in order.
                let descriptor = match line.get("socket") {
                    Some(_) => Some(self.descriptors.pop_front().ok_or(io::ErrorKind::InvalidData)?),
                    None => None,
                };
                if let Some(message) = Message::of_json(&line) {
                    return Ok(Some((message, descriptor)));
                }
            }
            if self.read.len() > LINE_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.receive().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Receives what has come. Nothing is lost when this is given up waiting for.
    async fn receive(&mut self) -> io::Result<usize> {
        let Self { stream, read, descriptors } = self;
        let receive = || {
            let mut bytes = [0; LINE_BYTES_MAX];
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_A_READ))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(&*stream, &mut [IoSliceMut::new(&mut bytes)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(more) = message {
                    descriptors.extend(more);
                }
            }
            if received.flags.contains(ReturnFlags::CTRUNC) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            read.extend_from_slice(bytes.get(..received.bytes).unwrap_or_default());
            Ok(received.bytes)
        };
        match stream.async_io(Interest::READABLE, receive).await {
            // It died with something of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            received => received,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn lines_arrive_in_order_each_socket_with_its_own_descriptor() {
        let (here, there) = UnixStream::pair().unwrap();
        let (here, mut there) = (Wire::new(here), Wire::new(there));
        let sockets: Vec<_> = (0..300).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let entrance = Arc::new(Entrance { service: "shop".parse().unwrap(), listener: "http".parse().unwrap() });
        let which = |at| if at == 0 { Which::Probes } else { Which::Listener(Arc::clone(&entrance)) };
        let said = async {
            here.say(&Message::TakeOver { version: 1, by: "0.1.0".to_owned() }).await.unwrap();
            for (at, socket) in sockets.iter().enumerate() {
                here.hand(&Message::Socket { which: which(at), declared: socket.local_addr().unwrap() }, socket).await.unwrap();
            }
            for message in [Message::Yours { sockets: 300 }, Message::Ready, Message::Gone, Message::Refused("no".to_owned())] {
                here.say(&message).await.unwrap();
            }
        };
        let heard = async {
            let mut lines = Vec::new();
            while lines.len() < 305 {
                lines.push(there.hear().await.unwrap().unwrap());
            }
            lines
        };
        let ((), mut lines) = tokio::join!(said, heard);
        for (at, (message, descriptor)) in lines.drain(1..301).enumerate() {
            let address = std::net::TcpListener::from(descriptor.unwrap()).local_addr().unwrap();
            assert_eq!(message, Message::Socket { which: which(at), declared: address });
        }
        let rest: Vec<_> = lines.into_iter().map(|(message, _)| message).collect();
        let (yours, refused) = (Message::Yours { sockets: 300 }, Message::Refused("no".to_owned()));
        assert_eq!(rest, [Message::TakeOver { version: 1, by: "0.1.0".to_owned() }, yours, Message::Ready, Message::Gone, refused]);
        drop(here);
        assert!(there.hear().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_not_understood_is_passed_over_and_what_is_no_line_is_an_error() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let mut there = Wire::new(there);
        here.write_all(b"{\"of\":\"another version\"}\n{\"ready\":true}\n").await.unwrap();
        assert_eq!(there.hear().await.unwrap().unwrap().0, Message::Ready);
        here.write_all(b"{\"socket\":\"probes\",\"declared\":\"127.0.0.1:1\"}\n").await.unwrap();
        assert!(there.hear().await.is_err(), "a socket without its descriptor");
        here.write_all(b"ready\n").await.unwrap();
        assert!(there.hear().await.is_err());
        here.write_all(&[b'x'; LINE_BYTES_MAX + 1]).await.unwrap();
        assert!(there.hear().await.is_err(), "a line that does not end");
    }
}
