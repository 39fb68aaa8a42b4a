//! The results beside the live log, which tells them.

use super::{Kind, Results};
use crate::check::scene::Mark;
use crate::check::telling::rendered;
use crate::check::verdict::Assessment;
use crate::check::{Call, LiveLog, LogCx, Pending};
use crate::config::Config;
use crate::time::{Mono, Wall};
use crate::wire::call::{CallId, CallOutcome};

impl LiveLog {
    /// Takes a complete reading. Returns whether names of failed tests are known that are not told.
    pub(in crate::check) fn read_results(&mut self, read: &Assessment<'_>, config: &Config) -> bool {
        if config.checks.test_files == 0 || (self.results.is_none() && !Results::concern(read)) {
            return false;
        }
        self.results.get_or_insert_default().read(read)
    }

    /// Whether an execution has ended, so that there may be results.
    pub(crate) fn may_have_results(&self) -> bool {
        self.results.is_some()
    }

    /// Starts the next call for results, if there is room; if `others_wait`, their turn is first. Returns it, or whether it waits for room from now on.
    pub(crate) fn look_for_results(
        &mut self,
        cx: &mut LogCx<'_>,
        pending: &Pending,
        others_wait: bool,
    ) -> (Option<Call>, bool) {
        self.results.as_mut().map(|results| results.act(cx, pending, others_wait)).unwrap_or_default()
    }

    /// Takes the outcome of such a call, or that it was not started. Returns whether it was awaited.
    pub(crate) fn results_answered(&mut self, now: Mono, id: CallId, outcome: &CallOutcome) -> bool {
        let Some(results) = &mut self.results else { return false };
        let was_awaited = results.answered(now, id, outcome);
        self.is_stirred |= results.has_news();
        was_awaited
    }

    /// Notes that such a call was not started, because another context leads by now.
    pub(crate) fn results_not_started(&mut self, id: CallId) {
        if let Some(results) = &mut self.results {
            results.not_started(id);
        }
    }

    /// Notes that there is room for the call that waited for it.
    pub(crate) fn take_room_for_results(&mut self) {
        if let Some(results) = &mut self.results {
            results.take_room();
        }
    }

    /// Gives up what is still sought: what was read is told, and what was not is said.
    pub(in crate::check) fn give_up_results(&mut self) {
        if let Some(results) = &mut self.results {
            results.run_out_of_time();
        }
    }

    /// Whether names of failed tests are known that are not told.
    pub(in crate::check) fn has_results(&self) -> bool {
        self.results.as_ref().is_some_and(|results| results.has_news())
    }

    /// Whether the last lines may still have results of this kind.
    pub(in crate::check) fn awaits_results(&self, pending: &Pending, kind: Kind) -> bool {
        let results = self.results.as_ref().filter(|_| self.is_about(pending) && super::may_look(pending));
        results.is_some_and(|results| results.are_awaited(kind))
    }

    /// Adds the lines that are not told. Returns the executions whose results the log then tells.
    pub(in crate::check) fn result_lines(
        &self,
        pending: &Pending,
        config: &Config,
        lines: &mut Vec<(Mark, String)>,
    ) -> Vec<u32> {
        self.results.as_ref().map(|results| results.lines(config, pending, lines)).unwrap_or_default()
    }

    /// The lines that come after the event, because they were not known before it.
    pub(in crate::check) fn late_lines(&self, pending: &Pending, config: &Config, now: Wall) -> String {
        let mut lines = Vec::new();
        self.result_lines(pending, config, &mut lines);
        rendered(now, lines)
    }

    /// ` Failed tests: CartTest › adds and 40 more.`, or nothing.
    pub(in crate::check) fn failed_tests(&self) -> String {
        self.results.as_ref().map(|results| results.failed_in_words()).unwrap_or_default()
    }

    /// Notes that the log tells the results of these executions.
    pub(in crate::check) fn note_results_told(&mut self, told: &[u32]) {
        if let Some(results) = &mut self.results {
            results.note_told(told);
        }
    }

    /// Notes that the last lines are under way with what is known now.
    pub(in crate::check) fn offer_results(&mut self) {
        if let Some(results) = &mut self.results {
            results.offer();
        }
    }

    /// Notes that the last lines were taken.
    pub(in crate::check) fn note_results_taken(&mut self) {
        if let Some(results) = &mut self.results {
            results.note_taken();
        }
    }
}
