//! The wire formats: requests to Azure DevOps, Testkube and the Kubernetes API server, and what their answers mean; JUnit
//! reports. Pure; knows no check.

pub mod azure;
pub mod call;
pub mod junit;
pub mod kubernetes;
pub mod percent;
pub mod testkube;
pub(crate) mod words;
