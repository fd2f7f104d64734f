//! The writes of guards: a start is counted in the transaction that claims it, so that
//! whatever is repeated, unfinished or taken over is counted once.

use std::time::Duration;

use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use bellwire_schema::StartKey;
use bellwire_schema::workflow::{Guards, WhenHeld};
use jiff::{SignedDuration, Timestamp};

use crate::error::LedgerError;
use crate::guard::{
    Asker, GuardName, GuardRow, Held, Limits, SLOT_MARGIN, Verdict, cooled_ns, day_attribute,
    old_day_attributes, slot_attribute, stale_before,
};
use crate::lease::{LEASE_ATTRIBUTE, lease_end};
use crate::row::{Start, StartRow, State};
use crate::table::{
    ClaimOutcome, Item, Ledger, UNFINISHED_AFTER, due_shard_of, key_of, number, text,
};
use crate::window_table::Transacted;

/// What became of a start that the sweep would release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Release {
    /// It is claimed: the start is the caller's to make.
    Released,
    /// It does not wait any more: another sweep released it.
    Gone,
    /// It waits on.
    Held {
        /// For what.
        by: GuardName,
        /// Until when at least, where that is known.
        until: Option<Timestamp>,
    },
}

impl Ledger {
    /// Claims a start as [`Ledger::claim`] does, as far as its trigger's guards allow;
    /// what they do not allow is recorded as held, or as dropped.
    ///
    /// One transaction, of the start's row and the trigger's; a second where something
    /// is held. Where too many starts of a trigger come at one time for that, it is held
    /// too, and the sweep asks for it.
    ///
    /// # Errors
    ///
    /// Where the call fails; nothing is claimed or counted then, or the caller's own
    /// repetition finds the claim unfinished.
    pub async fn claim_guarded(
        &self,
        start: &Start,
        guards: &Guards,
        now: Timestamp,
    ) -> Result<ClaimOutcome, LedgerError> {
        let limits = Limits::of(guards, start);
        if limits.is_none() {
            return self.claim(start, now).await;
        }
        let item = self.item_of(&StartRow::claimed(start.clone(), now), now)?;
        let mut patience = Patience::default();
        let mut lapsed = Vec::new();
        loop {
            let admit = self.admit_update(start, &limits, Asker::Arrival, &lapsed, now);
            let items = vec![of_put(self.put_new(item.clone(), now)), of_update(admit)];
            match self.transact(items).await? {
                Transacted::Done => return Ok(ClaimOutcome::Claimed),
                Transacted::Contended => {}
                Transacted::Refused(found) => match refused(found) {
                    (Some(row), _) => return self.found(row, now).await,
                    (None, Some(guard)) => match guard.verdict(&limits, Asker::Arrival, now) {
                        Verdict::Admit { lapsed: over } => lapsed = over,
                        Verdict::Hold { by, until } => {
                            let held = Held::new(by, until, now);
                            return self.hold(start, &limits, held, patience, now).await;
                        }
                    },
                    (None, None) => {
                        return Err(self.bad_row("the refused claim returned no row"));
                    }
                },
            }
            if !patience.wait().await {
                let held = Held::new(GuardName::Contention, None, now);
                return self.hold_uncounted(start, held, State::Held, now).await;
            }
        }
    }

    /// Records that a start is held back, or dropped.
    async fn hold(
        &self,
        start: &Start,
        limits: &Limits,
        held: Held,
        mut patience: Patience,
        now: Timestamp,
    ) -> Result<ClaimOutcome, LedgerError> {
        if limits.when_held == WhenHeld::Drop {
            return self.hold_uncounted(start, held, State::Dropped, now).await;
        }
        let counted = Held { is_counted: true, ..held.clone() };
        let item = self.item_of(&StartRow::held(start.clone(), State::Held, counted), now)?;
        loop {
            let put = of_put(self.put_new(item.clone(), now));
            match self.transact(vec![put, of_update(self.wait_update(start, now))]).await? {
                Transacted::Done => {
                    return Ok(ClaimOutcome::Held { by: held.by, until: held.until });
                }
                Transacted::Contended => {}
                Transacted::Refused(found) => {
                    return match refused(found) {
                        (Some(row), _) => self.found(row, now).await,
                        (None, _) => Err(self.bad_row("the refused row was not returned")),
                    };
                }
            }
            if !patience.wait().await {
                return self.hold_uncounted(start, held, State::Held, now).await;
            }
        }
    }

    /// The same, without a word to the trigger's row.
    async fn hold_uncounted(
        &self,
        start: &Start,
        held: Held,
        state: State,
        now: Timestamp,
    ) -> Result<ClaimOutcome, LedgerError> {
        let (by, until) = (held.by, held.until);
        let item = self.item_of(&StartRow::held(start.clone(), state, held), now)?;
        match self.put_where_new(item, now).await? {
            Some(row) => self.found(row, now).await,
            None if state == State::Dropped => Ok(ClaimOutcome::Dropped { by }),
            None => Ok(ClaimOutcome::Held { by, until }),
        }
    }

    /// At most `limit` starts of a trigger that are held back, the longest held first;
    /// each read on its own, so that a bad row leaves its neighbours alone.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn held(
        &self,
        trigger: &str,
        now: Timestamp,
        limit: i32,
    ) -> Result<Vec<Result<StartRow, LedgerError>>, LedgerError> {
        self.starts_due(&held_shard(trigger), now, limit).await
    }

    /// Claims a start that is held back, where its trigger's guards allow it by now: one
    /// transaction, as for a start that was never held.
    ///
    /// # Errors
    ///
    /// Where the call fails, or too many others wrote to the trigger's row; the start
    /// waits on then, or is found unfinished.
    pub async fn release(
        &self,
        row: &StartRow,
        guards: &Guards,
        now: Timestamp,
    ) -> Result<Release, LedgerError> {
        let limits = Limits::of(guards, &row.start);
        let is_counted = row.held.as_ref().is_some_and(|held| held.is_counted);
        let asker = Asker::Sweep { is_counted };
        let mut patience = Patience::default();
        let mut lapsed = Vec::new();
        loop {
            let admit = self.admit_update(&row.start, &limits, asker, &lapsed, now);
            let items = vec![of_update(self.release_update(&row.start, now)), of_update(admit)];
            match self.transact(items).await? {
                Transacted::Done => return Ok(Release::Released),
                Transacted::Contended => {}
                Transacted::Refused(found) => match refused(found) {
                    (Some(_), _) | (None, None) => return Ok(Release::Gone),
                    (None, Some(guard)) => match guard.verdict(&limits, asker, now) {
                        Verdict::Admit { lapsed: over } => lapsed = over,
                        Verdict::Hold { by, until } => return Ok(Release::Held { by, until }),
                    },
                },
            }
            if !patience.wait().await {
                return Err(self.contended());
            }
        }
    }

    /// Gives back the slot of a run that ended; where it has none, nothing happens.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn release_slot(
        &self,
        trigger: &str,
        start_key: &StartKey,
    ) -> Result<(), LedgerError> {
        let update = self
            .update_of(guard_key(trigger))
            .update_expression("SET running = running - :one REMOVE #slot")
            .condition_expression("attribute_exists(#slot)")
            .expression_attribute_names("#slot", slot_attribute(start_key.as_str()))
            .expression_attribute_values(":one", number(1));
        self.update(update).await
    }

    /// Keeps the slot of a run that goes on past its expected end.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn renew_slot(
        &self,
        trigger: &str,
        start_key: &StartKey,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let until = now + SLOT_MARGIN;
        let update = self
            .update_of(guard_key(trigger))
            .update_expression("SET #slot = :until")
            .condition_expression("#slot < :until")
            .expression_attribute_names("#slot", slot_attribute(start_key.as_str()))
            .expression_attribute_values(":until", number(until.as_second()));
        self.update(update).await
    }

    /// The update of the trigger's row whose condition is [`GuardRow::verdict`].
    fn admit_update(
        &self,
        start: &Start,
        limits: &Limits,
        asker: Asker,
        lapsed: &[(String, i64)],
        now: Timestamp,
    ) -> Update {
        let mut set = vec![
            "#today = if_not_exists(#today, :zero) + :one".to_owned(),
            "last_start = :now".to_owned(),
            "expires_at = :expires".to_owned(),
        ];
        let mut remove = Vec::new();
        let mut conditions = Vec::new();
        let mut update = self
            .guard_update(start, now)
            .expression_attribute_names("#today", day_attribute(now))
            .expression_attribute_values(":now", nanoseconds(now.as_nanosecond()));
        for (index, day) in old_day_attributes(now).into_iter().enumerate() {
            update = update.expression_attribute_names(format!("#old{index}"), day);
            remove.push(format!("#old{index}"));
        }
        if let Some(max) = limits.starts_per_day_max {
            conditions.push("(attribute_not_exists(#today) OR #today < :starts_max)".to_owned());
            update = update.expression_attribute_values(":starts_max", number(max.into()));
        }
        if let Some(cooldown) = limits.cooldown {
            conditions
                .push("(attribute_not_exists(last_start) OR last_start <= :cooled)".to_owned());
            let cooled = nanoseconds(cooled_ns(now, cooldown));
            update = update.expression_attribute_values(":cooled", cooled);
        }
        if let Some(max) = limits.running_max {
            let taken = Slots { start, until: limits.slot_until(now), max, lapsed };
            update = taken.write(update, &mut set, &mut remove, &mut conditions);
        }
        match asker {
            Asker::Arrival if limits.when_held == WhenHeld::Wait => {
                conditions.push(
                    "(attribute_not_exists(waiting) OR waiting <= :zero OR held_at < :stale)"
                        .to_owned(),
                );
                update = update.expression_attribute_values(":stale", number(stale_before(now)));
            }
            Asker::Sweep { is_counted: true } => {
                set.push("waiting = if_not_exists(waiting, :one) - :one".to_owned());
                set.push("held_at = :seconds".to_owned());
                let seconds = number(now.as_second());
                update = update.expression_attribute_values(":seconds", seconds);
            }
            Asker::Arrival | Asker::Sweep { is_counted: false } => {}
        }
        let conditions = (!conditions.is_empty()).then(|| conditions.join(" AND "));
        let update = update
            .update_expression(format!("SET {} REMOVE {}", set.join(", "), remove.join(", ")))
            .set_condition_expression(conditions);
        update.build().expect("table, key and expression are set")
    }

    /// The update of the trigger's row that counts one more start that waits.
    fn wait_update(&self, start: &Start, now: Timestamp) -> Update {
        let update = self
            .guard_update(start, now)
            .update_expression(
                "SET waiting = if_not_exists(waiting, :zero) + :one, held_at = :seconds, \
                 expires_at = :expires",
            )
            .expression_attribute_values(":seconds", number(now.as_second()));
        update.build().expect("table, key and expression are set")
    }

    fn guard_update(&self, start: &Start, now: Timestamp) -> UpdateBuilder {
        let retention = SignedDuration::from_hours(24 * i64::from(self.retention_days));
        self.part_update(guard_key(&start.trigger))
            .expression_attribute_values(":zero", number(0))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":expires", number((now + retention).as_second()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    /// The update of a held start's own row that claims it.
    fn release_update(&self, start: &Start, now: Timestamp) -> Update {
        let retention = SignedDuration::from_hours(24 * i64::from(self.retention_days));
        let mut set = "SET #row.#state = :claimed, #row.#held.released_at = :now, \
                       due_shard = :due_shard, due_at = :due_at, expires_at = :expires"
            .to_owned();
        let mut update = self
            .part_update(key_of(&start.start_key))
            .condition_expression("#row.#state = :held")
            .expression_attribute_names("#row", "row")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#held", "held")
            .expression_attribute_values(":claimed", text(State::Claimed.as_str()))
            .expression_attribute_values(":held", text(State::Held.as_str()))
            .expression_attribute_values(":now", text(&now.to_string()))
            .expression_attribute_values(":due_shard", text(&due_shard_of(&start.start_key)))
            .expression_attribute_values(":due_at", number((now + UNFINISHED_AFTER).as_second()))
            .expression_attribute_values(":expires", number((now + retention).as_second()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        if let Some(lease_s) = start.details.lease_s {
            set.push_str(", ");
            set.push_str(LEASE_ATTRIBUTE);
            set.push_str(" = :lease");
            let until = number(lease_end(now, lease_s).as_second());
            update = update.expression_attribute_values(":lease", until);
        }
        update.update_expression(set).build().expect("table, key and expression are set")
    }
}

impl Held {
    fn new(by: GuardName, until: Option<Timestamp>, now: Timestamp) -> Self {
        Self { by, at: now, until, released_at: None, is_counted: false }
    }
}

/// The slot that a start takes, and those that lapsed and go.
struct Slots<'a> {
    start: &'a Start,
    until: Timestamp,
    max: u32,
    lapsed: &'a [(String, i64)],
}

impl Slots<'_> {
    fn write(
        &self,
        mut update: UpdateBuilder,
        set: &mut Vec<String>,
        remove: &mut Vec<String>,
        conditions: &mut Vec<String>,
    ) -> UpdateBuilder {
        let own = slot_attribute(self.start.start_key.as_str());
        let gone = i64::try_from(self.lapsed.len()).expect("a few");
        conditions.push("(attribute_not_exists(running) OR running < :running_max)".to_owned());
        set.push("running = if_not_exists(running, :zero) + :taken".to_owned());
        set.push("#slot = :until".to_owned());
        for (index, (name, until)) in self.lapsed.iter().enumerate() {
            // What was renewed meanwhile is not over.
            conditions.push(format!("#over{index} = :over{index}"));
            update = update
                .expression_attribute_names(format!("#over{index}"), name)
                .expression_attribute_values(format!(":over{index}"), number(*until));
            // One write may not both set and remove an attribute.
            if *name != own {
                remove.push(format!("#over{index}"));
            }
        }
        update
            .expression_attribute_names("#slot", own)
            .expression_attribute_values(":until", number(self.until.as_second()))
            .expression_attribute_values(":taken", number(1 - gone))
            .expression_attribute_values(":running_max", number(i64::from(self.max) + gone))
    }
}

/// The rows that a transaction of a start's row and a trigger's was refused for.
fn refused(mut found: Vec<Option<Item>>) -> (Option<Item>, Option<GuardRow>) {
    let guard = found.pop().flatten();
    (found.pop().flatten(), guard.map(|item| GuardRow::of_item(&item)))
}

fn of_put(put: Put) -> TransactWriteItem {
    TransactWriteItem::builder().put(put).build()
}

fn of_update(update: Update) -> TransactWriteItem {
    TransactWriteItem::builder().update(update).build()
}

fn guard_key(trigger: &str) -> AttributeValue {
    text(&format!("guard#{trigger}"))
}

/// The partition of the sparse index that holds what waits of one trigger.
pub(crate) fn held_shard(trigger: &str) -> String {
    format!("held#{trigger}")
}

fn nanoseconds(at: i128) -> AttributeValue {
    AttributeValue::N(at.to_string())
}

/// How often, and how long, a write is repeated that others came between: nobody waits in
/// DynamoDB, so that of many who write one row at one time all but one are turned away.
/// Source: Amazon DynamoDB developer guide, "Transaction conflict handling".
#[derive(Debug, Default)]
pub(crate) struct Patience {
    attempts: u32,
}

impl Patience {
    /// At most about eight seconds in all, well within the timeout of a function.
    const ATTEMPTS_MAX: u32 = 24;
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_millis(800);

    /// Waits for a random part of a time that doubles; whether to try again.
    pub(crate) async fn wait(&mut self) -> bool {
        self.attempts += 1;
        if self.attempts >= Self::ATTEMPTS_MAX {
            return false;
        }
        let longest = Self::FIRST.saturating_mul(1 << self.attempts.min(10)).min(Self::LONGEST);
        tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
        true
    }
}
