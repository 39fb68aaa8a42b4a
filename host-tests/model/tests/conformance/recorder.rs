//! Runs of the model, recorded as runs of the replicas would be.

use model::azure::{Deliveries, Kind, Session};
use model::events::{Event, Request, Stage, Stored};
use model::model::{Model, Step};
use model::replica::{Call, Life};
use model::server::{Late, Phase, Record, Status, Write};
use model::system::{Decision, Id, MAX_REPLICAS, System};

/// Records while the model goes.
pub(crate) struct Recorder {
    model: Model,
    pub(crate) system: System,
    pub(crate) events: Vec<Event>,
    names: [String; MAX_REPLICAS],
    born: usize,
    calls: u64,
    given_up: Vec<(u64, Late)>,
    unread: u64,
}

impl Recorder {
    pub(crate) fn new(model: Model) -> Recorder {
        let system = model.start_state();
        let mut recorder = Recorder {
            model,
            system,
            events: Vec::new(),
            names: Default::default(),
            born: 0,
            calls: 0,
            given_up: Vec::new(),
            unread: 0,
        };
        for id in system.living() {
            recorder.start(id);
            if system.has_lease(id) {
                recorder.events.push(Event::LeaseMade { replica: recorder.name(id) });
            }
        }
        recorder
    }

    fn start(&mut self, id: Id) {
        self.born += 1;
        self.names[usize::from(id)] = format!("shop-{}", self.born);
        self.events.push(Event::Started { replica: self.name(id) });
    }

    fn name(&self, id: Id) -> String {
        self.names[usize::from(id)].clone()
    }

    pub(crate) fn go(&mut self, step: Step) {
        let before = self.system;
        let after = self.model.after(&before, step);
        self.record(step, &before, &after);
        self.system = after;
        for (check, (old, new)) in before.plans.iter().zip(after.plans).enumerate() {
            for (delivery, (old, new)) in (0..).zip(old.sessions.iter().zip(new.sessions)) {
                if *old == Session::Offered && matches!(new, Session::Waiting | Session::Closed) {
                    self.answered(check, delivery, &before, step, new == Session::Waiting);
                }
            }
        }
    }

    /// A delivery got its answer; that of a dead process got none.
    fn answered(&mut self, check: usize, delivery: u8, before: &System, step: Step, is_accepted: bool) {
        let by = |id: &Id| before.replica(*id).slots[check].accepting == Some(delivery);
        let (Some(by), false) = (before.living().find(by), matches!(step, Step::Crash(_) | Step::Leaves(_)))
        else {
            return;
        };
        let is_foreign = before.plans[check].foreign.has(delivery);
        let is_stored = self.system.secrets[check].is_some_and(|record| record.deliveries.has(delivery));
        let is_refused = matches!(step, Step::Refuse(..) | Step::LostAndRefused(..));
        let status = match is_accepted || is_foreign && is_stored {
            _ if is_refused => 503,
            true => 200,
            false if is_foreign => 409,
            false => 503,
        };
        let (replica, check) = (self.name(by), format!("check-{check}"));
        self.events.push(Event::Answered { replica, check, delivery, status });
    }

    fn record(&mut self, step: Step, before: &System, after: &System) {
        match step {
            Step::Call(id, check, call) => self.call(id, check, call, before),
            Step::Lost(id, check, call) | Step::LostAndRefused(id, check, call) => {
                let number = self.called(id, check, self.request(id, check, call, before));
                if call == Call::Event {
                    self.events.push(Event::Executed { call: number, status: 204, found: None });
                } else {
                    let write = self.model.write(before, id, check, call);
                    self.given_up.push((number, Late { by: id, check, write }));
                }
                self.events.push(Event::Unanswered { call: number });
            }
            Step::Late(n) => {
                let Some(late) = before.late[n] else { return };
                let same = |(_, other): &(u64, Late)| {
                    other.by == late.by
                        && other.check == late.check
                        && other.write.record() == late.write.record()
                };
                let found = self.given_up.iter().position(same).expect("a late call was given up");
                let (call, _) = self.given_up.remove(found);
                let status = status(before.answer_to(late.check, late.write));
                self.events.push(Event::Executed { call, status, found: None });
            }
            Step::Deliver(to, check, kind) => self.delivered(to, check, kind, before),
            Step::AcceptAnyway(by, check) => {
                let (replica, check) = (self.name(by), format!("check-{check}"));
                self.events.push(Event::AcceptedWithoutStore { replica, check });
            }
            Step::FenceUnreached(by, check) => {
                let decision = after.replica(by).slots[check].copy.phase.decision();
                let decision = decision.map(self.decision(check)).unwrap_or_default();
                let (replica, check) = (self.name(by), format!("check-{check}"));
                self.events.push(Event::FenceUnreached { replica, check, decision });
            }
            Step::SecretDeletedByHand(check) => {
                self.events.push(Event::SecretDeleted { check: format!("check-{check}") });
            }
            Step::PostUnread(id, check) => {
                let call = self.called(id, check, self.request(id, check, Call::Post, before));
                self.events.push(Event::Executed { call, status: 201, found: None });
                self.unread = call;
            }
            Step::ReadsAnswer(..) => self.events.push(Event::Received { call: self.unread, status: 201 }),
            Step::ExpiredDeleted(check) => {
                let call = self.called(1, check, Request::Delete);
                self.events.push(Event::Executed { call, status: 200, found: None });
                self.events.push(Event::Received { call, status: 200 });
            }
            other => self.of_processes(other, before, after),
        }
    }

    fn of_processes(&mut self, step: Step, before: &System, after: &System) {
        let by =
            |not: Id| before.living().find(|&id| id != not).map(|id| self.names[usize::from(id)].clone());
        let is_new = |id: &Id| before.replica(*id).life == Life::Absent && after.replica(*id).lives();
        let new = (0..MAX_REPLICAS as Id).find(is_new);
        let event = match step {
            Step::MakesLease(id) => Event::LeaseMade { replica: self.name(id) },
            Step::Renews(id) => Event::LeaseRenewed { replica: self.name(id) },
            Step::LeaseRemoved(id) => Event::LeaseDeleted { replica: self.name(id), by: by(id) },
            Step::LeaseDeletedByHand(id) => Event::LeaseDeleted { replica: self.name(id), by: None },
            Step::Crash(id) | Step::Leaves(id) => Event::Died { replica: self.name(id) },
            Step::Drain(id) => Event::Drains { replica: self.name(id) },
            Step::Cut(id) | Step::TakenForDead(id) => {
                Event::TakenForDead { replica: self.name(id), by: by(id).unwrap_or_default() }
            }
            Step::HotRestart(old) => {
                new.into_iter().for_each(|id| self.start(id));
                let by = new.map(|id| self.name(id)).unwrap_or_default();
                Event::TakenForDead { replica: self.name(old), by }
            }
            Step::Start => {
                new.into_iter().for_each(|id| self.start(id));
                return;
            }
            _ => return,
        };
        self.events.push(event);
    }

    fn called(&mut self, id: Id, check: usize, request: Request) -> u64 {
        self.calls += 1;
        let (replica, check) = (self.name(id), format!("check-{check}"));
        self.events.push(Event::Called { call: self.calls, replica, check, request });
        self.calls
    }

    fn call(&mut self, id: Id, check: usize, call: Call, before: &System) {
        let request = self.request(id, check, call, before);
        let (status, found) = match &request {
            Request::Get => {
                let found = before.secrets[check].map(|record| self.stored(check, &record));
                (if found.is_some() { 200 } else { 404 }, found)
            }
            Request::TaskCompleted { .. } => (204, None),
            _ => (status(before.answer_to(check, self.model.write(before, id, check, call))), None),
        };
        let call = self.called(id, check, request);
        self.events.push(Event::Executed { call, status, found });
        self.events.push(Event::Received { call, status });
    }

    fn request(&self, id: Id, check: usize, call: Call, before: &System) -> Request {
        match call {
            Call::ReadAgain | Call::OwnSweep | Call::LookAtDead | Call::LookAtDone | Call::Sweep => {
                Request::Get
            }
            Call::Event => {
                let slot = before.replica(id).slots[check];
                let delivery = (slot.cover & slot.copy.unserved()).newest().unwrap_or_default();
                let decision = slot.copy.phase.decision().map(self.decision(check)).unwrap_or_default();
                Request::TaskCompleted { delivery, decision }
            }
            _ => match self.model.write(before, id, check, call) {
                Write::Post(record) => Request::Post { record: self.stored(check, &record) },
                Write::Put(record, ..) => Request::Put { record: self.stored(check, &record) },
                Write::Delete(..) => Request::Delete,
            },
        }
    }

    fn stored(&self, check: usize, record: &Record) -> Stored {
        let Record { owner, deliveries, served, proven, phase } = *record;
        let all = |set: Deliveries| set.all().collect();
        let (phase, decision) = match phase {
            Phase::Undecided => (Stage::Undecided, None),
            Phase::Done => (Stage::Done, None),
            Phase::Decided(decision) => (Stage::Decided, Some(self.decision(check)(decision))),
        };
        let owner = owner.map(|id| self.name(id));
        Stored { owner, deliveries: all(deliveries), served: all(served), proven, phase, decision }
    }

    fn decision(&self, check: usize) -> impl Fn(Decision) -> String + use<> {
        move |Decision(number)| format!("decision {number} of check {check}")
    }

    fn delivered(&mut self, to: Id, check: usize, kind: Kind, before: &System) {
        let mut plan = before.plans[check];
        let delivery = plan.send(kind);
        let first = plan.with_token_of(delivery).all().next().unwrap_or_default();
        let genuine = kind != Kind::OtherValues;
        let token = format!("token {first}");
        let (replica, check) = (self.name(to), format!("check-{check}"));
        self.events.push(Event::Delivered { replica, check, delivery, token, genuine });
    }
}

fn status(status: Status) -> u16 {
    match status {
        Status::Done => 200,
        Status::Conflict => 409,
        Status::NotFound => 404,
    }
}
