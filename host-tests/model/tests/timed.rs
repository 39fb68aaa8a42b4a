//! How soon a death is seen, what looks like one and is none, and bells. Prints the states of each search.

use model::timed::{NEVER, Slip, Span, Timing, search};

const PLAIN: Span = Span {
    others: 2,
    cut_seconds: 0,
    outage_seconds: 0,
    second_death: false,
    same_pod_restart: false,
    hints: false,
    slip: None,
};

fn timing(span: Span) -> Timing {
    let timing = search(&span);
    println!("{span:?}: {timing:?}");
    timing
}

fn with(slip: Slip, span: Span) -> Timing {
    timing(Span { slip: Some(slip), ..span })
}

#[test]
fn a_dead_owner_is_replaced_within_21_seconds() {
    assert_eq!(timing(PLAIN).longest_adoption, 21);
}

#[test]
fn where_who_should_adopt_is_dead_too_the_other_does_5_seconds_later() {
    let both = Span { second_death: true, ..PLAIN };
    assert_eq!(timing(both).longest_adoption, 26);
    assert_eq!(with(Slip::NoFallback, both).longest_adoption, NEVER);
}

#[test]
fn a_container_that_starts_again_goes_on_within_2_seconds() {
    let restart = Span { same_pod_restart: true, ..PLAIN };
    assert_eq!(timing(restart).longest_adoption, 2);
    assert_eq!(with(Slip::NoPredecessor, restart).longest_adoption, 21);
}

#[test]
fn hints_each_second_keep_no_dead_owner_alive_and_no_bell_stays() {
    let hints = Span { hints: true, ..PLAIN };
    let found = timing(hints);
    assert_eq!((found.longest_adoption, found.oldest_bell, found.longest_ring), (21, 61, 1));
    assert_eq!(with(Slip::BellInTheLease, hints).longest_adoption, NEVER);
    assert_eq!(with(Slip::BellsAreKept, hints).oldest_bell, NEVER);
}

#[test]
fn an_outage_for_all_makes_nobody_dead() {
    let outage = Span { outage_seconds: 30, ..PLAIN };
    let found = timing(outage);
    assert!(!found.taken_from_the_living);
    // Who dies in an outage is seen 21 s after its death, of which the outage does not count.
    assert_eq!(found.longest_adoption, 57);
    assert!(with(Slip::UnobservedTimeCounts, outage).taken_from_the_living);
}

#[test]
fn seconds_of_partition_delay_an_adoption_and_cause_none() {
    let found = timing(Span { cut_seconds: 5, ..PLAIN });
    assert!(!found.taken_from_the_living);
    assert_eq!(found.longest_adoption, 26);
    let alone = Span { others: 1, cut_seconds: 12, ..PLAIN };
    let found = timing(alone);
    assert!(!found.taken_from_the_living);
    assert_eq!(found.longest_adoption, 35);
    assert_eq!(with(Slip::GapStartsAnew, alone).longest_adoption, 73);
}

#[test]
fn clocks_that_differ_would_kill_the_living_or_keep_the_dead() {
    assert!(with(Slip::ByTheClock { ahead: 30 }, PLAIN).taken_from_the_living);
    assert_eq!(with(Slip::ByTheClock { ahead: -30 }, PLAIN).longest_adoption, 50);
}

#[test]
fn the_lease_deleted_before_the_adoption_costs_a_minute() {
    assert_eq!(with(Slip::LeaseDeletedFirst, PLAIN).longest_adoption, 81);
}
