//! Testkube's behaviour that people must hear of: in the check's log, and in the list of checks.

use super::world::{Run, World};
use super::{HOUR, MINUTE, SECOND};
use fakes::testkube::{Fault, Route};
use fakes::{Actor, Build, Span, Status};

/// How long the expected executions may take to appear, and how long everything.
const SOON: [(&str, &str); 3] =
    [("testrelay-expect", "a"), ("testrelay-appear-timeout", "3m"), ("testrelay-timeout", "20m")];

impl World {
    /// The lines of the check's log.
    pub(super) fn told(&self, run: &Run) -> Vec<String> {
        self.azure.log_lines(&run.spec().plan)
    }

    /// The check is decided so, and the log and the list both contain these texts.
    fn decided(&mut self, run: &Run, outcome: &str, texts: &[&str]) {
        let log = self.told(run);
        let line = log.iter().find(|line| line.contains("Testrelay: ")).cloned().unwrap_or_default();
        let listed = self.listed();
        assert_eq!(listed["decision"], outcome, "{listed}\n{}", log.join("\n"));
        for text in texts {
            assert!(line.contains(text), "{text}\n{}", log.join("\n"));
            assert!(listed["reason"].as_str().unwrap().contains(text), "{text}\n{listed}");
        }
    }

    pub(super) fn says(&self, run: &Run, text: &str) -> usize {
        self.told(run).iter().filter(|line| line.contains(text)).count()
    }
}

const INCOMPLETE: &str = "Testkube's lists have been incomplete since";

#[test]
fn lists_that_are_not_complete_are_told_after_a_minute_and_so_is_their_end() {
    let mut world = World::new();
    let run = world.run(1);
    for workflow in ["a", "b"] {
        let ends = world.at(8 * MINUTE);
        world
            .testkube
            .add(world.tagged(&run, workflow).at(world.at(0), Status::Running).at(ends, Status::Passed));
    }
    world.testkube.fault(Route::List, Span::UntilCleared, Fault::RowMissing);
    world.check(&run, &SOON);
    world.pass(50 * SECOND);
    assert_eq!(world.says(&run, INCOMPLETE), 0);
    world.pass(5 * MINUTE);
    assert_eq!(world.says(&run, INCOMPLETE), 1, "{:?}", world.told(&run));
    assert_eq!(world.says(&run, "(the last: 1 of 2 executions); Testrelay tries again"), 1);
    world.testkube.clear_faults();
    world.pass(4 * MINUTE);
    assert_eq!(world.says(&run, "Testkube answers again"), 1);
    world.decided(&run, "succeeded", &["All 2 executions"]);
}

#[test]
fn a_check_that_ends_without_a_complete_list_says_so() {
    let mut world = World::new();
    let run = world.run(1);
    for workflow in ["a", "b"] {
        world.testkube.add(world.tagged(&run, workflow).at(world.at(0), Status::Passed));
    }
    world.testkube.fault(Route::List, Span::UntilCleared, Fault::RowMissing);
    world.check(&run, &SOON);
    world.pass(25 * MINUTE);
    world.decided(&run, "inconclusive", &[INCOMPLETE, "1 of 2 executions"]);
}

#[test]
fn where_all_executions_are_older_the_clocks_are_named_with_both_times() {
    let mut world = World::new();
    let run = world.run(1);
    world.testkube.add(world.tagged(&run, "a").at(world.at(-HOUR), Status::Passed));
    world.check(&run, &SOON);
    world.pass(150 * SECOND);
    assert_eq!(world.says(&run, "compare the clocks"), 1, "{:?}", world.told(&run));
    world.pass(2 * MINUTE);
    let bound = crate::time::Wall(world.at(-10 * MINUTE - 30 * SECOND)).to_string();
    let scheduled = crate::time::Wall(world.at(-HOUR)).to_string();
    let texts =
        ["are older than the lower bound", &scheduled, &bound, "(start of the build)", "compare the clocks"];
    world.decided(&run, "inconclusive", &texts);
}

#[test]
fn where_the_build_is_older_than_a_day_and_nothing_is_left_testkube_may_have_cleaned_up() {
    for (hours, may_have) in [(23, false), (25, true)] {
        let mut world = World::new();
        let run = world.run(1);
        world.azure.add_build(Build::new(super::world::PROJECT, 4_001).started_at(world.at(-hours * HOUR)));
        world.check(&run, &SOON);
        world.pass(4 * MINUTE);
        let text =
            if may_have { "Testkube may have cleaned them up" } else { "appeared in Testkube within 3m" };
        world.decided(&run, "inconclusive", &[text]);
    }
}

#[test]
fn testkubes_own_words_are_told() {
    let mut world = World::new();
    let run = world.run(1);
    let full = "failed to list test workflow executions: get execution results: client problem: rpc error: code = Internal desc = ERROR: could not extend file: No space left on device (SQLSTATE 53100)";
    world.testkube.fault(Route::List, Span::UntilCleared, Fault::Detail(502, full.into()));
    world.check(&run, &SOON);
    world.pass(3 * MINUTE);
    let text = "(HTTP 502: ERROR: could not extend file: No space left on device (SQLSTATE 53100)";
    assert_eq!(world.says(&run, text), 1, "{:?}", world.told(&run));
    world.pass(22 * MINUTE);
    world.decided(&run, "inconclusive", &[text]);
}

#[test]
fn an_execution_that_lost_its_tag_counts_as_gone_or_untagged() {
    let mut world = World::new();
    let run = world.run(1);
    let other = world.at(MINUTE);
    world.testkube.add(
        world
            .tagged(&run, "a")
            .at(world.at(0), Status::Running)
            .tags_replaced_at(other, &[("ado-run", "other")]),
    );
    world.check(&run, &SOON);
    world.pass(5 * MINUTE);
    world.decided(&run, "inconclusive", &["is gone from Testkube, or has lost the tag"]);
}

#[test]
fn one_that_never_began_says_where_the_reason_is() {
    let mut world = World::new();
    let run = world.run(1);
    world
        .testkube
        .add(world.tagged(&run, "a").at(world.at(0), Status::Assigned).at(world.at(SECOND), Status::Aborted));
    world.check(&run, &SOON);
    world.pass(MINUTE);
    let text = "it never began, and Testkube gives no reason: see the log of Testkube's API server";
    world.decided(&run, "failed", &[text]);
    assert_eq!(world.says(&run, "0ms"), 0, "{:?}", world.told(&run));
}

#[test]
fn where_children_alone_carry_the_tag_the_headline_says_so() {
    for (names, text) in [
        (&["a"][..], "passed (started by another workflow's execution without this tag): a-1 passed"),
        (&["a", "b"], "passed (all started by other workflows' executions without this tag): "),
    ] {
        let mut world = World::new();
        let run = world.run(1);
        for name in names {
            let child = world.tagged(&run, name).child_of("suite", "6973a5d2e1c4b0a7f3d9e201");
            world.testkube.add(child.at(world.at(0), Status::Passed));
        }
        world.check(&run, &SOON);
        world.pass(MINUTE);
        world.decided(&run, "succeeded", &[text]);
    }
}

#[test]
fn one_that_goes_on_stopping_is_named_after_ten_minutes() {
    let mut world = World::new();
    let run = world.run(1);
    let stopping =
        world.tagged(&run, "a").at(world.at(0), Status::Running).at(world.at(MINUTE), Status::Stopping);
    world.testkube.add(stopping);
    world.check(&run, &SOON);
    world.pass(10 * MINUTE);
    assert_eq!(world.says(&run, "is still stopping"), 0, "{:?}", world.told(&run));
    world.pass(5 * MINUTE);
    assert_eq!(world.says(&run, "a-1 has been stopping since"), 1, "{:?}", world.told(&run));
    world.pass(10 * MINUTE);
    world.decided(&run, "inconclusive", &["Stopping for more than ten minutes: a-1", "API server restarted"]);
}

#[test]
fn a_child_that_names_a_parent_of_another_check_is_judged_alone() {
    let mut world = World::new();
    let (run, other) = (world.run(1), world.run(2));
    let parent = world.testkube.add(world.tagged(&other, "a").at(world.at(0), Status::Passed));
    world.testkube.add(world.tagged(&run, "a").at(world.at(0), Status::Passed));
    let actor = Actor {
        kind: "user".into(),
        name: "ada".into(),
        execution_id: Some(parent),
        execution_reference: None,
    };
    world.testkube.add(world.tagged(&run, "b").actor(actor).at(world.at(0), Status::Failed));
    world.check(&run, &SOON);
    world.pass(MINUTE);
    world.decided(&run, "failed", &["b-1 failed"]);
}
