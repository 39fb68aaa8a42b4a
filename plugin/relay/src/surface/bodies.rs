//! Request bodies that the streams of one VM wait for or are reading. Bounded in number and bytes, for each credential
//! and in all, so that requests that never end use up neither Envoy's memory nor the room of others.
//!
//! A body that comes at once takes up room for milliseconds. So the bounds between two ticks are wide. What exceeds the
//! narrow ones is cut off at the next tick, oldest first: a sender of slow bodies must begin [`MAX_BODIES_OF_ONE`] less
//! [`MAX_LEFT_OF_ONE`] of them in each second before a good request with the same credential is refused.
//!
//! Bodies are in Envoy's buffers, headers in the VM; both are counted. A VM that falls takes its streams and this list
//! with it.

use super::{accept, hint};
use crate::collections::Few;
use crate::surface::accept::CallerId;
use crate::surface::problem::Reply;
use std::cmp::Reverse;

/// Maximum bodies under way in one VM.
pub const MAX_BODIES: usize = 1_024;
/// Maximum of one credential.
pub const MAX_BODIES_OF_ONE: usize = 256;
/// Maximum that a tick leaves, however new they are.
pub const MAX_LEFT: usize = 256;
/// Maximum of one credential that a tick leaves.
pub const MAX_LEFT_OF_ONE: usize = 64;
/// Maximum bytes held for one VM, including the requests' headers.
pub const MAX_BYTES: usize = 32 << 20;
/// Maximum bytes held for one credential.
pub const MAX_BYTES_OF_ONE: usize = 16 << 20;

/// Ticks, one each second, that a request may wait for the first piece of its body if no body has ever come. If
/// `read_body` is set but the filter's `allow_on_headers_stop_iteration` is not, none ever does. Counted in ticks, not
/// time: a thread that stood still finds what has arrived meanwhile before that many ticks.
pub const FIRST_TICKS: u32 = 10;
/// Ticks that a whole body may take: Azure DevOps waits 20 s for an answer.
pub const ALL_TICKS: u32 = 18;

/// Ticks during which a body is new: it is then cut off only to leave [`MAX_LEFT_OF_ONE`] or [`MAX_LEFT`].
const NEW_TICKS: u32 = 2;

/// The kind of request that a body belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// A check.
    Check,
    /// A hint.
    Hint,
    /// An evaluation.
    Evaluation,
}

/// Why a request is answered before its body is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Too many bodies, or too many bytes, are on their way.
    Crowded,
    /// The body took too long.
    Late,
    /// No body came, as none ever has: this Envoy seems not to hand bodies over.
    Unread,
}

/// A stream to answer now. It is no longer in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutOff {
    /// The stream's context.
    pub stream: u32,
    /// The kind of its request.
    pub posted: Posted,
    /// The sender.
    pub caller: CallerId,
    /// The cause.
    pub why: Cut,
}

/// A body under way.
#[derive(Debug)]
struct Body {
    posted: Posted,
    caller: CallerId,
    /// Its number in order of arrival.
    number: u64,
    /// Bytes of the request's headers.
    head: usize,
    /// Bytes of the body so far.
    bytes: usize,
    has_begun: bool,
    ticks: u32,
}

impl Body {
    fn held(&self) -> usize {
        self.head + self.bytes
    }
}

/// The bodies of one VM, by their streams' contexts.
#[derive(Debug, Default)]
pub struct Bodies {
    all: Few<u32, Body>,
    last: u64,
}

impl Bodies {
    /// Adds a stream that waits for its body; `head` is the size of its request's headers in bytes. Returns the stream
    /// to answer if there is no room for it. No other stream is answered here: a local reply stops the iteration of the
    /// stream whose callback is running (proxy-wasm-cpp-host, `stopNextIteration`), so its own body would never be
    /// handed over.
    pub fn begin(&mut self, stream: u32, caller: CallerId, posted: Posted, head: usize) -> Option<CutOff> {
        let is_one_more = self.has_room(caller, |_| 1, MAX_BODIES_OF_ONE - 1, MAX_BODIES - 1);
        let left = |most: usize| most.saturating_sub(head);
        if !is_one_more || !self.has_room(caller, Body::held, left(MAX_BYTES_OF_ONE), left(MAX_BYTES)) {
            return Some(CutOff { stream, posted, caller, why: Cut::Crowded });
        }
        self.last += 1;
        let body = Body { posted, caller, number: self.last, head, bytes: 0, has_begun: false, ticks: 0 };
        self.all.insert(stream, body);
        None
    }

    /// Notes that a stream's body has `bytes` bytes so far. Returns the stream to answer if that is too many. `None` if
    /// it has been answered already.
    pub fn grow(&mut self, stream: u32, bytes: usize) -> Option<Option<CutOff>> {
        let body = self.all.get_mut(&stream)?;
        (body.bytes, body.has_begun) = (bytes, true);
        let caller = body.caller;
        match self.has_room(caller, Body::held, MAX_BYTES_OF_ONE, MAX_BYTES) {
            true => Some(None),
            false => Some(self.cut(stream, Cut::Crowded)),
        }
    }

    /// Removes a stream that waits no longer. False if it did not wait, or has been answered already.
    pub fn end(&mut self, stream: u32) -> bool {
        self.all.remove(&stream).is_some()
    }

    /// Runs a tick: returns the streams that have waited too long, and those that must give way. These are the oldest
    /// of more than [`MAX_LEFT_OF_ONE`] or [`MAX_LEFT`]; and, while more than half of that is taken, the oldest or
    /// largest that are no longer new. So room for a good request comes back in seconds. `is_handed_over` says whether
    /// a piece of any body has ever come in this process; it is called only if that matters.
    pub fn tick(&mut self, is_handed_over: impl Fn() -> bool) -> Vec<CutOff> {
        if self.all.is_empty() {
            return Vec::new();
        }
        let mut late = Vec::new();
        for (stream, body) in self.all.iter_mut() {
            body.ticks += 1;
            match body {
                Body { ticks, .. } if *ticks > ALL_TICKS => late.push((*stream, Cut::Late)),
                Body { has_begun: false, ticks, .. } if *ticks > FIRST_TICKS && !is_handed_over() => {
                    late.push((*stream, Cut::Unread));
                }
                _ => {}
            }
        }
        let mut gone: Vec<CutOff> =
            late.into_iter().filter_map(|(stream, why)| self.cut(stream, why)).collect();
        while let Some(stream) = self
            .gives_way(0, |_| 1, MAX_LEFT_OF_ONE, MAX_LEFT)
            .or_else(|| self.gives_way(NEW_TICKS, |_| 1, MAX_LEFT_OF_ONE / 2, MAX_LEFT / 2))
            .or_else(|| self.gives_way(NEW_TICKS, Body::held, MAX_BYTES_OF_ONE / 2, MAX_BYTES / 2))
        {
            gone.extend(self.cut(stream, Cut::Crowded));
        }
        gone
    }

    /// Whether the sums of `size`, for this credential and for all, are within these bounds.
    fn has_room(
        &self,
        caller: CallerId,
        size: impl Fn(&Body) -> usize,
        of_one: usize,
        of_all: usize,
    ) -> bool {
        let own = self.all.values().filter(|body| body.caller == caller);
        own.map(&size).sum::<usize>() <= of_one && self.all.values().map(&size).sum::<usize>() <= of_all
    }

    /// The stream to cut off, if more than these bounds is taken: one of the credential that has too much, or the most,
    /// and among those that are older than `new` ticks.
    fn gives_way(
        &self,
        new: u32,
        size: impl Fn(&Body) -> usize,
        of_one: usize,
        of_all: usize,
    ) -> Option<u32> {
        let all: usize = self.all.values().map(&size).sum();
        if all <= of_one {
            return None;
        }
        let mut sums: Few<CallerId, usize> = Few::default();
        for body in self.all.values() {
            if let Some(sum) = sums.entry(body.caller, || 0) {
                *sum += size(body);
            }
        }
        let most = sums.iter().max_by_key(|(_, sum)| **sum).map(|(caller, _)| *caller);
        let has_too_much = |caller: CallerId| {
            sums.get(&caller).is_some_and(|sum| *sum > of_one) || (all > of_all && most == Some(caller))
        };
        let old = self.all.iter().filter(|(_, body)| body.ticks > new && size(body) > 0);
        let crowd = old.filter(|(_, body)| has_too_much(body.caller));
        crowd.max_by_key(|(_, body)| (size(body), Reverse(body.number))).map(|(stream, _)| *stream)
    }

    fn cut(&mut self, stream: u32, why: Cut) -> Option<CutOff> {
        let Body { posted, caller, .. } = self.all.remove(&stream)?;
        Some(CutOff { stream, posted, caller, why })
    }
}

impl CutOff {
    /// The answer to its client.
    pub fn reply(&self) -> Reply {
        let (status, title, what) = match (self.why, self.posted) {
            (Cut::Unread, Posted::Hint) => return hint::body_unread(),
            (Cut::Unread, Posted::Check | Posted::Evaluation) => return accept::body_unread(),
            (Cut::Crowded, _) => (
                503,
                "Too many request bodies",
                "Too many requests send bodies that do not end, so this one was dropped".to_string(),
            ),
            (Cut::Late, _) => {
                let what = format!(
                    "It was not complete within {ALL_TICKS} s. If this happens to every request: is `allow_on_headers_stop_iteration` set on the filter?"
                );
                (408, "The body did not arrive in time", what)
            }
        };
        let what = what.trim_end_matches('.');
        let then = match self.posted {
            Posted::Check => {
                "This check was not accepted and will not be reported: Azure DevOps does not send it again. Re-run the stage; a check whose fields are all in headers needs no body."
            }
            Posted::Evaluation => "Azure DevOps asks again after the check's time between evaluations.",
            Posted::Hint => "The event is lost; checks are decided without it too, but later.",
        };
        Reply::problem(status, title, &format!("{what}. {then}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn callers() -> [CallerId; 5] {
        let text = r#"{"testkube": {"cluster": "t"}, "azure_devops": [{"url": "https://dev.azure.com/f", "cluster": "a"}],
            "credentials": [CREDENTIALS]}"#;
        let one = |n: u32| {
            format!(r#"{{"name": "c{n}", "kind": "bearer", "secret_env": "S", "allow": ["checks"]}}"#)
        };
        let text = text.replace("CREDENTIALS", &(0..5).map(one).collect::<Vec<_>>().join(","));
        let config = Config::parse(text.as_bytes(), &|_| Some("a-secret-of-tests".into())).unwrap();
        [0, 1, 2, 3, 4].map(|n| CallerId::of(&config, config.credentials.get(n)))
    }

    /// Begins `count` bodies. Returns those for which there was no room.
    fn begin(bodies: &mut Bodies, from: u32, count: u32, caller: CallerId) -> Vec<u32> {
        let cut = |stream| bodies.begin(stream, caller, Posted::Check, 0).map(|cut| cut.stream);
        (from..from + count).filter_map(cut).collect()
    }

    /// Runs `count` ticks. Returns the streams that had to give way, in order.
    fn ticks(bodies: &mut Bodies, count: u32) -> Vec<u32> {
        let cut = (0..count).flat_map(|_| bodies.tick(|| true)).collect::<Vec<_>>();
        assert!(cut.iter().all(|cut| cut.why == Cut::Crowded), "{cut:?}");
        cut.iter().map(|cut| cut.stream).collect()
    }

    #[test]
    fn one_credential_has_a_bound_of_its_own_and_its_oldest_give_way_until_half_is_free() {
        let (mut bodies, [a, b, ..]) = (Bodies::default(), callers());
        assert_eq!(begin(&mut bodies, 0, 258, a), [256, 257]);
        assert!(begin(&mut bodies, 500, 1, b).is_empty());
        assert_eq!(ticks(&mut bodies, 1), (0..192).collect::<Vec<u32>>(), "however new they are");
        assert!(ticks(&mut bodies, 1).is_empty(), "they are new");
        assert_eq!(ticks(&mut bodies, 1), (192..224).collect::<Vec<u32>>());
        assert!(begin(&mut bodies, 600, 32, a).is_empty(), "there is room again");
        assert!(!bodies.end(0) && bodies.end(500) && bodies.end(255) && bodies.end(600));
    }

    #[test]
    fn what_is_new_does_not_give_way_however_many_there_are() {
        let (mut bodies, [a, ..]) = (Bodies::default(), callers());
        for round in 0..20 {
            assert!(begin(&mut bodies, 100 * round, 60, a).is_empty());
            assert!(ticks(&mut bodies, 1).is_empty());
            (100 * round..100 * round + 60).for_each(|stream| assert!(bodies.end(stream)));
        }
    }

    #[test]
    fn slow_bodies_of_a_credential_turn_no_good_check_of_it_away() {
        const SLOW: u32 = 180;
        let (mut bodies, [a, ..]) = (Bodies::default(), callers());
        for second in 0..60 {
            assert!(begin(&mut bodies, 1_000 * second, SLOW, a).is_empty());
            // A good body comes at once, or in pieces between two ticks.
            for good in [900, 901] {
                assert!(begin(&mut bodies, 1_000 * second + good, 1, a).is_empty(), "second {second}");
            }
            assert!(bodies.end(1_000 * second + 900));
            bodies.tick(|| true);
            assert_eq!(bodies.grow(1_000 * second + 901, 800), Some(None), "second {second}");
            assert!(bodies.end(1_000 * second + 901));
        }
    }

    #[test]
    fn headers_count_among_the_bytes() {
        let (mut bodies, [a, b, ..]) = (Bodies::default(), callers());
        let mut begin = |stream, caller, head| bodies.begin(stream, caller, Posted::Hint, head).is_none();
        assert!(begin(0, a, MAX_BYTES_OF_ONE - 10) && !begin(1, a, 11) && begin(1, a, 10));
        assert!(begin(2, b, 11));
        assert_eq!(bodies.grow(1, 1).flatten().unwrap().why, Cut::Crowded);
    }

    #[test]
    fn at_the_total_limit_the_credential_with_the_most_gives_way() {
        let (mut bodies, [a, b, c, d, e]) = (Bodies::default(), callers());
        for (from, caller) in [(0, a), (1_000, b), (2_000, c), (3_000, d)] {
            assert!(begin(&mut bodies, from, 256, caller).is_empty());
        }
        assert_eq!(begin(&mut bodies, 9_000, 1, e), [9_000]);
        assert_eq!(ticks(&mut bodies, 1).len(), 768, "64 of each are left");
        assert!(begin(&mut bodies, 9_000, 60, e).is_empty());
        let cut = ticks(&mut bodies, 1);
        let of_the_smallest = cut.iter().filter(|stream| **stream >= 9_000).count();
        assert!(
            cut.len() == 60 && of_the_smallest < 10,
            "each as far as it has more than the others: {cut:?}"
        );
        ticks(&mut bodies, 2);
        assert_eq!(bodies.all.len(), 128, "half of all");
    }

    #[test]
    fn bytes_are_bounded_and_the_largest_give_way_until_half_is_free() {
        let (mut bodies, [a, b, ..]) = (Bodies::default(), callers());
        begin(&mut bodies, 0, 18, a);
        begin(&mut bodies, 100, 1, b);
        for stream in 0..16 {
            assert_eq!(bodies.grow(stream, 1 << 20), Some(None));
        }
        assert_eq!(bodies.grow(100, 1 << 16), Some(None));
        let cut = bodies.grow(16, 1).flatten().unwrap();
        assert_eq!((cut.stream, cut.why), (16, Cut::Crowded), "the one that is too much");
        assert_eq!(bodies.grow(16, 2), None, "it has been answered");
        assert_eq!(ticks(&mut bodies, 3), (0..8).collect::<Vec<u32>>());
        assert_eq!(bodies.grow(17, 1 << 20), Some(None));
        assert_eq!(bodies.grow(100, 1 << 17), Some(None));
    }

    #[test]
    fn bytes_of_all_are_bounded_where_many_credentials_send() {
        let (mut bodies, [a, b, c, ..]) = (Bodies::default(), callers());
        for (n, caller) in (0_u32..).zip([a, b]) {
            begin(&mut bodies, 100 * n, 16, caller);
            for stream in 100 * n..100 * n + 16 {
                assert_eq!(bodies.grow(stream, (1 << 20) - 10), Some(None));
            }
        }
        begin(&mut bodies, 500, 2, c);
        assert_eq!(bodies.grow(500, 320), Some(None));
        assert_eq!(bodies.grow(500, 321).flatten().unwrap().stream, 500);
        let cut = ticks(&mut bodies, 3);
        assert!(cut.len() >= 16 && cut.iter().all(|stream| *stream < 200), "{cut:?}");
        assert_eq!(bodies.grow(501, 1 << 16), Some(None));
    }

    #[test]
    fn nobody_is_told_that_bodies_are_not_read_once_one_has_come() {
        let (mut bodies, [a, ..]) = (Bodies::default(), callers());
        begin(&mut bodies, 1, 2, a);
        assert_eq!(bodies.grow(1, 1), Some(None));
        for _ in 0..FIRST_TICKS {
            assert_eq!(bodies.tick(|| false), []);
        }
        assert_eq!(bodies.tick(|| true), []);
        let unread = CutOff { stream: 2, posted: Posted::Check, caller: a, why: Cut::Unread };
        assert_eq!(bodies.tick(|| false), [unread]);
        let late: Vec<CutOff> = (0..20).flat_map(|_| bodies.tick(|| false)).collect();
        assert_eq!(late, [CutOff { stream: 1, why: Cut::Late, ..unread }]);
    }

    #[test]
    fn each_answer_says_what_becomes_of_the_request() {
        let body = |posted, why| {
            let reply = CutOff { stream: 1, posted, caller: callers()[0], why }.reply();
            (reply.status, reply.body)
        };
        let (status, text) = body(Posted::Check, Cut::Crowded);
        assert!(status == 503 && text.contains("dropped. This check was not accepted"), "{text}");
        let (status, text) = body(Posted::Evaluation, Cut::Late);
        assert!(status == 408 && text.contains("within 18 s") && text.contains("asks again"), "{text}");
        assert_eq!(body(Posted::Hint, Cut::Unread).0, 422);
        assert_eq!(body(Posted::Check, Cut::Unread).0, 422);
    }
}
