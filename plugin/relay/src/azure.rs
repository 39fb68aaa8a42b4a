//! Azure DevOps: where it is, what is said to it, and what its answers mean.

mod answer;
mod call;
mod plan_url;

pub use answer::{Answer, classify};
pub use call::{
    Callback, HubName, LogId, append_log, build, build_start, complete_task, create_log, link_log,
    stage_start, timeline,
};
pub use plan_url::{Entry, PlanUrl, TokenScheme, Webhook};
