//! Wrong requests: what their sender is told, what happens to the check, and that the module keeps working.

mod bodies;
mod callers;
mod deliveries;
mod fields;
mod paths;
mod surroundings;
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
