//! Testkube: the requests to it, and the contents of its answers.

mod artifacts;
mod dashboard;
mod execution;
mod place;
mod problem;
mod query;
mod reports;
mod rerun;
mod signature;
mod steps;
mod trouble;

pub use artifacts::{
    Artifact, MAX_NAMES, archive_path, artifact_path, artifacts, get_artifact, has_artifact, list_artifacts,
    logs_path,
};
pub use dashboard::Dashboard;
pub use execution::{Actor, Execution, Page, Status, page, single};
pub(crate) use execution::{NEVER_BEGAN, from_json, to_json};
pub use place::Testkube;
pub(crate) use problem::said;
pub use query::{
    MAX_QUERY, abort_execution, get_execution, get_info, list_executions, selector_cost, version,
};
pub(crate) use rerun::{Rerun, rerun_answer, rerun_execution};
pub use steps::{FailedStep, Steps};
pub use trouble::Trouble;
