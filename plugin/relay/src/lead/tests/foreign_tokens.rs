//! Deliveries with tokens that Azure DevOps knows, but not for this check: tokens of other runs, and tokens that may
//! only read the build. And floods of invalid tokens.

use super::world::{Run, World};
use super::{AzureFault, AzureRoute, HOUR, MINUTE, SECOND, Span, Status};
use fakes::azure::AtPlans;

const READER: &str = "reader-of-builds";
const AT_PLANS: [AtPlans; 2] = [AtPlans::Forbidden, AtPlans::Hidden];

/// The same check with a token that may only read the build, and a tag whose executions have all passed; its own has
/// failed.
fn read_by_another(world: &mut World, at_plans: AtPlans) -> (Run, Run) {
    let run = world.run(1);
    world.azure.know_reader(READER, at_plans);
    let reader = Run { tag: "evil-4001".into(), token: READER.into(), ..run.clone() };
    world.testkube.add(world.tagged(&reader, "noop").at(world.at(0), Status::Passed));
    world.testkube.add(world.tagged(&run, "a").at(world.at(0), Status::Failed));
    (run, reader)
}

/// Results and tokens of the events that were taken.
fn told(world: &World, run: &Run) -> Vec<(String, String)> {
    let taken = world.azure.events(&run.spec().plan).into_iter().filter(|event| event.accepted);
    taken.map(|event| (event.result.unwrap_or_default(), event.token_used.unwrap_or_default())).collect()
}

fn asked_for(world: &World, tag: &str) -> bool {
    world.testkube.requests().iter().any(|seen| seen.request.target.contains(tag))
}

#[test]
fn a_token_that_may_read_the_build_alone_gives_way_to_the_true_one_and_gets_no_identity() {
    for at_plans in AT_PLANS {
        for is_first in [true, false] {
            let mut world = World::with_fallback();
            let (run, reader) = read_by_another(&mut world, at_plans);
            let both = [(&run, "a"), (&reader, "noop")];
            for at in if is_first { [1, 0] } else { [0, 1] } {
                assert_eq!(world.check(both[at].0, &[("testrelay-expect", both[at].1)]), 200);
            }
            world.pass(3 * MINUTE);
            world.azure.expire_token(READER, world.wall());
            world.pass(HOUR);
            let at = format!("{at_plans:?}, first: {is_first}");
            assert_eq!(told(&world, &run), [("failed".into(), run.token.clone())], "{at}");
            assert!(!asked_for(&world, "evil"), "{at}: its tag was asked for");
            assert!(world.by_fallback.is_empty() && world.nothing_pending(), "{at}: {:?}", world.by_fallback);
        }
    }
}

#[test]
fn a_build_only_token_goes_on_alone_but_fixes_nothing_and_gets_no_identity() {
    for comes in [true, false] {
        let mut world = World::with_fallback();
        let (run, reader) = read_by_another(&mut world, AtPlans::Forbidden);
        assert_eq!(world.check(&reader, &[("testrelay-expect", "noop")]), 200);
        world.pass(3 * MINUTE);
        assert!(asked_for(&world, "evil") && world.events_sent() > 0, "it did not go on");
        world.azure.expire_token(READER, world.wall());
        world.pass(MINUTE);
        if comes {
            assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200);
        }
        world.pass(HOUR);
        let truth = [("failed".to_string(), run.token.clone())];
        assert_eq!(told(&world, &run), &truth[..usize::from(comes)]);
        assert!(world.by_fallback.is_empty(), "{:?}", world.by_fallback);
    }
}

#[test]
fn no_foreign_token_displaces_the_one_that_was_taken_or_ends_its_check() {
    // While the build cannot be read, or its bound is known, the tokens come one after the other.
    for outage in [0, 10 * MINUTE] {
        let mut world = World::new();
        let run = world.run(1);
        let down = Span::Between { from: world.wall(), until: world.wall() + outage };
        world.azure.fault(AzureRoute::Build, down, AzureFault::Status { status: 503, retry_after: None });
        let fields = [("testrelay-expect", "a, b"), ("testrelay-appear-timeout", "4h")];
        assert_eq!(world.check(&run, &fields), 200);
        world.pass(20 * SECOND);
        let mut foreign: Vec<String> = (2..5).map(|n| world.run(n).token).collect();
        for at_plans in AT_PLANS {
            let token = format!("{READER}-{at_plans:?}");
            world.azure.know_reader(&token, at_plans);
            foreign.push(token);
        }
        for (n, token) in foreign.into_iter().enumerate() {
            let other = Run { token: token.clone(), ..run.clone() };
            assert_eq!(world.check(&other, &fields), 200, "{token}");
            // There is something to tell, for which the token is tried.
            if n % 2 == 0 {
                let begun = world.tagged(&run, "a").at(world.wall(), Status::Passed);
                world.testkube.add(begun);
            }
            world.pass(12 * MINUTE);
            assert!(!world.nothing_pending(), "{token} has ended the check, outage {outage}");
        }
        world.testkube.add(world.tagged(&run, "b").at(world.wall(), Status::Passed));
        world.pass(5 * MINUTE);
        assert_eq!(told(&world, &run), [("succeeded".into(), run.token.clone())], "outage {outage}");
        let said = world.azure.log_lines(&run.spec().plan).join("\n");
        assert!(said.contains("]Testrelay: succeeded."), "{said}");
    }
}

#[test]
fn a_flood_of_new_tokens_delays_no_delivery_that_was_accepted_for_long() {
    // Deliveries before it, milliseconds between two, how slow Azure DevOps is.
    for (before, pause, slow) in
        [(0, 100, 0), (0, 1_000, 0), (0, 100, 1_000), (20, 1_000, 0), (20, 1_000, 700)]
    {
        let mut world = World::new();
        let run = world.passing(1);
        if slow > 0 {
            world.azure.fault(AzureRoute::All, Span::UntilCleared, AzureFault::Slow { millis: slow });
        }
        let mut accepted = None;
        for n in 0.. {
            if n == before {
                assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200, "{before} {pause} {slow}");
                accepted = Some(world.wall());
            }
            let forged = Run { tag: "evil-4001".into(), token: format!("forged-{n}"), ..run.clone() };
            let _ = world.check(&forged, &[("testrelay-expect", "noop")]);
            world.pass(pause);
            let late = accepted.is_some_and(|at| world.wall() - at > 2 * MINUTE);
            assert!(!late, "{before} {pause} {slow}: it is not told");
            if !told(&world, &run).is_empty() {
                break;
            }
        }
        assert_eq!(told(&world, &run), [("succeeded".into(), run.token.clone())]);
    }
}

#[test]
fn after_six_of_its_credential_the_true_one_gets_503_and_a_minute_later_it_is_told() {
    let mut world = World::new();
    let run = world.passing(1);
    for n in 0..6 {
        let forged = Run { token: format!("forged-{n}"), ..run.clone() };
        assert_eq!(world.check(&forged, &[("testrelay-expect", "a")]), 200, "{n}");
    }
    assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 503);
    world.pass(MINUTE);
    assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200);
    world.pass(2 * MINUTE);
    assert_eq!(told(&world, &run), [("succeeded".into(), run.token.clone())]);
}

#[test]
fn a_decision_that_a_forged_token_repeats_is_not_told_to_a_later_delivery() {
    let mut world = World::new();
    let run = world.passing(1);
    let fields = [("testrelay-expect", "a"), ("testrelay-rerun", "all")];
    assert_eq!(world.check(&run, &fields), 200);
    while world.events_sent() == 0 {
        world.pass(SECOND);
    }
    world.pass(2 * SECOND);
    let forged = Run { token: "forged".into(), ..run.clone() };
    assert_eq!(world.check(&forged, &fields), 200);
    world.pass(5 * MINUTE);
    world.testkube.add(world.tagged(&run, "a").at(world.wall() - MINUTE, Status::Failed));
    world.azure.start_check(world.wall(), run.spec());
    assert_eq!(world.check(&run, &fields), 200);
    world.pass(5 * MINUTE);
    let results: Vec<_> = told(&world, &run).into_iter().map(|(result, _)| result).collect();
    assert_eq!(results, ["succeeded", "failed"]);
}
