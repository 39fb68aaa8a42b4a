//! The identity that Envoy adds: for reports of a check whose token was taken before, and for nothing else.

use super::world::{IDENTITY, Run, World};
use super::{AzureFault, AzureRoute, MINUTE, SECOND, Span, Status};

/// A check that is watched, its token taken.
fn watched(world: &mut World) -> Run {
    let run = world.run(1);
    assert_eq!(world.check(&run, &[]), 200);
    world.pass(10 * SECOND);
    run
}

fn passes(world: &mut World, run: &Run) {
    let passed = world.tagged(run, "a").at(world.wall(), Status::Passed);
    world.testkube.add(passed);
    world.pass(5 * MINUTE);
}

fn who_finished(world: &World, run: &Run) -> Vec<Option<String>> {
    let events = world.azure.events(&run.spec().plan);
    events.into_iter().filter(|event| event.accepted).map(|event| event.token_used).collect()
}

#[test]
fn a_decision_whose_token_has_died_goes_out_with_the_identity() {
    let mut world = World::with_fallback();
    let run = watched(&mut world);
    world.azure.expire_token(&run.token, world.wall());
    passes(&mut world, &run);
    assert_eq!(who_finished(&world, &run), [Some(IDENTITY.into())]);
    let lines = world.azure.log_lines(&run.spec().plan);
    assert!(lines.iter().any(|line| line.contains("]Testrelay: ")), "no line with the decision: {lines:?}");
    let plan = run.spec().plan;
    assert!(world.by_fallback.iter().all(|call| call.contains(&plan)), "{:?}", world.by_fallback);
}

#[test]
fn whoever_sends_anothers_ids_with_a_token_of_his_own_gets_no_call_with_the_identity() {
    let mut world = World::with_fallback();
    let run = world.passing(1);
    let forged = Run { token: "forged".into(), ..run };
    assert_eq!(world.check(&forged, &[]), 200);
    world.pass(60 * MINUTE);
    assert!(world.by_fallback.is_empty(), "{:?}", world.by_fallback);
    assert!(world.azure.events(&forged.spec().plan).iter().all(|event| !event.accepted));
}

#[test]
fn a_rejected_check_gets_no_identity_before_its_token_was_taken() {
    let mut world = World::with_fallback();
    let run = world.run(1);
    let forged = Run { token: "forged".into(), ..run };
    assert_eq!(world.check(&forged, &[("testrelay-timeout", "soon")]), 200);
    world.pass(60 * MINUTE);
    assert!(world.by_fallback.is_empty(), "{:?}", world.by_fallback);
}

#[test]
fn proof_bound_and_run_looks_never_use_the_identity() {
    let mut world = World::with_fallback();
    let refused = AzureFault::Status { status: 401, retry_after: None };
    world.azure.fault(AzureRoute::Build, Span::UntilCleared, refused);
    let run = watched(&mut world);
    world.azure.expire_token(&run.token, world.wall());
    world.pass(20 * MINUTE);
    assert!(world.by_fallback.is_empty(), "{:?}", world.by_fallback);
}

#[test]
fn an_identity_that_is_refused_too_gives_way_to_the_token_of_a_new_delivery() {
    let mut world = World::with_fallback();
    world.azure.know_identity("another");
    let mut run = watched(&mut world);
    world.azure.expire_token(&run.token, world.wall());
    passes(&mut world, &run);
    assert!(!world.by_fallback.is_empty() && who_finished(&world, &run).is_empty());
    run.token = "token-of-the-second-delivery".into();
    world.azure.start_check(world.wall(), run.spec());
    assert_eq!(world.check(&run, &[]), 200);
    world.pass(5 * MINUTE);
    assert_eq!(who_finished(&world, &run), [Some(run.token.clone())]);
}

#[test]
fn without_a_fallback_cluster_a_dead_token_stays_dead() {
    let mut world = World::new();
    let run = watched(&mut world);
    world.azure.expire_token(&run.token, world.wall());
    passes(&mut world, &run);
    assert!(who_finished(&world, &run).is_empty());
}
