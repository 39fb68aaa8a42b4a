//! Why an event was sent again: what is known about the answer to the previous one.

use super::storm::SLOW_EVENT;
use fakes::{Event, Recorded};
use host_tests::Wire;

/// Envoy's `--log-format` for this evidence: Unix time in seconds with milliseconds, thread, level, component, text.
pub(crate) const LOG_FORMAT: &str = "[%E.%e][%t][%l][%n] %v";

/// In milliseconds: how long before its arrival an event can have been sent, where every connection to Azure DevOps that
/// Envoy may open waits for a slow answer, and for one more after it; and how long after it was forwarded its answer can
/// still be unread. What came later took no answer away.
const BEFORE: i64 = 2 * SLOW + 500;
const UNREAD: i64 = 1_000;
/// The earliest time after its event at which an answer comes.
const SLOW: i64 = SLOW_EVENT.cast_signed();

/// How an answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lost {
    /// Azure DevOps ended the connection instead of answering.
    Reset,
    /// The wire was cut.
    Cut,
    /// The VM that had sent the event fell.
    Fallen,
    /// The context that had sent the event ended with its configuration, leading to the last.
    Ended,
    /// The connection ended before the answer, whoever ended it: nothing of the answer went over the wire.
    Closed,
}

impl Lost {
    /// The reason.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Lost::Reset => "Azure DevOps closed the connection without an answer",
            Lost::Cut => "the connection was cut before the answer",
            Lost::Fallen => "the VM that waited for the answer fell",
            Lost::Ended => "the context that waited for the answer ended",
            Lost::Closed => "the connection ended before the answer",
        }
    }
}

/// When a thread did something, in Unix milliseconds, by Envoy's log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Moment {
    at: i64,
    thread: String,
}

/// Who led when, whose VM fell when, and which contexts led until they ended.
#[derive(Debug)]
pub(crate) struct Evidence {
    leads: Vec<Moment>,
    falls: Vec<Moment>,
    ends: Vec<Moment>,
}

impl Evidence {
    /// Reads a log in [`LOG_FORMAT`].
    pub(crate) fn of(log: &str) -> Evidence {
        let falls = |text: &str| text.contains("Function: proxy_on_") && text.contains("failed");
        Evidence {
            leads: moments(log, |text| text.ends_with(": leads")),
            falls: moments(log, falls),
            ends: moments(log, |text| text.contains(": gives up the lead;")),
        }
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
        let connection = request.request.connection;
        // A connection serves one request after another: what comes over it by then is this event's answer.
        let answered = wire.answered_from(connection, event.at + SLOW - UNREAD / 2);
        let ended = wire.ended_at(connection);
        let no_longer = answered.into_iter().chain(ended).min();
        let while_under_way =
            |at: i64| event.at - BEFORE <= at && no_longer.is_none_or(|until| at <= until + UNREAD);
        if wire.cut_at(connection).is_some_and(while_under_way) {
            return Some(Lost::Cut);
        }
        let led = |thread: &str| {
            let ends = self.leads.iter().skip(1).map(|next| next.at).chain([i64::MAX]);
            let mut terms = self.leads.iter().zip(ends).filter(|(lead, _)| lead.thread == thread);
            terms.any(|(lead, end)| lead.at <= event.at && event.at - BEFORE <= end)
        };
        let some = |moments: &[Moment]| {
            moments.iter().any(|moment| while_under_way(moment.at) && led(&moment.thread))
        };
        let fallen = some(&self.falls).then_some(Lost::Fallen);
        let over = fallen.or_else(|| some(&self.ends).then_some(Lost::Ended));
        over.or_else(|| (answered.is_none() && ended.is_some()).then_some(Lost::Closed))
    }

    /// All evidence from the half minute around a time.
    pub(crate) fn around(&self, at: i64) -> String {
        let near = |moments: &[Moment]| -> Vec<Moment> {
            moments.iter().filter(|moment| (moment.at - at).abs() <= 15_000).cloned().collect()
        };
        let (leads, falls, ends) = (near(&self.leads), near(&self.falls), near(&self.ends));
        format!("leads {leads:?}, falls {falls:?}, ends {ends:?}")
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
        \tat a frame\n\
        [16.000][8][info][wasm] wasm log testrelay testrelay testrelay: gives up the lead; pending checks: 3\n";

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
    fn an_answer_is_lost_with_the_context_that_led_and_with_no_other() {
        let evidence = Evidence::of(LOG);
        assert_eq!((evidence.leader(), evidence.falls(None), evidence.falls(Some("7"))), (Some("8"), 2, 0));
        let wire = Wire::to(([127, 0, 0, 1], 9).into()).unwrap();
        let lost = |at, status| evidence.lost(&event(at), &request(at, status), &wire);
        assert_eq!(lost(12_100, Some(204)), Some(Lost::Fallen));
        assert_eq!(lost(12_100, None), Some(Lost::Reset));
        // Thread 8 fell, but thread 7 led.
        assert_eq!(lost(11_900, Some(204)), None);
        assert_eq!(lost(15_900, Some(204)), Some(Lost::Ended));
        assert_eq!(lost(20_000, Some(204)), None);
    }
}
