//! Azure DevOps: its address, the requests to it, and the meaning of its answers.

mod answer;
mod call;
mod pace;
mod plan_url;
mod run;
mod stage;

pub use answer::{Answer, classify};
pub use call::{
    Callback, HubName, LogId, RecordChange, append_log, build, build_start, cancel_build, change_record,
    complete_task, create_log, reach, read_records, timeline,
};
pub use pace::{Pace, Paces, Urgency};
pub use plan_url::{Entry, PlanUrl, TokenScheme, Webhook};
pub use run::{OwnRecord, build_over, own_record};
pub use stage::{Attempt, newest_attempt};

/// Maximum records read of one timeline. One of Azure DevOps's own timelines takes some 500 bytes a record, and at most
/// 8 MiB of an answer are read.
const MAX_RECORDS: usize = 20_000;
