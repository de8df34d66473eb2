//! Health: asks an endpoint again and again whether it is well, on the control runtime; one asker an endpoint, whatever the workers.
//!
//! Cost: none per request.

use super::attend::{Event, Surroundings};
use super::connect;
use super::fleet::Member;
use super::resolve::jittered;
use super::{Failed, Wire};
use crate::worker::Random;
use bulkhead_config::snapshot::{HealthCheck, Upstream};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Bytes of an answer's first line: `HTTP/1.1 200`.
const STATUS_BYTES: usize = 12;

/// What the answers of one endpoint say. It is well until they say otherwise.
#[derive(Debug, Default)]
pub(super) struct Answers {
    is_unwell: bool,
    /// Answers in a row that speak against what it is taken for.
    contrary: u8,
}

impl Answers {
    /// Whether requests should not go there.
    pub(super) fn is_unwell(&self) -> bool {
        self.is_unwell
    }

    /// One more answer. Whether it changes what the endpoint is taken for.
    pub(super) fn take(&mut self, check: &HealthCheck, is_good: bool) -> bool {
        if is_good != self.is_unwell {
            self.contrary = 0;
            return false;
        }
        self.contrary = self.contrary.saturating_add(1);
        let needed = if self.is_unwell { check.healthy } else { check.unhealthy };
        let changes = self.contrary >= needed;
        if changes {
            self.is_unwell = !self.is_unwell;
            self.contrary = 0;
        }
        changes
    }
}

/// Asks until nobody wants to know.
pub(super) async fn ask(
    upstream: Arc<Upstream>,
    check: HealthCheck,
    member: Arc<Member>,
    surroundings: Surroundings,
    events: mpsc::WeakSender<Event>,
    random: Random,
) {
    loop {
        let answer = timeout(check.timeout, once(&upstream, &check, &member, &surroundings)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} ms", check.timeout.as_millis())));
        let Some(told) = events.upgrade() else { return };
        if told.send(Event::Answered(Arc::clone(&member), answer)).await.is_err() {
            return;
        }
        drop(told);
        sleep(jittered(check.interval, &random)).await;
    }
}

/// One question, on a connection of its own: that connections are taken is part of being well.
async fn once(upstream: &Upstream, check: &HealthCheck, member: &Member, surroundings: &Surroundings) -> Result<(), String> {
    let tls = Arc::clone(&surroundings.live.load().tls);
    let mut socket = connect::open(&tls, upstream, member, Wire::Http1).await.map_err(|failed: Failed| failed.to_string())?;
    let (path, host) = (&check.path, member.endpoint.authority());
    let question = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: bulkhead-health-check\r\nconnection: close\r\n\r\n");
    let asked = async {
        socket.write_all(question.as_bytes()).await?;
        socket.flush().await?;
        let mut line = [0; STATUS_BYTES];
        socket.read_exact(&mut line).await?;
        io::Result::Ok(line)
    };
    let line = asked.await.map_err(|error| error.to_string())?;
    let status = line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..)).and_then(|status| std::str::from_utf8(status).ok());
    match status {
        Some(status) if status.starts_with('2') => Ok(()),
        Some(status) => Err(format!("the status is {status}")),
        None => Err("the answer is no HTTP/1.1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_answers_in_a_row_change_what_an_endpoint_is_taken_for() {
        let second = Duration::from_secs(1);
        let check = HealthCheck { path: "/".to_owned(), interval: second, timeout: second, healthy: 2, unhealthy: 3 };
        let mut answers = Answers::default();
        // Good and bad answers, and whether it is taken for unwell after each.
        for (number, (is_good, is_unwell)) in [
            (false, false),
            (false, false),
            (true, false),
            (false, false),
            (false, false),
            (false, true),
            (false, true),
            (true, true),
            (false, true),
            (true, true),
            (true, false),
            (false, false),
        ]
        .into_iter()
        .enumerate()
        {
            let was_unwell = answers.is_unwell();
            assert_eq!(answers.take(&check, is_good), was_unwell != is_unwell, "{number}");
            assert_eq!(answers.is_unwell(), is_unwell, "{number}");
        }
    }
}
