//! What is read of windows, and what is due of them.

use aws_sdk_dynamodb::types::AttributeValue;
use bellwire_schema::gathered::WindowId;
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::error::LedgerError;
use crate::table::{BY_DAY_INDEX, Item, Ledger, instant, number, text};
use crate::window::{ClosedWindow, DueWindow, Gate, MemberPage, MemberRow, Outcome, Progress};
use crate::window_table::{closed_key, gate_key, members_shard};

impl Ledger {
    /// A page of the members of a closed window, in the order in which they arrived
    /// at one gate after the other. The index that shows them may lag behind: they are
    /// all there when they are as many as the closed row says.
    ///
    /// # Errors
    ///
    /// Where the call fails, or a row or the cursor cannot be read.
    pub async fn members(
        &self,
        window: &WindowId,
        generation: u32,
        gate: u32,
        cursor: Option<&str>,
    ) -> Result<MemberPage, LedgerError> {
        let shard = text(&members_shard(window, generation, gate));
        let start = cursor.map(|cursor| self.start_of(cursor, &shard)).transpose()?;
        let found = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(BY_DAY_INDEX)
            .key_condition_expression("day_shard = :shard")
            .expression_attribute_values(":shard", shard)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(|error| LedgerError::of("Query", &self.table, &error))?;
        let next = found.last_evaluated_key.as_ref().and_then(cursor_of);
        let items = found.items.unwrap_or_default().into_iter();
        let members = items.map(|item| Ok(self.row_in::<MemberRow>(item)?.member));
        Ok(MemberPage { members: members.collect::<Result<_, LedgerError>>()?, next })
    }

    /// At most `limit` windows of one shard of which something is due; each read on
    /// its own, so that a bad row leaves its neighbours alone.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn due_windows(
        &self,
        shard: u32,
        now: Timestamp,
        limit: i32,
    ) -> Result<Vec<Result<DueWindow, LedgerError>>, LedgerError> {
        let items = self.due_in(&format!("window#{shard}"), now, limit).await?;
        let read = |item: Item| match item.contains_key("row") {
            true => self.row_in(item).map(Box::new).map(DueWindow::Closed),
            false => self.of_item(item).map(Box::new).map(DueWindow::Open),
        };
        Ok(items.into_iter().map(read).collect())
    }

    /// How many gates of open windows, and closed windows without a run yet, one shard
    /// has: of as many as one page of the index holds, a megabyte.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn count_windows(&self, shard: u32) -> Result<u32, LedgerError> {
        let partition = format!("window#{shard}");
        self.count_due_in(&partition).await
    }

    /// Puts off when the sweep looks at a gate again, where its window is still open.
    /// `false` where it has gone on, or is due no sooner already: of all who put it off
    /// to one time, one is told `true`.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn put_off_gate(&self, gate: &Gate, due_at: Timestamp) -> Result<bool, LedgerError> {
        let update = self
            .update_of(gate_key(&gate.window.id, gate.gate))
            .update_expression("SET due_at = :due_at")
            .condition_expression("generation = :generation AND due_at < :due_at")
            .expression_attribute_values(":generation", number(gate.generation.into()))
            .expression_attribute_values(":due_at", instant(due_at));
        self.done(update.send().await)
    }

    /// Puts off when the sweep looks at a closed window again, with how far it came.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn put_off_closed(
        &self,
        closed: &ClosedWindow,
        progress: Option<&Progress>,
        due_at: Timestamp,
    ) -> Result<(), LedgerError> {
        let progress = match progress {
            Some(progress) => AttributeValue::M(self.to_item(progress)?),
            None => AttributeValue::Null(true),
        };
        let update = self
            .update_of(closed_key(&closed.window.id, closed.generation))
            .update_expression("SET due_at = :due_at, #row.progress = :progress")
            .condition_expression("attribute_exists(due_at)")
            .expression_attribute_names("#row", "row")
            .expression_attribute_values(":progress", progress)
            .expression_attribute_values(":due_at", instant(due_at));
        self.settled(update.send().await)
    }

    /// Records what became of a closed window: nothing of it is due any more.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn record_outcome(
        &self,
        closed: &ClosedWindow,
        outcome: &Outcome,
    ) -> Result<(), LedgerError> {
        let outcome = serde_dynamo::to_attribute_value(outcome)
            .map_err(|error| self.bad_row(&error.to_string()))?;
        let update = self
            .update_of(closed_key(&closed.window.id, closed.generation))
            .update_expression("SET #row.outcome = :outcome REMOVE due_shard, due_at")
            .condition_expression("attribute_exists(due_at)")
            .expression_attribute_names("#row", "row")
            .expression_attribute_values(":outcome", outcome);
        self.settled(update.send().await)
    }

    pub(crate) fn row_in<T: DeserializeOwned>(&self, mut item: Item) -> Result<T, LedgerError> {
        match item.remove("row") {
            Some(AttributeValue::M(row)) => self.of_item(row),
            _ => Err(self.bad_row("it has no `row`")),
        }
    }

    /// The key that a page begins behind.
    fn start_of(&self, cursor: &str, shard: &AttributeValue) -> Result<Item, LedgerError> {
        let Some((pk, order)) = cursor.split_once(' ') else {
            return Err(self.bad_row("a page's cursor is none"));
        };
        Ok(Item::from([
            ("pk".to_owned(), text(pk)),
            ("day_shard".to_owned(), shard.clone()),
            ("claimed_at".to_owned(), text(order)),
        ]))
    }
}

/// A key of the index has no blanks.
fn cursor_of(key: &Item) -> Option<String> {
    let part = |name: &str| key.get(name)?.as_s().ok().map(String::as_str);
    Some(format!("{} {}", part("pk")?, part("claimed_at")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_behind_its_cursor() {
        let key = Item::from([
            ("pk".to_owned(), text("member#1")),
            ("claimed_at".to_owned(), text("2026-11-24T00:00:00Z#1")),
        ]);
        let cursor = cursor_of(&key).unwrap();
        assert_eq!(cursor.split_once(' '), Some(("member#1", "2026-11-24T00:00:00Z#1")));
    }
}
