//! The state that the whole process shares, and the clock: everything but the VMs.

use crate::clocks::Machine;
use crate::fuel::Fuel;
use crate::network::Network;
use crate::own::Own;
use crate::queues::Registrant;
use crate::random::Random;
use crate::trace::Trace;
use crate::vm::TrapAt;
use std::collections::{BTreeMap, VecDeque};

/// Microseconds.
pub const MILLISECOND: u64 = 1_000;
/// Microseconds.
pub const SECOND: u64 = 1_000 * MILLISECOND;
/// Microseconds.
pub const MINUTE: u64 = 60 * SECOND;

/// The wall time at which every world begins, in Unix milliseconds; the fakes live in it.
pub const START: i64 = 1_769_186_640_000;

/// The monotonic time at which every world begins: Envoy has run for a while.
const FIRST: u64 = 1_000 * SECOND;

/// How often another thread runs between two host calls on shared data: on average once in this number of calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interleaving {
    /// Another thread handles everything due within the next second and a half. 0: never.
    pub short: u64,
    /// This thread stalls for longer than a lease. 0: never.
    pub long: u64,
}

/// The true wall time at a moment of the monotonic clock, in Unix milliseconds.
pub(crate) fn wall_of(now: u64) -> i64 {
    START + i64::try_from((now - FIRST) / MILLISECOND).unwrap_or(i64::MAX)
}

/// How often each thing happened: a history that provokes nothing proves nothing.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Faults that were injected, calls by outcome, callbacks, rule checks.
    pub by_name: BTreeMap<String, u64>,
}

impl Counts {
    /// Counts one.
    pub fn add(&mut self, name: &str) {
        match self.by_name.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.by_name.insert(name.into(), 1);
            }
        }
    }

    /// Adds those of another history.
    pub fn merge(&mut self, other: &Counts) {
        for (name, count) in &other.by_name {
            *self.by_name.entry(name.clone()).or_default() += count;
        }
    }

    /// How often.
    pub fn of(&self, name: &str) -> u64 {
        self.by_name.get(name).copied().unwrap_or(0)
    }
}

/// A thread of the process: 0 is the main thread, the others are workers.
#[derive(Debug, Default)]
pub(crate) struct Thread {
    pub(crate) is_busy: bool,
    pub(crate) busy_since: u64,
    pub(crate) stalled_until: u64,
    pub(crate) backlog: VecDeque<(u64, Event)>,
    pub(crate) trap_at: Option<TrapAt>,
}

/// An event.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Tick {
        thread: usize,
        vm: u32,
        context: u32,
        generation: u64,
    },
    Arrive {
        call: u64,
    },
    CallDone {
        thread: usize,
        call: u64,
    },
    Configure {
        thread: usize,
        generation: usize,
    },
    End {
        thread: usize,
        generation: usize,
    },
    Drained {
        generation: usize,
    },
    QueueReady {
        registrant: Registrant,
        token: u32,
    },
    StreamBegins {
        thread: usize,
        stream: u64,
    },
    StreamBody {
        thread: usize,
        stream: u64,
        chunk: usize,
    },
    StreamTrailers {
        thread: usize,
        stream: u64,
    },
    StreamUpstream {
        thread: usize,
        stream: u64,
    },
    StreamIdle {
        thread: usize,
        stream: u64,
    },
    StreamArrives {
        stream: u64,
    },
    StreamPart {
        thread: usize,
        stream: u64,
    },
    StreamOverflows {
        thread: usize,
        stream: u64,
    },
    ClientGone {
        thread: usize,
        stream: u64,
    },
    CallWaited {
        call: u64,
    },
    Connected {
        thread: usize,
        cluster: String,
    },
    Release {
        thread: usize,
    },
    /// The wall clock is set forward, or back, by this number of milliseconds.
    ClockSteps {
        by: i64,
    },
    ProcessEnds,
}

impl Event {
    /// Whether it happens also where its process was killed.
    pub(crate) fn outlives_its_process(&self) -> bool {
        matches!(self, Event::Arrive { .. } | Event::StreamBegins { .. })
    }

    /// The thread on which it happens; `None` outside of Envoy.
    pub(crate) fn thread(&self) -> Option<usize> {
        use Event::*;
        match self {
            Tick { thread, .. }
            | CallDone { thread, .. }
            | Configure { thread, .. }
            | End { thread, .. }
            | StreamBegins { thread, .. }
            | StreamBody { thread, .. }
            | StreamTrailers { thread, .. }
            | StreamUpstream { thread, .. }
            | StreamIdle { thread, .. }
            | StreamPart { thread, .. }
            | StreamOverflows { thread, .. }
            | Connected { thread, .. }
            | ClientGone { thread, .. } => Some(*thread),
            QueueReady { registrant, .. } => Some(registrant.thread),
            Arrive { .. }
            | CallWaited { .. }
            | StreamArrives { .. }
            | Drained { .. }
            | Release { .. }
            | ClockSteps { .. }
            | ProcessEnds => None,
        }
    }
}

/// Everything but the VMs.
pub(crate) struct State {
    /// The monotonic clock, in microseconds.
    pub(crate) now: u64,
    /// The machines that processes run on, by [`Own::machine`].
    pub(crate) machines: Vec<Machine>,
    pub(crate) random: Random,
    pub(crate) network: Network,
    /// What belongs to the process whose event runs, and which process that is.
    pub(crate) own: Own,
    pub(crate) process: u32,
    /// The parts of the other processes.
    pub(crate) others: BTreeMap<u32, Own>,
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    pub(crate) fuel: Fuel,
    pub(crate) interleaving: Interleaving,
    /// For each thread, the total time for which it was busy with one thing or stalled, in microseconds.
    pub(crate) stood_still: BTreeMap<usize, u64>,
    /// Until when a thread stalls or stalled, the latest.
    pub(crate) last_stall: Option<u64>,
    /// How many callbacks are on the stack.
    pub(crate) depth: usize,
    pub(crate) log: VecDeque<(u32, String)>,
    /// How many VMs were made.
    pub(crate) last_vm: u32,
    pub(crate) queue: BTreeMap<(u64, u64), (u32, Event)>,
    sequence: u64,
}

impl State {
    pub(crate) fn new(seed: u64, threads: usize, network: Network, trace: bool) -> State {
        State {
            now: FIRST,
            machines: vec![Machine::new(0, 0)],
            random: Random::new(seed),
            network,
            own: Own::new(threads),
            process: 0,
            others: BTreeMap::new(),
            trace: Trace::new(trace),
            counts: Counts::default(),
            fuel: Fuel::default(),
            interleaving: Interleaving::default(),
            stood_still: BTreeMap::new(),
            last_stall: None,
            depth: 0,
            log: VecDeque::new(),
            last_vm: 0,
            queue: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// Something will happen in the running process. Nothing does in one that was killed, but for what it had sent and for
    /// clients that find nobody there.
    pub(crate) fn at(&mut self, time: u64, event: Event) {
        if self.own.is_killed && !event.outlives_its_process() {
            return;
        }
        self.sequence += 1;
        self.queue.insert((time.max(self.now), self.sequence), (self.process, event));
    }

    pub(crate) fn after(&mut self, span: u64, event: Event) {
        self.at(self.now.saturating_add(span), event);
    }

    pub(crate) fn trace_line(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.line(self.now, line);
    }

    /// Lets another process run, and returns the one that ran. New events belong to the running process.
    pub(crate) fn switch(&mut self, process: u32) -> u32 {
        let before = self.process;
        if before != process {
            let next = self.others.remove(&process).unwrap_or_default();
            self.others.insert(before, std::mem::replace(&mut self.own, next));
            self.process = process;
            self.trace_process();
        }
        before
    }

    /// From now on the trace names this process, if it has a pod.
    pub(crate) fn trace_process(&mut self) {
        let (pod, process) = (&self.own.pod, self.process);
        self.trace.who = if pod.is_empty() { String::new() } else { format!("{pod}#{process} ") };
    }

    /// Every process that there is or was, the running one first.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Own> {
        std::iter::once(&self.own).chain(self.others.values())
    }

    /// The next event that is due until `time` and the process that it belongs to, with the clock set to it.
    pub(crate) fn next(&mut self, until: u64) -> Option<(u32, Event)> {
        let (time, _) = *self.queue.keys().next()?;
        if time > until {
            return None;
        }
        let (_, next) = self.queue.pop_first()?;
        self.now = self.now.max(time);
        Some(next)
    }

    pub(crate) fn random_bytes(&mut self, size: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            bytes.extend_from_slice(&self.random.draw().to_le_bytes());
        }
        bytes.truncate(size);
        bytes
    }

    /// For how long other threads run now, if at all.
    pub(crate) fn draw_interlude(
        &mut self,
        thread: usize,
        callback: &'static str,
        writes: bool,
    ) -> Option<u64> {
        let Interleaving { short, long } = self.interleaving;
        // A leader reads hundreds of keys and writes few: a pause before a write reveals the most.
        let (short, long) = if writes { (short.div_ceil(32), long.div_ceil(64)) } else { (short, long) };
        // Whatever runs in between is interrupted only briefly, and a configuration is never interrupted.
        if self.depth > 2 || callback == "_initialize" || callback == "configure" {
            return None;
        }
        if self.depth == 1 && self.random.once_in(long) {
            let pause = (1 + self.random.below(40)) * SECOND;
            self.counts.add("fault: a thread stalls inside a callback");
            self.trace.line(
                self.now,
                format_args!("thread {thread} stalls in {callback} for {} s", pause / SECOND),
            );
            self.own.rules.stalled(thread, self.now + pause);
            self.last_stall = self.last_stall.max(Some(self.now + pause));
            return Some(pause);
        }
        if self.random.once_in(short) {
            // Up to what is due next, and a little more.
            let pause = self.queue.keys().next().map_or(0, |(time, _)| time.saturating_sub(self.now));
            if pause <= 1_500 * MILLISECOND {
                self.counts.add("fault: another thread runs between two host calls");
                return Some(pause + self.random.below(2 * MILLISECOND));
            }
        }
        None
    }

    pub(crate) fn logged(&mut self, thread: usize, level: u32, line: &str) {
        self.trace.line(self.now, format_args!("log {level} thread {thread}: {line}"));
        self.scan("the log", line.as_bytes());
        if self.log.len() >= 10_000 {
            self.log.pop_front();
        }
        self.log.push_back((level, line.to_string()));
    }

    pub(crate) fn set_shared(&mut self, space: usize, key: &[u8], value: &[u8], cas: u32) -> bool {
        self.own.rules.scan_key(self.now, key);
        let written = self.own.spaces[space].1.set(key, value, cas);
        if !written {
            self.counts.add("fault: CasMismatch");
        }
        written
    }

    pub(crate) fn define_metric(&mut self, name: &str) -> u32 {
        self.scan("a metric's name", name.as_bytes());
        let known = self.own.metrics.iter().position(|(n, _)| n == name);
        let index = known.unwrap_or_else(|| {
            self.own.metrics.push((name.to_string(), 0));
            self.own.metrics.len() - 1
        });
        // The kind is in the two low bits; counters have 0.
        u32::try_from(index + 1).unwrap_or(u32::MAX) << 2
    }

    pub(crate) fn increment_metric(&mut self, id: u32, by: i64) -> bool {
        let index = usize::try_from(id >> 2).ok().and_then(|n| n.checked_sub(1));
        match index.and_then(|index| self.own.metrics.get_mut(index)) {
            Some((_, value)) => {
                *value += by;
                true
            }
            None => false,
        }
    }

    pub(crate) fn metric(&self, name: &str) -> i64 {
        self.own.metrics.iter().find(|(n, _)| n == name).map_or(0, |(_, value)| *value)
    }

    /// Rule `secrets`: nothing that leaves the module contains a secret.
    pub(crate) fn scan(&mut self, place: &str, bytes: &[u8]) {
        self.own.rules.scan(self.now, place, bytes);
    }

    pub(crate) fn violation(&mut self, rule: &'static str, text: String) {
        self.trace.line(self.now, format_args!("VIOLATION of rule {rule}: {text}"));
        self.own.rules.violation(self.now, rule, text);
    }

    /// A crash was injected in this host call.
    pub(crate) fn covered(&mut self, host_call: &'static str) {
        self.counts.add(&format!("trap in {host_call}"));
    }
}
