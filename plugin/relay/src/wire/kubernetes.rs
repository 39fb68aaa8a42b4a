//! The Kubernetes API server: requests for the Secrets and Leases of one namespace, and what its answers mean.
//!
//! An update or a deletion needs a [`Version`] that was read, so that none can be built that overwrites or deletes an unseen
//! state: without `resourceVersion` the API server overwrites a Secret whatever its state.

mod answer;
mod object;
mod request;
mod rights;

pub use answer::{ApiAnswer, created, deleted, listed, stored};
pub use object::{LeaseBody, ListPage, MetadataOnly, Object, SecretBody, StoredObject, Texts, Version};
pub use request::Server;
pub use rights::missing_rights;
