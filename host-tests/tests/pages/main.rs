//! What is written for people and their editors holds, as far as that needs no Envoy.

mod architecture;
mod guide;
mod links;
mod repository;
mod schema;
mod security;
mod shipped;
mod troubleshooting;
