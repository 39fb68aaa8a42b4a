//! Named scenarios: lists of more than one page, whose rows move while they are read. Testkube's pages are offsets into a
//! list that is made anew for each of them.

mod common;

use common::*;
use fakes::{Execution, Status};
use world::*;

const EXPECT_A: [(&str, &str); 1] = [("Testrelay-Expect", "a")];

/// What one page holds at first.
const PAGE: i64 = 100;

/// An execution that has ended.
fn ended(pipeline: &Pipeline, workflow: &str, scheduled: i64, status: Status) -> Execution {
    pipeline.tagged(workflow).at(scheduled, Status::Running).at(scheduled + 1_000, status)
}

/// Executions that another one has started: they carry the tag and do not count.
fn children(
    world: &World,
    pipeline: &Pipeline,
    parent: &str,
    scheduled: impl Iterator<Item = i64>,
) -> Vec<String> {
    let child = |at| ended(pipeline, "child", at, Status::Passed).child_of("a", parent);
    world.testkube(|testkube| scheduled.map(|at| testkube.add(child(at))).collect())
}

#[test]
fn an_execution_that_moves_to_a_page_already_read_while_others_are_deleted_is_not_overlooked() {
    for deleted in [1, 2, 30] {
        let mut world = world(1);
        world.network("testkube", Rule { latency: 300 * MILLISECOND, jitter: 0, ..Rule::default() });
        let pipeline = world.pipeline(1);
        let began = world.wall() - 60_000;
        // The newest comes first: the one that failed is the first of the second page.
        let parent =
            world.testkube(|testkube| testkube.add(ended(&pipeline, "a", began - 30 * 10, Status::Passed)));
        let newer = children(&world, &pipeline, &parent, (1..=PAGE).map(|i| began + 10 * i));
        world.testkube(|testkube| testkube.add(ended(&pipeline, "b", began, Status::Failed)));
        children(&world, &pipeline, &parent, (1..50).map(|i| began - 10 * i));
        assert_eq!(world.deliver(&pipeline, &EXPECT_A).status, 200);
        let first_page = |world: &World| {
            world
                .testkube(|testkube| testkube.requests().iter().any(|r| r.request.target.contains("&page=0")))
        };
        assert!(world.pass_until(MINUTE, first_page));
        let now = world.wall();
        world.testkube(|testkube| {
            for id in newer.iter().take(deleted) {
                assert!(testkube.change(id, |child| child.deleted_at(now)));
            }
        });
        assert_eq!(decided_within(&mut world, &pipeline, 2 * MINUTE), "failed", "{deleted} were deleted");
        healthy(&world);
    }
}

#[test]
fn of_executions_that_began_in_one_instant_none_is_lost_between_two_pages() {
    // Which rows a page shows depends on their ids, and these on how many there are; and on how many lists there were before.
    for i in 0..24 {
        let others = PAGE + 10 * i;
        let mut world = world(1);
        let pipeline = world.pipeline(1);
        assert_eq!(world.deliver(&pipeline, &EXPECT_A).status, 200);
        world.pass(2 * SECOND * (1 + u64::try_from(i % 7).unwrap()));
        let began = world.wall() - 60_000;
        // Far apart by their ids: neighbours would be lost together.
        let parent = world.testkube(|testkube| testkube.add(ended(&pipeline, "a", began, Status::Passed)));
        children(&world, &pipeline, &parent, (0..others).map(|_| began));
        world.testkube(|testkube| testkube.add(ended(&pipeline, "b", began, Status::Failed)));
        assert_eq!(decided_within(&mut world, &pipeline, 2 * MINUTE), "failed", "beside {others} others");
        healthy(&world);
    }
}
