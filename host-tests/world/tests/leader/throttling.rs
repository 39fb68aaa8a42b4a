//! The ways in which Azure DevOps asks for fewer calls: `Retry-After` in seconds or as a date, `X-RateLimit-Delay`, each on
//! an answer that it gives as well.

use super::*;
use fakes::Span;
use fakes::azure::{Fault, Route};

/// When Azure DevOps was called after a check came, in milliseconds after that, for `minutes`.
fn calls(fault: impl FnOnce(i64) -> Option<(Span, Fault)>, minutes: u64) -> Vec<i64> {
    let mut world = start(Setup::new(7));
    let pipeline = world.pipeline(1);
    let now = world.wall();
    // Something to tell each few seconds.
    for i in 0..40 {
        let from = now + i * 4_000;
        let execution =
            pipeline.tagged(&format!("w{i}")).at(from, Status::Running).at(from + 10_000, Status::Passed);
        world.testkube(|testkube| testkube.add(execution));
    }
    if let Some((span, fault)) = fault(now) {
        world.azure(|azure| azure.fault(Route::All, span, fault));
    }
    assert_eq!(world.deliver(&pipeline, &[("Testrelay-Expect", "60")]).status, 200);
    world.pass(minutes * MINUTE);
    common::healthy(&world);
    world.azure(|azure| azure.requests().iter().map(|request| request.at - now).collect())
}

#[test]
fn a_retry_after_that_is_a_date_is_waited_for() {
    let calls =
        calls(|now| Some((Span::Next(1), Fault::StatusUntil { status: 429, until: now + 60_000 })), 3);
    assert_eq!(
        calls.iter().filter(|at| **at < 58_000).count(),
        1,
        "429 until 60 s after the check came: {calls:?}"
    );
    assert!(calls.iter().any(|at| (58_000..75_000).contains(at)), "it goes on after that: {calls:?}");
}

#[test]
fn a_retry_after_on_an_answer_that_is_given_is_waited_for() {
    let throttled = Fault::Throttled { header: "retry-after", seconds: 60 };
    let calls = calls(|_| Some((Span::Next(1), throttled)), 3);
    assert_eq!(calls.iter().filter(|at| **at < 58_000).count(), 1, "the first 200 says 60 s: {calls:?}");
    assert!(calls.iter().any(|at| (58_000..75_000).contains(at)), "it goes on after that: {calls:?}");
}

#[test]
fn answers_that_were_delayed_by_the_rate_limit_make_calls_rarer() {
    let usual = calls(|_| None, 3).len();
    let delayed = Fault::Throttled { header: "x-ratelimit-delay", seconds: 30 };
    let slowed = calls(|_| Some((Span::UntilCleared, delayed)), 3);
    let asked = slowed.len();
    assert!(
        asked * 2 <= usual,
        "each answer says that it was delayed by 30 s: {asked} calls instead of {usual}: {slowed:?}"
    );
}
