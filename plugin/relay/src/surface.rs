//! The HTTP surface: routes, credentials, and answers.

pub mod accept;
pub mod artifacts;
pub mod auth;
pub mod bodies;
mod confidential;
pub mod drain;
pub mod evaluate;
pub mod exchange;
pub mod health;
pub mod hint;
pub mod listing;
pub mod page;
pub mod problem;
pub mod request;
pub mod route;
