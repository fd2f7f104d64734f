use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, Put, ReturnValuesOnConditionCheckFailure, Select, Update,
};
use bellwire_schema::StartKey;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::LedgerError;
use crate::guard::GuardName;
use crate::guard_table::{Patience, held_shard};
use crate::lease::{LEASE_ATTRIBUTE, lease_end};
use crate::row::{End, Start, StartRow, State};

/// The index whose hash key is `run_arn`.
pub const BY_RUN_INDEX: &str = "by-run";
/// The sparse index of what is due: hash key `due_shard`, range key `due_at` in epoch seconds.
pub const BY_DUE_INDEX: &str = "by-due";
/// The index of each UTC day's starts: hash key `day_shard`, range key `claimed_at`.
pub const BY_DAY_INDEX: &str = "by-day";

/// Partitions that what is due is spread over.
pub const DUE_SHARDS: u32 = 4;
/// Partitions that a day's starts are spread over. One partition takes 1,000
/// writes a second; source: Amazon DynamoDB developer guide, "Partition key design".
pub const DAY_SHARDS: u32 = 4;

/// A claim that nobody finished is repeated by the sweep after this long: past
/// the two retries that Lambda makes, about one and two minutes after the first.
pub(crate) const UNFINISHED_AFTER: SignedDuration = SignedDuration::from_secs(240);

/// What a claim found.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimOutcome {
    /// Nothing: the start is the caller's to make.
    Claimed,
    /// A claim whose start was never recorded: it is to be repeated as it stands there.
    Unfinished(Box<StartRow>),
    /// The same, of a target that would not refuse a second start. Its lease was over
    /// and is the caller's now, who looks for what was started before.
    TakenOver(Box<StartRow>),
    /// The same, and somebody else's lease on it lasts: the start is not to be touched.
    Leased {
        /// Until when.
        until: Timestamp,
    },
    /// A start that is known: there is nothing to do.
    Known(Box<StartRow>),
    /// A guard of its trigger holds it back; the sweep releases it.
    Held {
        /// Which.
        by: GuardName,
        /// Until when at least, where that is known.
        until: Option<Timestamp>,
    },
    /// A guard of its trigger would hold it back, and what is held is dropped.
    Dropped {
        /// Which.
        by: GuardName,
    },
}

/// The ledger's table.
#[derive(Debug, Clone)]
pub struct Ledger {
    pub(crate) client: Client,
    pub(crate) table: String,
    pub(crate) retention_days: u32,
}

pub(crate) type Item = HashMap<String, AttributeValue>;

impl Ledger {
    /// A ledger in a table, whose rows live for so many days.
    #[must_use]
    pub fn new(client: Client, table: &str, retention_days: u32) -> Self {
        Self { client, table: table.to_owned(), retention_days }
    }

    /// Claims a start: of all who claim one key, one is told [`ClaimOutcome::Claimed`].
    ///
    /// One conditional write, and a second where a lease that is over is taken over. A
    /// row past its expiry counts as gone, whenever DynamoDB gets round to deleting it.
    ///
    /// # Errors
    ///
    /// Where the call fails; nothing is claimed then, or the caller's own
    /// repetition finds the claim unfinished.
    pub async fn claim(&self, start: &Start, now: Timestamp) -> Result<ClaimOutcome, LedgerError> {
        let item = self.item_of(&StartRow::claimed(start.clone(), now), now)?;
        match self.put_where_new(item, now).await? {
            None => Ok(ClaimOutcome::Claimed),
            Some(row) => self.found(row, now).await,
        }
    }

    /// What a row means to whoever would have claimed its start.
    pub(crate) async fn found(
        &self,
        item: Item,
        now: Timestamp,
    ) -> Result<ClaimOutcome, LedgerError> {
        let row = Box::new(self.row_of(item)?);
        match row.state {
            State::Claimed => self.unfinished(row, now).await,
            _ => Ok(ClaimOutcome::Known(row)),
        }
    }

    /// Writes a row where there is none; the row that is there, where there is one.
    pub(crate) async fn put_where_new(
        &self,
        item: Item,
        now: Timestamp,
    ) -> Result<Option<Item>, LedgerError> {
        let put = self.put_new(item, now);
        let result = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(put.item))
            .set_condition_expression(put.condition_expression)
            .set_expression_attribute_values(put.expression_attribute_values)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = result else { return Ok(None) };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failed)) => match failed.item() {
                Some(item) => Ok(Some(item.clone())),
                None => Err(self.bad_row("the refused claim returned no row")),
            },
            _ => Err(LedgerError::of("PutItem", &self.table, &error)),
        }
    }

    /// The write of a row where there is none. One past its expiry counts as gone.
    pub(crate) fn put_new(&self, item: Item, now: Timestamp) -> Put {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk) OR expires_at < :now")
            .expression_attribute_values(":now", number(now.as_second()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        put.build().expect("table and item are set")
    }

    /// Records that the target accepted a start. A row that has gone further
    /// already, because the run was quicker than this call, stays as it is.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn record_started(
        &self,
        start: &Start,
        run_arn: &str,
        started_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let due_at = now.as_second().saturating_add_unsigned(start.expected_duration_s);
        let update = self
            .update_of(key_of(&start.start_key))
            .update_expression(
                "SET #row.#state = :started, #row.started_at = :started_at, run_arn = :run_arn, \
                 due_at = :due_at",
            )
            .condition_expression("#row.#state = :claimed")
            .expression_attribute_names("#row", "row")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":started", text(State::Started.as_str()))
            .expression_attribute_values(":claimed", text(State::Claimed.as_str()))
            .expression_attribute_values(":started_at", text(&started_at.to_string()))
            .expression_attribute_values(":run_arn", text(run_arn))
            .expression_attribute_values(":due_at", number(due_at));
        self.update(update).await
    }

    /// Records that a target accepted a start of which it will tell nothing more:
    /// nothing of it is due. A row that has gone further stays as it is.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn record_accepted(
        &self,
        start_key: &StartKey,
        run_arn: &str,
        accepted_at: Timestamp,
    ) -> Result<(), LedgerError> {
        let update = self
            .update_of(key_of(start_key))
            .update_expression(
                "SET #row.#state = :accepted, #row.started_at = :accepted_at, run_arn = :run_arn \
                 REMOVE due_shard, due_at",
            )
            .condition_expression("#row.#state = :claimed")
            .expression_attribute_names("#row", "row")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":accepted", text(State::Accepted.as_str()))
            .expression_attribute_values(":claimed", text(State::Claimed.as_str()))
            .expression_attribute_values(":accepted_at", text(&accepted_at.to_string()))
            .expression_attribute_values(":run_arn", text(run_arn));
        self.update(update).await
    }

    /// Closes a start: its run ended, or its target refused it for good.
    /// Nothing of it is due any more. A row that is closed already stays as it is.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn close(
        &self,
        start_key: &StartKey,
        state: State,
        end: &End,
    ) -> Result<(), LedgerError> {
        let end: Item = self.to_item(end)?;
        let update = self
            .update_of(key_of(start_key))
            .update_expression(
                "SET #row.#state = :state, #row.#end = :end REMOVE due_shard, due_at",
            )
            .condition_expression("#row.#state IN (:claimed, :started)")
            .expression_attribute_names("#row", "row")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#end", "end")
            .expression_attribute_values(":state", text(state.as_str()))
            .expression_attribute_values(":claimed", text(State::Claimed.as_str()))
            .expression_attribute_values(":started", text(State::Started.as_str()))
            .expression_attribute_values(":end", AttributeValue::M(end));
        self.update(update).await
    }

    /// Puts off when the sweep looks at a start again.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn put_off(
        &self,
        start_key: &StartKey,
        due_at: Timestamp,
    ) -> Result<(), LedgerError> {
        let update = self
            .update_of(key_of(start_key))
            .update_expression("SET due_at = :due_at")
            .condition_expression("attribute_exists(due_at)")
            .expression_attribute_values(":due_at", number(due_at.as_second()));
        self.update(update).await
    }

    /// The start whose run this is; `None` where Bellwire did not start it, or
    /// the index does not show it yet.
    ///
    /// # Errors
    ///
    /// Where the call fails or the row cannot be read.
    pub async fn find_by_run(&self, run_arn: &str) -> Result<Option<StartRow>, LedgerError> {
        let found = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(BY_RUN_INDEX)
            .key_condition_expression("run_arn = :run_arn")
            .expression_attribute_values(":run_arn", text(run_arn))
            .limit(1)
            .send()
            .await
            .map_err(|error| LedgerError::of("Query", &self.table, &error))?;
        found.items.unwrap_or_default().into_iter().next().map(|item| self.row_of(item)).transpose()
    }

    /// At most `limit` starts of one shard that are due, the longest due first;
    /// each read on its own, so that a bad row leaves its neighbours alone.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn due(
        &self,
        shard: u32,
        now: Timestamp,
        limit: i32,
    ) -> Result<Vec<Result<StartRow, LedgerError>>, LedgerError> {
        self.starts_due(&due_shard(shard), now, limit).await
    }

    /// The starts that are due in one partition, the longest due first.
    pub(crate) async fn starts_due(
        &self,
        partition: &str,
        now: Timestamp,
        limit: i32,
    ) -> Result<Vec<Result<StartRow, LedgerError>>, LedgerError> {
        let items = self.due_in(partition, now, limit).await?;
        Ok(items.into_iter().map(|item| self.row_of(item)).collect())
    }

    /// What is due in one partition of the index, the longest due first.
    pub(crate) async fn due_in(
        &self,
        partition: &str,
        now: Timestamp,
        limit: i32,
    ) -> Result<Vec<Item>, LedgerError> {
        let found = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(BY_DUE_INDEX)
            .key_condition_expression("due_shard = :shard AND due_at <= :now")
            .expression_attribute_values(":shard", text(partition))
            .expression_attribute_values(":now", instant(now))
            .limit(limit)
            .send()
            .await
            .map_err(|error| LedgerError::of("Query", &self.table, &error))?;
        Ok(found.items.unwrap_or_default())
    }

    /// How much stands in one partition of the index, due or not: one page of it.
    pub(crate) async fn count_due_in(&self, partition: &str) -> Result<u32, LedgerError> {
        let counted = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(BY_DUE_INDEX)
            .select(Select::Count)
            .key_condition_expression("due_shard = :shard")
            .expression_attribute_values(":shard", text(partition))
            .send()
            .await
            .map_err(|error| LedgerError::of("Query", &self.table, &error))?;
        Ok(counted.count.try_into().unwrap_or(0))
    }

    /// All starts that were claimed on the UTC day of an instant, in the order of their claims.
    ///
    /// # Errors
    ///
    /// Where a call fails or a row cannot be read.
    pub async fn starts_of_day(&self, day: Timestamp) -> Result<Vec<StartRow>, LedgerError> {
        let mut rows = Vec::new();
        for shard in 0..DAY_SHARDS {
            let mut pages = self
                .client
                .query()
                .table_name(&self.table)
                .index_name(BY_DAY_INDEX)
                .key_condition_expression("day_shard = :shard")
                .expression_attribute_values(":shard", text(&day_shard(day, shard)))
                .into_paginator()
                .items()
                .send();
            while let Some(item) = pages.next().await {
                let item = item.map_err(|error| LedgerError::of("Query", &self.table, &error))?;
                rows.push(self.row_of(item)?);
            }
        }
        rows.sort_by_key(|row| row.claimed_at);
        Ok(rows)
    }

    pub(crate) fn item_of(&self, row: &StartRow, now: Timestamp) -> Result<Item, LedgerError> {
        let shard = shard_of(&row.start.start_key);
        let retention = SignedDuration::from_hours(24 * i64::from(self.retention_days));
        let mut item = Item::from([
            ("pk".to_owned(), key_of(&row.start.start_key)),
            ("row".to_owned(), AttributeValue::M(self.to_item(row)?)),
            ("claimed_at".to_owned(), text(&sortable(now))),
            ("day_shard".to_owned(), text(&day_shard(now, shard % DAY_SHARDS))),
            ("expires_at".to_owned(), number((now + retention).as_second())),
        ]);
        let due = match row.state {
            State::Dropped => None,
            State::Held => Some((held_shard(&row.start.trigger), instant(now))),
            _ => {
                let due_at = number((now + UNFINISHED_AFTER).as_second());
                Some((due_shard_of(&row.start.start_key), due_at))
            }
        };
        if let Some((due_shard, due_at)) = due {
            item.insert("due_shard".to_owned(), text(&due_shard));
            item.insert("due_at".to_owned(), due_at);
        }
        if let Some(run_arn) = &row.start.run_arn {
            item.insert("run_arn".to_owned(), text(run_arn));
        }
        if let Some(lease_s) = row.start.details.lease_s.filter(|_| row.state == State::Claimed) {
            let until = lease_end(now, lease_s);
            item.insert(LEASE_ATTRIBUTE.to_owned(), number(until.as_second()));
        }
        Ok(item)
    }

    pub(crate) fn row_of(&self, mut item: Item) -> Result<StartRow, LedgerError> {
        let run_arn = item.remove("run_arn");
        let lease = item.remove(LEASE_ATTRIBUTE);
        let Some(AttributeValue::M(row)) = item.remove("row") else {
            return Err(self.bad_row("it has no `row`"));
        };
        let mut row: StartRow = self.of_item(row)?;
        if let Some(AttributeValue::S(run_arn)) = run_arn {
            row.start.run_arn = Some(run_arn);
        }
        if let Some(AttributeValue::N(until)) = lease {
            row.lease_until = until.parse().ok().and_then(|at| Timestamp::from_second(at).ok());
        }
        Ok(row)
    }

    /// An update of one row by itself.
    pub(crate) fn update_of(&self, key: AttributeValue) -> UpdateItemFluentBuilder {
        self.client.update_item().table_name(&self.table).key("pk", key)
    }

    /// An update of one row as a part of a transaction.
    pub(crate) fn part_update(&self, key: AttributeValue) -> UpdateBuilder {
        Update::builder().table_name(&self.table).key("pk", key)
    }

    /// Sends an update, and again where a transaction came between. A condition that
    /// fails says that the row has gone further: that is no error.
    pub(crate) async fn update(&self, update: UpdateItemFluentBuilder) -> Result<(), LedgerError> {
        use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
        let mut patience = Patience::default();
        loop {
            let result = update.clone().send().await;
            let is_conflict = result
                .as_ref()
                .is_err_and(|error| error.code() == Some("TransactionConflictException"));
            if !is_conflict || !patience.wait().await {
                return self.settled(result);
            }
        }
    }

    /// A condition that fails says that the row has gone further: that is no error.
    pub(crate) fn settled<T, E, R>(
        &self,
        result: Result<T, aws_sdk_dynamodb::error::SdkError<E, R>>,
    ) -> Result<(), LedgerError>
    where
        E: aws_sdk_dynamodb::error::ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug,
    {
        self.done(result).map(drop)
    }

    /// Whether a write was done: `false` where its condition failed.
    pub(crate) fn done<T, E, R>(
        &self,
        result: Result<T, aws_sdk_dynamodb::error::SdkError<E, R>>,
    ) -> Result<bool, LedgerError>
    where
        E: aws_sdk_dynamodb::error::ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug,
    {
        use aws_sdk_dynamodb::error::ProvideErrorMetadata;
        match result {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
            Err(error) => Err(LedgerError::of("UpdateItem", &self.table, &error)),
        }
    }

    pub(crate) fn to_item(&self, value: &impl Serialize) -> Result<Item, LedgerError> {
        serde_dynamo::to_item(value).map_err(|error| self.bad_row(&error.to_string()))
    }

    pub(crate) fn of_item<T: DeserializeOwned>(&self, item: Item) -> Result<T, LedgerError> {
        serde_dynamo::from_item(item).map_err(|error| self.bad_row(&error.to_string()))
    }

    pub(crate) fn bad_row(&self, message: &str) -> LedgerError {
        LedgerError::Row { table: self.table.clone(), message: message.to_owned() }
    }
}

pub(crate) fn key_of(start_key: &StartKey) -> AttributeValue {
    text(&format!("start#{start_key}"))
}

/// Start keys are hashes, so that their first digits spread evenly.
fn shard_of(start_key: &StartKey) -> u32 {
    start_key.as_str().bytes().take(2).fold(0, |sum, byte| sum * 16 + u32::from(byte))
}

/// The partition of what is due that a start is in.
pub(crate) fn due_shard_of(start_key: &StartKey) -> String {
    due_shard(shard_of(start_key) % DUE_SHARDS)
}

fn due_shard(shard: u32) -> String {
    format!("due#{shard}")
}

fn day_shard(day: Timestamp, shard: u32) -> String {
    format!("{}#{shard}", day.to_zoned(TimeZone::UTC).date())
}

/// RFC 3339 with all nine digits, so that text order is time order.
pub(crate) fn sortable(time: Timestamp) -> String {
    format!("{time:.9}")
}

pub(crate) fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// Epoch seconds to nine digits, of DynamoDB's thirty-eight: what waits is in its order,
/// and due when it is, not in that second.
pub(crate) fn instant(at: Timestamp) -> AttributeValue {
    let (seconds, nanos) = (at.as_second(), at.subsec_nanosecond());
    AttributeValue::N(format!("{seconds}.{nanos:09}"))
}

pub(crate) fn number(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}
