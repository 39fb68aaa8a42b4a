//! Why an event was sent again: what is known of the answer to the one before it.

use super::storm::SLOW_EVENT;
use fakes::{Event, Recorded};
use host_tests::Wire;
use std::fmt;

/// Envoy's `--log-format` for this evidence: Unix time in seconds with milliseconds, thread, level, component, text.
pub(crate) const LOG_FORMAT: &str = "[%E.%e][%t][%l][%n] %v";

/// In milliseconds: how long before its arrival an event can have been sent on a busy machine, and how long after its
/// answer is due it can still be on its way. What came later took no answer away.
const BEFORE: i64 = 1_000;
const AFTER: i64 = SLOW_EVENT.cast_signed() + 500;

/// How an answer was lost, and so many milliseconds after its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lost {
    /// Azure DevOps ended the connection instead of answering.
    Reset,
    /// The wire was cut.
    Cut(i64),
    /// The VM that had sent the event fell.
    Fallen(i64),
}

impl Lost {
    /// The reason without the time.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Lost::Reset => "Azure DevOps closed the connection without an answer",
            Lost::Cut(_) => "the connection was cut before the answer",
            Lost::Fallen(_) => "the VM that waited for the answer fell",
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Lost::Reset => Ok(()),
            Lost::Cut(ms) | Lost::Fallen(ms) => write!(f, " ({ms} ms after the event)"),
        }
    }
}

/// When a thread did something, in Unix milliseconds, by Envoy's log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Moment {
    at: i64,
    thread: String,
}

/// Who led when, and whose VM fell when.
#[derive(Debug)]
pub(crate) struct Evidence {
    leads: Vec<Moment>,
    falls: Vec<Moment>,
}

impl Evidence {
    /// Reads a log in [`LOG_FORMAT`].
    pub(crate) fn of(log: &str) -> Evidence {
        let falls = |text: &str| text.contains("Function: proxy_on_") && text.contains("failed");
        Evidence { leads: moments(log, |text| text.ends_with(": leads")), falls: moments(log, falls) }
    }

    /// The thread of the newest leader.
    pub(crate) fn leader(&self) -> Option<&str> {
        self.leads.last().map(|moment| moment.thread.as_str())
    }

    /// How often a VM fell on a thread, or on all of them.
    pub(crate) fn falls(&self, thread: Option<&str>) -> usize {
        self.falls.iter().filter(|fall| thread.is_none_or(|thread| thread == fall.thread)).count()
    }

    /// How the answer to an event was lost; `None`: nothing is known that could have taken it away. Only a leader sends
    /// events, so the VM that waited for this answer was that of a thread that led at the time.
    pub(crate) fn lost(&self, event: &Event, request: &Recorded, wire: &Wire) -> Option<Lost> {
        if request.status.is_none() {
            return Some(Lost::Reset);
        }
        let while_under_way = |at: i64| (-BEFORE..=AFTER).contains(&(at - event.at));
        if let Some(at) = wire.cut_at(request.request.connection).filter(|at| while_under_way(*at)) {
            return Some(Lost::Cut(at - event.at));
        }
        let led = |thread: &str| {
            let ends = self.leads.iter().skip(1).map(|next| next.at).chain([i64::MAX]);
            let mut terms = self.leads.iter().zip(ends).filter(|(lead, _)| lead.thread == thread);
            terms.any(|(lead, end)| lead.at <= event.at && event.at - BEFORE <= end)
        };
        let fall = self.falls.iter().find(|fall| while_under_way(fall.at) && led(&fall.thread))?;
        Some(Lost::Fallen(fall.at - event.at))
    }
}

/// `[1700000000.123][42][info][wasm] text` for the texts that fit.
fn moments(log: &str, fits: impl Fn(&str) -> bool) -> Vec<Moment> {
    let parse = |line: &str| {
        let (time, rest) = line.strip_prefix('[')?.split_once(']')?;
        let (thread, text) = rest.strip_prefix('[')?.split_once(']')?;
        let (seconds, millis) = time.split_once('.')?;
        let at = seconds.parse::<i64>().ok()? * 1_000 + millis.parse::<i64>().ok()?;
        fits(text).then(|| Moment { at, thread: thread.to_owned() })
    };
    log.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "[10.000][7][info][wasm] wasm log testrelay testrelay testrelay: leads\n\
        [11.500][8][critical][wasm] Function: proxy_on_request_headers failed: Uncaught RuntimeError: unreachable\n\
        [12.000][8][info][wasm] wasm log testrelay testrelay testrelay: leads\n\
        [12.250][8][critical][wasm] Function: proxy_on_request_headers failed: Uncaught RuntimeError: unreachable\n\
        \tat a frame\n";

    fn event(at: i64) -> Event {
        Event {
            at,
            name: "TaskCompleted".into(),
            result: None,
            task: String::new(),
            job: String::new(),
            token_used: None,
            accepted: true,
        }
    }

    fn request(at: i64, status: Option<u16>) -> Recorded {
        Recorded { at, request: fakes::Request { connection: 1, ..fakes::Request::default() }, status }
    }

    #[test]
    fn an_answer_is_lost_by_a_fall_of_the_thread_that_led_and_of_no_other() {
        let evidence = Evidence::of(LOG);
        assert_eq!((evidence.leader(), evidence.falls(None), evidence.falls(Some("7"))), (Some("8"), 2, 0));
        let wire = Wire::to(([127, 0, 0, 1], 9).into()).unwrap();
        let lost = |at, status| evidence.lost(&event(at), &request(at, status), &wire);
        assert_eq!(lost(12_100, Some(204)), Some(Lost::Fallen(-600)));
        assert_eq!(lost(12_100, None), Some(Lost::Reset));
        // Thread 8 fell, but thread 7 led.
        assert_eq!(lost(10_400, Some(204)), None);
        assert_eq!(lost(15_400, Some(204)), None);
    }
}
