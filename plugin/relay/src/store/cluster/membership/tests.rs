//! Replicas that live and die beside a fake API server, in virtual time.

use super::*;
use crate::backoff::Random;
use crate::seal::Sealing;
use crate::time::{Wall, millis};
use crate::wire::call::served::{outcome_of, request_of};
use fakes::Service;
use fakes::Span;
use fakes::kubernetes::{Fault as Weather, Kubernetes, Resource, Route, Verb};
use std::collections::BTreeMap;

const START: i64 = 1_769_186_640_000;
const SECOND: u64 = 1_000;

struct World {
    /// Milliseconds since the world began.
    now: u64,
    server: Kubernetes,
    random: Random,
    processes: Vec<Process>,
}

struct Process {
    membership: Membership,
    /// How far its wall clock is ahead of the server's, in milliseconds.
    skew: i64,
    is_alive: bool,
    /// Whether it reaches the API server.
    is_connected: bool,
    /// Answers under way, by arrival and number.
    arriving: BTreeMap<(u64, u64), (LeaseCall, CallOutcome)>,
    calls: u64,
}

fn server() -> Server {
    Server {
        cluster: "kubernetes".into(),
        authority: "kubernetes.default.svc".into(),
        namespace: "testrelay".into(),
        token: Some(crate::secret::Secret::new("token".into())),
    }
}

impl World {
    fn new(replicas: usize) -> World {
        let server = Kubernetes::new("testrelay", "token");
        let mut world = World { now: 0, server, random: Random::new(7), processes: Vec::new() };
        for n in 0..replicas {
            world.start(&format!("pod-{n}"));
        }
        world
    }

    /// Starts a process in the pod of this name.
    fn start(&mut self, pod: &str) -> usize {
        let n = self.processes.len();
        let replica = Replica {
            instance: "testrelay".into(),
            id: format!("{n:016x}"),
            pod: pod.into(),
            format: 1,
            sealing: Sealing::default(),
        };
        self.processes.push(Process {
            membership: Membership::new(replica, true),
            // Clocks are minutes apart.
            skew: (n as i64 % 3 - 1) * 300_000,
            is_alive: true,
            is_connected: true,
            arriving: BTreeMap::new(),
            calls: 0,
        });
        n
    }

    /// Lets seconds pass.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + seconds * SECOND;
        while self.now < end {
            self.now += 5;
            for n in 0..self.processes.len() {
                self.turn(n);
            }
        }
    }

    /// Gives a process the answers that have arrived, and a tick each second.
    fn turn(&mut self, n: usize) {
        let process = &mut self.processes[n];
        if !process.is_alive {
            return;
        }
        // Each process has clocks of its own.
        let mono = Mono(self.now + 7_000_000 * (n as u64 + 1));
        let now = Now { mono, wall: Wall(START + self.now as i64 + process.skew) };
        let mut calls = Vec::new();
        while let Some(first) = process.arriving.first_entry()
            && first.key().0 <= self.now
        {
            let (ask, outcome) = first.remove();
            calls.extend(process.membership.answer(now, &server(), ask, &outcome));
        }
        if (self.now + 130 * n as u64).is_multiple_of(SECOND) {
            calls.extend(process.membership.due(now, &server()));
        }
        for (ask, request) in calls {
            self.call(n, ask, request);
        }
    }

    fn call(&mut self, n: usize, ask: LeaseCall, request: Request) {
        let (delay, outcome) = match self.processes[n].is_connected {
            true => outcome_of(&request, self.server.handle(START + self.now as i64, &request_of(&request))),
            false => (millis(request.timeout), CallOutcome::Failed(Fault::NoAnswer)),
        };
        let delay = delay + 5 + self.random.draw() % 60;
        let process = &mut self.processes[n];
        process.calls += 1;
        process.arriving.insert((self.now + delay, process.calls), (ask, outcome));
    }

    fn mono(&self, n: usize) -> Mono {
        Mono(self.now + 7_000_000 * (n as u64 + 1))
    }

    fn is_fresh(&self, n: usize) -> bool {
        self.processes[n].membership.is_fresh(self.mono(n))
    }

    /// The processes that are dead in the eyes of process `n`.
    fn dead(&self, n: usize) -> Vec<usize> {
        let ids = self.processes[n].membership.dead();
        ids.map(|id| usize::from_str_radix(id, 16).unwrap()).collect()
    }

    fn leases(&mut self) -> usize {
        self.server.objects(START + self.now as i64, Resource::Leases, "testrelay").len()
    }
}

#[test]
fn replicas_that_live_are_fresh_and_nobody_is_dead() {
    let mut world = World::new(3);
    world.pass(3);
    assert_eq!(world.leases(), 3);
    for _ in 0..60 {
        world.pass(2);
        for n in 0..3 {
            assert!(world.is_fresh(n), "{n} after {} ms", world.now);
            assert_eq!(world.dead(n), [0; 0]);
        }
    }
    let calls = world.processes.iter().map(|process| process.calls).max().unwrap();
    assert!(calls < 123 * 13 / 10, "{calls} calls in 123 s");
}

#[test]
fn whoever_dies_is_dead_to_all_others_within_twenty_five_seconds_and_not_sooner() {
    let mut world = World::new(3);
    world.pass(30);
    world.processes[1].is_alive = false;
    world.pass(14);
    assert_eq!((world.dead(0), world.dead(2)), (vec![], vec![]));
    world.pass(11);
    assert_eq!((world.dead(0), world.dead(2)), (vec![1], vec![1]));
}

#[test]
fn a_container_that_starts_anew_finds_its_predecessor_dead_at_once_and_nobody_else() {
    let mut world = World::new(2);
    world.pass(10);
    world.processes[0].is_alive = false;
    let next = world.start("pod-0");
    world.pass(3);
    assert!(world.is_fresh(next));
    assert_eq!(world.dead(next), [0]);
    assert_eq!(world.dead(1), [0; 0], "the others cannot know");
}

/// Envoy's hot restart: the old process goes on beside the new one.
#[test]
fn two_processes_of_one_pod_do_not_take_each_other_for_dead() {
    let mut world = World::new(1);
    world.pass(10);
    let next = world.start("pod-0");
    for _ in 0..30 {
        world.pass(2);
        assert_eq!(world.dead(0), [0; 0], "it was there first");
    }
    assert_eq!(world.dead(next), [0; 0], "it has renewed its Lease since");
}

#[test]
fn nobody_is_dead_after_an_outage_of_the_api_server() {
    for weather in [Weather::Away, Weather::EtcdAway, Weather::Throttled { retry_after: 1 }] {
        let mut world = World::new(3);
        world.pass(10);
        world.server.fault(Route::All, Span::Between { from: 0, until: START + 100_000 }, weather.clone());
        world.pass(60);
        assert!((0..3).all(|n| !world.is_fresh(n)), "{weather:?}: nobody could renew for 60 s");
        for _ in 0..60 {
            world.pass(1);
            assert!((0..3).all(|n| world.dead(n).is_empty()), "{weather:?} after {} ms", world.now);
        }
        assert!((0..3).all(|n| world.is_fresh(n)), "{weather:?}");
    }
}

#[test]
fn who_cannot_reach_the_api_server_adopts_nothing_and_is_dead_to_the_others() {
    let mut world = World::new(2);
    world.pass(10);
    world.processes[0].is_connected = false;
    world.pass(15);
    assert!(!world.is_fresh(0));
    world.pass(10);
    assert_eq!(world.dead(1), [0]);
    world.processes[0].is_connected = true;
    world.pass(8);
    assert!(world.is_fresh(0));
    assert_eq!((world.dead(0), world.dead(1)), (vec![], vec![]), "it lives again");
}

#[test]
fn a_lease_that_somebody_deletes_is_made_anew_and_its_replica_is_not_fresh_meanwhile() {
    let mut world = World::new(1);
    world.pass(10);
    let delete = fakes::Request::new(
        "DELETE",
        "/apis/coordination.k8s.io/v1/namespaces/testrelay/leases/testrelay-0000000000000000",
    )
    .header("authorization", "Bearer token");
    world.server.handle(START + world.now as i64, &delete);
    world.server.fault(Route::Only(Resource::Leases, Verb::Create), Span::Next(2), Weather::WebhookDown);
    let mut was_stale = false;
    for _ in 0..14 {
        world.pass(1);
        was_stale |= !world.is_fresh(0);
        // It takes until the next renewal to notice.
        assert!(world.leases() == 1 || !world.is_fresh(0) || world.now < 17 * SECOND, "{} ms", world.now);
    }
    assert!(was_stale && world.is_fresh(0));
    assert_eq!(world.leases(), 1);
}

#[test]
fn answers_that_are_lost_or_late_cost_a_replica_no_lease() {
    let weathers = [
        Weather::ResetAfter,
        Weather::DoneLater { millis: 900 },
        Weather::Late { millis: 6_000 },
        Weather::Cut { bytes: 10 },
        Weather::Starting,
        Weather::WebhookDown,
    ];
    for weather in weathers {
        for verb in [Verb::Create, Verb::Update, Verb::Get, Verb::List] {
            let mut world = World::new(2);
            world.server.fault(Route::Only(Resource::Leases, verb), Span::Next(3), weather.clone());
            world.pass(20);
            world.server.fault(Route::Only(Resource::Leases, verb), Span::Next(3), weather.clone());
            world.pass(30);
            let case = format!("{verb:?} {weather:?}");
            assert_eq!(world.leases(), 2, "{case}");
            assert!((0..2).all(|n| world.is_fresh(n) && world.dead(n).is_empty()), "{case}");
        }
    }
}

#[test]
fn a_server_in_trouble_is_called_once_a_second_about_each_thing() {
    let weathers = [
        Weather::WebhookDown,
        Weather::RefusedByPolicy,
        Weather::Away,
        Weather::Starting,
        Weather::Throttled { retry_after: 1 },
    ];
    for weather in weathers {
        for route in [Route::Writes, Route::Reads, Route::All] {
            let mut world = World::new(1);
            world.pass(10);
            world.server.fault(route, Span::UntilCleared, weather.clone());
            let before = world.processes[0].calls;
            world.pass(30);
            let calls = world.processes[0].calls - before;
            assert!(calls <= 95, "{weather:?} of {route:?}: {calls} calls in 30 s");
        }
    }
}

#[test]
fn a_server_that_asks_for_a_pause_gets_one() {
    let mut world = World::new(1);
    world.pass(10);
    world.server.fault(Route::All, Span::UntilCleared, Weather::Throttled { retry_after: 10 });
    let before = world.processes[0].calls;
    world.pass(30);
    let calls = world.processes[0].calls - before;
    // It asks for more than a replica can wait without being taken for dead.
    assert!(calls <= 20, "{calls} calls in 30 s");
}

/// The next leader of a process whose Lease exists already.
#[test]
fn who_does_not_know_the_others_yet_is_not_fresh() {
    let mut world = World::new(2);
    world.pass(10);
    let replica = Replica {
        instance: "testrelay".into(),
        id: format!("{:016x}", 0),
        pod: "pod-0".into(),
        format: 1,
        sealing: Sealing::default(),
    };
    world.processes[0].membership = Membership::new(replica, false);
    world.processes[0].arriving.clear();
    world.server.fault(Route::Only(Resource::Leases, Verb::List), Span::Next(3), Weather::Away);
    world.pass(2);
    assert!(!world.is_fresh(0));
    world.pass(4);
    assert!(world.is_fresh(0));
}

#[test]
fn the_others_are_told_of_a_drain_and_inherit_fair_shares() {
    let mut world = World::new(4);
    world.pass(10);
    let heirs = |world: &World, of: &[usize]| {
        let checks = (0..1_000).map(|n| format!("testrelay-{n:08x}-0001-5000-8000-000000000001"));
        let mut shares = vec![0; of.len()];
        for check in checks {
            let first: Vec<usize> =
                of.iter().copied().filter(|n| world.processes[*n].membership.is_first_heir(&check)).collect();
            assert_eq!(first.len(), 1, "{check} has the heirs {first:?}");
            shares[of.iter().position(|n| *n == first[0]).unwrap()] += 1;
        }
        shares
    };
    assert!(heirs(&world, &[0, 1, 2, 3]).iter().all(|share| (200..300).contains(share)));
    world.processes[3].membership.drain();
    world.pass(3);
    assert!(heirs(&world, &[0, 1, 2]).iter().all(|share| (280..390).contains(share)));
    assert_eq!(heirs(&world, &[0, 1, 2, 3]).pop(), Some(0));
    assert!(!world.is_fresh(3));
    assert_eq!(world.dead(0), [0; 0]);
}
