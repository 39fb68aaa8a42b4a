//! The counters.

use super::{OK, proxy_define_metric, proxy_increment_metric, report};
use testrelay::Counter;
use testrelay::check::{self, ReasonCode};
use testrelay::surface::accept::Counted;
use testrelay::surface::evaluate::Answered;
use testrelay::surface::exchange::Ended;

/// The module's counters, which Envoy shows as `wasmcustom.testrelay_…`.
pub(crate) struct Metrics {
    counters: [Option<u32>; NAMES.len()],
    /// Decisions, by reason code.
    decided: Vec<Option<u32>>,
}

const NAMES: [&str; 24] = [
    "testrelay_checks_accepted",
    "testrelay_checks_rejected",
    "testrelay_checks_repeated",
    "testrelay_checks_refused",
    "testrelay_delivered_succeeded",
    "testrelay_delivered_failed",
    "testrelay_delivered_inconclusive",
    "testrelay_delivered_rejected",
    "testrelay_undelivered",
    "testrelay_testkube_faults",
    "testrelay_azure_faults",
    "testrelay_leader_falls",
    "testrelay_logs_lost",
    "testrelay_open_gates",
    "testrelay_observed",
    "testrelay_hints",
    "testrelay_aborted",
    "testrelay_evaluated_pending",
    "testrelay_evaluated_succeeded",
    "testrelay_evaluated_failed",
    "testrelay_store_calls",
    "testrelay_adopted",
    "testrelay_unfenced",
    "testrelay_reruns",
];

impl Metrics {
    /// Defines all counters. Never call it on a hot path: each definition is a look-up by name in Envoy.
    pub(crate) fn define() -> Metrics {
        let decided = ReasonCode::all().map(|code| counter(&format!("testrelay_decided_{code}")));
        Metrics { counters: NAMES.map(counter), decided: decided.collect() }
    }

    /// Counts the outcome of a check's delivery.
    pub(crate) fn count_check(&self, counted: Counted) {
        self.add(match counted {
            Counted::Accepted => 0,
            Counted::Rejected => 1,
            Counted::Repeated => 2,
            Counted::Refused => 3,
        });
    }

    /// Counts a taken hint.
    pub(crate) fn count_hint(&self) {
        self.add(15);
    }

    /// Counts the answer of an evaluation.
    pub(crate) fn count_evaluation(&self, answered: Answered) {
        self.add(match answered {
            Answered::Pending => 17,
            Answered::Succeeded => 18,
            Answered::Failed => 19,
        });
    }

    /// Counts the result of an exchange.
    pub(crate) fn count_ended(&self, ended: Ended) {
        match ended {
            Ended::Check(counted) => self.count_check(counted),
            Ended::Evaluation(answered) => self.count_evaluation(answered),
        }
    }

    /// Counts an event of the leader.
    pub(crate) fn count(&self, counter: Counter) {
        self.add(match counter {
            Counter::Decided(code) => return add(self.decided.get(code.index())),
            Counter::Delivered(check::Outcome::Passed) => 4,
            Counter::Delivered(check::Outcome::Failed) => 5,
            Counter::Delivered(check::Outcome::Inconclusive) => 6,
            Counter::Delivered(check::Outcome::Rejected) => 7,
            // These two are never delivered, so they are never counted as delivered.
            Counter::Delivered(check::Outcome::Over | check::Outcome::OpenGate) | Counter::Undelivered => 8,
            Counter::TestkubeFault => 9,
            Counter::AzureFault => 10,
            Counter::Fall => 11,
            Counter::LogLost => 12,
            Counter::OpenGate => 13,
            Counter::Observed => 14,
            Counter::Aborted => 16,
            Counter::Stored => 20,
            Counter::Adopted => 21,
            Counter::Unfenced => 22,
            Counter::Rerun => 23,
        });
    }

    fn add(&self, index: usize) {
        add(self.counters.get(index));
    }
}

/// Defines a counter; `None` if Envoy refuses it.
fn counter(name: &str) -> Option<u32> {
    const COUNTER: u32 = 0;
    let mut id = 0;
    let status = unsafe { proxy_define_metric(COUNTER, name.as_ptr(), name.len(), &mut id) };
    report("proxy_define_metric", status);
    (status == OK).then_some(id)
}

fn add(counter: Option<&Option<u32>>) {
    if let Some(id) = counter.copied().flatten() {
        report("proxy_increment_metric", unsafe { proxy_increment_metric(id, 1) });
    }
}
