//! One event in binary mode.

use cloudevents::message::{
    BinaryDeserializer as _, BinarySerializer, MessageAttributeValue, Result as SdkResult,
};
use cloudevents::{EventBuilder as _, EventBuilderV10};
use serde_json::{Value, json};

use super::{Server, problem, requested};
use crate::fakes::FakeTopic;

#[tokio::test]
async fn binary_mode_takes_attributes_from_headers_and_data_from_the_body() {
    let server = Server::start(FakeTopic::default()).await;
    let pairs = [
        ("CE-Subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("ce-note", r#""quoted \"word\"""#),
        ("ce-hop", "3"),
        ("content-type", "application/json; charset=utf-8"),
    ];
    let response = server.binary(&pairs, br#"{"parameters": {"rows": 7}}"#).send().await.unwrap();
    assert_eq!(response.status(), 202);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer, json!({ "id": "e-1", "status": "accepted" }));
    let event = server.taken();
    assert_eq!((event.id.as_str(), event.source.as_str()), ("e-1", "/wine-app"));
    assert_eq!(event.subject.as_deref(), Some("Euro \u{20ac} \u{1f600}"));
    assert_eq!(event.extensions["note"], "quoted \"word\"");
    assert_eq!(event.context.hop, 3);
    assert_eq!(event.datacontenttype.as_deref(), Some("application/json; charset=utf-8"));
    assert_eq!(event.data.unwrap()["parameters"]["rows"], 7);
}

#[tokio::test]
async fn a_cloudevents_media_type_wins_over_attributes_in_headers() {
    let server = Server::start(FakeTopic::default()).await;
    let response = server
        .post("application/cloudevents+json", requested().to_string())
        .header("ce-id", "another")
        .header("ce-specversion", "0.3")
        .send();
    assert_eq!(response.await.unwrap().status(), 202);
    assert_eq!(server.taken().id, "e-1");
    // With plain JSON they are the event, and the body is its data.
    let pairs = [("content-type", "application/json")];
    assert_eq!(server.binary(&pairs, b"{}").send().await.unwrap().status(), 202);
    assert_eq!(server.taken().data, Some(json!({})));
}

#[tokio::test]
async fn what_is_wrong_in_binary_mode_is_named() {
    let server = Server::start(FakeTopic::default()).await;
    let json_type = ("content-type", "application/json");
    for (pairs, body, status, kind, field) in [
        (vec![json_type], &b"{"[..], 400, "not-json", "data"),
        (vec![json_type, ("ce-subject", "%C0%A0")], b"", 422, "not-a-cloudevent", "subject"),
        (vec![json_type, ("ce-id", "e-2")], b"", 422, "not-a-cloudevent", "id"),
        (vec![json_type, ("ce-data", "x")], b"", 422, "not-a-cloudevent", "data"),
        (vec![json_type, ("ce-my_name", "x")], b"", 422, "not-a-cloudevent", "my_name"),
        (vec![("ce-datacontenttype", "a/b")], b"", 422, "not-a-cloudevent", "datacontenttype"),
        (vec![("content-type", "text/plain")], b"7", 422, "invalid-event", "data"),
        (vec![("content-type", "image/png")], b"7", 422, "invalid-event", "data_base64"),
    ] {
        let response = server.binary(&pairs, body).send().await.unwrap();
        let (found, document) = problem(response).await;
        assert_eq!(found, status, "{document}");
        assert_eq!(document["type"], format!("urn:bellwire:problem:{kind}"), "{document}");
        let problems = document["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 1, "{document}");
        // A payload's field may be the whole of `data`.
        assert!(field.starts_with(problems[0]["field"].as_str().unwrap()), "{document}");
    }
    let old = server.post("application/json", "{}").header("ce-specversion", "0.3").send();
    let (status, document) = problem(old.await.unwrap()).await;
    assert_eq!(status, 422);
    let fields: Vec<_> =
        document["problems"].as_array().unwrap().iter().map(|found| &found["field"]).collect();
    assert_eq!(fields, ["specversion", "id", "source", "type"]);
    let charset = [("content-type", "text/plain; charset=latin1")];
    let response = server.binary(&charset, b"x").send().await.unwrap();
    assert_eq!(problem(response).await.0, 415);
    assert!(server.topic.accepted_ids().is_empty());
}

/// Headers and a body, as the SDK has them in binary mode.
#[derive(Default)]
struct SdkRequest {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl BinarySerializer<Self> for SdkRequest {
    fn set_spec_version(self, version: cloudevents::event::SpecVersion) -> SdkResult<Self> {
        self.set_attribute("specversion", MessageAttributeValue::String(version.to_string()))
    }

    fn set_attribute(mut self, name: &str, value: MessageAttributeValue) -> SdkResult<Self> {
        let name = match name {
            "datacontenttype" => "content-type".to_owned(),
            _ => format!("ce-{name}"),
        };
        self.headers.push((name, value.to_string()));
        Ok(self)
    }

    fn set_extension(self, name: &str, value: MessageAttributeValue) -> SdkResult<Self> {
        self.set_attribute(name, value)
    }

    fn end_with_data(mut self, bytes: Vec<u8>) -> SdkResult<Self> {
        self.body = bytes;
        Ok(self)
    }

    fn end(self) -> SdkResult<Self> {
        Ok(self)
    }
}

#[tokio::test]
async fn what_the_official_sdk_sends_arrives_as_it_was() {
    let server = Server::start(FakeTopic::default()).await;
    let sent = EventBuilderV10::new()
        .id("e-1")
        .source("http://example.com/app")
        .ty("ml.collection.requested.v1")
        .subject("raw/a.csv")
        .extension("rows", 7_i64)
        .data("application/json", json!({ "parameters": { "rows": 7 } }))
        .build()
        .unwrap();
    let structured = serde_json::to_string(&sent).unwrap();
    let binary = sent.clone().deserialize_binary(SdkRequest::default()).unwrap();
    let mut request = server.client.post(format!("{}/v1/events", server.url)).body(binary.body);
    for (name, value) in &binary.headers {
        request = request.header(name, value);
    }
    for request in [request, server.post("application/cloudevents+json", structured)] {
        assert_eq!(request.send().await.unwrap().status(), 202);
        let event = server.taken().to_value();
        let expected = serde_json::to_value(&sent).unwrap();
        for name in ["specversion", "id", "source", "type", "subject", "datacontenttype", "data"] {
            assert_eq!(event[name], expected[name], "{name}");
        }
        assert_eq!(event["rows"].as_str().unwrap_or("7"), "7", "headers know only text");
    }
}
