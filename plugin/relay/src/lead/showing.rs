//! What the leader shows: of each pending check what its record does not say, of each ended one its view, and whether
//! Testkube and Azure DevOps answer. Written when it has changed in meaning, and now and then; lost with nothing.

use super::{Lead, Turn};
use crate::check::{CheckKey, Done, Live, Pending, View, shown_trouble};
use crate::collections::Few;
use crate::json::{self, Members};
use crate::store::ledger::BUCKETS;
use crate::store::{decided, live_views};
use crate::time::{Mono, Now, Wall};
use crate::wire::azure::{Answer, classify};
use crate::wire::call::CallOutcome;
use crate::wire::testkube::Trouble;
use std::time::Duration;

/// Minimum time between two writes of one bucket's views, or of the servers' health.
const PAUSE: Duration = Duration::from_secs(5);

/// Age from which on a view is written again although nothing has changed but the time of the last reading.
const REFRESH: Duration = Duration::from_secs(120);

/// Maximum views, and maximum buckets of them, that are written in one tick: a callback may keep its thread for a few
/// milliseconds only.
const MAX_VIEWS: usize = 32;
const MAX_BUCKETS: usize = 32;

/// What is to be shown, and has not been written yet.
#[derive(Default)]
pub(super) struct Showing {
    /// Buckets with a changed view.
    stale: Few<usize, ()>,
    /// When the views of each bucket were last written.
    written: Vec<Mono>,
    /// The bucket to begin with, so that each gets its turn.
    next: usize,
    health_written: Mono,
}

/// What of a check was last written.
#[derive(Clone, Copy, Default)]
pub(super) struct Written {
    mark: u64,
    at: Mono,
    is_stale: bool,
}

/// Whether a server answers.
#[derive(Clone, Default)]
pub(super) struct Health {
    /// When it was last asked, and when it last answered.
    asked: Option<Wall>,
    answered: Option<Wall>,
    trouble: Trouble,
}

impl Health {
    /// Takes the outcome of a call to Azure DevOps. A refusal is an answer.
    pub(super) fn note(&mut self, now: Now, outcome: &CallOutcome) {
        self.asked = Some(now.wall);
        match classify(outcome) {
            Answer::Later(fault, after) => {
                self.trouble.add(fault, now, after.map_or(Mono(0), |after| now.mono.plus(after)));
            }
            _ => {
                self.answered = self.asked;
                self.trouble.end();
            }
        }
    }
}

/// The members that say whether a server answers.
fn shown(asked: Option<Wall>, answered: Option<Wall>, trouble: &Trouble, now: Now) -> Members {
    let mut members = Members::default();
    for (name, at) in [("answered", answered), ("asked", asked)] {
        members.text_or_null(name, at.map(|at| at.to_string()).as_deref());
    }
    members.raw("trouble", &shown_trouble(trouble, now));
    members
}

impl Written {
    /// Whether a view with this mark is to be written.
    fn is_due(&self, live: &Live<'_>, pending: &Pending, now: Mono) -> bool {
        let is_old = now.since(self.at) >= REFRESH && (live.was_read_after(self.at) || live.is_in_trouble());
        live.knows_something(pending) && (is_old || live.mark(pending) != self.mark)
    }
}

impl Showing {
    /// Notes the state of a check, if it is to be shown.
    pub(super) fn note(
        &mut self,
        bucket: usize,
        written: &mut Written,
        live: &Live<'_>,
        pending: &Pending,
        now: Mono,
    ) {
        if !written.is_stale && written.is_due(live, pending, now) {
            written.is_stale = true;
            self.stale.insert(bucket, ());
        }
    }

    /// Notes that a check of this bucket has ended, so that its view goes.
    pub(super) fn forget(&mut self, bucket: usize) {
        self.stale.insert(bucket, ());
    }

    /// The buckets whose views may be written now.
    fn due(&mut self, now: Mono) -> Vec<usize> {
        if self.stale.is_empty() {
            return Vec::new();
        }
        self.written.resize(BUCKETS.into(), Mono(0));
        let is_due = |bucket: &&usize| {
            self.written.get(**bucket).is_some_and(|at| now.since(*at) >= PAUSE || at.0 == 0)
        };
        let (before, after): (Vec<usize>, Vec<usize>) =
            self.stale.keys().filter(is_due).partition(|bucket| **bucket < self.next);
        after.into_iter().chain(before).take(MAX_BUCKETS).collect()
    }
}

impl Lead {
    /// Writes what has changed in what is shown.
    #[inline(never)]
    pub(super) fn show(&mut self, turn: &mut Turn<'_>) {
        let mut left = MAX_VIEWS;
        for bucket in self.showing.due(turn.now.mono) {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(self.show_bucket(turn, bucket, left));
            self.showing.next = bucket + 1;
        }
        self.show_health(turn);
    }

    /// Writes at most this many views of a bucket. Returns their number.
    fn show_bucket(&mut self, turn: &mut Turn<'_>, bucket: usize, most: usize) -> usize {
        let Lead { showing, agenda, shelf, poller, config, .. } = self;
        let now = turn.now;
        let (mut new, mut is_whole) = (Vec::new(), true);
        for key in agenda.keys_of(bucket) {
            let (Some(pending), Some(tracked)) = (shelf.find(&key), agenda.get_mut(&key)) else { continue };
            if !tracked.written.is_stale {
                continue;
            }
            if new.len() >= most {
                is_whole = false;
                break;
            }
            let live = Live { log: &tracked.log, volatile: &tracked.volatile, trouble: &poller.trouble };
            tracked.written = Written { mark: live.mark(pending), at: now.mono, is_stale: false };
            new.push((key, pending.began, live.members(pending, config, now)));
        }
        let prefix = shelf.ledger().prefix();
        let is_kept = |key: &CheckKey| shelf.find(key).is_some();
        let is_written = match live_views::update(turn.store, prefix, bucket, &new, is_kept) {
            Ok(is_written) => is_written,
            Err(status) => {
                log::error!("shared data failed with status {}: the list of checks is out of date", status.0);
                false
            }
        };
        if !is_written {
            for (key, ..) in &new {
                if let Some(tracked) = agenda.get_mut(key) {
                    tracked.written.is_stale = true;
                }
            }
        } else if is_whole {
            showing.stale.remove(&bucket);
        }
        if let Some(at) = showing.written.get_mut(bucket).filter(|_| is_whole) {
            *at = now.mono;
        }
        new.len()
    }

    fn show_health(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let is_due =
            now.mono.since(self.showing.health_written) >= PAUSE || self.showing.health_written.0 == 0;
        if !is_due || !self.calls.take_answered() {
            return;
        }
        self.showing.health_written = now.mono;
        let mut entries = Vec::new();
        for entry in &self.config.azure_devops {
            let url = entry.url();
            let mut members = match self.calls.health(&url) {
                Some(health) => shown(health.asked, health.answered, &health.trouble, now),
                None => shown(None, None, &Trouble::default(), now),
            };
            members.text("url", &url);
            entries.push(members.object());
        }
        let mut health = Members::default();
        health.text("as_of", &now.wall.to_string());
        health.raw("azure_devops", &json::list(&entries));
        let testkube = shown(self.poller.asked, self.poller.answered, &self.poller.trouble, now).object();
        health.raw("testkube", &testkube);
        // Who sees some projects only sees no entries.
        let mut alone = Members::default();
        alone.text("as_of", &now.wall.to_string());
        alone.raw("testkube", &testkube);
        let health = [alone.object(), health.object()].join("\n");
        let key = health_key(self.shelf.ledger().prefix());
        let mut write = || {
            let seen = turn.store.get(&key)?.map(|entry| entry.cas);
            turn.store.swap(&key, seen, health.as_bytes())
        };
        if let Err(crate::store::ledger::StoreError(status)) = write() {
            log::error!("shared data failed with status {status}: the servers' health is out of date");
        }
    }

    /// Notes the view of a check that has ended.
    #[inline(never)]
    pub(super) fn show_end(&mut self, turn: &mut Turn<'_>, key: &CheckKey, done: &Done) {
        self.showing.forget(self.agenda.place(key));
        let reading = self.agenda.get_mut(key).map(|tracked| tracked.log.shown(&self.config));
        let view = View::ended(key, done, reading.as_deref().unwrap_or("null"));
        let prefix = self.shelf.ledger().prefix();
        if let Err(status) = decided::note(turn.store, prefix, done.at.wall, key, &view) {
            log::error!("shared data failed with status {}: a decision is not listed", status.0);
        }
    }
}

/// The key of the servers' health in shared data: a line of JSON without the entries of Azure DevOps, and one with them.
pub(crate) fn health_key(prefix: &str) -> String {
    format!("{prefix}health")
}
