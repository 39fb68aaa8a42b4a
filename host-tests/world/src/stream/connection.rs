//! Clients' connections: each stays on the worker that took it, and with the version of the listener that took it.

use super::Streams;
use crate::process::Process;

/// A connection of a client.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) process: u32,
    pub(crate) thread: usize,
    pub(crate) listener: String,
    /// Known once the worker has taken the connection.
    pub(crate) generation: Option<usize>,
    pub(crate) is_open: bool,
}

impl Streams {
    /// A connection that a worker will find.
    pub(crate) fn connect(&mut self, process: u32, thread: usize, listener: &str) -> u64 {
        self.last_connection += 1;
        let listener = listener.to_string();
        let connection = Connection { process, thread, listener, generation: None, is_open: true };
        self.connections.insert(self.last_connection, connection);
        self.last_connection
    }
}

impl Process {
    /// The version of the listener that a connection belongs to; the first request finds it. `None`: the connection is closed,
    /// or nobody listens.
    pub(crate) fn generation_of(&self, connection: u64) -> Option<usize> {
        let mut streams = self.streams.borrow_mut();
        let connection = streams.connections.get_mut(&connection).filter(|connection| connection.is_open)?;
        if connection.generation.is_none() {
            let place = (connection.listener.clone(), connection.thread);
            connection.generation = self.plugins.borrow().serving.get(&place).copied();
        }
        connection.generation
    }

    /// The process was killed: all its connections end, answers under way are cut.
    pub(crate) fn break_connections(&self) {
        self.close_where(|_| true);
    }

    /// A listener's version leaves a thread, and its connections with it; answers under way are cut.
    pub(crate) fn close_connections(&self, thread: usize, generation: usize) {
        self.close_where(|connection| {
            (connection.thread, connection.generation) == (thread, Some(generation))
        });
    }

    fn close_where(&self, is_meant: impl Fn(&Connection) -> bool) {
        let process = self.state.borrow().process;
        let open: Vec<u64> = {
            let mut streams = self.streams.borrow_mut();
            let Streams { all, connections, .. } = &mut *streams;
            for connection in connections.values_mut() {
                connection.is_open &= !(connection.process == process && is_meant(connection));
            }
            let is_closed = |number| connections.get(number).is_some_and(|connection| !connection.is_open);
            let open = all.iter().filter(|(_, stream)| stream.answer.is_none());
            open.filter(|(_, stream)| is_closed(&stream.connection)).map(|(number, _)| *number).collect()
        };
        for number in open {
            self.cut(number);
        }
    }
}
