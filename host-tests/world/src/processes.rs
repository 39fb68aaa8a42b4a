//! Envoy's processes: how one begins, ends by itself, is killed, and loses its way to a cluster.

use crate::network::Way;
use crate::own::Own;
use crate::plugins::Plugins;
use crate::process::Process;
use crate::state::{Event, SECOND, State};
use crate::vm::VmId;
use std::collections::BTreeSet;
use std::rc::Rc;

/// The longest time for which what a killed process has sent is still on its way, beside the usual.
const MAX_LATE: u64 = 3 * SECOND;

impl Process {
    /// Lets another process run, and says which one ran.
    pub(crate) fn switch(&self, process: u32) -> u32 {
        let before = self.state.borrow_mut().switch(process);
        if before != process {
            let mut others = self.others.borrow_mut();
            let next = others.remove(&process).unwrap_or_default();
            others.insert(before, self.plugins.replace(next));
        }
        before
    }

    /// Another process of Envoy with nothing in it yet, which runs from now on; the one that ran before. It shares the checks of
    /// that one if the store does.
    pub(crate) fn fork(&self, pod: Rc<str>, machine: usize) -> u32 {
        let shares = self.plugins.borrow().filters.iter().any(|(_, filter)| filter.shares_checks());
        let next = self.state.borrow().next_process();
        let before = self.switch(next);
        let mut state = self.state.borrow_mut();
        let State { own, others, .. } = &mut *state;
        *own = Own { pod, machine, ..Own::new(self.settings.workers + 1) };
        if let Some(other) = others.get(&before).filter(|_| shares) {
            own.rules.share_checks_with(&other.rules);
        }
        state.trace_process();
        before
    }

    /// `--parent-shutdown-time-s` is over, or a process never came up: all its listeners end at once.
    pub(crate) fn end_process(&self) {
        let generations = {
            let mut plugins = self.plugins.borrow_mut();
            plugins.newest.clear();
            plugins.serving.clear();
            plugins.generations.len()
        };
        self.state.borrow_mut().trace_line(format_args!("the process ends"));
        for generation in 0..generations {
            self.drained(generation);
        }
    }

    /// SIGKILL to the running process: no callback runs any more, its clients' connections break.
    pub(crate) fn kill(&self) {
        let mut plugins = self.plugins.borrow_mut();
        let filters = std::mem::take(&mut plugins.filters);
        let killed = std::mem::replace(&mut *plugins, Plugins { filters, ..Plugins::default() });
        drop(plugins);
        let vms: BTreeSet<VmId> = killed.vms.into_values().collect();
        self.vms.borrow_mut().retain(|vm, _| !vms.contains(vm));
        self.break_connections();
        self.state.borrow_mut().kill();
    }
}

impl State {
    /// The number of the next process.
    fn next_process(&self) -> u32 {
        self.others.keys().last().map_or(self.process, |last| self.process.max(*last)) + 1
    }

    /// The running process is killed. What it has sent may still be executed, now or a little later.
    fn kill(&mut self) {
        let process = self.process;
        self.counts.add("fault: a process is killed");
        self.trace_line(format_args!("process {process} is killed"));
        self.own.rules.killed(self.now, process);
        let on_their_way: Vec<((u64, u64), u64)> = self
            .queue
            .iter()
            .filter_map(|(at, (of, event))| match event {
                Event::Arrive { call } if *of == process => Some((*at, *call)),
                _ => None,
            })
            .collect();
        self.queue.retain(|_, (of, event)| *of != process || event.outlives_its_process());
        let mut executed = BTreeSet::new();
        for (at, call) in on_their_way {
            if self.random.once_in(4) {
                self.queue.remove(&at);
                continue;
            }
            executed.insert(call);
            if self.random.once_in(3) {
                self.queue.remove(&at);
                let late = self.random.below(MAX_LATE);
                self.at(at.0 + late, Event::Arrive { call });
            }
        }
        self.network.calls.retain(|call, of| of.outgoing.process != process || executed.contains(call));
        let own = std::mem::take(&mut self.own);
        let threads = own.threads.len();
        let Own { rules, metrics, pod, machine, .. } = own;
        self.own = Own { rules, metrics, pod, machine, is_killed: true, ..Own::new(threads) };
    }

    /// How a call or a request to a cluster fails on its way, if it does.
    pub(crate) fn way(&mut self, cluster: &str, rule: &crate::network::Rule) -> Option<Way> {
        let way = self.random.once_in(rule.fails).then(|| self.random.one_of(&rule.ways));
        match self.own.cut_off_from.contains(cluster) {
            true if self.random.once_in(4) => Some(Way::NoConnection),
            true => Some(Way::LostRequest),
            false => way,
        }
    }

    /// Whether a call was under way when its process lost its way to the cluster, and does not arrive.
    pub(crate) fn is_lost_on_its_way(&mut self, number: u64) -> bool {
        let is_lost = self.is_call_cut_off(number);
        if is_lost {
            self.is_never_answered(number);
        }
        is_lost
    }

    /// Whether the answer to a call was under way then, and does not arrive.
    pub(crate) fn is_answer_lost(&mut self, number: u64) -> bool {
        let is_upstreams = self.network.calls.get(&number).is_some_and(|call| call.from_upstream);
        let is_lost = is_upstreams && self.is_call_cut_off(number);
        if is_lost {
            self.is_never_answered(number);
        }
        is_lost
    }

    fn is_call_cut_off(&self, number: u64) -> bool {
        let call = self.network.calls.get(&number);
        call.is_some_and(|call| self.own.cut_off_from.contains(&call.outgoing.cluster))
    }

    /// Envoy's own 504 at the timeout.
    fn is_never_answered(&mut self, number: u64) {
        self.network.settle(number, 504);
        if let Some(call) = self.network.calls.get_mut(&number) {
            call.from_upstream = false;
            let (ends, thread) = (call.ends(), call.outgoing.thread);
            self.at(ends, Event::CallDone { thread, call: number });
        }
    }
}
