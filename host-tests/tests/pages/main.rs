//! What is written for people and their editors is true, as far as that can be shown without an Envoy.

mod architecture;
mod behaviour;
mod figures;
mod links;
mod page;
mod powershell;
mod preflight;
mod quotes;
mod readme;
mod reference;
mod repository;
mod schema;
mod security;
mod shell;
mod shipped;
mod troubleshooting;
