//! A local AWS on loopback.
