//! Several replicas that share the checks of one instance through a namespace of Kubernetes.

pub(crate) mod adopter;
pub(crate) mod bells;
pub(crate) mod keeper;
pub(crate) mod learned;
pub(crate) mod lease;
pub mod membership;
mod peers;
pub(crate) mod rights;
pub(crate) mod secret;
pub(crate) mod space;
pub mod standing;
pub(crate) mod tags;
