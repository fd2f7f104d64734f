//! The transactions of gathering: one for each event that arrives, and one to close a
//! window.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, KeysAndAttributes, Put, ReturnConsumedCapacity,
    ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use bellwire_schema::gathered::WindowId;
use jiff::{SignedDuration, Timestamp};

use crate::error::LedgerError;
use crate::table::{Item, Ledger, instant, number, sortable, text};
use crate::window::{
    Admission, Admitted, ClosedWindow, Fate, GATE_MARGIN, Gate, MemberRow, Previous, Room,
    WINDOW_DUE_SHARDS, Window,
};

/// Codes of a cancelled transaction that say nothing against its repetition. Source:
/// Amazon DynamoDB API reference, `TransactWriteItems`, `CancellationReasons`.
const CONTENTION: [&str; 3] =
    ["TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError"];

/// Whether a cancelled transaction would be cancelled again, for what its rows are: too
/// large, for instance. Source: as above.
fn is_for_good(code: &str) -> bool {
    ["ItemCollectionSizeLimitExceeded", "ValidationError"].contains(&code)
}

/// What a closed window waits for whoever closed it, before the sweep takes it up.
const UNSTARTED_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// What became of a transaction.
pub(crate) enum Transacted {
    Done,
    /// A condition did not hold; the items that it was about, as they stand.
    Refused(Vec<Option<Item>>),
    Contended,
}

impl Ledger {
    /// Lets an event into its window, or tells why not: one transaction, of the
    /// event's own row and its gate's.
    ///
    /// # Errors
    ///
    /// Where the call fails or a row cannot be read; the event is not in then, or its
    /// repetition finds that it is.
    pub async fn admit(&self, admission: &Admission<'_>) -> Result<Admitted, LedgerError> {
        let put =
            self.put_member(&self.member_row(admission), admission.member_id, admission.now)?;
        let update = self.enter_gate(admission)?;
        let items = [
            TransactWriteItem::builder().put(put).build(),
            TransactWriteItem::builder().update(update).build(),
        ];
        match self.transact(items.into()).await? {
            Transacted::Done => Ok(Admitted::Joined),
            Transacted::Contended => Ok(Admitted::Contended),
            Transacted::Refused(mut found) => match (found.pop(), found.pop()) {
                (_, Some(Some(member))) => Ok(Admitted::Known(Box::new(self.row_in(member)?))),
                (Some(gate), _) => {
                    let gate = gate.map(|gate| self.of_item(gate)).transpose()?;
                    Ok(Admitted::Refused(gate.map(Box::new)))
                }
                (None, _) => Err(self.bad_row("the refused transaction named no reasons")),
            },
        }
    }

    /// Remembers an event whose object was in the listing of a window that is closed.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn remember_listed(&self, row: &MemberRow, id: &str) -> Result<(), LedgerError> {
        let put = self.put_member(row, id, row.arrived_at)?;
        let sent = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(put.item))
            .set_condition_expression(put.condition_expression)
            .set_expression_attribute_values(put.expression_attribute_values)
            .send()
            .await;
        self.settled(sent)
    }

    /// The gates of a window, as they stand: strongly consistent, in one call.
    /// A gate past its expiry counts as not there.
    ///
    /// # Errors
    ///
    /// Where the call fails or a row cannot be read.
    pub async fn gates(
        &self,
        window: &Window,
        now: Timestamp,
    ) -> Result<Vec<Option<Gate>>, LedgerError> {
        let keys = (0..window.gates)
            .map(|gate| HashMap::from([("pk".to_owned(), gate_key(&window.id, gate))]))
            .collect();
        let keys = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        let found = self
            .client
            .batch_get_item()
            .request_items(&self.table, keys.expect("keys are set"))
            .send()
            .await
            .map_err(|error| LedgerError::of("BatchGetItem", &self.table, &error))?;
        if found.unprocessed_keys().is_some_and(|keys| !keys.is_empty()) {
            return Err(LedgerError::Unavailable {
                operation: "BatchGetItem",
                table: self.table.clone(),
                message: "not all rows were read".to_owned(),
            });
        }
        let mut gates = vec![None; window.gates as usize];
        for item in found.responses.unwrap_or_default().into_values().flatten() {
            let gate: Gate = self.of_item(item)?;
            if let Some(place) = gates.get_mut(gate.gate as usize)
                && gate.expires_at > now.as_second()
            {
                *place = Some(gate);
            }
        }
        Ok(gates)
    }

    /// Closes a window whose gates were read, all or none of them; `false` where one
    /// has changed since.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn close_window(
        &self,
        closed: &ClosedWindow,
        gates: &[Option<Gate>],
    ) -> Result<bool, LedgerError> {
        let previous = Previous {
            ended_by: closed.ended_by,
            closed_at: closed.closed_at,
            listed_until: closed.listed_until,
        };
        let next = closed.generation + 1;
        let mut items = Vec::new();
        for (index, gate) in (0..).zip(gates) {
            let update = self.turn_gate(&closed.window, index, gate.as_ref(), closed.closed_at)?;
            let update = update
                .update_expression(
                    "SET #window = :window, gate = :gate, generation = :next, members = :zero, \
                     previous = :previous, expires_at = :expires \
                     REMOVE opened_at, last_at, #types, marker, due_shard, due_at",
                )
                .expression_attribute_names("#types", "types")
                .expression_attribute_values(":next", number(next.into()))
                .expression_attribute_values(":zero", number(0))
                .expression_attribute_values(
                    ":previous",
                    AttributeValue::M(self.to_item(&previous)?),
                );
            items.push(of_update(update.build().expect("key and expression are set")));
        }
        let due_at = closed.closed_at + UNSTARTED_AFTER;
        let retention = SignedDuration::from_hours(24 * i64::from(self.retention_days));
        let row = Item::from([
            ("pk".to_owned(), closed_key(&closed.window.id, closed.generation)),
            ("row".to_owned(), AttributeValue::M(self.to_item(closed)?)),
            ("due_shard".to_owned(), text(&due_shard(&closed.window.id, 0))),
            ("due_at".to_owned(), instant(due_at)),
            ("expires_at".to_owned(), number((closed.closed_at + retention).as_second())),
        ]);
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(row))
            .condition_expression("attribute_not_exists(pk) OR expires_at < :now");
        let put = put.expression_attribute_values(":now", number(closed.closed_at.as_second()));
        items.push(TransactWriteItem::builder().put(put.build().expect("item is set")).build());
        Ok(matches!(self.transact(items).await?, Transacted::Done))
    }

    /// Gives all gates of a window their time to live anew, whatever of them is left:
    /// all of them, so that they are forgotten together. `false` where one has changed.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn renew_gates(
        &self,
        window: &Window,
        gates: &[Option<Gate>],
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let generation = gates.iter().flatten().map(|gate| gate.generation).max().unwrap_or(0);
        let mut items = Vec::new();
        for (index, gate) in (0..).zip(gates) {
            let update = self.turn_gate(window, index, gate.as_ref(), now)?;
            let count = gate.as_ref().map_or(0, |gate| gate.count);
            let set = "SET #window = :window, gate = :gate, generation = :next, \
                       members = :count, expires_at = :expires";
            // Of a gate that counts as gone nothing stays.
            let expression = match gate {
                Some(_) => set.to_owned(),
                None => format!(
                    "{set} REMOVE opened_at, last_at, #types, marker, previous, due_shard, due_at"
                ),
            };
            let update = match gate {
                Some(_) => update,
                None => update.expression_attribute_names("#types", "types"),
            };
            let update = update
                .update_expression(expression)
                .expression_attribute_values(":next", number(generation.into()))
                .expression_attribute_values(":count", number(count.cast_signed()));
            items.push(of_update(update.build().expect("key and expression are set")));
        }
        Ok(matches!(self.transact(items).await?, Transacted::Done))
    }

    /// What is said where others wrote the same rows at the same time, again and again.
    #[must_use]
    pub fn contended(&self) -> LedgerError {
        LedgerError::Unavailable {
            operation: "TransactWriteItems",
            table: self.table.clone(),
            message: "others wrote to the same row at the same time".to_owned(),
        }
    }

    pub(crate) async fn transact(
        &self,
        items: Vec<TransactWriteItem>,
    ) -> Result<Transacted, LedgerError> {
        let sent = self
            .client
            .transact_write_items()
            .set_transact_items(Some(items))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        let error = match sent {
            Ok(done) => {
                let capacity = done.consumed_capacity().iter();
                let units: f64 = capacity.filter_map(|of| of.capacity_units).sum();
                tracing::debug!(units, "ledger transaction");
                return Ok(Transacted::Done);
            }
            Err(error) => error,
        };
        let Some(reasons) = reasons_of(&error) else {
            return Err(LedgerError::of("TransactWriteItems", &self.table, &error));
        };
        let codes = || reasons.iter().filter_map(CancellationReason::code);
        if codes().any(|code| code == "ConditionalCheckFailed") {
            return Ok(Transacted::Refused(reasons.iter().map(|one| one.item.clone()).collect()));
        }
        if codes().any(|code| CONTENTION.contains(&code)) {
            return Ok(Transacted::Contended);
        }
        if let Some(refused) = reasons.iter().find(|one| one.code().is_some_and(is_for_good)) {
            return Err(LedgerError::Refused {
                operation: "TransactWriteItems",
                table: self.table.clone(),
                message: refused.message().unwrap_or("a row is not valid").to_owned(),
            });
        }
        Err(LedgerError::of("TransactWriteItems", &self.table, &error))
    }

    fn put_member(&self, row: &MemberRow, id: &str, now: Timestamp) -> Result<Put, LedgerError> {
        let retention = SignedDuration::from_hours(24 * i64::from(self.retention_days));
        let mut item = Item::from([
            ("pk".to_owned(), text(&format!("member#{id}"))),
            ("row".to_owned(), AttributeValue::M(self.to_item(row)?)),
            ("expires_at".to_owned(), number((now + retention).as_second())),
        ]);
        if row.fate == Fate::Gathered {
            let shard = members_shard(&row.window, row.generation, row.gate);
            item.insert("day_shard".to_owned(), text(&shard));
            let order = format!("{}#{id}", sortable(row.arrived_at));
            item.insert("claimed_at".to_owned(), text(&order));
        }
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk) OR expires_at < :now")
            .expression_attribute_values(":now", number(now.as_second()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        Ok(put.build().expect("table and item are set"))
    }

    fn member_row(&self, admission: &Admission<'_>) -> MemberRow {
        MemberRow {
            member: admission.member.clone(),
            window: admission.window.id.clone(),
            generation: admission.generation,
            gate: admission.gate,
            fate: admission.fate,
            is_late: admission.is_late,
            completes: admission.completes,
            arrived_at: admission.now,
        }
    }

    /// The update whose condition is [`Admission::refusal`].
    fn enter_gate(&self, admission: &Admission<'_>) -> Result<Update, LedgerError> {
        let Admission { window, generation, gate, now, .. } = *admission;
        let mut set = vec![
            "#window = if_not_exists(#window, :window)",
            "gate = :gate",
            "generation = if_not_exists(generation, :generation)",
            "members = if_not_exists(members, :zero) + :one",
            "opened_at = if_not_exists(opened_at, :now_text)",
            "last_at = :now_text",
            "due_shard = :due_shard",
            "expires_at = if_not_exists(expires_at, :expires)",
        ];
        set.push(match admission.completes {
            true => "due_at = :due_at",
            false => "due_at = if_not_exists(due_at, :due_at)",
        });
        let mut condition = "generation = :generation AND expires_at > :horizon".to_owned();
        let one = i64::from(admission.fate == Fate::Gathered);
        let mut update = self
            .part_update(gate_key(&window.id, gate))
            .expression_attribute_names("#window", "window")
            .expression_attribute_values(":window", AttributeValue::M(self.to_item(window)?))
            .expression_attribute_values(":gate", number(gate.into()))
            .expression_attribute_values(":generation", number(generation.into()))
            .expression_attribute_values(":zero", number(0))
            .expression_attribute_values(":one", number(one))
            .expression_attribute_values(":now_text", text(&now.to_string()))
            .expression_attribute_values(":due_shard", text(&due_shard(&window.id, gate)))
            .expression_attribute_values(":due_at", instant(admission.due_at))
            .expression_attribute_values(":expires", self.gate_expiry(now))
            .expression_attribute_values(":horizon", number((now + GATE_MARGIN).as_second()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        if admission.fate == Fate::Marker {
            set.push("marker = if_not_exists(marker, :marker)");
            let marker = text(&String::from(admission.member.clone()));
            update = update.expression_attribute_values(":marker", marker);
        }
        (update, condition) = with_room(update, condition, admission.room);
        let mut expression = format!("SET {}", set.join(", "));
        if let Some(counted) = admission.counted_type() {
            expression.push_str(" ADD #types :type");
            let counted = AttributeValue::Ss(vec![counted.to_owned()]);
            update = update.expression_attribute_values(":type", counted);
            update = update.expression_attribute_names("#types", "types");
        }
        if generation == 0 {
            condition = format!("attribute_not_exists(pk) OR ({condition})");
        }
        let update = update.update_expression(expression).condition_expression(condition);
        Ok(update.build().expect("table, key and expression are set"))
    }

    /// What every update of all gates has: that the gate is as it was read.
    fn turn_gate(
        &self,
        window: &Window,
        index: u32,
        gate: Option<&Gate>,
        now: Timestamp,
    ) -> Result<UpdateBuilder, LedgerError> {
        let update = self
            .part_update(gate_key(&window.id, index))
            .expression_attribute_names("#window", "window")
            .expression_attribute_values(":window", AttributeValue::M(self.to_item(window)?))
            .expression_attribute_values(":gate", number(index.into()))
            .expression_attribute_values(":expires", self.gate_expiry(now));
        let Some(gate) = gate else {
            return Ok(update
                .condition_expression("attribute_not_exists(pk) OR expires_at <= :now")
                .expression_attribute_values(":now", number(now.as_second())));
        };
        let marker = match gate.marker {
            Some(_) => "attribute_exists(marker)",
            None => "attribute_not_exists(marker)",
        };
        Ok(update
            .condition_expression(format!(
                "generation = :generation AND members = :members AND {marker}"
            ))
            .expression_attribute_values(":generation", number(gate.generation.into()))
            .expression_attribute_values(":members", number(gate.count.cast_signed())))
    }

    /// A gate lives longer than every start that came of its windows, so that no
    /// generation comes twice.
    fn gate_expiry(&self, now: Timestamp) -> AttributeValue {
        let retention = SignedDuration::from_hours(24 * i64::from(self.retention_days));
        number((now + retention + GATE_MARGIN).as_second())
    }
}

/// What a gate's room asks for, as a condition of its update.
fn with_room(
    mut update: UpdateBuilder,
    mut condition: String,
    room: Room<'_>,
) -> (UpdateBuilder, String) {
    match room {
        Room::Any | Room::AnyNoted => {}
        Room::Below(count) => {
            condition.push_str(" AND members < :room");
            update = update.expression_attribute_values(":room", number(count.cast_signed()));
        }
        Room::TypesMissing(others) => {
            let mut missing = vec!["attribute_not_exists(#types)".to_owned()];
            for (index, other) in others.iter().enumerate() {
                let name = format!(":other{index}");
                missing.push(format!("NOT contains(#types, {name})"));
                update = update.expression_attribute_values(name, text(other));
            }
            condition = format!("{condition} AND ({})", missing.join(" OR "));
        }
    }
    (update, condition)
}

fn reasons_of<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<&[CancellationReason]> {
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(cancelled) => {
            Some(cancelled.cancellation_reasons())
        }
        _ => None,
    }
}

fn of_update(update: Update) -> TransactWriteItem {
    TransactWriteItem::builder().update(update).build()
}

pub(crate) fn gate_key(window: &WindowId, gate: u32) -> AttributeValue {
    text(&format!("window#{window}#{gate}"))
}

pub(crate) fn closed_key(window: &WindowId, generation: u32) -> AttributeValue {
    text(&format!("gathered#{window}#{generation}"))
}

pub(crate) fn members_shard(window: &WindowId, generation: u32, gate: u32) -> String {
    format!("members#{window}#{generation}#{gate}")
}

/// Each gate of a window is due in a partition of its own; where they begin is
/// spread by the window's id, whose digits are a hash's.
fn due_shard(window: &WindowId, gate: u32) -> String {
    let first = window.as_str().bytes().next().map_or(0, u32::from);
    format!("window#{}", (first + gate) % WINDOW_DUE_SHARDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gates_of_a_window_are_due_in_partitions_of_their_own() {
        let id = WindowId::of("train", "raw/");
        let shards: std::collections::BTreeSet<_> =
            (0..WINDOW_DUE_SHARDS).map(|gate| due_shard(&id, gate)).collect();
        assert_eq!(shards.len(), WINDOW_DUE_SHARDS as usize);
    }
}
