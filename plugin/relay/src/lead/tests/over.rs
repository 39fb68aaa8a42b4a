//! Runs that end before their check is decided, and checks that come again afterwards.

use super::world::Run;
use super::*;

const CANCELS: &str = r#""insecure_no_auth": true, "checks": {"on_open_gate": "cancel_build"}"#;

/// A check that Azure DevOps does not wait for.
fn open_gate(world: &mut World) -> Run {
    let run = world.run(1);
    world.testkube.add(world.tagged(&run, "a").at(world.at(0), Status::Running));
    world.check(&run, &[("testrelay-expect", "a")]);
    world.azure.end_plan(&run.spec().plan, world.wall(), "succeeded");
    run
}

fn log(world: &World, run: &Run) -> String {
    world.azure.log_lines(&run.spec().plan).join("\n")
}

fn cancellations(world: &World) -> usize {
    world.azure.requests().iter().filter(|r| r.request.method == "PATCH" && is_build(r)).count()
}

fn is_build(recorded: &fakes::Recorded) -> bool {
    recorded.request.path().contains("/_apis/build/builds/")
}

#[test]
fn an_open_gate_cancels_the_build_where_the_configuration_says_so() {
    let mut world = World::configured(CANCELS);
    let run = open_gate(&mut world);
    world.pass(MINUTE);
    let log = log(&world, &run);
    assert!(log.contains("Set `Completion event` to `Callback`"), "{log}");
    assert!(log.contains("Build 4001 is being cancelled"), "{log}");
    assert!(world.azure.is_cancelled(&run.spec().project, 4_001, world.wall()));
    assert_eq!((cancellations(&world), world.events_sent()), (1, 0));
    assert!(world.nothing_pending());
}

#[test]
fn an_open_gate_cancels_nothing_by_default() {
    let mut world = World::new();
    open_gate(&mut world);
    world.pass(MINUTE);
    assert_eq!(cancellations(&world), 0);
    assert!(world.nothing_pending());
}

#[test]
fn a_build_that_this_token_may_not_cancel_is_told_with_the_permission_that_lacks() {
    for (status, tries, says) in [(403, 1, "needs the permission `Stop builds`"), (503, 3, "(HTTP 503)")] {
        let mut world = World::configured(CANCELS);
        let run = open_gate(&mut world);
        let fault = AzureFault::Status { status, retry_after: None };
        world.azure.fault(AzureRoute::CancelBuild, Span::UntilCleared, fault);
        world.pass(2 * MINUTE);
        let log = log(&world, &run);
        assert!(log.contains("Build 4001 could not be cancelled") && log.contains(says), "{log}");
        assert_eq!(cancellations(&world), tries);
        assert!(world.nothing_pending());
    }
}

#[test]
fn a_check_that_is_evaluated_again_after_its_decision_says_how_to_end_that() {
    let mut world = World::new();
    let mut run = world.run(1);
    world.testkube.add(world.tagged(&run, "a").at(world.at(0), Status::Failed));
    world.check(&run, &[("testrelay-expect", "a")]);
    world.pass(MINUTE);
    assert_eq!(world.answered(&run).result, "failed");
    assert!(!log(&world, &run).contains("Time between evaluations"));
    run.token.push('x');
    world.azure.start_check(world.wall(), run.spec());
    assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200);
    world.pass(MINUTE);
    let log = log(&world, &run);
    assert_eq!(world.events_sent(), 2);
    assert_eq!(
        log.matches("has sent this check again, although `failed` was reported at").count(),
        1,
        "{log}"
    );
    assert!(log.contains("`Time between evaluations` is not 0"), "{log}");
}

#[test]
fn a_check_that_is_rejected_again_and_again_says_so_too() {
    let mut world = World::new();
    let mut run = world.run(1);
    for n in 0..3 {
        assert_eq!(world.check(&run, &[("testrelay-tag", "no-build")]), 200);
        world.pass(MINUTE);
        let said = log(&world, &run).matches("`failed (rejected)` was reported at").count();
        assert_eq!((world.events_sent(), said), (n + 1, n));
        run.token.push('x');
        world.azure.start_check(world.wall(), run.spec());
    }
}

/// A credential that may abort, if the configuration allows it.
const ABORTS: &str = r#""checks": {"abort_on_cancel": true}, "credentials":
    [{"name": "p", "kind": "bearer", "secret_env": "S", "allow": ["checks"], "abort_on_cancel": true}]"#;

/// A check with one running and one passed execution, read before the run ends.
fn running(world: &mut World, n: u32) -> Run {
    let run = world.run(n);
    world.testkube.add(world.tagged(&run, "a").at(world.at(0), Status::Running));
    world.testkube.add(world.tagged(&run, "b").at(world.at(0), Status::Passed));
    assert_eq!(world.check(&run, &[("testrelay-expect", "a, b")]), 200);
    world.pass(30 * SECOND);
    run
}

fn cancel(world: &mut World, run: &Run) {
    let spec = run.spec();
    let build = fakes::Build::new(&spec.project, spec.build.unwrap()).started_at(world.at(-10 * MINUTE));
    world.azure.add_build(build.status_at(world.wall(), "cancelling"));
}

fn aborts(world: &World) -> Vec<String> {
    let all = world.testkube.requests().iter().filter(|r| r.request.method == "POST");
    all.map(|r| r.request.path().to_string()).collect()
}

#[test]
fn what_still_runs_for_a_cancelled_run_is_aborted_where_both_sides_allow_it() {
    let mut world = World::configured(ABORTS);
    let run = running(&mut world, 1);
    cancel(&mut world, &run);
    // Its record is completed too, and may be seen first.
    world.azure.end_plan(&run.spec().plan, world.wall(), "canceled");
    world.pass(3 * MINUTE);
    let log = log(&world, &run);
    assert!(
        log.contains("Build 4001 is cancelling. Testrelay aborts its executions that still run: a-1."),
        "{log}"
    );
    assert_eq!(aborts(&world).len(), 1, "{:?}", aborts(&world));
    let ended = world.testkube.truth("ado-run", &run.tag, world.wall());
    assert!(ended.iter().all(|execution| execution.finished), "{ended:?}");
    assert_eq!((world.counted(crate::Counter::Aborted), world.events_sent()), (1, 0));
    assert!(world.nothing_pending());
}

#[test]
fn nothing_is_aborted_by_default_or_where_one_side_does_not_allow_it() {
    const ONE: &str = r#""credentials":
        [{"name": "p", "kind": "bearer", "secret_env": "S", "allow": ["checks"], "abort_on_cancel": true}]"#;
    const OTHER: &str = r#""checks": {"abort_on_cancel": true}, "credentials":
        [{"name": "p", "kind": "bearer", "secret_env": "S", "allow": ["checks"]}]"#;
    const NOBODYS: &str = r#""checks": {"abort_on_cancel": true}, "insecure_no_auth": true"#;
    for more in [ONE, OTHER, NOBODYS] {
        let mut world = World::configured(more);
        let run = running(&mut world, 1);
        cancel(&mut world, &run);
        world.pass(3 * MINUTE);
        assert!(log(&world, &run).contains("Build 4001 is cancelling."));
        assert_eq!(aborts(&world), Vec::<String>::new());
    }
}

#[test]
fn a_check_that_is_over_while_its_build_goes_on_aborts_nothing() {
    let mut world = World::configured(ABORTS);
    let (bypassed, unreadable) = (running(&mut world, 1), running(&mut world, 2));
    world.azure.end_plan(&bypassed.spec().plan, world.wall(), "succeeded");
    world.pass(3 * MINUTE);
    let fault = AzureFault::Status { status: 403, retry_after: None };
    world.azure.fault(AzureRoute::Build, Span::UntilCleared, fault);
    world.azure.end_plan(&unreadable.spec().plan, world.wall(), "canceled");
    world.pass(5 * MINUTE);
    assert_eq!(aborts(&world), Vec::<String>::new());
    for run in [&bypassed, &unreadable] {
        assert!(log(&world, run).contains("has completed this check itself"));
    }
    assert!(world.nothing_pending());
}

#[test]
fn nothing_is_aborted_for_which_another_check_waits() {
    let mut world = World::configured(ABORTS);
    let run = running(&mut world, 1);
    // Another stage of the same run, and of the same tag.
    let mut other = world.run(2);
    other.tag.clone_from(&run.tag);
    assert_eq!(world.check(&other, &[("testrelay-expect", "a, b"), ("buildid", "4001")]), 200);
    world.pass(30 * SECOND);
    cancel(&mut world, &run);
    world.pass(61 * SECOND + 3 * MINUTE);
    let logs = format!("{}{}", log(&world, &run), log(&world, &other));
    assert!(logs.contains("Its executions go on, because another check waits for them."), "{logs}");
    // Only the last of the two aborts.
    assert_eq!(aborts(&world).len(), 1);
    assert!(world.nothing_pending());
}

#[test]
fn an_abort_that_testkube_does_not_take_is_tried_again_for_a_quarter_of_an_hour() {
    let mut world = World::configured(ABORTS);
    let run = running(&mut world, 1);
    world.testkube.fault(Route::Abort, Span::UntilCleared, Fault::Status(502));
    cancel(&mut world, &run);
    world.pass(20 * MINUTE);
    assert_eq!(aborts(&world).len(), 13);
    assert!(world.nothing_pending() && world.counted(crate::Counter::Aborted) == 0);
}

#[test]
fn a_check_that_comes_for_the_same_tag_ends_the_aborts() {
    let mut world = World::configured(ABORTS);
    let run = world.run(1);
    // Testkube takes the abort of this one, but it stays queued.
    world.testkube.add(world.tagged(&run, "a").at(world.at(0), Status::Queued));
    assert_eq!(world.check(&run, &[("testrelay-expect", "a")]), 200);
    world.pass(30 * SECOND);
    cancel(&mut world, &run);
    world.pass(2 * MINUTE);
    let asked = aborts(&world).len();
    assert!(asked >= 2 && world.nothing_pending(), "{asked}");
    // Its stage is run again.
    let spec = run.spec();
    world.azure.add_build(fakes::Build::new(&spec.project, 4001).started_at(world.at(-10 * MINUTE)));
    let mut again = world.run(2);
    again.tag.clone_from(&run.tag);
    assert_eq!(world.check(&again, &[("testrelay-expect", "a"), ("buildid", "4001")]), 200);
    world.pass(3 * SECOND);
    let asked = aborts(&world).len();
    world.pass(10 * MINUTE);
    assert_eq!(aborts(&world).len(), asked);
}

#[test]
fn an_open_gate_is_found_although_many_checks_have_just_ended() {
    let mut world = World::configured(
        r#""insecure_no_auth": true, "checks": {"on_open_gate": "cancel_build", "max_pending_per_project": 8192}"#,
    );
    // 800 checks whose executions have passed settle for a minute, and are decided.
    for n in 1_001..=1_800 {
        let run = world.passing(n);
        assert_eq!(world.check(&run, &[]), 200);
    }
    world.pass(2 * MINUTE);
    assert!(world.nothing_pending());
    // Then a single check with an open gate: its execution runs for a minute, and fails.
    let run = world.run(1);
    let now = world.wall();
    let execution = world.tagged(&run, "a").at(now, Status::Running);
    world.testkube.add(execution.at(now + MINUTE, Status::Failed));
    world.check(&run, &[("testrelay-expect", "a")]);
    world.azure.end_plan(&run.spec().plan, world.wall(), "succeeded");
    world.pass(2 * MINUTE);
    let log = log(&world, &run);
    assert_eq!(cancellations(&world), 1, "the build of an open gate went on: {log}");
}
