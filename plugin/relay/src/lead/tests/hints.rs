use super::*;

/// Long enough for looks to have become rare.
const LATER: i64 = 10 * MINUTE;

/// A check of a run whose only execution has run for ten minutes and passes 300 ms later.
fn waiting(world: &mut World, n: u32) -> super::world::Run {
    let run = world.run(n);
    let execution = world.tagged(&run, "shop-e2e").at(world.at(0), Status::Running);
    world.testkube.add(execution.at(world.at(LATER + 300), Status::Passed));
    assert_eq!(world.check(&run, &[("testrelay-expect", "shop-e2e")]), 200);
    run
}

#[test]
fn a_hint_is_looked_after_at_once_and_decided_by_the_reading_alone() {
    let mut world = World::new();
    let run = waiting(&mut world, 1);
    world.pass(LATER + 100);
    let before = world.lists();
    world.hint(&run, true);
    world.pass(200);
    assert_eq!(world.lists(), before + 1, "looked, and it still ran");
    assert_eq!(world.events_sent(), 0);
    let run = waiting(&mut world, 2);
    world.pass(5 * SECOND);
    world.hint(&run, true);
    world.pass(700);
    let answered = world.answered(&run);
    assert_eq!(answered.result, "succeeded");
}

#[test]
fn a_hint_whose_wake_up_is_lost_is_seen_at_the_next_tick() {
    let mut world = World::new();
    let run = waiting(&mut world, 1);
    world.pass(LATER + 350);
    world.hint(&run, false);
    world.pass(1_500);
    let answered = world.answered(&run);
    assert!(answered.after < LATER + 350 + 1_500, "{answered:?}");
}

#[test]
fn hints_bring_at_most_one_look_forward_in_two_seconds() {
    let mut world = World::new();
    let run = waiting(&mut world, 1);
    world.pass(5 * MINUTE);
    let before = world.lists();
    for _ in 0..100 {
        world.hint(&run, true);
        world.pass(100);
    }
    let looks = world.lists() - before;
    assert!((5..=7).contains(&looks), "{looks} looks in ten seconds");
}

#[test]
fn a_hint_for_a_tag_that_nobody_waits_for_costs_no_call() {
    let mut world = World::new();
    waiting(&mut world, 1);
    let unknown = world.run(2);
    world.pass(5 * MINUTE);
    let before = world.lists();
    let mut most = 0;
    for _ in 0..10 {
        world.hint(&unknown, true);
        world.pass(100);
        most = most.max(world.lists() - before);
    }
    // The look that was due anyway.
    assert!(most <= 1, "{most}");
}

#[test]
fn a_hint_that_comes_while_testkube_is_read_is_looked_after_when_that_is_done() {
    let mut world = World::new();
    let run = waiting(&mut world, 1);
    world.pass(LATER - 30 * SECOND);
    world.testkube.fault(Route::List, Span::UntilCleared, Fault::Slow { millis: 2_000 });
    // A look is under way when the execution ends, and shows the state at its beginning.
    while world.lists() == 0 || world.wall() < world.at(LATER - 1_000) {
        world.pass(SECOND);
    }
    world.hint(&run, true);
    world.pass(1_400);
    world.hint(&run, true);
    world.testkube.clear_faults();
    world.pass(4 * SECOND);
    assert_eq!(world.answered(&run).result, "succeeded");
}
