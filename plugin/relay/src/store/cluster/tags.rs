//! Whether another replica's check waits for a tag: asked before executions with that tag are aborted.

use super::lease::Replica;
use super::secret::owner_of;
use crate::tag::Tag;
use crate::time::Mono;
use crate::wire::call::{CallOutcome, Request};
use crate::wire::kubernetes::{self, ApiAnswer, MetadataOnly, Server};
use std::time::Duration;

/// Timeout of these calls.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer holds. A check that another replica accepts meanwhile is not seen.
const HOLDS: Duration = Duration::from_secs(5);

/// Pause after a failed call.
const PAUSE: Duration = Duration::from_secs(5);

/// The tags that were asked for lately.
#[derive(Default)]
pub(crate) struct Tags(Vec<(Tag, Look)>);

/// What is known of a tag.
#[derive(Clone, Copy)]
enum Look {
    Due,
    UnderWay,
    Failed(Mono),
    /// Whether a check of another replica waits for it, and when the API server said so.
    Answered(Mono, bool),
}

impl Tags {
    /// Whether a check of another replica waits for this tag. `None`: not known yet, ask again in a second.
    pub(crate) fn is_awaited(&mut self, now: Mono, tag: &Tag) -> Option<bool> {
        self.0.retain(|(_, look)| match look {
            Look::Due | Look::UnderWay => true,
            Look::Failed(at) => now.since(*at) < PAUSE,
            Look::Answered(at, _) => now.since(*at) < HOLDS,
        });
        match self.0.iter().find(|(asked, _)| asked == tag) {
            Some((_, Look::Answered(_, is_awaited))) => return Some(*is_awaited),
            Some(_) => {}
            None => self.0.push((tag.clone(), Look::Due)),
        }
        None
    }

    /// The next call, if one is due.
    pub(crate) fn next(&mut self, replica: &Replica, server: &Server) -> Option<(Tag, Request)> {
        let (tag, look) = self.0.iter_mut().find(|(_, look)| matches!(look, Look::Due))?;
        *look = Look::UnderWay;
        Some((tag.clone(), server.list::<MetadataOnly>(&replica.checks_with(tag), None, TIMEOUT)))
    }

    /// Takes the outcome of a call. One page is enough: if more follow, the tag counts as awaited.
    pub(crate) fn answer(&mut self, now: Mono, replica: &Replica, tag: &Tag, outcome: &CallOutcome) {
        let answer = match kubernetes::listed::<MetadataOnly>(outcome) {
            ApiAnswer::Done(page) => {
                let is_foreign = page.items.iter().any(|secret| owner_of(&secret.object) != replica.id);
                Look::Answered(now, is_foreign || page.next.is_some())
            }
            answer => {
                if let Some(fault) = answer.fault() {
                    log::warn!(
                        "executions tagged {tag} are not aborted yet: the API server does not say whether another replica's check waits for them: {fault}"
                    );
                }
                Look::Failed(now)
            }
        };
        if let Some((_, look)) = self.0.iter_mut().find(|(asked, _)| asked == tag) {
            *look = answer;
        }
    }
}
