//! Limits: exact when a check is accepted, at any speed, and freed with the check that had the place.

use super::*;
use crate::common::decided_within;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const LIMIT: usize = 256;
const CONNECTIONS: usize = 8;

/// Sends these checks over eight connections to four workers, on each the next one as soon as the one before is answered;
/// returns how often each status came.
fn burst(world: &mut World, pipelines: Vec<Pipeline>) -> BTreeMap<u16, usize> {
    let mut statuses = BTreeMap::new();
    let mut connections: Vec<(u64, Option<u64>)> =
        (0..CONNECTIONS).map(|n| (world.connect(LISTENER, 1 + n % 4), None)).collect();
    let mut left = pipelines.into_iter();
    loop {
        for (connection, waits) in &mut connections {
            if let Some(answer) = waits.and_then(|stream| world.answer(stream)) {
                *statuses.entry(answer.status).or_default() += 1;
                *waits = None;
            }
            if waits.is_none()
                && let Some(pipeline) = left.next()
            {
                world.note_delivery(&pipeline);
                let check = pipeline.check(&[("Testrelay-Expect", "a")]);
                *waits = Some(world.send_over(*connection, check, Vec::new()));
            }
        }
        if connections.iter().all(|(_, waits)| waits.is_none()) {
            return statuses;
        }
        world.pass(MILLISECOND);
    }
}

/// A world with four workers.
fn busy(change: impl FnOnce(&mut Value)) -> World {
    start(Setup { workers: 4, configuration: changed(&configuration(0), change), ..Setup::new(7) })
}

/// Checks `from` up to `until`, whose executions go on all day.
fn runs(world: &mut World, numbers: std::ops::Range<u32>) -> Vec<Pipeline> {
    let pipelines: Vec<Pipeline> = numbers.map(Pipeline::new).collect();
    pipelines.iter().for_each(|pipeline| waiting(world, pipeline));
    pipelines
}

fn exactly_the_limit_is_accepted(whose: &str, interleaving: Interleaving, change: impl FnOnce(&mut Value)) {
    let mut world = busy(change);
    world.interleave(interleaving);
    let pipelines = runs(&mut world, 1..401);
    let began = world.now();
    let statuses = burst(&mut world, pipelines);
    let took = (world.now() - began) / MILLISECOND;
    let expected = BTreeMap::from([(200, LIMIT), (503, 400 - LIMIT)]);
    assert_eq!(statuses, expected, "{whose} limit is {LIMIT}, and 400 checks came within {took} ms");
    common::healthy(&world);
}

#[test]
fn a_credential_gets_exactly_its_limit_at_full_speed() {
    exactly_the_limit_is_accepted("the credential's", Interleaving::default(), |configuration| {
        configuration["credentials"][0]["max_pending"] = json!(LIMIT);
    });
}

#[test]
fn a_project_gets_exactly_its_limit_at_full_speed() {
    exactly_the_limit_is_accepted("the project's", Interleaving::default(), |configuration| {
        configuration["checks"]["max_pending_per_project"] = json!(LIMIT);
    });
}

#[test]
fn all_together_get_exactly_their_limit_at_full_speed() {
    exactly_the_limit_is_accepted("everybody's", Interleaving::default(), |configuration| {
        configuration["checks"]["max_pending"] = json!(LIMIT);
    });
}

#[test]
fn a_credential_gets_exactly_its_limit_where_threads_run_in_each_others_midst() {
    let interleaving = Interleaving { short: 640, long: 0 };
    exactly_the_limit_is_accepted("the credential's", interleaving, |configuration| {
        configuration["credentials"][0]["max_pending"] = json!(LIMIT);
    });
}

#[test]
fn as_many_get_a_place_as_were_given_back() {
    let mut world = busy(|configuration| configuration["credentials"][0]["max_pending"] = json!(4));
    let ending: Vec<Pipeline> = (1..3).map(|n| common::passing(&mut world, n)).collect();
    let others = runs(&mut world, 3..5);
    for pipeline in ending.iter().chain(&others) {
        deliver(&mut world, pipeline);
    }
    for pipeline in &ending {
        assert_eq!(decided_within(&mut world, pipeline, MINUTE), "succeeded");
    }
    world.pass(5 * SECOND);
    let more = runs(&mut world, 5..17);
    let statuses = burst(&mut world, more);
    let expected = BTreeMap::from([(200, 2), (503, 10)]);
    assert_eq!(statuses, expected, "2 of 4 places were given back, and 12 checks came at once");
    common::healthy(&world);
}

/// A project with two places: one of its two checks ends, and a check of another project comes before the leader's next tick.
/// What a third check of the first project is answered after that.
fn a_check_ends_and_another_projects_comes(half: u64) -> u16 {
    let mut world = configured(|configuration| {
        configuration["checks"]["max_pending_per_project"] = json!(2);
    });
    let ending = common::passing(&mut world, 1);
    let other = Pipeline::new(2);
    waiting(&mut world, &other);
    deliver(&mut world, &ending);
    deliver(&mut world, &other);
    world.pass(5 * SECOND);
    let mut refused = Pipeline::new(3);
    waiting(&mut world, &refused);
    assert_eq!(world.deliver(&refused, &[("Testrelay-Expect", "a")]).status, 503, "both places are taken");
    // Of the other project's checks, some are seen by the very next tick.
    let hash_key = world.hash_key().unwrap();
    let of_half = (4..).map(Pipeline::new).find(|pipeline| pipeline.bucket(&hash_key) % 2 == half).unwrap();
    let another = of_half.in_project(OTHER_PROJECT);
    waiting(&mut world, &another);
    let end = world.now() + MINUTE;
    while world.metric("testrelay_delivered_succeeded") == 0 {
        assert!(world.now() < end, "{:?}", world.log());
        world.pass(MILLISECOND);
    }
    deliver(&mut world, &another);
    world.pass(60 * MINUTE);
    refused.n = 1_000;
    waiting(&mut world, &refused);
    world.deliver(&refused, &[("Testrelay-Expect", "a")]).status
}

#[test]
fn a_project_whose_check_has_ended_has_room_though_another_projects_check_came_at_once() {
    let statuses = [0, 1].map(a_check_ends_and_another_projects_comes);
    assert_eq!(statuses, [200, 200], "1 of 2 places is free, and an hour later the project is still full");
}

#[test]
fn a_place_that_a_fallen_vm_has_taken_is_free_again_unless_its_check_was_stored() {
    let mut found = 0;
    // From the first host call of the request on, beyond the last one before the answer.
    for call in 0..32 {
        let mut world = busy(|configuration| configuration["credentials"][0]["max_pending"] = json!(2));
        let falls = runs(&mut world, 1..2).remove(0);
        let connection = world.connect(LISTENER, 1);
        world.trap(1, TrapAt::HostCall(call));
        let accepted = world.send_over(connection, falls.check(&[("Testrelay-Expect", "a")]), Vec::new());
        world.pass(SECOND);
        let is_answered = world.answer(accepted).is_some_and(|answer| answer.status == 200);
        // Who falls before he has noted a change is found by the sweep, within a minute.
        world.pass(75 * SECOND);
        let stored = usize::from(pending(&mut world).contains("pending checks: 1"));
        assert!(stored == 1 || !is_answered, "host call {call}: what was answered is there");
        let more = runs(&mut world, 2..6);
        let statuses = burst(&mut world, more);
        let expected = BTreeMap::from([(200, 2 - stored), (503, 2 + stored)]);
        assert_eq!(statuses, expected, "a VM fell at host call {call}; of its check {stored} is stored");
        found += usize::from(
            world
                .log()
                .iter()
                .any(|line| line.contains("corrected the count of places: 1 were counted, 0 are taken")),
        );
    }
    assert!(found > 0, "no VM has fallen with a place and without a record");
}
