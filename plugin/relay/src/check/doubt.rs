//! A check whose Secret is missing. Somebody has deleted it, or has set the store back: then it goes on, and is stored again.
//! Or another process took this one for dead, has ended the check, and has deleted its Secret: then nothing may be decided
//! again. Azure DevOps knows which, because it completes a check's record when it takes the event.

use super::answers::{AzureCall, MAX_RETRY};
use super::{Check, Cx, Effects};
use crate::secret::Secret;
use crate::wire::azure::{self, Answer, Entry};
use crate::wire::call::CallOutcome;
use log::Level;

impl Check {
    /// Reads the check's own record.
    pub(super) fn ask_whether_over(&mut self, cx: &mut Cx<'_>, fx: &mut Effects) -> bool {
        if cx.now.mono < self.volatile.next {
            return false;
        }
        let callback = self.durable.callback.clone();
        let timeline = callback.timeline.unwrap_or(callback.plan);
        let request = |entry: &Entry, token: &Secret| azure::read_records(entry, &callback, token, timeline);
        self.call_azure(cx, fx, AzureCall::Doubt(self.durable.delivery), request);
        false
    }

    /// Takes the answer. Where nobody can tell, the check goes on: an event that comes twice is refused, and one that never
    /// comes holds the stage.
    pub(super) fn doubt_answered(
        &mut self,
        cx: &mut Cx<'_>,
        fx: &mut Effects,
        delivery: u32,
        answer: &Answer,
        outcome: &CallOutcome,
    ) {
        if !self.durable.is_doubted {
            return;
        }
        // The answer may be older than a further delivery, which begins the record anew: it is asked for again.
        if self.durable.delivery != delivery {
            return self.restart();
        }
        let id = self.key.id();
        let is_over = match answer {
            Answer::Later(_, after) => {
                self.retry(cx, *after, MAX_RETRY);
                return;
            }
            Answer::Over(_) => true,
            Answer::Taken => self.is_completed(outcome),
            Answer::TokenRefused | Answer::Forbidden | Answer::Refused(_) => false,
        };
        self.restart();
        self.durable.is_doubted = false;
        if is_over {
            let line = "its Secret is gone, and Azure DevOps no longer waits for it";
            fx.say(Level::Info, format!("check {id}: {line}"));
            let is_reported = self.durable.is_reported || self.durable.taken;
            fx.done = Some(self.durable.done(is_reported, cx.now));
        } else {
            fx.say(Level::Warn, format!("check {id}: its Secret was deleted: it is stored again"));
        }
    }

    fn is_completed(&self, outcome: &CallOutcome) -> bool {
        let CallOutcome::Response(response) = outcome else { return false };
        let body = response.body.as_deref().ok();
        let own = body.and_then(|body| azure::own_record(body, &self.durable.callback.task));
        own.is_some_and(|own| own.completed)
    }
}
