//! The wire formats: requests to Azure DevOps and Testkube, and what their answers mean. Pure; knows no check.

pub mod azure;
pub mod call;
pub mod percent;
pub mod testkube;
