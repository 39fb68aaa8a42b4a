//! The Kubernetes API server: Secrets and Leases of one namespace, asked for and written.
//!
//! An update and a deletion are made from a [`Version`] that was read, so that none can be built that overwrites or deletes what
//! it has not seen: the API server takes a Secret without `resourceVersion` as "whatever is there".

mod answer;
mod object;
mod request;

pub use answer::{Answer, created, deleted, listed, stored};
pub use object::{Lease, MetadataOnly, Object, Page, Secret, Stored, Version};
pub use request::Server;
