//! One file a kind of resource: what it is like, how it is read, made, changed
//! and deleted.
//!
//! Each has `observe`, `create`, `update` and `delete`. `create` takes "it is
//! already there" for success, `delete` "it is already gone".

pub(crate) mod alarm;
pub(crate) mod alias;
pub(crate) mod bucket;
pub(crate) mod bucket_notification;
pub(crate) mod dashboard;
pub(crate) mod event_source_mapping;
pub(crate) mod function;
pub(crate) mod function_policy;
pub(crate) mod invoke_config;
pub(crate) mod key;
pub(crate) mod log_group;
pub(crate) mod permission;
pub(crate) mod queue;
pub(crate) mod role;
pub(crate) mod rule;
pub(crate) mod state_machine;
pub(crate) mod subscription;
pub(crate) mod table;
pub(crate) mod topic;
