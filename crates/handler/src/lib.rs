//! The Lambda that starts the right workflow once.
