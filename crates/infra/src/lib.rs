//! Provisions what a workflow needs, with AWS itself as the only state.
//!
//! ```text
//! workflow file ─► desired ─┐
//! artifacts ─────► inputs ──┤
//!                           ├─► diff ─► plan ─► apply ─► outputs
//! AWS ───────────► observe ─┘
//! ```
//!
//! `desired`, `policy`, `pushdown`, `check` and `diff` are pure. `observe` reads
//! only what is ours and what must be merged with. The plan is plain data; its
//! `Display` is what people see. `apply` makes no choices.
//!
//! | kind | what makes it ours |
//! | --- | --- |
//! | topic, queue, bucket, table, log group, function, state machine, rule | its name and its tags |
//! | key | its alias and its tags |
//! | role | the end of its path, and its tags |
//! | alias, retries | its function |
//! | permission | its function, and its Sid |
//! | alarm | its name and its tags |
//! | dashboard | its name, and a text on it |
//! | statement in the policy of a function of somebody else's | its Sid |
//! | event source mapping | its tags, or our queue and our alias as its ends |
//! | subscription | our topic, and our dead queue as its redrive target |
//! | bucket notification entry | its Id, and our ingest queue as its target |

pub mod apply;
mod aws;
pub mod calls;
pub mod check;
pub mod desired;
pub mod diff;
mod display;
pub mod drift;
mod elsewhere;
mod error;
pub mod export;
mod foreign;
mod gather;
mod guards;
pub mod inputs;
mod kind;
mod known;
mod lease;
mod limits;
mod lookup;
mod moved;
pub mod observe;
pub mod outputs;
pub mod plan;
pub mod policy;
mod problem;
pub mod prove;
mod provisioner;
pub mod pushdown;
mod record;
pub mod resource;
pub mod rollback;
pub mod saved;
mod secured;
mod source_keys;
mod statements;
mod targets;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod timings;
mod topic_key;
pub mod uses;
mod wait;
mod watched;

pub use aws::{PlaceError, check_place, place_of};
pub use display::{Line, Tone};
pub use error::{CallError, Cause};
pub use problem::{Problem, Problems};
pub use provisioner::{DriftError, ProvisionError, Provisioner};
pub use record::{Record, RecordSeen};

/// The properties of each kind of resource.
pub mod properties {
    pub use crate::kind::alarm::{Alarm, Metric};
    pub use crate::kind::alias::Alias;
    pub use crate::kind::bucket::Bucket;
    pub use crate::kind::bucket_notification::{BucketNotification, Entry};
    pub use crate::kind::dashboard::Dashboard;
    pub use crate::kind::event_source_mapping::EventSourceMapping;
    pub use crate::kind::function::{Function, Release};
    pub use crate::kind::function_policy::FunctionPolicy;
    pub use crate::kind::invoke_config::InvokeConfig;
    pub use crate::kind::key::KmsKey;
    pub use crate::kind::log_group::LogGroup;
    pub use crate::kind::permission::Permission;
    pub use crate::kind::queue::{Queue, Redrive};
    pub use crate::kind::role::{INLINE_POLICY, Role};
    pub use crate::kind::rule::{Rule, Target};
    pub use crate::kind::state_machine::StateMachine;
    pub use crate::kind::subscription::Subscription;
    pub use crate::kind::table::{Key, KeyAttribute, Table};
    pub use crate::kind::topic::Topic;
}
