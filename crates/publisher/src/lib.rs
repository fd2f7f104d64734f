//! The sidecar that turns S3 notifications, completions and HTTP events into messages on the topic.
