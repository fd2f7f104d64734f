//! What is promised, and whether it is kept. Every check is made as early as it can be.

use std::collections::{BTreeMap, BTreeSet};

use bellwire_publisher::pack::Entry;
use bellwire_schema::DeadLetter;
use bellwire_schema::dead_letter::DeadReason;

use crate::load::{HttpEvent, Payload, QueueMessage, Wanted, cut, name_of};
use crate::samples::QUEUE_ARN;

#[derive(Debug, Default)]
pub(crate) struct Audit {
    messages: BTreeMap<String, QueueMessage>,
    /// What clients have sent, by id.
    sent: BTreeMap<String, HttpEvent>,
    /// What was answered with a 202.
    acknowledged: BTreeSet<String>,
    /// What may be published, by its name, and where its payload is then.
    wanted: BTreeMap<String, Payload>,
    published: BTreeMap<String, Published>,
    /// The names of what was published, by source and id.
    names: BTreeMap<(String, String), String>,
    letters: BTreeSet<Letter>,
    /// The newest event of each lane that was published.
    lanes: BTreeMap<String, u64>,
    /// The first promise that was not kept.
    violation: Option<String>,
    pub(crate) duplicates: u64,
    pub(crate) lost: u64,
}

#[derive(Debug)]
struct Published {
    id: String,
    body: String,
}

/// What of a dead letter tells whose it is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Letter {
    /// The message's id, or the event's.
    id: String,
    reason: DeadReason,
    /// Which record of the message it is, where there are several.
    record: Option<usize>,
}

impl Audit {
    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Notes that a promise was not kept.
    pub(crate) fn violated(&mut self, problem: impl Into<String>) {
        self.violation.get_or_insert_with(|| problem.into());
    }

    /// How many events are to be published or buried.
    pub(crate) fn events(&self) -> u64 {
        let records = self.messages.values().map(|message| message.records.len()).sum::<usize>();
        (records + self.acknowledged.len()) as u64
    }

    pub(crate) fn is_published(&self, name: &str) -> bool {
        self.published.contains_key(name)
    }

    pub(crate) fn message(&self, id: &str) -> Option<&QueueMessage> {
        self.messages.get(id)
    }

    pub(crate) fn message_sent(&mut self, id: &str, message: &QueueMessage) {
        for wanted in &message.records {
            if let Wanted::Published(event) = wanted {
                self.wanted.insert(event.name.clone(), event.payload.clone());
            }
        }
        self.messages.insert(id.to_owned(), message.clone());
    }

    /// A client sends an event; `is_fit` says whether its request may be accepted.
    pub(crate) fn event_sent(&mut self, event: &HttpEvent, is_fit: bool) {
        self.sent.insert(event.id.clone(), event.clone());
        if is_fit && !event.is_refused() {
            let payload = match event.is_large {
                true => Payload::Claimed(event.payload()),
                false => Payload::Within,
            };
            self.wanted.insert(event.id.clone(), payload);
        }
    }

    pub(crate) fn event_acknowledged(&mut self, event: &HttpEvent) {
        self.acknowledged.insert(event.id.clone());
    }

    /// Where the payload of an event is to be; `None` where it is not to be published.
    pub(crate) fn payload_of(&self, name: &str) -> Option<&Payload> {
        self.wanted.get(name)
    }

    /// SNS accepted an event.
    pub(crate) fn event_published(&mut self, entry: &Entry, is_fifo: bool) {
        let event = entry.envelope();
        let name = name_of(event);
        if let Some(first) = self.published.get(&name) {
            self.duplicates += 1;
            if first.id != event.id || first.body != entry.body() {
                let (before, now) = (cut(&first.body), cut(entry.body()));
                self.violated(format!("a duplicate of `{name}` is another event: {before}, {now}"));
            }
            return;
        }
        let cause = (event.source.clone(), event.id.clone());
        if let Some(other) = self.names.insert(cause, name.clone()) {
            self.violated(format!("`{other}` and `{name}` have the same id {}", event.id));
        }
        if let Some(sent) = self.sent.get(&name)
            && let Some(lane) = sent.lane(is_fifo)
        {
            let number = sent.number;
            let newest = self.lanes.entry(lane.clone()).or_default();
            if *newest > number {
                let problem = format!("event {number} of lane {lane} was overtaken by {newest}");
                self.violated(problem);
            } else {
                *newest = number;
            }
        }
        let published = Published { id: event.id.clone(), body: entry.body().to_owned() };
        self.published.insert(name, published);
    }

    /// The dead queue accepted a letter.
    pub(crate) fn letter_buried(&mut self, text: &str) {
        let letter: DeadLetter = match serde_json::from_str(text) {
            Ok(letter) => letter,
            Err(error) => return self.violated(format!("no dead letter: {error}: {}", cut(text))),
        };
        let (id, body) = (letter.id.clone().unwrap_or_default(), letter.body());
        let problem = match (self.messages.get(&id), self.sent.get(&id)) {
            (Some(message), _) => {
                let is_whole = body.as_deref() == Some(message.body.as_bytes());
                let is_wanted = message.records.iter().any(|record| match record {
                    Wanted::Buried(reason) => *reason == letter.reason,
                    Wanted::Refused => letter.reason == DeadReason::PublishRefused,
                    Wanted::Published(_) | Wanted::Skipped => false,
                });
                let is_from_there = letter.source.as_deref() == Some(QUEUE_ARN);
                (!is_whole || !is_wanted || !is_from_there).then_some("message")
            }
            (None, Some(event)) => {
                let expected = event.event().to_json();
                let is_whole = body.as_deref() == Some(expected.as_bytes());
                let is_wanted = event.is_refused() && letter.reason == DeadReason::PublishRefused;
                (!is_whole || !is_wanted).then_some("event")
            }
            (None, None) => Some("nothing that was sent"),
        };
        if let Some(of) = problem {
            let text = cut(text);
            self.violated(format!("the dead letter of {id} is not that of the {of}: {text}"));
        }
        let record = letter.message.strip_prefix("record ").and_then(|rest| {
            rest.split(' ').next().and_then(|number| number.parse::<usize>().ok())
        });
        let record = record.map(|number| number - 1);
        self.letters.insert(Letter { id, reason: letter.reason, record });
    }

    /// A message leaves the queue: each record of it must be done with.
    pub(crate) fn message_deleted(&mut self, id: &str) {
        if let Some(problem) = self.undone(id) {
            self.lost += 1;
            self.violated(format!("{id} left the queue, but {problem}"));
        }
    }

    fn undone(&self, id: &str) -> Option<String> {
        let message = self.messages.get(id)?;
        let is_alone = message.records.len() == 1;
        message.records.iter().enumerate().find_map(|(index, wanted)| {
            let buried = |reason, record| {
                self.letters.contains(&Letter { id: id.to_owned(), reason, record })
            };
            let is_done = match wanted {
                Wanted::Published(event) => self.is_published(&event.name),
                Wanted::Refused => buried(DeadReason::PublishRefused, None),
                Wanted::Skipped => true,
                Wanted::Buried(reason) => buried(*reason, (!is_alone).then_some(index)),
            };
            (!is_done).then(|| format!("its record {index} is neither: {wanted:?}"))
        })
    }

    /// At the end: what was accepted and is neither published nor buried is lost.
    pub(crate) fn end(&mut self) {
        let messages: Vec<String> = self.messages.keys().cloned().collect();
        let mut lost: Vec<String> =
            messages.iter().filter_map(|id| Some(format!("{id}: {}", self.undone(id)?))).collect();
        lost.extend(self.acknowledged.iter().filter(|id| !self.is_done(id)).cloned());
        if !lost.is_empty() {
            self.lost += lost.len() as u64;
            self.violated(format!("lost: {}", lost.join("; ")));
        }
    }

    fn is_done(&self, id: &str) -> bool {
        let letter = Letter { id: id.to_owned(), reason: DeadReason::PublishRefused, record: None };
        match self.sent.get(id).is_some_and(HttpEvent::is_refused) {
            true => self.letters.contains(&letter),
            false => self.is_published(id),
        }
    }
}
