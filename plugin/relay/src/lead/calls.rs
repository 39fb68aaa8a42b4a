//! Calls that are under way, and who waits for room: bounded for each entry of Azure DevOps and each project of it, and fair
//! between projects, so that what is slow or refused holds up only its own.

use super::poller::Batch;
use crate::check::{CheckKey, Reporting, Room, Space};
use crate::guid::Guid;
use crate::lead::aborts;
use crate::time::{Mono, Now};
use crate::wire::azure::{Callback, Paces, Urgency};
use crate::wire::call::{CallId, CallOutcome, GRACE, Request};
use std::collections::{BTreeMap, VecDeque};

/// What a call is for.
pub(super) enum Purpose {
    /// A check's own next step; what it reports, where it is the event.
    Check(CheckKey, Option<Reporting>),
    /// What is told of a check that waits, and what it shows of its executions.
    LiveLog(CheckKey),
    /// A page of a reading for several checks.
    Page(Box<Batch>),
    /// An execution of a run that is over.
    Abort(aborts::Token),
}

impl Purpose {
    /// The checks whose answer it is.
    pub(super) fn checks(&self) -> Vec<CheckKey> {
        match self {
            Purpose::Check(key, _) | Purpose::LiveLog(key) => vec![*key],
            Purpose::Page(batch) => batch.checks.clone(),
            // The check ends by itself.
            Purpose::Abort(_) => Vec::new(),
        }
    }
}

/// A call whose outcome is waited for.
pub(super) struct Flight {
    pub(super) purpose: Purpose,
    lane: Option<(Room, Lane)>,
    deadline: Mono,
}

/// So many looks at steps are begun in a second, however many executions run.
const MAX_STEPS_A_SECOND: usize = 8;

/// An entry of Azure DevOps and a project of it.
pub(super) type Lane = (String, Guid);

/// How many calls of a room may be under way: for each entry, and for each project of it.
fn most(room: Room) -> (usize, usize) {
    match room {
        Room::Azure => (32, 16),
        Room::Telling => (16, 8),
        Room::Confirm => (16, 8),
        Room::Steps => (2, 2),
    }
}

/// What goes on in one lane.
#[derive(Default)]
struct Traffic {
    calls: usize,
    queue: VecDeque<CheckKey>,
}

/// The calls of one context.
#[derive(Default)]
pub(super) struct Calls {
    flights: BTreeMap<CallId, Flight>,
    last: u64,
    /// How many calls of a room are under way for each entry: there are few of them.
    by_entry: Vec<(Room, String, usize)>,
    lanes: BTreeMap<(Room, Lane), Traffic>,
    /// How many checks wait for room.
    waiting: usize,
    /// Whose turn was last in each room.
    turns: Vec<(Room, Lane)>,
    /// How often Azure DevOps may be called, as its answers ask.
    paces: Paces,
    /// How many looks at steps may still be begun before the next tick.
    steps_left: usize,
}

/// Where a check is answered.
pub(super) fn lane(callback: &Callback) -> Lane {
    (callback.entry.clone(), callback.project)
}

impl Calls {
    /// The name of the next call.
    pub(super) fn name(&self) -> CallId {
        CallId(self.last.wrapping_add(1))
    }

    /// Takes that name.
    pub(super) fn take_name(&mut self) -> CallId {
        self.last = self.last.wrapping_add(1);
        CallId(self.last)
    }

    /// A second has passed.
    pub(super) fn tick(&mut self) {
        self.steps_left = MAX_STEPS_A_SECOND;
    }

    /// Whether a call of this kind may be started for a check that is answered there.
    pub(super) fn space(&self, now: Mono, room: Room, callback: &Callback) -> Space {
        self.space_in(now, room, &lane(callback))
    }

    fn space_in(&self, now: Mono, room: Room, lane: &Lane) -> Space {
        let urgency = match room {
            Room::Azure => Some(Urgency::Owed),
            Room::Telling => Some(Urgency::CanWait),
            Room::Confirm | Room::Steps => None,
        };
        let quiet = urgency.and_then(|urgency| self.paces.quiet_until(now, &lane.0, lane.1, urgency));
        if let Some(until) = quiet {
            return Space::Quiet(until);
        }
        let (of_entry, of_lane) = most(room);
        let by_entry = self.by_entry.iter().find(|(of, entry, _)| *of == room && *entry == lane.0);
        let calls = self.lanes.get(&(room, lane.clone())).map_or(0, |traffic| traffic.calls);
        let is_over_pace = room == Room::Steps && self.steps_left == 0;
        let is_full =
            is_over_pace || by_entry.is_some_and(|(.., calls)| *calls >= of_entry) || calls >= of_lane;
        if is_full { Space::Full } else { Space::Free }
    }

    /// A call for a check is under way.
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
            self.lanes.entry((*room, lane.clone())).or_default().calls += 1;
        }
        let deadline = now.mono.plus(request.timeout).plus(GRACE);
        self.flights.insert(id, Flight { purpose, lane, deadline });
    }

    /// A call was answered, or is given up. `None`: nobody waits for it.
    pub(super) fn end(&mut self, now: Mono, id: CallId, outcome: &CallOutcome) -> Option<Purpose> {
        let flight = self.flights.remove(&id)?;
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
                self.paces.answered(now, &lane.0, lane.1, outcome);
            }
        }
        Some(flight.purpose)
    }

    /// A check waits for room.
    pub(super) fn enqueue(&mut self, room: Room, lane: Lane, key: CheckKey) {
        self.waiting += 1;
        self.lanes.entry((room, lane)).or_default().queue.push_back(key);
    }

    /// The next check for which there is room now, and of which kind: projects take turns.
    pub(super) fn next_queued(&mut self, now: Mono) -> Option<(Room, CheckKey)> {
        if self.waiting == 0 {
            return None;
        }
        let rooms = [Room::Azure, Room::Confirm, Room::Telling, Room::Steps];
        rooms.into_iter().find_map(|room| Some((room, self.next_in(now, room)?)))
    }

    fn next_in(&mut self, now: Mono, room: Room) -> Option<CheckKey> {
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

    /// Calls that should have been answered by now.
    pub(super) fn silent(&self, now: Mono) -> Vec<CallId> {
        self.flights.iter().filter(|(_, flight)| now >= flight.deadline).map(|(id, _)| *id).collect()
    }

    pub(super) fn is_under_way(&self, id: CallId) -> bool {
        self.flights.contains_key(&id)
    }

    /// How many calls there are of a kind.
    pub(super) fn count(&self, is: impl Fn(&Purpose) -> bool) -> usize {
        self.flights.values().filter(|flight| is(&flight.purpose)).count()
    }
}
