//! A raw client: sends bytes as they are and keeps every byte that comes back.

use crate::message::{Kind, Message};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for anything that should come at once; reached only when it never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub struct Raw {
    stream: TcpStream,
    bytes: Vec<u8>,
    has_ended: bool,
}

impl Raw {
    /// Connects.
    pub fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap_or_else(|why| panic!("connecting to {to}: {why}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        Self { stream, bytes: Vec::new(), has_ended: false }
    }

    /// Sends bytes. What a peer that has already said its last word does not take is no failure: its word counts.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Says that nothing more will be sent.
    pub fn end(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next message, interim answers included; nothing if the peer closes before one begins.
    ///
    /// # Errors
    /// The connection ended within it, nothing came, or what came is no message.
    pub fn answer(&mut self, kind: Kind) -> Result<Option<Message>, String> {
        loop {
            if let Some((message, length)) = Message::read(&self.bytes, kind, self.has_ended)? {
                self.bytes.drain(..length);
                return Ok(Some(message));
            }
            if self.has_ended && self.bytes.is_empty() {
                return Ok(None);
            }
            if self.has_ended {
                return Err(format!("it closed within a message: {}", self.bytes.escape_ascii()));
            }
            self.more()?;
        }
    }

    /// Everything up to the end of the connection.
    ///
    /// # Errors
    /// It does not end.
    pub fn rest(&mut self) -> Result<Vec<u8>, String> {
        while !self.has_ended {
            self.more()?;
        }
        Ok(std::mem::take(&mut self.bytes))
    }

    /// Everything up to the end of the connection, and whether that was a reset.
    ///
    /// # Errors
    /// It does not end.
    pub fn until_gone(&mut self) -> Result<(Vec<u8>, bool), String> {
        let mut was_reset = false;
        while !self.has_ended {
            match self.read() {
                Err(why) if why.kind() == ErrorKind::ConnectionReset => (self.has_ended, was_reset) = (true, true),
                read => read.map_err(|why| self.told(&why))?,
            }
        }
        Ok((std::mem::take(&mut self.bytes), was_reset))
    }

    fn more(&mut self) -> Result<(), String> {
        self.read().map_err(|why| self.told(&why))
    }

    fn read(&mut self) -> std::io::Result<()> {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk)? {
            0 => self.has_ended = true,
            length => self.bytes.extend_from_slice(&chunk[..length]),
        }
        Ok(())
    }

    fn told(&self, why: &std::io::Error) -> String {
        let so_far = self.bytes.escape_ascii();
        match why.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("it neither answers nor closes; so far: {so_far}"),
            _ => format!("{why}; so far: {so_far}"),
        }
    }
}
