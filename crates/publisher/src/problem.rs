//! Answers that are no success, as RFC 9457 problem documents.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// What is wrong with a request, or with us.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// Its kind, the last part of the document's `type`: `unknown-type`.
    pub kind: &'static str,
    /// The kind in words.
    pub title: &'static str,
    /// What is wrong this time, and what to do.
    pub detail: String,
    /// Further members, for programs.
    pub members: Map<String, Value>,
    /// Seconds after which the same request may succeed.
    pub retry_after_s: Option<u32>,
    /// One more header of the answer, which its status asks for: a name in lower
    /// case, and a value.
    pub header: Option<&'static (&'static str, &'static str)>,
}

impl Problem {
    /// A problem of a kind.
    #[must_use]
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let (detail, members) = (detail.into(), Map::new());
        Self { status, kind, title, detail, members, retry_after_s: None, header: None }
    }

    /// The same problem with one more member.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }

    /// The same problem with what is wrong with which field.
    #[must_use]
    pub fn with_fields<'a>(self, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let fields = fields.into_iter();
        let fields = fields.map(|(field, problem)| json!({ "field": field, "problem": problem }));
        self.with("problems", fields.collect())
    }

    /// The same problem, whose answer has one more header.
    #[must_use]
    pub fn with_header(mut self, header: &'static (&'static str, &'static str)) -> Self {
        self.header = Some(header);
        self
    }

    /// The same problem, which may be gone after some seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The problem document.
    #[must_use]
    pub fn document(&self) -> Value {
        let mut document = self.members.clone();
        document.insert("type".to_owned(), json!(format!("urn:bellwire:problem:{}", self.kind)));
        document.insert("title".to_owned(), json!(self.title));
        document.insert("status".to_owned(), json!(self.status.as_u16()));
        document.insert("detail".to_owned(), json!(self.detail));
        Value::Object(document)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.document().to_string()).into_response();
        let headers = response.headers_mut();
        let media_type = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, media_type);
        if let Some((name, value)) = self.header {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
