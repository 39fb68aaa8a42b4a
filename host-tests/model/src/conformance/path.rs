//! One state of the model that the events so far may have led to, and what the recording calls its parties.

use super::line::Line;
use super::*;
use crate::azure::Session;
use crate::replica::Life;
use crate::server::Write;
use crate::system::System;

/// The one check that is followed.
const CHECK: usize = 0;

/// A state, and the names of its processes, tokens and decisions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Path {
    system: System,
    replicas: BTreeMap<String, Id>,
    decisions: BTreeMap<u8, String>,
    tokens: Vec<String>,
}

/// What an event may have led to, or why it does not fit.
type Found = Result<Vec<Path>, String>;

impl Path {
    pub(super) fn start(model: &Model) -> Path {
        let system = System { left: model.bounds.left, ..System::default() };
        Path { system, replicas: BTreeMap::new(), decisions: BTreeMap::new(), tokens: Vec::new() }
    }

    /// The rule that the last event broke.
    pub(super) fn broken(&self) -> Option<Broken> {
        self.system.broken
    }

    /// Whether nothing must happen any more, and what must hold then holds.
    pub(super) fn ends(&self, model: &Model) -> Result<(), String> {
        let mut steps = Vec::new();
        model.steps(&self.system, &mut steps);
        let goes_on = |step: &&Step| {
            let is_of_the_check = !matches!(step, Step::Start | Step::Renews(_) | Step::Heal(_));
            step.must_happen() && is_of_the_check && model.after(&self.system, **step) != self.system
        };
        if let Some(step) = steps.iter().find(goes_on) {
            return Err(format!("{step:?} is still to come"));
        }
        model.at_the_end(&self.system).map_or(Ok(()), |broken| Err(broken.to_string()))
    }

    /// What the event may have led to.
    pub(super) fn after(&self, model: &Model, event: &Event, at: usize, lines: &Lines<'_>) -> Found {
        let mut path = self.clone();
        path.system.left = model.bounds.left;
        path.system.broken = None;
        match event {
            Event::Started { replica } => path.start_replica(model, replica),
            Event::LeaseMade { replica } => path.lease_made(model, replica),
            Event::LeaseRenewed { replica } => {
                let id = path.reach(model, replica)?;
                path.go(model, Step::Renews(id))
            }
            Event::LeaseDeleted { replica, by } => path.lease_deleted(model, replica, by.as_deref()),
            Event::TakenForDead { replica, .. } => match path.id(replica) {
                Ok(id) if !path.system.replica(id).seems_dead() => path.go(model, Step::TakenForDead(id)),
                // It is dead, or forgotten, or was taken for dead before.
                _ => Ok(vec![path]),
            },
            Event::Drains { replica } => {
                let id = path.id(replica)?;
                path.go_if(model, Step::Drain(id))
            }
            Event::Died { replica } => path.die(model, replica, at, lines),
            Event::Delivered { replica, check: _, delivery, token, genuine } => {
                path.delivered(model, replica, *delivery, token, *genuine)
            }
            Event::Answered { replica, delivery, status, .. } => {
                path.was_answered(model, replica, *delivery, *status)
            }
            Event::Called { .. } | Event::Received { .. } => Ok(vec![path]),
            Event::Unanswered { .. } => path.given_up(model, at, lines),
            Event::Executed { call, status, found } => match lines.get(*call) {
                Some(line) => path.executed(model, line, at, *status, found.as_ref()),
                None => Ok(vec![path]),
            },
            Event::FenceUnreached { replica, check: _, decision } => {
                path.fence_unreached(model, replica, decision)
            }
            Event::AcceptedWithoutStore { replica, .. } => {
                let id = path.id(replica)?;
                if !path.system.is_waited_for(id, CHECK) {
                    return Err("nobody waits for an answer".into());
                }
                path.go(model, Step::AcceptAnyway(id, CHECK))
            }
            Event::SecretDeleted { .. } => path.go_if(model, Step::SecretDeletedByHand(CHECK)),
        }
    }

    fn id(&self, replica: &str) -> Result<Id, String> {
        self.replicas.get(replica).copied().ok_or_else(|| format!("{replica} has not started"))
    }

    fn go(mut self, model: &Model, step: Step) -> Found {
        let broken = self.system.broken;
        self.system = model.after(&self.system, step);
        self.system.broken = self.system.broken.or(broken);
        Ok(vec![self])
    }

    /// Goes the step, where the model has it.
    fn go_if(self, model: &Model, step: Step) -> Found {
        let mut steps = Vec::new();
        model.steps(&self.system, &mut steps);
        if steps.contains(&step) {
            self.go(model, step)
        } else {
            Err(format!("the model has no {step:?} here"))
        }
    }

    fn start_replica(mut self, model: &Model, replica: &str) -> Found {
        let free = (0..MAX_REPLICAS).find(|&id| self.system.replicas[id].life == Life::Absent);
        let Some(id) = free else {
            return Err(format!("more than {MAX_REPLICAS} processes at once: the checker holds no more"));
        };
        let id = id as Id;
        self.replicas.retain(|_, other| *other != id);
        self.replicas.insert(replica.to_owned(), id);
        self.go(model, Step::Start)
    }

    fn lease_made(mut self, model: &Model, replica: &str) -> Found {
        let id = self.reach(model, replica)?;
        self.go(model, Step::MakesLease(id))
    }

    /// The replica has reached the API server: if it had not for a time, that is over.
    fn reach(&mut self, model: &Model, replica: &str) -> Result<Id, String> {
        let id = self.id(replica)?;
        if self.system.replica(id).is_cut {
            self.system = model.after(&self.system, Step::Heal(id));
        }
        Ok(id)
    }

    fn lease_deleted(self, model: &Model, replica: &str, by: Option<&str>) -> Found {
        let Ok(id) = self.id(replica) else { return Ok(vec![self]) };
        match by {
            None if self.system.replica(id).lives() => self.go(model, Step::LeaseDeletedByHand(id)),
            None => self.go(model, Step::LeaseRemoved(id)),
            Some(_) => self.go_if(model, Step::LeaseRemoved(id)),
        }
    }

    fn delivered(mut self, model: &Model, to: &str, delivery: u8, token: &str, genuine: bool) -> Found {
        let id = self.id(to)?;
        if usize::from(delivery) >= MAX_DELIVERIES {
            return Err(format!(
                "more than {MAX_DELIVERIES} deliveries of one check: the checker holds no more"
            ));
        }
        let kind = match self.tokens.last() {
            _ if !genuine => Kind::OtherValues,
            None => Kind::First,
            Some(before) if before == token => Kind::SameToken,
            Some(_) => Kind::NewToken,
        };
        self.tokens.push(token.to_owned());
        if self.system.plans[CHECK].sent() != delivery {
            return Err(format!("delivery {} comes next", self.system.plans[CHECK].sent()));
        }
        let replica = self.system.replica(id);
        if !matches!(replica.life, Life::Ready | Life::Replaced) {
            return Err(format!("{to} is {:?}: it accepts nothing", replica.life));
        }
        self.go(model, Step::Deliver(id, CHECK, kind))
    }

    fn was_answered(self, model: &Model, by: &str, delivery: u8, status: u16) -> Found {
        let id = self.id(by)?;
        let session = self.system.plans[CHECK].sessions[usize::from(delivery)];
        let waits = self.system.is_waited_for(id, CHECK) && session == Session::Offered;
        let is_foreign = self.system.plans[CHECK].foreign.has(delivery);
        match (status, waits) {
            (200, false) if is_foreign || session != Session::Closed && session != Session::Offered => {
                Ok(vec![self])
            }
            (200, _) => Err(format!("delivery {delivery} is not stored")),
            (503, true) => self.go(model, Step::Refuse(id, CHECK)),
            (409, false) if session == Session::Closed => Ok(vec![self]),
            (503 | 409, false) if session != Session::Waiting => Ok(vec![self]),
            _ => Err(format!("delivery {delivery} is answered {status}, and it is {session:?}")),
        }
    }

    fn fence_unreached(mut self, model: &Model, by: &str, decision: &str) -> Found {
        let id = self.id(by)?;
        if !self.system.replica(id).is_cut {
            self.system = model.after(&self.system, Step::Cut(id));
        }
        let held = self.system.replica(id).slots[CHECK].copy.phase.decision();
        let step = Step::FenceUnreached(id, CHECK);
        let mut found = self.go_if(model, step)?;
        for path in &mut found {
            let decided = path.system.replica(id).slots[CHECK].copy.phase.decision();
            path.agrees(decided, held.is_none(), decision)?;
        }
        Ok(found)
    }

    /// Whether the recording's decision is the model's; a new one gets its name.
    fn agrees(&mut self, decided: Option<Decision>, is_new: bool, name: &str) -> Result<(), String> {
        let Some(Decision(number)) = decided else { return Err("nothing was decided".into()) };
        if is_new {
            self.decisions.insert(number, name.to_owned());
        }
        match self.decisions.get(&number) {
            Some(known) if known == name => Ok(()),
            known => Err(format!("the decision is {known:?}, not {name}")),
        }
    }

    fn die(self, model: &Model, replica: &str, at: usize, lines: &Lines<'_>) -> Found {
        let id = self.id(replica)?;
        let mut all = Vec::new();
        for path in self.given_up(model, at, lines)? {
            all.extend(path.go(model, Step::Crash(id))?);
        }
        Ok(all)
    }

    /// Calls end without an answer, and have not been executed: they will be, or never.
    fn given_up(self, model: &Model, at: usize, lines: &Lines<'_>) -> Found {
        let mut paths = vec![self];
        for line in lines.given_up_at(at) {
            if matches!(line.request, Request::Get | Request::TaskCompleted { .. }) {
                continue;
            }
            let mut next = Vec::new();
            for path in paths {
                let before = path.system.late;
                for mut lost in path.lose(model, line)? {
                    if line.executed.is_none() {
                        // It vanishes: as if it had never been made, but for the caller, who does not know.
                        lost.system.late = before;
                    }
                    next.push(lost);
                }
            }
            paths = next;
        }
        Ok(paths)
    }

    /// The call is made, and its answer is lost.
    fn lose(self, model: &Model, line: &Line<'_>) -> Found {
        let id = self.id(line.replica)?;
        let mut found = Vec::new();
        let mut why = String::new();
        for call in self.calls(model, id) {
            let mut path = self.clone();
            match path.matches(model, id, call, line.request) {
                Ok(()) => found.extend(path.go(model, Step::Lost(id, CHECK, call))?),
                Err(reason) => why = reason,
            }
        }
        if found.is_empty() {
            Err(format!("{} does not call that here: {why}", line.replica))
        } else {
            Ok(found)
        }
    }

    fn calls(&self, model: &Model, id: Id) -> Vec<Call> {
        let mut calls = Vec::new();
        model.calls(&self.system, id, CHECK, &mut calls);
        calls
    }

    fn executed(
        mut self,
        model: &Model,
        line: &Line<'_>,
        at: usize,
        status: u16,
        found: Option<&Stored>,
    ) -> Found {
        let End::Lost(end) = line.end else {
            if !matches!(line.request, Request::TaskCompleted { .. }) {
                self.reach(model, line.replica)?;
            }
            return match line.request {
                Request::Get => self.read(model, line, found),
                Request::TaskCompleted { .. } => self.called(model, line, None),
                _ => match outcome(status) {
                    Some(outcome) => self.called(model, line, Some(outcome)),
                    // A clear answer that nothing was done: it is called again.
                    None => Ok(vec![self]),
                },
            };
        };
        match line.request {
            Request::Get => Ok(vec![self]),
            Request::TaskCompleted { .. } => self.lose(model, line),
            _ if at > end => self.executed_late(model, line, status),
            _ => {
                let mut all = Vec::new();
                for path in self.lose(model, line)? {
                    all.extend(path.executed_late(model, line, status)?);
                }
                Ok(all)
            }
        }
    }

    /// A call that was given up is executed.
    fn executed_late(self, model: &Model, line: &Line<'_>, status: u16) -> Found {
        let mut all = Vec::new();
        for (n, late) in (0..).zip(self.system.late) {
            let Some(late) = late else { continue };
            let is_it = match (late.write.record(), line.request) {
                (Some(record), Request::Post { record: stored } | Request::Put { record: stored }) => {
                    self.is(&record, stored).is_ok()
                }
                (None, Request::Delete) => true,
                _ => false,
            };
            if is_it && outcome(status) == Some(self.system.answer_to(CHECK, late.write)) {
                all.extend(self.clone().go(model, Step::Late(n))?);
            }
        }
        // One that could do nothing any more is not kept.
        if all.is_empty() && outcome(status) != Some(Status::Done) {
            all.push(self);
        }
        if all.is_empty() {
            Err("a call that was given up cannot be executed like this".into())
        } else {
            Ok(all)
        }
    }

    /// A replica reads the Secret: for a reason that the model knows, or for none.
    fn read(self, model: &Model, line: &Line<'_>, found: Option<&Stored>) -> Found {
        let id = self.id(line.replica)?;
        match (&self.system.secrets[CHECK], found) {
            (None, None) => {}
            (Some(record), Some(stored)) => self.is(record, stored)?,
            (record, _) => return Err(format!("the model's server has {record:?}")),
        }
        let mut all = Vec::new();
        for call in self.calls(model, id) {
            match call {
                Call::ReadAgain => return self.go(model, Step::Call(id, CHECK, call)),
                Call::OwnSweep | Call::LookAtDead | Call::Sweep | Call::LookAtDone => {
                    all.extend(self.clone().go(model, Step::Call(id, CHECK, call))?);
                }
                _ => {}
            }
        }
        all.push(self);
        Ok(all)
    }

    /// A write, or an event, and its answer.
    fn called(self, model: &Model, line: &Line<'_>, outcome: Option<Status>) -> Found {
        let id = self.id(line.replica)?;
        let mut all = Vec::new();
        let mut why = String::from("it calls nothing");
        for call in self.calls(model, id) {
            let mut path = self.clone();
            match path.matches(model, id, call, line.request) {
                Ok(()) => {
                    let answer = outcome.map(|_| {
                        let write = model.write(&path.system, id, CHECK, call);
                        path.system.answer_to(CHECK, write)
                    });
                    if answer == outcome {
                        all.extend(path.go(model, Step::Call(id, CHECK, call))?);
                    } else {
                        why = format!("the model's server answers {answer:?}");
                    }
                }
                Err(reason) => why = reason,
            }
        }
        if all.is_empty() { Err(format!("{} does not call that here: {why}", line.replica)) } else { Ok(all) }
    }

    /// Whether the model's call asks for the same.
    fn matches(&mut self, model: &Model, id: Id, call: Call, request: &Request) -> Result<(), String> {
        let slot = self.system.replica(id).slots[CHECK];
        if let Request::TaskCompleted { delivery, decision } = request {
            if call != Call::Event {
                return Err(format!("the model would {call:?}"));
            }
            let told = slot.cover & slot.copy.unserved();
            if told.newest() != Some(*delivery) {
                return Err(format!("the token of delivery {:?} is next", told.newest()));
            }
            return self.agrees(slot.copy.phase.decision(), false, decision);
        }
        let is_read = matches!(
            call,
            Call::Event
                | Call::ReadAgain
                | Call::OwnSweep
                | Call::LookAtDead
                | Call::LookAtDone
                | Call::Sweep
        );
        if is_read {
            return Err(format!("the model would {call:?}"));
        }
        let write = model.write(&self.system, id, CHECK, call);
        let is_post = matches!(write, Write::Post(_));
        match (write.record(), request) {
            (Some(record), Request::Post { record: stored }) if is_post => self.is(&record, stored),
            (Some(record), Request::Put { record: stored }) if !is_post => {
                if let (Call::Decide, None, Some(Decision(number)), Some(name)) =
                    (call, slot.copy.phase.decision(), record.phase.decision(), &stored.decision)
                {
                    self.decisions.insert(number, name.clone());
                }
                self.is(&record, stored)
            }
            (None, Request::Delete) => Ok(()),
            (record, _) => Err(format!("the model would {call:?} {record:?}")),
        }
    }

    /// Whether the model's record is what the recording says.
    fn is(&self, record: &Record, stored: &Stored) -> Result<(), String> {
        let Record { owner, deliveries, served, proven, phase } = *record;
        let owner = owner.and_then(|id| self.replicas.iter().find(|(_, other)| **other == id));
        let owner = owner.map(|(name, _)| name.clone());
        let all = |set: Deliveries| set.all().collect::<Vec<u8>>();
        let (phase, decision) = match phase {
            Phase::Undecided => (Stage::Undecided, None),
            Phase::Done => (Stage::Done, None),
            Phase::Decided(Decision(number)) => (Stage::Decided, self.decisions.get(&number).cloned()),
        };
        let model =
            Stored { owner, deliveries: all(deliveries), served: all(served), proven, phase, decision };
        if model == *stored {
            return Ok(());
        }
        Err(format!("the model has {}", serde_json::to_string(&model).unwrap_or_default()))
    }
}

/// What a status says; none: nothing was done, and it will be tried again.
fn outcome(status: u16) -> Option<Status> {
    match status {
        200 | 201 => Some(Status::Done),
        404 => Some(Status::NotFound),
        409 => Some(Status::Conflict),
        _ => None,
    }
}
