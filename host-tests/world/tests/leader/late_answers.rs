//! An answer belongs to its own call: a late one neither ends another wait nor confirms another reading.

use super::*;
use crate::common::result;
use fakes::azure::{Fault, Route};
use fakes::{Span, testkube};

/// Lets time pass in small steps until a server has received one more request of a kind.
fn until_asked(world: &mut World, what: &str, asked: impl Fn(&World) -> usize) {
    let (before, end) = (asked(world), world.now() + 2 * MINUTE);
    while asked(world) == before {
        assert!(world.now() < end, "{what} was never asked for: {:?}", world.log());
        world.pass(5 * MILLISECOND);
    }
}

fn looks_at_the_record(world: &World) -> usize {
    let is_look = |request: &&fakes::Recorded| {
        request.request.method == "GET" && request.request.path().ends_with("/records")
    };
    world.azure(|azure| azure.requests().iter().filter(is_look).count())
}

fn lists(world: &World) -> usize {
    let is_list = |request: &&fakes::Recorded| request.request.target.contains("tagSelector=");
    world.testkube(|testkube| testkube.requests().iter().filter(is_list).count())
}

fn confirmations(world: &World) -> usize {
    let is_get =
        |request: &&fakes::Recorded| request.request.path().starts_with("/v1/test-workflow-executions/");
    world.testkube(|testkube| testkube.requests().iter().filter(is_get).count())
}

/// How often the decision is in the log of a check whose run is cancelled while Testkube takes 8 s for a list and Azure
/// DevOps 18 s for a log call.
fn decisions_in_the_log(seed: u64) -> usize {
    let mut world = start(Setup::new(seed));
    let pipeline = Pipeline::new(1);
    waiting(&mut world, &pipeline);
    deliver(&mut world, &pipeline);
    world.pass(40 * SECOND);
    let spec = pipeline.spec();
    let now = world.wall();
    world.azure(|azure| azure.end_plan(&spec.plan, now, "canceled"));
    let late = testkube::Fault::Slow { millis: 8_000 };
    world.testkube(|testkube| testkube.fault(testkube::Route::List, Span::UntilCleared, late));
    world.azure(|azure| azure.fault(Route::Records, Span::UntilCleared, Fault::Slow { millis: 1_000 }));
    // The look at the record will show it; the lines that follow take their time.
    until_asked(&mut world, "the record", looks_at_the_record);
    world.azure(|azure| azure.fault(Route::LogAppend, Span::UntilCleared, Fault::Slow { millis: 18_000 }));
    world.pass(2 * MINUTE);
    common::healthy(&world);
    log_of(&world, &pipeline).iter().filter(|line| line.contains("Testrelay: not reported")).count()
}

#[test]
fn the_last_lines_are_written_once_though_an_earlier_calls_answer_comes_meanwhile() {
    let decisions: Vec<usize> = (0..6).map(decisions_in_the_log).collect();
    assert_eq!(decisions, [1; 6], "so often the decision stands in the log of each of 6 checks");
}

/// A check whose confirmation is under way for 9.5 s when a person bypasses it and runs it again. The execution that the
/// second evaluation reads as passed runs again when it is confirmed. Returns what Azure DevOps was told 15 s later, if the
/// first confirmation's answer came while the second was under way.
fn an_old_confirmation(seed: u64) -> Option<Option<String>> {
    let mut world = start(Setup::new(seed));
    let mut pipeline = Pipeline::new(1);
    world.begin(&pipeline);
    let began = world.wall();
    let running = pipeline.tagged("a").at(began, Status::Running);
    let id = world.testkube(|testkube| testkube.add(running));
    deliver(&mut world, &pipeline);
    world.pass(50 * SECOND);
    let spec = pipeline.spec();
    let now = world.wall();
    world.azure(|azure| {
        assert!(azure.complete_check(&spec, now, "succeeded"));
        azure.fault(Route::Records, Span::UntilCleared, Fault::Slow { millis: 5_000 });
    });
    until_asked(&mut world, "the record", looks_at_the_record);
    // The look is under way. The execution passes, is read so, and the confirmation takes its time.
    let now = world.wall();
    world.testkube(|testkube| {
        testkube.change(&id, |execution| execution.at(now, Status::Passed));
        let slow = testkube::Fault::Slow { millis: 9_500 };
        testkube.fault(testkube::Route::Get, Span::UntilCleared, slow);
    });
    let before = confirmations(&world);
    if !world.pass_until(6 * SECOND, |world| confirmations(world) > before) {
        return None;
    }
    let answered = world.now() + 9_500 * MILLISECOND;
    world.azure(|azure| azure.clear_faults());
    let is_over = |world: &World| world.metric("testrelay_undelivered") > 0;
    let end = world.now() + 9 * SECOND;
    while !is_over(&world) {
        if world.now() >= end {
            return None;
        }
        world.pass(5 * MILLISECOND);
    }
    // Evaluated again: the same ids, another token.
    world.another_delivery(&mut pipeline);
    let (lists_before, before) = (lists(&world), confirmations(&world));
    deliver(&mut world, &pipeline);
    while lists(&world) == lists_before {
        world.pass(MILLISECOND);
        if world.now() >= answered {
            return None;
        }
    }
    // It was read as passed. Now it runs again, and a confirmation would say so.
    let now = world.wall();
    world.testkube(|testkube| testkube.change(&id, |execution| execution.at(now + 1, Status::Running)));
    if !world.pass_until(answered.saturating_sub(world.now()), |world| confirmations(world) > before) {
        return None;
    }
    world.pass(15 * SECOND);
    Some(result(&world, &pipeline))
}

#[test]
fn an_earlier_evaluations_confirmation_confirms_no_later_reading() {
    let told: Vec<Option<String>> = (0..12).filter_map(an_old_confirmation).collect();
    assert!(told.len() >= 3, "the two confirmations were under way together in {} of 12 worlds", told.len());
    let wrong = told.iter().filter(|told| told.is_some()).count();
    assert_eq!(
        wrong,
        0,
        "the execution runs, and some of {} checks were told something: {told:?}",
        told.len()
    );
}
