//! `bellwire emit`: one event, to a running publisher or straight to the topic.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use aws_sdk_sns::error::{DisplayErrorContext, ProvideErrorMetadata as _};
use aws_sdk_sns::types::MessageAttributeValue;
use bellwire_infra::{check_place, place_of};
use bellwire_schema::Envelope;
use bellwire_schema::attributes::{attributes_of, message_bytes};
use bellwire_schema::fifo::{FifoIds, is_fifo};
use bellwire_schema::limits::SNS_MESSAGE_BYTES_MAX;
use bellwire_schema::workflow::Workflow;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::args::{EmitOptions, Global};
use crate::error::CommandError;
use crate::load;

/// A publisher answers when SNS has taken the event, or gives up trying.
const PUBLISHER_TIMEOUT: Duration = Duration::from_secs(60);
/// The media type of one event in structured mode (CloudEvents HTTP binding 1.0).
const STRUCTURED: &str = "application/cloudevents+json";

pub(crate) async fn emit(global: &Global, options: &EmitOptions) -> Result<(), CommandError> {
    let event = event_of(options)?;
    let way = match &options.publisher {
        Some(url) => to_publisher(url, &event).await?,
        None => to_topic(global, &load::workflow(global)?, &event).await?,
    };
    if global.json {
        anstream::println!(
            "{}",
            json!({"id": event.id, "source": event.source, "type": event.event_type, "to": way})
        );
    } else {
        anstream::println!("{}  id {}  to {way}", event.event_type, event.id);
    }
    Ok(())
}

fn event_of(options: &EmitOptions) -> Result<Envelope, CommandError> {
    let Some(event_type) = &options.event_type else {
        let file = options.file.as_deref().unwrap_or(Path::new("-"));
        return read_event(file);
    };
    let id = options.id.clone().unwrap_or_else(new_id);
    let mut event = Envelope::new(&id, &options.source, event_type.clone());
    event.time = Some(Timestamp::now());
    event.dataset.clone_from(&options.dataset);
    if let Some(data) = &options.data {
        let data: Value = serde_json::from_str(data)
            .map_err(|error| CommandError::DataNotJson { cause: error.to_string() })?;
        event = event.with_payload(&data);
    }
    Ok(event)
}

fn read_event(file: &Path) -> Result<Envelope, CommandError> {
    let is_standard_input = file == Path::new("-");
    let place =
        if is_standard_input { "standard input".to_owned() } else { file.display().to_string() };
    let failed = |cause: String| CommandError::NoEvent { place: place.clone(), cause };
    let mut bytes = Vec::new();
    if is_standard_input {
        std::io::stdin().read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    } else {
        bytes = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
    }
    Envelope::from_json(&bytes).map_err(|error| failed(error.to_string()))
}

/// An id that no other call of this command makes.
fn new_id() -> String {
    let now = Timestamp::now().as_nanosecond();
    format!("emit-{now:x}-{:x}", std::process::id())
}

async fn to_publisher(url: &str, event: &Envelope) -> Result<String, CommandError> {
    let endpoint = format!("{}/v1/events", url.trim_end_matches('/'));
    let failed = |cause: String| CommandError::Publisher { url: url.to_owned(), cause };
    let client = reqwest::Client::builder().timeout(PUBLISHER_TIMEOUT).no_proxy().build();
    let client = client.map_err(|error| failed(error.to_string()))?;
    let request = client.post(&endpoint).header("content-type", STRUCTURED).body(event.to_json());
    let response = request.send().await.map_err(|error| {
        let cause = std::error::Error::source(&error)
            .map_or_else(String::new, |source| format!(": {source}"));
        failed(format!("{error}{cause}; is it running?"))
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(endpoint);
    }
    let body = response.text().await.unwrap_or_default();
    let problem: Value = serde_json::from_str(&body).unwrap_or_default();
    let detail = problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or(&body);
    Err(failed(format!("{status}: {detail}")))
}

async fn to_topic(
    global: &Global,
    workflow: &Workflow,
    event: &Envelope,
) -> Result<String, CommandError> {
    let config = load::aws().await;
    let place = place_of(&config).await?;
    check_place(workflow, &place)?;
    let topic = place.topic_arn(&load::deployment(global, workflow).topic(workflow.topic.kind));
    let failed = |cause: String| CommandError::Topic { topic: topic.clone(), cause };
    let attributes =
        attributes_of(event, &BTreeMap::new()).map_err(|error| failed(error.to_string()))?;
    let body = event.to_json();
    let bytes = message_bytes(&body, &attributes);
    if bytes > SNS_MESSAGE_BYTES_MAX {
        return Err(failed(format!("it has {bytes} bytes, and SNS takes {SNS_MESSAGE_BYTES_MAX}")));
    }
    let mut request = aws_sdk_sns::Client::new(&config).publish().topic_arn(&topic).message(body);
    for attribute in attributes {
        let value = MessageAttributeValue::builder()
            .data_type(attribute.data_type.as_str())
            .string_value(attribute.value)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        request = request.message_attributes(attribute.name, value);
    }
    if is_fifo(&topic) {
        let FifoIds { group, deduplication } = FifoIds::of(event);
        request = request.message_group_id(group).message_deduplication_id(deduplication);
    }
    request.send().await.map_err(|error| {
        failed(match error.as_service_error().and_then(|error| error.message()) {
            Some(message) => message.to_owned(),
            None => DisplayErrorContext(&error).to_string(),
        })
    })?;
    Ok(topic)
}
