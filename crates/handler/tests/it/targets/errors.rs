//! What can never be done is put aside with its reason, and the rest goes on.

use aws_sdk_dynamodb::types::AttributeValue;
use axum::Router;
use axum::http::StatusCode;
use bellwire_handler::{Clients, Handler, Model};
use bellwire_ledger::State;
use bellwire_schema::Envelope;
use bellwire_schema::dead_letter::DeadReason;
use tokio::net::TcpListener;

use super::{at, wanted, workflow, world};
use crate::world::{config_at, delivery, settings_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_puts_its_event_aside_and_no_other() {
    let (world, stub) = world().await;
    let event = wanted("fit", "e-1");
    let start = world.claimed(&event).await;
    let key = AttributeValue::S(format!("start#{}", start.start_key));
    let put = world.clients.dynamodb.put_item().table_name("wine-ledger").item("pk", key);
    put.item("row", AttributeValue::S("of another age".to_owned())).send().await.unwrap();
    assert!(world.queued(&event, at(0)).await, "it does not come back for ever");
    let letter = world.dead_letter().await;
    assert_eq!(letter.reason, DeadReason::LedgerRefused);
    assert_eq!(letter.trigger.as_deref(), Some("fit"));
    assert_eq!(letter.body().unwrap(), event.to_json().as_bytes());
    assert_eq!(stub.executions().len(), 0);
    assert!(world.queued(&wanted("fit", "e-2"), at(0)).await);
    assert_eq!(stub.executions().len(), 1);
}

/// An SNS that answers every call with this error.
async fn sns_that_says(status: StatusCode, code: &'static str) -> aws_sdk_sns::Client {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let error = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error>\
         <RequestId>r</RequestId></ErrorResponse>"
    );
    let router = Router::new().fallback(move || async move { (status, error) });
    // It ends with the test's runtime.
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let config = config_at(endpoint, bellwire_local::REGION).await;
    aws_sdk_sns::Client::new(&config)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_that_is_refused_for_good_is_put_aside_and_the_start_recorded() {
    let (world, stub) = world().await;
    let handler = |sns| {
        let model = Model::compile(settings_of(&workflow())).unwrap();
        Handler::new(model, Clients { sns, ..world.clients.clone() })
    };
    let refusing = handler(sns_that_says(StatusCode::BAD_REQUEST, "InvalidParameter").await);
    refusing.handle(&delivery(&wanted("fit", "e-1")), at(0)).await.unwrap();
    let row = world.row_of("e-1").await;
    assert_eq!((row.state, stub.executions().len()), (State::Started, 1));
    let letter = world.dead_letter().await;
    assert_eq!(letter.reason, DeadReason::PublishRefused);
    assert_eq!(letter.trigger.as_deref(), Some("fit"));
    let announced = Envelope::from_json(&letter.body().unwrap()).unwrap();
    assert_eq!(announced.id, row.start.start_key.started_event_id());

    for (status, code) in
        [(StatusCode::FORBIDDEN, "AuthorizationError"), (StatusCode::NOT_FOUND, "NotFound")]
    {
        let failing = handler(sns_that_says(status, code).await);
        let error = failing.handle(&delivery(&wanted("fit", code)), at(0)).await.unwrap_err();
        assert!(error.to_string().contains("sns:Publish"), "{error}");
        assert_eq!(world.row_of(code).await.state, State::Claimed, "it comes back");
    }
    world.assert_no_dead_letter().await;
}
