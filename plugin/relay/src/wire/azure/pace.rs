//! Rate limits of Azure DevOps, as its answers state them.
//!
//! Azure DevOps counts usage by identity. The identity of a check's token is the build service of one project, so an
//! answer's demand holds for the project that was called, and for no other.

use super::answer::MAX_RETRY_AFTER;
use crate::collections::Few;
use crate::guid::Guid;
use crate::time::Mono;
use crate::wire::call::{Asks, CallOutcome};
use std::time::Duration;

/// How long a project rests, as a multiple of the delay that it reported. Azure DevOps delays calls by up to 30 s
/// before it refuses any.
const REST: u32 = 30;
/// Maximum rest.
const MAX_REST: Duration = Duration::from_secs(300);

/// Maximum projects for which a pause is remembered, because callers choose projects. When there are more, those with
/// the earliest end are forgotten, and may be called at once.
const MAX_PROJECTS: usize = 1_024;

/// How urgent a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A check or its decision waits for the call: only `Retry-After` holds it back.
    Owed,
    /// The call can wait: a reported delay holds it back as well.
    CanWait,
}

/// For how long an answer asks that its project not be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Pause for every call.
    pub silence: Duration,
    /// Pause for calls that can wait; at least as long as `silence`.
    pub rest: Duration,
}

impl Pace {
    /// Reads the demands of an answer's headers. They come on successful answers as well as on 429.
    pub fn of(asks: &Asks) -> Pace {
        let silence = asks.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        let rest = asks.delayed.unwrap_or_default().saturating_mul(REST).min(MAX_REST);
        Pace { silence, rest: rest.max(silence) }
    }
}

/// The projects that are not to be called, and until when.
#[derive(Clone, Debug, Default)]
pub struct Paces {
    /// By entry URL and project: the times before which no call that can wait is made, and no call at all.
    until: Few<(String, Guid), (Mono, Mono)>,
}

impl Paces {
    /// Until when this project of this entry must not be called; `None` if it may be called now.
    pub fn quiet_until(&self, now: Mono, entry: &str, project: Guid, urgency: Urgency) -> Option<Mono> {
        // Usually no project has a pause: then no key is made.
        if self.until.is_empty() {
            return None;
        }
        let (rest, silence) = self.until.get(&(entry.to_string(), project))?;
        let until = match urgency {
            Urgency::Owed => *silence,
            Urgency::CanWait => *rest,
        };
        Some(until).filter(|until| now < *until)
    }

    /// Notes what an answer asks for its project. A longer pause from an earlier answer stays.
    pub fn answered(&mut self, now: Mono, entry: &str, project: Guid, outcome: &CallOutcome) {
        let CallOutcome::Response(response) = outcome else { return };
        let pace = Pace::of(&response.asks);
        if pace == Pace::default() {
            return;
        }
        self.until.retain(|_, (rest, _)| now < *rest);
        let until = self.until.entry((entry.to_string(), project), Default::default);
        if let Some((rest, silence)) = until {
            *rest = (*rest).max(now.plus(pace.rest));
            *silence = (*silence).max(now.plus(pace.silence));
        }
        if self.until.len() > MAX_PROJECTS {
            let first = self.until.iter().min_by_key(|(_, until)| **until).map(|(key, _)| key.clone());
            first.map(|first| self.until.remove(&first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::call::Response;

    fn may_call(paces: &Paces, now: Mono, entry: &str, project: Guid, urgency: Urgency) -> bool {
        paces.quiet_until(now, entry, project, urgency).is_none()
    }

    const ENTRY: &str = "https://dev.azure.com/fabrikam";

    fn project(n: u32) -> Guid {
        Guid::parse(&format!("11111111-1111-1111-1111-{n:012}")).unwrap()
    }

    fn answer(status: u16, retry_after: Option<u64>, delayed: Option<u64>) -> CallOutcome {
        let asks = Asks {
            retry_after: retry_after.map(Duration::from_secs),
            delayed: delayed.map(Duration::from_millis),
            sent: None,
        };
        let (content_type, body) = (String::new(), Ok(Vec::new()));
        CallOutcome::Response(Response { status, content_type, asks, from_envoy: false, body })
    }

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000)
    }

    #[test]
    fn a_pause_holds_for_one_project_of_one_entry() {
        let mut paces = Paces::default();
        paces.answered(at(0), ENTRY, project(1), &answer(429, Some(60), None));
        assert!(!may_call(&paces, at(59), ENTRY, project(1), Urgency::Owed));
        assert!(may_call(&paces, at(60), ENTRY, project(1), Urgency::Owed));
        assert!(may_call(&paces, at(1), ENTRY, project(2), Urgency::CanWait));
        assert!(may_call(&paces, at(1), "https://other.example/fabrikam", project(1), Urgency::CanWait));
    }

    #[test]
    fn an_answer_that_is_given_may_ask_for_silence_too() {
        let mut paces = Paces::default();
        paces.answered(at(0), ENTRY, project(1), &answer(200, Some(60), None));
        assert!(!may_call(&paces, at(59), ENTRY, project(1), Urgency::Owed));
        assert!(!may_call(&paces, at(59), ENTRY, project(1), Urgency::CanWait));
    }

    #[test]
    fn a_delay_makes_what_can_wait_rarer_and_holds_nothing_that_is_owed() {
        let mut paces = Paces::default();
        paces.answered(at(0), ENTRY, project(1), &answer(200, None, Some(2_000)));
        assert!(may_call(&paces, at(0), ENTRY, project(1), Urgency::Owed));
        assert!(!may_call(&paces, at(59), ENTRY, project(1), Urgency::CanWait));
        assert!(may_call(&paces, at(60), ENTRY, project(1), Urgency::CanWait));
        paces.answered(at(60), ENTRY, project(1), &answer(200, None, Some(30_000)));
        assert!(!may_call(&paces, at(359), ENTRY, project(1), Urgency::CanWait));
        assert!(may_call(&paces, at(360), ENTRY, project(1), Urgency::CanWait));
    }

    #[test]
    fn an_answer_that_asks_for_less_does_not_shorten_a_pause() {
        let mut paces = Paces::default();
        paces.answered(at(0), ENTRY, project(1), &answer(429, Some(60), None));
        paces.answered(at(1), ENTRY, project(1), &answer(429, Some(1), None));
        paces.answered(at(2), ENTRY, project(1), &answer(200, None, None));
        paces.answered(at(2), ENTRY, project(1), &CallOutcome::Failed(crate::wire::call::Fault::Reset));
        assert!(!may_call(&paces, at(59), ENTRY, project(1), Urgency::Owed));
    }

    #[test]
    fn no_project_is_paused_for_longer_than_ten_minutes() {
        let mut paces = Paces::default();
        paces.answered(at(0), ENTRY, project(1), &answer(429, Some(u64::MAX), Some(u64::MAX)));
        assert!(!may_call(&paces, at(599), ENTRY, project(1), Urgency::CanWait));
        assert!(may_call(&paces, at(600), ENTRY, project(1), Urgency::CanWait));
    }

    #[test]
    fn what_is_over_is_forgotten_and_no_number_of_projects_is_too_many() {
        let mut paces = Paces::default();
        for n in 0..2_000 {
            let wait = 300 + u64::from(n) % 7;
            paces.answered(at(0), ENTRY, project(n), &answer(429, Some(wait), None));
        }
        assert_eq!(paces.until.len(), MAX_PROJECTS);
        let silent =
            (0..2_000).filter(|n| !may_call(&paces, at(1), ENTRY, project(*n), Urgency::Owed)).count();
        assert_eq!(silent, MAX_PROJECTS);
        paces.answered(at(400), ENTRY, project(1), &answer(429, Some(1), None));
        assert_eq!(paces.until.len(), 1);
    }
}
