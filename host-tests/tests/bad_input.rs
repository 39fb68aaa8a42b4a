//! Requests that are wrong in some way: what their sender is told, what becomes of the check, and that the module goes on.

#[path = "bad_input/bodies.rs"]
mod bodies;
#[path = "bad_input/callers.rs"]
mod callers;
#[path = "bad_input/deliveries.rs"]
mod deliveries;
#[path = "bad_input/fields.rs"]
mod fields;
#[path = "bad_input/paths.rs"]
mod paths;
#[path = "bad_input/surroundings.rs"]
mod surroundings;
#[path = "bad_input/table.rs"]
mod table;

use anyhow::Result;

#[test]
fn a_wrong_field_is_named_and_only_a_check_that_can_be_answered_is_stored() -> Result<()> {
    table::run(fields::ROWS)
}

#[test]
fn a_wrong_body_caller_or_path_gets_an_answer_that_says_what_to_change() -> Result<()> {
    let rows: Vec<table::Row> = [bodies::ROWS, callers::ROWS, paths::ROWS].concat();
    table::run(&rows)
}
