//! Places of checks: given back by whoever ends a check, and found again if nobody did.

use super::*;

#[test]
fn a_check_has_its_place_until_it_has_ended_however_it_ends() {
    let mut world = World::new();
    let passes = world.passing(1);
    let over = world.run(2);
    world.testkube.add(world.tagged(&over, "a").at(world.at(0), Status::Running));
    let refused = world.run(3);
    let ends = world.run(4);
    let token = world.jwt(20 * MINUTE);
    for run in [&passes, &over] {
        assert_eq!(world.check(run, &[("testrelay-expect", "a")]), 200);
    }
    assert_eq!(world.check(&refused, &[("authtoken", "a-token-of-nobody")]), 200);
    assert_eq!(world.check(&ends, &[("authtoken", &token), ("testrelay-tag", "shop")]), 200);
    assert_eq!(world.places(), [4, 4]);
    world.pass(30 * SECOND);
    assert_eq!(world.answered(&passes).result, "succeeded");
    assert_eq!(world.places(), [3, 3]);
    world.azure.end_plan(&over.spec().plan, world.wall(), "canceled");
    world.pass(HOUR);
    assert!(world.nothing_pending());
    assert_eq!(world.places(), [0, 0]);
}

#[test]
fn a_check_of_a_module_that_noted_no_place_gets_one_and_gives_it_back() {
    let mut world = World::new();
    let runs: Vec<_> = (1..=3).map(|n| world.run(n)).collect();
    for run in &runs {
        world.testkube.add(
            world.tagged(run, "a").at(world.at(0), Status::Running).at(world.at(4 * MINUTE), Status::Passed),
        );
        assert_eq!(world.check(run, &[("testrelay-expect", "a")]), 200);
    }
    world.forget_places();
    world.forget_keys("/places/");
    world.pass(10 * SECOND);
    assert_eq!(world.places(), [3, 3]);
    // An older module beside this one writes a record and drops what it does not know.
    world.forget_places();
    // All buckets are read within a minute, and places are counted twice after that.
    world.pass(90 * SECOND);
    assert_eq!(world.places(), [3, 3]);
    world.pass(4 * MINUTE);
    assert_eq!(world.answered(&runs[2]).result, "succeeded");
    assert_eq!(world.places(), [0, 0]);
}

#[test]
fn a_place_whose_check_is_gone_is_given_back() {
    let mut world = World::new();
    let runs: Vec<_> = (1..=3).map(|n| world.run(n)).collect();
    for run in &runs {
        assert_eq!(world.check(run, &[("testrelay-expect", "a")]), 200);
    }
    world.pass(MINUTE);
    world.forget_keys("/checks/");
    assert_eq!(world.check(&runs[0], &[("testrelay-expect", "a")]), 200);
    assert_eq!(world.places(), [4, 4]);
    world.pass(MINUTE / 2);
    assert_eq!(world.places(), [1, 1]);
}
