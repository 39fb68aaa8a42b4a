//! Calls through `fallback_cluster`, where Envoy adds an identity of its own, for a check whose tokens Azure DevOps no
//! longer takes.
//!
//! Only for a check with a token that Azure DevOps took before, and only for its decision: the log, the lines, the
//! record and the event, each at the plan that the token was taken for. Sending a plan's ids with another token gains
//! nothing. The identity may be refused too; then the tokens are tried again, and so on.

use super::answers::AzureCall;
use super::{Check, Effects};
use crate::wire::azure::{Answer, Entry};
use crate::wire::call::Request;
use log::Level;

/// Stands for the delivery of the presented token in such a call, so that no answer says anything about a token.
const BY_IDENTITY: u32 = u32::MAX;

/// How often a delivery's report was refused.
#[derive(Clone, Copy, Default)]
pub(super) struct Refused {
    delivery: u32,
    times: u32,
}

impl AzureCall {
    /// Whether the call is part of a report.
    fn is_owed(self) -> bool {
        matches!(self, AzureCall::OpenLog | AzureCall::Lines | AzureCall::Link | AzureCall::Event)
    }
}

impl Check {
    /// Sends a request through the fallback cluster, without the check's token, if that is due. Returns the delivery
    /// that brought the presented token.
    pub(super) fn by_the_way_that_is_due(
        &self,
        fx: &mut Effects,
        entry: &Entry,
        ask: AzureCall,
        mut request: Request,
    ) -> (Request, u32) {
        let Some(cluster) = self.fallback(entry, ask) else {
            return (request, self.durable.tokens.current_delivery());
        };
        let id = self.key.id();
        fx.say(
            Level::Warn,
            format!(
                "check {id}: Azure DevOps no longer accepts its token: {ask} goes through the fallback cluster `{cluster}`"
            ),
        );
        cluster.clone_into(&mut request.cluster);
        request.headers.retain(|(name, _)| *name != "authorization");
        (request, BY_IDENTITY)
    }

    /// The fallback cluster, if this call goes through it.
    fn fallback<'e>(&self, entry: &'e Entry, ask: AzureCall) -> Option<&'e str> {
        let cluster = entry.fallback.as_deref()?;
        let refused = self.volatile.refused;
        let tokens = self.durable.tokens.count();
        let is_due = refused.delivery == self.durable.delivery && refused.times % (tokens + 1) == tokens;
        // Excludes a record without notes about its tokens, which counts as proven otherwise.
        (is_due && ask.is_owed() && self.durable.tokens.are_proven()).then_some(cluster)
    }

    /// Notes the answer to a part of the report: after a refusal another token, or the identity, has its turn.
    pub(super) fn note_refusal(&mut self, ask: AzureCall, token: u32, answer: &Answer) {
        if !ask.is_owed() {
            return;
        }
        let refused = &mut self.volatile.refused;
        if refused.delivery != self.durable.delivery {
            *refused = Refused { delivery: self.durable.delivery, times: 0 };
        }
        match answer {
            Answer::TokenRefused => refused.times = refused.times.saturating_add(1),
            Answer::Forbidden if token == BY_IDENTITY => refused.times = refused.times.saturating_add(1),
            // A token that one part was taken with is tried first for the next.
            Answer::Taken if token != BY_IDENTITY => refused.times = 0,
            _ => {}
        }
    }
}
