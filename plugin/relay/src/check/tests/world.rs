//! A leader for one check, without store or host: it follows the check's times, starts and answers its calls, may
//! refuse room or fall, and tests after each step that the check cannot be forgotten.

mod telling;

use super::deliveries::{again, first};
use super::guid;
use super::oracle::Oracle;
use super::servers::{Servers, What, wall};
use crate::backoff::Random;
use crate::check::{
    Ask, Check, CheckKey, Cx, Done, Effects, Event, LiveLog, Pending, Reading, Reporting, Room, Runs, Space,
    Unread, Volatile,
};
use crate::collections::Few;
use crate::config::Config;
use crate::time::{Mono, Now};
use crate::wire::call::{CallId, CallOutcome, Fault, GRACE, Request};
use crate::wire::testkube::{Execution, Rerun, Trouble, rerun_answer};
use std::time::Duration;

pub(super) const SECOND: u64 = 1_000;
pub(super) const MINUTE: u64 = 60 * SECOND;

/// The time of a check's arrival.
pub(super) const CAME: Mono = Mono(10 * MINUTE);

/// Maximum time that a check waits by itself, without a call or a queue that another party serves. Nothing in these
/// tests asks for a longer pause than a minute.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Minimum latency of a call in milliseconds, and maximum addition: of two calls, the later may be answered first.
const LATENCY: u64 = 5;
const JITTER: u64 = 150;

/// The fate of a call.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// It is served, and answered after this many milliseconds and a little more.
    Served(u64),
    /// It is served, and its answer is lost.
    Unheard,
    /// It is not served, and gets this answer after this many milliseconds and a little more.
    Says(CallOutcome, u64),
    /// Another context leads by now: it is not started.
    NotStarted,
}

/// Decides the fate of each call from its meaning and the number of earlier calls of its kind.
pub(super) type Fates = Box<dyn FnMut(&What, usize) -> Fate>;

/// A change of the record that another context makes.
pub(super) type Rival = Box<dyn FnOnce(&mut Pending)>;

/// A call that was started.
pub(super) struct Sent {
    pub(super) at: Mono,
    pub(super) what: What,
    pub(super) token: String,
    /// Whether it is no call of the check itself.
    is_telling: bool,
}

impl Sent {
    pub(super) fn is_at_azure(&self) -> bool {
        self.what.is_at_azure()
    }
}

#[derive(Clone)]
enum Purpose {
    Check(Option<Reporting>),
    Telling,
    Results,
    Read(Vec<Execution>),
}

#[derive(Clone)]
struct UnderWay {
    id: CallId,
    purpose: Purpose,
    what: What,
    /// When it was started, and when its answer comes or it is given up.
    began: Mono,
    arrives: Mono,
    outcome: CallOutcome,
}

pub(super) struct World {
    pub(super) now: Now,
    pub(super) key: CheckKey,
    pub(super) durable: Box<Pending>,
    pub(super) volatile: Volatile,
    pub(super) log: LiveLog,
    pub(super) done: Option<Done>,
    pub(super) servers: Servers,
    pub(super) sent: Vec<Sent>,
    pub(super) oracle: Oracle,
    pub(super) fates: Fates,
    /// The end of a lack of room, and whether it is a pause that a server asked for.
    pub(super) no_room: (Mono, bool),
    /// Number of changes that the store will refuse from now on.
    pub(super) refusals: u32,
    /// A change that another context writes before the next one.
    pub(super) rival: Option<Rival>,
    /// Number of steps, and of times that a step has asked to wait for room.
    pub(super) steps: usize,
    pub(super) queued: usize,
    pub(super) config: Config,
    holder: u64,
    names: u64,
    pub(super) random: Random,
    jitter: Random,
    under_way: Vec<UnderWay>,
    is_queued: bool,
    runs: Runs,
    trouble: Trouble,
}

impl World {
    pub(super) fn new(ask: Ask) -> World {
        World::seeded(ask, 1)
    }

    pub(super) fn seeded(ask: Ask, seed: u64) -> World {
        let now = Now { mono: CAME, wall: wall(CAME) };
        let durable = first(ask, now);
        let config = r#"{"testkube": {"cluster": "testkube"}, "insecure_no_auth": true,
            "azure_devops": [{"url": "https://dev.azure.com/fabrikam", "cluster": "azure"}]}"#;
        World {
            now,
            key: CheckKey::of(&durable.callback),
            log: LiveLog::of(&durable),
            durable,
            volatile: Volatile::default(),
            done: None,
            servers: Servers::default(),
            sent: Vec::new(),
            oracle: Oracle::default(),
            fates: Box::new(|_, _| Fate::Served(LATENCY)),
            jitter: Random::new(seed),
            no_room: (Mono(0), false),
            refusals: 0,
            rival: None,
            steps: 0,
            queued: 0,
            config: Config::parse(config.as_bytes(), &|_| None).unwrap(),
            holder: 1,
            names: 0,
            random: Random::new(seed),
            under_way: Vec::new(),
            is_queued: false,
            runs: Runs::default(),
            trouble: Trouble::default(),
        }
    }

    /// The check's own calls in order, in words.
    pub(super) fn words(&self) -> Vec<&'static str> {
        self.sent.iter().filter(|sent| !sent.is_telling).map(|sent| sent.what.word()).collect()
    }

    /// The results in its events.
    pub(super) fn events(&self) -> Vec<bool> {
        let event = |sent: &Sent| if let What::Event(passes) = sent.what { Some(passes) } else { None };
        self.sent.iter().filter_map(event).collect()
    }

    /// All lines of the log.
    pub(super) fn lines(&self) -> String {
        let lines = |sent: &Sent| if let What::Lines(text) = &sent.what { Some(text.clone()) } else { None };
        self.sent.iter().filter_map(lines).collect()
    }

    /// Lives until the check is done, for at most `ms` milliseconds.
    pub(super) fn live(&mut self, ms: u64) -> Option<&Done> {
        let until = Mono(self.now.mono.0 + ms);
        while self.done.is_none() && self.turn(until) {}
        self.done.as_ref()
    }

    /// Handles the next thing that happens. False if nothing happens before `until`.
    pub(super) fn turn(&mut self, until: Mono) -> bool {
        let arrival = self.under_way.iter().map(|call| call.arrives).min();
        let times = self.volatile.times(&self.durable, self.now.mono);
        let tells = self.log.wakes(self.now.mono).map(|at| at.max(self.volatile.held_until()));
        let room = self.is_queued.then_some(self.no_room.0);
        let next = [arrival, times.wake, times.poll, tells, room].into_iter().flatten().min();
        let at = next.unwrap_or(until).max(self.now.mono);
        if self.done.is_some() || at >= until {
            self.at(until);
            return false;
        }
        self.at(at);
        if arrival.is_some_and(|arrives| arrives <= at) {
            self.arrive();
        } else if room.is_some_and(|room| room <= at) {
            self.is_queued = false;
            self.log.take_room(Room::Telling);
            self.log.take_room(Room::Steps);
            self.log.take_room_for_results();
            self.step(Event::Due);
        } else if times.wake.is_some_and(|wake| wake <= at) {
            let holder = self.holder;
            self.step(Event::Due);
            if self.holder == holder {
                self.is_not_due_at_once();
            }
        } else if times.poll.is_some_and(|poll| poll <= at) {
            self.read();
        } else {
            self.tell();
        }
        true
    }

    fn at(&mut self, at: Mono) {
        self.now = Now { mono: at, wall: wall(at) };
    }

    /// The leader falls with all that it remembers and waits for, and another takes over. Calls under way are served
    /// all the same.
    pub(super) fn fall(&mut self) {
        self.under_way.clear();
        self.adopt();
    }

    /// Another context takes the lead, while the earlier one still gets the answers to its events.
    pub(super) fn hand_over(&mut self) {
        self.under_way.retain(|call| matches!(call.purpose, Purpose::Check(Some(_))));
        self.adopt();
    }

    fn adopt(&mut self) {
        self.holder += 1;
        self.volatile = Volatile::default();
        self.log = LiveLog::of(&self.durable);
        self.is_queued = false;
        self.oracle.forget();
        self.volatile.renew(&self.durable);
    }

    /// Delivers the same check again, with this token.
    pub(super) fn deliver(&mut self, token: &str) {
        again(&mut self.durable, self.now.mono, token);
        self.volatile.renew(&self.durable);
    }

    /// Starts the check again after its end, or while nobody waits for it.
    pub(super) fn evaluate_anew(&mut self, pending: Box<Pending>) {
        self.durable = pending;
        self.servers.completed = None;
        self.oracle.reruns.clear();
        self.oracle.has_asked = false;
        if self.done.take().is_some() {
            self.volatile = Volatile::default();
        }
        self.volatile.renew(&self.durable);
        self.log = LiveLog::of(&self.durable);
        self.oracle.forget();
    }

    fn name(&mut self) -> CallId {
        self.names += 1;
        CallId((self.holder << 32) | self.names)
    }

    fn arrive(&mut self) {
        let first = self.under_way.iter().enumerate().min_by_key(|(_, call)| call.arrives);
        let call = self.under_way.remove(first.unwrap().0);
        self.hear(&call);
    }

    fn hear(&mut self, call: &UnderWay) {
        match &call.purpose {
            Purpose::Check(Some(reporting)) => {
                self.oracle.heard(reporting);
                self.step(Event::Reported(call.id, *reporting, &call.outcome));
            }
            Purpose::Check(None) => {
                if let What::Get(id) = &call.what {
                    self.oracle.looked_at(id, call.began, &call.outcome);
                }
                self.step(Event::Answered(call.id, &call.outcome));
            }
            Purpose::Telling => self.told(call),
            Purpose::Results => {
                if self.log.results_answered(self.now.mono, call.id, &call.outcome) {
                    self.look_for_results();
                    self.step(Event::Tested);
                }
            }
            Purpose::Read(executions) => match &call.outcome {
                CallOutcome::Response(response) if response.status == 200 => {
                    let mut by_value: Few<String, Vec<Execution>> = Few::default();
                    for execution in executions {
                        let value = execution.tags["ado-run"].clone();
                        by_value.entry(value, Vec::new).unwrap().push(execution.clone());
                    }
                    if self.volatile.waits_for(call.id) {
                        self.trouble.end();
                        self.oracle.read(self.now.mono, &self.durable, executions);
                    }
                    self.step(Event::Read(call.id, &Reading { by_value: &by_value }));
                    self.look_for_results();
                }
                CallOutcome::Response(_) => {
                    let unread = Unread::Incomplete { counted: 4, listed: 3 };
                    self.not_read(call.id, &unread);
                }
                CallOutcome::Failed(fault) => {
                    self.trouble.add(fault.clone(), self.now, self.now.mono);
                    self.not_read(call.id, &Unread::Fault(fault.clone()));
                }
            },
        }
    }

    fn not_read(&mut self, id: CallId, unread: &Unread) {
        // A late answer to a reading that was given up says nothing about later ones.
        if self.volatile.waits_for(id) {
            self.oracle.unread();
        }
        self.step(Event::Unread(id, unread));
    }

    /// Gives an answer that is not awaited: of an answered call, or of an earlier leader.
    pub(super) fn answer_late(&mut self, id: CallId, outcome: &CallOutcome) {
        assert!(!self.volatile.waits_for(id));
        self.step(Event::Answered(id, outcome));
    }

    /// Gives the answer of a call under way now, and again at its own time.
    pub(super) fn double(&mut self, random: u64) {
        if !self.under_way.is_empty() {
            let at = usize::try_from(random).unwrap() % self.under_way.len();
            let call = self.under_way[at].clone();
            self.hear(&call);
        }
    }

    /// A call for results, unless it is one of these, turns out not to have been started.
    pub(super) fn lose_call_for_results(&mut self, but: &[What]) -> Option<What> {
        let is_one = |call: &UnderWay| matches!(call.purpose, Purpose::Results) && !but.contains(&call.what);
        let at = self.under_way.iter().position(is_one)?;
        let UnderWay { id, what, .. } = self.under_way.remove(at);
        self.log.results_not_started(id);
        Some(what)
    }

    fn read(&mut self) {
        let id = self.name();
        self.volatile.begin_reading(self.now.mono, id);
        let executions = self.servers.read(self.now.mono);
        self.start(id, Purpose::Read(executions), What::Read, String::new(), Duration::from_secs(20));
    }

    /// Makes a step: stores its change, then does what it asks for.
    pub(super) fn step(&mut self, event: Event<'_>) {
        if self.done.is_some() {
            return;
        }
        self.steps += 1;
        let call = self.name();
        let effects = loop {
            let (now, (until, is_pause)) = (self.now, self.no_room);
            let space = move |_: Room, _: &_| match (now.mono < until, is_pause) {
                (false, _) => Space::Free,
                (true, false) => Space::Full,
                (true, true) => Space::Quiet(until),
            };
            let mut check = Check::new(self.key, self.durable.clone(), self.volatile.clone());
            let mut cx = Cx {
                now,
                config: &self.config,
                holder: self.holder,
                random: &mut self.random,
                call,
                space: &space,
                trouble: &self.trouble,
                log: &mut self.log,
            };
            let effects = check.step(&mut cx, event);
            if check.durable != self.durable || effects.done.is_some() {
                if let Some(rival) = self.rival.take() {
                    rival(&mut self.durable);
                    self.volatile.renew(&self.durable);
                    continue;
                }
                if self.refusals > 0 {
                    self.refusals -= 1;
                    self.volatile.hold(self.now.mono.plus(Duration::from_secs(10)));
                    return;
                }
            }
            self.oracle.stepped(self.now.mono, &self.durable, &check.durable, effects.done.as_ref());
            (self.durable, self.volatile) = (check.durable, check.volatile);
            break effects;
        };
        self.perform(effects);
        self.cannot_be_forgotten();
    }

    fn perform(&mut self, effects: Effects) {
        if let Some(done) = effects.done {
            self.done = Some(done);
            return;
        }
        self.is_queued |= effects.queue.is_some();
        self.queued += usize::from(effects.queue.is_some());
        if let Some(call) = effects.call {
            self.call(call.id, Purpose::Check(call.report), &call.request);
        }
    }

    fn call(&mut self, id: CallId, purpose: Purpose, request: &Request) {
        let (what, timeout) = (What::of(request), request.timeout);
        let token = request.headers.iter().find(|(name, _)| *name == "authorization");
        let token =
            token.and_then(|(_, value)| value.strip_prefix("Bearer ")).unwrap_or_default().to_string();
        self.start(id, purpose, what, token, timeout);
    }

    fn start(&mut self, id: CallId, purpose: Purpose, what: What, token: String, timeout: Duration) {
        let now = self.now.mono;
        let before = self.sent.iter().filter(|sent| sent.what.word() == what.word()).count();
        let fate = (self.fates)(&what, before);
        if matches!(fate, Fate::NotStarted) {
            match purpose {
                Purpose::Telling => self.log.not_started(id),
                Purpose::Results => self.log.results_not_started(id),
                Purpose::Check(_) | Purpose::Read(_) => self.step(Event::NotStarted(id)),
            }
            return self.hand_over();
        }
        let is_telling = matches!(purpose, Purpose::Telling | Purpose::Results);
        self.sent.push(Sent { at: now, what: what.clone(), token: token.clone(), is_telling });
        let given_up = now.plus(timeout).plus(GRACE);
        if let Purpose::Check(Some(reporting)) = &purpose {
            self.oracle.sends(now, given_up, reporting, &self.durable, what == What::Event(true));
        }
        if let What::Rerun(id) = &what {
            let is_clear = |outcome: &CallOutcome| matches!(rerun_answer(outcome), Rerun::NotTaken(_));
            let is_taken = !matches!(&fate, Fate::Says(outcome, _) if is_clear(outcome));
            self.oracle.asks_for(id, is_taken, &self.durable);
        }
        let task = guid(1).to_string();
        let jitter = self.jitter.draw() % JITTER;
        let after = |ms| now.plus(Duration::from_millis(ms + jitter));
        let (outcome, arrives) = match fate {
            Fate::Served(ms) => (self.servers.serve(&what, &token, &task, now), after(ms)),
            Fate::Unheard => {
                self.servers.serve(&what, &token, &task, now);
                (CallOutcome::Failed(Fault::Lost), given_up)
            }
            Fate::Says(outcome, ms) => (outcome, after(ms)),
            Fate::NotStarted => return,
        };
        self.under_way.push(UnderWay { id, purpose, what, began: now, arrives, outcome });
    }

    /// The check waits for a call under way or for room, or is soon looked at again by itself.
    fn cannot_be_forgotten(&self) {
        if self.done.is_some() {
            return;
        }
        let times = self.volatile.times(&self.durable, self.now.mono);
        let next = times.wake.into_iter().chain(times.poll).min();
        let is_soon = next.is_some_and(|at| at <= self.now.mono.plus(MAX_WAIT).max(self.no_room.0));
        let is_called = self.under_way.iter().any(|call| self.volatile.waits_for(call.id));
        assert!(
            is_soon || is_called || self.is_queued,
            "{} ms after it came it waits for nothing: {:?}, {:?}",
            self.now.mono.since(CAME).as_millis(),
            self.durable.phase,
            times
        );
    }

    /// A check that was due is not due again at this very moment.
    fn is_not_due_at_once(&self) {
        let wake = self.volatile.times(&self.durable, self.now.mono).wake;
        let is_due = wake.is_some_and(|wake| wake <= self.now.mono);
        assert!(self.done.is_some() || !is_due, "it is due again at once: {:?}", self.durable.phase);
    }
}
