//! The cost of the module's main paths in fuel: one unit per executed WebAssembly instruction, the same on every machine.
//! `cargo xtask bench` prints the table, and the test `fuel` compares it with the one in the repository.

mod paths;
mod table;

pub use paths::{Measured, measure};
pub use table::{MAX_CHANGE, Table};

use crate::state::State;
use std::collections::BTreeMap;

/// What callbacks took.
#[derive(Debug, Default)]
pub(crate) struct Fuel {
    /// The most that each kind took.
    pub(crate) most: BTreeMap<&'static str, u64>,
    /// Each of them, while they are recorded.
    recorded: Option<Vec<Used>>,
    /// The call whose answer is about to be read.
    call: Option<String>,
}

/// One callback.
#[derive(Clone, Debug)]
pub(crate) struct Used {
    /// 0: the main thread.
    pub(crate) thread: usize,
    pub(crate) callback: &'static str,
    /// The method and the target of the call whose answer it read.
    pub(crate) call: Option<String>,
    pub(crate) fuel: u64,
}

impl State {
    /// A callback has run.
    pub(crate) fn used(&mut self, thread: usize, callback: &'static str, fuel: u64) {
        let most = self.fuel.most.entry(callback).or_default();
        *most = fuel.max(*most);
        let call = self.fuel.call.take();
        if let Some(recorded) = &mut self.fuel.recorded {
            recorded.push(Used { thread, callback, call, fuel });
        }
    }

    /// The answer to a call is about to be read.
    pub(crate) fn answer_is_read(&mut self, request: &fakes::Request) {
        if self.fuel.recorded.is_some() {
            self.fuel.call = Some(format!("{} {}", request.method, request.target));
        }
    }

    /// Records every callback from now on; returns those recorded so far.
    pub(crate) fn record_fuel(&mut self) -> Vec<Used> {
        self.fuel.recorded.replace(Vec::new()).unwrap_or_default()
    }
}
