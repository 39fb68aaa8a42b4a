//! Several Envoy processes at once, as a test drives them: hot restarts, and replicas that share nothing but their servers.

use crate::clocks::Machine;
use crate::plugins::Filter;
use crate::setup::POD_NAME;
use crate::state::{Event, MILLISECOND, SECOND};
use crate::world::World;
use anyhow::{Result, ensure};
use std::rc::Rc;

/// A machine's wall clock is off by this number of milliseconds at most, either way.
const MAX_SKEW: u64 = 300_000;

/// The longest time that machines are started after one another, in microseconds.
const MAX_UPTIME: u64 = 90 * 86_400 * SECOND;

/// The time from a container's end until its next process loads its configuration.
const RESTARTED: u64 = 300 * MILLISECOND;

impl World {
    /// A hot restart: a new process, with empty shared data, starts beside the old one and takes all new connections. The
    /// old one keeps running until `--parent-shutdown-time-s`, here in microseconds; then its connections are closed and
    /// its contexts ended. False: the new process could not start, and the old one stays alone.
    ///
    /// From now on this world's methods concern the new process; see [`World::on_parent`].
    ///
    /// # Errors
    /// A VM could not be made, or the parent of an earlier restart is still there: Envoy waits for it.
    pub fn hot_restart(&mut self, parent_shutdown: u64) -> Result<bool> {
        ensure!(!self.has_parent(), "the last restart's parent is still there");
        let filters = self.filters();
        let (pod, machine) = self.place();
        let old = self.process.fork(pod, machine);
        self.count("hot restart");
        if !self.boot(filters)? {
            self.process.end_process();
            self.process.switch(old);
            return Ok(false);
        }
        self.process.state.borrow_mut().own.parent = Some(old);
        let new = self.process.switch(old);
        {
            let mut state = self.process.state.borrow_mut();
            let now = state.now;
            state.own.rules.replaced(now, old);
        }
        self.process.state.borrow_mut().after(parent_shutdown, Event::ProcessEnds);
        self.process.switch(new);
        Ok(true)
    }

    /// The old process of a hot restart, until it is gone.
    fn parent(&self) -> Option<u32> {
        let parent = self.process.state.borrow().own.parent?;
        let before = self.process.switch(parent);
        let lives = !self.process.plugins.borrow().newest.is_empty();
        self.process.switch(before);
        lives.then_some(parent)
    }

    /// Whether the old process of a hot restart is still there.
    pub fn has_parent(&self) -> bool {
        self.parent().is_some()
    }

    /// Calls `then` with the old process of a hot restart; `None` if that has ended.
    pub fn on_parent<R>(&mut self, then: impl FnOnce(&mut World) -> R) -> Option<R> {
        let parent = self.parent()?;
        Some(self.on(parent, then))
    }

    /// The driven process.
    pub fn process(&self) -> u32 {
        self.process.state.borrow().process
    }

    /// Calls `then` with a world that drives another process.
    ///
    /// # Panics
    /// There never was such a process.
    pub fn on<R>(&mut self, process: u32, then: impl FnOnce(&mut World) -> R) -> R {
        let is_known = {
            let state = self.process.state.borrow();
            state.process == process || state.others.contains_key(&process)
        };
        assert!(is_known, "there is no process {process}");
        let before = self.process.switch(process);
        let result = then(self);
        self.process.switch(before);
        result
    }

    /// The pod and the machine of the driven process.
    fn place(&self) -> (Rc<str>, usize) {
        let state = self.process.state.borrow();
        (state.own.pod.clone(), state.own.machine)
    }

    /// Starts a process in a pod of this name, on a machine of its own: with the filters of the driven process, its own shared
    /// data and clocks, and [`POD_NAME`] in its environment. Its wall clock is off by chance, five minutes at most.
    ///
    /// # Errors
    /// A VM could not be made, or the module refuses the configuration.
    pub fn start_replica(&mut self, pod: &str) -> Result<u32> {
        let machine = {
            let mut state = self.process.state.borrow_mut();
            let skew = i64::try_from(state.random.below(2 * MAX_SKEW + 1)).unwrap_or(0) - MAX_SKEW as i64;
            let ahead = state.random.below(MAX_UPTIME);
            state.machines.push(Machine::new(skew, ahead));
            state.machines.len() - 1
        };
        self.count("replica started");
        self.start(pod.into(), machine)
    }

    fn start(&mut self, pod: Rc<str>, machine: usize) -> Result<u32> {
        let filters = self.filters().into_iter().map(|(listener, filter)| (listener, in_pod(&filter, &pod)));
        let filters = filters.collect();
        let before = self.process.fork(pod, machine);
        let taken = self.boot(filters);
        let new = self.process.switch(before);
        ensure!(taken?, "the module refuses its configuration:\n{}", self.log().join("\n"));
        Ok(new)
    }

    /// SIGKILL: nothing runs in the process any more, its clients' connections break, nobody gets the answers to its calls. What
    /// it had sent reaches its server or not, by chance, some of it seconds later.
    pub fn kill(&mut self, process: u32) {
        self.on(process, |world| {
            if world.is_alive() {
                world.process.kill();
            }
        });
    }

    /// Whether the driven process was not killed.
    pub fn is_alive(&self) -> bool {
        !self.process.state.borrow().own.is_killed
    }

    /// A container ends, killed unless it was before, and starts again: another process in the same pod on the same machine, some
    /// milliseconds later. Its number; where the old one was driven, it is driven instead.
    ///
    /// # Errors
    /// A VM could not be made, or the module refuses the configuration.
    pub fn restart(&mut self, process: u32) -> Result<u32> {
        self.kill(process);
        self.count("container restarted");
        self.pass(RESTARTED);
        let new = self.on(process, |world| {
            let (pod, machine) = world.place();
            world.start(pod, machine)
        })?;
        if self.process() == process {
            self.process.switch(new);
        }
        Ok(new)
    }

    /// Whether a process does not reach a cluster, from now on: its calls and requests get lost or find no connection, those under
    /// way included.
    pub fn partition(&mut self, process: u32, cluster: &str, is_cut_off: bool) {
        self.on(process, |world| {
            let mut state = world.process.state.borrow_mut();
            let reaches = if is_cut_off { "no longer" } else { "again" };
            state.trace_line(format_args!("process {process} reaches {cluster} {reaches}"));
            match is_cut_off {
                true => {
                    state.counts.add("fault: a process is cut off");
                    state.own.cut_off_from.insert(cluster.into());
                }
                false => {
                    state.own.cut_off_from.remove(cluster);
                }
            }
        });
    }
}

/// The same filter in another pod.
fn in_pod(filter: &Filter, pod: &str) -> Filter {
    let mut environment = (*filter.environment).clone();
    environment.insert(POD_NAME.into(), pod.into());
    Filter { environment: Rc::new(environment), ..filter.clone() }
}
