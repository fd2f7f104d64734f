//! The Query protocol, of SNS and STS: forms that are answered in XML.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::state::Shared;

const SNS: &str = "http://sns.amazonaws.com/doc/2010-03-31/";
const STS: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
const METADATA: &str = "<ResponseMetadata><RequestId>f187a3c1-376f-11df-8963-01868b7c937a</RequestId></ResponseMetadata>";

/// Beside the entries' ids and messages nothing is looked at.
const ENTRY: &str = "PublishBatchRequestEntries.member.";

/// What comes as a form.
pub(crate) struct Form<'a> {
    pub(crate) action: String,
    body: &'a [u8],
}

#[derive(Default)]
struct Entry {
    id: String,
    message: String,
}

impl<'a> Form<'a> {
    pub(crate) fn of(body: &'a [u8]) -> Self {
        let mut pairs = form_urlencoded::parse(body);
        let action = pairs.find(|(name, _)| name == "Action").map(|(_, value)| value.into_owned());
        Self { action: action.unwrap_or_default(), body }
    }

    /// Does what the form asks for; `None` where that is no action of the stub's.
    pub(crate) fn act(&self, shared: &Arc<Shared>) -> Option<String> {
        match self.action.as_str() {
            "PublishBatch" => Some(self.publish_batch(shared)),
            "Publish" => Some(self.publish(shared)),
            "GetCallerIdentity" => Some(format!(
                "<GetCallerIdentityResponse xmlns=\"{STS}\"><GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/bench</Arn><UserId>AIDAEXAMPLE</UserId><Account>111122223333</Account></GetCallerIdentityResult>{METADATA}</GetCallerIdentityResponse>"
            )),
            _ => None,
        }
    }

    fn publish(&self, shared: &Arc<Shared>) -> String {
        let mut pairs = form_urlencoded::parse(self.body);
        let message = pairs.find(|(name, _)| name == "Message").map(|(_, value)| value);
        let mut state = shared.lock();
        state.counts.published_bytes += self.body.len() as u64;
        state.accept(&message.unwrap_or_default());
        let id = message_id(state.counts.published);
        format!(
            "<PublishResponse xmlns=\"{SNS}\"><PublishResult><MessageId>{id}</MessageId></PublishResult>{METADATA}</PublishResponse>"
        )
    }

    fn publish_batch(&self, shared: &Arc<Shared>) -> String {
        let entries = self.entries();
        let (mut successful, mut failed) = (String::new(), String::new());
        let mut state = shared.lock();
        state.counts.published_bytes += self.body.len() as u64;
        for Entry { id, message } in entries.values() {
            let id = escaped(id);
            // Writing to a text does not fail.
            let _ = if state.dice.publish_entry_fails() {
                write!(
                    failed,
                    "<member><Id>{id}</Id><Code>InternalError</Code><Message>as asked for</Message><SenderFault>false</SenderFault></member>"
                )
            } else {
                state.accept(message);
                let message_id = message_id(state.counts.published);
                write!(
                    successful,
                    "<member><Id>{id}</Id><MessageId>{message_id}</MessageId></member>"
                )
            };
        }
        drop(state);
        format!(
            "<PublishBatchResponse xmlns=\"{SNS}\"><PublishBatchResult><Successful>{successful}</Successful><Failed>{failed}</Failed></PublishBatchResult>{METADATA}</PublishBatchResponse>"
        )
    }

    fn entries(&self) -> BTreeMap<u32, Entry> {
        let mut entries: BTreeMap<u32, Entry> = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(self.body) {
            let Some((number, field)) =
                name.strip_prefix(ENTRY).and_then(|rest| rest.split_once('.'))
            else {
                continue;
            };
            let Ok(number) = number.parse() else { continue };
            match field {
                "Id" => entries.entry(number).or_default().id = value.into_owned(),
                "Message" => entries.entry(number).or_default().message = value.into_owned(),
                _ => {}
            }
        }
        entries
    }
}

/// An error as the Query protocol tells it.
pub(crate) fn error(code: &str, kind: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"{SNS}\"><Error><Type>{kind}</Type><Code>{code}</Code><Message>as asked for</Message></Error><RequestId>f187a3c1-376f-11df-8963-01868b7c937a</RequestId></ErrorResponse>"
    )
}

fn message_id(number: u64) -> String {
    format!("567910cd-659e-55d4-8ccb-{number:012x}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
