//! Testkube: what it is asked, and what its answers hold.

mod execution;
mod query;
mod steps;
mod trouble;

pub use execution::{Actor, Execution, Page, Status, page, single};
pub use query::{MOST_QUERY, get_execution, list_executions, selector_cost};
pub use steps::{FailedStep, Steps};
pub use trouble::Trouble;
