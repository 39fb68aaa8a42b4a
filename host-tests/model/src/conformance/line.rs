//! Each call of a recording: when it began, when it was executed, and how it ended.

use super::*;

/// How a call ended for its caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// With an answer.
    Received,
    /// Without one, at this event: given up, or the caller died.
    Lost(usize),
}

/// A call.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    pub(super) replica: &'a str,
    pub(super) request: &'a Request,
    pub(super) executed: Option<usize>,
    pub(super) end: End,
}

/// The calls for one check.
pub(super) struct Lines<'a> {
    calls: BTreeMap<u64, Line<'a>>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(events: &'a [Event], of: &str) -> Lines<'a> {
        let mut calls: BTreeMap<u64, Line<'a>> = BTreeMap::new();
        for (at, event) in events.iter().enumerate() {
            match event {
                Event::Called { call, replica, check, request } if check == of => {
                    let end = End::Lost(events.len());
                    calls.insert(*call, Line { replica, request, executed: None, end });
                }
                Event::Executed { call, .. } => {
                    if let Some(line) = calls.get_mut(call) {
                        line.executed = Some(at);
                    }
                }
                Event::Received { call, .. } => {
                    if let Some(line) = calls.get_mut(call) {
                        line.end = End::Received;
                    }
                }
                Event::Unanswered { call } => {
                    if let Some(line) = calls.get_mut(call) {
                        line.end = End::Lost(at);
                    }
                }
                Event::Died { replica } => {
                    let open = |line: &&mut Line<'a>| line.end == End::Lost(events.len());
                    let own = calls.values_mut().filter(|line| line.replica == replica).filter(open);
                    own.for_each(|line| line.end = End::Lost(at));
                }
                _ => {}
            }
        }
        Lines { calls }
    }

    pub(super) fn get(&self, call: u64) -> Option<&Line<'a>> {
        self.calls.get(&call)
    }

    /// The calls that end at this event without an answer, and were not executed before.
    pub(super) fn given_up_at(&self, at: usize) -> impl Iterator<Item = &Line<'a>> {
        let is_later = move |line: &&Line<'a>| line.executed.is_none_or(|executed| executed > at);
        self.calls.values().filter(move |line| line.end == End::Lost(at)).filter(is_later)
    }
}
