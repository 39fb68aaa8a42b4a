#![doc = include_str!("../README.md")]

pub mod azure;
pub mod bounds;
pub mod change;
pub mod conformance;
pub mod environment;
pub mod events;
pub mod faults;
pub mod model;
pub mod properties;
pub mod reduce;
pub mod replica;
pub mod search;
pub mod server;
pub mod system;
pub mod timed;
