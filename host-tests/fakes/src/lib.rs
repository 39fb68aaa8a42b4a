//! The fakes.
#![allow(missing_docs)]
pub mod azure;
pub mod fault;
pub mod http;
mod percent;
pub mod testkube;
mod timestamp;
