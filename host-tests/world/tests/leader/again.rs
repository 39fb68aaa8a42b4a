//! A check that comes once more.

use super::*;
use fakes::Span;
use fakes::azure::{Fault, Route};

#[test]
fn a_delivery_right_before_the_answer_to_the_event_is_told_as_well() {
    // The leader reads what others have written once a second: what comes between that and the answer, it has not read yet.
    for millis in [50, 200, 350, 500, 650, 800, 950] {
        let mut world = start(Setup::new(7));
        let pipeline = world.pipeline(1);
        let execution = ends_after(&world, &pipeline, 20_000, Status::Passed);
        world.testkube(|testkube| testkube.add(execution));
        world.azure(|azure| azure.fault(Route::Events, Span::Next(1), Fault::Slow { millis: 5_000 }));
        deliver(&mut world, &pipeline);
        let taken = |world: &World| {
            let events = world.azure(|azure| azure.events(&pipeline.spec().plan));
            events.iter().filter(|event| event.accepted).count()
        };
        assert!(world.pass_until(MINUTE, |world| taken(world) == 1), "{:?}", world.log());
        world.pass((5_000 - millis) * MILLISECOND);
        let mut newer = pipeline.clone();
        world.another_delivery(&mut newer);
        deliver(&mut world, &newer);
        assert!(world.pass_until(2 * MINUTE, |world| taken(world) == 2), "{millis} ms: {:?}", world.log());
        common::healthy(&world);
    }
}
