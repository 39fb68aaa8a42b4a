use super::*;
use crate::check::verdict::{Rules, assess};
use crate::config::Rerun;
use crate::expect::Expect;
use crate::tag::Tag;
use crate::time::Wall;
use crate::wire::testkube::{Actor, FailedStep};

fn execution(name: &str, status: &str) -> Execution {
    let (workflow, number) = name.rsplit_once('-').unwrap();
    let status = match status {
        "passed" => Status::Passed,
        "failed" => Status::Failed,
        other => Status::NotYet(other.into()),
    };
    Execution {
        id: format!("id-{name}"),
        name: name.into(),
        workflow: workflow.into(),
        number: number.parse().unwrap(),
        scheduled: Wall(100 + number.parse::<i64>().unwrap()),
        ended: !matches!(status, Status::NotYet(_)),
        finished: None,
        took: matches!(status, Status::Passed | Status::Failed).then_some(Duration::from_secs(252)),
        status,
        tags: BTreeMap::from([("ado-run".into(), "x-1".into())]),
        actor: Actor::default(),
        began: true,
        stopping_since: None,
        message: None,
        steps: Steps::default(),
        reports: None,
    }
}

fn see(scene: &mut Scene, executions: &[Execution], expect: &str) {
    let tag = Tag { key: "ado-run".into(), value: "x-1".into() };
    let read = assess(
        executions,
        &Rules { expect: &Expect::parse(expect).unwrap(), ..Rules::of_tag(&tag, Wall(100), Rerun::Latest) },
    );
    scene.read(&read, Wall(0));
}

/// The lines of the log when the executions change from `first` to `then`.
fn after<'a>(first: impl Into<Option<&'a Execution>>, then: impl Into<Option<&'a Execution>>) -> Vec<String> {
    let one = |execution: Option<&Execution>| execution.into_iter().cloned().collect::<Vec<_>>();
    changes(&one(first.into()), &one(then.into()))
}

fn changes(first: &[Execution], then: &[Execution]) -> Vec<String> {
    let mut scene = Scene::default();
    see(&mut scene, first, "");
    let said = scene.clone();
    see(&mut scene, then, "");
    scene.lines(&said, None).into_iter().map(|(_, text)| text).collect()
}

fn running(name: &str, done: u32, current: &str) -> Execution {
    Execution {
        steps: Steps { total: 7, done, current: Some(current.into()), failed: Vec::new() },
        ..execution(name, "running")
    }
}

#[test]
fn an_execution_is_introduced_once_and_then_only_its_changes_are_told() {
    let (queued, runs) = (execution("e2e-17", "queued"), execution("e2e-17", "running"));
    assert_eq!(after(None, &queued), ["e2e-17 (workflow e2e): queued"]);
    assert_eq!(after(&queued, &runs), ["e2e-17: queued → running"]);
    assert_eq!(after(&runs, &runs), [""; 0]);
    assert_eq!(after(&runs, &execution("e2e-17", "passed")), ["e2e-17 passed after 4m 12s"]);
}

#[test]
fn steps_are_told_when_one_has_moved() {
    let mut scene = Scene::default();
    see(&mut scene, &[execution("e2e-17", "running")], "e2e");
    let said = scene.clone();
    scene.look(&running("e2e-17", 3, "Run tests › Unit"));
    assert_eq!(
        scene.lines(&said, None),
        [(Mark::Plain, "e2e-17: 3 of 7 steps, now: Run tests › Unit".to_string())]
    );
    assert_eq!((scene.percent(), scene.is_news(&said)), (42, false));
    assert_eq!(scene.operation(), "0 of 1 executions ended; e2e-17: Run tests › Unit");
    let said = scene.clone();
    see(&mut scene, &[execution("e2e-17", "running")], "e2e");
    assert!(scene.lines(&said, None).is_empty(), "a list knows no steps, and does not take them away");
}

#[test]
fn a_failure_names_its_step_in_red() {
    let mut scene = Scene::default();
    see(&mut scene, &[execution("e2e-17", "failed")], "");
    assert_eq!(scene.next_look("").as_deref(), Some("id-e2e-17"), "what failed is looked at");
    let mut failed = execution("e2e-17", "failed");
    failed.steps.failed.push(FailedStep {
        path: "Unit".into(),
        status: "failed".into(),
        exit_code: Some(2),
        message: "1 of 9".into(),
        optional: false,
    });
    scene.look(&failed);
    assert_eq!(scene.next_look(""), None);
    let why = "step Unit failed (exit code 2): 1 of 9";
    assert_eq!(scene.failures(), [format!("e2e-17 failed after 4m 12s: {why}")]);
    let end = (Mark::Error, format!("e2e-17 failed after 4m 12s: {why}"));
    let introduced = (Mark::Plain, "e2e-17 (workflow e2e): failed".to_string());
    assert_eq!(scene.lines(&Scene::default(), None), [introduced, end]);
    let mut said = Scene::default();
    see(&mut said, &[execution("e2e-17", "failed")], "");
    assert_eq!(scene.lines(&said, None), [(Mark::Error, format!("e2e-17: {why}"))], "found out later");
}

#[test]
fn what_is_not_counted_is_told_once_with_its_reason() {
    let old = Execution { scheduled: Wall(1), ..execution("e2e-3", "passed") };
    assert_eq!(after(None, &old), ["not counted: e2e-3 (older than this run)"]);
    assert!(after(&old, &old).is_empty());
    let many: Vec<Execution> = (1..=40)
        .map(|n| Execution { scheduled: Wall(1), ..execution(&format!("e2e-{n}"), "passed") })
        .collect();
    let lines = changes(&[], &many);
    assert_eq!(lines.len(), 11);
    assert_eq!(lines.last().unwrap(), "not counted: 30 more executions with the tag");
}

#[test]
fn progress_is_never_whole_before_the_decision() {
    let mut scene = Scene::default();
    assert_eq!((scene.percent(), scene.operation().as_str()), (0, "waiting for the first execution"));
    see(&mut scene, &[execution("e2e-17", "passed")], "e2e, api");
    assert_eq!(
        (scene.percent(), scene.operation().as_str()),
        (50, "1 of 1 executions ended; waiting for api")
    );
    see(&mut scene, &[execution("e2e-17", "passed")], "e2e");
    assert_eq!(scene.percent(), 99);
}

#[test]
fn running_executions_are_looked_at_in_turn() {
    let mut scene = Scene::default();
    let all = [execution("a-1", "running"), execution("b-2", "queued"), execution("c-3", "running")];
    see(&mut scene, &all, "");
    let mut last = String::new();
    let mut looks = Vec::new();
    for _ in 0..4 {
        last = scene.next_look(&last).unwrap();
        looks.push(last.clone());
    }
    assert_eq!(looks, ["id-a-1", "id-c-3", "id-a-1", "id-c-3"]);
}

#[test]
fn the_table_puts_what_failed_first() {
    let mut scene = Scene::default();
    see(&mut scene, &[execution("api-2", "passed"), execution("e2e-17", "failed")], "");
    assert_eq!(
        scene.table(None),
        [
            "  execution  status      duration",
            "  e2e-17     failed      4m 12s",
            "  api-2      passed      4m 12s"
        ]
    );
}

#[test]
fn advice_comes_once_after_2_10_and_20_minutes() {
    let at = |minutes: u64, given| advice(Duration::from_secs(minutes * 60), given).map(|(n, _)| n);
    assert_eq!(
        [at(1, 0), at(2, 0), at(2, 1), at(10, 1), at(10, 2), at(20, 2), at(60, 3)],
        [None, Some(1), None, Some(2), None, Some(3), None]
    );
}

#[test]
fn names_from_outside_cannot_break_a_line_or_forge_a_command() {
    let evil = execution("##[error]x\n-1", "queued");
    let lines = after(None, &evil);
    assert_eq!(lines, ["# #[error]x·-1 (workflow # #[error]x·): queued"]);
}
