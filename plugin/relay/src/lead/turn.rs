//! One entry from the host: what it brings, and what it asks of the host in return.

use super::calls::{Calls, Lane, Purpose};
use crate::check::{Counter, Room};
use crate::store::ledger::Store;
use crate::time::Now;
use crate::wire::call::{CallId, Request};

/// A request of a turn to the host.
pub enum Output {
    /// Start this call; its outcome goes to [`Lead::answer`](super::Lead::answer).
    Call(CallId, Request),
    /// Raise this counter by one.
    Count(Counter),
    /// Let hints wake this context from now on: [`Lead::wake`](super::Lead::wake).
    Listen,
}

/// One entry from the host: the time, the store, and the requests to the host.
pub(super) struct Turn<'a> {
    pub(super) now: Now,
    pub(super) store: &'a mut dyn Store,
    pub(super) out: Vec<Output>,
}

impl Turn<'_> {
    /// Asks for the start of a call.
    pub(super) fn start(
        &mut self,
        calls: &mut Calls,
        id: CallId,
        request: Request,
        purpose: Purpose,
        lane: Option<(Room, Lane)>,
    ) {
        calls.begin(self.now, id, &request, purpose, lane);
        self.out.push(Output::Call(id, request));
    }
}
