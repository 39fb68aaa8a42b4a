//! One check from its request to its decision, and what can happen in between.

mod common;

use fakes::Status;
use world::*;

fn passing(world: &mut World, n: u32) -> Pipeline {
    let pipeline = world.pipeline(n);
    let execution = pipeline.tagged("a").at(START, Status::Running).at(START + 20_000, Status::Passed);
    world.testkube(|testkube| testkube.add(execution));
    pipeline
}

fn result(world: &World, pipeline: &Pipeline) -> Option<String> {
    let events = world.azure(|azure| azure.events(&pipeline.spec().plan));
    events.into_iter().find(|event| event.accepted).and_then(|event| event.result)
}

#[test]
fn a_check_is_answered_at_once_and_decided_when_its_execution_has_passed() {
    let mut world = Setup { trace: true, ..Setup::new(1) }.start().unwrap();
    let pipeline = passing(&mut world, 1);
    let answer = world.deliver(&pipeline, &[("Testrelay-Expect", "a")]);
    assert_eq!((answer.status, answer.by), (200, By::Module), "{}", answer.text());
    assert!(world.pass_until(MINUTE, |world| result(world, &pipeline).is_some()), "{}", world.trace());
    assert_eq!(result(&world, &pipeline).as_deref(), Some("succeeded"), "{}", world.trace());
    world.pass(MINUTE);
    assert_eq!(world.violations(), []);
    assert_eq!(world.azure(|azure| azure.events(&pipeline.spec().plan).len()), 1);
}

#[test]
fn a_policy_in_the_query_is_refused_aloud_and_one_under_a_near_name_is_obeyed() {
    let mut world = Setup::new(1).start().unwrap();
    let pipeline = common::passing(&mut world, 1);
    world.note_delivery(&pipeline);
    let mut check = pipeline.check(&[]);
    check.target = "/testrelay/v1/checks?expect=a,b".into();
    let answer = world.ask(check);
    assert!(answer.status == 200 && answer.text().contains("rejected"), "{}", answer.text());
    assert_eq!(common::decided_within(&mut world, &pipeline, MINUTE), "failed");
    let pipeline = common::passing(&mut world, 2);
    world.note_delivery(&pipeline);
    // `b` never appears.
    let answer = world.ask(pipeline.check(&[("testrelay_expect", "a, b"), ("appear-timeout", "30s")]));
    assert!(answer.text().contains("accepted"), "{}", answer.text());
    assert_eq!(common::decided_within(&mut world, &pipeline, 2 * MINUTE), "failed");
    common::healthy(&world);
}
