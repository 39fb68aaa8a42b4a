//! Thousands of checks at once.

use super::world::names;
use super::*;

/// A delivery whose note is lost, beside checks with long tokens and while checks come and go.
#[test]
fn a_check_whose_note_is_lost_is_found_within_a_minute() {
    let mut world = World::roomy();
    let far = world.at(10 * HOUR);
    for n in 1_001..=2_000 {
        let mut run = world.run(n);
        run.token = format!("{}{n}", "x".repeat(8_000));
        world.azure.start_check(world.wall(), run.spec());
        let start = world.wall();
        let execution = world.tagged(&run, "a").at(start, Status::Running);
        world.testkube.add(execution.at(far, Status::Passed));
        assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200);
    }
    world.pass(30 * SECOND);
    let lost = world.passing(1);
    assert_eq!(world.check(&lost, &[("testrelay-expect", "a")]), 200);
    world.forget_keys("changed");
    let came = world.wall();
    let found = |world: &World| {
        let plan = lost.spec().plan;
        world.azure.requests().iter().any(|r| r.request.target.contains(&plan))
    };
    let mut n = 10;
    while !found(&world) && world.wall() - came < 20 * MINUTE {
        // Another check comes every two seconds.
        let run = world.passing(n);
        assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200);
        n += 1;
        world.pass(2 * SECOND);
    }
    let after = (world.wall() - came) / SECOND;
    assert!(after <= 60, "found after {after} s");
}

/// A Testkube that answers one list in six with a 502.
#[test]
fn a_check_settles_although_testkube_refuses_a_sixth_of_its_lists() {
    let mut world = World::roomy();
    for n in 1_001..=2_500 {
        let run = world.run(n);
        assert_eq!(world.check(&run, &[("testrelay-appear-timeout", "2h")]), 200);
    }
    let mut refused = 0;
    let mut refuse_until = |world: &mut World, seconds: i64, is_over: &dyn Fn(&World) -> bool| {
        let end = world.wall() + seconds * SECOND;
        while world.wall() < end && !is_over(world) {
            let lists = world.lists();
            if lists >= refused + 5 {
                refused = lists;
                world.testkube.fault(Route::List, Span::Next(1), Fault::Status(502));
            }
            world.pass(SECOND / 10);
        }
    };
    refuse_until(&mut world, 600, &|_| false);
    let run = world.passing(1);
    // Without an expectation, the passed set must stay unchanged for a minute.
    assert_eq!(world.check(&run, &[]), 200);
    let (before, plan) = (world.lists(), run.spec().plan);
    let is_reported = |world: &World| world.azure.events(&plan).iter().any(|event| event.accepted);
    refuse_until(&mut world, 300, &is_reported);
    assert!(is_reported(&world), "not within 300 s and {} lists", world.lists() - before);
}

/// Pages count as calls to Testkube too.
#[test]
fn lists_are_thirty_a_second_at_most_also_where_they_have_pages() {
    let mut world = World::roomy();
    for n in 1_001..=1_500 {
        let run = world.run(n);
        for _ in 0..20 {
            let start = world.wall();
            world.testkube.add(world.tagged(&run, "a").at(start, Status::Running));
        }
        assert_eq!(world.check(&run, &[("testrelay-expect", "a*20")]), 200);
    }
    world.pass(3 * MINUTE);
    let mut by_second = std::collections::BTreeMap::<i64, usize>::new();
    for r in world.testkube.requests().iter().filter(|r| r.request.target.contains("tagSelector=")) {
        *by_second.entry(r.at / SECOND).or_default() += 1;
    }
    let most = by_second.values().max().unwrap();
    assert!(*most <= 30, "{most} lists in a second, {} in 3 minutes", by_second.values().sum::<usize>());
}

/// A reading for others takes a check along only if its own schedule allows it to be read again.
#[test]
fn no_tag_is_looked_up_again_within_a_second_and_a_half_whoever_else_is() {
    let mut world = World::roomy();
    let runs: Vec<_> = (1..=20).map(|n| world.run(n)).collect();
    for run in &runs {
        assert_eq!(world.check(run, &[]), 200);
        world.pass(330);
    }
    world.pass(15 * SECOND);
    for run in &runs {
        let lists = world.testkube.requests().iter().filter(|r| names(&r.request.target, &run.tag));
        let times: Vec<i64> = lists.map(|r| r.at).collect();
        let spacing: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // A call may take up to 20 ms longer than the one before.
        assert!(spacing.len() > 4 && spacing.iter().all(|ms| *ms >= 1_480), "{}: {spacing:?}", run.tag);
    }
}
