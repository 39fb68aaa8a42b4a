//! A blocking HTTP/2 client whose bodies come in pieces and can end by trailers, or not at all.
//!
//! It begins without an upgrade ("prior knowledge", RFC 9113 section 3.3), and reads of an answer the status and the body.

use super::{Request, TIMEOUT};
use anyhow::{Context, Result};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A connection with any number of requests under way.
#[derive(Debug)]
pub struct Http2 {
    /// Its own thread reads what comes, whatever this one does.
    runtime: Runtime,
    requests: SendRequest<Bytes>,
    next: u32,
    exchanges: BTreeMap<u32, Exchange>,
}

/// The body that is sent, and the answer that comes.
#[derive(Debug)]
struct Exchange {
    body: SendStream<Bytes>,
    answer: JoinHandle<Http2Answer>,
}

/// An answer that has come to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http2Answer {
    /// The status; `None` where the stream was reset before one.
    pub status: Option<u16>,
    /// The body as text.
    pub text: String,
}

impl Http2 {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn open(address: SocketAddr) -> Result<Http2> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let requests = in_time(&runtime, async {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            let (requests, connection) = h2::client::handshake(socket).await?;
            tokio::spawn(connection);
            anyhow::Ok(requests)
        });
        let requests = requests.with_context(|| format!("connecting to {address}"))?;
        Ok(Http2 { runtime, requests, next: 1, exchanges: BTreeMap::new() })
    }

    /// Begins a request; of `request` the method, the target and the headers go out. Its number.
    ///
    /// # Errors
    /// The connection is broken, or HTTP allows no such request.
    pub fn begin(&mut self, request: &Request, is_whole: bool) -> Result<u32> {
        let target = [b"http://testrelay.example", &request.target[..]].concat();
        let begun = http::Request::builder().method(&request.method[..]).uri(&target[..]);
        let headers = request.headers.iter().map(|(name, value)| (&name[..], &value[..]));
        let begun = headers.fold(begun, |begun, (name, value)| begun.header(name, value)).body(())?;
        let mut requests = in_time(&self.runtime, self.requests.clone().ready())?;
        let (answer, body) = requests.send_request(begun, is_whole)?;
        let number = self.next;
        self.next += 1;
        self.exchanges.insert(number, Exchange { body, answer: self.runtime.spawn(read(answer)) });
        Ok(number)
    }

    /// Sends a piece of a body, waiting for room where there is none. What is answered meanwhile is not sent to its end.
    ///
    /// # Errors
    /// There is no room for long.
    pub fn data(&mut self, number: u32, piece: &[u8], is_last: bool) -> Result<()> {
        let Exchange { body, .. } = self.exchanges.get_mut(&number).context("no such request")?;
        in_time(&self.runtime, async {
            let mut rest = Bytes::copy_from_slice(piece);
            while !rest.is_empty() {
                body.reserve_capacity(rest.len());
                let Some(Ok(room)) = poll_fn(|context| body.poll_capacity(context)).await else {
                    return Ok(());
                };
                let now = rest.split_to(room.min(rest.len()));
                // The answer may have come between the two, and closed the stream.
                if body.send_data(now, is_last && rest.is_empty()).is_err() {
                    return Ok(());
                }
            }
            anyhow::Ok(())
        })
    }

    /// Ends a body with one trailer, if it was not answered meanwhile.
    ///
    /// # Errors
    /// There is no request of this number.
    pub fn trailers(&mut self, number: u32) -> Result<()> {
        let trailer = ("x-trailer".parse()?, "y".parse()?);
        let exchange = self.exchanges.get_mut(&number).context("no such request")?;
        // An answer closes the stream; whatever else is wrong, the answer tells.
        let _ = exchange.body.send_trailers([trailer].into_iter().collect());
        Ok(())
    }

    /// Gives a request up.
    ///
    /// # Errors
    /// There is none of this number.
    pub fn reset(&mut self, number: u32) -> Result<()> {
        self.exchanges.get_mut(&number).context("no such request")?.body.send_reset(Reason::CANCEL);
        Ok(())
    }

    /// The answer, if it has come to its end.
    ///
    /// # Errors
    /// There is no request of this number.
    pub fn answered(&mut self, number: u32) -> Result<Option<Http2Answer>> {
        let is_there = self.exchanges.get(&number).context("no such request")?.answer.is_finished();
        is_there.then(|| self.answer(number)).transpose()
    }

    /// Waits for the answer, which can be had once.
    ///
    /// # Errors
    /// There is no request of this number, or nothing comes.
    pub fn answer(&mut self, number: u32) -> Result<Http2Answer> {
        let mut exchange = self.exchanges.remove(&number).context("no such request")?;
        in_time(&self.runtime, &mut exchange.answer)
    }
}

/// Reads an answer to its end, whichever that is.
async fn read(answer: ResponseFuture) -> Http2Answer {
    let mut read = Http2Answer::default();
    let Ok(answer) = answer.await else { return read };
    read.status = Some(answer.status().as_u16());
    let (mut body, mut bytes) = (answer.into_body(), Vec::new());
    while let Some(Ok(piece)) = body.data().await {
        // A connection that has ended has no more room to give.
        let _ = body.flow_control().release_capacity(piece.len());
        bytes.extend(piece);
    }
    read.text = String::from_utf8_lossy(&bytes).into_owned();
    read
}

/// The outcome of what must not be silent for long.
fn in_time<T, E>(runtime: &Runtime, what: impl Future<Output = Result<T, E>>) -> Result<T>
where
    Result<T, E>: anyhow::Context<T, E>,
{
    runtime.block_on(async { timeout(2 * TIMEOUT, what).await })?.context("HTTP/2")
}
