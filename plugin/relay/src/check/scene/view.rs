//! The scene in the list of checks, and in the sentence that says what a check waits for.

use super::{Scene, Shown};
use crate::check::Ask;
use crate::json::{self, Members};
use crate::text::{listed, one_line};
use crate::time::{Wall, in_words};
use crate::wire::testkube::{Dashboard, Status};
use std::time::Duration;

/// Maximum executions, and executions that do not count, in the list of checks.
const MAX_EXECUTIONS: usize = 8;
const MAX_NOT_COUNTED: usize = 3;

/// Maximum size of the executions there, in bytes.
const MAX_EXECUTIONS_BYTES: usize = 3 << 10;

/// Maximum length of a name or a status there, in characters.
const MAX_NAME: usize = 60;

impl Scene {
    /// Whether there has been a complete reading.
    pub(in crate::check) fn is_read(&self) -> bool {
        self.read_at != Wall::default()
    }

    /// When the last complete reading was.
    pub(in crate::check) fn read_at(&self) -> Wall {
        self.read_at
    }

    /// Whether something that is expected is not there.
    pub(in crate::check) fn lacks_some(&self) -> bool {
        self.executions.is_empty() || !self.missing.is_empty()
    }

    /// JSON of the last complete reading, of a few KiB; null before the first. What did not pass comes first.
    pub(in crate::check) fn view(&self, dashboard: Option<&Dashboard>) -> String {
        if !self.is_read() {
            return "null".into();
        }
        let mut room = MAX_EXECUTIONS_BYTES;
        let executions = self.by_urgency().take(MAX_EXECUTIONS).map(|shown| shown.view(dashboard));
        let executions: Vec<String> = executions
            .take_while(|json| {
                let fits = json.len() <= room;
                room = room.saturating_sub(json.len());
                fits
            })
            .collect();
        let more = self.executions.len().saturating_sub(executions.len());
        let not_counted = self.ignored.values().take(MAX_NOT_COUNTED);
        let not_counted: Vec<String> = not_counted.map(|words| json::text(&one_line(words, 120))).collect();
        let missing = (!self.missing.is_empty()).then(|| one_line(&self.missing(), 300));
        let mut members = Members::default();
        members.text("at", &self.read_at.to_string());
        members.raw("executions", &json::list(&executions));
        members.text_or_null("missing", missing.as_deref());
        members.number("more", u64::try_from(more).unwrap_or_default());
        members.raw("not_counted", &json::list(&not_counted));
        members.object()
    }

    /// The executions; first those that have not passed.
    pub(super) fn by_urgency(&self) -> impl Iterator<Item = &Shown> {
        let is_passed = |shown: &&Shown| shown.ended && shown.status == Status::Passed;
        let rest = self.executions.iter().filter(is_passed);
        self.executions.iter().filter(move |shown| !is_passed(shown)).chain(rest)
    }

    /// What the check waits for, as one or two sentences.
    pub(in crate::check) fn waits_in_words(&self, ask: &Ask) -> String {
        let (all, ended) = (self.executions.len(), self.executions.iter().filter(|e| e.ended).count());
        let running = self.executions.iter().filter(|e| !e.ended);
        let running = running.map(|e| format!("the end of {}", one_line(&e.name, MAX_NAME)));
        let awaited = listed(self.missing.iter().map(|what| one_line(what, MAX_NAME)).chain(running), 5);
        let again = self.executions.iter().find(|e| e.tried.is_awaited());
        let which = match all {
            1 => "The execution has ended".to_owned(),
            _ => format!("All {all} executions have ended"),
        };
        match (all, awaited.is_empty(), again, self.grace_ends) {
            (0, ..) if let Some(newest) = self.only_older => format!(
                "All executions tagged {} were scheduled before the time since which they count, the newest at {}: they are older than this run, or the clocks of Testkube and Azure DevOps differ.",
                ask.tag,
                newest.clock(self.read_at)
            ),
            (0, true, ..) => format!("Waits for the first execution tagged {}.", ask.tag),
            (0, ..) => format!("Waits for {awaited}. No execution tagged {} counts yet.", ask.tag),
            (_, false, ..) => {
                format!("Waits for {awaited}. {ended} of {all} executions tagged {} have ended.", ask.tag)
            }
            (_, _, Some(again), _) => format!("Waits for a re-run of {}.", one_line(&again.name, MAX_NAME)),
            (_, _, _, Some(ends)) => {
                format!("{which}; what failed may be repeated until {}.", ends.clock(self.read_at))
            }
            _ if ask.settle.is_zero() => format!("{which}; each is looked at once more."),
            _ => format!("{which}; they decide once nothing has changed for {}.", in_words(ask.settle)),
        }
    }
}

impl Shown {
    fn view(&self, dashboard: Option<&Dashboard>) -> String {
        let mut members = Members::default();
        if let Some(dashboard) = dashboard {
            members.text("link", &dashboard.link(&self.workflow, &self.id));
        }
        members.text("name", &one_line(&self.name, MAX_NAME));
        if self.is_optional {
            members.raw("optional", "true");
        }
        members.text("scheduled", &self.scheduled.to_string());
        members.text("status", &one_line(&self.status.to_string(), MAX_NAME));
        // One that never began took no time.
        let took = if self.began { self.took } else { self.ended.then_some(Duration::ZERO) };
        if let Some(took) = took {
            members.number("took_seconds", took.as_secs());
        }
        members.text("workflow", &one_line(&self.workflow, MAX_NAME));
        members.object()
    }
}
