//! Random histories of replicas: they are killed, restarted and cut off, calls fail in every way, checks are delivered
//! again elsewhere. What was answered 200 is reported, and nothing is left.

use super::MINUTE;
use super::world::{Replicas, Run};
use crate::backoff::Random;
use fakes::kubernetes::{Fault, Resource, Route, Verb};
use fakes::{Span, Status};

/// What one history came to.
#[derive(Default)]
struct Sum {
    kills: usize,
    accepted: usize,
    refused: usize,
    repeated: usize,
    seconds: usize,
    reruns: usize,
}

fn fault(random: &mut Random) -> Fault {
    match random.draw() % 9 {
        0 => Fault::Away,
        1 => Fault::ResetAfter,
        2 => Fault::DoneLater { millis: 500 + random.draw() % 20_000 },
        3 => Fault::Late { millis: 500 + random.draw() % 8_000 },
        4 => Fault::Stalled { millis: 500 + random.draw() % 8_000 },
        5 => Fault::Cut { bytes: 40 },
        6 => Fault::Throttled { retry_after: 1 + random.draw() % 3 },
        7 => Fault::WebhookDown,
        _ => Fault::Starting,
    }
}

fn route(random: &mut Random) -> Route {
    let verbs = [Verb::Create, Verb::Get, Verb::Update, Verb::List, Verb::Delete];
    let verb = verbs[random.draw() as usize % verbs.len()];
    match random.draw() % 5 {
        0 => Route::Only(Resource::Leases, verb),
        1 => Route::All,
        _ => Route::Only(Resource::Secrets, verb),
    }
}

/// A check as it was delivered: at least one answer was 200; number of deliveries that got a 200.
struct Check {
    run: Run,
    result: &'static str,
    streams: Vec<(usize, usize)>,
}

fn play(seed: u64) -> Sum {
    let mut random = Random::new(seed);
    let replicas = 2 + random.draw() as usize % 3;
    let outage = if random.draw().is_multiple_of(3) { "accept" } else { "refuse" };
    let mut world = Replicas::seeded(replicas, random.draw(), outage);
    let has_retry = random.draw().is_multiple_of(3);
    if has_retry {
        world.headers = &[("testrelay-expect", "e2e"), ("testrelay-retry", "1")];
    }
    let mut sum = Sum::default();
    let mut checks: Vec<Check> = Vec::new();
    let mut cut_off: Vec<(usize, u64)> = Vec::new();
    for _ in 0..(10 + random.draw() % 30) {
        let living: Vec<usize> =
            (0..world.processes.len()).filter(|n| world.processes[*n].is_alive).collect();
        let one = living[random.draw() as usize % living.len()];
        match random.draw() % 12 {
            0..=3 => {
                let n = 1 + checks.len() as u32;
                let (status, result) = match random.draw() % 2 {
                    0 => (Status::Passed, "succeeded"),
                    _ => (Status::Failed, "failed"),
                };
                let run = world.run(n, (random.draw() % 60_000) as i64, status);
                let stream = world.deliver(one, &run);
                checks.push(Check { run, result, streams: vec![(one, stream)] });
            }
            4 if !checks.is_empty() => {
                let at = random.draw() as usize % checks.len();
                let check = &mut checks[at];
                let stream = world.deliver(one, &check.run);
                check.streams.push((one, stream));
                sum.repeated += 1;
            }
            5 | 6 => {
                let pod = format!("pod-{}", one % replicas);
                world.kill(one);
                sum.kills += 1;
                if random.draw().is_multiple_of(2) {
                    world.pass(5 * (1 + random.draw() % 200));
                    world.start(&pod);
                } else {
                    world.start(&format!("pod-{}", 100 + world.processes.len()));
                }
            }
            7 => {
                world.processes[one].is_connected = false;
                cut_off.push((one, world.now + 1_000 * (1 + random.draw() % 60)));
            }
            8..=10 => {
                let span = match random.draw() % 3 {
                    0 => Span::Between { from: 0, until: world.wall() + (random.draw() % 45_000) as i64 },
                    _ => Span::Next(1 + (random.draw() % 4) as u32),
                };
                let (route, fault) = (route(&mut random), fault(&mut random));
                world.server.fault(route, span, fault);
            }
            _ => {}
        }
        world.pass(5 * (1 + random.draw() % 1_600));
        cut_off.retain(|(n, until)| {
            let ends = world.now >= *until;
            world.processes[*n].is_connected |= ends;
            !ends
        });
    }
    world.server.clear_faults();
    world.processes.iter_mut().for_each(|process| process.is_connected = true);
    world.pass(6 * MINUTE);
    for check in &checks {
        let told = check.streams.iter().filter(|(n, stream)| world.status(*n, *stream) == Some(200)).count();
        let (accepted, all) = world.events(&check.run);
        let id = format!("seed {seed}, run {}: told {told} times, {accepted:?} of {all} events", check.run.n);
        let id = id + &world.story(&check.run);
        sum.accepted += usize::from(told > 0);
        sum.refused += usize::from(told == 0);
        sum.seconds += usize::from(all > 1);
        // One that was accepted without the API server lives in its process alone.
        let may_be_lost =
            outage == "accept" && check.streams.iter().any(|(n, _)| !world.processes[*n].is_alive);
        assert!(told == 0 || may_be_lost || !accepted.is_empty(), "{id}: lost");
        // A failure passes when it is run again, which may be given up.
        let is_right = |result: &String| result == check.result || has_retry && check.result == "failed";
        assert!(accepted.iter().all(is_right), "{id}: not {}", check.result);
        let reruns = world.testkube.reruns("ado-run", &check.run.tag).len();
        // Each evaluation ends with an event that Azure DevOps has taken, or is the last.
        assert!(reruns <= accepted.len().max(1), "{id}: {reruns} re-runs");
        let has_passed = check.result == "failed" && accepted.iter().any(|result| result == "succeeded");
        assert!(!has_passed || reruns > 0, "{id}: a failure has passed without a re-run");
        sum.reruns += reruns;
    }
    world.pass(12 * MINUTE);
    let living: Vec<usize> = (0..world.processes.len()).filter(|n| world.processes[*n].is_alive).collect();
    let pending: usize = living.iter().map(|n| world.pending(*n)).sum();
    let stories: Vec<String> = match (pending, world.secrets().len()) {
        (0, 0) => Vec::new(),
        _ => checks.iter().map(|check| world.story(&check.run)).collect(),
    };
    assert_eq!(pending, 0, "seed {seed}: pending for ever {}", stories.join("\n"));
    assert_eq!(
        (world.secrets().len(), world.leases()),
        (0, living.len()),
        "seed {seed}: left over {}",
        stories.join("\n")
    );
    sum
}

#[test]
fn no_history_of_replicas_loses_a_check_or_leaves_anything() {
    let range = std::env::var("TESTRELAY_REPLICAS").ok();
    let range = range.as_deref().and_then(|range| range.split_once('-'));
    let (from, until) =
        range.map_or((1, 60), |(from, until)| (from.parse().unwrap(), until.parse().unwrap()));
    let mut whole = Sum::default();
    for seed in from..until {
        let sum = play(seed);
        whole.kills += sum.kills;
        whole.accepted += sum.accepted;
        whole.refused += sum.refused;
        whole.repeated += sum.repeated;
        whole.seconds += sum.seconds;
        whole.reruns += sum.reruns;
    }
    println!(
        "{} histories: {} kills, {} checks accepted, {} refused, {} deliveries again, {} checks with more events than one",
        until - from,
        whole.kills,
        whole.accepted,
        whole.refused,
        whole.repeated,
        whole.seconds
    );
    assert!(whole.reruns > 5 && whole.kills > 0 && whole.accepted > whole.refused && whole.repeated > 0);
}
