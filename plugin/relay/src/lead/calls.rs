//! Calls under way, and the checks that wait for room. Bounded for each entry of Azure DevOps and each of its projects,
//! and fair between projects, so that slow or refused calls hold up only their own project.

use super::poller::Batch;
use super::sharing::SharingCall;
use super::showing::Health;
use crate::check::{CheckKey, Reporting, Room, Space};
use crate::collections::Few;
use crate::guid::Guid;
use crate::lead::aborts;
use crate::time::{Mono, Now};
use crate::wire::azure::{Callback, Paces, Urgency};
use crate::wire::call::{CallId, CallOutcome, GRACE, Request};
use std::collections::VecDeque;

/// The purpose of a call.
pub(super) enum Purpose {
    /// A check's own next step; with what it reports, if the call is the event.
    Check(CheckKey, Option<Reporting>),
    /// The live log of a waiting check, or a look at its executions' steps.
    LiveLog(CheckKey),
    /// The results of a check's tests.
    Results(CheckKey),
    /// A page of a reading for several checks.
    Page(Box<Batch>),
    /// The abort of an execution whose run is over.
    Abort(aborts::Token),
    /// The call with this number of the preflight that began then.
    Preflight(Mono, usize),
    /// A call of the cluster store.
    Share(Box<SharingCall>),
}

impl Purpose {
    /// The checks that the answer is for.
    pub(super) fn checks(&self) -> Vec<CheckKey> {
        match self {
            Purpose::Check(key, _) | Purpose::LiveLog(key) | Purpose::Results(key) => vec![*key],
            Purpose::Page(batch) => batch.checks.clone(),
            // The check ends by itself; a preflight is about none.
            Purpose::Abort(_) | Purpose::Preflight(..) => Vec::new(),
            // Only the leader reads it, and it changes the check's Secret, not its course.
            Purpose::Share(_) => Vec::new(),
        }
    }
}

/// A call whose outcome is awaited.
pub(super) struct Flight {
    pub(super) purpose: Purpose,
    lane: Option<(Room, Lane)>,
    deadline: Mono,
}

/// Maximum looks at steps that are begun in a second.
const MAX_STEPS_A_SECOND: usize = 8;

/// An entry of Azure DevOps and a project of it.
pub(super) type Lane = (String, Guid);

/// Maximum calls of a room under way: for each entry, and for each of its projects.
fn most(room: Room) -> (usize, usize) {
    match room {
        Room::Azure => (32, 16),
        Room::Telling => (16, 8),
        Room::Confirm => (16, 8),
        Room::Rerun => (4, 2),
        Room::Steps => (2, 2),
        // A file comes as a whole, so there is one at a time in the process.
        Room::Results => (1, 1),
    }
}

/// The calls and the queue of one lane.
#[derive(Default)]
struct Traffic {
    calls: usize,
    queue: VecDeque<CheckKey>,
}

/// The calls of one context.
#[derive(Default)]
pub(super) struct Calls {
    flights: Few<CallId, Flight>,
    last: u64,
    /// Calls under way by room and entry; a list, because there are few entries.
    by_entry: Vec<(Room, String, usize)>,
    lanes: Few<(Room, Lane), Traffic>,
    /// Number of checks that wait for room.
    waiting: usize,
    /// The lane that had the last turn, by room.
    turns: Vec<(Room, Lane)>,
    /// The pauses that Azure DevOps's answers ask for.
    paces: Paces,
    /// Whether the entries of Azure DevOps answer; a list, because there are few.
    health: Vec<(String, Health)>,
    /// Whether any call was answered since this was last asked.
    is_answered: bool,
    /// Looks at steps that may still begin before the next tick.
    steps_left: usize,
}

/// The lane of a check's calls.
pub(super) fn lane(callback: &Callback) -> Lane {
    (callback.entry.clone(), callback.project)
}

impl Calls {
    /// The id of the next call.
    pub(super) fn name(&self) -> CallId {
        CallId(self.last.wrapping_add(1))
    }

    /// Takes the id of the next call.
    pub(super) fn take_name(&mut self) -> CallId {
        self.last = self.last.wrapping_add(1);
        CallId(self.last)
    }

    /// Renews the budget of a second.
    pub(super) fn tick(&mut self) {
        self.steps_left = MAX_STEPS_A_SECOND;
    }

    /// Whether a call of this kind may be started for the check at `callback`.
    pub(super) fn space(&self, now: Mono, room: Room, callback: &Callback) -> Space {
        self.space_in(now, room, &lane(callback))
    }

    fn space_in(&self, now: Mono, room: Room, lane: &Lane) -> Space {
        let urgency = match room {
            Room::Azure => Some(Urgency::Owed),
            Room::Telling => Some(Urgency::CanWait),
            Room::Confirm | Room::Rerun | Room::Steps | Room::Results => None,
        };
        let quiet = urgency.and_then(|urgency| self.paces.quiet_until(now, &lane.0, lane.1, urgency));
        if let Some(until) = quiet {
            return Space::Quiet(until);
        }
        let (of_entry, of_lane) = most(room);
        let by_entry = self.by_entry.iter().find(|(of, entry, _)| *of == room && *entry == lane.0);
        let calls = self.lanes.get(&(room, lane.clone())).map_or(0, |traffic| traffic.calls);
        let is_over_pace = match room {
            Room::Steps => self.steps_left == 0,
            Room::Results => self.by_entry.iter().any(|(of, _, calls)| *of == room && *calls > 0),
            _ => false,
        };
        let is_full =
            is_over_pace || by_entry.is_some_and(|(.., calls)| *calls >= of_entry) || calls >= of_lane;
        if is_full { Space::Full } else { Space::Free }
    }

    /// Notes that a call is under way.
    pub(super) fn begin(
        &mut self,
        now: Now,
        id: CallId,
        request: &Request,
        purpose: Purpose,
        lane: Option<(Room, Lane)>,
    ) {
        if let Some((room, lane)) = &lane {
            if *room == Room::Steps {
                self.steps_left = self.steps_left.saturating_sub(1);
            }
            match self.by_entry.iter_mut().find(|(of, entry, _)| of == room && *entry == lane.0) {
                Some((.., calls)) => *calls += 1,
                None => self.by_entry.push((*room, lane.0.clone(), 1)),
            }
            if let Some(traffic) = self.lanes.entry((*room, lane.clone()), Traffic::default) {
                traffic.calls += 1;
            }
        }
        let deadline = now.mono.plus(request.timeout).plus(GRACE);
        self.flights.insert(id, Flight { purpose, lane, deadline });
    }

    /// Notes that a call was answered or given up. `None` if it is not awaited.
    pub(super) fn end(&mut self, now: Now, id: CallId, outcome: &CallOutcome) -> Option<Purpose> {
        let flight = self.flights.remove(&id)?;
        self.is_answered = true;
        if let Some((room, lane)) = flight.lane {
            let by_entry = self.by_entry.iter_mut().find(|(of, entry, _)| *of == room && *entry == lane.0);
            if let Some((.., calls)) = by_entry {
                *calls = calls.saturating_sub(1);
            }
            let place = (room, lane.clone());
            if let Some(traffic) = self.lanes.get_mut(&place) {
                traffic.calls = traffic.calls.saturating_sub(1);
                if traffic.calls == 0 && traffic.queue.is_empty() {
                    self.lanes.remove(&place);
                }
            }
            if matches!(room, Room::Azure | Room::Telling) {
                self.paces.answered(now.mono, &lane.0, lane.1, outcome);
                match self.health.iter_mut().find(|(entry, _)| *entry == lane.0) {
                    Some((_, health)) => health.note(now, outcome),
                    None => {
                        let mut health = Health::default();
                        health.note(now, outcome);
                        self.health.push((lane.0, health));
                    }
                }
            }
        }
        Some(flight.purpose)
    }

    /// Whether an entry of Azure DevOps answers; `None` if it was not called.
    pub(super) fn health(&self, entry: &str) -> Option<&Health> {
        self.health.iter().find(|(of, _)| of == entry).map(|(_, health)| health)
    }

    /// Whether any call was answered since this was last asked.
    pub(super) fn take_answered(&mut self) -> bool {
        std::mem::take(&mut self.is_answered)
    }

    /// Queues a check that waits for room.
    pub(super) fn enqueue(&mut self, room: Room, lane: Lane, key: CheckKey) {
        self.waiting += 1;
        if let Some(traffic) = self.lanes.entry((room, lane), Traffic::default) {
            traffic.queue.push_back(key);
        }
    }

    /// Whether a check waits for this room.
    pub(super) fn is_awaited(&self, room: Room) -> bool {
        self.waiting > 0
            && self.lanes.iter().any(|(place, traffic)| place.0 == room && !traffic.queue.is_empty())
    }

    /// The next check for which there is room, and the room's kind. Projects take turns. [`Room::Results`] has its turn
    /// elsewhere.
    pub(super) fn next_queued(&mut self, now: Mono) -> Option<(Room, CheckKey)> {
        if self.waiting == 0 {
            return None;
        }
        let rooms = [Room::Azure, Room::Confirm, Room::Rerun, Room::Telling, Room::Steps];
        rooms.into_iter().find_map(|room| Some((room, self.next_in(now, room)?)))
    }

    /// The next check for which there is room of this kind.
    pub(super) fn next_in(&mut self, now: Mono, room: Room) -> Option<CheckKey> {
        let turn = self.turns.iter().position(|(of, _)| *of == room);
        let last = turn.and_then(|turn| self.turns.get(turn)).map(|(_, lane)| lane);
        let waits =
            |(place, traffic): &(&(Room, Lane), &Traffic)| place.0 == room && !traffic.queue.is_empty();
        let waiting = self.lanes.iter().filter(waits).map(|((_, lane), _)| lane);
        let free = |lane: &&Lane| self.space_in(now, room, lane) == Space::Free;
        let mut first = None;
        let mut next = None;
        for lane in waiting.filter(free) {
            if last.is_none_or(|last| lane > last) {
                next = Some(lane);
                break;
            }
            first = first.or(Some(lane));
        }
        let lane = next.or(first)?.clone();
        match turn.and_then(|turn| self.turns.get_mut(turn)) {
            Some((_, last)) => last.clone_from(&lane),
            None => self.turns.push((room, lane.clone())),
        }
        self.waiting = self.waiting.saturating_sub(1);
        let place = (room, lane);
        let traffic = self.lanes.get_mut(&place)?;
        let key = traffic.queue.pop_front();
        if traffic.calls == 0 && traffic.queue.is_empty() {
            self.lanes.remove(&place);
        }
        key
    }

    /// Calls whose deadline has passed without an answer.
    pub(super) fn silent(&self, now: Mono) -> Vec<CallId> {
        self.flights.iter().filter(|(_, flight)| now >= flight.deadline).map(|(id, _)| *id).collect()
    }

    pub(super) fn is_under_way(&self, id: CallId) -> bool {
        self.flights.contains_key(&id)
    }

    /// Number of calls with such a purpose.
    pub(super) fn count(&self, is: impl Fn(&Purpose) -> bool) -> usize {
        self.flights.values().filter(|flight| is(&flight.purpose)).count()
    }
}
