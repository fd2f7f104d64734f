//! `settle`: which messages leave the queue, and their leaving.

use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::limits::SQS_BATCH_ENTRIES_MAX;

use crate::publish::{BACKOFF_LAST, pause_after};
use crate::receive::{IngestQueue, Message};
use crate::route::Skip;

/// How often a deletion is tried.
const ATTEMPTS_MAX: u32 = 3;

/// How long a message that was left is hidden the first time, in seconds, and at
/// most. A thousand receives, after which SQS gives a message up, last ten days.
pub(crate) const LEFT_FIRST_S: u32 = 2;
pub(crate) const LEFT_LAST_S: u32 = 900;

/// What became of one record of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// SNS accepted its event.
    Published,
    /// It is deliberately no event.
    Skipped(Skip),
    /// The dead queue accepted it.
    Quarantined(DeadReason),
    /// None of that: it is to be tried again.
    Left,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It leaves the queue.
    Delete,
    /// It comes back when its visibility timeout ends.
    Leave,
}

/// A message leaves the queue only when each of its records is done with. Pure.
///
/// A message without any outcome is not one that was done with.
#[must_use]
pub fn decide(outcomes: &[Outcome]) -> Decision {
    let is_done = |outcome: &Outcome| match outcome {
        Outcome::Published | Outcome::Skipped(_) | Outcome::Quarantined(_) => true,
        Outcome::Left => false,
    };
    match !outcomes.is_empty() && outcomes.iter().all(is_done) {
        true => Decision::Delete,
        false => Decision::Leave,
    }
}

/// Deletes messages, reading each one's own result. What cannot be deleted is
/// logged: it comes back, and its events are then duplicates with their first ids.
///
/// Answers with how many are deleted.
pub async fn delete(queue: &dyn IngestQueue, messages: &[&Message]) -> usize {
    let mut deleted = 0;
    for batch in messages.chunks(SQS_BATCH_ENTRIES_MAX) {
        deleted += delete_batch(queue, batch).await;
    }
    deleted
}

async fn delete_batch(queue: &dyn IngestQueue, batch: &[&Message]) -> usize {
    let mut pending: Vec<&Message> = batch.to_vec();
    let mut given_up = 0;
    for count in 1..=ATTEMPTS_MAX {
        let receipts: Vec<&str> = pending.iter().map(|message| message.receipt.as_str()).collect();
        match queue.delete(&receipts).await {
            Ok(failures) => {
                let mut again = Vec::new();
                for failure in failures {
                    let Some(message) = pending.get(failure.index) else { continue };
                    if failure.is_permanent {
                        given_up += 1;
                        log_kept(message, &failure.code);
                    } else {
                        again.push(*message);
                    }
                }
                pending = again;
            }
            Err(error) => tracing::debug!(error = %error, "messages not deleted"),
        }
        if pending.is_empty() {
            break;
        }
        if count < ATTEMPTS_MAX {
            tokio::time::sleep(pause_after(count, BACKOFF_LAST)).await;
        }
    }
    for message in &pending {
        log_kept(message, "tried often enough");
    }
    batch.len() - given_up - pending.len()
}

/// Makes what is left come back, each after so many seconds.
pub async fn leave(queue: &dyn IngestQueue, messages: &[(&Message, u32)]) {
    for batch in messages.chunks(SQS_BATCH_ENTRIES_MAX) {
        let receipts: Vec<(&str, u32)> =
            batch.iter().map(|(message, seconds)| (message.receipt.as_str(), *seconds)).collect();
        // Where it fails they come back when the time is up that they are hidden for.
        if let Err(error) = queue.hide(&receipts).await {
            tracing::debug!(%error, "messages left as they are");
        }
    }
}

/// For how many seconds a message is hidden that is left: none where the publisher
/// stops, else a pause that doubles with each receive, so that what fails again and
/// again does not use up its receives within minutes.
pub(crate) fn hidden_s(receives: u32, is_stopping: bool) -> u32 {
    match is_stopping {
        true => 0,
        false => LEFT_FIRST_S.saturating_mul(1 << (receives.max(1) - 1).min(16)).min(LEFT_LAST_S),
    }
}

fn log_kept(message: &Message, reason: &str) {
    tracing::warn!(
        message_id = message.id,
        reason,
        "message handled but not deleted: it comes back, as duplicates with the same ids"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: [Outcome; 3] = [
        Outcome::Published,
        Outcome::Skipped(Skip::TestEvent),
        Outcome::Quarantined(DeadReason::Undecodable),
    ];

    #[test]
    fn what_is_left_comes_back_later_each_time_and_at_once_at_the_end() {
        let hidden: Vec<u32> = (0..12).map(|receives| hidden_s(receives, false)).collect();
        assert_eq!(hidden, [2, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(hidden_s(u32::MAX, false), 900);
        assert_eq!(hidden_s(7, true), 0);
    }

    /// Every list of outcomes of up to four records.
    #[test]
    fn a_message_leaves_only_when_each_record_is_done_with() {
        let all = [DONE.as_slice(), &[Outcome::Left]].concat();
        let mut lists: Vec<Vec<Outcome>> = vec![vec![]];
        let mut longest = lists.clone();
        for _ in 0..4 {
            longest = longest
                .iter()
                .flat_map(|list| all.iter().map(|outcome| [list.as_slice(), &[*outcome]].concat()))
                .collect();
            lists.extend(longest.clone());
        }
        assert_eq!(lists.len(), 1 + 4 + 16 + 64 + 256);
        for list in lists {
            let expected = match list.is_empty() || list.contains(&Outcome::Left) {
                true => Decision::Leave,
                false => Decision::Delete,
            };
            assert_eq!(decide(&list), expected, "{list:?}");
        }
    }
}
