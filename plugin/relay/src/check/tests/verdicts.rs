//! The table of `envoy/verdicts.md`: each row is judged, and must come out as the page says. `TESTRELAY_ACCEPT=1` writes the
//! results into the page.

use super::deliveries::first;
use crate::check::verdict::{Facts, Judgement, Rules, assess, judge};
use crate::check::{Ask, Policies, Watch, policies};
use crate::config::{Policy, Rerun};
use crate::expect::Expect;
use crate::tag::Tag;
use crate::time::{Mono, Now, Wall, in_words, parse_duration};
use crate::wire::testkube::{Actor, Execution, Status, Steps};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../envoy/verdicts.md");
const HEAD: &str = "| executions with the tag | the check asks for | when | decision | reason |";
/// The check arrives half an hour after its run has begun, and is judged two hours later.
const RUN: &str = "2026-01-23T12:00:00Z";
const ARRIVED: &str = "2026-01-23T12:30:00Z";
const NOW: Now = Now { mono: Mono(3 * 3_600_000), wall: Wall(1_769_178_600_000) };

fn tag() -> Tag {
    Tag { key: "ado-run".into(), value: "shop-4711".into() }
}

/// `e2e-2 failed at 12:10 (repeats e2e-1)` or `e2e-1 failed (asked again, refused: gone)`, of the workflow `e2e`. Without a time it was scheduled `at` minutes after the run's
/// beginning; a date may stand before the time.
fn execution(text: &str, at: i64) -> Execution {
    let (text, link) = text.split_once(" (").unwrap_or((text, ""));
    let (text, time) = text.split_once(" at ").unwrap_or((text, ""));
    let (name, status) = text.split_once(' ').unwrap();
    let (workflow, number) = name.rsplit_once('-').unwrap();
    let status = match status {
        "passed" => Status::Passed,
        "failed" => Status::Failed,
        "aborted" => Status::Aborted,
        "canceled" => Status::Canceled,
        other => Status::NotYet(other.into()),
    };
    let scheduled = match time.split_once(' ') {
        _ if time.is_empty() => {
            Wall::parse(RUN).unwrap().plus(Duration::from_secs(60 * u64::try_from(at).unwrap()))
        }
        Some((day, time)) => Wall::parse(&format!("2026-01-{day}T{time}:00Z")).unwrap(),
        None => Wall::parse(&format!("2026-01-23T{time}:00Z")).unwrap(),
    };
    let link = link.trim_end_matches(')');
    let link = link.strip_prefix("asked again, ").unwrap_or(link);
    let mut actor = Actor { kind: "user".into(), ..Actor::default() };
    if let Some(first) = link.strip_prefix("repeats ") {
        actor.reference = format!("id-{first}");
    }
    if let Some(parent) = link.strip_prefix("child of ") {
        (actor.kind, actor.is_child) = ("testworkflow".into(), true);
        actor.ancestors = vec![format!("id-{parent}")];
    }
    let ended = !matches!(status, Status::NotYet(_));
    Execution {
        id: format!("id-{name}"),
        name: name.into(),
        workflow: workflow.into(),
        number: number.parse().unwrap(),
        scheduled,
        ended,
        finished: ended.then(|| scheduled.plus(Duration::from_secs(30))),
        status,
        tags: BTreeMap::from([(tag().key, tag().value)]),
        actor,
        began: true,
        stopping_since: None,
        message: None,
        took: None,
        steps: Steps::default(),
        reports: None,
    }
}

/// What a row's second column asks for, and where the lower bound comes from.
fn ask(text: &str) -> (Ask, Watch) {
    let mut ask = Ask {
        tag: tag(),
        expect: Expect::Any,
        settle: Duration::ZERO,
        timeout: Duration::from_secs(12 * 3_600),
        appear_timeout: Duration::from_secs(1_800),
        since_stage: None,
        rerun: Rerun::Latest,
        policies: Policies::default(),
        given: None,
    };
    let mut attempt = None;
    let (mut settle, mut bound) = (None, (RUN.to_owned(), "start of the build".to_owned()));
    for part in text.split("; ").filter(|part| *part != "nothing") {
        let (what, value) = part.split_once(' ').unwrap();
        let time = || parse_duration(value).unwrap();
        match what {
            "expect" => ask.expect = Expect::parse(value).unwrap(),
            "settle" => settle = Some(time()),
            "rerun" => ask.rerun = Rerun::parse(value).unwrap(),
            "optional" => ask.policies.optional = policies::read_optional(value).unwrap(),
            "grace" => ask.policies.grace = time(),
            "retry" => ask.policies.retry = value.parse().unwrap(),
            "max_age" => ask.policies.max_age = Some(time()),
            "tests_build" => {
                ask.policies.tests_build = Some(value.parse().unwrap());
                bound.1 = format!("start of build {value}");
            }
            "stage" => {
                ask.since_stage = Some(value.into());
                bound.1 = format!("start of stage `{value}`, attempt 1");
            }
            "rerun_jobs" => {
                let (stage, time) = value.split_once(" at ").unwrap();
                ask.since_stage = Some(stage.into());
                bound.1 =
                    format!("start of the jobs of stage `{stage}` that did not run again in its attempt 2");
                attempt = Some(Wall::parse(&format!("2026-01-23T{time}:00Z")).unwrap());
            }
            "run" => bound.0 = format!("2026-01-{}T12:00:00Z", value.strip_prefix("of the ").unwrap()),
            other => panic!("{other}"),
        }
    }
    ask.settle = settle.unwrap_or_else(|| ask.expect.default_settle());
    let (bound, bound_from) = (Wall::parse(&bound.0).unwrap(), bound.1);
    (
        ask,
        Watch {
            bound,
            bound_from,
            attempt,
            fixed: None,
            seen: None,
            absent: Duration::ZERO,
            retries: crate::check::Retries::default(),
        },
    )
}

/// The decision and the reason of a row.
fn judged(executions: &str, asks: &str, when: &str) -> (String, String) {
    let all: Vec<Execution> = executions
        .split("; ")
        .filter(|text| *text != "none")
        .zip(1..)
        .map(|(text, at)| execution(text, at))
        .collect();
    let (mut ask, mut watch) = ask(asks);
    for name in executions.split("; ").filter_map(|text| text.split_once(" (asked again")) {
        let (id, _) = name.0.split_once(' ').unwrap();
        let why = name.1.trim_end_matches(')').strip_prefix(", refused: ");
        watch.retries.note(&format!("id-{id}"), 0);
        if let Some(why) = why {
            watch.retries.explain(&format!("id-{id}"), true, why.into());
        }
    }
    let arrived = Now { mono: Mono(NOW.mono.0 - 2 * 3_600_000), wall: Wall::parse(ARRIVED).unwrap() };
    let zero = Duration::ZERO;
    let mut facts =
        Facts { now: NOW, since: NOW.mono, absent: zero, waited: zero, looked: zero, is_last: false };
    let ago =
        |text: &str| Mono(NOW.mono.0 - u64::try_from(parse_duration(text).unwrap().as_millis()).unwrap());
    match when.split_once(' ') {
        Some(("unchanged", time)) => facts.since = ago(time),
        Some(("absent", time)) => facts.absent = parse_duration(time).unwrap(),
        Some((deadline @ ("timeout," | "token,"), unchanged)) => {
            facts.since = ago(unchanged.strip_prefix("unchanged ").unwrap());
            facts.is_last = true;
            if deadline == "timeout," {
                ask.timeout = Duration::from_secs(2 * 3_600);
            }
        }
        _ => panic!("{when}"),
    }
    facts.waited = NOW.mono.since(facts.since);
    facts.looked = facts.waited;
    let mut pending = first(ask.clone(), arrived);
    (pending.token_end, pending.decide_by) = (Mono(NOW.mono.0 + 1_800_000), Mono(NOW.mono.0 + 1_200_000));
    let read = assess(&all, &Rules::of_check(&ask, &watch, arrived.wall, Duration::ZERO));
    match judge(&pending, &ask, &watch, &read, &facts) {
        Judgement::Wait(None) => ("waits".into(), String::new()),
        Judgement::Wait(Some(until)) => {
            ("waits".into(), format!("must stay unchanged for {} more", in_words(until.since(NOW.mono))))
        }
        Judgement::Rerun(wishes) => {
            let names: Vec<&str> = wishes.iter().map(|wish| wish.name.as_str()).collect();
            ("waits".into(), format!("asks Testkube to run {} again", names.join(", ")))
        }
        Judgement::Grace(until) => {
            ("waits".into(), format!("for a re-run, {} more", in_words(until.since(NOW.mono))))
        }
        Judgement::Ended(code, reason) | Judgement::Decided(code, reason) => {
            (code.outcome().code().into(), format!("{reason} [{code}]"))
        }
    }
}

/// Holds the page's table with this head: each row must be what `made` makes of it. Returns the table. `TESTRELAY_ACCEPT` writes
/// what was made.
pub(crate) fn held(head: &str, made: impl Fn(&str) -> String) -> String {
    /// The page has two tables, and tests run side by side.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(head).unwrap();
    let (rule, rest) = rest.trim_start().split_once('\n').unwrap();
    let table: String = rest.split_inclusive('\n').take_while(|row| row.starts_with('|')).collect();
    let all: String = table.lines().map(|row| made(row) + "\n").collect();
    if std::env::var_os("TESTRELAY_ACCEPT").is_some() {
        let (_, after) = rest.split_once(&table).unwrap();
        std::fs::write(PAGE, format!("{before}{head}\n{rule}\n{all}{after}")).unwrap();
        return all;
    }
    for (row, made) in table.lines().zip(all.lines()) {
        assert_eq!(row, made);
    }
    table
}

fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split(" | ").map(str::trim).collect()
}

#[test]
fn each_row_of_the_table_of_verdicts_is_what_is_decided() {
    let table = held(HEAD, |row| {
        let [executions, asks, when, ..] = cells(row)[..] else { panic!("{row}") };
        let (decision, reason) = judged(executions, asks, when);
        format!("| {executions} | {asks} | {when} | {decision} | {reason} |")
    });
    let code = |row: &str| Some(row.rsplit_once('[')?.1.trim_end_matches("] |").to_owned());
    let codes: BTreeSet<String> = table.lines().filter_map(code).collect();
    // What a reading of Testkube can decide by itself.
    let all = [
        "aborted",
        "all_passed",
        "attempt_unclear",
        "changed_too_late",
        "cleaned_up",
        "failed",
        "missing",
        "none_appeared",
        "older_than_run",
        "timed_out",
        "token_ended",
    ];
    assert_eq!(codes, all.map(String::from).into());
    assert!(table.lines().count() >= 60);
}

#[test]
fn the_table_has_each_pair_of_policies() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (_, table) = page.split_once(HEAD).unwrap();
    let names = Policy::ALL.iter().map(|(name, _)| *name).chain(["rerun", "settle", "expect", "stage"]);
    let names: Vec<&str> = names.collect();
    let asks: Vec<Vec<&str>> = table
        .lines()
        .filter(|row| row.starts_with("| "))
        .map(|row| cells(row)[1].split("; ").filter_map(|part| part.split(' ').next()).collect())
        .collect();
    for (at, one) in names.iter().enumerate() {
        for other in names.iter().skip(at + 1) {
            // Refused, as the page's second table says.
            // The one is the other after "Rerun failed jobs".
            let is_same = (*one, *other) == ("rerun_jobs", "stage");
            let refused = [
                ("grace", "rerun"),
                ("retry", "rerun"),
                ("tests_build", "stage"),
                ("tests_build", "rerun_jobs"),
            ];
            let is_refused = is_same || refused.contains(&(*one, *other));
            let is_there = asks.iter().any(|asks| asks.contains(one) && asks.contains(other));
            assert!(is_there != is_refused, "{one} with {other}");
        }
    }
}
