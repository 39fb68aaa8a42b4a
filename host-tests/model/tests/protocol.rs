//! The protocol holds within the bounds of the tests; the program goes further. Prints the states of each search.

use model::bounds::{IN_FULL, IN_TESTS, NOTHING, one_check};
use model::environment::Left;
use model::model::{Bounds, Model, Step};
use model::replica::Call;
use model::search::{exhaust, shortest};

/// Its figures are those of the searches.
const README: &str = include_str!("../README.md");

#[test]
fn no_run_within_the_bounds_of_the_tests_breaks_a_rule_or_goes_round() {
    for search in IN_TESTS {
        let model = Model { is_reduced: !search.is_whole, ..Model::new(search.bounds) };
        let report = exhaust(&model, None, |_| {});
        assert!(report.found.is_none(), "{}: {:#?}", search.name, report.found);
        println!("{}: {} states, {} steps, {:?}", search.name, report.states, report.steps, report.took);
        assert!(report.ends > 0, "{}", search.name);
        let row = format!("| {} | {} | {} |", search.name, grouped(report.states), grouped(report.steps));
        assert!(README.contains(&row), "the README has no row {row}");
    }
    for search in IN_FULL {
        assert!(README.contains(&format!("| {} | ", search.name)), "the README has no row {}", search.name);
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let comma = |at: usize| if at > 0 && (digits.len() - at).is_multiple_of(3) { "," } else { "" };
    digits.chars().enumerate().map(|(at, digit)| format!("{}{digit}", comma(at))).collect()
}

#[test]
fn both_searches_see_the_same_states() {
    let left = Left { crashes: 2, lost_answers: 2, partitions: 1, late_expiries: 1, ..NOTHING };
    let model = Model::new(one_check(2, left));
    let (deep, broad) = (exhaust(&model, None, |_| {}), shortest(&model, 1_000_000, None));
    assert_eq!((deep.states, deep.steps, deep.ends), (broad.states, broad.steps, broad.ends));
}

#[test]
fn each_call_is_made_and_each_thing_happens() {
    let left = Left { crashes: 1, hot_restarts: 1, drains: 1, ..NOTHING };
    let one = Left { lost_answers: 1, partitions: 1, late_expiries: 1, redeliveries: 1, ..NOTHING };
    let hands = Left { other_values: 1, deleted_secrets: 1, deleted_leases: 1, ..NOTHING };
    let mut seen: Vec<String> = Vec::new();
    for left in [left, one, hands] {
        let bounds = Bounds { accepts_on_outage: true, has_proof: true, ..one_check(2, left) };
        let model = Model { is_reduced: false, ..Model::new(bounds) };
        let mut open = vec![model.start_state()];
        let mut steps = Vec::new();
        // Each step's kind once is enough: a state that brings nothing new is not followed far.
        for at in 0..200_000 {
            let Some(system) = open.get(at).copied() else { break };
            model.steps(&system, &mut steps);
            for &step in &steps {
                let name = match step {
                    Step::Call(_, _, call) => format!("{call:?}"),
                    other => format!("{other:?}").split('(').next().unwrap_or_default().to_owned(),
                };
                let next = model.after(&system, step);
                if next != system && !seen.contains(&name) {
                    seen.push(name);
                }
                if open.len() < 200_000 {
                    open.push(next);
                }
            }
        }
    }
    let calls = [
        Call::ReadAgain,
        Call::OwnSweep,
        Call::LookAtDead,
        Call::Sweep,
        Call::LookAtDone,
        Call::Post,
        Call::Merge,
        Call::Prove,
        Call::Adopt,
        Call::Decide,
        Call::Event,
        Call::Reopen,
        Call::End,
        Call::Delete,
        Call::GiveUp,
    ];
    let things = "Lost LostAndRefused Late MakesLease Renews LeaseRemoved Deliver Refuse AcceptAnyway FenceUnreached Crash \
                  Start HotRestart Leaves Drain Cut Heal TakenForDead SecretDeletedByHand LeaseDeletedByHand";
    let expected =
        calls.iter().map(|call| format!("{call:?}")).chain(things.split_whitespace().map(String::from));
    let missing: Vec<String> = expected.filter(|name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "never: {missing:?}");
}
