//! Gone: whether a client that has said all still listens, asked while an upstream makes its answer that cannot be told so.
//!
//! Cost: none per request; a box and a deadline where a client has said all before its answer began.
//! Leaving and half-closing look the same from here: the end of what is sent. HTTP/1.1 passes that on, and the upstream knows what
//! it means (`http1.rs`). HTTP/2 has no word for it but giving the request up, and who half-closes may wait for the answer (RFC 9112
//! section 9.6). So the client is told something that it must ignore (RFC 9110 section 15.2): whoever is gone answers with a reset,
//! and the next word finds the connection broken. It is 100, which clients that know no other 1xx do ignore.

use crate::connection::{CONTINUE, Downstream};
use crate::deadline::{Deadline, TURN, Wheel};
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

/// How often a client is asked, each time after four times as long as before: whoever has left is found out by the second, and
/// whoever half-closes is told little.
const QUESTIONS: u8 = 5;

/// What asks the client of one request.
pub(super) struct Gone<'a> {
    from: &'a Downstream,
    asking: Option<Box<Asking>>,
}

struct Asking {
    deadline: Deadline,
    wait: Duration,
    left: u8,
}

impl<'a> Gone<'a> {
    pub(super) fn new(from: &'a Downstream) -> Self {
        Self { from, asking: None }
    }

    /// Asks, where it is time. Whoever runs the connection notices when that fails, and gives the request up.
    pub(super) fn ask(&mut self, wheel: &Rc<Wheel>, cx: &mut Context<'_>) {
        if !self.from.has_ended() {
            return;
        }
        let asking = self.asking.get_or_insert_with(|| Asking::begin(wheel));
        if asking.left > 0 && asking.deadline.poll(cx).is_ready() {
            self.from.inform(|out| out.extend_from_slice(CONTINUE));
            asking.left -= 1;
            asking.wait *= 4;
            asking.deadline.arm(asking.wait);
        }
    }
}

impl Asking {
    /// Not at once: most answers are there before.
    fn begin(wheel: &Rc<Wheel>) -> Box<Self> {
        let deadline = wheel.take();
        deadline.arm(TURN);
        Box::new(Self { deadline, wait: TURN, left: QUESTIONS })
    }
}
