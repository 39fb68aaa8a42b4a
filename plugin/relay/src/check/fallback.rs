//! The way through `fallback_cluster`: Envoy puts an identity of its own on what is owed to a check whose tokens Azure DevOps
//! does not take any more.
//!
//! Only for a check of which Azure DevOps took a token before, and only for its decision: the log, the lines, the record, the
//! event, each at the plan that the token was taken for. Whoever sends a plan's ids with a token of his own gets nothing by it. The
//! identity may be refused too; then the tokens are tried again, and so on.

use super::answers::AzureCall;
use super::{Check, Effects};
use crate::wire::azure::{Answer, Entry};
use crate::wire::call::Request;
use log::Level;

/// In place of the delivery that brought the presented token: none did, so that no answer says anything of a token.
const BY_IDENTITY: u32 = u32::MAX;

/// How often what is owed for a delivery was refused.
#[derive(Clone, Copy, Default)]
pub(super) struct Refused {
    delivery: u32,
    times: u32,
}

impl AzureCall {
    /// Whether it is a part of a decision, which is owed.
    fn is_owed(self) -> bool {
        matches!(self, AzureCall::OpenLog | AzureCall::Lines | AzureCall::Link | AzureCall::Event)
    }
}

impl Check {
    /// Sends a request through the fallback cluster where that is due: the check's token is not in it then. Answers which
    /// delivery brought the token that it presents.
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
                "check {id}: Azure DevOps takes its token no longer: {ask} goes through the fallback cluster `{cluster}`"
            ),
        );
        cluster.clone_into(&mut request.cluster);
        request.headers.retain(|(name, _)| *name != "authorization");
        (request, BY_IDENTITY)
    }

    /// The cluster through which this call goes in place of the entry's own.
    fn fallback<'e>(&self, entry: &'e Entry, ask: AzureCall) -> Option<&'e str> {
        let cluster = entry.fallback.as_deref()?;
        let refused = self.volatile.refused;
        let tokens = self.durable.tokens.count();
        let is_due = refused.delivery == self.durable.delivery && refused.times % (tokens + 1) == tokens;
        // Not what a record without such notes is taken for.
        (is_due && ask.is_owed() && self.durable.tokens.are_proven()).then_some(cluster)
    }

    /// An answer to what is owed: after a refusal it is another token's turn, or the identity's.
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
            // What one part was taken by is tried first for the next.
            Answer::Taken if token != BY_IDENTITY => refused.times = 0,
            _ => {}
        }
    }
}
