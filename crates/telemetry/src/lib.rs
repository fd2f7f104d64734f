//! Logs and OpenTelemetry traces: one init, and propagation through message attributes.
