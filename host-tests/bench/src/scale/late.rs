//! A fake that answers late, and what it got: counted by kind, and kept without headers and bodies, which hold tokens.

use fakes::{AzureDevOps, Recorded, Reply, Request, Service, Testkube};
use std::collections::BTreeMap;

/// How late an answer is, in milliseconds: each of these as often as the others.
const LATENCY: std::ops::RangeInclusive<u64> = 3..=7;

/// What a request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A list of executions.
    List,
    /// One execution.
    Execution,
    /// A log was opened.
    OpenLog,
    /// Lines were written.
    Lines,
    /// A record was changed.
    Change,
    /// A look at the check's record, or at its build: whether the run goes on, and when the build began.
    Look,
    /// An event that was taken.
    Event,
    /// 429.
    Throttled,
    /// Everything else.
    Other,
}

impl Kind {
    /// The kind of a request that was answered.
    pub fn of(recorded: &Recorded) -> Kind {
        let (method, path) = (recorded.request.method.as_str(), recorded.request.path());
        match (method, recorded.status) {
            (_, Some(429)) => Kind::Throttled,
            ("GET", Some(200)) if path.ends_with("/test-workflow-executions") => Kind::List,
            ("GET", Some(200)) if path.contains("/test-workflow-executions/") => Kind::Execution,
            ("GET", Some(200)) if path.ends_with("/records") || path.contains("/build/builds/") => Kind::Look,
            ("POST", Some(200)) if path.ends_with("/logs") => Kind::OpenLog,
            ("POST", Some(200)) if path.contains("/logs/") => Kind::Lines,
            ("PATCH", Some(200)) => Kind::Change,
            ("POST", Some(204)) if path.ends_with("/events") => Kind::Event,
            _ => Kind::Other,
        }
    }
}

/// A fake whose recordings can be taken away.
pub trait Fake: Service + Send {
    /// What it got since it was last asked.
    fn take(&mut self) -> Vec<Recorded>;
}

impl Fake for Testkube {
    fn take(&mut self) -> Vec<Recorded> {
        self.take_requests()
    }
}

impl Fake for AzureDevOps {
    fn take(&mut self) -> Vec<Recorded> {
        self.take_requests()
    }
}

/// A fake that answers late.
#[derive(Debug)]
pub struct Late<S> {
    /// The fake.
    pub fake: S,
    random: u64,
    counts: BTreeMap<Kind, usize>,
    got: Vec<Recorded>,
}

impl<S: Fake> Late<S> {
    /// Around a fake.
    pub fn new(fake: S) -> Late<S> {
        Late { fake, random: 0x9e37_79b9_7f4a_7c15, counts: BTreeMap::new(), got: Vec::new() }
    }

    /// How many requests of a kind there were.
    pub fn count(&self, kind: Kind) -> usize {
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    /// The requests since it was last asked.
    pub fn take(&mut self) -> Vec<Recorded> {
        std::mem::take(&mut self.got)
    }

    fn latency(&mut self) -> u64 {
        // Xorshift.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        LATENCY.start() + self.random % (LATENCY.end() - LATENCY.start() + 1)
    }
}

impl<S: Fake> Service for Late<S> {
    fn handle(&mut self, now: i64, request: &Request) -> Reply {
        let reply = self.fake.handle(now, request);
        for mut recorded in self.fake.take() {
            *self.counts.entry(Kind::of(&recorded)).or_default() += 1;
            (recorded.request.headers, recorded.request.body) = (Vec::new(), Vec::new());
            self.got.push(recorded);
        }
        Reply::After { millis: self.latency(), reply: Box::new(reply) }
    }
}

/// How many of these requests are of a kind.
pub fn count(requests: &[Recorded], kind: Kind) -> usize {
    requests.iter().filter(|recorded| Kind::of(recorded) == kind).count()
}

/// When the event of each plan was taken, in Unix milliseconds, by the plan's id.
pub fn events(requests: &[Recorded]) -> BTreeMap<String, i64> {
    let events = requests.iter().filter(|recorded| Kind::of(recorded) == Kind::Event);
    let by_plan = events.filter_map(|recorded| {
        let (_, rest) = recorded.request.path().split_once("/plans/")?;
        Some((rest.split_once('/')?.0.to_owned(), recorded.at))
    });
    by_plan.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fakes::Database;

    #[test]
    fn an_answer_is_late_and_its_request_is_counted_and_kept_without_headers() {
        let mut late = Late::new(Testkube::new(Database::Postgres));
        let list =
            Request::new("GET", "/v1/test-workflow-executions?pageSize=1").header("authorization", "x");
        let delays: Vec<u64> = (0..100)
            .filter_map(|_| match late.handle(5, &list) {
                Reply::After { millis, .. } => Some(millis),
                _ => None,
            })
            .collect();
        assert_eq!(delays.len(), 100);
        assert!(LATENCY.into_iter().all(|millis| delays.contains(&millis)), "{delays:?}");
        let got = late.take();
        assert_eq!((late.count(Kind::List), count(&got, Kind::List), late.take().len()), (100, 100, 0));
        assert!(got.iter().all(|recorded| recorded.request.headers.is_empty() && recorded.at == 5));
    }

    #[test]
    fn events_are_told_apart_by_their_plans() {
        let path = |plan: &str, end: &str| {
            format!("/fabrikam/p/_apis/distributedtask/hubs/checks/plans/{plan}/{end}?api-version=7.1")
        };
        let recorded = |target: String, status: u16| Recorded {
            at: 7,
            request: Request::new("POST", &target),
            status: Some(status),
        };
        let got = [
            recorded(path("a", "events"), 204),
            recorded(path("b", "events"), 500),
            recorded(path("c", "logs"), 200),
        ];
        assert_eq!(events(&got), BTreeMap::from([("a".to_owned(), 7)]));
        assert_eq!(got.map(|one| Kind::of(&one)), [Kind::Event, Kind::Other, Kind::OpenLog]);
    }
}
