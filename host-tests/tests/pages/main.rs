//! What is written for people and their editors holds, as far as that needs no Envoy.

mod schema;
mod security;
