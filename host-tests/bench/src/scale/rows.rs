//! What is measured of a crowd that waits.

use super::crowd;
use super::late::{self, Kind};
use super::loops::{self, Loops};
use super::report::Line;
use super::stage::{Member, Stage};
use crate::figures::Spread;
use crate::load::Sent;
use crate::machine;
use crate::targets::Bound::{AtLeast, AtMost};
use anyhow::{Context, Result, bail, ensure};
use fakes::Span;
use fakes::azure::{Fault, Route};
use host_tests::scene::now_ms;
use host_tests::{BEARER, Connection, Polls, Request, wait_for};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const MIB: f64 = 1024.0 * 1024.0;

/// Number of checks that end one after the other while the others wait, found by a reading; and of those found by a hint.
const ENDS: usize = 8;

/// A probe of a thread every so often.
const PROBE: Duration = Duration::from_millis(10);

/// Seconds that a throttled project must be left alone.
const RETRY_AFTER: u64 = 5;

/// Events are waited for as long as they come at least this often.
const SILENCE: Duration = Duration::from_secs(20);

/// And no longer than this.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// So long for a single one.
const SINGLE: Duration = Duration::from_secs(30);

/// The checks come at once: how many are stored in a second, and whether one was refused.
pub fn accepted(stage: &Stage) -> Result<(Sent, Vec<Line>)> {
    let checks = stage.crowd.len();
    let (sent, busy) = stage.busy(|| stage.send())?;
    let stored = stage.envoy.stat("wasmcustom.testrelay_checks_accepted")?;
    ensure!(stored as usize + sent.refused == checks, "{stored} were stored and {} refused", sent.refused);
    let rate = stored as f64 / sent.took.as_secs_f64();
    let lines = vec![
        Line::of("checks pending at the same time", stored as f64).promised(AtLeast(10_000.0)),
        Line::of("  of them refused below the limit", sent.refused as f64).promised(AtMost(0.0)),
        Line::of("checks stored a second, in one burst", rate).promised(AtLeast(2_700.0)).note(format!(
            "p50 {:.1} ms, p99 {:.1} ms over 16 connections; {busy}",
            sent.percentile(50),
            sent.percentile(99)
        )),
    ];
    Ok((sent, lines))
}

/// What Envoy has in memory now.
pub fn memory(stage: &Stage, what: &str, most: Option<f64>) -> Result<Line> {
    let heap = stage.envoy.stat("server.memory_allocated")? as f64 / MIB;
    let line = Line::of(what, machine::resident(stage.envoy.pid())? as f64 / MIB)
        .note(format!("Envoy's own heap, without V8's: {heap:.0} MiB"));
    Ok(most.map_or(line.clone(), |most| line.promised(AtMost(most))))
}

/// Nothing ends: who is called how often, and what Envoy works for it.
pub fn calm(stage: &Stage, window: Duration, age: Duration) -> Result<Vec<Line>> {
    stage.take();
    let ((), busy) = stage.busy(|| {
        std::thread::sleep(window);
        Ok(())
    })?;
    let (testkube, azure) = stage.take();
    let seconds = window.as_secs_f64();
    let (lists, gets) =
        (late::count(&testkube, Kind::List) as f64, late::count(&testkube, Kind::Execution) as f64);
    let looks = Polls::among(&testkube).looks() as f64;
    let checks = stage.crowd.len() as f64;
    let looked = late::count(&azure, Kind::Look) as f64;
    let told = late::count(&azure, Kind::Lines) + late::count(&azure, Kind::Change);
    let age = age.as_secs();
    Ok(vec![
        Line::of("calls to Testkube a second", (lists + gets) / seconds).promised(AtMost(30.0)).note(
            format!(
                "{:.1} lists, {:.1} looks at one execution; checks of {age} s to {} s",
                lists / seconds,
                gets / seconds,
                age + window.as_secs()
            ),
        ),
        Line::of("lists for one look at every check", lists * checks / looks).promised(AtMost(200.0)).note(
            format!(
                "{:.0} tags in a list; every check is looked at each {:.1} s",
                looks / lists,
                seconds * checks / looks
            ),
        ),
        Line::of("looks at runs and builds a second", looked / seconds).promised(AtMost(5.0)).note(format!(
            "{} builds, one entry; lines and records besides: {:.1} a second",
            stage.crowd.len().div_ceil(crowd::OF_BUILD),
            told as f64 / seconds
        )),
        Line::of("Envoy's CPU while nothing ends, % of one core", busy.envoy).note(busy.to_string()),
    ])
}

/// How long a thread is kept: by requests at a steady rate to the worker (`/testrelay/healthz`) and to the main thread (the admin
/// page's `/ready`), and by the loops of both.
pub fn stalls(stage: &Stage, window: Duration, is_judged: bool) -> Result<Vec<Line>> {
    let before = Loops::of(&stage.envoy)?;
    let (worker, main) = (stage.envoy.address(), stage.envoy.admin());
    let (to_worker, to_main) = std::thread::scope(|scope| {
        let to_main = scope.spawn(move || loops::probe(main, "/ready", PROBE, window));
        let to_worker = loops::probe(worker, "/testrelay/healthz", PROBE, window);
        (to_worker, to_main.join().expect("a probe has panicked"))
    });
    let after = Loops::of(&stage.envoy)?;
    let mut lines = Vec::new();
    for (thread, probe, name) in
        [("main thread", to_main?, loops::MAIN), ("worker", to_worker?, loops::WORKER)]
    {
        let own = after.get(name).with_context(|| format!("Envoy has no {name}: {:?}", after.keys()))?;
        let own = before.get(name).map_or(own.clone(), |before| own.since(before));
        let of = match (is_judged, thread == stage.leader.thread()) {
            (false, _) => format!("{thread}, nothing pending"),
            (true, true) => format!("{thread}, which leads"),
            (true, false) => format!("{thread} beside the leader"),
        };
        let judged = |line: Line, most: f64| if is_judged { line.promised(AtMost(most)) } else { line };
        lines.push(judged(Line::of(format!("{of}: answer p99, ms"), probe.percentile(99)), 5.0));
        lines.push(judged(Line::of(format!("{of}: answer worst, ms"), probe.percentile(100)), 20.0));
        lines.push(judged(Line::of(format!("{of}: loop p99, ms"), own.p99()), 5.0));
        let longer = |ms| own.longer_than(Duration::from_millis(ms));
        lines.push(judged(Line::of(format!("{of}: loop worst, ms"), own.worst()), 20.0).note(format!(
            "of {} loops {} over 5 ms, {} over 20 ms",
            own.count(),
            longer(5),
            longer(20)
        )));
    }
    Ok(lines)
}

/// Single checks end while the others wait: the time from there to the event, in milliseconds.
pub fn single_ends(stage: &mut Stage, accepted: Instant) -> Result<Vec<Line>> {
    let mut lines = polled(stage, accepted)?;
    lines.extend(hinted(stage)?);
    Ok(lines)
}

/// Takes members out of the crowd, from all over it.
fn some(stage: &mut Stage, wanted: usize) -> Vec<Member> {
    let step = (stage.crowd.len() / wanted.max(1)).max(1);
    let places: Vec<usize> = (0..stage.crowd.len()).step_by(step).take(wanted).collect();
    places.into_iter().rev().map(|place| stage.crowd.swap_remove(place)).collect()
}

fn polled(stage: &mut Stage, accepted: Instant) -> Result<Vec<Line>> {
    let ends = some(stage, ENDS);
    stage.take();
    let mut ended = Vec::new();
    for (n, member) in ends.iter().enumerate() {
        let now = now_ms();
        stage.end(std::slice::from_ref(member), now);
        ended.push((member, now, interval(accepted.elapsed()) * 1e3));
        std::thread::sleep(Duration::from_millis(370 + 61 * n as u64));
    }
    let mut testkube = Vec::new();
    let mut events = BTreeMap::new();
    let began = Instant::now();
    while began.elapsed() < SINGLE
        && !ended.iter().all(|(member, ..)| events.contains_key(&member.run.spec.plan))
    {
        std::thread::sleep(Duration::from_millis(20));
        let (more, told) = stage.take();
        testkube.extend(more);
        events.extend(late::events(&told));
    }
    let polls = Polls::among(&testkube);
    let (mut delays, mut beyond, mut after_look) = (Vec::new(), Vec::new(), Vec::new());
    for (member, at, interval) in &ended {
        // One that was not found in time has waited for ever.
        let event = events.get(&member.run.spec.plan).copied();
        let delay = event.map_or(f64::INFINITY, |event| (event - at) as f64);
        delays.push(delay);
        beyond.push(delay - interval);
        let look = polls.of_tag(&member.run.tag).iter().find(|look| *look >= at);
        after_look.extend(look.zip(event).map(|(look, event)| (event - look) as f64));
    }
    let (delay, beyond, look) = (spread(delays), spread(beyond), spread(after_look));
    let interval = ended.last().map_or(f64::NAN, |(.., interval)| interval / 1e3);
    Ok(vec![
        Line::of("one ends, found by poll: event after, median ms", delay.median),
        Line::of("  worst ms more than one interval", beyond.most).promised(AtMost(100.0)).note(format!(
            "worst {:.0} ms; the interval is {interval:.1} s; from the look that saw it to the event: median {:.0} ms, worst {:.0} ms",
            delay.most, look.median, look.most
        )),
    ])
}

fn hinted(stage: &mut Stage) -> Result<Vec<Line>> {
    let ends = some(stage, ENDS);
    stage.take();
    let mut connection = Connection::open(stage.envoy.address())?;
    let mut delays = Vec::new();
    for member in &ends {
        let hint = Request::post("/testrelay/v1/events").bearer(BEARER).json(&crowd::ended(&member.run.tag));
        let now = now_ms();
        stage.end(std::slice::from_ref(member), now);
        let answer = connection.send(&hint)?;
        ensure!(answer.status == 202 && answer.text().contains("taken"), "{}", answer.text());
        let plan = &member.run.spec.plan;
        let event = || late::events(&stage.take().1).get(plan).copied();
        let found = wait_for("the decision after a hint", SINGLE / 6, event);
        delays.push(found.map_or(f64::INFINITY, |event| (event - now) as f64));
        // Of hints ten a second are taken.
        std::thread::sleep(Duration::from_millis(230));
    }
    let delay = spread(delays);
    Ok(vec![
        Line::of("one ends, with a hint: event after, median ms", delay.median).promised(AtMost(50.0)),
        Line::of("  worst ms", delay.most)
            .promised(AtMost(50.0))
            .note("four calls one after another, each 5 ms late"),
    ])
}

/// What came of checks that ended at once.
pub struct Ended {
    /// How many were decided.
    pub decided: usize,
    /// From the end to the last event, in seconds.
    pub took: f64,
    /// Decisions a second in the middle: without the first tenth, whose looks come first, and without the last.
    pub middle: f64,
    /// The same as `took`, of all projects but the first.
    pub others: f64,
    /// The calls, and how busy processors were.
    pub note: String,
}

/// These checks end at once. Waits for the events of as many, or until none comes any more.
pub fn end_at_once(stage: &Stage, members: &[Member], events: usize) -> Result<Ended> {
    stage.take();
    let before = stage.azure().count(Kind::Event);
    let at = now_ms() + 500;
    stage.end(members, at);
    let ((), busy) = stage.busy(|| {
        decided(stage, before + events);
        Ok(())
    })?;
    let (testkube, azure) = stage.take();
    let mut by_plan = late::events(&azure);
    // Others may have ended before, and be decided only now.
    let own: BTreeSet<&str> = members.iter().map(|member| member.run.spec.plan.as_str()).collect();
    by_plan.retain(|plan, _| own.contains(plan.as_str()));
    let last = |of_project: &dyn Fn(&str) -> bool| {
        let members = members.iter().filter(|member| of_project(&member.run.spec.project));
        let events = members.filter_map(|member| by_plan.get(&member.run.spec.plan));
        events.max().map_or(f64::NAN, |event| (event - at) as f64 / 1e3)
    };
    let first = crowd::project(0);
    let note = format!(
        "{} lists, {} looks at one execution, {} logs and records, {} refused with 429; {busy}",
        late::count(&testkube, Kind::List),
        late::count(&testkube, Kind::Execution),
        late::count(&azure, Kind::Lines) + late::count(&azure, Kind::Change),
        late::count(&azure, Kind::Throttled),
    );
    let (took, others) = (last(&|_| true), last(&|project| project != first));
    let middle = middle(by_plan.values().copied().collect());
    Ok(Ended { decided: by_plan.len(), took, middle, others, note })
}

/// How many of these events, in Unix milliseconds, there were a second, without the first tenth of them and the last.
fn middle(mut events: Vec<i64>) -> f64 {
    events.sort_unstable();
    let tenth = events.len() / 10;
    let own = events.get(tenth..events.len() - tenth).unwrap_or_default();
    match own {
        [first, .., last] if last > first => own.len() as f64 * 1e3 / (last - first) as f64,
        _ => f64::NAN,
    }
}

/// Waits until this many events were taken since the start, or none comes any more.
fn decided(stage: &Stage, events: usize) {
    let began = Instant::now();
    let (mut seen, mut since) = (0, began);
    while seen < events && since.elapsed() < SILENCE && began.elapsed() < MAX_WAIT {
        std::thread::sleep(Duration::from_millis(20));
        let now = stage.azure().count(Kind::Event);
        if now > seen {
            (seen, since) = (now, Instant::now());
        }
    }
}

/// The crowd ends in three parts, and during the second the first of the ten projects is refused everything with 429: how long the
/// others take then, beside how long they take before and after. In one Envoy, so that all three meet the same machine.
pub fn throttled(stage: &mut Stage) -> Result<Line> {
    let first = crowd::project(0);
    // Each project's checks are dealt out, so that every part has as many of each.
    let (mut parts, mut dealt) = ([const { Vec::new() }; 3], BTreeMap::<String, usize>::new());
    for member in std::mem::take(&mut stage.crowd) {
        let place = dealt.entry(member.run.spec.project.clone()).or_default();
        parts[*place % 3].push(member);
        *place += 1;
    }
    let (mut turns, mut left) = (Vec::new(), 0);
    for (n, members) in parts.iter().enumerate() {
        let is_first = |member: &&Member| member.run.spec.project == first;
        let refused = if n == 1 { members.iter().filter(is_first).count() } else { 0 };
        if n == 1 {
            let fault = Fault::Status { status: 429, retry_after: Some(RETRY_AFTER) };
            stage.azure().fake.fault_of_project(&first, Route::All, Span::UntilCleared, fault);
        }
        let ended = end_at_once(stage, members, members.len() - refused)?;
        left += (members.len() - refused).saturating_sub(ended.decided);
        if n == 1 {
            stage.azure().fake.clear_faults();
            let before = stage.azure().count(Kind::Event);
            decided(stage, before + refused);
        }
        turns.push(ended);
    }
    let [before, meanwhile, after] = &turns[..] else { bail!("not three parts") };
    let usual = f64::midpoint(before.others, after.others);
    let note = format!(
        "a third of the checks each: until the last event of the others {:.1} s, and {:.1} s before and {:.1} s after; {}",
        meanwhile.others, before.others, after.others, meanwhile.note
    );
    let ratio = if left == 0 { meanwhile.others / usual } else { f64::NAN };
    let line = Line::of("one of ten projects gets 429: the others wait, ratio", ratio).promised(AtMost(1.1));
    Ok(match left {
        0 => line.note(note),
        left => line.note(format!("{left} were not decided within a minute each; {note}")),
    })
}

/// How long a check of this age waits for its next look, in seconds: a fifteenth of its age, 2 s to 20 s.
pub fn interval(age: Duration) -> f64 {
    (age.as_secs_f64() / 15.0).clamp(2.0, 20.0)
}

/// Without any value, or with one that is infinite, nothing is known.
fn spread(values: Vec<f64>) -> Spread {
    let unknown = Spread { median: f64::NAN, least: f64::NAN, most: f64::NAN };
    Spread::of(values).unwrap_or(unknown)
}
