//! Connection pools and circuit breakers: one process's connections and requests to a cluster (Envoy's
//! `conn_pool_base.cc`).
//!
//! Pools belong to a worker, the limits to the process. A request takes a connection that stands idle, or waits for one.

use crate::state::{Event, State};
use std::collections::{BTreeMap, VecDeque};

/// A user of a connection: a call of the module, or a request on its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum User {
    Call(u64),
    Stream(u64),
}

/// One cluster's connections in one process.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// Users with a connection, each with its thread.
    active: BTreeMap<User, usize>,
    waiting: VecDeque<(User, usize)>,
    /// Open connections by thread, idle ones and those that are being made included.
    open: BTreeMap<usize, usize>,
    /// Those that are being made.
    connecting: BTreeMap<usize, usize>,
}

/// The circuit breakers of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `max_connections`: whatever it is, a worker without any may make one.
    pub connections: usize,
    /// `max_pending_requests`: requests that wait for a connection.
    pub pending: usize,
    /// `max_requests`: requests that have one.
    pub requests: usize,
}

impl Default for Limits {
    /// Envoy's.
    fn default() -> Limits {
        Limits { connections: 1024, pending: 1024, requests: 1024 }
    }
}

/// What a request gets at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It has a connection.
    Goes,
    /// It waits for one; whether one is being made for it.
    Waits { connects: bool },
    /// A limit is reached.
    Overflow,
}

impl Pool {
    fn count(of: &BTreeMap<usize, usize>, thread: usize) -> usize {
        of.get(&thread).copied().unwrap_or(0)
    }

    fn idle(&self, thread: usize) -> usize {
        let busy = self.active.values().filter(|other| **other == thread).count();
        Pool::count(&self.open, thread).saturating_sub(busy + Pool::count(&self.connecting, thread))
    }

    fn place(&mut self, user: User, thread: usize, limits: Limits) -> Place {
        if self.idle(thread) > 0 {
            if self.active.len() >= limits.requests {
                return Place::Overflow;
            }
            self.active.insert(user, thread);
            return Place::Goes;
        }
        if self.waiting.len() >= limits.pending {
            return Place::Overflow;
        }
        self.waiting.push_back((user, thread));
        let open: usize = self.open.values().sum();
        let connects = open < limits.connections || Pool::count(&self.open, thread) == 0;
        if connects {
            *self.open.entry(thread).or_default() += 1;
            *self.connecting.entry(thread).or_default() += 1;
        }
        Place::Waits { connects }
    }

    fn connected(&mut self, thread: usize) {
        if let Some(connecting) = self.connecting.get_mut(&thread) {
            *connecting = connecting.saturating_sub(1);
        }
    }

    /// Gives an idle connection to the user that has waited longest on its thread; returns whether a limit forbids that.
    fn serve(&mut self, thread: usize, limits: Limits) -> Option<(User, bool)> {
        if self.idle(thread) == 0 {
            return None;
        }
        let at = self.waiting.iter().position(|(_, other)| *other == thread)?;
        let (user, _) = self.waiting.remove(at)?;
        let overflows = self.active.len() >= limits.requests;
        if !overflows {
            self.active.insert(user, thread);
        }
        Some((user, overflows))
    }
}

impl State {
    fn pool(&mut self, cluster: &str) -> (&mut Pool, Limits) {
        let limits = self.network.rules.get(cluster).map(|rule| rule.limits).unwrap_or_default();
        (self.own.pools.entry(cluster.into()).or_default(), limits)
    }

    /// Finds a connection for a request, now or later.
    pub(crate) fn place(&mut self, cluster: &str, user: User, thread: usize) -> Place {
        let (pool, limits) = self.pool(cluster);
        let place = pool.place(user, thread, limits);
        match place {
            Place::Waits { connects: true } => {
                let time = self.network.rules.get(cluster).map_or(0, |rule| rule.latency);
                self.after(time, Event::Connected { thread, cluster: cluster.into() });
            }
            Place::Waits { connects: false } => self.counts.add("pool: waits for a connection"),
            Place::Overflow => self.counts.add("pool: overflow"),
            Place::Goes => {}
        }
        place
    }

    /// A connection has been made.
    pub(crate) fn connected(&mut self, thread: usize, cluster: &str) {
        self.pool(cluster).0.connected(thread);
        self.serve(thread, cluster);
    }

    /// A request no longer needs its connection, or no longer waits for one.
    pub(crate) fn release(&mut self, cluster: &str, user: User) {
        let (pool, _) = self.pool(cluster);
        pool.waiting.retain(|(other, _)| *other != user);
        if let Some(thread) = pool.active.remove(&user) {
            self.serve(thread, cluster);
        }
    }

    /// Whether a request still waits for a connection.
    pub(crate) fn is_waiting(&mut self, cluster: &str, user: User) -> bool {
        self.pool(cluster).0.waiting.iter().any(|(other, _)| *other == user)
    }

    fn serve(&mut self, thread: usize, cluster: &str) {
        loop {
            let (pool, limits) = self.pool(cluster);
            let Some((user, overflows)) = pool.serve(thread, limits) else { return };
            match (user, overflows) {
                (User::Call(call), false) => self.send(call),
                (User::Call(call), true) => self.overflows(call),
                (User::Stream(stream), false) => self.send_routed(stream),
                (User::Stream(stream), true) => {
                    self.network.routed.remove(&stream);
                    self.after(0, Event::StreamOverflows { thread, stream });
                }
            }
        }
    }
}
