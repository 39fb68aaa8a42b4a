//! Exchanges that go on after a pause: the root context makes their calls and answers their streams.

use crate::host::{self, SharedData};
use crate::root::{Plugin, Root, start};
use testrelay::surface::exchange::{Exchange, Step};
use testrelay::time::{Mono, Now};
use testrelay::wire::call::CallOutcome;

/// An exchange that waits for a call of the root context.
pub(crate) struct Resumed {
    /// Envoy's number of the call.
    pub(crate) token: u32,
    stream: u32,
    exchange: Box<Exchange>,
    /// The exchange's number of the call.
    number: usize,
    /// Maximum response body to copy, in bytes.
    pub(crate) max_body: usize,
}

/// An exchange that goes on after this time.
pub(crate) struct Paused {
    pub(crate) stream: u32,
    until: Mono,
    exchange: Box<Exchange>,
}

impl Plugin {
    /// Keeps a stream's exchange until this time; the next tick after it goes on.
    pub(crate) fn pause(&self, stream: u32, until: Mono, exchange: Box<Exchange>) {
        self.paused.borrow_mut().push(Paused { stream, until, exchange });
    }

    /// Passes the outcome of a call to its exchange, whether a stream or a root context waits for it.
    pub(crate) fn answer_to(
        &self,
        now: Now,
        exchange: &mut Exchange,
        number: usize,
        outcome: &CallOutcome,
    ) -> Step {
        exchange.answer(now, &mut SharedData, &mut self.memory.borrow_mut(), number, outcome)
    }

    /// Takes an exchange whose pause is over.
    fn next_resumed(&self, now: Mono) -> Option<Paused> {
        let mut paused = self.paused.borrow_mut();
        let due = paused.iter().position(|paused| paused.until <= now)?;
        Some(paused.swap_remove(due))
    }
}

impl Root {
    /// Goes on with the exchanges whose pause is over.
    pub(crate) fn resume(&mut self, plugin: &Plugin, now: Now) {
        while let Some(Paused { stream, mut exchange, .. }) = plugin.next_resumed(now.mono) {
            let step = exchange.resume(now, &mut SharedData);
            self.go_on(plugin, now, stream, exchange, step);
        }
    }

    /// Takes the next step of an exchange whose stream waits.
    fn go_on(&mut self, plugin: &Plugin, now: Now, stream: u32, mut exchange: Box<Exchange>, mut step: Step) {
        loop {
            let (number, request) = match step {
                Step::Reply(reply, ended) => {
                    if plugin.waits_no_longer(stream) {
                        host::reply_to(stream, self.context_id, &reply);
                    }
                    if let Some(ended) = ended {
                        plugin.metrics.count_ended(ended);
                    }
                    return;
                }
                Step::Pause(until) if plugin.is_waiting(stream) => {
                    return plugin.pause(stream, until, exchange);
                }
                Step::Call(calls) => match calls.into_iter().next() {
                    Some(call) => call,
                    None => return,
                },
                // Its client has gone; and an exchange that pauses never goes on to Testkube.
                Step::Pause(_) | Step::Wait | Step::Forward(_) => return,
            };
            let max_body = request.max_body;
            match start(now, &request) {
                Ok(token) => {
                    self.resumed.push(Resumed { token, stream, exchange, number, max_body });
                    return;
                }
                Err(fault) => {
                    let outcome = CallOutcome::Failed(fault);
                    step = plugin.answer_to(now, &mut exchange, number, &outcome);
                }
            }
        }
    }

    /// Takes the outcome of an exchange's call.
    pub(crate) fn resumed_answered(&mut self, now: Now, resumed: Resumed, outcome: &CallOutcome) {
        let Some(plugin) = self.plugin.clone() else { return };
        let Resumed { stream, mut exchange, number, .. } = resumed;
        let step = plugin.answer_to(now, &mut exchange, number, outcome);
        self.go_on(&plugin, now, stream, exchange, step);
    }
}
