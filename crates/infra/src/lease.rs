//! One apply at a time: a row of the ledger says who is at it.
//!
//! A holder renews its lease while it works. One that was killed cannot, so
//! whoever finds the row waits until it has expired, at most half a minute; a
//! row that was renewed meanwhile belongs to somebody who is alive.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, failed};

/// The key of the lease's row.
pub(crate) const LEASE_KEY: &str = "lease#apply";
/// How long a lease holds unless it is renewed.
const LEASE_S: u64 = 30;
/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(8);
/// How often a row in the way is looked at again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A lease that is held, and renewed until it is released or dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    aws: Aws,
    table: String,
    holder: String,
    renewal: tokio::task::JoinHandle<()>,
}

/// Why there is no lease.
#[derive(Debug)]
pub(crate) enum NoLease {
    /// Somebody else holds it, and is alive.
    Held { holder: String },
    /// AWS could not be asked.
    Call(CallError),
}

fn epoch_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A row in the way: whose, and until when.
struct Row {
    holder: String,
    expires_at: u64,
}

/// Takes the lease; waits for one to expire whose holder no longer renews it.
pub(crate) async fn acquire(
    aws: &Aws,
    table: &str,
    holder: &str,
    on_wait: &(dyn Fn(&str) + Sync),
) -> Result<Lease, NoLease> {
    let mut seen: Option<Row> = None;
    loop {
        let Some(row) = try_take(aws, table, holder).await.map_err(NoLease::Call)? else {
            return Ok(renewed(aws, table, holder));
        };
        match &seen {
            Some(before) if before.expires_at != row.expires_at => {
                return Err(NoLease::Held { holder: row.holder });
            }
            Some(_) => {}
            None => on_wait(&row.holder),
        }
        seen = Some(row);
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// The row in the way, where there is one.
async fn try_take(aws: &Aws, table: &str, holder: &str) -> Result<Option<Row>, CallError> {
    let now = epoch_s();
    let put = aws
        .dynamodb
        .put_item()
        .table_name(table)
        .item("pk", AttributeValue::S(LEASE_KEY.to_owned()))
        .item("holder", AttributeValue::S(holder.to_owned()))
        .item("expires_at", number(now + LEASE_S))
        .condition_expression("attribute_not_exists(pk) OR expires_at < :now")
        .expression_attribute_values(":now", number(now))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .send()
        .await;
    let Err(error) = put else {
        return Ok(None);
    };
    if let SdkError::ServiceError(service) = &error
        && let aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(
            refused,
        ) = service.err()
    {
        let row = refused.item().cloned().unwrap_or_default();
        let holder = row.get("holder").and_then(|value| value.as_s().ok()).cloned();
        let expires_at = row.get("expires_at").and_then(|value| value.as_n().ok()?.parse().ok());
        return Ok(Some(Row {
            holder: holder.unwrap_or_else(|| "somebody".to_owned()),
            expires_at: expires_at.unwrap_or(0),
        }));
    }
    Err(failed("dynamodb:PutItem", table)(error))
}

fn renewed(aws: &Aws, table: &str, holder: &str) -> Lease {
    let (aws, table, holder) = (aws.clone(), table.to_owned(), holder.to_owned());
    let renewal = tokio::spawn({
        let (aws, table, holder) = (aws.clone(), table.clone(), holder.clone());
        async move {
            loop {
                tokio::time::sleep(RENEW_EVERY).await;
                let renewed = aws
                    .dynamodb
                    .update_item()
                    .table_name(&table)
                    .key("pk", AttributeValue::S(LEASE_KEY.to_owned()))
                    .update_expression("SET expires_at = :expires_at")
                    .condition_expression("holder = :holder")
                    .expression_attribute_values(":expires_at", number(epoch_s() + LEASE_S))
                    .expression_attribute_values(":holder", AttributeValue::S(holder.clone()))
                    .send()
                    .await;
                // Every step can be repeated, so a lost lease does no harm; the
                // table is gone at the end of a destruction.
                if let Err(error) = renewed.map_err(failed("dynamodb:UpdateItem", &table)) {
                    tracing::debug!(%error, "the lease was not renewed");
                }
            }
        }
    });
    Lease { aws, table, holder, renewal }
}

impl Lease {
    /// Gives the lease back. Where the table is gone, it is gone too.
    pub(crate) async fn release(self) -> Result<(), CallError> {
        self.renewal.abort();
        let deleted = self
            .aws
            .dynamodb
            .delete_item()
            .table_name(&self.table)
            .key("pk", AttributeValue::S(LEASE_KEY.to_owned()))
            .condition_expression("holder = :holder")
            .expression_attribute_values(":holder", AttributeValue::S(self.holder.clone()))
            .send()
            .await;
        match absent_is_done(deleted.map_err(failed("dynamodb:DeleteItem", &self.table))) {
            Err(error) if !error.is_code(&["ConditionalCheckFailedException"]) => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}
