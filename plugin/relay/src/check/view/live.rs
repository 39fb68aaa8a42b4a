//! What the leader knows of a pending check beyond its record, and the sentences that explain why it waits.

use super::wall_of;
use crate::check::answers::Outage;
use crate::check::{LiveLog, Pending, Phase, Volatile};
use crate::config::Config;
use crate::json::Members;
use crate::text::{clip, one_line};
use crate::time::{Mono, Now, Wall};
use crate::wire::testkube::Trouble;

/// Maximum sizes of the parts of a live view: of the explanation in bytes, of an answer in characters.
const MAX_EXPLAIN: usize = 1_500;
const MAX_LAST: usize = 300;

/// The state of a check that its leader remembers.
pub(crate) struct Live<'a> {
    pub(crate) log: &'a LiveLog,
    pub(crate) volatile: &'a Volatile,
    /// The outage of Testkube that all checks share.
    pub(crate) trouble: &'a Trouble,
}

impl Live<'_> {
    /// What may be shown of it: the members `explain` and `live`, bounded in size.
    pub(crate) fn members(&self, pending: &Pending, config: &Config, now: Now) -> String {
        let dashboard = config.testkube.dashboard.as_ref();
        let mut live = Members::default();
        live.text("as_of", &now.wall.to_string());
        let azure = self.volatile.outage.as_ref();
        let azure = azure.map(|outage| outage.view(self.volatile, now));
        live.raw("azure_devops", azure.as_deref().unwrap_or("null"));
        live.raw("reading", &self.log.scene.view(dashboard));
        let testkube = match (self.testkube(), &self.volatile.incomplete) {
            (Some(outage), _) => shown_trouble(outage, now),
            (None, Some(lists)) => {
                trouble(lists.since.wall, 1, &lists.in_words(now.wall), self.volatile.poll, now)
            }
            (None, None) => "null".into(),
        };
        live.raw("testkube", &testkube);
        let mut members = Members::default();
        members.text("explain", &clip(explain(pending, Some(self), now), MAX_EXPLAIN));
        members.raw("live", &live.object());
        members.into_text()
    }

    /// Whether its last complete reading was made after this time.
    pub(crate) fn was_read_after(&self, at: Mono) -> bool {
        self.volatile.good_reading.is_some_and(|read| read > at)
    }

    /// Whether something stands in the way at Testkube or Azure DevOps.
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.volatile.outage.is_some() || self.testkube().is_some() || self.volatile.incomplete.is_some()
    }

    /// Whether it knows more than the record and, perhaps, the leader before: it has read something, or failed to.
    pub(crate) fn knows_something(&self, pending: &Pending) -> bool {
        !matches!(pending.phase, Phase::Watching(_)) || self.log.scene.is_read() || self.is_in_trouble()
    }

    /// A number that changes when what is shown changes in meaning.
    pub(crate) fn mark(&self, pending: &Pending) -> u64 {
        let testkube = self.testkube().map_or(0, |trouble| magnitude(trouble.failures));
        let azure = self.volatile.outage.as_ref().map_or(0, |outage| magnitude(outage.failures));
        let phase = match &pending.phase {
            Phase::Accepted => 0,
            Phase::Proven => 1,
            Phase::Watching(_) => 2,
            Phase::Decided(_) => 3,
            Phase::Owing(_) => 4,
        };
        let incomplete = u64::from(self.volatile.incomplete.is_some());
        let waits = u64::from(self.log.scene.grace_ends.is_some()) | incomplete << 1;
        (u64::from(self.log.changes()) << 24) | (testkube << 16) | (azure << 8) | (waits << 4) | phase
    }

    /// The outage of Testkube that concerns it.
    fn testkube(&self) -> Option<&Trouble> {
        let all = [self.trouble, self.volatile.trouble()];
        all.into_iter().find(|trouble| trouble.last().is_some())
    }
}

/// A number that changes when the failures double; zero without any.
fn magnitude(failures: u32) -> u64 {
    u64::from(failures.checked_ilog2().map_or(0, |log| log + 1))
}

impl Outage {
    fn view(&self, volatile: &Volatile, now: Now) -> String {
        trouble(self.since, self.failures, &self.last, volatile.next_try(), now)
    }
}

/// JSON of an outage of a server; null if there is none.
pub(crate) fn shown_trouble(outage: &Trouble, now: Now) -> String {
    match outage.last() {
        Some((since, last)) => trouble(since, outage.failures, &last.to_string(), outage.wait_until, now),
        None => "null".into(),
    }
}

fn trouble(since: Wall, failures: u32, last: &str, next: Mono, now: Now) -> String {
    let mut members = Members::default();
    members.number("failures", failures.into());
    members.text("last", &one_line(last, MAX_LAST));
    members.text_or_null("next_try", future(next, now).as_deref());
    members.text("since", &since.to_string());
    members.object()
}

/// A time to come as text; null for another.
fn future(at: Mono, now: Now) -> Option<String> {
    (at > now.mono).then(|| wall_of(at, now).to_string())
}

/// Why a check waits: what for, what stands in the way, and what ends the wait. Times are absolute.
pub(crate) fn explain(pending: &Pending, live: Option<&Live<'_>>, now: Now) -> String {
    let mut sentences = vec![waits_for(pending, live, now)];
    if let Some(live) = live {
        sentences.extend(live.obstacles(pending, now));
    }
    if pending.decided().is_none() {
        let at = wall_of(pending.deadline().at, now).clock(now.wall);
        sentences.push(format!("It is decided at about {at} at the latest."));
    }
    sentences.join(" ")
}

fn waits_for(pending: &Pending, live: Option<&Live<'_>>, now: Now) -> String {
    if pending.is_doubted {
        return "Its Secret was missing: Azure DevOps is asked whether its run goes on.".into();
    }
    match (&pending.phase, &pending.ask) {
        (Phase::Accepted, _) => {
            "Azure DevOps has not accepted its token yet, so Testkube is not asked.".into()
        }
        (Phase::Proven, _) => {
            "Azure DevOps accepted its token; the time since which executions count is being read.".into()
        }
        (Phase::Watching(watch), Some(ask)) => match live.map(|live| &live.log.scene) {
            Some(scene) if scene.is_read() => scene.waits_in_words(ask),
            _ if watch.seen.is_some() => {
                format!("Waits for its executions tagged {}, some of which were seen.", ask.tag)
            }
            _ => format!("Waits for the first complete list of the executions tagged {}.", ask.tag),
        },
        (Phase::Watching(_), None) => "Waits for its executions.".into(),
        (Phase::Decided(decided), _) => format!(
            "Decided at {}: {}. Azure DevOps has not accepted the report yet.",
            decided.at.clock(now.wall),
            decided.outcome
        ),
        (Phase::Owing(owing), _) => format!(
            "Reported at {}; lines of its log are still to be written.",
            owing.reported.wall.clock(now.wall)
        ),
    }
}

impl Live<'_> {
    /// What stands in the way, or that nothing does.
    fn obstacles(&self, pending: &Pending, now: Now) -> Vec<String> {
        let mut sentences = Vec::new();
        if let Some(outage) = &self.volatile.outage {
            let since = outage.since.clock(now.wall);
            let n = outage.failures;
            sentences.push(format!(
                "Azure DevOps has not accepted its calls since {since} ({n} in a row, the last: {}).",
                outage.last
            ));
        }
        if self.volatile.held_until() > now.mono && self.volatile.outage.is_none() {
            let until = wall_of(self.volatile.held_until(), now).clock(now.wall);
            sentences.push(format!(
                "Nothing is asked for it before {until}: Azure DevOps has asked for a pause, or Envoy's shared data has refused a change."
            ));
        }
        if self.volatile.entry_missing.is_some() {
            sentences.push(format!("{} is not among `azure_devops`.", pending.callback.entry));
        }
        let (Phase::Watching(_), Some(ask)) = (&pending.phase, &pending.ask) else { return sentences };
        let trouble = self.volatile.trouble_in_words(now.wall, self.trouble);
        let scene = &self.log.scene;
        match trouble {
            Some(trouble) => sentences.push(format!("{trouble}.")),
            None if scene.is_read() => {
                sentences.push(format!("Testkube answered at {}.", scene.read_at().clock(now.wall)));
            }
            None => {}
        }
        if scene.is_read() && scene.lacks_some() {
            let by = now.wall.plus(ask.appear_timeout.saturating_sub(self.log.absent)).clock(now.wall);
            sentences.push(format!(
                "What is missing must appear by about {by}, later if Testkube does not answer."
            ));
        }
        if let Some(changed) = self.log.changed() {
            sentences.push(format!("Nothing has changed since {}.", changed.wall.clock(now.wall)));
        }
        sentences
    }
}
