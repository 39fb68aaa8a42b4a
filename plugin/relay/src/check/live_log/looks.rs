//! Looks at the steps of single executions, for the log alone.

use super::LiveLog;
use super::LogCx;
use crate::check::{Call, Pending, Room, Space};
use crate::time::Now;
use crate::wire::call::CallOutcome;
use crate::wire::testkube::{self, Execution};
use std::time::Duration;

/// Interval between two looks at the steps of a check's executions; they take turns.
const LOOK: Duration = Duration::from_secs(15);

impl LiveLog {
    /// Takes the answer for a single execution.
    pub(in crate::check) fn looked_at(&mut self, execution: &Execution, now: Now) {
        if self.scene.look(execution) {
            self.note_change(now);
        }
        self.is_stirred = true;
        // Steps that an earlier context has told are not told again.
        if self.has_taken_over && !self.said.knows_steps_of(&execution.id) {
            self.said.look(execution);
        }
    }

    /// Looks at the steps of one of the executions: one that has just failed, else the next that runs.
    pub(super) fn look(
        &mut self,
        cx: &mut LogCx<'_>,
        pending: &Pending,
        queues: &mut Vec<Room>,
    ) -> Option<Call> {
        let now = cx.now.mono;
        if self.looking.is_some() || self.is_look_queued || now < self.next_look {
            return None;
        }
        let id = self.scene.next_look(&self.last_look)?;
        match (cx.space)(Room::Steps, &pending.callback) {
            Space::Free => {}
            Space::Full => {
                self.is_look_queued = true;
                queues.push(Room::Steps);
                return None;
            }
            Space::Quiet(until) => {
                self.next_look = until;
                return None;
            }
        }
        let request = testkube::get_execution(&cx.config.testkube, &id);
        let name = (cx.name)();
        self.looking = Some(name);
        self.next_look = now.plus(cx.random.jitter(LOOK));
        self.last_look = id;
        Some(Call { id: name, room: Room::Steps, request, report: None })
    }

    /// Takes the answer to a look. It is not judged, and a fault is not told.
    pub(super) fn looked(&mut self, pending: &Pending, outcome: &CallOutcome, now: Now) {
        let Some(ask) = &pending.ask else { return };
        if let CallOutcome::Response(response) = outcome
            && let Ok(execution) = testkube::single(response)
            && execution.carries(&ask.tag)
        {
            self.looked_at(&execution, now);
        }
    }
}
