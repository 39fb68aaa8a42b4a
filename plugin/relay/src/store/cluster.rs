//! The checks of several processes in one namespace of Kubernetes: who lives, and who owns which check.

pub(crate) mod lease;
pub mod members;
mod observed;
