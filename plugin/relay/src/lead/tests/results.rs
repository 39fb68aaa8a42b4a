//! The results of tests: one call at a time in the process, which takes the place of no other; and whatever a report holds,
//! the verdict and the time of the event stay what they were.

use super::world::{Run, START};
use super::*;
use crate::check::{self, Room, Space, State};
use crate::lead::calls::{self, Calls, Purpose};
use crate::time::Now;
use crate::wire::azure::Callback;
use crate::wire::call::CallOutcome;
use fakes::Execution;

/// The end of all executions, after the world began.
const END: i64 = 30 * SECOND;

/// Maximum time from the end of an execution to its event without results: a poll, the confirmation, two calls to Azure
/// DevOps, a tick.
const USUAL: i64 = 5 * SECOND;

fn ending(world: &World, run: &Run, end: Status) -> Execution {
    world.tagged(run, "e2e").at(world.at(0), Status::Running).at(world.at(END), end)
}

fn report(inside: &str) -> String {
    format!("<testsuites><testsuite name='s'>{inside}</testsuite></testsuites>")
}

fn one_failed() -> String {
    report("<testcase classname='Cart' name='adds'><failure message='want 2'/></testcase>")
}

impl World {
    /// Runs whose only execution ends so, with this report among its artifacts.
    fn crowd(&mut self, runs: impl IntoIterator<Item = (u32, Status)>, body: &[u8]) -> Vec<Run> {
        let crowd = runs.into_iter().map(|(n, end)| {
            let run = self.run(n);
            let execution = ending(self, &run, end).artifact("results/junit.xml", body);
            self.testkube.add(execution);
            assert_eq!(self.check(&run, &[("testrelay-expect", "e2e")]), 200);
            run
        });
        crowd.collect()
    }

    /// Lets time pass in short pieces. Returns the maximum number of calls for results under way at once.
    fn watch(&mut self, ms: i64) -> usize {
        (0..ms / 20).fold(0, |most, _| {
            self.pass(20);
            most.max(self.results_under_way())
        })
    }
}

#[test]
fn one_call_is_under_way_in_the_process_and_no_event_waits_for_more_than_five_seconds() {
    let mut world = World::roomy();
    world.testkube.fault(Route::Artifact, Span::UntilCleared, Fault::Slow { millis: 1_800 });
    let passes = |n: u32| n.is_multiple_of(3);
    let end = |n| (n, if passes(n) { Status::Passed } else { Status::Failed });
    let runs = world.crowd((1..=30).map(end), one_failed().as_bytes());
    assert_eq!(world.watch(3 * MINUTE), 1);
    for run in &runs {
        let answered = world.answered(run);
        assert_eq!(answered.result, if passes(run.n) { "succeeded" } else { "failed" });
        let most = if passes(run.n) { SECOND } else { 5 * SECOND };
        assert!(answered.after < END + USUAL + most, "{answered:?}");
    }
    let named = runs.iter().filter(|run| world.answered(run).log.contains("Cart › adds: want 2"));
    let named = named.count();
    assert!((3..30).contains(&named), "{named} checks have names: within a minute there is no time for all");
    assert!(world.nothing_pending());
}

#[test]
fn names_that_come_after_the_event_are_told_once_and_end_the_check() {
    let mut world = World::new();
    world.testkube.fault(Route::Artifact, Span::UntilCleared, Fault::Slow { millis: 4_000 });
    let runs = world.crowd([(1, Status::Failed)], one_failed().as_bytes());
    world.pass(2 * MINUTE);
    let log = world.answered(&runs[0]).log;
    let (decision, name) =
        (log.find("Testrelay: failed.").unwrap(), log.find("Cart › adds: want 2").unwrap());
    assert!(decision < name, "{log}");
    assert_eq!(log.matches("Cart › adds").count(), 1, "{log}");
    assert!(world.nothing_pending());
    assert_eq!(world.events_sent(), 1);
}

#[test]
fn polls_and_looks_go_on_while_a_file_is_slow() {
    let lists = |fault: Option<Fault>| {
        let mut world = World::new();
        if let Some(fault) = fault {
            world.testkube.fault(Route::Artifact, Span::UntilCleared, fault);
        }
        let run = world.run(1);
        let execution = ending(&world, &run, Status::Failed).artifact("junit.xml", one_failed());
        world.testkube.add(execution);
        world.testkube.add(world.tagged(&run, "long").at(world.at(0), Status::Running));
        world.check(&run, &[("testrelay-expect", "e2e, long")]);
        world.pass(3 * MINUTE);
        world.lists()
    };
    let usual = lists(None);
    for fault in [Fault::Slow { millis: 4_900 }, Fault::Reset, Fault::Status(500), Fault::StorageAway] {
        assert!(lists(Some(fault.clone())).abs_diff(usual) <= 2, "{fault:?}: {usual}");
    }
}

/// Reports that are made to cost something, to stop something or to say something else.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let large = |part: &str| part.repeat((2 << 20) / part.len() - 40);
    let laughs: String =
        (1..10).map(|i| format!("<!ENTITY l{i} '{}'>", format!("&l{};", i - 1).repeat(10))).collect();
    vec![
        ("tests", report(&large("<testcase name='t'><failure message='m'/></testcase>")).into()),
        ("depth", report(&large("<testsuite>")).into()),
        (
            "laughs",
            format!("<!DOCTYPE x [<!ENTITY l0 'lol'>{laughs}]>{}", report("<testcase name='&l9;'/>")).into(),
        ),
        ("name", report(&format!("<testcase name='{}'><failure/></testcase>", large("##vso[x]"))).into()),
        ("text", report(&format!("<testcase name='t'><failure>{}</failure></testcase>", large("é"))).into()),
        ("cut", format!("<testsuite>{}", large("<a b='")).into()),
        ("quotes", format!("<testsuite><testcase {}", large("'\"")).into()),
        ("bytes", [b"<testsuite>".to_vec(), vec![0xff; 1 << 20]].concat()),
        ("utf-16", [vec![0xff, 0xfe, b'<', 0], vec![0xd8; 2 << 20]].concat()),
        ("passes", report("<testcase name='t'/>").into()),
        ("fails", one_failed().into()),
        ("too large", vec![b' '; (2 << 20) + 1]),
        ("empty", Vec::new()),
    ]
}

#[test]
fn no_report_whatever_it_holds_changes_a_verdict_or_delays_it() {
    for (what, body) in hostile() {
        for end in [Status::Passed, Status::Failed] {
            let mut world = World::new();
            let runs = world.crowd([(1, end.clone())], &body);
            world.pass(2 * MINUTE);
            let answered = world.answered(&runs[0]);
            assert_eq!(answered.result == "succeeded", end == Status::Passed, "{what}");
            assert!(answered.after < END + USUAL, "{what}: {answered:?}");
            let lines: Vec<&str> =
                answered.log.lines().filter_map(|line| line.split_once("Z ")).map(|(_, text)| text).collect();
            assert!(lines.len() < 30, "{what}: {} lines", lines.len());
            for line in lines {
                let marked = ["##[error]", "##[section]", "##[warning]"]
                    .iter()
                    .find_map(|mark| line.strip_prefix(mark));
                assert!(!marked.unwrap_or(line).contains("##"), "{what}: {line}");
            }
            assert!(world.nothing_pending(), "{what}");
        }
    }
}

#[test]
fn the_next_leader_reads_again_what_the_fallen_one_has_not_told() {
    let mut world = World::new();
    let run = world.run(1);
    world.testkube.fault(Route::Artifact, Span::UntilCleared, Fault::Slow { millis: 4_000 });
    let execution = ending(&world, &run, Status::Failed).artifact("junit.xml", one_failed());
    world.testkube.add(execution);
    world.testkube.add(
        world.tagged(&run, "api").at(world.at(0), Status::Running).at(world.at(3 * MINUTE), Status::Passed),
    );
    world.check(&run, &[("testrelay-expect", "e2e, api")]);
    world.pass(END + 4 * SECOND);
    assert_eq!(world.results_under_way(), 1);
    world.crash_leader();
    world.pass(6 * MINUTE);
    let log = world.answered(&run).log;
    assert_eq!(log.matches("Cart › adds: want 2").count(), 1, "{log}");
    assert!(log.contains("Failed tests: Cart › adds. [failed]"), "{log}");
}

/// The report of each producer, read through the whole of the leader: what the log says is what the reader found.
#[test]
fn the_reports_of_all_producers_are_told() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../host-tests/fakes/fixtures/junit");
    let mut told = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "xml") {
            continue;
        }
        let body = std::fs::read(&path).unwrap();
        let mut world = World::new();
        let runs = world.crowd([(1, Status::Failed)], &body);
        world.pass(2 * MINUTE);
        let log = world.answered(&runs[0]).log;
        let found = crate::wire::junit::read(&body).unwrap();
        let line = format!("e2e-1: {} test", found.counts.tests);
        assert!(log.contains(&line), "{}: {line}\n{log}", path.display());
        for failure in &found.failures {
            assert!(log.contains(failure.name.as_str()), "{}: {failure:?}\n{log}", path.display());
        }
        told += 1;
    }
    assert!(told >= 12, "{told}");
}

#[test]
fn checks_that_have_ended_and_waited_for_room_delay_no_event() {
    let after = |ended: u32| {
        const OFF: &str = r#""insecure_no_auth": true, "checks": {"test_results": {"files": 0}}"#;
        let mut world = World::configured(OFF);
        let runs = world.crowd((1..=20).map(|n| (n, Status::Passed)), b"");
        world.pass(END - SECOND);
        world.queue_for_results((0..ended).map(|n| Run::new(100_000 + n)));
        world.pass(MINUTE);
        assert!(world.nothing_pending());
        runs.iter().map(|run| world.answered(run).after).max()
    };
    assert_eq!(after(5_000), after(0));
}

#[test]
fn those_that_wait_behind_checks_that_have_ended_have_their_turn() {
    let mut world = World::new();
    let runs = world.crowd([(1, Status::Failed)], one_failed().as_bytes());
    world.pass(END - SECOND);
    world.queue_for_results((0..500).map(|n| Run::new(100_000 + n)));
    world.pass(2 * MINUTE);
    let log = world.answered(&runs[0]).log;
    let (name, decision) =
        (log.find("Cart › adds: want 2").unwrap(), log.find("Testrelay: failed.").unwrap());
    assert!(name < decision, "{log}");
}

#[test]
fn a_call_of_one_organisation_keeps_those_of_all_others_waiting_and_no_call_of_another_kind() {
    let callback = |n: u32, entry: &str| match check::tests::record(n).state {
        State::Pending(pending) => Callback { entry: entry.into(), ..pending.callback },
        State::Done(_) => unreachable!(),
    };
    let (own, other) = (callback(1, "https://dev.azure.com/a"), callback(2, "https://dev.azure.com/b"));
    let now = Now { mono: Mono(1_000), wall: crate::time::Wall(START) };
    let mut calls = Calls::default();
    let config = crate::config::Config::parse(
        br#"{"testkube": {"cluster": "t"}, "insecure_no_auth": true, "azure_devops": [{"url": "https://dev.azure.com/a", "cluster": "a"}]}"#,
        &|_| None,
    );
    let request = crate::wire::testkube::list_artifacts(&config.unwrap().testkube, "1");
    calls.tick();
    let id = calls.take_name();
    let purpose = Purpose::Results(check::CheckKey::of(&own));
    calls.begin(now, id, &request, purpose, Some((Room::Results, calls::lane(&own))));
    for callback in [&own, &other] {
        assert_eq!(calls.space(now.mono, Room::Results, callback), Space::Full);
        for room in [Room::Azure, Room::Telling, Room::Confirm, Room::Steps] {
            assert_eq!(calls.space(now.mono, room, callback), Space::Free, "{room:?}");
        }
    }
    calls.enqueue(Room::Results, calls::lane(&other), check::CheckKey::of(&other));
    assert_eq!(calls.next_in(now.mono, Room::Results), None);
    calls.end(now, id, &CallOutcome::Failed(crate::wire::call::Fault::Lost));
    assert_eq!(calls.next_queued(now.mono), None);
    assert_eq!(calls.next_in(now.mono, Room::Results), Some(check::CheckKey::of(&other)));
}
