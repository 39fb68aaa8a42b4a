//! The answer to a call comes back: the callback, and what the rules make of it.

use crate::host::Pairs;
use crate::pool::User;
use crate::process::Process;
use crate::rules::{Fate, fate_of};
use crate::vm::{Callback, TrapAt};

impl Process {
    /// The callback of a call, if its context still lives.
    pub(crate) fn call_done(&self, number: u64) {
        let (call, poison) = {
            let mut state = self.state.borrow_mut();
            if state.is_answer_lost(number) {
                return;
            }
            let Some(call) = state.network.calls.remove(&number) else { return };
            state.release(&call.outgoing.cluster, User::Call(number));
            let body = call.answer.as_ref().map(|answer| answer.body.as_slice()).unwrap_or_default();
            // The leader must outlive an answer that no VM survives. A job that keeps asking for such an answer crashes one
            // VM after another; nothing promises to prevent that.
            let poison = state.network.poison.as_ref().filter(|_| !call.outgoing.is_of_a_stream());
            let poison = poison.is_some_and(|poison| String::from_utf8_lossy(body).contains(poison.as_str()));
            (call, poison)
        };
        let (vm, context, token) = (call.outgoing.vm, call.outgoing.context, call.outgoing.token);
        let lives = self.with(vm, |host| host.contexts.contains_key(&context)) == Some(true);
        let fate = fate_of(call.answer.as_ref(), call.from_upstream);
        if call.is_silent() {
            self.state.borrow_mut().counts.add("call: silent");
        }
        if !lives || call.is_silent() {
            let mut state = self.state.borrow_mut();
            let now = state.now;
            return state.own.rules.call_ends(now, vm, token, Fate::Lost);
        }
        {
            let mut state = self.state.borrow_mut();
            let kind = match (&call.answer, call.from_upstream) {
                (None, _) => "call: broken",
                (Some(answer), false) if answer.status == 504 => "call: 504 of Envoy's own",
                (Some(_), false) => "call: 503 of Envoy's own",
                (Some(_), true) => "call: answer",
            };
            state.counts.add(kind);
            if poison {
                // Effective context, two clocks, headers, body, and the note of whose answer is being read: then it traps.
                state.own.threads[call.outgoing.thread].trap_at = Some(TrapAt::HostCall(7));
            }
        }
        let (headers, body): (Pairs, Vec<u8>) = match call.answer.clone() {
            Some(answer) => {
                let status = (b":status".to_vec(), answer.status.to_string().into_bytes());
                let others = answer.headers.into_iter().map(|(name, value)| (name.into_bytes(), value));
                (std::iter::once(status).chain(others).collect(), answer.body)
            }
            None => (Vec::new(), Vec::new()),
        };
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let callback = Callback::CallResponse {
            context,
            token,
            headers: number(headers.len()),
            body: number(body.len()),
        };
        self.with(vm, |host| host.call_response = Some((headers, body)));
        {
            let mut state = self.state.borrow_mut();
            state.answer_is_read(&call.outgoing.request);
            let now = state.now;
            state.own.rules.reading_begins(now, vm, token, fate);
        }
        let is_read = self.call(vm, callback).is_some();
        let mut state = self.state.borrow_mut();
        let now = state.now;
        state.own.rules.reading_ends(vm, token);
        match is_read {
            true => state.own.rules.call_was_read(now, &call),
            false => state.own.rules.call_unread(vm, token),
        }
    }
}
