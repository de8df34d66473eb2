//! One HTTP/1.1 connection of the load: writes a request, collects its answer, tells why it cannot.
//!
//! Cost: per request; a write and two reads, no allocation once its buffer has its size.

use super::head::{self, Whole};
use super::transport::Transport;
use super::{ANSWER_MAX, After, Ended, Lost};
use crate::load::answer::Answer;
use crate::load::plan::Request;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::rc::Rc;

/// Bytes asked for at once.
const READ: usize = 16 << 10;

/// A connection with one slot.
pub(crate) struct Http1 {
    transport: Transport,
    asked: Option<Rc<Request>>,
    /// Bytes of the request that are under way.
    written: usize,
    /// What has come of the answer.
    read: Vec<u8>,
}

impl Http1 {
    pub(super) fn over(transport: Transport) -> Self {
        Self { transport, asked: None, written: 0, read: Vec::with_capacity(READ) }
    }

    pub(super) fn ask(&mut self, request: Rc<Request>) {
        self.written = 0;
        self.asked = Some(request);
    }

    pub(super) fn forget(&mut self) {
        self.asked = None;
    }

    pub(super) fn advance(&mut self, ends: bool, ended: &mut Ended) -> After {
        let Some(request) = self.asked.take() else { return self.idle(ends) };
        match self.exchange(&request) {
            Ok(None) => {
                self.asked = Some(request);
                After::Stays
            }
            Ok(Some((answer, stays))) => {
                ended.push((0, Ok(answer)));
                if stays && !ends { After::Stays } else { After::Over }
            }
            Err(lost) => {
                ended.push((0, Err(lost)));
                After::Over
            }
        }
    }

    /// What came while nothing was asked.
    fn idle(&mut self, ends: bool) -> After {
        match self.transport.read(&mut [0]) {
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock && !ends => After::Stays,
            Ok(1..) => After::Unasked,
            Ok(0) | Err(_) => After::Over,
        }
    }

    /// Writes what is left of `request` and reads what has come. `None`: the rest is yet to come.
    fn exchange(&mut self, request: &Request) -> Result<Option<(Answer, bool)>, Lost> {
        loop {
            let head = request.head.get(self.written..).unwrap_or_default();
            let body = request.body.get(self.written.saturating_sub(request.head.len())..).unwrap_or_default();
            if head.is_empty() && body.is_empty() {
                break;
            }
            match self.transport.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]) {
                Ok(bytes) => self.written += bytes,
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(cause) => match self.transport.lost(&cause) {
                    lost @ (Lost::Connect | Lost::Tls) => return Err(lost),
                    // A server may answer and close before it has read a body: its answer counts.
                    _ => break,
                },
            }
        }
        self.collect(request)
    }

    fn collect(&mut self, request: &Request) -> Result<Option<(Answer, bool)>, Lost> {
        loop {
            let had = self.read.len();
            self.read.resize(had + READ, 0);
            let came = self.transport.read(self.read.get_mut(had..).unwrap_or_default());
            self.read.truncate(had + came.as_ref().copied().unwrap_or(0));
            let closed = match came {
                Ok(bytes) => bytes == 0,
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(cause) => return Err(self.transport.lost(&cause)),
            };
            match head::parse(&self.read, closed, request).map_err(|_| Lost::Malformed)? {
                // More bytes than one answer has: the next would be taken for this one's.
                Some(whole) if whole.bytes < self.read.len() => return Err(Lost::Malformed),
                Some(Whole { answer, stays, .. }) => {
                    self.read.clear();
                    return Ok(Some((answer, stays)));
                }
                None if closed => return Err(Lost::Closed),
                None if self.read.len() > ANSWER_MAX => return Err(Lost::Malformed),
                None => {}
            }
        }
    }
}
