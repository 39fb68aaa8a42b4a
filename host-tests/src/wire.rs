//! A wire between Envoy and a fake that can be cut while bytes are under way.

use crate::scene::now_ms;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Forwards TCP connections to one server, byte for byte, under TLS or not. Dropping it cuts them and ends its listener.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

/// How a wire is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A connection ends as soon as it is made.
    Closed,
    /// Connections are made, and nothing is forwarded.
    Silent,
}

#[derive(Debug, Default)]
struct Shared {
    ends: AtomicBool,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    broken: Option<Broken>,
    /// Those that were made while the wire was silent.
    silent: Vec<TcpStream>,
    /// Both ends of each connection that is open, by its number.
    open: BTreeMap<u64, [TcpStream; 2]>,
    /// When connections were cut, in Unix milliseconds.
    cut: BTreeMap<u64, i64>,
    /// When connections ended, cut or not.
    ended: BTreeMap<u64, i64>,
    /// When bytes of the server's were forwarded, in Unix milliseconds.
    answered: BTreeMap<u64, BTreeSet<i64>>,
}

impl Wire {
    /// A wire to a server, from a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port could be had.
    pub fn to(server: SocketAddr) -> Result<Wire> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for a wire")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let forwarding = shared.clone();
        let listener = std::thread::spawn(move || forward(&listener, server, &forwarding));
        Ok(Wire { address, shared, listener: Some(listener) })
    }

    /// The address at which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every open connection; returns their number. Later connections are forwarded again.
    pub fn cut(&self) -> usize {
        let mut connections = self.shared.connections();
        let now = now_ms();
        let open = std::mem::take(&mut connections.open);
        connections.silent.iter().for_each(close);
        connections.silent.clear();
        for (number, ends) in &open {
            connections.cut.insert(*number, now);
            connections.ended.insert(*number, now);
            ends.iter().for_each(close);
        }
        open.len()
    }

    /// Cuts every connection and breaks the wire from now on, or (`None`) forwards again.
    pub fn set(&self, broken: Option<Broken>) {
        self.shared.connections().broken = broken;
        self.cut();
    }

    /// When a connection was cut, in Unix milliseconds; `None`: never. The number is the server's own
    /// ([`fakes::Request::connection`]): both count from 1 in the order in which connections were made.
    pub fn cut_at(&self, connection: u64) -> Option<i64> {
        self.shared.connections().cut.get(&connection).copied()
    }

    /// When a connection ended, cut or not, in Unix milliseconds; `None`: it has not.
    pub fn ended_at(&self, connection: u64) -> Option<i64> {
        self.shared.connections().ended.get(&connection).copied()
    }

    /// When the first bytes from the server were forwarded over a connection from a time on, in Unix milliseconds.
    pub fn answered_from(&self, connection: u64, at: i64) -> Option<i64> {
        self.shared.connections().answered.get(&connection)?.range(at..).next().copied()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        // A connection wakes the listener, which then ends.
        let woken = TcpStream::connect(self.address).is_ok();
        self.cut();
        if let Some(listener) = self.listener.take().filter(|_| woken) {
            let _ = listener.join();
        }
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections are made to the server one after another, so that both sides number them alike.
fn forward(listener: &TcpListener, server: SocketAddr, shared: &Arc<Shared>) {
    let mut number = 0;
    for client in listener.incoming() {
        if shared.ends.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        let mut connections = shared.connections();
        match connections.broken {
            Some(Broken::Closed) => close(&client),
            Some(Broken::Silent) => connections.silent.push(client),
            None => {
                drop(connections);
                // If the server is missing, the client's connection ends.
                let Ok(upstream) = TcpStream::connect(server) else { continue };
                number += 1;
                // What fails here is a connection that has ended already: it is dropped, and both ends with it.
                let _ = connect(number, client, upstream, shared);
            }
        }
    }
}

fn connect(number: u64, client: TcpStream, server: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (to_client, to_server) = (client.try_clone()?, server.try_clone()?);
    shared.connections().open.insert(number, [client.try_clone()?, server.try_clone()?]);
    for (from, to, answers) in [(client, to_server, false), (server, to_client, true)] {
        let shared = shared.clone();
        std::thread::spawn(move || {
            // An error ends it, too.
            let _ = copy(&from, &to, || {
                if answers {
                    shared.connections().answered.entry(number).or_default().insert(now_ms());
                }
            });
            let mut connections = shared.connections();
            connections.ended.entry(number).or_insert_with(now_ms);
            if let Some(ends) = connections.open.remove(&number) {
                ends.iter().for_each(close);
            }
        });
    }
    Ok(())
}

/// Forwards until the end, and reports each time that it has.
fn copy(mut from: &TcpStream, mut to: &TcpStream, forwarded: impl Fn()) -> io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    loop {
        match from.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                to.write_all(bytes.get(..read).unwrap_or_default())?;
                forwarded();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn close(end: &TcpStream) {
    // It fails if the other side has closed it before.
    let _ = end.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Connection, Request, wait_until};
    use fakes::testkube::{Fault, Route};
    use fakes::{Database, Server, Span, Testkube};
    use std::time::Duration;

    fn testkube() -> (Arc<Mutex<Testkube>>, Server) {
        let testkube = Arc::new(Mutex::new(Testkube::new(Database::Postgres)));
        let server = Server::start(testkube.clone()).unwrap();
        (testkube, server)
    }

    #[test]
    fn what_is_sent_arrives_and_connections_have_the_servers_numbers() {
        let (testkube, server) = testkube();
        let wire = Wire::to(server.addr()).unwrap();
        for _ in 0..3 {
            assert_eq!(Request::get("/health").send(wire.address()).unwrap().status, 200);
        }
        let testkube = testkube.lock().unwrap();
        let numbers: Vec<u64> = testkube.requests().iter().map(|r| r.request.connection).collect();
        assert_eq!(numbers, [1, 2, 3]);
        // A client may have read an answer just before the wire notes that it has forwarded it.
        let all_are_noted = || (1..=3).all(|number| wire.answered_from(number, 0).is_some());
        wait_until("three answers are noted", Duration::from_secs(10), all_are_noted).unwrap();
        assert!(wire.answered_from(4, 0).is_none());
    }

    #[test]
    fn a_cut_ends_what_is_under_way_and_nothing_after_it() {
        let (testkube, server) = testkube();
        let wire = Wire::to(server.addr()).unwrap();
        testkube.lock().unwrap().fault(Route::All, Span::Next(1), Fault::Slow { millis: 60_000 });
        let mut connection = Connection::open(wire.address()).unwrap();
        connection.send_only(&Request::get("/health")).unwrap();
        let arrived = || testkube.lock().unwrap().requests().len() == 1;
        wait_until("the request", Duration::from_secs(20), arrived).unwrap();
        assert_eq!(wire.cut(), 1);
        let error = format!("{:#}", connection.receive("GET").unwrap_err());
        assert!(error.contains("the connection ended before an answer came"), "{error}");
        assert!(wire.cut_at(1).is_some() && wire.cut_at(2).is_none() && wire.ended_at(1) == wire.cut_at(1));
        assert!(wire.answered_from(1, 0).is_none());
        assert_eq!(Request::get("/health").send(wire.address()).unwrap().status, 200);
    }

    #[test]
    fn a_broken_wire_forwards_nothing_until_it_is_whole_again() {
        let (testkube, server) = testkube();
        let wire = Wire::to(server.addr()).unwrap();
        wire.set(Some(Broken::Closed));
        assert!(Request::get("/health").send(wire.address()).is_err());
        wire.set(Some(Broken::Silent));
        let mut waiting = Connection::open(wire.address()).unwrap();
        waiting.send_only(&Request::get("/health")).unwrap();
        // The kernel takes the connection before the wire does.
        let taken = || wire.shared.connections().silent.len() == 1;
        wait_until("the connection", Duration::from_secs(20), taken).unwrap();
        wire.set(None);
        assert!(waiting.receive("GET").is_err());
        assert_eq!(Request::get("/health").send(wire.address()).unwrap().status, 200);
        assert_eq!(testkube.lock().unwrap().requests().len(), 1);
    }
}
