use bellwire_publisher::call::Trouble;
use bellwire_publisher::receive::{Message, NotDone};
use bellwire_publisher::settle::delete;

use crate::fakes::{FakeQueue, call_error, message};

fn acting(
    act: impl FnMut(&[&str]) -> Result<Vec<NotDone>, bellwire_publisher::call::CallError>
    + Send
    + Sync
    + 'static,
) -> FakeQueue {
    let queue = FakeQueue::default();
    *queue.act.lock().unwrap() = Some(Box::new(act));
    queue
}

fn messages(count: usize) -> Vec<Message> {
    (0..count).map(|number| message(number, "")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_failed_alone_is_tried_again_alone() {
    let mut call = 0;
    let queue = acting(move |receipts| {
        call += 1;
        let fails = |receipt: &str| match (receipt, call) {
            ("r1", 1) => Some(false),
            ("r2", _) => Some(true),
            _ => None,
        };
        Ok(receipts
            .iter()
            .enumerate()
            .filter_map(|(index, receipt)| {
                let is_permanent = fails(receipt)?;
                Some(NotDone { index, code: "Scripted".to_owned(), is_permanent })
            })
            .collect())
    });
    let messages = messages(4);
    let deleted = delete(&queue, &messages.iter().collect::<Vec<_>>()).await;
    assert_eq!(deleted, 3);
    assert_eq!(*queue.deleted.lock().unwrap(), ["r0", "r3", "r1"]);
    assert_eq!(*queue.delete_calls.lock().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn deletions_go_in_tens_and_are_given_up_in_the_end() {
    let queue = FakeQueue::default();
    let messages = messages(23);
    let all: Vec<&Message> = messages.iter().collect();
    assert_eq!(delete(&queue, &all).await, 23);
    assert_eq!(*queue.delete_calls.lock().unwrap(), 3);

    let queue = acting(|_| Err(call_error(Trouble::Unavailable)));
    assert_eq!(delete(&queue, &all[..2]).await, 0);
    assert_eq!(*queue.delete_calls.lock().unwrap(), 3);
}
