//! The reason code at the end of a decision's line.

use super::*;

/// The code, the workflows' executions, and the request's headers.
type Case<'a> = (&'a str, &'a [(&'a str, Status)], &'a [(&'a str, &'a str)]);

#[test]
fn each_decision_names_its_code() {
    let cases: [Case<'_>; 7] = [
        ("failed", &[("a", Status::Failed), ("b", Status::Aborted)], &[("testrelay-expect", "a, b")]),
        ("aborted", &[("a", Status::Aborted)], &[("testrelay-expect", "a")]),
        (
            "missing",
            &[("a", Status::Passed)],
            &[("testrelay-expect", "a, b"), ("testrelay-appear-timeout", "1m")],
        ),
        ("none_appeared", &[], &[("testrelay-appear-timeout", "1m")]),
        ("timed_out", &[("a", Status::Running)], &[("testrelay-timeout", "1m"), ("testrelay-expect", "a")]),
        ("rejected_tag", &[], &[("testrelay-tag", "of-no-build")]),
        ("rejected_expect", &[], &[("testrelay-expect", "a*0")]),
    ];
    for (code, executions, asks) in cases {
        let mut world = World::new();
        let run = world.run(1);
        for (workflow, status) in executions {
            world.testkube.add(world.tagged(&run, workflow).at(world.at(0), status.clone()));
        }
        assert_eq!(world.check(&run, asks), 200, "{code}");
        world.pass(5 * MINUTE);
        assert_eq!(world.says(&run, &format!(" [{code}]")), 1, "{code}: {:#?}", world.told(&run));
    }
    let mut world = World::new();
    let run = world.passing(1);
    assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200);
    world.pass(MINUTE);
    assert_eq!((world.answered(&run).result.as_str(), world.says(&run, " [")), ("succeeded", 0));
}
