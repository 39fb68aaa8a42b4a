//! The way through `fallback_cluster`: Envoy puts an identity of its own on what is owed to a check whose tokens Azure DevOps
//! does not take any more.
//!
//! Only for a check of which Azure DevOps took a token before, and only for its decision: the log, the lines, the record, the
//! event, each at the plan that the token was taken for. Whoever sends a plan's ids with a token of his own gets nothing by it. The
//! identity may be refused too; then the tokens are tried again, and so on.

use super::Lead;
use super::azure_calls::Step;
use crate::azure::{Answer, Entry};
use crate::call::Request;
use crate::check::{CheckKey, Pending};

/// In place of the delivery that brought the presented token: none did, so that no answer says anything of a token.
const BY_IDENTITY: u32 = u32::MAX;

/// How often what is owed for a delivery was refused.
#[derive(Clone, Copy, Default)]
pub(super) struct Refused {
    delivery: u32,
    times: u32,
}

impl Step {
    /// Whether it is a part of a decision, which is owed.
    fn is_owed(self) -> bool {
        matches!(self, Step::OpenLog | Step::Line | Step::Link | Step::Event { .. })
    }
}

impl Lead {
    /// Sends a request through the fallback cluster where that is due: the check's token is not in it then. Answers which
    /// delivery brought the token that it presents.
    pub(super) fn by_the_way_that_is_due(
        &self,
        key: &CheckKey,
        pending: &Pending,
        entry: &Entry,
        step: Step,
        mut request: Request,
    ) -> (Request, u32) {
        let Some(cluster) = self.fallback(key, pending, entry, step) else {
            return (request, pending.tokens.current_delivery());
        };
        log::warn!(
            "check {}: Azure DevOps takes its token no longer: {step} goes through the fallback cluster `{cluster}`",
            key.id()
        );
        cluster.clone_into(&mut request.cluster);
        request.headers.retain(|(name, _)| *name != "authorization");
        (request, BY_IDENTITY)
    }

    /// The cluster through which this call goes in place of the entry's own.
    fn fallback<'e>(
        &self,
        key: &CheckKey,
        pending: &Pending,
        entry: &'e Entry,
        step: Step,
    ) -> Option<&'e str> {
        let cluster = entry.fallback.as_deref()?;
        let refused = self.tasks.get(key).map(|task| task.refused).unwrap_or_default();
        let tokens = pending.tokens.count();
        let is_due = refused.delivery == pending.delivery && refused.times % (tokens + 1) == tokens;
        // Not what a record without such notes is taken for.
        (is_due && step.is_owed() && pending.tokens.are_proven()).then_some(cluster)
    }

    /// An answer to what is owed: after a refusal it is another token's turn, or the identity's.
    pub(super) fn note_refusal(&mut self, key: &CheckKey, step: Step, token: u32, answer: &Answer) {
        let Some(delivery) = self.find(key).filter(|_| step.is_owed()).map(|pending| pending.delivery) else {
            return;
        };
        let task = self.tasks.entry(*key).or_default();
        if task.refused.delivery != delivery {
            task.refused = Refused { delivery, times: 0 };
        }
        match answer {
            Answer::TokenRefused => task.refused.times = task.refused.times.saturating_add(1),
            Answer::Forbidden if token == BY_IDENTITY => {
                task.refused.times = task.refused.times.saturating_add(1);
            }
            // What one part was taken by is tried first for the next.
            Answer::Taken if token != BY_IDENTITY => task.refused.times = 0,
            _ => {}
        }
    }
}
