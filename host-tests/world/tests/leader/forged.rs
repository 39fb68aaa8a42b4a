//! Deliveries from somebody who knows a check's ids and has another token.

use super::*;
use crate::common::{decided_within, healthy};
use fakes::azure::{Fault, Route};
use fakes::{CheckSpec, Span};

#[test]
fn tokens_that_were_never_taken_displace_none_that_was() {
    let mut world = start(Setup::new(7));
    let pipeline = world.pipeline(1);
    let execution = ends_after(&world, &pipeline, 40_000, Status::Passed);
    world.testkube(|testkube| testkube.add(execution));
    deliver(&mut world, &pipeline);
    world.pass(5 * SECOND);
    // The same values with other tokens.
    for n in 0..4 {
        let token = format!("{MARK}-forged-{n}");
        world.forged_token(&pipeline, &token);
        let answer = world.deliver(&pipeline, &[("Testrelay-Expect", "a"), ("AuthToken", &token)]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        world.pass(SECOND);
    }
    assert_eq!(decided_within(&mut world, &pipeline, 2 * MINUTE), "succeeded");
    healthy(&world);
}

#[test]
fn a_token_that_may_read_the_build_alone_fixes_no_values() {
    let mut world = start(Setup::new(7));
    let pipeline = world.pipeline(1);
    let execution = ends_after(&world, &pipeline, 20_000, Status::Passed);
    world.testkube(|testkube| testkube.add(execution));
    // Another check of the project has this token: the project's builds can be read with it, and the plan's calls cannot be made.
    let token = format!("{MARK}-of-another-plan");
    let other = CheckSpec { token: token.clone(), ..Pipeline::new(900).spec() };
    let now = world.wall();
    let forbidden = Fault::Status { status: 403, retry_after: None };
    world.azure(|azure| {
        azure.start_check(now, other);
        azure.fault(Route::LogCreate, Span::Next(1), forbidden);
        azure.fault(Route::Records, Span::Next(1), forbidden);
    });
    world.forged_token(&pipeline, &token);
    let tag = format!("evil-{}", pipeline.tag);
    let fields = [("Testrelay-Expect", "a"), ("AuthToken", token.as_str()), ("Testrelay-Tag", &tag)];
    assert_eq!(world.deliver(&pipeline, &fields).status, 200);
    let builds = |world: &World| {
        let is_build = |path: &str| path.contains("/_apis/build/builds/");
        world.azure(|azure| azure.requests().iter().filter(|r| is_build(r.request.path())).count())
    };
    assert!(world.pass_until(MINUTE, |world| builds(world) > 0), "{:?}", world.log());
    world.pass(100 * MILLISECOND);
    deliver(&mut world, &pipeline);
    assert_eq!(decided_within(&mut world, &pipeline, 2 * MINUTE), "succeeded");
}
