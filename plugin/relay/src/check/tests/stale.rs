//! Answers that are not awaited: of an earlier call, leader or evaluation.

use super::deliveries::ask;
use super::servers::{Test, answer, over};
use super::world::{CAME, Fate, MINUTE, SECOND, World};
use crate::check::{Check, Cx, Done, Event, Pending, Reading, Reporting, Space, Times, Unread};
use crate::collections::Few;
use crate::config::Config;
use crate::time::Mono;
use crate::wire::call::{CallId, CallOutcome, Fault, Request};
use crate::wire::testkube::Trouble;

/// The result of a step.
#[derive(PartialEq)]
struct Came {
    durable: Box<Pending>,
    done: Option<Done>,
    request: Option<Request>,
    times: Times,
}

impl World {
    /// The result that this event would have now.
    fn would(&mut self, event: Event<'_>) -> Came {
        let mut check = Check::new(self.key, self.durable.clone(), self.volatile.clone());
        let mut cx = Cx {
            now: self.now,
            config: &self.config,
            holder: 1,
            random: &mut self.random.clone(),
            call: CallId(u64::MAX),
            space: &|_, _| Space::Free,
            trouble: &Trouble::default(),
            log: &mut self.log,
        };
        let effects = check.step(&mut cx, event);
        let times = check.volatile.times(&check.durable, self.now.mono);
        Came { durable: check.durable, done: effects.done, request: effects.call.map(|c| c.request), times }
    }

    fn is_not_moved(&mut self) {
        let due = self.would(Event::Due);
        let id = CallId(u64::MAX - 1);
        let said: Vec<CallOutcome> = [(200, r#"{"id":9}"#), (401, ""), (403, ""), (404, ""), (503, "")]
            .map(|(status, body)| answer(status, body))
            .into_iter()
            .chain([over(), CallOutcome::Failed(Fault::Lost)])
            .collect();
        for outcome in &said {
            assert!(self.would(Event::Answered(id, outcome)) == due, "{outcome:?}");
            let earlier = Reporting { began: Mono(1), send: 1, delivery: 1, token: 1 };
            assert!(self.would(Event::Reported(id, earlier, outcome)) == due, "{outcome:?}");
        }
        let none = Few::default();
        assert!(self.would(Event::Read(id, &Reading { by_value: &none })) == due);
        for unread in [Unread::Fault(Fault::Lost), Unread::Incomplete { counted: 2, listed: 1 }] {
            assert!(self.would(Event::Unread(id, &unread)) == due);
        }
        assert!(self.would(Event::NotStarted(id)).durable == self.durable);
    }
}

fn passing() -> World {
    let mut world = World::new(ask());
    let at = |seconds: u64| Mono(CAME.0 + seconds * SECOND);
    world.servers.tests =
        vec![Test::new("e2e", at(5), at(40), "passed"), Test::new("api", at(9), at(20), "passed")];
    world
}

#[test]
fn an_answer_that_is_not_waited_for_moves_nothing_at_any_time_of_a_life() {
    let mut world = passing();
    world.fates = Box::new(|what, n| match what.word() {
        // Calls that are retried, and a report that owes its record.
        "log" | "build" | "event" | "record" if n < 4 => Fate::Says(answer(503, ""), 100),
        "look" if n == 3 => Fate::Says(answer(404, ""), 100),
        _ => Fate::Served(100),
    });
    world.is_not_moved();
    while world.turn(Mono(CAME.0 + 20 * MINUTE)) {
        if world.done.is_none() {
            world.is_not_moved();
        }
    }
    assert!(world.done.is_some());
}

#[test]
fn a_refusal_of_an_earlier_evaluations_event_does_not_send_this_ones_by_the_fallback() {
    let mut world = passing();
    let config = r#"{"testkube": {"cluster": "testkube"},
        "credentials": [{"name": "a", "kind": "bearer", "secret_env": "S", "allow": ["checks"]}],
        "azure_devops": [{"url": "https://dev.azure.com/fabrikam", "cluster": "azure", "fallback_cluster": "identity"}]}"#;
    world.config = Config::parse(config.as_bytes(), &|_| Some("a-secret-of-tests".into())).unwrap();
    while world.durable.decided().is_none() {
        world.turn(Mono(CAME.0 + 5 * MINUTE));
    }
    let earlier = Reporting { began: Mono(1), send: 1, delivery: 1, token: 1 };
    world.step(Event::Reported(CallId(1), earlier, &answer(401, "")));
    world.live(MINUTE);
    assert_eq!(world.events(), [true]);
    assert!(
        world.sent.iter().all(|sent| sent.token == "token-1" || sent.token.is_empty() && !sent.is_at_azure())
    );
}

#[test]
fn a_late_answer_to_an_earlier_event_leaves_the_one_that_is_under_way_its_claim() {
    let mut world = passing();
    world.fates = Box::new(|what, n| match (what.word(), n) {
        ("event", 0) => Fate::Unheard,
        ("event", _) => Fate::Served(10 * SECOND),
        _ => Fate::Served(100),
    });
    let until = Mono(CAME.0 + 10 * MINUTE);
    while world.events().is_empty() {
        world.turn(until);
    }
    let first = world.durable.claim.unwrap();
    let reporting = Reporting { began: world.durable.began, send: first.send, delivery: 1, token: 1 };
    // Its thread stands still while another context leads.
    world.fall();
    while world.events().len() < 2 {
        world.turn(until);
    }
    world.deliver("token-2");
    let second = world.durable.claim;
    assert!(second.is_some_and(|second| second.send != first.send));
    world.step(Event::Reported(CallId(1), reporting, &answer(204, "")));
    assert_eq!(world.durable.claim, second);
    assert!(world.durable.is_reported);
    let done = world.live(5 * MINUTE).unwrap().clone();
    assert!(done.reported);
}

#[test]
fn a_newer_delivery_is_told_as_well_by_the_answer_to_its_own_event() {
    let mut world = passing();
    world.fates = Box::new(|_, _| Fate::Served(3 * SECOND));
    let until = Mono(CAME.0 + 10 * MINUTE);
    while world.events().is_empty() {
        world.turn(until);
    }
    world.deliver("token-2");
    assert_eq!(world.durable.delivery, 2);
    let done = world.live(5 * MINUTE).unwrap().clone();
    assert!(done.reported);
    assert_eq!(world.events(), [true, true]);
    // The taken token is presented, not the newer one that was never taken.
    assert!(world.sent.iter().filter(|sent| sent.what.word() == "event").all(|sent| sent.token == "token-1"));
}
