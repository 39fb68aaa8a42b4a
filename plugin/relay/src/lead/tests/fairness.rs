//! Many checks share two readings of Testkube and a bounded number of calls: none may wait for ever.

use super::world::{World, names};
use super::{AzureFault, AzureRoute, Fault, MINUTE, Route, SECOND, Span};
use std::collections::BTreeMap;

/// The answer time of a slow Testkube, and the maximum latency there and back.
const ANSWER: i64 = 3 * SECOND;
const WAY: i64 = 80;

/// The longest time between two readings that asked for a tag, over all these tags.
fn longest_gap<'a>(world: &World, tags: impl Iterator<Item = &'a String>, from: i64) -> i64 {
    let lists = || world.testkube.requests().iter().filter(|r| r.at >= from);
    let gap_of = |tag: &String| {
        let times = lists().filter(|r| names(&r.request.target, tag)).map(|r| r.at);
        let mut before = from;
        times.chain([world.wall()]).map(|at| at - std::mem::replace(&mut before, at)).max().unwrap()
    };
    tags.map(gap_of).max().unwrap()
}

#[test]
fn each_of_a_thousand_checks_is_read_in_its_turn_while_testkube_is_slow() {
    let mut world = World::roomy();
    let tags: Vec<String> = (1..=1_000)
        .map(|n| {
            let run = world.run(n);
            assert_eq!(world.check(&run, &[("testrelay-appear-timeout", "2h")]), 200);
            run.tag
        })
        .collect();
    world.pass(MINUTE);
    world.testkube.fault(Route::List, Span::UntilCleared, Fault::Slow { millis: 3_000 });
    let from = world.wall();
    world.pass(3 * MINUTE);
    // A hundred tags go into one reading, and two readings are made at once. A check that has just been read is due
    // again after at most 5 s, and may have to wait for one whole round.
    let rounds = i64::try_from(tags.len()).unwrap() / 100 / 2;
    let bound = rounds * (ANSWER + WAY) + 5 * SECOND + SECOND;
    let gap = longest_gap(&world, tags.iter(), from);
    assert!(gap <= bound, "a check was not looked at for {gap} ms, more than {bound} ms");
}

#[test]
fn a_silent_azure_devops_is_asked_for_each_check_before_it_is_asked_again_for_one() {
    let mut world = World::roomy();
    let silence = AzureFault::Slow { millis: 60_000 };
    world.azure.fault(AzureRoute::LogCreate, Span::UntilCleared, silence);
    for n in 1..=160 {
        let run = world.run(n);
        assert_eq!(world.check(&run, &[]), 200);
    }
    // 16 calls of a project at once, each given up after 20 s; then others have their turn.
    world.pass(10 * 20 * SECOND);
    let mut tried: BTreeMap<&str, usize> = BTreeMap::new();
    for call in world.azure.requests() {
        *tried.entry(call.request.path()).or_default() += 1;
    }
    assert_eq!(tried.len(), 160, "{} calls were made", world.azure.requests().len());
    assert!(tried.values().all(|times| *times == 1), "{tried:?}");
}

#[test]
fn a_new_check_is_begun_within_two_ticks_whichever_bucket_it_lives_in() {
    let mut world = World::new();
    world.pass(5 * SECOND);
    for n in 1..=20 {
        let run = world.run(n);
        world.check(&run, &[]);
    }
    world.pass(2 * SECOND);
    let is_begun = |plan: &str| world.azure.requests().iter().any(|r| r.request.path().contains(plan));
    assert!((1..=20).all(|n| is_begun(&format!("{n:08x}-0001-5000-8000-000000000001"))));
}
