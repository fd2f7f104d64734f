//! The DynamoDB table that remembers every start: one row a start, written
//! twice on its good way, read by key, by run, by what is due and by day.
//!
//! A claim fixes the start's name and its whole input under its key, so that
//! whoever comes second repeats exactly that start, and the target itself
//! refuses it. Where a target refuses nothing, a lease lets one claimant at a time
//! make the start.
//!
//! A trigger's guards have one row, which each start of it is counted in by the
//! transaction that claims it; a start that they hold back is a row like any other.
//!
//! Where a trigger gathers, the table holds its windows too: a row for each event
//! that was gathered, a few gates through which they come, and a row for each
//! window that was closed.
//!
//! A deploy that proves itself leaves a probe's row for an hour.

mod definition;
mod error;
mod guard;
mod guard_table;
mod lease;
mod probe;
mod row;
mod table;
mod window;
mod window_due;
mod window_table;

pub use definition::{EXPIRY_ATTRIBUTE, INDEXES, KEY, create_table_request};
pub use error::LedgerError;
pub use guard::{GuardName, Held, SLOT_MARGIN};
pub use guard_table::Release;
pub use lease::CLOCK_SKEW_MAX_S;
pub use probe::{PROBE_KEY_PREFIX, PROBE_VERSION_ATTRIBUTE, probe_key};
pub use row::{Cause, End, Start, StartRow, State, TargetDetails};
pub use table::{
    BY_DAY_INDEX, BY_DUE_INDEX, BY_RUN_INDEX, ClaimOutcome, DAY_SHARDS, DUE_SHARDS, Ledger,
};
pub use window::{
    Admission, Admitted, ClosedWindow, DueWindow, Fate, GATE_MARGIN, Gate, Member, MemberPage,
    MemberRow, Outcome, Previous, Progress, Refusal, Room, WINDOW_DUE_SHARDS, Window,
};
