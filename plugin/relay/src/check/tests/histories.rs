//! Random histories of one check. [`Oracle`](super::oracle) and [`World`] test each step: whether its conclusion is
//! justified, and that the check cannot be forgotten. Once all is well again, it must end, and rightly.

use super::deliveries::{again, ask, first, stands};
use super::servers::{Test, What, answer};
use super::world::{CAME, Fate, MINUTE, SECOND, World};
use crate::backoff::Random;
use crate::check::{Ask, Done, Event, Known, Outcome, Pending, Phase, Policies, Reported};
use crate::expect::Expect;
use crate::secret::Secret;
use crate::time::Mono;
use crate::wire::call::{Asks, CallId, CallOutcome, Fault, Response};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

const HISTORIES: u64 = 2_500;

/// Maximum time to the end once all is well again: for a retry, a lost event's answer and the last reading.
const BOUND: u64 = 4 * MINUTE;

/// The probabilities of a history's faults, in permille.
#[derive(Clone, Copy)]
struct Wild {
    faults: u64,
    incidents: u64,
}

fn one_of<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[usize::try_from(random.draw()).unwrap() % of.len()]
}

fn is(random: &mut Random, permille: u64) -> bool {
    random.draw() % 1_000 < permille
}

fn some_policies(random: &mut Random) -> Policies {
    let mut policies = Policies::default();
    if is(random, 250) {
        policies.optional = vec![one_of(random, &["lint", "api"]).into()];
    }
    if is(random, 250) {
        policies.grace = Duration::from_secs(one_of(random, &[20, 90]));
    }
    if is(random, 250) {
        policies.retry = one_of(random, &[1, 1, 3]);
    }
    if is(random, 150) {
        policies.max_age = Some(Duration::from_secs(one_of(random, &[5, 600])));
    }
    if is(random, 150) {
        policies.tests_build = Some(4711);
    }
    policies
}

fn some_ask(random: &mut Random) -> Ask {
    let policies = some_policies(random);
    let expects = match policies.optional.first().map(String::as_str) {
        Some("api") => &["", "e2e", "2"][..],
        _ => &["", "e2e", "e2e, api", "2"],
    };
    Ask {
        policies,
        expect: Expect::parse(one_of(random, expects)).unwrap(),
        settle: Duration::from_secs(one_of(random, &[0, 15, 60])),
        timeout: Duration::from_secs(one_of(random, &[600, 1_800])),
        appear_timeout: Duration::from_secs(one_of(random, &[120, 600])),
        ..ask()
    }
}

fn some_tests(random: &mut Random) -> Vec<Test> {
    let some = random.draw() % 4;
    let test = |n: u64| {
        let scheduled = Mono(CAME.0 - 20 * SECOND + random.draw() % (3 * MINUTE) + n);
        let ends = Mono(scheduled.0 + random.draw() % (5 * MINUTE));
        let status =
            if is(random, 850) { "passed" } else { one_of(random, &["failed", "aborted", "canceled"]) };
        let mut test =
            Test::new(one_of(random, &["e2e", "api", "e2e", "api", "lint"]), scheduled, ends, status);
        if is(random, 100) {
            test.tag = "shop-2".into();
        }
        if is(random, 100) {
            let from = Mono(ends.0 + random.draw() % MINUTE);
            test.hidden = (from, Mono(from.0 + one_of(random, &[3, 30]) * SECOND));
        }
        test
    };
    let mut tests: Vec<Test> = (0..some).map(test).collect();
    let failed = tests.iter().find(|test| test.ends.1 != "passed" && test.tag == "shop-1");
    if let Some(failed) = failed.filter(|_| is(random, 500)) {
        let starts = Mono(failed.ends.0.0 + random.draw() % (2 * MINUTE));
        let ends = Mono(starts.0 + random.draw() % MINUTE);
        let status = one_of(random, &["passed", "passed", "failed"]);
        let again = Test::new(&failed.workflow, starts, ends, status);
        tests.push(Test { repeats: failed.id.clone(), ..again });
    }
    tests
}

fn slow_down() -> CallOutcome {
    CallOutcome::Response(Response {
        status: 429,
        content_type: String::new(),
        asks: Asks { retry_after: Some(Duration::from_secs(45)), ..Asks::default() },
        from_envoy: false,
        body: Ok(Vec::new()),
    })
}

fn fate(random: &mut Random, what: &What, wild: &Wild) -> Fate {
    let after = one_of(random, &[1, 100, 900, 4 * SECOND, 19 * SECOND]);
    if !is(random, wild.faults) {
        return Fate::Served(after);
    }
    let status = |status| Fate::Says(answer(status, ""), after);
    let page = || if *what == What::Read { slow_down() } else { answer(403, "") };
    match random.draw() % 12 {
        0 => Fate::Says(CallOutcome::Failed(Fault::NoConnection), after),
        1 => Fate::Says(CallOutcome::Failed(Fault::Refused), after),
        2 => Fate::Says(CallOutcome::Failed(Fault::NoAnswer), 20 * SECOND),
        3 => status(503),
        4 => status(401),
        5 => Fate::Says(page(), after),
        6 => status(404),
        7 => Fate::Says(slow_down(), after),
        8 => Fate::Says(answer(200, "{"), after),
        9 => Fate::NotStarted,
        _ => Fate::Unheard,
    }
}

/// Starts the same check again, after its end or while nobody waits for it.
fn anew(world: &mut World, random: &mut Random, ask: &Ask) {
    let before = world.done.clone().or_else(|| world.durable.reported());
    let mut pending = first(ask.clone(), world.now);
    if let Some(Reported { outcome, at }) = before.as_ref().and_then(Done::reported) {
        pending.before = Some(Reported { outcome, at });
        if is(random, 500) {
            let until = Mono(world.now.mono.0 + 30 * SECOND);
            let known =
                Known { outcome, reason: "As before.".into(), code: None, repeats_until: Some(until) };
            (pending.known, pending.taken) = (Some(known), true);
        }
    }
    world.evaluate_anew(pending);
}

fn incident(world: &mut World, random: &mut Random, ask: &Ask) {
    let now = world.now.mono;
    let n = random.draw();
    match n % 12 {
        0 => world.fall(),
        1 => world.hand_over(),
        2 if is(random, 100) => {
            world.fall();
            world.step(Event::Fell);
        }
        3 => again(&mut world.durable, now, "token-1"),
        4 => world.deliver(&format!("token-{}", n % 5)),
        5 => stranger(&mut world.durable, now, ask),
        6 => world.no_room = (Mono(now.0 + n % (40 * SECOND)), is(random, 500)),
        7 => world.refusals = 1,
        8 => {
            let token = format!("token-{}", n % 5);
            world.rival = Some(Box::new(move |pending| again(pending, now, &token)));
        }
        9 => world.double(n),
        10 => world.answer_late(CallId(n), &answer(one_of(random, &[200, 401, 403, 404]), r#"{"id":9}"#)),
        _ => world.volatile.hint(now),
    }
    world.volatile.renew(&world.durable);
}

/// Delivers the check with a stranger's values and token.
fn stranger(pending: &mut Pending, now: Mono, ask: &Ask) {
    if !pending.is_proven() {
        pending.delivery += 1;
        let other = Ask {
            expect: Expect::Any,
            settle: Duration::ZERO,
            timeout: Duration::from_secs(60),
            ..ask.clone()
        };
        stands(pending, now, Secret::new("forged".into()), Some(other), None);
    }
}

/// Plays a history. Returns its outcome in one word.
fn history(seed: u64) -> &'static str {
    let mut random = Random::new(seed);
    let ask = some_ask(&mut random);
    let wild = Wild {
        faults: one_of(&mut random, &[0, 50, 200, 600]),
        incidents: one_of(&mut random, &[0, 10, 50, 200]),
    };
    let mut world = World::seeded(ask.clone(), seed);
    world.servers.tests = some_tests(&mut random);
    world.servers.unknown = vec!["forged".into()];
    if is(&mut random, 200) {
        world.durable.callback.build = None;
    }
    if is(&mut random, 200) {
        world.durable.callback.timeline = None;
    }
    let calm = Mono(CAME.0 + random.draw() % (15 * MINUTE));
    let is_calm = Rc::new(Cell::new(false));
    let mut draws = Random::new(!seed);
    let is_calm_now = is_calm.clone();
    world.fates = Box::new(move |what, _| match is_calm_now.get() {
        true => Fate::Served(100),
        false => fate(&mut draws, what, &wild),
    });
    let mut has_anew = false;
    while world.turn(calm) {
        if world.done.is_none() && is(&mut random, wild.incidents) {
            incident(&mut world, &mut random, &ask);
        }
        let is_over = world.done.is_some() || matches!(world.durable.phase, Phase::Owing(_));
        if is_over && is(&mut random, 300) {
            anew(&mut world, &mut random, &ask);
            has_anew = true;
        }
    }
    is_calm.set(true);
    (world.refusals, world.rival, world.no_room) = (0, None, (Mono(0), false));
    let mut deadline = world.durable.deadline().at.max(calm);
    if !world.durable.is_proven() {
        // A stranger's delivery is dropped half an hour after the last one.
        deadline = deadline.max(Mono(world.durable.delivered.0 + 30 * MINUTE));
    }
    let steps = world.steps;
    let is_first = !has_anew;
    world.live(deadline.0 + BOUND - world.now.mono.0);
    assert!(world.done.is_some(), "it has not ended: {:?}", world.durable);
    assert!(world.steps - steps < 2_000, "{} steps", world.steps - steps);
    let lines = world.lines();
    let passed = lines.lines().find(|line| line.contains("Testrelay: succeeded. "));
    if let Some(passed) = passed.filter(|_| is_first && !world.servers.reran.is_empty()) {
        assert!(passed.contains(" re-run"), "it hides that something was run again: {passed}");
    }
    let done = world.done.unwrap();
    done.outcome.filter(|_| done.reported).map_or("unreported", Outcome::code)
}

#[test]
fn whatever_happens_a_check_concludes_rightly_is_not_forgotten_and_ends() {
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..HISTORIES {
        let lived = std::panic::catch_unwind(|| history(seed));
        let Ok(end) = lived else { panic!("history {seed}") };
        *ends.entry(end).or_default() += 1;
    }
    // No outcome is rare.
    for end in ["succeeded", "failed", "inconclusive"] {
        assert!(ends.get(end).is_some_and(|n| *n >= HISTORIES / 20), "{ends:?}");
    }
}
