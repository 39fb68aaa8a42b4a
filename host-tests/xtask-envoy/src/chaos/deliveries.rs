//! The checks that Azure DevOps sends: each to one replica and, where it gets no 200, to the others in turn, as a load balancer
//! does.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bench::scale::crowd;
use fakes::Status;
use host_tests::scene::now_ms;
use serde_json::Value;

use super::peers::{Peers, locked};
use super::replicas::Addresses;
use super::script::REPLICAS;

/// How many deliveries may be under way at once: during an outage each takes half a minute.
pub(crate) const SENDERS: usize = 16;

/// How long each token is, in bytes.
pub(crate) const TOKEN: usize = 2_048;

/// The shortest run of an execution, in milliseconds.
const SHORTEST: u64 = 3_000;

const PAUSE: Duration = Duration::from_millis(20);

/// One check that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// Its PlanId.
    pub(crate) plan: String,
    /// The result that its execution has: `succeeded` or `failed`.
    pub(crate) result: &'static str,
    /// When its execution ends, in Unix milliseconds.
    pub(crate) ends: i64,
    /// When 200 came, in Unix milliseconds; `None`: nobody answered 200.
    pub(crate) accepted: Option<i64>,
    /// The id that the 200 gave it.
    pub(crate) id: Option<String>,
}

/// All checks, and those that were sent.
pub(crate) struct Deliveries<'a> {
    peers: &'a Peers,
    addresses: Addresses,
    checks: usize,
    /// The checks are sent within this, and their executions end before it, or a few seconds after.
    span: Duration,
    began: Instant,
    next: AtomicUsize,
    ends: AtomicBool,
    sent: Mutex<Vec<Delivery>>,
}

impl<'a> Deliveries<'a> {
    /// None is sent yet.
    pub(crate) fn new(peers: &'a Peers, addresses: Addresses, checks: u32, span: Duration) -> Result<Self> {
        Ok(Deliveries {
            peers,
            addresses,
            checks: usize::try_from(checks)?,
            span,
            began: Instant::now(),
            next: AtomicUsize::new(0),
            ends: AtomicBool::new(false),
            sent: Mutex::default(),
        })
    }

    /// Sends one after the other, each at its time, until all are sent or it is to end. For several threads at once.
    ///
    /// # Errors
    /// There are too many checks.
    pub(crate) fn send(&self) -> Result<()> {
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            if n >= self.checks {
                return Ok(());
            }
            // The last ones a while before the end.
            let at = self.span.mul_f64(0.9 * n as f64 / self.checks as f64);
            while self.began.elapsed() < at {
                if self.ends.load(Ordering::Relaxed) {
                    return Ok(());
                }
                std::thread::sleep(PAUSE);
            }
            self.deliver(n)?;
        }
    }

    /// No further check is sent.
    pub(crate) fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
        self.next.fetch_max(self.checks, Ordering::Relaxed);
    }

    /// Those that were sent so far.
    pub(crate) fn sent(&self) -> Vec<Delivery> {
        locked(&self.sent).clone()
    }

    fn deliver(&self, n: usize) -> Result<()> {
        let run = crowd::pipeline(n, TOKEN)?;
        let random = scattered(n);
        let left = self.span.saturating_sub(self.began.elapsed()).as_millis();
        let longest = u64::try_from(left)?.max(SHORTEST);
        let now = now_ms();
        let ends = now + i64::try_from(SHORTEST + random % longest)?;
        let (result, status) = match random % 3 {
            0 => ("failed", Status::Failed),
            _ => ("succeeded", Status::Passed),
        };
        // The run began before its tests.
        self.peers.azure().start_check(now - 1_000, run.spec.clone());
        self.peers.testkube().fake.add(crowd::running(&run.tag, now).at(ends, status));
        let request = run.check(crowd::WORKFLOW);
        let accepted = (0..REPLICAS).find_map(|turn| {
            let address = locked(&self.addresses)[(n + turn) % REPLICAS]?;
            let answer = request.send(address).ok()?;
            (answer.status == 200).then(|| (now_ms(), id(&answer.text())))
        });
        let (accepted, id) = accepted.map_or((None, None), |(at, id)| (Some(at), id));
        locked(&self.sent).push(Delivery { plan: run.spec.plan, result, ends, accepted, id });
        Ok(())
    }
}

/// The id in an answer.
fn id(answer: &str) -> Option<String> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    answer["id"].as_str().map(str::to_owned)
}

/// A number that follows from another one, and looks as if it did not.
fn scattered(n: usize) -> u64 {
    (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24
}
