//! `bellwire-bench-function-bare`: makes the calls that the handler makes for an event,
//! with about the same bytes, and nothing else. What the handler takes more than this is
//! its own work.

use std::collections::HashMap;

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::types::{
    AttributeValue, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use aws_sdk_sns::types::MessageAttributeValue;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

const PLACE: &str = "eu-central-1:111122223333";
const START_KEY: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TIME: &str = "2026-11-22T02:14:08.113000000Z";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What stands in the place of what the handler makes of an event, of the same length.
#[derive(Clone)]
struct Calls {
    dynamodb: aws_sdk_dynamodb::Client,
    sfn: aws_sdk_sfn::Client,
    sns: aws_sdk_sns::Client,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = aws_config::defaults(BehaviorVersion::latest()).load().await;
    let calls = Calls {
        dynamodb: aws_sdk_dynamodb::Client::new(&config),
        sfn: aws_sdk_sfn::Client::new(&config),
        sns: aws_sdk_sns::Client::new(&config),
    };
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| {
        let calls = calls.clone();
        async move { calls.make(&event.payload).await }
    }))
    .await
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: &str) -> AttributeValue {
    AttributeValue::N(number.to_owned())
}

fn map<const N: usize>(fields: [(&str, AttributeValue); N]) -> HashMap<String, AttributeValue> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The write of the trigger's row that counts the start against its daily limit.
fn counted() -> Result<Update, Error> {
    let update = Update::builder()
        .table_name("bench-ledger")
        .key("pk", text("guard#train"))
        .update_expression(
            "SET #today = if_not_exists(#today, :zero) + :one, last_start = :now, \
             expires_at = :expires REMOVE #old0, #old1",
        )
        .condition_expression(
            "(attribute_not_exists(#today) OR #today < :starts_max) AND \
             (attribute_not_exists(waiting) OR waiting <= :zero OR held_at < :stale)",
        )
        .expression_attribute_names("#today", "starts_2026-11-22")
        .expression_attribute_names("#old0", "starts_2026-11-20")
        .expression_attribute_names("#old1", "starts_2026-11-19")
        .expression_attribute_values(":zero", number("0"))
        .expression_attribute_values(":one", number("1"))
        .expression_attribute_values(":now", number("1795313647113000000"))
        .expression_attribute_values(":expires", number("1829873647"))
        .expression_attribute_values(":starts_max", number("1000000000"))
        .expression_attribute_values(":stale", number("1795310047"))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    Ok(update.build()?)
}

impl Calls {
    async fn make(&self, payload: &Value) -> Result<(), Error> {
        // The event is the input: the longest of what is sent.
        let event = payload["Records"][0]["Sns"]["Message"].as_str().unwrap_or_default();
        let run_arn = format!("arn:aws:states:{PLACE}:execution:bench-train:train-{START_KEY}");
        let input = format!("{event:<width$}", width = event.len() + 420);
        self.claim(&run_arn, &input).await?;
        let machine = format!("arn:aws:states:{PLACE}:stateMachine:bench-train");
        let start = self.sfn.start_execution().state_machine_arn(machine).input(&input);
        start.name(format!("train-{START_KEY}")).send().await?;
        self.announce(event).await?;
        self.record(&run_arn).await
    }

    async fn claim(&self, run_arn: &str, input: &str) -> Result<(), Error> {
        let start = map([
            ("start_key", text(START_KEY)),
            ("trigger", text("train")),
            ("stage", text("training")),
            ("dataset", text("bench")),
            ("target", text(&format!("arn:aws:states:{PLACE}:stateMachine:bench-train"))),
            ("name", text(&format!("train-{START_KEY}"))),
            ("input", text(input)),
            ("run_arn", text(run_arn)),
            ("expected_duration_s", number("3600")),
            (
                "cause",
                AttributeValue::M(map([
                    ("id", text(START_KEY)),
                    ("source", text("arn:aws:s3:::bench-lake")),
                    ("event_type", text("ml.data.arrived.v1")),
                    ("subject", text("raw/day=2026-03-01/part 00000000.csv")),
                    ("time", text(TIME)),
                ])),
            ),
            (
                "context",
                AttributeValue::M(map([
                    ("traceparent", text(TRACEPARENT)),
                    ("correlationid", text(START_KEY)),
                    ("causationid", text(START_KEY)),
                    ("hop", number("1")),
                ])),
            ),
        ]);
        let row = map([
            ("start", AttributeValue::M(start)),
            ("state", text("claimed")),
            ("claimed_at", text(TIME)),
        ]);
        let item = map([
            ("pk", text(&format!("start#{START_KEY}"))),
            ("row", AttributeValue::M(row)),
            ("claimed_at", text(TIME)),
            ("day_shard", text("2026-11-22#1")),
            ("due_shard", text("due#1")),
            ("due_at", number("1795313887")),
            ("expires_at", number("1829873647")),
            ("run_arn", text(run_arn)),
        ]);
        let put = Put::builder().table_name("bench-ledger").set_item(Some(item));
        let put = put
            .condition_expression("attribute_not_exists(pk) OR expires_at < :now")
            .expression_attribute_values(":now", number("1795313647"))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let both = [
            TransactWriteItem::builder().put(put.build()?).build(),
            TransactWriteItem::builder().update(counted()?).build(),
        ];
        let transact = self.dynamodb.transact_write_items();
        transact.set_transact_items(Some(both.into())).send().await?;
        Ok(())
    }

    async fn announce(&self, event: &str) -> Result<(), Error> {
        let mut publish = self.sns.publish().topic_arn(format!("arn:aws:sns:{PLACE}:bench"));
        for (name, data_type, value) in [
            ("type", "String", "ml.training.started.v1"),
            ("dataset", "String", "bench"),
            ("source", "String", "arn:aws:states:eu-central-1:111122223333:stateMachine:x"),
            ("hop", "Number", "1"),
            ("traceparent", "String", TRACEPARENT),
        ] {
            let value = MessageAttributeValue::builder().data_type(data_type).string_value(value);
            publish = publish.message_attributes(name, value.build()?);
        }
        publish.message(event).send().await?;
        Ok(())
    }

    async fn record(&self, run_arn: &str) -> Result<(), Error> {
        let update = self.dynamodb.update_item().table_name("bench-ledger");
        update
            .key("pk", text(&format!("start#{START_KEY}")))
            .update_expression(
                "SET #row.#state = :started, #row.started_at = :started_at, run_arn = :run_arn, \
                 due_at = :due_at",
            )
            .condition_expression("#row.#state = :claimed")
            .expression_attribute_names("#row", "row")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":started", text("started"))
            .expression_attribute_values(":claimed", text("claimed"))
            .expression_attribute_values(":started_at", text(TIME))
            .expression_attribute_values(":run_arn", text(run_arn))
            .expression_attribute_values(":due_at", number("1795317247"))
            .send()
            .await?;
        Ok(())
    }
}
