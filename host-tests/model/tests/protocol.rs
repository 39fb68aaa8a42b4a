//! The protocol holds within the bounds of the tests; the program goes further. Prints the states of each search.

use model::bounds::{IN_TESTS, NOTHING, one_check};
use model::environment::Left;
use model::model::Model;
use model::search::{exhaust, shortest};

#[test]
fn no_run_within_the_bounds_of_the_tests_breaks_a_rule_or_goes_round() {
    for search in IN_TESTS {
        let model = Model { is_reduced: !search.is_whole, ..Model::new(search.bounds) };
        let report = exhaust(&model, None, |_| {});
        assert!(report.found.is_none(), "{}: {:#?}", search.name, report.found);
        println!("{}: {} states, {} steps, {:?}", search.name, report.states, report.steps, report.took);
        assert!(report.ends > 0, "{}", search.name);
    }
}

#[test]
fn both_searches_see_the_same_states() {
    let left = Left { crashes: 2, lost_answers: 2, partitions: 1, late_expiries: 1, ..NOTHING };
    let model = Model::new(one_check(2, left));
    let (deep, broad) = (exhaust(&model, None, |_| {}), shortest(&model, 1_000_000, None));
    assert_eq!((deep.states, deep.steps, deep.ends), (broad.states, broad.steps, broad.ends));
}
