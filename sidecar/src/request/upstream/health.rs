//! Health: asks an endpoint again and again whether it is well, on the control runtime; one asker an endpoint, whatever the workers.
//!
//! Cost: none per request.

use super::attend::{Event, Surroundings};
use super::fleet::Member;
use super::question;
use super::resolve::jittered;
use crate::worker::Random;
use bulkhead_config::snapshot::{HealthCheck, Upstream};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

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
        let answer = timeout(check.timeout, question::ask(&upstream, &check, &member, &surroundings)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} ms", check.timeout.as_millis())));
        let Some(told) = events.upgrade() else { return };
        if told.send(Event::Answered(Arc::clone(&member), answer)).await.is_err() {
            return;
        }
        drop(told);
        sleep(jittered(check.interval, &random)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_config::snapshot::Question;
    use std::time::Duration;

    #[test]
    fn only_answers_in_a_row_change_what_an_endpoint_is_taken_for() {
        let second = Duration::from_secs(1);
        let check = HealthCheck { question: Question::Get("/".to_owned()), interval: second, timeout: second, healthy: 2, unhealthy: 3 };
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
