//! A queue whose every operation takes the same time however full it is, since
//! what is measured is its clients.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::body::Body;

/// A message that waits, or is somebody's for a while.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) body: Body,
    pub(crate) sent_ms: u64,
    pub(crate) received_count: u32,
}

/// A message with what deletes it.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) receipt: u64,
    pub(crate) message: Message,
}

#[derive(Debug)]
struct InFlight {
    message: Message,
    until: Instant,
}

/// A queue of SQS.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    ready: VecDeque<Message>,
    in_flight: HashMap<u64, InFlight>,
    /// When to look at a receipt; a change of its visibility leaves the old entry
    /// behind, which `until` then tells apart.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    receipts: u64,
    messages: u64,
    pub(crate) deleted: u64,
}

impl Queue {
    pub(crate) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn in_flight_count(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn ready_bodies(&self) -> Vec<String> {
        self.ready.iter().map(|message| message.body.text()).collect()
    }

    pub(crate) fn send(&mut self, body: Body, sent_ms: u64) -> u64 {
        self.messages += 1;
        let id = self.messages;
        self.ready.push_back(Message { id, body, sent_ms, received_count: 0 });
        id
    }

    /// Takes messages for a while.
    pub(crate) fn receive(
        &mut self,
        count: usize,
        visibility: Duration,
        now: Instant,
    ) -> Vec<Received> {
        self.bring_back(now);
        let until = now + visibility;
        let count = count.min(self.ready.len());
        let mut received = Vec::with_capacity(count);
        for mut message in self.ready.drain(..count) {
            message.received_count += 1;
            self.receipts += 1;
            let receipt = self.receipts;
            received.push(Received { receipt, message: message.clone() });
            self.in_flight.insert(receipt, InFlight { message, until });
            self.due.push(Reverse((until, receipt)));
        }
        received
    }

    /// Deletes a message; whether there was one of that receipt. As on SQS, a
    /// receipt is of no more use once its message came back.
    pub(crate) fn delete(&mut self, receipt: u64) -> bool {
        let was_there = self.in_flight.remove(&receipt).is_some();
        self.deleted += u64::from(was_there);
        was_there
    }

    /// Gives a received message another while; whether there was one.
    pub(crate) fn change_visibility(
        &mut self,
        receipt: u64,
        visibility: Duration,
        now: Instant,
    ) -> bool {
        let Some(in_flight) = self.in_flight.get_mut(&receipt) else { return false };
        in_flight.until = now + visibility;
        self.due.push(Reverse((in_flight.until, receipt)));
        self.bring_back(now);
        true
    }

    /// When the next message may come back.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }

    fn bring_back(&mut self, now: Instant) {
        while let Some(Reverse((due, receipt))) = self.due.peek().copied() {
            if due > now {
                return;
            }
            self.due.pop();
            let is_over = self.in_flight.get(&receipt).is_some_and(|it| it.until <= now);
            if is_over && let Some(in_flight) = self.in_flight.remove(&receipt) {
                self.ready.push_back(in_flight.message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn queue_of(count: u64) -> Queue {
        let mut queue = Queue::default();
        for number in 0..count {
            queue.send(Body::Sent(number.to_string()), 0);
        }
        queue
    }

    #[test]
    fn what_is_not_deleted_in_time_comes_back() {
        let (mut queue, begin) = (queue_of(2), Instant::now());
        let received = queue.receive(10, MINUTE, begin);
        assert_eq!(received.len(), 2);
        assert!(queue.delete(received[0].receipt));
        assert!(queue.receive(10, MINUTE, begin + MINUTE / 2).is_empty());
        let again = queue.receive(10, MINUTE, begin + MINUTE);
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].message.received_count, 2);
        assert!(!queue.delete(received[1].receipt), "its receipt is of no more use");
    }

    #[test]
    fn visibility_is_prolonged_and_ended() {
        let (mut queue, begin) = (queue_of(2), Instant::now());
        let received = queue.receive(10, MINUTE, begin);
        assert!(queue.change_visibility(received[0].receipt, MINUTE * 3, begin));
        assert!(queue.change_visibility(received[1].receipt, Duration::ZERO, begin));
        assert_eq!(queue.receive(10, MINUTE * 9, begin).len(), 1);
        assert!(queue.receive(10, MINUTE, begin + MINUTE * 2).is_empty());
        assert_eq!(queue.receive(10, MINUTE, begin + MINUTE * 3).len(), 1);
    }
}
