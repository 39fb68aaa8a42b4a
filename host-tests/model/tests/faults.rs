//! Each deliberate fault is found: what it breaks, and in how many steps at least. Prints the states until then.

use model::bounds::{NOTHING, one_check};
use model::environment::Left;
use model::faults::Fault;
use model::model::{Bounds, Model};
use model::properties::Broken;
use model::search::{Counterexample, exhaust, shortest};

const LATE: Left = Left { late_expiries: 1, ..NOTHING };
const AGAIN: Left = Left { redeliveries: 1, ..NOTHING };
const CRASH: Left = Left { crashes: 1, ..NOTHING };
const LOST: Left = Left { lost_answers: 1, ..NOTHING };

/// The shortest run that breaks this rule.
fn breaks(faults: &'static [Fault], left: Left, broken: Broken) -> Counterexample {
    let model = Model::with(one_check(2, left), faults);
    let report = shortest(&model, 3_000_000, Some(broken));
    println!("{faults:?}: {} states, {:?}", report.states, report.took);
    let Some(found) = report.found else { panic!("{faults:?}: {broken} is not found") };
    for step in &found.steps {
        println!("    {step:?}");
    }
    found
}

macro_rules! found {
    ($($name:ident: $faults:expr, $left:expr, $broken:ident in $steps:literal;)*) => {
        $(
            #[test]
            fn $name() {
                let found = breaks(&$faults, $left, Broken::$broken);
                assert_eq!(found.steps.len(), $steps, "{:#?}", found.steps);
            }
        )*
    };
}

found! {
    an_event_before_its_fence: [Fault::NoFence], LATE, SecondDecision in 9;
    adoption_without_resource_version: [Fault::AdoptBlind], LATE, SecondEvent in 9;
    merge_without_resource_version: [Fault::MergeBlind], AGAIN, SecondEvent in 11;
    done_without_resource_version: [Fault::DoneBlind], AGAIN, TokenLost in 11;
    deletion_without_preconditions: [Fault::DeleteBlind], Left { redeliveries: 1, ..CRASH }, TokenLost in 15;
    the_own_record_kept_over_a_409: [Fault::OwnRecordKept], AGAIN, TokenLost in 13;
    no_look_at_the_owner_after_a_409:
        [Fault::NoOwnerCheck], Left { crashes: 1, lost_answers: 1, redeliveries: 1, ..LATE }, SecondEvent in 12;
    decided_again_after_adoption: [Fault::DecideAgain], CRASH, SecondDecision in 9;
    no_own_sweep_leaves_a_secret: [Fault::NoOwnSweep], LOST, SecretLeft in 3;
    no_own_sweep_loses_a_check: [Fault::NoOwnSweep], Left { lost_answers: 1, ..CRASH }, CheckLost in 9;
    no_sweep_leaves_a_secret: [Fault::NoSweep], Left { lost_answers: 1, ..CRASH }, SecretLeft in 7;
    no_sweep_and_the_lease_deleted_first: [Fault::NoSweep, Fault::LeaseDeletedFirst], CRASH, CheckLost in 6;
    an_end_with_a_delivery_unserved: [Fault::EndUnserved], AGAIN, TokenLost in 9;
    a_known_token_that_does_not_raise_the_delivery: [Fault::DeliveryNotRaised], AGAIN, TokenLost in 9;
    expired_by_a_clock_that_is_ahead_and_deleted: [Fault::ExpiredDeleted], CRASH, CheckLost in 7;
    the_same_pod_name_both_ways_takes_from_the_living:
        [Fault::SameNameBothWays], Left { hot_restarts: 1, ..NOTHING }, TakenFromTheLiving in 6;
    accepting_before_the_lease_is_there: [Fault::LeaseAfterAccepting], NOTHING, TakenFromTheLiving in 3;
    leases_listed_before_secrets: [Fault::LeasesListedFirst], NOTHING, TakenFromTheLiving in 6;
    no_done_and_404_read_as_by_hand: [Fault::NoDone], LATE, SecondDecision in 12;
    no_done_and_a_call_that_is_late: [Fault::NoDone], LOST, SecondDecision in 11;
    posted_again_without_asking: [Fault::PostsWithoutAsking], LATE, SecondDecision in 14;
    two_exchanges_in_one_process: [Fault::TwoExchanges], NOTHING, SecondEvent in 9;
    one_event_for_a_decision_and_the_newest_token_first:
        [Fault::OneEventADecision], Left { redeliveries: 1, ..CRASH }, SecondDecision in 13;
    a_draining_process_that_forgets_whom_it_served:
        [Fault::DrainForgetsServed], Left { drains: 1, ..NOTHING }, SecondEvent in 9;
    a_draining_process_that_sends: [Fault::DrainSends], Left { drains: 1, ..LOST }, SecondEvent in 10;
}

#[test]
fn the_same_pod_name_both_ways_goes_round_for_ever() {
    let bounds = one_check(2, Left { hot_restarts: 1, ..NOTHING });
    let report = exhaust(&Model::with(bounds, &[Fault::SameNameBothWays]), Some(Broken::GoesRound), |_| {});
    let found = report.found.expect("the old and the new one adopt from each other for ever");
    println!("{} steps: {:#?}", found.steps.len(), found.steps);
}

/// Not found, and rightly.
fn holds(faults: &'static [Fault], bounds: Bounds) {
    let report = exhaust(&Model::with(bounds, faults), None, |_| {});
    assert!(report.found.is_none(), "{faults:?}: {:#?}", report.found);
    println!("{faults:?}: {} states, {:?}", report.states, report.took);
}

#[test]
fn the_lease_deleted_first_loses_nothing_as_long_as_there_is_the_sweep() {
    let left = Left { crashes: 1, lost_answers: 1, partitions: 1, ..NOTHING };
    holds(&[Fault::LeaseDeletedFirst], one_check(2, left));
}

#[test]
fn states_that_are_made_one_hide_no_fault() {
    let left = Left { crashes: 1, lost_answers: 1, late_expiries: 1, redeliveries: 1, ..NOTHING };
    let faults: [&'static [Fault]; 15] = [
        &[Fault::NoFence],
        &[Fault::AdoptBlind],
        &[Fault::MergeBlind],
        &[Fault::DoneBlind],
        &[Fault::DeleteBlind],
        &[Fault::OwnRecordKept],
        &[Fault::NoOwnerCheck],
        &[Fault::DecideAgain],
        &[Fault::NoOwnSweep],
        &[Fault::EndUnserved],
        &[Fault::DeliveryNotRaised],
        &[Fault::NoDone],
        &[Fault::PostsWithoutAsking],
        &[Fault::TwoExchanges],
        &[Fault::OneEventADecision],
    ];
    for faults in faults {
        let model = Model { is_reduced: true, ..Model::with(one_check(2, left), faults) };
        assert!(shortest(&model, 1_000_000, None).found.is_some(), "{faults:?} is not found");
    }
}
